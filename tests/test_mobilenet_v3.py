import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.models.mobilenet_v3 import (
    LARGE,
    LRASPP,
    SMALL,
    MobileNetV3,
    SqueezeExcitation,
    make_divisible,
)


def count(model):
    return sum(p.numel() for p in model.parameters())


def copy_weights(net, source):
    """Weights in the order of the layers."""
    net.load_state_dict(
        dict(zip(net.state_dict(), source.state_dict().values(), strict=True))
    )


def with_averages(net, x):
    """One pass that sets the averages of BatchNorm, so that eval() does not see those
    from before it.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        net.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


@pytest.mark.parametrize(
    "build, arguments, parameters",
    [
        (MobileNetV3, {}, 5_483_032),
        (MobileNetV3, {"table": SMALL}, 2_542_856),
        (LRASPP, {}, 3_221_538),
    ],
)
def test_parameter_count_on_the_meta_device(build, arguments, parameters):
    with torch.device("meta"):
        assert count(build(**arguments)) == parameters


NAMES = [(SMALL, "mobilenet_v3_small"), (LARGE, "mobilenet_v3_large")]


def pair(table, name, x):
    """Our network and torchvision's with the same weights and averages."""
    from torchvision import models

    net = MobileNetV3(num_classes=7, table=table)
    reference = with_averages(getattr(models, name)(num_classes=7), x)
    copy_weights(net, reference)
    return net, reference


@pytest.mark.parametrize("table, name", NAMES)
@torch.no_grad()
def test_equals_torchvision(table, name):
    x = torch.randn(2, 3, 64, 96)
    net, reference = pair(table, name, x)
    torch.testing.assert_close(net.eval()(x), reference(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("table, name", NAMES)
@torch.no_grad()
def test_equals_torchvision_in_training(table, name):
    x = torch.randn(2, 3, 64, 96)
    for net in (nets := pair(table, name, x)):
        torch.manual_seed(0)  # the dropouts draw the same mask
        net.output = net.train()(2 * x)
    torch.testing.assert_close(nets[0].output, nets[1].output, atol=1e-5, rtol=1e-5)
    averages = zip(*(net.buffers() for net in nets), strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in averages)


@torch.no_grad()
def test_lraspp_equals_torchvision():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large as build

    x, net = torch.randn(2, 3, 64, 96), LRASPP(num_classes=4)
    reference = with_averages(
        build(weights=None, weights_backbone=None, num_classes=4), x
    )
    copy_weights(net, reference)
    torch.testing.assert_close(net.eval()(x), reference(x)["out"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_narrow_widths_equal_torchvision():
    from torchvision import models

    x, net = torch.randn(2, 3, 32, 32), MobileNetV3(table=SMALL, width=0.5)
    reference = with_averages(models.mobilenet_v3_small(width_mult=0.5), x)
    copy_weights(net, reference)
    torch.testing.assert_close(net.eval()(x), reference(x), atol=1e-5, rtol=1e-5)


def test_squeeze_and_excitation_equals_torchvision():
    from torchvision import ops

    ours, x = (
        SqueezeExcitation(16, 8, nn.ReLU, nn.Hardsigmoid),
        torch.randn(2, 16, 5, 7),
    )
    theirs = ops.SqueezeExcitation(16, 8, scale_activation=nn.Hardsigmoid)
    copy_weights(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))


def test_channels_are_multiples_of_8_and_lose_at_most_a_tenth():
    assert [make_divisible(c) for c in (1, 8, 12, 18, 19, 20, 100)] == [
        8,
        8,
        16,
        24,
        24,
        24,
        104,
    ]
    assert all(
        make_divisible(c) % 8 == 0 and make_divisible(c) >= 0.9 * c
        for c in range(1, 500)
    )


def test_activations_are_those_of_the_equations():
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(nn.Hardswish()(x), x * F.relu6(x + 3) / 6)
    torch.testing.assert_close(nn.Hardsigmoid()(x), F.relu6(x + 3) / 6)


def test_ablations_leave_out_what_they_say():
    with torch.device("meta"):
        net = MobileNetV3(table=SMALL, se=False, activation=nn.SiLU)
        full = MobileNetV3(table=SMALL)
    kinds = {type(layer) for layer in net.modules()}
    assert nn.SiLU in kinds and not kinds & {SqueezeExcitation, nn.Hardswish}
    assert sum(isinstance(m, SqueezeExcitation) for m in full.modules()) == 9 and count(
        net
    ) < count(full)


@pytest.mark.parametrize("table", [SMALL, LARGE])
@pytest.mark.parametrize(
    "small, side, final", [(False, 224, 7), (True, 28, 4), (True, 64, 8)]
)
def test_small_images_keep_larger_feature_maps(table, small, side, final):
    with torch.device("meta"):
        net = MobileNetV3(1, 2, table=table, small_images=small)
        assert net.features(torch.empty(1, 1, side, side)).shape[2:] == (final, final)


@pytest.mark.parametrize("table", [SMALL, LARGE])
@pytest.mark.parametrize("batch, height, width", [(1, 28, 28), (2, 33, 47)])
def test_shape(table, batch, height, width):
    net = MobileNetV3(1, 5, table=table, width=0.25, small_images=True).eval()
    assert net(torch.randn(batch, 1, height, width)).shape == (batch, 5)


@pytest.mark.parametrize("table", [SMALL, LARGE])
@pytest.mark.parametrize(
    "small, height, width", [(True, 64, 64), (False, 128, 128), (False, 75, 50)]
)
def test_lraspp_returns_the_size_of_its_input(table, small, height, width):
    net = LRASPP(1, 4, table=table, width=0.25, small_images=small, head=16)
    x = torch.randn(1, 1, height, width)
    assert net(x).shape == net.eval()(x).shape == (1, 4, height, width)


@pytest.mark.parametrize("small, low, high", [(False, 8, 4), (True, 32, 16)])
def test_lraspp_reads_feature_maps_of_an_eighth_and_a_sixteenth(small, low, high):
    with torch.device("meta"):
        net = LRASPP(1, 4, small_images=small)
        early = net.early(torch.empty(1, 1, 64, 64))
    assert early.shape[2:] == (low, low) and net.late(early).shape[2:] == (high, high)


@pytest.mark.parametrize(
    "net, target",
    [
        (
            MobileNetV3(1, 8, table=SMALL, width=0.25, small_images=True),
            torch.arange(8),
        ),
        (
            LRASPP(1, 4, table=SMALL, width=0.25, head=16),
            torch.arange(8 * 32 * 32).view(8, 32, 32) % 4,
        ),
    ],
)
def test_every_parameter_gets_a_finite_gradient(net, target):
    F.cross_entropy(net(torch.randn(8, 1, 32, 32)), target).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.any()
        for p in net.parameters()
    )


@pytest.mark.parametrize("build, shape", [(MobileNetV3, (4,)), (LRASPP, (4, 64, 48))])
def test_a_training_step_on_the_meta_device(build, shape):
    with torch.device("meta"):
        net = build(1, 10)
        loss = F.cross_entropy(
            net(torch.randn(4, 1, 64, 48)), torch.zeros(shape, dtype=torch.long)
        )
    loss.backward()
    assert next(net.parameters()).grad.is_meta


@pytest.mark.parametrize("build", [MobileNetV3, LRASPP])
def test_wrong_images_widths_and_tables_say_what_is_needed(build):
    with pytest.raises(ValueError, match=r"\(3, 32, 32\).*expected \(B, 3, H, W\)"):
        build(3, 2, width=0.25)(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match=r"width -1; expected .* above 0"):
        build(width=-1)
    with pytest.raises(ValueError, match="2 strides of 2; expected 3"):
        LRASPP(table=LARGE[:6])

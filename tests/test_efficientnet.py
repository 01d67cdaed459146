import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.models.efficientnet import B0, SCALING, EfficientNet, MBConv, compound

SMALL = {"width": 0.5, "small_images": True, "stages": B0[:3]}


def count(model):
    return sum(p.numel() for p in model.parameters())


def pair(i, x):
    """Our network B{i} and torchvision's with the same weights and the averages of
    BatchNorm over x.
    """
    from torchvision import models

    width, depth, _, dropout = SCALING[i]
    net = EfficientNet(num_classes=7, width=width, depth=depth, dropout=dropout)
    reference = getattr(models, f"efficientnet_b{i}")(num_classes=7)
    norms = [m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        reference(x)
    for norm in norms:
        norm.momentum = 0.1
    net.load_state_dict(
        dict(zip(net.state_dict(), reference.state_dict().values(), strict=True))
    )
    return net, reference


@pytest.mark.parametrize("i, parameters", [
    (0, 5_288_548), (1, 7_794_184), (2, 9_109_994), (3, 12_233_232),
    (4, 19_341_616), (5, 30_389_784), (6, 43_040_704), (7, 66_347_960),
])  # fmt: skip
def test_parameter_count_on_the_meta_device(i, parameters):
    width, depth, _, dropout = SCALING[i]
    with torch.device("meta"):
        assert (
            count(EfficientNet(width=width, depth=depth, dropout=dropout)) == parameters
        )


@pytest.mark.parametrize("i", range(5))
@torch.no_grad()
def test_equals_torchvision(i):
    x = torch.randn(2, 3, 32, 64)
    net, reference = pair(i, x)
    torch.testing.assert_close(net.eval()(x), reference.eval()(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("i", [0, 1])
@torch.no_grad()
def test_equals_torchvision_in_training(i):
    x = torch.randn(4, 3, 32, 64)
    for net in (nets := pair(i, x)):
        torch.manual_seed(0)  # dropout and stochastic depth draw the same
        net.output = net.train()(2 * x)
    torch.testing.assert_close(nets[0].output, nets[1].output, atol=1e-4, rtol=1e-4)
    averages = zip(*(net.buffers() for net in nets), strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in averages)


def test_stochastic_depth_rises_from_0_towards_the_last_block():
    with torch.device("meta"):
        net = EfficientNet(1, 2)
    shares = [m.skip for m in net.modules() if isinstance(m, MBConv)]
    assert shares == pytest.approx([0.2 * i / 16 for i in range(16)])


def test_a_skipped_image_keeps_only_its_shortcut_and_the_others_make_up_for_it():
    torch.manual_seed(0)
    block, x = MBConv(8, 8, 2, 3, 1, 0.25), torch.randn(400, 8, 5, 5)
    change, branch = block(x) - x, block.layers(x)
    skipped = change.abs().amax((1, 2, 3)) == 0
    assert 70 < skipped.sum() < 130
    torch.testing.assert_close(
        change[~skipped], branch[~skipped] / 0.75, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(block.eval()(x), x + block.layers(x))


@pytest.mark.parametrize(
    "small, side, final", [(False, 224, 7), (True, 28, 4), (True, 64, 8)]
)
def test_small_images_keep_larger_feature_maps(small, side, final):
    with torch.device("meta"):
        net = EfficientNet(1, 2, small_images=small).eval()
        assert net.features(torch.empty(1, 1, side, side)).shape == (
            1,
            1280,
            final,
            final,
        )


def test_compound_scaling_doubles_the_work():
    assert compound(0) == (1, 1, 1) and compound(1) == (1.2, 1.1, 1.15)
    depth, width, resolution = compound(3)
    assert depth * width**2 * resolution**2 == pytest.approx(
        (1.2 * 1.1**2 * 1.15**2) ** 3
    )
    assert [round(f, 2) for f in compound(6)] == [2.99, 1.77, 2.31]


@pytest.mark.parametrize("batch, height, width", [(1, 28, 28), (2, 33, 47)])
def test_shape(batch, height, width):
    net = EfficientNet(1, 5, **SMALL).eval()
    assert net(torch.randn(batch, 1, height, width)).shape == (batch, 5)


def test_every_parameter_gets_a_finite_gradient():
    net = EfficientNet(1, 8, width=0.25, small_images=True)
    F.cross_entropy(net(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.any()
        for p in net.parameters()
    )


def test_a_training_step_on_the_meta_device():
    with torch.device("meta"):
        net = EfficientNet(1, 10)
        loss = F.cross_entropy(
            net(torch.randn(4, 1, 64, 48)), torch.zeros(4, dtype=torch.long)
        )
    loss.backward()
    assert net.features[0][0].weight.grad.is_meta


def test_a_small_network_overfits_one_batch():
    torch.manual_seed(0)
    net, x, y = (
        EfficientNet(1, 2, **SMALL),
        torch.randn(8, 1, 28, 28),
        torch.arange(8) % 2,
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        losses.append(F.cross_entropy(net(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert count(net) < 100_000 and losses[-1] < 0.1 * losses[0]


def test_wrong_images_and_factors_say_what_is_needed():
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\).*expected \(B, 1, H, W\)"):
        EfficientNet(1, 2, **SMALL)(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"depth 0; expected .* above 0"):
        EfficientNet(depth=0)

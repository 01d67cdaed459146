import pytest
import torch
from torch.nn import functional as F

from medlib.cost import parameters_and_macs as count
from medlib.models.alexnet import LAYERS_2014, AlexNet, LocalResponseNorm, small_alexnet
from medlib.pretrained import copy_weights


@pytest.mark.parametrize(
    "options, parameters",
    [
        ({}, 60_965_224),
        ({"layers": LAYERS_2014}, 61_100_840),
        ({"lrn": False, "overlap": False}, 60_965_224),
    ],
)
def test_parameter_count(options, parameters):
    assert count(lambda: AlexNet(**options), (3, 227, 227))[0] == parameters


def test_small_counterpart():
    assert count(small_alexnet, (1, 28, 28))[0] == 144_642
    assert small_alexnet(3, 5)(torch.zeros(2, 3, 28, 28)).shape == (2, 5)
    assert small_alexnet(overlap=False)(torch.zeros(1, 1, 31, 40)).shape == (1, 2)


def test_feature_maps_of_2012_have_the_sides_of_the_paper():
    with torch.device("meta"):
        net, x, sides = AlexNet(), torch.empty(1, 3, 227, 227), []
        for layer in net.features:
            x = layer(x)
            sides.append((type(layer).__name__, x.shape[1], x.shape[2]))
    assert (
        sides[0] == ("Conv2d", 96, 55)
        and sides[4] == ("Conv2d", 256, 27)
        and sides[-1][1:] == (256, 6)
    )


def test_equals_torchvision():
    from torchvision.models import alexnet

    theirs, ours = (
        alexnet(num_classes=3).eval(),
        AlexNet(3, 3, layers=LAYERS_2014).eval(),
    )
    copy_weights(ours, theirs.state_dict())
    x = torch.randn(1, 3, 70, 90)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_response_norm_is_that_of_the_paper():
    x = torch.randn(2, 7, 3, 4)
    # PyTorch divides alpha by n, the paper does not.
    torch.testing.assert_close(
        LocalResponseNorm()(x), F.local_response_norm(x, 5, 5e-4, 0.75, 2.0)
    )


def test_response_norm_keeps_the_type():
    x = torch.randn(2, 7, 3, 4)
    low = LocalResponseNorm()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), LocalResponseNorm()(x), rtol=0.02, atol=0)


def test_a_group_sees_half_of_the_channels():
    net = small_alexnet()
    layer = net.features[4]
    assert layer.groups == 2 and layer.weight.shape[1] * 2 == layer.in_channels


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_parameter_gets_a_finite_gradient(device):
    with torch.device(device):
        net = small_alexnet(dropout=0.0)
        F.cross_entropy(
            net(torch.randn(16, 1, 28, 28)), torch.zeros(16, dtype=torch.long)
        ).backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    assert device == "meta" or all(g.isfinite().all() and g.any() for g in grads)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("build", [
    small_alexnet, lambda **options: AlexNet(1, 2, head=(1, 4), **options),
])  # fmt: skip
def test_the_smallest_side_is_that_which_leaves_a_pixel(build, overlap):
    with torch.device("meta"):
        net = build(overlap=overlap).eval()
        side = net.smallest
        assert net.features(torch.empty(1, 1, side, side)).shape[2:] == (1, 1)
        with pytest.raises(RuntimeError):
            net.features(torch.empty(1, 1, side - 1, side))


def test_a_small_image_says_what_is_needed():
    with pytest.raises(ValueError, match=r"20, 20.*expected.*67"):
        AlexNet(1, 2)(torch.zeros(1, 1, 20, 20))

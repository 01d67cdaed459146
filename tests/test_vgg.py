import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.cost import parameters_and_macs as count
from medlib.models.vgg import VGG, A, B, D, E, small_vgg
from medlib.pretrained import copy_weights


@pytest.mark.parametrize(
    "convs, count_",
    [(A, 132_863_336), (B, 133_047_848), (D, 138_357_544), (E, 143_667_240)],
)
def test_parameter_count(convs, count_):
    assert count(lambda: VGG(convs=convs), (3, 224, 224))[0] == count_


def test_nine_tenths_of_vgg16_are_dense():
    with torch.device("meta"):
        net = VGG()
    assert (
        parameters(net.features) == 14_714_688
        and parameters(net.classifier) == 123_642_856
    )
    assert parameters(VGG(3, 1000, head=None, width=8).classifier) == 64 * 1000 + 1000


@pytest.mark.parametrize("batch_norm, name", [(False, "vgg11"), (True, "vgg11_bn")])
def test_equals_torchvision(batch_norm, name):
    from torchvision import models

    theirs = getattr(models, name)(num_classes=3).eval()
    ours = VGG(3, 3, convs=A, batch_norm=batch_norm).eval()
    copy_weights(ours, theirs.state_dict())
    x = torch.randn(1, 3, 33, 47)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"head": None}, {"kernel": 5}, {"convs": (2, 2, 3), "batch_norm": True}],
)
@pytest.mark.parametrize("side", [(28, 28), (31, 45)])
def test_shape_of_the_small_counterpart(options, side):
    assert small_vgg(1, 3, **options).eval()(torch.randn(1, 1, *side)).shape == (1, 3)


def test_two_small_kernels_cost_less_than_a_large_one():
    # 18 C² + 2C against 25 C² + C for a stack of C maps (the paper's section 2.3)
    c = 16
    stack = nn.Sequential(nn.Conv2d(c, c, 3), nn.Conv2d(c, c, 3))
    assert (
        parameters(stack) == 18 * c**2 + 2 * c
        and parameters(nn.Conv2d(c, c, 5)) == 25 * c**2 + c
    )


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_parameter_gets_a_finite_gradient(device):
    with torch.device(device):
        net = small_vgg(batch_norm=True, dropout=0.0)
        F.cross_entropy(
            net(torch.randn(16, 1, 28, 28)), torch.zeros(16, dtype=torch.long)
        ).backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    assert device == "meta" or all(g.isfinite().all() for g in grads)


def test_an_image_that_would_vanish():
    with pytest.raises(ValueError, match=r"28, 28.*expected.*32 × 32"):
        VGG(1, 2, width=4, head=None)(torch.zeros(1, 1, 28, 28))

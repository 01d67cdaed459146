"""What the networks share: the list of them, and the blocks of several papers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib import models
from medlib.models import _blocks
from medlib.models._blocks import Conv, check_images, check_stacks

close = torch.testing.assert_close


@pytest.mark.parametrize("name", models.__all__)
def test_every_name_is_where_the_list_says(name):
    module = f"medlib.models.{models._HOME[name]}"
    assert getattr(models, name).__module__ == module
    assert name in dir(models)


def test_the_list_can_be_read_without_running_it():
    tree = ast.parse(Path(models.__file__).read_text("utf-8"))
    (home,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_HOME"
    )
    assert ast.literal_eval(home) == models._HOME


def test_one_network_does_not_load_the_others():
    code = (
        "import sys; from medlib.models import LeNet;"
        "print(*(m for m in sys.modules if m.startswith('medlib.models.')))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert set(loaded.split()) == {"medlib.models._blocks", "medlib.models.lenet"}


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="LeNet6"):
        getattr(models, "LeNet6")  # noqa: B009
    with pytest.raises(ImportError, match="LeNet6"):
        from medlib.models import LeNet6  # noqa: F401


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 3)])
@torch.no_grad()
def test_a_convolution_by_hand(stride, dilation):
    x = torch.randn(2, 3, 9, 8)
    block = Conv(3, 4, stride=stride, dilation=dilation)
    y = F.conv2d(x, block[0].weight, None, stride, dilation, dilation)
    y = (y - y.mean((0, 2, 3), keepdim=True)) / (
        y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    close(block(x), y.clamp(min=0), rtol=1e-4, atol=1e-5)
    block = Conv(3, 4, norm=False, padded=False, activation=None)
    close(block(x), F.conv2d(x, block[0].weight, block[0].bias))


@pytest.mark.parametrize("mode, fan", [("fan_in", 9 * 64), ("fan_out", 9 * 128)])
def test_he_initialisation_has_variance_2_over_fan_and_no_bias(mode, fan):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Linear(5, 5))
    other = net[1].weight.clone()
    _blocks.he_initialise(net, mode=mode)
    assert net[0].weight.var().item() == pytest.approx(2 / fan, rel=0.03)
    assert not net[0].bias.any() and torch.equal(net[1].weight, other)


def test_he_initialisation_keeps_the_size_of_a_signal_behind_relus():
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(512, 512) for _ in range(10)))
    _blocks.he_initialise(net, (nn.Linear,))
    x = torch.randn(256, 512)
    for layer in net:
        x = layer(x.relu() if layer is not net[0] else x)
    # The first layer sees no ReLU, and doubles the variance.
    assert x.var().item() == pytest.approx(2, rel=0.3)


def test_each_slice_goes_through_on_its_own():
    net, x = nn.Conv2d(2, 3, 3, stride=2), torch.randn(2, 2, 4, 7, 9)
    y = _blocks.each(net, x)
    assert y.shape == (2, 3, 4, 3, 4)
    for d in range(4):
        close(y[:, :, d], net(x[:, :, d]))


def test_patches_and_back():
    x = torch.arange(2.0 * 3 * 4 * 6).view(1, 2, 3, 4, 6)
    y = _blocks.patches_to_channels(x, 2)
    assert y.shape == (1, 8, 3, 2, 3)
    assert torch.equal(y[:, 5], x[:, 1, :, ::2, 1::2])  # channel 1, row 0, column 1
    assert torch.equal(_blocks.channels_to_patches(y, 2), x)
    assert _blocks.patches_to_channels(x, 1) is x


class Net(nn.Module):
    in_channels = 3


@pytest.mark.parametrize(
    "shape, options, words",
    [
        ((3, 8, 8), {}, r"Net got images \(3, 8, 8\); expected \(B, 3, H, W\)$"),
        ((1, 1, 8, 8), {}, r"\(1, 1, 8, 8\).*\(B, 3, H, W\)"),
        ((1, 3, 7, 9), {"smallest": 8}, "expected.*of 8 × 8 pixels or more"),
        ((1, 3, 9, 8), {"multiple": 2}, "multiples of 2"),
        ((1, 3, 9, 8), {"size": (8, 8)}, r"expected \(B, 3, 8, 8\)$"),
        ((1, 3, 9, 8), {"size": (8, 8), "advice": "!"}, r"\(B, 3, 8, 8\)!$"),
    ],
)
def test_images_that_do_not_fit(shape, options, words):
    with pytest.raises(ValueError, match=words):
        check_images(Net(), torch.zeros(shape), **options)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 8), (1, 1, 4, 8, 8)])
def test_stacks_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"Net got stacks.*expected \(B, 3, D, H, W"):
        check_stacks(Net(), torch.zeros(shape))


def test_what_fits_passes():
    check_images(Net(), torch.zeros(0, 3, 8, 9), smallest=8)
    check_images(Net(), torch.zeros(1, 3, 8, 8), size=(8, 8), multiple=4)
    check_stacks(Net(), torch.zeros(1, 3, 5, 8, 4), (1, 4, 4))
    with pytest.raises(ValueError, match=r"multiples of \(1, 4, 4\)"):
        check_stacks(Net(), torch.zeros(1, 3, 5, 6, 4), (1, 4, 4))

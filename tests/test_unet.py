"""U-Net against its paper's figures."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.cost import parameters_and_macs as count
from medlib.models import SmallUNet, UNet
from medlib.models.unet import crop


@pytest.mark.parametrize(
    ("ends", "parameters"),
    [
        ((1, 2), 31_030_658),
        ((1, 1), 31_030_593),
        ((1, 4), 31_030_788),
        ((3, 1), 31_031_745),
    ],
)
@pytest.mark.parametrize("resize", [False, True])
def test_parameters(ends, parameters, resize):
    assert (
        count(lambda: UNet(*ends, resize=resize), (ends[0], 572, 572))[0] == parameters
    )


@pytest.mark.parametrize(
    ("width", "parameters"), [(32, 7_759_554), (16, 1_940_834), (8, 485_682)]
)
def test_parameters_by_width(width, parameters):
    assert count(lambda: UNet(1, 2, width=width), (1, 572, 572))[0] == parameters


def test_parameters_with_batch_norm():
    assert (
        count(lambda: UNet(1, 2, padded=True, norm=True), (1, 64, 64))[0] == 31_036_546
    )


def test_23_convolutions_and_the_papers_crops():
    with torch.device("meta"):
        net, seen = UNet(), []
        for up in net.up:
            up.register_forward_pre_hook(
                lambda m, inputs: seen.append(
                    (inputs[1].shape[2], 2 * inputs[0].shape[2])
                )
            )
        assert net(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert (
        sum(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in net.modules()) == 23
    )
    assert seen == [(64, 56), (136, 104), (280, 200), (568, 392)]
    assert net.output_size(572) == 388 and net.output_size(570) is None


def test_multiply_adds():
    assert count(UNet, (1, 572, 572))[1] == pytest.approx(150.43e9, rel=0.001)


def randomise(net):
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    return net.double().eval()


def by_hand(net, x, skip, resize):
    """A U-Net of depth 1, in plain convolutions; the skip loses 4 pixels a side."""
    w = net.state_dict()

    def twice(x, name):
        for i in (0, 2):
            x = F.conv2d(x, w[f"{name}.{i}.weight"], w[f"{name}.{i}.bias"])
            x = x.clamp(min=0)
        return x

    aside = twice(x, "down.0")
    x = twice(F.max_pool2d(aside, 2), "bottleneck")
    if resize:
        x = F.pad(x.repeat_interleave(2, 2).repeat_interleave(2, 3), (0, 1, 0, 1))
        x = F.conv2d(x, w["up.0.up.2.weight"], w["up.0.up.2.bias"])
    else:
        x = F.conv_transpose2d(x, w["up.0.up.weight"], w["up.0.up.bias"], stride=2)
    aside = aside[..., 4:-4, 4:-4]
    if skip == "concatenate":
        x = torch.cat((aside, x), 1)
    elif skip == "add":
        x = aside + x
    x = twice(x, "up.0.convolutions")
    return F.conv2d(x, w["head.weight"], w["head.bias"])


@pytest.mark.parametrize("skip", ["concatenate", "add", "none"])
@pytest.mark.parametrize("resize", [False, True])
@torch.no_grad()
def test_a_unet_of_one_level_by_hand(skip, resize):
    net = randomise(UNet(1, 3, width=2, depth=1, skip=skip, resize=resize))
    x = torch.randn(2, 1, 24, 20, dtype=torch.double)
    assert net(x).shape == (2, 3, 8, 4)
    torch.testing.assert_close(net(x), by_hand(net, x, skip, resize))


@torch.no_grad()
def test_deeper_it_is_made_of_monais_blocks():
    """Three levels, with a block of MONAI's in the place of each of ours."""
    from monai.networks.nets.basic_unet import TwoConv, UpCat

    def block(a, b):
        return TwoConv(2, a, b, act="relu", norm=None, bias=True)

    def up(a):
        return UpCat(2, a, a // 2, a // 2, "relu", norm=None, bias=True)

    net = randomise(UNet(1, 3, width=2, depth=2, padded=True))
    blocks = nn.ModuleList([block(1, 2), block(2, 4), block(4, 8), up(8), up(4)])
    weights = list(net.state_dict().values())[:-2]  # without the head's
    names = blocks.state_dict().keys()
    blocks.load_state_dict(dict(zip(names, weights, strict=True)))
    blocks.double()
    x = torch.randn(2, 1, 12, 8, dtype=torch.double)
    first = blocks[0](x)
    second = blocks[1](F.max_pool2d(first, 2))
    y = blocks[3](blocks[2](F.max_pool2d(second, 2)), second)
    torch.testing.assert_close(net(x), net.head(blocks[4](y, first)))


@torch.no_grad()
def test_padding_and_norm_by_hand():
    """One padded level with batch norm, in training; an odd side grows by zeros."""
    net = randomise(UNet(1, 2, width=2, depth=1, padded=True, norm=True)).train()
    w = net.state_dict()

    def twice(x, name):
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv2d(x, w[f"{name}.{conv}.weight"], padding=1)
            scale, shift = w[f"{name}.{norm}.weight"], w[f"{name}.{norm}.bias"]
            x = F.batch_norm(x, None, None, scale, shift, training=True).clamp(min=0)
        return x

    x = torch.randn(2, 1, 7, 6, dtype=torch.double)
    aside = twice(F.pad(x, (0, 0, 0, 1)), "down.0")
    y = twice(F.max_pool2d(aside, 2), "bottleneck")
    y = F.conv_transpose2d(y, w["up.0.up.weight"], w["up.0.up.bias"], stride=2)
    y = twice(torch.cat((aside, y), 1), "up.0.convolutions")
    y = F.conv2d(y, w["head.weight"], w["head.bias"])
    torch.testing.assert_close(net(x), y[:, :, :7])


@pytest.mark.parametrize("patch", [2, 3])
@torch.no_grad()
def test_the_small_unet_sees_patches_as_channels(patch):
    net = SmallUNet(1, 2, width=2, depth=1, patch=patch).eval()
    x = torch.randn(2, 1, 6, 12)
    places = [(i, j) for i in range(patch) for j in range(patch)]
    patches = torch.cat([x[:, :, i::patch, j::patch] for i, j in places], 1)
    logits, y = net.unet(patches), net(x)
    for k, (i, j) in enumerate(places):
        torch.testing.assert_close(
            y[:, :, i::patch, j::patch], logits[:, k :: patch**2]
        )


@pytest.mark.parametrize("options", [{}, {"skip": "add", "resize": True}])
def test_the_small_unet_is_a_padded_one_with_norm(options):
    small = SmallUNet(2, 3, width=4, depth=2, **options)
    whole = UNet(8, 12, width=4, depth=2, padded=True, norm=True, **options)
    small.unet.load_state_dict(whole.state_dict())
    x = torch.randn(2, 8, 10, 6)
    torch.testing.assert_close(small.unet(x), whole(x))


def test_crop_takes_the_centre():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert crop(x, (2, 4))[0, 0].tolist() == [[13, 14, 15, 16], [19, 20, 21, 22]]


@pytest.mark.parametrize(
    ("depth", "shape", "nearest"),
    [(4, (570, 570), 572), (4, (572, 575), 572), (1, (2, 9), 18), (1, (32, 51), 32)],
)
def test_a_size_that_does_not_fit_says_what_would(depth, shape, nearest):
    with pytest.raises(ValueError, match=f"as {nearest} × {nearest}, or padded=True"):
        UNet(width=1, depth=depth)(torch.zeros(1, 1, *shape))


def test_sizes_without_padding():
    """Of depth 1, by hand: 18 → 14 → 7 → 3 → 6 → 2."""
    net = UNet(width=1, depth=1)
    assert [net.output_size(n) for n in range(15, 23)] == [
        *(None, None, None, 2, None, 4, None, 6)
    ]
    assert net.output_size(4) is None and net.output_size(16) is None


@pytest.mark.parametrize("net", [UNet(3, 2, width=1), SmallUNet(3, 2, width=1)])
def test_images_of_other_channels_are_refused(net):
    name = type(net).__name__
    with pytest.raises(ValueError, match=rf"{name} got images.*expected \(B, 3, H, W"):
        net(torch.zeros(1, 1, 572, 572))


def test_without_a_word_it_is_the_papers_network():
    net, small = UNet(), SmallUNet()
    assert (net.in_channels, net.head.out_channels) == (1, 2)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert (small.in_channels, small.unet.head.out_channels) == (1, 4 * 2**2)
    assert parameters(small) == parameters(SmallUNet(1, 4, width=16, depth=3, patch=2))


def test_convolutions_begin_with_variance_2_over_their_inputs():
    weights = UNet(width=64, depth=1).down[0][2].weight
    assert weights.var().item() == pytest.approx(2 / (9 * 64), rel=0.05)


@torch.no_grad()
def test_padded_is_framed_by_zeros_at_the_end():
    net = UNet(1, 2, width=2, depth=3, padded=True, norm=True).eval()
    x = torch.randn(1, 1, 13, 19)
    y = net(F.pad(x, (0, 5, 0, 3)))
    assert y.shape == (1, 2, 16, 24)
    torch.testing.assert_close(net(x), y[:, :, :13, :19])


@pytest.mark.parametrize("skip", ["concatenate", "add", "none"])
@pytest.mark.parametrize("resize", [False, True])
def test_padded_keeps_odd_sizes_and_every_parameter_learns(skip, resize):
    net = UNet(1, 3, width=2, depth=2, padded=True, norm=True, skip=skip, resize=resize)
    y = net(torch.randn(2, 1, 13, 18))
    assert y.shape == (2, 3, 13, 18)
    (y**2).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_unknown_skip():
    with pytest.raises(ValueError, match="concatenate"):
        UNet(skip="sum")


def test_small_counterpart():
    net = SmallUNet(1, 4)
    assert parameters(net) == 483_136
    assert net(torch.randn(1, 1, 32, 48)).shape == (1, 4, 32, 48)
    with pytest.raises(ValueError, match="multiples of 2"):
        net(torch.randn(1, 1, 33, 48))

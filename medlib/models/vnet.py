"""V-Net: a volumetric network of residual stages, trained on overlap itself.

Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric
Medical Image Segmentation", 3DV 2016. Convolutions of 5 × 5 × 5; each stage adds its
input to what its convolutions make of it; strided convolutions go down and up where
others pool; PReLU throughout. 65,175,314 parameters from one channel to two classes.
The loss is `medlib.losses.vnet_dice`. MONAI's V-Net differs: batch norm, dropout and
ELU, of which the paper has none.

Not in the paper, for small processors and stacks of few slices: `width`, `strides`
(slices, rows, columns), `kernel`, `norm`, and `patch`, which makes patches in the plane
into channels first. Chapter 17.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from medlib.models._blocks import (
    Size,
    channels_to_patches,
    check_stacks,
    patches_to_channels,
)

# Convolutions per stage on the way down; on the way up as many, without the last.
STAGES = (1, 2, 3, 3, 3)


def layer(
    convolution: nn.Conv3d | nn.ConvTranspose3d, norm: bool, prelu: bool = True
) -> nn.Sequential:
    channels = convolution.out_channels
    parts = nn.Sequential(convolution)
    if norm:
        parts.append(nn.BatchNorm3d(channels))
    if prelu:
        parts.append(nn.PReLU(channels))
    return parts


class Residual(nn.Module):
    """`convolutions` convolutions, the input added before the last PReLU: repeated,
    where it has fewer channels. (B, in_channels, D, H, W) → (B, channels, D, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convolutions: int,
        kernel: Size,
        norm: bool,
    ):
        super().__init__()
        padding = kernel[0] // 2, kernel[1] // 2, kernel[2] // 2
        self.convolutions = nn.Sequential()
        for i in range(convolutions):
            ins = channels if i else in_channels
            convolution = nn.Conv3d(ins, channels, kernel, padding=padding)
            # The last PReLU comes behind the sum.
            last = i + 1 == convolutions
            self.convolutions.append(layer(convolution, norm, prelu=not last))
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolutions(x)
        return self.prelu(y + x.repeat(1, y.shape[1] // x.shape[1], 1, 1, 1))


class VNet(nn.Module):
    """(B, in_channels, D, H, W) → logits (B, num_classes, D, H, W); sizes are multiples
    of the strides' product.

    strides   one size per step down, of at most four
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        width: int = 16,
        strides: tuple[Size, ...] = ((2, 2, 2),) * 4,
        kernel: Size = (5, 5, 5),
        norm: bool = False,
        patch: int = 1,
    ):
        super().__init__()
        self.in_channels, self.patch = in_channels, patch
        depth, height, length = map(math.prod, zip(*strides, strict=True))
        self.multiples = depth, patch * height, patch * length
        ins = in_channels * patch**2
        if width % ins:
            raise ValueError(
                f"{ins} channels in, width={width}; expected a width that is a "
                f"multiple of {ins}, as the first sum repeats them"
            )
        widths = [width * 2**i for i in range(len(strides) + 1)]
        self.first = Residual(ins, width, STAGES[0], kernel, norm)
        self.down, self.left, self.up, self.right = (nn.ModuleList() for _ in range(4))
        stages = STAGES[: len(widths)]
        for (a, b), n, s in zip(pairwise(widths), stages[1:], strides, strict=True):
            self.down.append(layer(nn.Conv3d(a, b, s, stride=s), norm))
            self.left.append(Residual(b, b, n, kernel, norm))
        below = widths[-1]
        for a, n, s in zip(widths[-2::-1], stages[-2::-1], strides[::-1], strict=True):
            self.up.append(layer(nn.ConvTranspose3d(below, a, s, stride=s), norm))
            self.right.append(Residual(2 * a, 2 * a, n, kernel, norm))
            below = 2 * a
        self.head = nn.Conv3d(below, num_classes * patch**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_stacks(self, x, self.multiples)
        x = patches_to_channels(x, self.patch)
        asides = [self.first(x)]
        for down, stage in zip(self.down, self.left, strict=True):
            asides.append(stage(down(asides[-1])))
        x = asides.pop()
        for up, stage in zip(self.up, self.right, strict=True):
            x = stage(torch.cat((asides.pop(), up(x)), 1))
        return channels_to_patches(self.head(x), self.patch)

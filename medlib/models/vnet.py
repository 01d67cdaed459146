"""V-Net: a volumetric network of residual stages, trained on overlap itself.

Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric
Medical Image Segmentation", 3DV
2016. Convolutions of 5 × 5 × 5; each stage adds its input to what its convolutions make
      of it; strided convolutions
go down and up where others pool; PReLU throughout. 65,175,314 parameters from one
channel to two classes. The loss is `medlib.losses.vnet_dice`. MONAI's V-Net differs:
batch norm, dropout and ELU, of which the paper has none.

Not in the paper, for small processors and stacks of few slices: `width`, `strides`
(slices, rows, columns), `kernel`, `norm`, and `patch`, which makes patches in the plane
into channels first. Chapter 17.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlib.models.unet3d import Size

STAGES = (
    1,
    2,
    3,
    3,
    3,
)  # convolutions a stage, on the way down; on the way up as many, without the last


def layer(convolution: nn.Module, norm: bool, prelu: bool = True) -> nn.Sequential:
    channels = convolution.out_channels
    parts = (
        [convolution] + [nn.BatchNorm3d(channels)] * norm + [nn.PReLU(channels)] * prelu
    )
    return nn.Sequential(*parts)


class Residual(nn.Module):
    """`convolutions` convolutions, the input added before the last PReLU: repeated,
    where it has fewer channels.
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
        ins, padding = (
            [in_channels] + [channels] * (convolutions - 1),
            tuple(k // 2 for k in kernel),
        )
        self.convolutions = nn.Sequential(
            *(
                layer(
                    nn.Conv3d(c, channels, kernel, padding=padding),
                    norm,
                    prelu=i + 1 < convolutions,
                )
                for i, c in enumerate(ins)
            )
        )
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolutions(x)
        return self.prelu(y + x.repeat(1, y.shape[1] // x.shape[1], 1, 1, 1))


class VNet(nn.Module):
    """(B, in_channels, D, H, W) → logits (B, num_classes, D, H, W); sizes are multiples
    of the strides' product.

    strides   one size a way down, of at most four
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
        self.patch, area = patch, patch**2
        depth, height, length = map(math.prod, zip(*strides, strict=True))
        self.whole = depth, patch * height, patch * length
        ins = in_channels * area
        if width % ins:
            raise ValueError(
                f"{ins} channels in, width={width}; the rule: the first sum repeats "
                "them, so width is a multiple"
            )
        widths = [width * 2**i for i in range(len(strides) + 1)]
        self.first = Residual(ins, width, STAGES[0], kernel, norm)
        self.down, self.left, self.up, self.right = (nn.ModuleList() for _ in range(4))
        for a, b, n, s in zip(widths, widths[1:], STAGES[1:], strides, strict=False):
            self.down.append(layer(nn.Conv3d(a, b, s, stride=s), norm))
            self.left.append(Residual(b, b, n, kernel, norm))
        below = widths[-1]
        for a, n, s in zip(
            widths[-2::-1], STAGES[len(strides) - 1 :: -1], strides[::-1], strict=True
        ):
            self.up.append(layer(nn.ConvTranspose3d(below, a, s, stride=s), norm))
            self.right.append(Residual(2 * a, 2 * a, n, kernel, norm))
            below = 2 * a
        self.head = nn.Conv3d(below, num_classes * area, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 5 or any(
            n % m for n, m in zip(x.shape[2:], self.whole, strict=True)
        ):
            raise ValueError(
                f"a stack of shape {tuple(x.shape)}; the rule: (B, C, D, H, W), sizes "
                f"multiples of {self.whole}"
            )
        if self.patch > 1:
            x = F.pixel_unshuffle(x.transpose(1, 2), self.patch).transpose(1, 2)
        asides = [self.first(x)]
        for down, stage in zip(self.down, self.left, strict=True):
            asides.append(stage(down(asides[-1])))
        x = asides.pop()
        for up, stage in zip(self.up, self.right, strict=True):
            x = stage(torch.cat((asides.pop(), up(x)), 1))
        x = self.head(x)
        return (
            F.pixel_shuffle(x.transpose(1, 2), self.patch).transpose(1, 2)
            if self.patch > 1
            else x
        )

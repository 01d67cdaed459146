"""3D U-Net: the U-Net with convolutions that reach into the slices above and below.

Çiçek, Abdulkadir, Lienkamp, Brox, Ronneberger, "3D U-Net: Learning Dense Volumetric
Segmentation from Sparse Annotation", MICCAI 2016. By default the paper's channels: each
level doubles them before it pools, the up-convolutions keep them, and every convolution
is followed by batch norm and ReLU. 19,072,291 parameters from three channels to three
classes; the paper's 19,069,955 come out where batch norm learns no scale and shift and
the convolutions keep their biases. We pad, so that the masks are as large as the
images; the paper does not, and weights its loss so that unlabelled voxels do not count.

Not in the paper, for stacks of few and thick slices: `pool` says by how much each level
shrinks (slices, rows, columns), `kernel` how far a convolution reaches in each
direction, `patch` makes patches of pixels in the plane into channels first, as
`SmallUNet` does. With kernels of (1, 3, 3) it sees every slice for itself: a 2D U-Net.
Chapter 17.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import (
    Size,
    channels_to_patches,
    check_stacks,
    patches_to_channels,
)


def double(
    in_channels: int, middle: int, out_channels: int, kernel: Size
) -> nn.Sequential:
    """Twice: convolution, batch norm, ReLU."""
    layers: list[nn.Module] = []
    padding = kernel[0] // 2, kernel[1] // 2, kernel[2] // 2
    for a, b in ((in_channels, middle), (middle, out_channels)):
        convolution = nn.Conv3d(a, b, kernel, padding=padding, bias=False)
        layers += [convolution, nn.BatchNorm3d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet3D(nn.Module):
    """(B, in_channels, D, H, W) → logits (B, num_classes, D, H, W).

    width    channels of the first convolution; twice as many leave the first level
    pool     one size per level on the way down
    patch    pixels of a patch in the plane that become channels; H and W are multiples
             of it
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        width: int = 32,
        pool: tuple[Size, ...] = ((2, 2, 2),) * 3,
        kernel: Size = (3, 3, 3),
        patch: int = 1,
    ):
        super().__init__()
        self.in_channels, self.pool, self.patch = in_channels, pool, patch
        widths = [2 * width * 2**level for level in range(len(pool) + 1)]
        ins = [in_channels * patch**2, *widths]
        levels = [
            double(a, b // 2, b, kernel) for a, b in zip(ins[:-1], widths, strict=True)
        ]
        self.down, self.bottleneck = nn.ModuleList(levels[:-1]), levels[-1]
        self.raise_ = nn.ModuleList(
            nn.ConvTranspose3d(w, w, p, stride=p, bias=False)
            for w, p in zip(widths[:0:-1], pool[::-1], strict=True)
        )
        self.up = nn.ModuleList(
            double(a + b, a, a, kernel)
            for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv3d(widths[0], num_classes * patch**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_stacks(self, x, (1, self.patch, self.patch))
        x = patches_to_channels(x, self.patch)
        d, h, w = x.shape[2:]
        x, asides = self._frame(x), []
        for level, pool in zip(self.down, self.pool, strict=True):
            asides.append(level(x))
            x = F.max_pool3d(asides[-1], pool)
        x = self.bottleneck(x)
        for raise_, level in zip(self.raise_, self.up, strict=True):
            x = level(torch.cat((asides.pop(), raise_(x)), 1))
        x = self.head(x)[:, :, :d, :h, :w]
        return channels_to_patches(x, self.patch)

    def _frame(self, x: Tensor) -> Tensor:
        """x grown at the end of each axis to a size that all the pools divide."""
        whole = map(math.prod, zip(*self.pool, strict=True))
        d, h, w = (-n % m for n, m in zip(x.shape[2:], whole, strict=True))
        return F.pad(x, (0, w, 0, h, 0, d))

"""U-Net: a contracting path sees context, an expanding path restores positions, and
skips join them.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015. By default the paper's network, 31,030,658 parameters from
one channel to two classes: unpadded convolutions, so 572 × 572 pixels in give 388 × 388
out, and the skips are cropped at the centre. Left out: dropout at the end of the
contracting path. Not in the paper, for experiments: `padded`, `norm`, sums or nothing
for the skips, resizing for the up-convolution. Chapter 11.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import Conv, check_images, he_initialise

SKIPS = ("concatenate", "add", "none")


def double(
    in_channels: int, out_channels: int, padded: bool, norm: bool
) -> nn.Sequential:
    """Twice: 3 × 3 convolution, (batch norm,) ReLU. Unpadded, each takes a frame of one
    pixel away.
    """
    return nn.Sequential(
        *Conv(in_channels, out_channels, padded=padded, norm=norm),
        *Conv(out_channels, out_channels, padded=padded, norm=norm),
    )


def crop(x: Tensor, size: torch.Size) -> Tensor:
    """The centre of x, as large as `size` (H, W)."""
    top, left = ((a - b) // 2 for a, b in zip(x.shape[2:], size, strict=True))
    return x[:, :, top : top + size[0], left : left + size[1]]


class Up(nn.Module):
    """Twice the size and half the channels (the paper's up-convolution), then the skip,
    then two convolutions.
    """

    def __init__(
        self, channels: int, padded: bool, norm: bool, skip: str, resize: bool
    ):
        super().__init__()
        half = channels // 2
        self.skip = skip
        self.up: nn.Module = nn.ConvTranspose2d(channels, half, 2, stride=2)
        if resize:
            # As many parameters as the transposed convolution: 2 × 2 weights, and a
            # row and a column of padding to keep the size.
            self.up = nn.Sequential(
                nn.Upsample(scale_factor=2),
                nn.ZeroPad2d((0, 1, 0, 1)),
                nn.Conv2d(channels, half, 2),
            )
        joined = channels if skip == "concatenate" else half
        self.convolutions = double(joined, half, padded, norm)

    def forward(self, x: Tensor, aside: Tensor) -> Tensor:
        x = self.up(x)
        aside = crop(aside, x.shape[2:])
        if self.skip == "concatenate":
            x = torch.cat((aside, x), 1)
        elif self.skip == "add":
            x = x + aside
        return self.convolutions(x)


class UNet(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes, H', W'): smaller by 184 pixels
    at depth 4, or, with `padded`, of the same size.

    width    channels of the first level; each level down has twice as many
    depth    how often the path goes down
    skip     "concatenate" (the paper), "add" (as the FCN does) or "none"
    resize   upsampling and a 2 × 2 convolution in place of the transposed convolution
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        width: int = 64,
        depth: int = 4,
        padded: bool = False,
        norm: bool = False,
        skip: str = "concatenate",
        resize: bool = False,
    ):
        super().__init__()
        if skip not in SKIPS:
            raise ValueError(f"skip={skip!r}; expected one of {', '.join(SKIPS)}")
        self.in_channels, self.depth, self.padded = in_channels, depth, padded
        widths = [width * 2**level for level in range(depth + 1)]
        ins = [in_channels, *widths]
        self.down = nn.ModuleList(
            double(ins[k], widths[k], padded, norm) for k in range(depth)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = double(widths[-2], widths[-1], padded, norm)
        self.up = nn.ModuleList(
            Up(w, padded, norm, skip, resize) for w in widths[:0:-1]
        )
        self.head = nn.Conv2d(width, num_classes, 1)
        he_initialise(self)  # section 3 of the paper

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        height, width = x.shape[2:]
        x = self.decode(*self.encode(x))
        return x[:, :, :height, :width] if self.padded else x

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The feature maps that go across, and those at the bottom."""
        x, asides = self._frame(x), []
        for level in self.down:
            asides.append(level(x))
            x = self.pool(asides[-1])
        return asides, self.bottleneck(x)

    def decode(self, asides: list[Tensor], x: Tensor) -> Tensor:
        """Logits from what `encode` gives."""
        for level, aside in zip(self.up, asides[::-1], strict=True):
            x = level(x, aside)
        return self.head(x)

    def _frame(self, x: Tensor) -> Tensor:
        """With `padded`, x grown at the bottom and right to a size that can be halved
        `depth` times.
        """
        height, width = x.shape[2:]
        if self.padded:
            whole = 2**self.depth
            return F.pad(x, (0, -width % whole, 0, -height % whole))
        if self.output_size(height) is None or self.output_size(width) is None:
            sides = range(2**self.depth, 2 * max(height, width) + 1024)
            fits = [n for n in sides if self.output_size(n)]
            nearest = min(fits, key=lambda n: abs(n - height))
            raise ValueError(
                f"an image of {height} × {width} pixels; expected a size that is even "
                f"before each pooling, such as {nearest} × {nearest}, or padded=True"
            )
        return x

    def output_size(self, side: int) -> int | None:
        """Pixels out for `side` pixels in, without padding; None where a size on the
        way is odd or too small.
        """
        for _ in range(self.depth):
            side -= 4
            if side <= 0 or side % 2:
                return None
            side //= 2
        side -= 4
        for _ in range(self.depth):
            side = 2 * side - 4
        return side if side > 0 else None


class SmallUNet(nn.Module):
    """The book's counterpart for small processors: a padded U-Net with batch norm that
    works on patches of `patch` × `patch` pixels as channels (space-to-depth), and gives
    as many pixels back at the end.

    (B, in_channels, H, W) → (B, num_classes, H, W); H and W are multiples of `patch`.
    Full resolution is where a U-Net spends its time, so the first level at half of it
    costs a fifth. 480,000 parameters by default.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 4,
        *,
        width: int = 16,
        depth: int = 3,
        patch: int = 2,
        skip: str = "concatenate",
        resize: bool = False,
    ):
        super().__init__()
        self.in_channels, self.patch = in_channels, patch
        self.unet = UNet(
            in_channels * patch**2,
            num_classes * patch**2,
            width=width,
            depth=depth,
            padded=True,
            norm=True,
            skip=skip,
            resize=resize,
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, multiple=self.patch)
        x = F.pixel_unshuffle(x, self.patch)  # → (B, patch² · C, H / patch, W / patch)
        return F.pixel_shuffle(self.unet(x), self.patch)

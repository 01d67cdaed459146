"""Autoencoders: through a narrow place and back.

Papers: Baldi & Hornik, "Neural networks and principal component analysis: learning from
examples without local minima", Neural Networks 2 (1989), for the linear one; Vincent,
Larochelle, Bengio & Manzagol, "Extracting and composing robust features with denoising
autoencoders", ICML 2008, for the training on noisy images. Read with chapter 10.

The shape does not know its task. The target decides: the image itself (copy), the clean
image behind a noisy one (denoise) or a mask (segment, with one output channel a class).

Differs from the papers: their layers are dense; `Autoencoder` is convolutional and has,
on purpose, no skips. `LinearAutoencoder` for 1 × 28 × 28 images and 16 numbers has
25,888 parameters; `Autoencoder` for 1 channel, with width 16 and depth 3, has 120,257.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models.mobilenet import check_images


class LinearAutoencoder(nn.Module):
    """(B, in_channels, H, W) → (B, num_classes, H, W) through `code` numbers, without a
    nonlinearity.

    With the image as target and squared error, its best weights span the same subspace
    as the first `code` principal components, and every other stationary point is a
    saddle (Baldi & Hornik 1989).

    num_classes  channels of the output: in_channels to give the image back
    size         (H, W) of the images; dense layers fix it
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        *,
        size: tuple[int, int] = (28, 28),
        code: int = 16,
    ):
        super().__init__()
        self.shape, self.out_channels = (in_channels, *size), num_classes
        pixels = size[0] * size[1]
        self.encoder = nn.Linear(in_channels * pixels, code)
        self.decoder = nn.Linear(code, num_classes * pixels)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"images {tuple(x.shape)}; this network needs (B, "
                f"{', '.join(map(str, self.shape))}): dense layers "
                "fix the size"
            )
        y = self.decoder(
            self.encoder(x.flatten(1))
        )  # → (B, code) → (B, num_classes · H · W)
        return y.unflatten(1, (self.out_channels, *self.shape[1:]))


def layer(in_channels: int, channels: int, norm: bool) -> nn.Sequential:
    """3 × 3 convolution, BatchNorm where asked for, ReLU."""
    normalise = [nn.BatchNorm2d(channels)] if norm else []
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=not norm),
        *normalise,
        nn.ReLU(inplace=True),
    )


class Autoencoder(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes, H, W), any H and W of 2 ** depth
    pixels or more.

    Down: `depth` times a convolution and a 2 × 2 max-pooling; the maps double from
    `width` on. Then `bottleneck`, a convolution to `code` maps: all that the decoder
    will know. Up: enlarge twofold, convolve, `depth` times.

    num_classes  channels of the output: in_channels to copy or denoise, the number of
                 classes to segment
    code         maps of the bottleneck; by default as many as the encoder ends with, 2
                 ** (depth − 1) · width
    norm         BatchNorm after each convolution but the last
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 1, *, width: int = 16, depth: int = 3,
                 code: int | None = None, norm: bool = False):  # fmt: skip
        super().__init__()
        if depth < 1:
            raise ValueError(
                f"depth {depth}; an autoencoder needs 1 or more levels, to have a "
                "narrow place"
            )
        maps = [width * 2**level for level in range(depth)]
        code = code or maps[-1]
        self.in_channels, self.smallest = in_channels, 2**depth
        self.encoder = nn.ModuleList(
            layer(a, b, norm) for a, b in pairwise([in_channels, *maps])
        )
        self.bottleneck = layer(maps[-1], code, norm)
        self.decoder = nn.ModuleList(
            layer(a, b, norm) for a, b in pairwise([code, *maps[::-1]])
        )
        self.head = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "Autoencoder")
        if min(x.shape[-2:]) < self.smallest:
            raise ValueError(
                f"images {tuple(x.shape[-2:])}; this autoencoder halves them until "
                "nothing is left: it needs "
                f"{self.smallest} × {self.smallest} or more, or a smaller depth"
            )
        sizes = []  # the decoder is told how large the maps were, nothing else
        for down in self.encoder:
            sizes.append(x.shape[-2:])
            x = F.max_pool2d(down(x), 2)
        x = self.bottleneck(x)  # → (B, code, H / 2 ** depth, W / 2 ** depth)
        for up, size in zip(self.decoder, reversed(sizes), strict=True):
            x = up(F.interpolate(x, size, mode="nearest"))
        return self.head(x)

"""Autoencoders: through a bottleneck and back.

Papers: Baldi & Hornik, "Neural networks and principal component analysis: learning from
examples without local minima", Neural Networks 2 (1989), for the linear one; Vincent,
Larochelle, Bengio & Manzagol, "Extracting and composing robust features with denoising
autoencoders", ICML 2008, for the training on noisy images. Read with chapter 10.

The architecture does not know its task. The target decides: the image itself (copy),
the clean image behind a noisy one (denoise) or a mask (segment, with one output channel
per class).

Differs from the papers: their layers are dense; `Autoencoder` is convolutional and has,
on purpose, no skips. `LinearAutoencoder` for 1 × 28 × 28 images and 16 numbers has
25,888 parameters; `Autoencoder` for 1 channel, with width 16 and depth 3, has 120,257.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import Conv, check_images


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
        self.in_channels, self.num_classes, self.size = in_channels, num_classes, size
        pixels = size[0] * size[1]
        self.encoder = nn.Linear(in_channels * pixels, code)
        self.decoder = nn.Linear(code, num_classes * pixels)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, size=self.size, advice=": dense layers fix the size")
        code = self.encoder(x.flatten(1))  # → (B, code)
        y = self.decoder(code)  # → (B, num_classes · H · W)
        return y.unflatten(1, (self.num_classes, *self.size))


class Autoencoder(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes, H, W), any H and W of 2 ** depth
    pixels or more.

    Down: `depth` times a convolution and a 2 × 2 max-pooling; the channels double from
    `width` on. Then `bottleneck`, a convolution to `code` channels: all that the
    decoder will know. Up: enlarge twofold, convolve, `depth` times.

    num_classes  channels of the output: in_channels to copy or denoise, the number of
                 classes to segment
    code         channels of the bottleneck; by default as many as the encoder ends
                 with, 2 ** (depth − 1) · width
    norm         BatchNorm after each convolution but the last
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        *,
        width: int = 16,
        depth: int = 3,
        code: int | None = None,
        norm: bool = False,
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(
                f"depth {depth}; expected 1 or more levels, to have a bottleneck"
            )
        widths = [width * 2**level for level in range(depth)]
        code = code or widths[-1]
        self.in_channels, self.smallest = in_channels, 2**depth
        self.encoder = nn.ModuleList(
            Conv(a, b, norm=norm) for a, b in pairwise([in_channels, *widths])
        )
        self.bottleneck = Conv(widths[-1], code, norm=norm)
        self.decoder = nn.ModuleList(
            Conv(a, b, norm=norm) for a, b in pairwise([code, *widths[::-1]])
        )
        self.head = nn.Conv2d(width, num_classes, 1)
        for layer in self.modules():
            # The head is followed by no ReLU and keeps PyTorch's initialisation.
            if isinstance(layer, nn.Conv2d) and layer is not self.head:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        advice = ", or a smaller depth"
        check_images(self, x, smallest=self.smallest, advice=advice)
        sizes = []  # all that the decoder is told about the feature maps on the way
        for down in self.encoder:
            sizes.append(x.shape[-2:])
            x = F.max_pool2d(down(x), 2)
        x = self.bottleneck(x)  # → (B, code, H / 2 ** depth, W / 2 ** depth)
        for up, size in zip(self.decoder, reversed(sizes), strict=True):
            x = up(F.interpolate(x, size, mode="nearest"))
        return self.head(x)

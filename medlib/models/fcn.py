"""FCN: a classifier whose dense layers are convolutions gives a map of answers; skips
make the map finer.

Paper: Long, Shelhamer & Darrell, "Fully convolutional networks for semantic
segmentation", CVPR 2015, arXiv:1411.4038. Read with chapter 10.

On VGG-16 with 3 channels and 21 classes, FCN-32s, 16s and 8s (skips 0, 1, 2) have
136,152,917; 134,815,994 and 134,489,759 parameters, all upsampling kernels learned and
full (a kernel for each pair of classes). Without the kernels: 134,346,581; 134,357,354;
134,362,751.

Differs from the paper. It pads the image by 100 pixels, so that the 7 × 7 convolution
fits on small ones, and crops the map; here the edge of the image is repeated on the
right and below up to a multiple of the coarsest stride, and that convolution keeps the
size of its map. The paper's last kernel stays bilinear; here all are learned. It starts
from ImageNet weights and adds the skips to trained networks, one after the other; here
all are trained at once.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import check_images
from medlib.models.vgg import VGG, A, D


def convolutionise(classifier: VGG) -> nn.Sequential:
    """The same network, sharing its weights, with each dense layer as a convolution.

    (B, C, H, W) → (B, num_classes, h, w): 1 × 1 where H × W is the size that the
    classifier was made for, else the answers at every position, a pooling's worth of
    pixels apart. Answers on a larger image equal those on its cut-outs where no
    convolution pads; where one does, a cut-out sees zeros instead of its surroundings.
    """
    head = list(classifier.classifier.children())
    if not head:
        raise ValueError(
            "a classifier with one dense layer on the mean of each channel; expected "
            "a dense head"
        )
    convs = [m for m in classifier.features if isinstance(m, nn.Conv2d)]
    channels, side = convs[-1].out_channels, classifier.side
    layers = [*classifier.features]
    for layer in head:
        if isinstance(layer, nn.Linear):
            units = layer.out_features
            kernel = layer.weight.detach().view(units, channels, side, side)
            conv = nn.Conv2d(channels, units, side, device=kernel.device)
            conv.weight, conv.bias = nn.Parameter(kernel), layer.bias
            layers.append(conv)
            channels, side = units, 1
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def bilinear(factor: int) -> Tensor:
    """The kernel (2 · factor, 2 · factor) with which a transposed convolution
    interpolates bilinearly.
    """
    away = (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    return torch.outer(1 - away, 1 - away)


class Upsample(nn.Module):
    """(B, C, H, W) → (B, C, factor · H, factor · W): a transposed convolution,
    initialised as bilinear interpolation.
    """

    def __init__(self, channels: int, factor: int):
        super().__init__()
        if factor % 2:
            raise ValueError(
                f"factor {factor}; expected an even one, for a kernel of 2 · factor "
                "to stay centred"
            )
        self.factor = factor
        self.weight = nn.Parameter(
            torch.eye(channels)[:, :, None, None] * bilinear(factor)
        )

    def forward(self, x: Tensor) -> Tensor:
        # The edge is repeated, as F.interpolate does; a bare transposed convolution
        # fades to 0 there.
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(
            x, self.weight, stride=self.factor, padding=self.factor + self.factor // 2
        )


class FCN(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes, H, W), any H and W. By default
    FCN-8s on VGG-16.

    skips  how many finer feature maps are scored and added: 0, 1, 2, … With five
           stages FCN-32s, 16s, 8s
    convs, width, head, batch_norm, dropout  the VGG's own
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 21,
        *,
        skips: int = 2,
        convs: Sequence[int] = D,
        width: int = 64,
        head: tuple[int, int] = (7, 4096),
        batch_norm: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        if not 0 <= skips < len(convs) or head[0] % 2 == 0:
            raise ValueError(
                f"skips {skips}, head {head}, {len(convs)} stages; expected 0 to "
                f"{len(convs) - 1} skips, and a kernel of odd side in the head, to "
                "keep the size of the feature map"
            )
        vgg = VGG(
            in_channels,
            num_classes,
            convs=convs,
            width=width,
            head=head,
            batch_norm=batch_norm,
            dropout=dropout,
        )
        layers = convolutionise(vgg)
        pools = [i for i, m in enumerate(layers) if isinstance(m, nn.MaxPool2d)]
        cuts = [0, *(i + 1 for i in pools)]
        self.in_channels, self.stride = in_channels, 2 ** len(convs)
        self.stages = nn.ModuleList(layers[a:b] for a, b in pairwise(cuts))
        self.head = layers[cuts[-1] :]
        for layer in self.head:  # the dense layers' kernels keep the size too
            if isinstance(layer, nn.Conv2d):
                layer.padding = (layer.kernel_size[0] // 2,) * 2
        widths = [width * min(2**stage, 8) for stage in range(len(convs))]
        self.scores = nn.ModuleList(
            nn.Conv2d(w, num_classes, 1) for w in widths[::-1][1 : 1 + skips]
        )
        for p in self.scores.parameters():
            nn.init.zeros_(p)  # a new skip changes nothing at first (section 4.2)
        factors = [2] * skips + [2 ** (len(convs) - skips)]
        self.upsample = nn.ModuleList(
            Upsample(num_classes, factor) for factor in factors
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % self.stride, 0, -h % self.stride), mode="replicate")
        pools = []
        for stage in self.stages:
            x = stage(x)
            pools.append(x)
        y = self.head(x)  # → (B, num_classes, H / 32, W / 32)
        for upsample, score, pool in zip(
            self.upsample, self.scores, pools[-2::-1], strict=False
        ):
            y = upsample(y) + score(pool)  # → H / 16, then H / 8
        return self.upsample[-1](y)[..., :h, :w]


def small_fcn(
    in_channels: int = 1, num_classes: int = 4, *, skips: int = 2, width: int = 16
) -> FCN:
    """Configuration A without its last stage, for images of 64 to 128 pixels: strides
    16, 8, 4 for 0, 1, 2 skips.
    """
    return FCN(
        in_channels,
        num_classes,
        skips=skips,
        convs=A[:4],
        width=width,
        head=(3, 8 * width),
        batch_norm=True,
        dropout=0.0,
    )

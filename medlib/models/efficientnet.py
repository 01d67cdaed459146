"""EfficientNet: one small network from a search, made larger in depth, width and image
size together.

Paper: Tan & Le, "EfficientNet: rethinking model scaling for convolutional neural
networks", ICML 2019, arXiv:1905.11946. Stochastic depth is Huang, Sun, Liu, Sedra &
Weinberger, "Deep networks with stochastic depth", ECCV 2016, arXiv:1603.09382. Read
with chapter 07.

The rule (Eq. 3): depth α^φ, width β^φ, image size γ^φ with α·β²·γ² ≈ 2, so that one
more φ doubles the work. The released B1 to B7 follow it only roughly; their numbers are
in SCALING.

Equal to torchvision's B0 to B4 on the same weights. Differs from the paper, as they do,
in BatchNorm: PyTorch's momentum .1, for the paper's .01 (.99 in its convention) needs
thousands of steps, and eps 1e-5. torchvision's B5 to B7 have .01 and .001.

Parameters with 3 channels and 1000 classes, B0 to B7: 5,288,548; 7,794,184; 9,109,994;
12,233,232; 19,341,616; 30,389,784; 43,040,704; 66,347,960.
"""

import math

from torch import Tensor, nn

from medlib.models._blocks import (
    Conv,
    check_images,
    mobile_initialise,
    small_image_strides,
)
from medlib.models.mobilenet_v3 import (
    InvertedResidual,
    SqueezeExcitation,
    make_divisible,
)

# Table 1, stages 2 to 8 (MBConv): expansion, kernel, channels, layers, stride of the
# first layer.
B0 = (
    (1, 3, 16, 1, 1),  # (B, 32, 112, 112) → (B, 16, 112, 112)
    (6, 3, 24, 2, 2),  # → (B, 24, 56, 56)
    (6, 5, 40, 2, 2),  # → (B, 40, 28, 28)
    (6, 3, 80, 3, 2),  # → (B, 80, 14, 14)
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),  # → (B, 192, 7, 7)
    (6, 3, 320, 1, 1),
)

# The released networks, B0 to B7 (authors' code): width, depth, resolution, dropout.
SCALING = (
    (1.0, 1.0, 224, 0.2),
    (1.0, 1.1, 240, 0.2),
    (1.1, 1.2, 260, 0.3),
    (1.2, 1.4, 300, 0.3),
    (1.4, 1.8, 380, 0.4),
    (1.6, 2.2, 456, 0.4),
    (1.8, 2.6, 528, 0.5),
    (2.0, 3.1, 600, 0.5),
)


def compound(
    phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> tuple[float, float, float]:
    """The factors on depth, width and resolution for the compound coefficient φ (Eq.
    3).
    """
    return alpha**phi, beta**phi, gamma**phi


class MBConv(InvertedResidual):
    """MobileNetV3's block with swish throughout; in training, a skipped image keeps
    only its shortcut.

    The squeeze is to a quarter of the block's input channels, not of its hidden
    channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        kernel_size: int,
        stride: int,
        skip: float,
    ):
        hidden = make_divisible(in_channels * expansion)
        se = SqueezeExcitation(hidden, max(1, in_channels // 4), nn.SiLU, nn.Sigmoid)
        super().__init__(
            in_channels, hidden, out_channels, kernel_size, stride, nn.SiLU, se
        )
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.shortcut and self.skip):
            return super().forward(x)
        keep = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.skip)
        return (self.layers(x) * keep.div_(1 - self.skip)).add_(x)


class EfficientNet(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes).

    B3, for example, is: width, depth, _, dropout = SCALING[3]. small_images, for images
    of 28 to 64 pixels, sets the first two strides of 2 to 1. skip is the share of
    images that skip the last block in training, falling to 0 at the first: the paper's
    survival probability of .8 is 1 - skip.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float = 0.2,
        skip: float = 0.2,
        small_images: bool = False,
        stages: tuple[tuple[int, ...], ...] = B0,
    ):
        super().__init__()
        if width <= 0 or depth <= 0:
            raise ValueError(
                f"width {width}, depth {depth}; expected both above 0, B0 has 1 and 1"
            )
        self.in_channels = in_channels
        strides = [2, *(stage[4] for stage in stages)]
        strides = small_image_strides(strides) if small_images else strides
        repeats = [math.ceil(depth * stage[3]) for stage in stages]
        channels = make_divisible(32 * width)
        layers: list[nn.Module] = [
            Conv(in_channels, channels, stride=strides[0], activation=nn.SiLU)
        ]
        for i, (expansion, kernel_size, out, *_) in enumerate(stages):
            out = make_divisible(out * width)
            for j in range(repeats[i]):
                stride = 1 if j else strides[i + 1]
                share = skip * (len(layers) - 1) / sum(repeats)
                layers.append(
                    MBConv(channels, out, expansion, kernel_size, stride, share)
                )
                channels = out
        self.features = nn.Sequential(
            *layers, Conv(channels, 4 * channels, 1, activation=nn.SiLU)
        )
        last = nn.Linear(4 * channels, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), last)
        mobile_initialise(self)
        # The last layer as in the authors' code, and in torchvision.
        bound = num_classes**-0.5
        nn.init.uniform_(last.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        # → (B, 1280 · width, H / 32, W / 32), with small_images H / 8, W / 8
        x = self.features(x)
        return self.classifier(x.mean((2, 3)))

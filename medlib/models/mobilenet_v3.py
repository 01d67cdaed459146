"""MobileNetV3: widen, filter each channel alone, weigh the channels, narrow; layers
chosen by a search.

Paper: Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le & Adam,
"Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244. The weighing of channels is
Hu, Shen & Sun, "Squeeze-and-excitation networks", CVPR 2018, arXiv:1709.01507. Read
with chapter 06.

h-swish(x) = x · ReLU6(x + 3) / 6 stands in for swish(x) = x · sigmoid(x): two clamps,
no exponential (section 5.2). The hard sigmoid of the squeeze-and-excitation is ReLU6(x
+ 3) / 6.

Equal to torchvision's networks on the same weights. Differs from the paper, as they do:
Table 2 ticks SE for the last 1 × 1 convolution of SMALL, which has none here; the
attention of LRASPP pools the whole map, where the paper has 49 × 49 with a stride for
Cityscapes; the last block of LRASPP keeps all its channels.

5,483,032 parameters for LARGE and 2,542,856 for SMALL (3 channels, 1000 classes);
3,221,538 for LRASPP on LARGE (21 classes). LARGE has more parameters than MobileNetV1,
and less than half of its multiply-adds.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import (
    Conv,
    check_images,
    mobile_initialise,
    small_image_strides,
)

# Tables 1 and 2: kernel, exp size, #out, SE, NL, s; a line for each size of the feature
# map. The rows are inverted residuals, except the last: a 1 × 1 convolution to "exp
# size" and, behind the pool, a linear layer to "#out".
RE, HS = "ReLU", "h-swish"
LARGE = (
    (3, 16, 16, False, RE, 1),  # (B, 16, 112, 112)
    (3, 64, 24, False, RE, 2), (3, 72, 24, False, RE, 1),  # → (B, 24, 56, 56)
    # → (B, 40, 28, 28)
    (5, 72, 40, True, RE, 2), (5, 120, 40, True, RE, 1), (5, 120, 40, True, RE, 1),
    # → (B, 80, 14, 14)
    (3, 240, 80, False, HS, 2), (3, 200, 80, False, HS, 1), (3, 184, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1), (3, 480, 112, True, HS, 1), (3, 672, 112, True, HS, 1),
    # → (B, 160, 7, 7)
    (5, 672, 160, True, HS, 2), (5, 960, 160, True, HS, 1), (5, 960, 160, True, HS, 1),
    (1, 960, 1280, False, HS, 1),
)  # fmt: skip
SMALL = (
    (3, 16, 16, True, RE, 2),  # (B, 16, 112, 112) → (B, 16, 56, 56)
    (3, 72, 24, False, RE, 2), (3, 88, 24, False, RE, 1),  # → (B, 24, 28, 28)
    # → (B, 40, 14, 14)
    (5, 96, 40, True, HS, 2), (5, 240, 40, True, HS, 1), (5, 240, 40, True, HS, 1),
    (5, 120, 48, True, HS, 1), (5, 144, 48, True, HS, 1),
    # → (B, 96, 7, 7)
    (5, 288, 96, True, HS, 2), (5, 576, 96, True, HS, 1), (5, 576, 96, True, HS, 1),
    (1, 576, 1024, False, HS, 1),
)  # fmt: skip


def make_divisible(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and never more than 10 % below (the
    authors' code).
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class SqueezeExcitation(nn.Sequential):
    """One number per channel (squeeze) → a small network → one weight in [0, 1] per
    channel (excite). (B, C, H, W) → (B, C, H, W).
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: type[nn.Module],
        gate: type[nn.Module],
    ):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),  # (B, C, H, W) → (B, C, 1, 1)
            nn.Conv2d(channels, squeezed, 1),
            activation(),
            nn.Conv2d(squeezed, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x


class InvertedResidual(nn.Module):
    """1 × 1 to hidden channels, depthwise, squeeze-and-excitation, 1 × 1 back without
    activation (Fig. 4).

    "Inverted": the shortcut joins the narrow ends. It is there where input and output
    have the same shape.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        activation: type[nn.Module],
        se: SqueezeExcitation | None,
    ):
        super().__init__()
        self.shortcut = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential()
        if hidden != in_channels:
            self.layers.append(Conv(in_channels, hidden, 1, activation=activation))
        self.layers.append(
            Conv(
                hidden,
                hidden,
                kernel_size,
                stride=stride,
                groups=hidden,
                activation=activation,
            )
        )
        if se:
            self.layers.append(se)
        self.layers.append(Conv(hidden, out_channels, 1, activation=None))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return y.add_(x) if self.shortcut else y


class MobileNetV3(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes).

    small_images, for images of 28 to 64 pixels, sets the first two strides of 2 to 1.
    se=False leaves out the squeeze-and-excitations; activation stands where the table
    says h-swish. BatchNorm has torchvision's eps and momentum, the paper's decay of .99
    (6.1): a run of some hundred steps needs momentum=0.1, or eval() still uses the
    averages from before the training.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        table: tuple[tuple, ...] = LARGE,
        width: float = 1.0,
        small_images: bool = False,
        se: bool = True,
        activation: type[nn.Module] = nn.Hardswish,
        momentum: float = 0.01,
    ):
        super().__init__()
        if width <= 0:
            raise ValueError(
                f"width {width}; expected one above 0, the paper's are .35 to 1.25"
            )
        self.in_channels = in_channels
        strides = [2, *(row[5] for row in table[:-1])]
        strides = small_image_strides(strides) if small_images else strides
        channels = make_divisible(16 * width)
        layers: list[nn.Module] = [
            Conv(in_channels, channels, stride=strides[0], activation=activation)
        ]
        for row, stride in zip(table[:-1], strides[1:], strict=True):
            kernel_size, hidden, out, has_se, nonlinearity, _ = row
            hidden, out = make_divisible(hidden * width), make_divisible(out * width)
            block_se = None
            if se and has_se:
                block_se = SqueezeExcitation(
                    hidden, make_divisible(hidden // 4), nn.ReLU, nn.Hardsigmoid
                )
            act = activation if nonlinearity == HS else nn.ReLU
            layers.append(
                InvertedResidual(
                    channels, hidden, out, kernel_size, stride, act, block_se
                )
            )
            channels = out
        last, hidden = (make_divisible(size * width) for size in table[-1][1:3])
        self.features = nn.Sequential(
            *layers, Conv(channels, last, 1, activation=activation)
        )
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden),
            activation(),
            nn.Dropout(0.2),
            nn.Linear(hidden, num_classes),
        )
        mobile_initialise(self)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps, layer.momentum = 0.001, momentum

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        # → (B, 960 · width, H / 32, W / 32), with small_images H / 8, W / 8
        x = self.features(x)
        return self.classifier(x.mean((2, 3)))


class LRASPP(nn.Module):
    """Segmentation (section 6.4): (B, in_channels, H, W) → logits (B, num_classes, H,
    W).

    The last stride of 2 becomes a dilation of 2, so that the deep feature map has
    H / 16. It says what is there; the feature map of H / 8 says where.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 21,
        *,
        table: tuple[tuple, ...] = LARGE,
        width: float = 1.0,
        small_images: bool = False,
        head: int = 128,
        momentum: float = 0.01,
    ):
        super().__init__()
        strided = [i for i, row in enumerate(table, start=1) if row[5] == 2]
        if len(strided) < 3:
            raise ValueError(
                f"a table with {len(strided)} strides of 2; expected 3 or more, to "
                "find H / 8"
            )
        self.in_channels = in_channels
        features = MobileNetV3(
            in_channels,
            1,
            table=table,
            width=width,
            small_images=small_images,
            momentum=momentum,
        ).features
        for layer in features[strided[-1] :].modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                layer.stride, layer.dilation = (1, 1), (2, 2)
                layer.padding = (layer.kernel_size[0] - 1,) * 2
        cut = strided[-3] + 1
        self.early, self.late = features[:cut], features[cut:]
        low = make_divisible(table[cut - 2][2] * width)
        high = make_divisible(table[-1][1] * width)
        self.project = Conv(high, head, 1)
        self.attend = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high, head, 1, bias=False), nn.Sigmoid()
        )
        self.low_logits = nn.Conv2d(low, num_classes, 1)
        self.high_logits = nn.Conv2d(head, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        low = self.early(x)  # → (B, 40 · width, H / 8, W / 8)
        high = self.late(low)  # → (B, 960 · width, H / 16, W / 16)
        high = self.project(high) * self.attend(high)
        high = F.interpolate(high, low.shape[-2:], mode="bilinear")
        logits = self.low_logits(low) + self.high_logits(high)
        return F.interpolate(logits, x.shape[-2:], mode="bilinear")

"""MobileNetV1: filter each channel alone, then mix the channels with 1 × 1; about 8
times less work.

Paper: Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto & Adam, "MobileNets:
efficient convolutional neural networks for mobile vision applications",
arXiv:1704.04861 (2017). Read with chapter 06.

A dense D × D convolution from M to N channels costs D²·M·N multiply-adds a pixel, a
separable one D²·M + M·N: the ratio is 1/N + 1/D² (section 3.1).

Differs from the paper in two points. The last stride 2 of its Table 1 keeps a feature
map of 7 × 7, so it is a stride of 1 here. A layer keeps at least 8 channels at any
width.

4,231,976 parameters for 3 channels, 1000 classes and width 1; 2,585,560, 1,331,592 and
470,072 for widths .75, .5 and .25.
"""

from itertools import pairwise

from torch import Tensor, nn

from medlib.models._blocks import (
    Conv,
    check_images,
    mobile_initialise,
    small_image_strides,
)

# Table 1: filters, stride. The first row is a dense convolution, the others are
# separable.
LAYERS = (
    (32, 2),  # (B, 3, 224, 224) → (B, 32, 112, 112)
    (64, 1),
    (128, 2),  # → (B, 128, 56, 56)
    (128, 1),
    (256, 2),  # → (B, 256, 28, 28)
    (256, 1),
    (512, 2),  # → (B, 512, 14, 14)
    *((512, 1),) * 5,
    (1024, 2),  # → (B, 1024, 7, 7)
    (1024, 1),
)


class DepthwiseSeparable(nn.Sequential):
    """One 3 × 3 filter for each channel, then a 1 × 1 convolution over the channels
    (Fig. 3, right): (B, in_channels, H, W) → (B, out_channels, H / stride, W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ):
        super().__init__(
            Conv(
                in_channels,
                in_channels,
                stride=stride,
                dilation=dilation,
                groups=in_channels,
            ),
            Conv(in_channels, out_channels, 1),
        )


class MobileNetV1(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes).

    width is the paper's α, a factor on the channels of every layer. small_images, for
    images of 28 to 64 pixels, sets the first two strides of 2 to 1. separable=False is
    the paper's comparison, "Conv MobileNet" (Table 4): every separable block becomes
    one dense 3 × 3 convolution.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        width: float = 1.0,
        small_images: bool = False,
        separable: bool = True,
    ):
        super().__init__()
        if width <= 0:
            raise ValueError(
                f"width {width}; expected one above 0, the paper's are .25 to 1"
            )
        self.in_channels = in_channels
        channels = [max(8, int(width * filters)) for filters, _ in LAYERS]
        strides = [stride for _, stride in LAYERS]
        strides = small_image_strides(strides) if small_images else strides
        block = DepthwiseSeparable if separable else Conv
        layers: list[nn.Module] = [Conv(in_channels, channels[0], stride=strides[0])]
        for (a, b), stride in zip(pairwise(channels), strides[1:], strict=True):
            layers.append(block(a, b, stride=stride))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels[-1], num_classes)
        mobile_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        # → (B, 1024 · width, H / 32, W / 32), with small_images H / 8, W / 8
        x = self.features(x)
        return self.classifier(x.mean((2, 3)))

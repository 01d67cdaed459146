"""DeepLabV3+: dilated convolutions see far without shrinking the feature map; a small
decoder sharpens the edges.

Paper: Chen, Zhu, Papandreou, Schroff & Adam, "Encoder-decoder with atrous separable
convolution for semantic image segmentation", ECCV 2018, arXiv:1802.02611, Figs. 2 and
3. Read with chapter 12.

Atrous (dilated) convolution: set a stride of 2 to 1 and let everything behind it look
at every second position. The feature map has four times as many positions, and those
that the strided network would have kept hold the same values.

Differs from the paper: the backbone is our ResNet (ResNet-50; the paper also reports
ResNet-101, and its best results with a modified Xception), so the depthwise separable
convolutions are in ASPP and decoder alone. 26,696,133 parameters for 3 channels and 21
classes, at either output stride.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import Conv, check_images
from medlib.models.mobilenet import DepthwiseSeparable
from medlib.models.resnet import BasicBlock, Bottleneck, ResidualBlock, ResNet


def dilate(layers: nn.Module) -> None:
    """In place: each stride of 2 becomes 1, and every convolution behind it gets twice
    the dilation.
    """
    rate = 1
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            layer.stride, layer.dilation = (1, 1), (rate, rate)
            layer.padding = (rate * (kernel // 2),) * 2
            # A 1 × 1 shortcut runs beside the strided 3 × 3 and must not count twice.
            if kernel > 1:
                rate *= stride


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: (B, in_channels, H, W) → (B, channels, H, W).

    One feature map at several scales: a 1 × 1 convolution, a 3 × 3 one for each
    dilation rate, and the mean of the whole map, joined and mixed. `depthwise=False`
    has the dense 3 × 3 convolutions of DeepLabV3.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        *,
        depthwise: bool = True,
    ):
        super().__init__()
        kind = DepthwiseSeparable if depthwise else Conv
        dilated = [kind(in_channels, channels, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList([Conv(in_channels, channels, 1), *dilated])
        self.whole = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), Conv(in_channels, channels, 1)
        )
        scales = len(rates) + 2
        self.project = nn.Sequential(
            Conv(scales * channels, channels, 1), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            raise ValueError(
                "a batch of 1 image in training; expected 2 or more, for the BatchNorm "
                "behind the global pooling"
            )
        scales = [branch(x) for branch in self.branches]
        scales.append(self.whole(x).expand(-1, -1, *x.shape[-2:]))
        return self.project(torch.cat(scales, 1))


class DeepLabV3Plus(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes, H, W), any H and W. By default
    on ResNet-50.

    output_stride         pixels from one position of the deepest feature map to the
                          next: 32, 16 or 8
    block, layers, width  the ResNet's own
    channels              of ASPP and decoder; 3 / 16 of them for the low-level
                          features, the paper's 48 of 256
    rates                 dilation rates of ASPP at an output stride of 16; doubled at
                          8, halved at 32, so that they span the same pixels
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 21,
        *,
        output_stride: int = 16,
        block: type[ResidualBlock] = Bottleneck,
        layers: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
    ):
        super().__init__()
        if output_stride not in (32, 16, 8) or len(layers) != 4:
            raise ValueError(
                f"output_stride {output_stride}, {len(layers)} stages; expected 32, 16 "
                "or 8, and the 4 stages of ResNet"
            )
        net = ResNet(in_channels, 1, block=block, layers=layers, width=width)
        self.in_channels = in_channels
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.pool)
        self.low, self.deep = net.stages[0], net.stages[1:]
        dilate(self.deep[{32: 3, 16: 2, 8: 1}[output_stride] :])
        low, reduced = width * block.expansion, max(1, channels * 3 // 16)
        self.aspp = ASPP(
            8 * low, channels, [max(1, rate * 16 // output_stride) for rate in rates]
        )
        self.reduce = Conv(low, reduced, 1)
        self.decoder = nn.Sequential(
            DepthwiseSeparable(channels + reduced, channels),
            DepthwiseSeparable(channels, channels),
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        low = self.low(self.stem(x))  # → (B, 256, H / 4, W / 4)
        deep = self.deep(low)  # → (B, 2048, H / output_stride, W / output_stride)
        deep = F.interpolate(self.aspp(deep), low.shape[-2:], mode="bilinear")
        y = self.decoder(torch.cat([deep, self.reduce(low)], 1))
        return F.interpolate(self.classifier(y), x.shape[-2:], mode="bilinear")


def small_deeplab(
    in_channels: int = 1,
    num_classes: int = 4,
    *,
    output_stride: int = 16,
    width: int = 16,
    channels: int = 48,
) -> DeepLabV3Plus:
    """One BasicBlock per stage, for images of 128 pixels; rates that fit into a feature
    map of 8 × 8.
    """
    return DeepLabV3Plus(
        in_channels,
        num_classes,
        output_stride=output_stride,
        block=BasicBlock,
        layers=(1, 1, 1, 1),
        width=width,
        channels=channels,
        rates=(2, 3, 4),
    )

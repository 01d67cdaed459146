"""DeepLabV3+: convolutions with holes see far without shrinking the map; a small
decoder sharpens the edges.

Paper: Chen, Zhu, Papandreou, Schroff & Adam, "Encoder-decoder with atrous separable
convolution for semantic image segmentation", ECCV 2018, arXiv:1802.02611, Figs. 2 and
3. Read with chapter 12.

À trous: set a stride of 2 to 1 and let everything behind it look at every second place.
The map has four times as many places, and those that the strided network would have
kept hold the same values.

Differs from the paper: the backbone is our ResNet (ResNet-50; the paper also reports
ResNet-101, and its best results with a modified Xception), so the depthwise separable
convolutions are in ASPP and decoder alone. 26,696,133 parameters for 3 channels and 21
classes, at either output stride.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models.mobilenet import check_images
from medlib.models.resnet import BasicBlock, Bottleneck, ResNet


def conv(
    in_channels: int,
    channels: int,
    kernel: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; keeps the size of the map."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=groups,
                  bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )  # fmt: skip


def separable(in_channels: int, channels: int, *, dilation: int = 1) -> nn.Sequential:
    """One 3 × 3 filter for each channel, with holes, then a 1 × 1 convolution over the
    channels (Fig. 3).
    """
    return nn.Sequential(
        conv(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
        conv(in_channels, channels),
    )


def dilate(layers: nn.Module) -> None:
    """À trous, in place: each stride of 2 becomes 1, and every convolution behind it
    gets twice the dilation.
    """
    rate = 1
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            layer.stride, layer.dilation, layer.padding = (
                (1, 1),
                (rate, rate),
                (rate * (kernel // 2),) * 2,
            )
            if (
                kernel > 1
                # a 1 × 1 shortcut runs beside the strided 3 × 3 and must not count
                # twice
            ):
                rate *= stride


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: (B, in_channels, H, W) → (B, channels, H, W).

    One map at several scales: a 1 × 1 convolution, a 3 × 3 one for each rate, and the
    mean of the whole map, joined and mixed. `depthwise=False` has the dense 3 × 3
    convolutions of DeepLabV3.
    """

    def __init__(self, in_channels: int, channels: int = 256, rates: Sequence[int] = (6, 12, 18), *,
                 depthwise: bool = True):  # fmt: skip
        super().__init__()
        wide = [
            separable(in_channels, channels, dilation=rate) if depthwise
            else conv(in_channels, channels, 3, dilation=rate) for rate in rates
        ]  # fmt: skip
        self.branches = nn.ModuleList([conv(in_channels, channels), *wide])
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(in_channels, channels))
        self.project = nn.Sequential(
            conv((len(rates) + 2) * channels, channels), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            raise ValueError(
                "a batch of 1 image in training; BatchNorm of the pooled map needs 2 "
                "or more"
            )
        scales = [branch(x) for branch in self.branches]
        scales.append(self.whole(x).expand(-1, -1, *x.shape[-2:]))
        return self.project(torch.cat(scales, 1))


class DeepLabV3Plus(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes, H, W), any H and W. By default
    on ResNet-50.

    output_stride         pixels from one place of the deepest map to the next: 32, 16
                          or 8
    block, layers, width  the ResNet's own
    channels              maps of ASPP and decoder; 3 / 16 of them for the low level,
                          the paper's 48 of 256
    rates                 of ASPP at an output stride of 16; doubled at 8, halved at 32,
                          so that they span the same pixels
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, *, output_stride: int = 16,
                 block: type[BasicBlock] = Bottleneck, layers: Sequence[int] = (3, 4, 6, 3), width: int = 64,
                 channels: int = 256, rates: Sequence[int] = (6, 12, 18)):  # fmt: skip
        super().__init__()
        if output_stride not in (32, 16, 8) or len(layers) != 4:
            raise ValueError(
                f"output_stride {output_stride}, {len(layers)} stages; needs 32, 16 "
                "or 8, and the 4 stages of ResNet"
            )
        net = ResNet(in_channels, 1, block=block, layers=layers, width=width)
        self.in_channels = in_channels
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.pool)
        self.low, self.deep = net.stages[0], net.stages[1:]
        dilate(self.deep[{32: 3, 16: 2, 8: 1}[output_stride] :])
        maps, few = width * block.expansion, max(1, channels * 3 // 16)
        self.aspp = ASPP(
            8 * maps, channels, [max(1, rate * 16 // output_stride) for rate in rates]
        )
        self.reduce = conv(maps, few)
        self.decoder = nn.Sequential(
            separable(channels + few, channels), separable(channels, channels)
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "DeepLabV3Plus")
        low = self.low(self.stem(x))  # → (B, 256, H / 4, W / 4)
        deep = self.aspp(
            self.deep(low)
        )  # → (B, 256, H / output_stride, W / output_stride)
        deep = F.interpolate(deep, low.shape[-2:], mode="bilinear")
        y = self.decoder(torch.cat([deep, self.reduce(low)], 1))
        return F.interpolate(self.classifier(y), x.shape[-2:], mode="bilinear")


def small_deeplab(in_channels: int = 1, num_classes: int = 4, *, output_stride: int = 16, width: int = 16,
                  channels: int = 48) -> DeepLabV3Plus:  # fmt: skip
    """One BasicBlock a stage, for images of 128 pixels; rates that fit into a map of 8
    × 8.
    """
    return DeepLabV3Plus(
        in_channels, num_classes, output_stride=output_stride, block=BasicBlock, layers=(1, 1, 1, 1), width=width,
        channels=channels, rates=(2, 3, 4),
    )  # fmt: skip

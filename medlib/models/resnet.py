"""ResNet: each block learns what to add to its input.

Paper: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016,
arXiv:1512.03385, Table 1 and section 4.2 (the small networks). Read with chapter 05;
chapter 13 asks why it works.

ResNet-18/34/50: 11,689,512 / 21,797,672 / 25,557,032 parameters (shortcuts of option B:
a 1 × 1 convolution where the shape changes). As in torchvision, a bottleneck strides in
its 3 × 3 convolution, where the paper strides in the 1 × 1 before it. `shortcut=False`
is the plain counterpart: the same layers without the addition.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medlib.models._blocks import check_images, he_initialise


def convolution(
    in_channels: int, channels: int, kernel: int, stride: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """H(x) = F(x) + x (Eq. 1), then ReLU: (B, in_channels, H, W) → (B, expansion ·
    channels, H / stride, W / stride). A block defines F as `residual`; where `shortcut`
    is None, F stands alone.
    """

    expansion: int
    relu: nn.Module
    shortcut: nn.Module | None

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        f = self.residual(x)
        return self.relu(f if self.shortcut is None else f + self.shortcut(x))


class BasicBlock(ResidualBlock):
    """F: two 3 × 3 convolutions."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: bool = True
    ):
        super().__init__()
        self.conv1 = convolution(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = projection(in_channels, channels, stride) if shortcut else None

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # → (B, channels, H / stride, …)
        return self.bn2(self.conv2(x))


class Bottleneck(ResidualBlock):
    """F: 1 × 1 to fewer channels, 3 × 3, 1 × 1 to four times as many (section 4.1,
    "deeper bottleneck").
    """

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: bool = True
    ):
        super().__init__()
        wide = channels * self.expansion
        self.conv1 = convolution(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = convolution(channels, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = projection(in_channels, wide, stride) if shortcut else None

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))  # → (B, channels, H / stride, …)
        return self.bn3(self.conv3(x))


def projection(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Option B of section 4.1: the identity where the shape stays, else a strided 1 × 1
    convolution.
    """
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(
        convolution(in_channels, channels, 1, stride), nn.BatchNorm2d(channels)
    )


class ResNet(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes). By default ResNet-18.

    layers        blocks in each stage; channels double and sides halve from stage to
                  stage
    width         channels of the first stage
    small_images  a 3 × 3 stem without stride or pooling, for images of 28 to 64 pixels
                  (section 4.2)
    shortcut      False: the plain counterpart
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        block: type[ResidualBlock] = BasicBlock,
        layers: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        small_images: bool = False,
        shortcut: bool = True,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.pool: nn.Module
        if small_images:
            self.conv1 = convolution(in_channels, width, 3)
            self.pool = nn.Identity()
        else:
            self.conv1 = convolution(in_channels, width, 7, 2)
            self.pool = nn.MaxPool2d(3, 2, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.stages, last = nn.Sequential(), width
        for stage, repeats in enumerate(layers):
            blocks, channels = nn.Sequential(), width * 2**stage
            for i in range(repeats):
                stride = 2 if stage and not i else 1
                blocks.append(block(last, channels, stride, shortcut=shortcut))
                last = channels * block.expansion
            self.stages.append(blocks)
        self.fc = nn.Linear(last, num_classes)
        he_initialise(self, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 3, 224, 224) → (B, 64, 112, 112)
        x = self.stages(self.pool(x))  # → (B, 512, 7, 7)
        return self.fc(torch.mean(x, (2, 3)))


def resnet34(in_channels: int = 3, num_classes: int = 1000) -> ResNet:
    return ResNet(in_channels, num_classes, layers=(3, 4, 6, 3))


def resnet50(in_channels: int = 3, num_classes: int = 1000) -> ResNet:
    return ResNet(in_channels, num_classes, block=Bottleneck, layers=(3, 4, 6, 3))


def small_resnet(
    depth: int = 8,
    in_channels: int = 1,
    num_classes: int = 2,
    *,
    width: int = 16,
    shortcut: bool = True,
) -> ResNet:
    """ResNet of 6n + 2 layers for small images (section 4.2): 8, 14, 20, 32, …"""
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise ValueError(f"depth {depth}; expected 6n + 2, such as 8, 14, 20 or 32")
    return ResNet(
        in_channels,
        num_classes,
        layers=(n,) * 3,
        width=width,
        small_images=True,
        shortcut=shortcut,
    )

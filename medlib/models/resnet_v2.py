"""Residual blocks with the ReLU elsewhere, and other ways to join: what the review
says, and what was tried later.

Papers: He, Zhang, Ren & Sun, "Identity mappings in deep residual networks", ECCV 2016,
arXiv:1603.05027, Fig. 4 (where the ReLU stands), and their "Deep residual learning",
CVPR 2016, section 4.1 (shortcut options A, B, C). Read with chapter 13; the network
itself and option B are in resnet.py.

With option A, the networks of 20, 32, 56 and 110 layers for 3 × 32 × 32 images and 10
classes have 269,722; 464,154; 853,018 and 1,727,962 parameters. `ResNetV2` is the
paper's small network; nothing differs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import check_images
from medlib.models.resnet import BasicBlock, ResNet, convolution


class ReLUBefore(BasicBlock):
    """H(x) = ReLU(F(x)) + x: the second ReLU before the addition, as the review
    describes the block. A block can then only add to its input, never take away (Fig. 4
    c).
    """

    def forward(self, x: Tensor) -> Tensor:
        f = self.relu(self.residual(x))
        return f if self.shortcut is None else f + self.shortcut(x)


class PreActivation(BasicBlock):
    """Norm, ReLU and convolution, twice; nothing follows the addition, so that x goes
    through unchanged (Fig. 4 e).

    shares_activation  whether the first norm and ReLU come before the paths split, so
                       that the shortcut sees what the convolutions see: as it is where
                       the shape changes, and in the first block of a network
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: bool = True
    ):
        super().__init__(in_channels, channels, stride, shortcut=shortcut)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.shares_activation = isinstance(self.shortcut, nn.Sequential)
        if self.shares_activation:
            self.shortcut = convolution(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.bn1(x))
        f = self.conv2(self.relu(self.bn2(self.conv1(a))))
        if self.shortcut is None:
            return f
        return f + self.shortcut(a if self.shares_activation else x)


class Concatenate(BasicBlock):
    """“Stacked with the original input”: F(x) beside x, and a 1 × 1 convolution back to
    as many channels.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: bool = True
    ):
        super().__init__(in_channels, channels, stride, shortcut=False)
        self.stride = stride
        self.join = convolution(channels + in_channels, channels, 1)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        f = self.relu(self.residual(x))
        aside = F.avg_pool2d(x, self.stride, ceil_mode=True)
        both = torch.cat((f, aside), 1)  # → (B, channels + in_channels, …)
        return self.relu(self.bn3(self.join(both)))


class Pad(nn.Module):
    """Option A: every second pixel, and channels of zeros in place of the missing ones.
    No parameter.
    """

    def __init__(self, missing: int, stride: int):
        super().__init__()
        if missing < 0:
            raise ValueError(
                f"{-missing} channels fewer behind the block than before it; expected "
                "as many or more, for a shortcut that pads"
            )
        self.missing, self.stride = missing, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.missing))


class OptionA(BasicBlock):
    """Identity shortcuts alone, padded with zeros where the channels grow in number."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: bool = True
    ):
        super().__init__(in_channels, channels, stride, shortcut=shortcut)
        if isinstance(self.shortcut, nn.Sequential):
            self.shortcut = Pad(channels - in_channels, stride)


class OptionC(BasicBlock):
    """A projection in every shortcut."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: bool = True
    ):
        super().__init__(in_channels, channels, stride, shortcut=shortcut)
        if shortcut:
            self.shortcut = nn.Sequential(
                convolution(in_channels, channels, 1, stride), nn.BatchNorm2d(channels)
            )


class ResNetV2(ResNet):
    """(B, in_channels, H, W) → logits (B, num_classes): pre-activation blocks for small
    images, and a norm and ReLU behind the last one. The first block's norm and ReLU
    come right after the first convolution, before its two paths split (the paper's
    appendix).
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        layers: Sequence[int] = (3, 3, 3),
        width: int = 16,
    ):
        super().__init__(
            in_channels,
            num_classes,
            block=PreActivation,
            layers=layers,
            width=width,
            small_images=True,
        )
        first = next(m for m in self.modules() if isinstance(m, PreActivation))
        first.shares_activation = True
        self.bn1 = nn.BatchNorm2d(self.fc.in_features)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        x = self.stages(self.conv1(x))
        return self.fc(torch.mean(self.relu(self.bn1(x)), (2, 3)))

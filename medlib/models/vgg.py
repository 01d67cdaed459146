"""VGG: nothing but 3 × 3 convolutions, stacked deep.

Paper: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
recognition", ICLR 2015, arXiv:1409.1556, Table 1. Read with chapter 04.

Configuration D ("VGG-16") has 138,357,544 parameters for 3 × 224 × 224 images and 1000
classes. Differs from the paper in its initialisation (He et al. 2015; the paper
trained A first and grew the rest from it), and on request: batch normalisation, a
width, a global-average-pooling head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medlib.models._blocks import check_images, he_initialise

# Table 1 of the paper: 3 × 3 convolutions in each of the five stages
A = (1, 1, 2, 2, 2)  # 11 layers with weights
B = (2, 2, 2, 2, 2)  # 13
D = (2, 2, 3, 3, 3)  # 16
E = (2, 2, 4, 4, 4)  # 19


class VGG(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes). A stage halves H and W: 2 **
    len(convs) pixels at least.

    convs   convolutions in each stage; the channels double from stage to stage, up to
            8 × width
    head    (side of the last feature maps, units of the two hidden dense layers), or
            None: mean over each channel (global average pooling, Lin et al. 2013) and
            one dense layer
    kernel  side of the kernels; odd
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        convs: Sequence[int] = D,
        width: int = 64,
        head: tuple[int, int] | None = (7, 4096),
        kernel: int = 3,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.in_channels, self.smallest = in_channels, 2 ** len(convs)
        parts: list[nn.Module] = []
        last = in_channels
        for stage, repeats in enumerate(convs):
            channels = width * min(2**stage, 8)
            for _ in range(repeats):
                parts.append(nn.Conv2d(last, channels, kernel, padding=kernel // 2))
                if batch_norm:
                    parts.append(nn.BatchNorm2d(channels))
                parts.append(nn.ReLU(inplace=True))
                last = channels
            parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.side, hidden = head or (1, 0)
        self.pool = nn.AdaptiveAvgPool2d(self.side)
        self.classifier: nn.Module
        if head:
            self.classifier = nn.Sequential(
                nn.Linear(last * self.side**2, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_classes),
            )
        else:
            self.classifier = nn.Linear(last, num_classes)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        advice = ", or fewer stages in `convs`"
        check_images(self, x, smallest=self.smallest, advice=advice)
        x = self.features(x)  # (B, 3, 224, 224) → (B, 512, 7, 7) in configuration D
        return self.classifier(torch.flatten(self.pool(x), 1))


def small_vgg(
    in_channels: int = 1,
    num_classes: int = 2,
    *,
    convs: Sequence[int] = (1, 1, 2),
    width: int = 16,
    head: tuple[int, int] | None = (3, 128),
    kernel: int = 3,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> VGG:
    """The first three stages of configuration A, for 28 × 28 images."""
    return VGG(
        in_channels,
        num_classes,
        convs=convs,
        width=width,
        head=head,
        kernel=kernel,
        batch_norm=batch_norm,
        dropout=dropout,
    )

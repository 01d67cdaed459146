"""VGG: nothing but 3 × 3 convolutions, stacked deep.

Paper: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
recognition", ICLR 2015, arXiv:1409.1556, Table 1. Read with chapter 04.

Configuration D ("VGG-16") has 138,357,544 parameters for 3 × 224 × 224 images and 1000
classes. Differs from the paper in its initial weights (He et al. 2015; the paper
trained A first and grew the rest from it), and on request: batch normalisation, a
width, a global-average-pooling head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Table 1 of the paper: 3 × 3 convolutions in each of the five stages
A = (1, 1, 2, 2, 2)  # 11 layers with weights
B = (2, 2, 2, 2, 2)  # 13
D = (2, 2, 3, 3, 3)  # 16
E = (2, 2, 4, 4, 4)  # 19


class VGG(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes). A stage halves H and W: 2 **
    len(convs) pixels at least.

    convs   convolutions in each stage; the maps double from stage to stage, up to 8 ×
            width
    head    (side of the last maps, units of the two hidden dense layers), or None: mean
            over each map (global average pooling, Lin et al. 2013) and one dense layer
    kernel  side of the kernels; odd
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 1000, *, convs: Sequence[int] = D, width: int = 64,
                 head: tuple[int, int] | None = (7, 4096), kernel: int = 3, batch_norm: bool = False,
                 dropout: float = 0.5):  # fmt: skip
        super().__init__()
        parts, channels = [], in_channels
        for stage, repeats in enumerate(convs):
            maps = width * min(2**stage, 8)
            for _ in range(repeats):
                parts.append(nn.Conv2d(channels, maps, kernel, padding=kernel // 2))
                parts += [nn.BatchNorm2d(maps)] if batch_norm else []
                parts.append(nn.ReLU(inplace=True))
                channels = maps
            parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.smallest = 2 ** len(convs)
        side, hidden = head or (1, 0)
        self.pool = nn.AdaptiveAvgPool2d(side)
        if head:
            self.classifier = nn.Sequential(
                nn.Linear(channels * side**2, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_classes),
            )
        else:
            self.classifier = nn.Linear(channels, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < self.smallest:
            raise ValueError(
                f"images {tuple(x.shape[-2:])}; this VGG halves them until nothing is "
                "left: it needs "
                f"{self.smallest} × {self.smallest} or more, or fewer stages in `convs`"
            )
        x = self.features(x)  # (B, 3, 224, 224) → (B, 512, 7, 7) in configuration D
        return self.classifier(torch.flatten(self.pool(x), 1))


def small_vgg(in_channels: int = 1, num_classes: int = 2, *, convs: Sequence[int] = (1, 1, 2), width: int = 16,
              head: tuple[int, int] | None = (3, 128), **options) -> VGG:  # fmt: skip
    """The first three stages of configuration A, for 28 × 28 images; `options` are
    VGG's own.
    """
    return VGG(in_channels, num_classes, convs=convs, width=width, head=head, **options)

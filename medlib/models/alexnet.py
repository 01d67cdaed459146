"""AlexNet: LeNet's plan made large enough for photographs, and what it took to train
it.

Paper: Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional
neural networks", NeurIPS 2012, section 3. Read with chapter 03.

LAYERS_2012 with head (6, 4096): 60,965,224 parameters for 227 × 227 images, the grouped
convolutions standing for the two GPUs. LAYERS_2014 without LRN is the one-tower network
of Krizhevsky 2014 (arXiv:1404.5997) and of torchvision: 61,100,840. LAYERS_SMALL is our
twin of 2012 for 28 × 28 images, with about a sixth of the maps: 144,642 parameters for
1 channel and 2 classes. Differs from the paper in its initial weights: those of He et
al. 2015, not N(0, 0.01) with biases of 1, from which narrow twins do not start.
"""

import torch
from torch import Tensor, nn

# Figure 2 of the paper: maps, kernel, stride, padding, groups, normalised, pooled
LAYERS_2012 = (
    (96, 11, 4, 0, 1, True, True),
    (256, 5, 1, 2, 2, True, True),
    (384, 3, 1, 1, 1, False, False),
    (384, 3, 1, 1, 2, False, False),
    (256, 3, 1, 1, 2, False, True),
)
LAYERS_2014 = (
    (64, 11, 4, 2, 1, False, True),
    (192, 5, 1, 2, 1, False, True),
    (384, 3, 1, 1, 1, False, False),
    (256, 3, 1, 1, 1, False, False),
    (256, 3, 1, 1, 1, False, True),
)
LAYERS_SMALL = (
    (16, 5, 1, 2, 1, True, True),
    (48, 5, 1, 2, 2, True, True),
    (64, 3, 1, 1, 1, False, False),
    (64, 3, 1, 1, 2, False, False),
    (48, 3, 1, 1, 2, False, True),
)


class LocalResponseNorm(nn.Module):
    """Divide each value by the activity of `n` neighbouring maps at the same place
    (section 3.3).
    """

    def __init__(
        self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
    ):
        super().__init__()
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        squares = nn.functional.pad(
            x.float().square(), (0, 0, 0, 0, self.n // 2, (self.n - 1) // 2)
        )
        activity = sum(
            squares[:, i : i + x.shape[1]] for i in range(self.n)
        )  # (B, C, H, W)
        return x / (self.k + self.alpha * activity) ** self.beta


class AlexNet(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes); 227 × 227 images with the
    layers of 2012.

    layers   one row a convolution, as above
    head     (side of the last maps, units of the two hidden dense layers)
    lrn      local response normalisation where `layers` says so
    overlap  pool 3 × 3 windows at a stride of 2; else 2 × 2 windows
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 1000, *, layers=LAYERS_2012, head=(6, 4096),
                 activation=nn.ReLU, dropout: float = 0.5, lrn: bool = True, overlap: bool = True):  # fmt: skip
        super().__init__()
        parts, channels = [], in_channels
        for maps, kernel, stride, padding, groups, normalised, pooled in layers:
            parts += [
                nn.Conv2d(channels, maps, kernel, stride, padding, groups=groups),
                activation(),
            ]
            parts += [LocalResponseNorm()] if normalised and lrn else []
            parts += [nn.MaxPool2d(3 if overlap else 2, 2)] if pooled else []
            channels = maps
        self.features = nn.Sequential(*parts)
        side, hidden = head
        self.pool = nn.AdaptiveAvgPool2d(
            side
        )  # changes nothing at the paper's image size
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(channels * side**2, hidden),
            activation(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            activation(),
            nn.Linear(hidden, num_classes),
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.features(x)  # → (B, 256, 6, 6) at the paper's sizes
        except RuntimeError as error:
            if "too small" not in str(error) and "greater than actual input" not in str(
                error
            ):
                raise
            raise ValueError(
                f"images {tuple(x.shape[-2:])} vanish in the pooling; AlexNet needs "
                "67 × 67 or more, "
                "and 28 × 28 with LAYERS_SMALL"
            ) from None
        return self.classifier(torch.flatten(self.pool(x), 1))


def small_alexnet(in_channels: int = 1, num_classes: int = 2, **options) -> AlexNet:
    """The twin for 28 × 28 images; `options` are AlexNet's own."""
    return AlexNet(
        in_channels, num_classes, layers=LAYERS_SMALL, head=(2, 192), **options
    )

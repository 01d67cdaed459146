"""AlexNet: LeNet's plan made large enough for photographs, and what it took to train
it.

Paper: Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional
neural networks", NeurIPS 2012, section 3. Read with chapter 03.

LAYERS_2012 with head (6, 4096): 60,965,224 parameters for 227 × 227 images, the grouped
convolutions standing for the two GPUs. LAYERS_2014 without LRN is the one-tower network
of Krizhevsky 2014 (arXiv:1404.5997) and of torchvision: 61,100,840. LAYERS_SMALL is our
counterpart of 2012 for 28 × 28 images, with about a sixth of the channels: 144,642
parameters for 1 channel and 2 classes. Differs from the paper in its initialisation:
that of He et al. 2015, not N(0, 0.01) with biases of 1, from which narrow networks do
not learn.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medlib.models._blocks import check_images, he_initialise

# Figure 2 of the paper: channels, kernel, stride, padding, groups, normalised, pooled
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
    """Divide each value by the activity of `n` neighbouring channels at the same
    position (section 3.3).
    """

    def __init__(
        self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
    ):
        super().__init__()
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        # Squares in single precision: those of large values overflow in fp16.
        squares = nn.functional.pad(
            x.float().square(), (0, 0, 0, 0, self.n // 2, (self.n - 1) // 2)
        )  # (B, C + n − 1, H, W)
        channels = x.shape[1]
        activity = sum(squares[:, i : i + channels] for i in range(self.n))
        return (x / (self.k + self.alpha * activity) ** self.beta).type_as(x)


class AlexNet(nn.Module):
    """(B, in_channels, H, W) → logits (B, num_classes); 227 × 227 images with the
    layers of 2012.

    layers   one row a convolution, as above
    head     (side of the last feature maps, units of the two hidden dense layers)
    lrn      local response normalisation where `layers` says so
    overlap  pool 3 × 3 windows at a stride of 2; else 2 × 2 windows
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        layers: Sequence[tuple] = LAYERS_2012,
        head: tuple[int, int] = (6, 4096),
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.5,
        lrn: bool = True,
        overlap: bool = True,
    ):
        super().__init__()
        window = 3 if overlap else 2
        self.in_channels, self.smallest = in_channels, smallest_side(layers, window)
        parts: list[nn.Module] = []
        last = in_channels
        for channels, kernel, stride, padding, groups, normalised, pooled in layers:
            parts.append(
                nn.Conv2d(last, channels, kernel, stride, padding, groups=groups)
            )
            parts.append(activation())
            if normalised and lrn:
                parts.append(LocalResponseNorm())
            if pooled:
                parts.append(nn.MaxPool2d(window, 2))
            last = channels
        self.features = nn.Sequential(*parts)
        side, hidden = head
        self.pool = nn.AdaptiveAvgPool2d(side)  # the identity at the paper's image size
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(last * side**2, hidden),
            activation(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            activation(),
            nn.Linear(hidden, num_classes),
        )
        he_initialise(self, (nn.Conv2d, nn.Linear))

    def forward(self, x: Tensor) -> Tensor:
        advice = "; LAYERS_SMALL are made for 28 × 28"
        check_images(self, x, smallest=self.smallest, advice=advice)
        x = self.pool(self.features(x))  # → (B, 256, 6, 6) at the paper's sizes
        return self.classifier(torch.flatten(x, 1))


def smallest_side(layers: Sequence[tuple], window: int) -> int:
    """The side of the smallest image of which one pixel is left at the end: the layers
    read backwards.
    """
    side = 1
    for _, kernel, stride, padding, _, _, pooled in reversed(layers):
        if pooled:
            side = 2 * (side - 1) + window
        side = max(1, stride * (side - 1) + kernel - 2 * padding)
    return side


def small_alexnet(
    in_channels: int = 1,
    num_classes: int = 2,
    *,
    activation: type[nn.Module] = nn.ReLU,
    dropout: float = 0.5,
    lrn: bool = True,
    overlap: bool = True,
) -> AlexNet:
    """AlexNet with LAYERS_SMALL, for 28 × 28 images."""
    return AlexNet(
        in_channels,
        num_classes,
        layers=LAYERS_SMALL,
        head=(2, 192),
        activation=activation,
        dropout=dropout,
        lrn=lrn,
        overlap=overlap,
    )

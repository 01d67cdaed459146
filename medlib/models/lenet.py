"""LeNet-5: small filters shared over the image, then averaging, twice; the first
convolutional standard.

Paper: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86 (1998), section II.B. Read with chapter 02.

LeNet5 is the network of 1998: trainable subsampling, a sparse C3, a squashing function
behind each of the six layers from C1 to F6, an output of distances to fixed codes.
60,000 trainable parameters. Differs from the paper in that the distances leave with a
minus sign, as logits, so that cross-entropy (the paper's Eq. 9 with its constant at 1)
trains it, and in the drawing of the ten digit codes, which is ours.

LeNet is the port that tutorials use: dense C3, ReLU, max pooling, a linear output.
61,706 parameters for 1 × 28 × 28 images and 10 classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import check_images

# Table I of the paper: the channels of S2 that each of the 16 channels of C3 sees.
C3_INPUTS = (
    *((i % 6, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i % 6, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Each digit drawn on 12 rows of 7 pixels; a row is a number of 7 bits.
GLYPHS = (
    (28, 34, 65, 65, 65, 65, 65, 65, 65, 34, 28, 0),
    (8, 24, 40, 8, 8, 8, 8, 8, 8, 8, 62, 0),
    (62, 65, 1, 1, 2, 4, 8, 16, 32, 64, 127, 0),
    (62, 65, 1, 1, 1, 30, 1, 1, 1, 65, 62, 0),
    (2, 6, 10, 18, 34, 66, 127, 2, 2, 2, 2, 0),
    (127, 64, 64, 64, 126, 1, 1, 1, 1, 65, 62, 0),
    (30, 32, 64, 64, 126, 65, 65, 65, 65, 65, 62, 0),
    (127, 1, 1, 2, 4, 8, 8, 16, 16, 16, 16, 0),
    (62, 65, 65, 65, 62, 65, 65, 65, 65, 65, 62, 0),
    (62, 65, 65, 65, 65, 63, 1, 1, 1, 2, 60, 0),
)


def scaled_tanh(x: Tensor) -> Tensor:
    """The squashing function 1.7159 tanh(2x/3): ±1 at ±1, where its curvature is
    largest (appendix A).
    """
    return 1.7159 * torch.tanh(2 / 3 * x)


class Subsample(nn.Module):
    """S2 and S4: the sum of each 2 × 2 block, times one weight and plus one bias per
    channel.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * 4 * F.avg_pool2d(x, 2) + self.bias


class SparseConv(nn.Module):
    """C3: each output channel sees only some of the input channels, so that they cannot
    all learn the same.
    """

    pairs: Tensor

    def __init__(
        self,
        in_channels: int,
        inputs: tuple[tuple[int, ...], ...],
        kernel_size: int = 5,
    ):
        super().__init__()
        self.shape = (len(inputs), in_channels, kernel_size, kernel_size)
        pairs = torch.tensor([(o, i) for o, row in enumerate(inputs) for i in row])
        self.register_buffer("pairs", pairs.T, persistent=False)  # (2, connections)
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(len(inputs)))

    def forward(self, x: Tensor) -> Tensor:
        dense = self.weight.new_zeros(self.shape)  # 0 where nothing is connected
        dense[self.pairs[0], self.pairs[1]] = self.weight
        return F.conv2d(x, dense, self.bias)


class RBFOutput(nn.Module):
    """Squared distance of F6 to a fixed ±1 code for each class, with a minus sign: (B,
    84) → (B, classes).

    Ten classes use 7 × 12 drawings of the digits; for other numbers the codes are
    random signs, which the paper names as a choice too.
    """

    code: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        if num_classes == 10:
            pixels = [
                [row >> (6 - col) & 1 for row in glyph for col in range(7)]
                for glyph in GLYPHS
            ]
            code = torch.tensor(pixels) * 2.0 - 1
        else:
            signs = torch.Generator("cpu").manual_seed(1998)
            bits = torch.randint(0, 2, (num_classes, 84), generator=signs, device="cpu")
            code = bits.to(torch.get_default_device()) * 2.0 - 1
        self.register_buffer("code", code)

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None] - self.code).square().sum(2)


class LeNet5(nn.Module):
    """The network of 1998: (B, in_channels, 32, 32) → logits (B, num_classes)."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10):
        super().__init__()
        self.in_channels = in_channels
        self.c1 = nn.Conv2d(in_channels, 6, 5)
        self.s2 = Subsample(6)
        self.c3 = SparseConv(6, C3_INPUTS)
        self.s4 = Subsample(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = RBFOutput(num_classes)
        # The paper's initialisation (appendix A): uniform within 2.4 / fan-in
        for layer, fan_in in (
            (self.c1, 25 * in_channels),
            (self.c3, 100),
            (self.c5, 400),
            (self.f6, 120),
        ):
            nn.init.uniform_(layer.weight, -2.4 / fan_in, 2.4 / fan_in)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_images(
            self, x, size=(32, 32), advice=": pad 28 × 28 by 2 pixels on each side"
        )
        x = scaled_tanh(self.c1(x))  # (B, 1, 32, 32) → (B, 6, 28, 28)
        x = scaled_tanh(self.s2(x))  # → (B, 6, 14, 14)
        x = scaled_tanh(self.c3(x))  # → (B, 16, 10, 10)
        x = scaled_tanh(self.s4(x))  # → (B, 16, 5, 5)
        x = scaled_tanh(self.c5(x)).flatten(1)  # → (B, 120, 1, 1) → (B, 120)
        x = scaled_tanh(self.f6(x))  # → (B, 84)
        return self.output(x.float())


class LeNet(nn.Module):
    """The modern port: (B, in_channels, 28, 28) → logits (B, num_classes). `width`
    multiplies every layer.
    """

    def __init__(
        self, in_channels: int = 1, num_classes: int = 10, *, width: float = 1.0
    ):
        super().__init__()
        self.in_channels = in_channels
        c1, c3, c5, f6 = (round(width * units) for units in (6, 16, 120, 84))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, c1, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),  # → (B, 6, 14, 14)
            nn.Conv2d(c1, c3, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),  # → (B, 16, 5, 5)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(25 * c3, c5),
            nn.ReLU(),
            nn.Linear(c5, f6),
            nn.ReLU(),
            nn.Linear(f6, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, size=(28, 28))
        return self.classifier(self.features(x))

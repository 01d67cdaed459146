"""Channel attention: one weight per channel, from statistics of the whole feature map.
"What", not "where".

Read with the chapters on attention. Every module here takes (B, C, H, W) and gives the
same shape back, at any H and W, and keeps its gates after a forward pass in `weights`
(B, C, 1, 1), detached. N is H·W.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.attention._common import check, check_batch, fp32, narrow


class SE(nn.Module):
    """Squeeze each channel to its mean, and let two small layers excite or damp it.

    Paper: Hu, Shen & Sun, "Squeeze-and-excitation networks", CVPR 2018,
    arXiv:1709.01507. y = x · σ(W₂ ReLU(W₁ mean(x))), W₁ from C to C/r values and W₂
    back. 2C²/r parameters (with `bias` C + C/r more); O(CN) work. At initialisation
    about x/2, not the identity. Differs: at least 4 hidden values; no biases by
    default, as in the paper's own count.
    """

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = False):
        super().__init__()
        self.channels, hidden = channels, narrow(channels, reduction)
        self.squeeze = nn.Linear(channels, hidden, bias)
        self.excite = nn.Linear(hidden, channels, bias)
        self.weights: Tensor | None = None

    def gate(self, z: Tensor) -> Tensor:
        """One value per channel (B, C) → gates (B, C, 1, 1)."""
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(z))))[:, :, None, None]
        self.weights = gate.detach()
        return gate

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        return x * self.gate(x.mean((2, 3))).type_as(x)


class ECA(nn.Module):
    """SE without the bottleneck: a channel's gate listens to the k channels around it.

    Paper: Wang, Wu, Zhu, Li, Zuo & Hu, "ECA-Net", CVPR 2020, arXiv:1910.03151. y = x ·
    σ(conv1d_k(mean(x))), k = |log₂ C + 1| / 2, cut to a whole number and made odd. k
    parameters; O(CN) work. At initialisation about x/2, not the identity. The order of
    the channels matters here: it is not equivariant to their permutation. Differs:
    nothing.
    """

    def __init__(self, channels: int, *, kernel_size: int | None = None):
        super().__init__()
        self.channels = channels
        k = kernel_size or int(abs(math.log2(channels) + 1) / 2) | 1
        if k % 2 == 0:
            raise ValueError(f"kernel_size {k}; expected an odd one, to have a middle")
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        gate = torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))[:, 0, :, None, None]
        self.weights = gate.detach()
        return x * gate.type_as(x)


class SK(nn.Module):
    """Look with a small and a large kernel, and let each channel choose its mixture.

    Paper: Li, Wang, Hu & Yang, "Selective kernel networks", CVPR 2019,
    arXiv:1903.06586. U₁, U₂ = 3 × 3 convolutions with dilation 1 and 2, each with BN
    and ReLU; z = ReLU(BN(W mean(U₁ + U₂))); y = Σₘ softmaxₘ(Aₘ z) · Uₘ. G = gcd(C, 32)
    groups, d = max(C/r, 32) values in z. 18C²/G + 3Cd + 2d + 4C parameters; O(C²N/G)
    work. A convolution block, so never the identity. Training needs B ≥ 2. Differs: as
    many groups as divide C. `weights` (B, 2, C, 1, 1), the small kernel first.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        groups: int = 32,
        smallest: int = 32,
    ):
        super().__init__()
        self.channels, hidden = channels, max(channels // reduction, smallest)
        groups = math.gcd(channels, groups)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    channels,
                    channels,
                    3,
                    padding=d,
                    dilation=d,
                    groups=groups,
                    bias=False,
                ),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for d in (1, 2)
        )
        self.fuse = nn.Sequential(
            nn.Linear(channels, hidden, False), nn.BatchNorm1d(hidden), nn.ReLU()
        )
        self.select = nn.Linear(hidden, 2 * channels, bias=False)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check_batch(self, x)
        u = torch.stack([branch(x) for branch in self.branches], 1)  # (B, 2, C, H, W)
        z = self.fuse(u.sum(1).mean((2, 3)))
        scores = fp32(self.select(z)).unflatten(1, (2, -1))  # (B, 2, C)
        choice = torch.softmax(scores, 1)[..., None, None]
        self.weights = choice.detach()
        return (u * choice.type_as(u)).sum(1).type_as(x)


class FCA(SE):
    """SE that listens to waves: the mean is only the lowest frequency of a cosine
    transform.

    Paper: Qin, Zhang, Wu & Li, "FcaNet", ICCV 2021, arXiv:2012.11879. The channels are
    split into groups; the group of frequency (u, v) is squeezed to z = mean(x ·
    cos(πu(h + ½)/H) · cos(πv(w + ½)/W)), then gated as in SE. One frequency: SE itself.
    2C²/r parameters; O(CN) work. At initialisation about x/2, not the identity.
    Differs: the lowest frequencies (the paper's "LF"), where its best choice was found
    by trying each on ImageNet; waves over the feature map itself, not over one pooled
    to 7 × 7; their mean, not their sum.
    """

    frequencies: Tensor

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        frequencies: int = 16,
        bias: bool = False,
    ):
        super().__init__(channels, reduction=reduction, bias=bias)
        n = min(frequencies, channels)
        pairs = [(u, v) for u in range(n) for v in range(n)]
        low = sorted(pairs, key=lambda pair: (sum(pair), pair))[:n]
        chosen = torch.tensor([low[c * n // channels] for c in range(channels)])
        self.register_buffer("frequencies", chosen, persistent=False)  # (C, 2)

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        u, v = self.frequencies.T
        h, w = (
            (torch.arange(n, device=x.device) + 0.5) / n * math.pi for n in x.shape[2:]
        )
        down, across = torch.cos(u[:, None] * h), torch.cos(v[:, None] * w)
        waves = down[:, :, None] * across[:, None]  # (C, H, W)
        z = (fp32(x) * waves).mean((2, 3))
        return x * self.gate(z.type_as(self.squeeze.weight)).type_as(x)


class GSoP(nn.Module):
    """Which channels move together: the gates come from the covariance between
    channels, not from their means.

    Paper: Gao, Xie, Wang & Li, "Global second-order pooling convolutional networks",
    CVPR 2019, arXiv:1811.12006. u = ReLU(BN(W₁ x)) with d channels; Σ = covariance of u
    over the pixels (d × d); each row of Σ gives 4 values (a row-wise convolution); y =
    x · σ(W₂ LeakyReLU(rows)). d = min(128, C/2): 5Cd + 4d² + 6d + C parameters; O((C +
    d)dN) work. At initialisation about x/2, not the identity. Differs: the authors'
    code has d = 128 everywhere, and a BN behind the rows, with which a batch of one
    image could not train.
    """

    def __init__(self, channels: int, *, hidden: int | None = None):
        super().__init__()
        self.channels, d = channels, hidden or min(128, narrow(channels, 2))
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, d, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU()
        )
        self.rows = nn.Conv1d(d, 4 * d, d, groups=d)
        self.expand = nn.Linear(4 * d, channels)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        u = fp32(self.reduce(x).flatten(2))  # (B, d, N)
        u = u - u.mean(2, keepdim=True)
        covariance = u @ u.mT / u.shape[2]  # (B, d, d)
        rows = self.rows(covariance.type_as(self.rows.weight)).flatten(1)  # (B, 4d)
        gate = torch.sigmoid(self.expand(F.leaky_relu(rows, 0.1)))[:, :, None, None]
        self.weights = gate.detach()
        return x * gate.type_as(x)

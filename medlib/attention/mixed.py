"""Channel and spatial attention together; and the cheapest of all, gates without a
layer.

Read with the chapters on attention. Every module takes (B, C, H, W) and gives the same
shape back, at any H and W. `weights` is kept after a forward pass, detached; its shape
is with each class. N is H·W.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.attention._common import check, check_batch, fp32, narrow
from medlib.attention.channel import SE
from medlib.attention.spatial import SpatialGate


class ChannelGate(SE):
    """CBAM's channel step: SE that hears the mean and the maximum of each channel,
    through the same two layers.

    Paper and cost: see CBAM; 2C²/r parameters. y = x · σ(MLP(mean(x)) + MLP(max(x))).
    `weights` (B, C, 1, 1).
    """

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        mean, peak = (
            self.excite(F.relu(self.squeeze(z)))
            for z in (x.mean((2, 3)), x.amax((2, 3)))
        )
        gate = torch.sigmoid(mean + peak)[:, :, None, None]
        self.weights = gate.detach()
        return x * gate.type_as(x)


class CBAM(nn.Module):
    """First which channels, then which pixels.

    Paper: Woo, Park, Lee & Kweon, "CBAM: convolutional block attention module", ECCV
    2018, arXiv:1807.06521. x' = x · σ(MLP(mean) + MLP(max)) over the pixels, y = x' ·
    σ(conv₇ₓ₇[max; mean]) over the channels. 2C²/r + 98 parameters; O((C + 98)N) work.
    At initialisation about x/4, not the identity. Differs: no biases and no BN, as in
    the formulas. `weights` (B, 1, H, W); those of the channels in `channel.weights`.
    """

    def __init__(self, channels: int, *, reduction: int = 16, kernel_size: int = 7):
        super().__init__()
        self.channel = ChannelGate(channels, reduction=reduction)
        self.spatial = SpatialGate(channels, kernel_size=kernel_size)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.spatial(self.channel(x))
        self.weights = self.spatial.weights
        return y


class BAM(nn.Module):
    """Which channels and which pixels, side by side, added before one sigmoid.

    Paper: Park, Woo, Lee & Kweon, "BAM: bottleneck attention module", BMVC 2018,
    arXiv:1807.06514. y = x · (1 + σ(c + s)), c = BN(MLP(mean(x))) per channel, s = BN(1
    × 1, two dilated 3 × 3, 1 × 1) for a pixel. With h = C/r: 3Ch + 18h² + 5h + 2C + 2
    parameters; O((C + 18h)hN) work. At initialisation about 1.5 x, not the identity.
    Training needs B ≥ 2. Differs: ReLU between the convolutions; BN only where the
    formula has it. `weights` (B, C, H, W).
    """

    def __init__(self, channels: int, *, reduction: int = 16, dilation: int = 4):
        super().__init__()
        self.channels, h = channels, narrow(channels, reduction)
        self.channel = nn.Sequential(
            nn.Linear(channels, h),
            nn.ReLU(),
            nn.Linear(h, channels, False),
            nn.BatchNorm1d(channels),
        )
        wide = [
            nn.Conv2d(h, h, 3, padding=dilation, dilation=dilation) for _ in range(2)
        ]
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, h, 1),
            nn.ReLU(),
            wide[0],
            nn.ReLU(),
            wide[1],
            nn.ReLU(),
            nn.Conv2d(h, 1, 1, bias=False),
            nn.BatchNorm2d(1),
        )
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check_batch(self, x)
        channel = self.channel(x.mean((2, 3)))[:, :, None, None]  # (B, C, 1, 1)
        gate = torch.sigmoid(channel + self.spatial(x))
        self.weights = gate.detach()
        return x * (1 + gate).type_as(x)


class SCSE(nn.Module):
    """Recalibrate channels and pixels concurrently, and add the two results. Made for
    segmentation.

    Paper: Roy, Navab & Wachinger, "Concurrent spatial and channel squeeze & excitation
    in fully convolutional networks", MICCAI 2018, arXiv:1803.02579. y = x · SE(x) + x ·
    σ(w · x), the second a 1 × 1 convolution to one channel. C² + 2.5C + 1 parameters at
    r = 2; O(CN) work. At initialisation about x/2 + x/2: near the identity. Differs:
    nothing; the authors' later choice, the larger of the two in place of the sum, is
    not here. `weights` (B, 1, H, W); those of the channels in `channel.weights`.
    """

    def __init__(self, channels: int, *, reduction: int = 2):
        super().__init__()
        self.channel = SE(channels, reduction=reduction, bias=True)
        self.spatial = nn.Conv2d(channels, 1, 1)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.channel(x)
        gate = torch.sigmoid(self.spatial(x))
        self.weights = gate.detach()
        return y + x * gate.type_as(x)


class SimAM(nn.Module):
    """A value that stands out from its channel is worth more: a weight for every
    number, and nothing to learn.

    Paper: Yang, Zhang, Li & Xie, "SimAM", ICML 2021 (no arXiv number). y = x · σ((x −
    μ)² / (4(v + λ)) + ½), μ and v the mean and variance of each channel. 0 parameters;
    O(CN) work. Between .62 x and x, hence near the identity only where a value stands
    out. Equivariant to permutations of channels and of pixels. `weights` (B, C, H, W).
    Differs: v has N − 1 below, as in the authors' code, and 1 where N is 1.
    """

    def __init__(self, channels: int, *, smoothing: float = 1e-4):
        super().__init__()
        self.channels, self.smoothing = channels, smoothing
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        squares = (fp32(x) - fp32(x).mean((2, 3), keepdim=True)) ** 2
        others = max(math.prod(x.shape[2:]) - 1, 1)
        variance = squares.sum((2, 3), keepdim=True) / others
        gate = torch.sigmoid(squares / (4 * (variance + self.smoothing)) + 0.5)
        self.weights = gate.detach()
        return x * gate.type_as(x)


class TripletAttention(nn.Module):
    """CBAM's spatial gate from three sides: turn the block so that H, W or C is pooled
    away, gate, turn back.

    Paper: Misra, Nalamada, Arasanipalai & Hou, "Rotate to attend: convolutional triplet
    attention module", WACV 2021, arXiv:2010.03045. y = x · (g(H, W) + g(C, W) + g(H,
    C)) / 3, each g = σ(BN(conv₇ₓ₇[max; mean])) over the axis left out. 3 (2k² + 2) =
    300 parameters; O(k²(N + CH + CW) + CN) work. At initialisation about x/2, not the
    identity. Training needs more than one value in each of the three planes. Differs:
    nothing. `weights` (B, 1, H, W): the first gate.
    """

    def __init__(self, channels: int, *, kernel_size: int = 7):
        super().__init__()
        self.channels = channels
        self.gates = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False),
                nn.BatchNorm2d(1),
            )
            for _ in range(3)
        )
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        gated = []
        for axis, gate in zip((1, 2, 3), self.gates, strict=True):
            turned = x.transpose(1, axis)
            # (B, 2, and the other two axes)
            pooled = torch.stack([turned.amax(1), turned.mean(1)], 1)
            weights = torch.sigmoid(gate(pooled))
            self.weights = weights.detach() if axis == 1 else self.weights
            gated.append((turned * weights.type_as(x)).transpose(1, axis))
        return (gated[0] + gated[1] + gated[2]) / 3


class GaussianContext(nn.Module):
    """A channel whose mean is unlike that of the others is damped, by a fixed Gaussian.

    Paper: Ruan et al., "Gaussian context transformer", CVPR 2021 (GCT; no arXiv
    number). z = mean(x), standardised over the channels; y = x · exp(−z² / 2c²). 0
    parameters with c = 2 ("B0"), 1 with `learn`; O(CN) work. Near the identity: most
    gates lie above .6. Equivariant to permutations of channels and of pixels. Differs:
    `learn` has log c as its parameter, the paper's B1 a bounded c.
    """

    def __init__(self, channels: int, *, width: float = 2.0, learn: bool = False):
        super().__init__()
        self.channels = channels
        self.width = width
        self.log_width = nn.Parameter(torch.tensor(math.log(width))) if learn else None
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        z = fp32(x).mean((2, 3), keepdim=True)
        variance = z.var(1, keepdim=True, correction=0)
        z = (z - z.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()
        width = self.width if self.log_width is None else self.log_width.exp()
        gate = torch.exp(-(z**2) / (2 * width**2))
        self.weights = gate.detach()
        return x * gate.type_as(x)

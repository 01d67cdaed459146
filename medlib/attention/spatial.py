"""Spatial attention: one weight per pixel, or a new position for it. "Where", not
"what".

Read with the chapters on attention. Every module takes (B, C, H, W) and gives the same
shape back, at any H and W. `weights` is kept after a forward pass, detached: a map (B,
1, H, W) where nothing else is said. Coordinate attention, which gates every channel by
position, counts as mixed. N is H·W.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.attention._common import check, fp32, narrow

# A gate's bias at initialisation: σ(3) = .95, so that the block passes what it gets
OPEN = 3.0


class SpatialGate(nn.Module):
    """The maximum and the mean over the channels show where something is; a wide
    convolution makes it a gate.

    Paper: Woo, Park, Lee & Kweon, "CBAM: convolutional block attention module", ECCV
    2018, arXiv:1807.06521. y = x · σ(conv_k×k[max; mean]), k = 7. 2k² = 98 parameters;
    O((C + 2k²)N) work. At initialisation about x/2, not the identity. Differs: no BN,
    as in the formula.
    """

    def __init__(self, channels: int, *, kernel_size: int = 7):
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        gate = torch.sigmoid(self.conv(torch.stack([x.amax(1), x.mean(1)], 1)))
        self.weights = gate.detach()
        return x * gate.type_as(x)


class AttentionGate(nn.Module):
    """Attention U-Net: a coarser feature map that knows the context says which pixels
    of the skip may pass.

    Paper: Oktay, Schlemper, Le Folgoc et al., "Attention U-Net", MIDL 2018,
    arXiv:1804.03999. α = σ(ψ · ReLU(W_x x + W_g g + b) + b_ψ), y = α · x, with h = C/2
    values inside. g has `gating_channels` channels of any size; without one the gate is
    a drop-in and x gates itself. h(C + G) + 2h + 1 parameters, C² + C + 1 without g;
    O(hCN) work. Near the identity: ψ's bias opens it. Differs: g is resized to x, so α
    has all of x's pixels (the paper thins x to g, and resizes α).
    """

    def __init__(
        self,
        channels: int,
        *,
        gating_channels: int | None = None,
        hidden: int | None = None,
    ):
        super().__init__()
        self.channels, self.gating_channels = channels, gating_channels or channels
        hidden = hidden or narrow(channels, 2)
        self.from_x = nn.Conv2d(channels, hidden, 1, bias=False)
        self.from_gating = nn.Conv2d(self.gating_channels, hidden, 1)
        self.psi = nn.Conv2d(hidden, 1, 1)
        self.psi.bias = nn.Parameter(torch.tensor([OPEN]))
        self.weights: Tensor | None = None

    def forward(self, x: Tensor, gating: Tensor | None = None) -> Tensor:
        check(self, x)
        gating = x if gating is None else gating
        if gating.ndim != 4 or gating.shape[1] != self.gating_channels:
            raise ValueError(
                f"AttentionGate got a gating signal {tuple(gating.shape)}; expected "
                f"(B, {self.gating_channels}, H, W), any H, W"
            )
        g = self.from_gating(gating)
        if g.shape[2:] != x.shape[2:]:
            g = F.interpolate(g, x.shape[2:], mode="bilinear")
        gate = torch.sigmoid(self.psi(F.relu(self.from_x(x) + g)))
        self.weights = gate.detach()
        return x * gate.type_as(x)


class STN(nn.Module):
    """Look at the feature map, choose an affine transform of the plane, and resample:
    attention that moves pixels.

    Paper: Jaderberg, Simonyan, Zisserman & Kavukcuoglu, "Spatial transformer networks",
    NeurIPS 2015, arXiv:1506.02025. y(p) = x(A p + t), bilinear, p in [−1, 1]²; A and t
    from a small network on x. 9Ch + 97h + 6 parameters with h channels inside; O((h +
    1)CN) work. The identity at initialisation. Differs: its network is ours, for any H
    and W: 3 × 3 convolution with stride 2, means over a 4 × 4 grid, linear layer.
    `weights` (B, 2, 3): [A | t] of each image.
    """

    def __init__(self, channels: int, *, hidden: int = 16):
        super().__init__()
        self.channels = channels
        self.look = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.change = nn.Linear(16 * hidden, 6)  # added to the identity
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        change = fp32(self.change(self.look(x))).view(-1, 2, 3)
        theta = torch.eye(2, 3, device=x.device) + change
        self.weights = theta.detach()
        down, across = (
            (2 * torch.arange(n, device=x.device).to(theta) + 1) / n - 1
            for n in x.shape[2:]
        )
        a, b, t = theta[..., None, None].unbind(2)  # (B, 2, 1, 1) each
        # Products and sums, no layer: autocast would round the places.
        grid = (a * across + b * down[:, None] + t).movedim(1, -1)
        return F.grid_sample(fp32(x), grid, align_corners=False).type_as(x)


class CoordinateAttention(nn.Module):
    """Squeeze each channel to a profile down and a profile across; a pixel's gate is
    row gate times column gate.

    Paper: Hou, Zhou & Feng, "Coordinate attention for efficient mobile network design",
    CVPR 2021, arXiv:2103.02907. f = h-swish(BN(W₁ [mean over W; mean over H])), y = x ·
    σ(W_h f_h) · σ(W_w f_w). With m = max(C/r, 8) inside: 3Cm + 3m + 2C parameters; O(CN
    + Cm(H + W)) work. At initialisation about x/4, not the identity. Differs: nothing.
    `weights` (B, C, H, W).
    """

    def __init__(self, channels: int, *, reduction: int = 32, smallest: int = 8):
        super().__init__()
        self.channels, middle = channels, max(channels // reduction, smallest)
        self.squeeze = nn.Sequential(
            nn.Conv1d(channels, middle, 1), nn.BatchNorm1d(middle), nn.Hardswish()
        )
        self.rows = nn.Conv1d(middle, channels, 1)
        self.columns = nn.Conv1d(middle, channels, 1)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        profiles = torch.cat([x.mean(3), x.mean(2)], 2)  # (B, C, H + W)
        f = self.squeeze(profiles)  # → (B, m, H + W)
        down, across = f.split(x.shape[2:], 2)
        rows = torch.sigmoid(self.rows(down))[..., None]  # (B, C, H, 1)
        columns = torch.sigmoid(self.columns(across))[:, :, None]  # (B, C, 1, W)
        gate = rows * columns
        self.weights = gate.detach()
        return x * gate.type_as(x)


class ReverseAttention(nn.Module):
    """Erase what is found already, and look at the rest: the gate is one minus a coarse
    prediction.

    Papers: Chen, Tan, Wang & Hu, "Reverse attention for salient object detection", ECCV
    2018, arXiv:1807.09940; Fan, Ji, Zhou et al., "PraNet", MICCAI 2020,
    arXiv:2006.11392. y = x · (1 − σ(s)), s the logits (B, 1, any H, any W) of a deeper
    stage; without them, those of a 1 × 1 convolution of x. C + 1 parameters; O(CN)
    work. Near the identity at initialisation as a drop-in: nothing is found yet.
    Differs: the convolutions behind the gate and their sum with s are the decoder's,
    not here.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.predict = nn.Conv2d(channels, 1, 1)
        self.predict.bias = nn.Parameter(torch.tensor([-OPEN]))
        self.weights: Tensor | None = None

    def forward(self, x: Tensor, logits: Tensor | None = None) -> Tensor:
        check(self, x)
        logits = self.predict(x) if logits is None else logits
        if logits.shape[2:] != x.shape[2:]:
            logits = F.interpolate(logits, x.shape[2:], mode="bilinear")
        gate = 1 - torch.sigmoid(fp32(logits))
        self.weights = gate.detach()
        return x * gate.type_as(x)

"""Self-attention: every pixel asks every other one. N² weights, N = H·W; `efficient.py`
has the cheaper ones.

Read with the chapters on attention. Every module takes (B, C, H, W) and gives the same
shape back, at any H and W, and is the identity at initialisation: a learned scale γ = 0
stands before the sum with x. None of them knows where a pixel is: permute the pixels,
and the output is permuted alike. `weights` is kept after a forward pass, detached: N²
numbers per image.
"""

import math

import torch
from torch import Tensor, nn

from medlib.attention._common import check, fp32, narrow


class MultiHead(nn.Module):
    """Scaled dot-product attention in several heads, over pixels or over the steps of a
    sequence.

    Paper: Vaswani, Shazeer, Parmar et al., "Attention is all you need", NeurIPS 2017,
    arXiv:1706.03762. Each head: softmax(QKᵀ / √d) V, d = C / heads; y = x + γ ·
    W[heads]. `residual=False` leaves out x and γ, as nn.MultiheadAttention does. With
    `context` (B, S, C), keys and values come from there: cross-attention. 4C² + 4C + 1
    parameters (γ); O(C²N + CN²) work. The identity at initialisation (with `residual`).
    Differs: γ, which is not in the paper; heads = gcd(C, 4) by default, where it has 8;
    no dropout, no positional encoding. Takes (B, C, H, W) or a sequence (B, T, C).
    `weights` (B, heads, N, N): queries, then keys.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int | None = None,
        bias: bool = True,
        residual: bool = True,
    ):
        super().__init__()
        self.channels, self.heads = channels, heads or math.gcd(channels, 4)
        if channels % self.heads:
            raise ValueError(
                f"{channels} channels in {heads} heads; expected a divisor of "
                f"{channels}"
            )
        self.query, self.key, self.value, self.out = (
            nn.Linear(channels, channels, bias) for _ in range(4)
        )
        self.scale = nn.Parameter(torch.zeros(())) if residual else None
        self.weights: Tensor | None = None

    def attend(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, T, C) looks at (B, S, C) → (B, T, C)."""
        q, k, v = self.query(x), self.key(context), self.value(context)
        q, k, v = (  # (B, T or S, C) → (B, heads, T or S, d)
            t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v)
        )
        weights = torch.softmax(fp32(q @ k.mT) / math.sqrt(q.shape[3]), 3)
        self.weights = weights.detach()
        y = weights.type_as(v) @ v  # (B, heads, T, d)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if x.ndim == 4:
            check(self, x)
            y = self.forward(x.flatten(2).mT, context)  # (B, N, C)
            return y.mT.unflatten(2, x.shape[2:])
        if x.ndim != 3 or x.shape[2] != self.channels:
            c = self.channels
            raise ValueError(
                f"MultiHead got {tuple(x.shape)}; expected (B, {c}, H, W) or (B, T, "
                f"{c})"
            )
        y = self.attend(x, x if context is None else context)
        return y if self.scale is None else x + (self.scale * y).type_as(x)


class NonLocal(nn.Module):
    """The non-local mean as a layer: a pixel gets the average of all pixels, weighted
    by similarity.

    Paper: Wang, Girshick, Gupta & He, "Non-local neural networks", CVPR 2018,
    arXiv:1711.07971, its "embedded Gaussian". y = x + BN(W softmax(θ(x)ᵀ φ(x)) g(x)),
    θ, φ, g from C to h = C/2 channels. 4Ch + 3h + 2C = 2C² + 3.5C parameters; O(C²N +
    CN²) work. The identity at initialisation: BN's scale is 0. Differs: no pooling
    before φ and g. `weights` (B, N, N).
    """

    def __init__(self, channels: int, *, hidden: int | None = None):
        super().__init__()
        self.channels, hidden = channels, hidden or max(channels // 2, 1)
        self.theta, self.phi, self.g = (
            nn.Conv2d(channels, hidden, 1) for _ in range(3)
        )
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), norm)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        # (B, h, N) each
        theta, phi, g = (
            layer(x).flatten(2) for layer in (self.theta, self.phi, self.g)
        )
        weights = torch.softmax(fp32(theta.mT @ phi), 2)
        self.weights = weights.detach()
        y = (g @ weights.type_as(g).mT).unflatten(2, x.shape[2:])
        return x + self.out(y).type_as(x)


class DualAttention(nn.Module):
    """Pixels that are alike speak together, and so do channels that are alike; both
    answers are added.

    Paper: Fu, Liu, Tian, Li, Bao, Fang & Lu, "Dual attention network for scene
    segmentation", CVPR 2019, arXiv:1809.02983. y = x + α · v(x) softmax(q(x)ᵀ k(x))ᵀ +
    β · softmax(x xᵀ) x, q and k with h = C/8 channels. C² + 2Ch + C + 2h + 2
    parameters; O(C²N + CN²) work. The identity at initialisation: α = β = 0. Differs:
    the sum has x once, and no convolutions around the two branches. x xᵀ has no scale,
    as in the paper, so on large maps its softmax is nearly one-hot. `weights` (B, N,
    N); of the channels `channel_weights` (B, C, C).
    """

    def __init__(self, channels: int, *, reduction: int = 8):
        super().__init__()
        self.channels, hidden = channels, narrow(channels, reduction)
        self.query, self.key = (nn.Conv2d(channels, hidden, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.position_scale, self.channel_scale = (
            nn.Parameter(torch.zeros(())) for _ in range(2)
        )
        self.weights: Tensor | None = None
        self.channel_weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        q, k, v, a = (
            t.flatten(2) for t in (self.query(x), self.key(x), self.value(x), x)
        )
        pixels = torch.softmax(fp32(q.mT @ k), 2)  # (B, N, N)
        channels = torch.softmax(fp32(a @ a.mT), 2)  # (B, C, C)
        self.weights, self.channel_weights = pixels.detach(), channels.detach()
        y = self.position_scale * (v @ pixels.type_as(v).mT)
        y = y + self.channel_scale * (channels.type_as(a) @ a)  # (B, C, N)
        return x + y.unflatten(2, x.shape[2:]).type_as(x)

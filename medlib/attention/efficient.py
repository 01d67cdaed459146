"""Self-attention without N² weights: one question for all, crosses, axes, sums first,
clusters. N is H·W.

Read with the chapters on attention. Every module takes (B, C, H, W) and gives the same
shape back, at any H and W, and is the identity at initialisation: what it adds to x is
scaled by 0. `weights` is kept after a forward pass, detached.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.attention._common import check, fp32, narrow
from medlib.attention.self_attention import MultiHead


class GlobalContext(nn.Module):
    """All pixels of a non-local block ask nearly the same, so ask once: one attention
    map, one answer for all.

    Paper: Cao, Xu, Lin, Wei & Hu, "GCNet", ICCV workshops 2019, arXiv:1904.11492. c = Σ
    softmax(w · x) x over the pixels; y = x + W₂ ReLU(LN(W₁ c)), W₁ from C to h = C/r
    values. 2Ch + 3h + 2C parameters; O(CN) work. The identity at initialisation: W₂ =
    0. Differs: w has no bias, which a softmax would not see. `weights` (B, 1, H, W).
    """

    def __init__(self, channels: int, *, reduction: int = 16):
        super().__init__()
        self.channels, hidden = channels, narrow(channels, reduction)
        self.score = nn.Conv2d(channels, 1, 1, bias=False)
        first, last = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.transform = nn.Sequential(first, nn.LayerNorm(hidden), nn.ReLU(), last)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        weights = torch.softmax(fp32(self.score(x).flatten(2)), 2)  # (B, 1, N)
        weights = weights.unflatten(2, x.shape[2:])
        self.weights = weights.detach()
        context = (x * weights.type_as(x)).sum((2, 3))
        return x + self.transform(context)[:, :, None, None].type_as(x)


class CrissCross(nn.Module):
    """A pixel asks its row and its column; asked twice, it has heard from every pixel.

    Paper: Huang, Wang, Huang, Huang, Wei & Liu, "CCNet: criss-cross attention for
    semantic segmentation", ICCV 2019, arXiv:1811.11721. y = x + γ · Σ softmax(q · k) v
    over the H + W − 1 pixels of the cross, `passes` times, the same layers. C² + 2Ch +
    C + 2h + 1 parameters, h = C/8; O(C²N + CN(H + W)) work a pass. The identity at
    initialisation: γ = 0. Differs: nothing in the module; the convolutions around it
    are not here. `weights` (B, H, W, H + W) of the last pass: the column, where the
    pixel itself has 0, then the row.
    """

    def __init__(self, channels: int, *, reduction: int = 8, passes: int = 2):
        super().__init__()
        self.channels, self.passes = channels, passes
        hidden = narrow(channels, reduction)
        self.query, self.key = (nn.Conv2d(channels, hidden, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(()))
        self.weights: Tensor | None = None

    def cross(self, x: Tensor) -> Tensor:
        """One pass over the cross of each pixel: (B, C, H, W) → (B, C, H, W)."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        h = x.shape[2]
        column = fp32(torch.einsum("bchw,bciw->bhwi", q, k))  # (B, H, W, H)
        row = fp32(torch.einsum("bchw,bchj->bhwj", q, k))  # (B, H, W, W)
        # The pixel itself is counted in its row already.
        itself = torch.eye(h, dtype=torch.bool, device=x.device)[:, None]
        column = column.masked_fill(itself, -torch.inf)
        weights = torch.softmax(torch.cat([column, row], 3), 3)
        self.weights = weights.detach()
        column, row = weights.type_as(v).split([h, x.shape[3]], 3)
        down = torch.einsum("bhwi,bciw->bchw", column, v)
        return down + torch.einsum("bhwj,bchj->bchw", row, v)

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        for _ in range(self.passes):
            x = x + (self.scale * self.cross(x)).type_as(x)
        return x


class Axial(nn.Module):
    """Attention along each column, then along each row: two short questions in place of
    one long one.

    Papers: Ho, Kalchbrenner, Weissenborn & Salimans, "Axial attention in
    multidimensional transformers", 2019, arXiv:1912.12180; in medicine Valanarasu, Oza,
    Hacihaliloglu & Patel, "Medical transformer", MICCAI 2021, arXiv:2102.10662. y =
    rows(columns(x)), MultiHead on sequences of H and of W pixels. The first sees a
    column, both see all. 8C² + 8C + 2 parameters; O(C²N + CN(H + W)) work. The identity
    at initialisation: γ = 0 in both. Differs: no positional encoding, which MedT learns
    and gates; so an axis may be permuted. `columns.weights` (B·W, heads, H, H) and
    `rows.weights` (B·H, heads, W, W).
    """

    def __init__(self, channels: int, *, heads: int | None = None):
        super().__init__()
        self.channels = channels
        self.columns, self.rows = (MultiHead(channels, heads=heads) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        b, _, h, w = x.shape
        x = self.columns(x.permute(0, 3, 2, 1).flatten(0, 1))  # (B · W, H, C)
        x = x.unflatten(0, (b, w)).transpose(1, 2)  # (B, H, W, C)
        x = self.rows(x.flatten(0, 1))  # (B · H, W, C)
        return x.unflatten(0, (b, h)).permute(0, 3, 1, 2)  # (B, C, H, W)


class LinearAttention(nn.Module):
    """Multiply keys with values first: d × d numbers sum up the image, and N² weights
    are never made.

    Paper: Shen, Zhang, Zhao, Yi & Li, "Efficient attention: attention with linear
    complexities", WACV 2021, arXiv:1812.01243. y = x + γ · W (ρ_q(Q) (ρ_k(K)ᵀ V)), ρ_q
    a softmax over the d = C/2 channels, ρ_k over the N pixels. `softmax=False` divides
    both by √N: dot-product attention without softmax, in another order. 4Cd + 3d + C +
    1 parameters; O(CdN) work. The identity at initialisation: γ = 0. Differs: γ; one
    head. `weights` is ρ_k (B, d, H, W): d attention maps. "Linear attention" today
    mostly means the form of Katharopoulos et al., ICML 2020, whose feature map is not
    a softmax.
    """

    def __init__(
        self, channels: int, *, hidden: int | None = None, softmax: bool = True
    ):
        super().__init__()
        self.channels, self.softmax = channels, softmax
        hidden = hidden or max(channels // 2, 1)
        self.query, self.key, self.value = (
            nn.Conv2d(channels, hidden, 1) for _ in range(3)
        )
        self.out = nn.Conv2d(hidden, channels, 1)
        self.scale = nn.Parameter(torch.zeros(()))
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        # (B, d, N) each
        q, k, v = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        root = k.shape[2] ** 0.5
        q = torch.softmax(fp32(q), 1) if self.softmax else q / root
        k = torch.softmax(fp32(k), 2) if self.softmax else k / root
        self.weights = k.detach().unflatten(2, x.shape[2:])
        y = (v @ k.type_as(v).mT) @ q.type_as(v)  # (B, d, d), then (B, d, N)
        return x + (self.scale * self.out(y.unflatten(2, x.shape[2:]))).type_as(x)


class EMAttention(nn.Module):
    """Cluster the pixels, and replace each by a mixture of K cluster centres.

    Paper: Li, Zhong, Wu, Yang, Lin & Liu, "Expectation-maximization attention networks
    for semantic segmentation", ICCV 2019, arXiv:1907.13426. Clustering is counted as
    hard attention by some; nothing in it is sampled and all of it is differentiable, so
    it is here. f = W₁ x; `steps` times Z = softmax over the K bases(fᵀμ), μ = the
    Z-weighted mean of f with length 1; y = x + BN(W₂ ReLU(μ Zᵀ)). 2C² + 3C parameters
    and a buffer of CK; O(C²N + steps · CKN) work. The identity at initialisation: BN's
    scale is 0. Differs: gradients flow through the steps, where the authors' code stops
    them; no ReLU behind the sum. In training the first μ follows the last ones,
    averaged over batches, as in the paper. `weights` (B, K, H, W).
    """

    bases: Tensor

    def __init__(
        self, channels: int, *, bases: int = 64, steps: int = 3, momentum: float = 0.9
    ):
        super().__init__()
        self.channels, self.steps, self.momentum = channels, steps, momentum
        self.register_buffer(
            "bases", F.normalize(torch.randn(1, channels, bases), dim=1)
        )
        self.enter = nn.Conv2d(channels, channels, 1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        f = fp32(self.enter(x).flatten(2))  # (B, C, N)
        bases = fp32(self.bases)
        mu = bases.expand(len(x), -1, -1)  # (B, C, K)
        for _ in range(self.steps):
            z = torch.softmax(fp32(mu.mT @ f), 1)  # (B, K, N)
            shares = z / (z.sum(2, keepdim=True) + 1e-6)
            mu = F.normalize(fp32(f @ shares.mT), dim=1)
        self.weights = z.detach().unflatten(2, x.shape[2:])
        if self.training:
            found = mu.detach().mean(0, keepdim=True)
            mean = self.momentum * bases + (1 - self.momentum) * found
            self.bases = F.normalize(mean, dim=1).type_as(self.bases)
        y = F.relu(mu @ z).unflatten(2, x.shape[2:])
        return x + self.out(y.type_as(self.enter.weight)).type_as(x)

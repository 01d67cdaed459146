"""The mask branch of the residual attention network.

Read with the chapters on attention. (B, C, H, W) in and out, at any H and W. N is H·W.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.attention._common import check, narrow


def residual_unit(channels: int) -> nn.Sequential:
    """F of a pre-activation bottleneck: 1 × 1 to C/4, 3 × 3, 1 × 1 back, each behind BN
    and ReLU. (B, C, H, W) → (B, C, H, W).
    """
    middle = narrow(channels, 4)
    sizes = ((channels, middle, 1), (middle, middle, 3), (middle, channels, 1))
    layers = []
    for a, b, k in sizes:
        layers += [
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.Conv2d(a, b, k, padding=k // 2, bias=False),
        ]
    return nn.Sequential(*layers)


class MaskBranch(nn.Module):
    """Go down to see far, come up to see where: a small hourglass makes a mask M for
    the features F.

    Paper: Wang, Jiang, Qian, Yang, Li, Zhang, Wang & Tang, "Residual attention network
    for image classification", CVPR 2017, arXiv:1704.06904, Fig. 2. y = (1 + M) · F,
    "attention residual learning"; `residual=False` gives M · F, which halves the
    features at each of many modules. F = trunk(x), x itself by default. M = σ(two 1 × 1
    convolutions(hourglass)), with `depth` poolings in the hourglass. (3 depth − 1)(2Cm
    + 9m² + 2C + 4m) + 2C² + 5C parameters, m = C/4; O(C²N) work. At initialisation
    about 1.5 F, not the identity. Training needs more than one pixel at the bottom,
    over the batch. Differs: nothing with one residual unit per step (r = 1), but the
    paper's depth falls from stage to stage. `weights` is M (B, C, H, W).
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int = 2,
        residual: bool = True,
        trunk: nn.Module | None = None,
    ):
        super().__init__()
        self.channels, self.residual = channels, residual
        self.trunk = trunk or nn.Identity()
        self.down = nn.ModuleList(residual_unit(channels) for _ in range(depth))
        self.across = nn.ModuleList(residual_unit(channels) for _ in range(depth - 1))
        self.up = nn.ModuleList(residual_unit(channels) for _ in range(depth))
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        m, sizes, asides = x, [], []
        for k, unit in enumerate(self.down):
            # Fig. 2 has no skip at full size.
            asides.append(m + self.across[k - 1](m) if k else None)
            sizes.append(m.shape[2:])
            m = F.max_pool2d(m, 3, 2, 1)  # → (B, C, H / 2, W / 2), rounded up
            m = m + unit(m)
        for unit in self.up:
            m = F.interpolate(m + unit(m), sizes.pop(), mode="bilinear")
            aside = asides.pop()
            m = m if aside is None else m + aside
        mask = torch.sigmoid(self.head(m))
        self.weights = mask.detach()
        f = self.trunk(x)
        return f * (mask + 1 if self.residual else mask).type_as(f)

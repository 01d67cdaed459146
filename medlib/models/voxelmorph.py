"""VoxelMorph: a U-Net looks at two images and gives the motion between them; it learns
from the images alone.

Balakrishnan, Zhao, Sabuncu, Guttag, Dalca, "VoxelMorph: A Learning Framework for
Deformable Medical Image Registration", IEEE TMI 38, 2019; its form without folds:
Dalca, Balakrishnan, Guttag, Sabuncu, "Unsupervised Learning of Probabilistic
Diffeomorphic Registration for Images and Surfaces", Medical Image Analysis 57, 2019,
here without the probabilities. Ours sees slices rather than volumes, and gives the
field at half the resolution (as the second paper does), read in between. By default
483,474 parameters. Chapter 20.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlib.hearts.motion import (
    compose,
    exponential,
    local_correlation,
    roughness,
    warp,
)
from medlib.models.unet import UNet
from medlib.train import evaluating


class VoxelMorph(nn.Module):
    """(B, 2, H, W), the earlier and the later image as two channels → field (B, 2, H,
    W) in pixels, as medlib.hearts.motion defines it: earlier(x + u(x)) looks like
    later(x). H and W are even.

    diffeomorphic  the network gives a steady current, and the field is its
                   `exponential`: it cannot fold, but for the grid's coarseness, and the
                   same current run backwards undoes it
    steps          of scaling and squaring
    """

    def __init__(
        self, in_channels: int = 2, num_classes: int = 2, *, width: int = 16, depth: int = 3,
        diffeomorphic: bool = False, steps: int = 7,
    ):  # fmt: skip
        super().__init__()
        self.diffeomorphic, self.steps = diffeomorphic, steps
        self.unet = UNet(
            4 * in_channels,
            num_classes,
            width=width,
            depth=depth,
            padded=True,
            norm=True,
        )
        nn.init.zeros_(self.unet.head.weight)  # it starts with no motion at all
        nn.init.zeros_(self.unet.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.field(self.current(x))

    def current(self, x: Tensor) -> Tensor:
        """(B, 2, H / 2, W / 2): what the U-Net says, in pixels of that size; a current,
        or a field already.
        """
        if x.ndim != 4 or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(
                f"images {tuple(x.shape)}; the rule: (B, 2, H, W) with H and W even"
            )
        return self.unet(F.pixel_unshuffle(x, 2)).float()

    def field(self, current: Tensor, time: float = 1.0) -> Tensor:
        """(B, 2, H, W): the field after `time` of the current; −1 runs it backwards."""
        # Places need more digits than bf16 has: 100.5 would become 100.
        with torch.autocast(current.device.type, enabled=False):
            u = time * current.float()
            u = exponential(u, self.steps) if self.diffeomorphic else u
            return 2 * F.interpolate(u, scale_factor=2, mode="bilinear")


class Unsupervised(nn.Module):
    """`VoxelMorph` with what its loss looks at, for `medlib.fit`, whose labels are not
    used.

    (B, 2, H, W) → (B, 4, H, W): the field, the earlier image drawn through it, the
    later image; with `cycle` two more: where a pixel ends, as an arrow, after the way
    there and the way back.
    """

    def __init__(self, net: VoxelMorph, *, cycle: bool = False):
        super().__init__()
        self.net, self.cycle = net, cycle

    def forward(self, x: Tensor) -> Tensor:
        back = [self.net(x.flip(1))] if self.cycle else []
        u = self.net(x)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            return torch.cat(
                (u, warp(x[:, :1], u), x[:, 1:], *(compose(u, b) for b in back)), 1
            )


def loss(
    smooth: float, *, cycle: float = 0.0, likeness: str = "ncc"
) -> Callable[[Tensor, Tensor], Tensor]:
    """For `Unsupervised`: unlikeness of the two images + `smooth` · roughness of the
    field (+ `cycle` · square of the way there and back). likeness: "ncc", local
    correlation, or "mse".
    """
    if likeness not in ("ncc", "mse") or smooth < 0 or cycle < 0:
        raise ValueError(
            f"{likeness!r}, {smooth}, {cycle}; the rule: ncc or mse, and weights of 0 "
            "or more"
        )

    def value(out: Tensor, _: Tensor) -> Tensor:
        u, drawn, later, home = out.split((2, 1, 1, out.shape[1] - 4), 1)
        far = (
            (drawn - later).square().mean()
            if likeness == "mse"
            else 1 - local_correlation(drawn, later)
        )
        return (
            far
            + smooth * roughness(u)
            + (cycle * home.square().mean() if home.shape[1] else 0)
        )

    return value


def refine(
    net: VoxelMorph,
    x: Tensor,
    value: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int = 40,
    lr: float = 0.1,
) -> Tensor:
    """The field (B, 2, H, W) after `steps` of Adam on the current itself, for the pairs
    x alone: the network's answer is where the search begins, `value` (see `loss`) says
    what is sought. No label is looked at.
    """
    with torch.no_grad(), evaluating(net):
        x = x.to(next(net.parameters()).device)
        current = net.current(x)
    current = nn.Parameter(current)
    optimizer = torch.optim.Adam([current], lr)
    for _ in range(steps):
        u = net.field(current)
        optimizer.zero_grad()
        (value(torch.cat((u, warp(x[:, :1], u), x[:, 1:]), 1), x) * len(x)).backward()
        optimizer.step()
    return net.field(current.detach())

"""VoxelMorph: a U-Net looks at two images and gives the motion between them; it learns
from the images alone.

Balakrishnan, Zhao, Sabuncu, Guttag, Dalca, "VoxelMorph: A Learning Framework for
Deformable Medical Image Registration", IEEE TMI 38, 2019; its form without folds:
Dalca, Balakrishnan, Guttag, Sabuncu, "Unsupervised Learning of Probabilistic
Diffeomorphic Registration for Images and Surfaces", Medical Image Analysis 57, 2019,
here without the probabilities. Ours sees slices rather than volumes, has batch norm and
ReLU where theirs has leaky ReLU and no norm, works on patches of 2 × 2 pixels, and
gives the field at half the resolution (as the second paper does), interpolated in
between. By default 483,474 parameters. Chapter 20.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.hearts.motion import (
    compose,
    exponential,
    local_correlation,
    roughness,
    warp,
)
from medlib.models._blocks import check_images
from medlib.models.unet import UNet
from medlib.train import evaluating


class VoxelMorph(nn.Module):
    """(B, 2, H, W), the earlier and the later image as two channels → field (B, 2, H,
    W) in pixels, as medlib.hearts.motion defines it: earlier(x + u(x)) looks like
    later(x). H and W are even.

    diffeomorphic  the network gives a stationary velocity field, and the field is its
                   `exponential`: it cannot fold, but for the grid's coarseness, and the
                   same velocities run backwards undo it
    steps          of scaling and squaring
    """

    def __init__(
        self,
        in_channels: int = 2,
        num_classes: int = 2,
        *,
        width: int = 16,
        depth: int = 3,
        diffeomorphic: bool = False,
        steps: int = 7,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.diffeomorphic, self.steps = diffeomorphic, steps
        self.unet = UNet(
            4 * in_channels,
            num_classes,
            width=width,
            depth=depth,
            padded=True,
            norm=True,
        )
        for p in self.unet.head.parameters():
            nn.init.zeros_(p)  # before any training nothing moves

    def forward(self, x: Tensor) -> Tensor:
        return self.field(self.current(x))

    def current(self, x: Tensor) -> Tensor:
        """(B, 2, H / 2, W / 2): what the U-Net says, in pixels of that size:
        velocities, or a field already.
        """
        check_images(self, x, multiple=2)
        return self.unet(F.pixel_unshuffle(x, 2)).float()

    def field(self, current: Tensor, time: float = 1.0) -> Tensor:
        """(B, 2, H, W): the field after `time` of the velocities; −1 runs them
        backwards.
        """
        # Positions need more digits than bf16 has: 100.5 would become 100.
        with torch.autocast(current.device.type, enabled=False):
            u = time * current.float()
            u = exponential(u, self.steps) if self.diffeomorphic else u
            return 2 * F.interpolate(u, scale_factor=2, mode="bilinear")


class Unsupervised(nn.Module):
    """`VoxelMorph` with what its loss looks at, for `medlib.fit`, whose labels are not
    used.

    (B, 2, H, W) → (B, 4, H, W): the field, the earlier image warped by it, the later
    image; with `cycle` two more: the displacement of a pixel after the way there and
    the way back.
    """

    def __init__(self, net: VoxelMorph, *, cycle: bool = False):
        super().__init__()
        self.net, self.cycle = net, cycle

    def forward(self, x: Tensor) -> Tensor:
        back = [self.net(x.flip(1))] if self.cycle else []
        u = self.net(x)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            home = [compose(u, b) for b in back]
            return torch.cat((u, warp(x[:, :1], u), x[:, 1:], *home), 1)


def loss(
    smooth: float, *, cycle: float = 0.0, likeness: str = "ncc"
) -> Callable[[Tensor, Tensor], Tensor]:
    """For `Unsupervised`: dissimilarity of the two images + `smooth` · regularisation
    of the field (+ `cycle` · square of the way there and back). likeness: the
    similarity, "ncc" (local cross-correlation) or "mse".
    """
    if likeness not in ("ncc", "mse") or smooth < 0 or cycle < 0:
        raise ValueError(
            f"{likeness!r}, {smooth}, {cycle}; expected ncc or mse, and weights of 0 "
            "or more"
        )

    def value(out: Tensor, _: Tensor) -> Tensor:
        u, warped, later, home = out.split((2, 1, 1, out.shape[1] - 4), 1)
        if likeness == "mse":
            dissimilarity = (warped - later).square().mean()
        else:
            dissimilarity = 1 - local_correlation(warped, later)
        total = dissimilarity + smooth * roughness(u)
        return total + cycle * home.square().mean() if home.shape[1] else total

    return value


def refine(
    net: VoxelMorph,
    x: Tensor,
    value: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int = 40,
    lr: float = 0.1,
) -> Tensor:
    """The field (B, 2, H, W) after `steps` of Adam on the velocities themselves, for
    the pairs x alone: the network's answer is the initial guess, `value` (see `loss`)
    says what is sought. No label is looked at.
    """
    with torch.no_grad(), evaluating(net):
        x = x.to(next(net.parameters()).device)
        current = net.current(x)
    current = nn.Parameter(current)
    optimizer = torch.optim.Adam([current], lr)
    for _ in range(steps):
        u = net.field(current)
        out = torch.cat((u, warp(x[:, :1], u), x[:, 1:]), 1)
        optimizer.zero_grad()
        # The mean over the batch becomes a sum: each pair is optimised as if alone.
        (value(out, x) * len(x)).backward()
        optimizer.step()
    return net.field(current.detach())

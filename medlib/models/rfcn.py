"""RFCN: a memory that reads the stack slice by slice, from the base to the apex.

Poudel, Lamata, Montana, "Recurrent Fully Convolutional Neural Networks for Multi-slice
MRI Cardiac Segmentation", RAMBO 2016. A U-Net whose coarsest feature maps pass through
a gated recurrent unit (GRU; Cho et al. 2014) along the slices: what the unit has seen
above helps below. Features recur, never masks. Ours works on the book's `SmallUNet`,
and its GRU is convolutional, so that a memory has a position in the image. Chapter 18.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.device import in_layout
from medlib.models._blocks import check_stacks
from medlib.models.unet import SmallUNet


class ConvGRU(nn.Module):
    """(B, D, C, h, w) → the unit's state after each slice, (B, D, C, h, w). With memory
    h and input x,

    z = σ(conv[x, h]),  r = σ(conv[x, h]),  q = tanh(conv[x, r h]),  h ← (1 − z) h + z q
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, states = torch.zeros_like(x[:, 0]), []
        for slice_ in x.unbind(1):
            z, r = self.gates(torch.cat((slice_, h), 1)).sigmoid().chunk(2, 1)
            q = self.candidate(torch.cat((slice_, r * h), 1)).tanh()
            h = (1 - z) * h + z * q
            states.append(h)
        return torch.stack(states, 1)


class RFCN(nn.Module):
    """(B, in_channels, D, H, W), base first → logits (B, num_classes, D, H, W); H and W
    are multiples of the `SmallUNet`'s patch, 2.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 4, *, width: int = 16):
        super().__init__()
        self.in_channels = in_channels
        self.net = SmallUNet(in_channels, num_classes, width=width)
        self.gru = ConvGRU(width * 2**self.net.unet.depth)

    def forward(self, x: Tensor) -> Tensor:
        unet, patch = self.net.unet, self.net.patch
        check_stacks(self, x, (1, patch, patch))
        batch, _, _, height, width = x.shape
        slices = in_layout(x.transpose(1, 2).flatten(0, 1))  # → (B · D, C, H, W)
        asides, bottom = unet.encode(F.pixel_unshuffle(slices, patch))
        bottom = self.gru(bottom.unflatten(0, (batch, -1))).flatten(0, 1)
        logits = F.pixel_shuffle(unet.decode(asides, bottom), patch)
        logits = logits[..., :height, :width]  # without what `encode` padded
        return logits.unflatten(0, (batch, -1)).transpose(1, 2)

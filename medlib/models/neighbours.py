"""2.5D: a two-dimensional network that gets the slices above and below as further
channels.

Between 2D, which sees a slice, and 3D, which convolves through the stack. With `reach`
0 it is the 2D network, slice by slice; so the two differ in nothing else. Missing
neighbours, at the ends of the stack, are zeros. Chapter 18.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import check_stacks, each
from medlib.models.unet import SmallUNet


class Neighbours(nn.Module):
    """(B, in_channels, D, H, W) → logits (B, num_classes, D, H, W).

    reach    how many slices are seen above, and as many below
    width    of the `SmallUNet` that does the work
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 4,
        *,
        reach: int = 1,
        width: int = 16,
    ):
        super().__init__()
        self.in_channels, self.reach = in_channels, reach
        self.net = SmallUNet(in_channels * (2 * reach + 1), num_classes, width=width)

    def forward(self, x: Tensor) -> Tensor:
        check_stacks(self, x)
        d = x.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, self.reach, self.reach))
        shifted = [padded[:, :, k : k + d] for k in range(2 * self.reach + 1)]
        return each(self.net, torch.cat(shifted, 1))  # (B, C · (2 reach + 1), D, H, W)

"""2.5D: a two-dimensional network that gets the slices above and below as further
channels.

Between 2D, which sees a slice, and 3D, which convolves through the stack. With `reach`
0 it is the 2D network, slice by slice; so the two differ in nothing else. Missing
neighbours, at the ends of the stack, are zeros. Chapter 18.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlib.models.unet import SmallUNet


class Neighbours(nn.Module):
    """(B, 1, D, H, W) → logits (B, num_classes, D, H, W).

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
        self.reach = reach
        self.net = SmallUNet(in_channels * (2 * reach + 1), num_classes, width=width)

    def forward(self, x: Tensor) -> Tensor:
        d = check_stack(x).shape[2]
        padded = F.pad(x, (0, 0, 0, 0, self.reach, self.reach))
        x = torch.cat([padded[:, :, k : k + d] for k in range(2 * self.reach + 1)], 1)
        return each(self.net, x)


def check_stack(x: Tensor) -> Tensor:
    if x.ndim != 5:
        raise ValueError(
            f"an input of shape {tuple(x.shape)}; the rule: stacks (B, C, D, H, W)"
        )
    return x


def each(net: nn.Module, x: Tensor) -> Tensor:
    """A network for images, on every slice of stacks (B, C, D, H, W)."""
    slices = (
        x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    )
    return net(slices).unflatten(0, (len(x), -1)).transpose(1, 2)

"""Spatial propagation: the mask of the slice before is handed to the network with the
next slice.

Zheng, Delingette, Duchateau, Ayache, "3-D Consistent and Robust Segmentation of Cardiac
Images by Deep Learning with Spatial Propagation", IEEE TMI 37, 2018. A U-Net variant
sees a slice, the slice before it and that slice's mask, and goes on from base to apex.
Ours stacks these as channels of the book's `SmallUNet`; the paper has a branch for the
context, another network for where to start, and distinct nets for LV and RV. Chapter
18.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.models._blocks import check_stacks, each
from medlib.models.unet import SmallUNet


class Propagation(nn.Module):
    """(B, in_channels, D, H, W), base first → logits (B, num_classes, D, H, W), from
    slice to slice with its own masks.

    With one more channel that holds the true labels, as `taught` makes it, the true
    mask of the slice before is handed on instead (teacher forcing), and all slices are
    done at once.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 4, *, width: int = 16):
        super().__init__()
        self.in_channels, self.num_classes = in_channels, num_classes
        self.net = SmallUNet(
            2 * in_channels + num_classes - 1, num_classes, width=width
        )

    def forward(self, x: Tensor, faults: dict[int, Tensor] | None = None) -> Tensor:
        """faults   {slice: labels (B, H, W)} put in place of the network's own mask
        before it is handed on
        """
        if x.ndim != 5:
            check_stacks(self, x)
        image, labels = x[:, : self.in_channels], x[:, self.in_channels :]
        check_stacks(self, image)
        above = F.pad(image, (0, 0, 0, 0, 1, 0))[:, :, :-1]  # the slice before
        if labels.shape[1]:
            masks = self._masks(labels[:, 0].long())  # (B, C − 1, D, H, W)
            masks = F.pad(masks, (0, 0, 0, 0, 1, 0))[:, :, :-1]
            return each(self.net, torch.cat((image, above, masks), 1))
        mask, logits = image.new_zeros(len(x), self.num_classes - 1, *x.shape[3:]), []
        for k in range(x.shape[2]):
            logits.append(
                self.net(torch.cat((image[:, :, k], above[:, :, k], mask), 1))
            )
            found = (faults or {}).get(k, logits[-1].argmax(1))
            mask = self._masks(found).to(mask.dtype)
        return torch.stack(logits, 2)

    def _masks(self, labels: Tensor) -> Tensor:
        """One mask per structure, without the background's: (B, …) → (B, C − 1, …)."""
        return F.one_hot(labels, self.num_classes).movedim(-1, 1)[:, 1:].float()


def taught(augment):
    """An augmentation for `fit` that runs `augment` and then lays the true labels
    beside the image.
    """

    def both(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = augment(x, y, generator)
        return torch.cat((x, y[:, None].to(x.dtype)), 1), y

    return both

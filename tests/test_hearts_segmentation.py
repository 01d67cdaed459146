"""Whole volumes segmented, and scored on the scanner's grid."""

import numpy as np
import pytest
import torch
from acdc_folder import ten_hearts

from medlib import hearts


@pytest.fixture
def cohort(tmp_path):
    return ten_hearts(tmp_path)


class Oracle(torch.nn.Module):
    """Gives back the mask that it is told, as sure logits."""

    def __init__(self, masks):
        super().__init__()
        self.masks, self.nothing = masks, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return 20.0 * torch.nn.functional.one_hot(self.masks, 4).movedim(-1, 1)


@pytest.mark.parametrize("side", [64, 96])
def test_masks_come_back_to_the_scanners_grid(cohort, side):
    patient = cohort[0]
    d = hearts.slices(*3 * [cohort[:1]], side=side, field=96)
    scores = hearts.dice_of_patients(Oracle(d.test.y), [patient], side=side, field=96)
    assert scores.shape == (1, 2, 3) and scores.min() > (0.99 if side == 64 else 0.95)


def test_a_network_for_stacks_segments_as_one_for_slices(cohort):
    from medlib.models import Neighbours

    net = Neighbours(reach=0, width=4)
    stacks = hearts.segment(net, cohort[0], side=64, whole=True)
    slices = hearts.segment(net.net, cohort[0], side=64)
    assert (
        np.mean(stacks[0] == slices[0]) > 0.999
        and stacks[1].shape == cohort[0].es.image.shape
    )


@pytest.mark.parametrize("whole", [False, True])
def test_an_answer_that_is_nan_is_no_background(cohort, whole):
    class Diverged(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 4, *x.shape[2:]), torch.nan)

    with pytest.raises(ValueError, match="NaN.*diverged"):
        hearts.segment(Diverged(), cohort[0], side=32, whole=whole)
    with pytest.raises(ValueError, match="NaN.*diverged"):
        hearts.dice_of_patients(Diverged(), cohort[:1], side=32, whole=whole)


def test_outside_the_square_all_is_background(cohort):
    """A network that says LV everywhere is not heard where it has seen nothing."""

    class Everywhere(torch.nn.Module):
        def forward(self, x):
            return (
                torch.tensor([0.0, 0, 0, 9]).view(1, 4, 1, 1).expand(len(x), 4, 32, 32)
            )

    ed, _ = hearts.segment(Everywhere(), cohort[0], side=32, field=60)
    inside = hearts.window(cohort[0], 32, 60).covers()
    assert 1000 < inside.sum() < 2000 and ed.dtype == np.uint8
    assert (ed[:, inside] == 3).all() and not ed[:, ~inside].any()

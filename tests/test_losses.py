"""Losses of segmentation."""

import pytest
import torch

from medlib import losses


@pytest.fixture
def target():
    y = torch.zeros(2, 12, 14, dtype=torch.long)
    y[0, 2:8, 3:9], y[0, 4:6, 5:7], y[1, 1:4, 1:4] = 1, 2, 3
    return y


def sure(target, k=4):
    return 40.0 * torch.nn.functional.one_hot(target, k).movedim(-1, 1)


def test_a_perfect_mask_costs_nothing_and_scores_one(target):
    assert losses.dice_ce(sure(target), target).item() == pytest.approx(0, abs=1e-5)
    assert losses.mean_dice(sure(target), target) == pytest.approx(1)


def test_soft_dice_of_sure_logits_is_one_minus_dice(target):
    moved = target.roll(1, 2)
    overlap = [2 * ((target == k) & (moved == k)).sum() / (2 * (target == k).sum()) for k in (1, 2, 3)]
    assert losses.mean_dice(sure(moved), target) == pytest.approx(float(sum(overlap) / 3))
    assert losses.soft_dice(sure(moved), target) == pytest.approx(1 - float(sum(overlap) / 3), abs=0.05)


def test_volumes_and_gradients(target):
    logits = torch.randn(1, 4, 2, 12, 14, requires_grad=True)
    losses.dice_ce(logits, target[None]).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_missing_structures_do_not_break_the_score():
    y = torch.zeros(1, 4, 4, dtype=torch.long)
    assert losses.mean_dice(sure(y), y) == 0
    assert torch.isfinite(losses.soft_dice(sure(y), y))


def test_border_weight_is_high_between_two_objects():
    objects = torch.zeros(1, 9, 21, dtype=torch.long)
    objects[0, :, 2:9], objects[0, :, 11:19] = 1, 2
    w = losses.border_weight(objects)
    between, far = w[0, 4, 10], w[0, 4, 0]
    # Column 9 is one pixel from the first object and two from the second, so is column 10 the other way round.
    assert between.item() == pytest.approx(1 + 10 * torch.tensor(-9 / 50).exp().item())
    assert far < between and w[0, 4, 5] == 1
    assert (losses.border_weight((objects == 1).long()) == 1).all()

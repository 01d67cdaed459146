"""Losses of segmentation."""

import warnings

import pytest
import torch

from medlib import losses


@pytest.fixture
def target():
    y = torch.zeros(2, 12, 14, dtype=torch.long)
    y[0, 2:8, 3:9], y[0, 4:6, 5:7], y[1, 1:4, 1:4] = 1, 2, 3
    return y


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def sure(target, k=4):
    return 40.0 * torch.nn.functional.one_hot(target, k).movedim(-1, 1)


def test_a_perfect_mask_costs_nothing_and_scores_one(target):
    assert losses.dice_ce(sure(target), target).item() == pytest.approx(0, abs=1e-5)
    assert losses.mean_dice(sure(target), target) == pytest.approx(1)


def test_soft_dice_of_sure_logits_is_one_minus_dice(target):
    moved = target.roll(1, 2)
    overlap = [
        2 * ((target == k) & (moved == k)).sum() / (2 * (target == k).sum())
        for k in (1, 2, 3)
    ]
    assert losses.mean_dice(sure(moved), target) == pytest.approx(
        float(sum(overlap) / 3)
    )
    assert losses.soft_dice(sure(moved), target) == pytest.approx(
        1 - float(sum(overlap) / 3), abs=0.05
    )


def test_volumes_and_gradients(target):
    logits = drawn(1, 4, 2, 12, 14).requires_grad_()
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
    # Column 9 is one pixel from the first object and two from the second, so is column
    # 10 the other way round.
    assert between.item() == pytest.approx(1 + 10 * torch.tensor(-9 / 50).exp().item())
    assert far < between and w[0, 4, 5] == 1
    assert (losses.border_weight((objects == 1).long()) == 1).all()


def binary(seed=0):
    """Logits of two classes with a gradient, the foreground's probability and the
    truth.
    """
    g = torch.Generator().manual_seed(seed)
    logits = (
        torch.randn(1, 2, 6, 6, generator=g, dtype=torch.float64)
        .float()
        .requires_grad_()
    )
    return (
        logits,
        logits.softmax(1)[:, 1],
        (torch.rand(1, 6, 6, generator=g) < 0.3).long(),
    )


def test_vnet_dice_has_the_papers_gradient():
    """Milletari et al., section 3: ∂D/∂p = 2 [g (Σp² + Σg²) − 2 p Σpg] / (Σp² +
    Σg²)².
    """
    logits, p, g = binary()
    squares, both = (p**2).sum() + g.sum(), (p * g).sum()
    paper = 2 * (g * squares - 2 * p * both) / squares**2
    (ours,) = torch.autograd.grad(losses.vnet_dice(logits, g), logits)
    (through,) = torch.autograd.grad(p, logits, grad_outputs=-paper.detach())
    torch.testing.assert_close(ours, through, rtol=1e-4, atol=1e-7)


def test_losses_are_monais(target):
    with warnings.catch_warnings(action="ignore"):  # its imports warn of other packages
        from monai.losses import DiceLoss, FocalLoss, TverskyLoss
    logits = drawn(2, 4, 12, 14)
    y, labelled = target[:, None], {"to_onehot_y": True, "softmax": True, "batch": True}
    labelled |= {"include_background": False, "smooth_nr": 1, "smooth_dr": 1}
    dice = DiceLoss(**labelled)
    torch.testing.assert_close(losses.soft_dice(logits, target), dice(logits, y))
    squared = DiceLoss(**labelled | {"smooth_nr": 0, "smooth_dr": 0}, squared_pred=True)
    torch.testing.assert_close(losses.vnet_dice(logits, target), squared(logits, y))
    tversky = TverskyLoss(**labelled, alpha=0.3, beta=0.7)
    torch.testing.assert_close(losses.tversky(logits, target), tversky(logits, y))
    # MONAI averages over the four classes too, of which one a pixel is not zero.
    focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)
    torch.testing.assert_close(losses.focal(logits, target), 4 * focal(logits, y))


def test_dice_and_cross_entropy_count_alike(target):
    logits = drawn(2, 4, 12, 14)
    true = logits.log_softmax(1).gather(1, target[:, None])
    torch.testing.assert_close(
        losses.dice_ce(logits, target), losses.soft_dice(logits, target) - true.mean()
    )


def test_tversky_at_one_half_is_dice():
    logits, _, g = binary()
    half = losses.tversky(logits, g, alpha=0.5, beta=0.5)
    torch.testing.assert_close(
        half, losses.soft_dice(logits, g), rtol=0.05, atol=0.02
    )  # but for the + 1


def test_tversky_weighs_what_was_missed():
    y = torch.zeros(1, 8, 8, dtype=torch.long)
    y[:, 2:6, 2:6] = 1
    small, large = torch.zeros_like(y), torch.zeros_like(y)
    small[:, 3:6, 2:6], large[:, 1:6, 2:6] = 1, 1  # four pixels missed, four added
    assert losses.tversky(sure(small, 2), y) > losses.tversky(sure(large, 2), y)


def test_focal_without_gamma_is_cross_entropy_and_less_with_it():
    logits, _, g = binary()
    torch.testing.assert_close(
        losses.focal(logits, g, gamma=0), torch.nn.functional.cross_entropy(logits, g)
    )
    assert losses.focal(logits, g) < losses.focal(logits, g, gamma=0)


@pytest.mark.parametrize("loss", [losses.vnet_dice, losses.tversky, losses.focal])
def test_losses_of_volumes_and_of_nothing(loss, target):
    logits = drawn(1, 4, 2, 12, 14).requires_grad_()
    loss(logits, target[None]).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0
    assert torch.isfinite(loss(sure(target * 0), target * 0))

"""Losses of segmentation."""

import math

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


def test_classes_that_nobody_has_do_not_count(target):
    """As in metrics.dice: a class of the truth or of the answer counts, no other."""
    without = target.where(target != 1, 0)  # no RV in any image
    assert losses.mean_dice(sure(without), without) == 1
    only = target.where(target == 1, 0)
    assert losses.mean_dice(sure(only), target) == pytest.approx(1 / 3)  # 2 and 3: 0
    assert losses.mean_dice(sure(target), only) == pytest.approx(1 / 3)
    six = torch.cat([sure(target), torch.full((2, 2, 12, 14), -9.0)], 1)
    assert losses.mean_dice(six, target) == 1


def test_missing_structures_do_not_break_the_score():
    y = torch.zeros(1, 4, 4, dtype=torch.long)
    assert math.isnan(losses.mean_dice(sure(y), y))
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


LOSSES = [
    losses.soft_dice,
    losses.vnet_dice,
    losses.tversky,
    losses.focal,
    losses.dice_ce,
]
SCORES = [*LOSSES, losses.mean_dice]


def test_overlaps_are_averaged_over_the_classes_but_the_background(target):
    logits = drawn(2, 4, 12, 14)
    soft, squares, index = [], [], []
    for k in (1, 2, 3):
        p, g = logits.softmax(1)[:, k], (target == k).float()
        both, added, missed = (p * g).sum(), (p * (1 - g)).sum(), ((1 - p) * g).sum()
        soft.append(1 - (2 * both + 1) / (p.sum() + g.sum() + 1))
        squares.append(1 - 2 * both / (p**2 + g**2).sum())
        index.append(1 - (both + 1) / (both + 0.3 * added + 0.7 * missed + 1))
    for loss, values in (
        (losses.soft_dice, soft),
        (losses.vnet_dice, squares),
        (losses.tversky, index),
    ):
        torch.testing.assert_close(loss(logits, target), torch.stack(values).mean())


def test_the_formulas_by_hand():
    p, g = torch.tensor([0.8, 0.4, 0.1, 0.5]), torch.tensor([[[1, 1, 0, 0]]])
    logits = torch.stack([torch.zeros(4), torch.log(p / (1 - p))]).view(1, 2, 1, 4)
    soft = 1 - (2 * 1.2 + 1) / (1.8 + 2 + 1)
    log = torch.log(torch.tensor([0.8, 0.4, 0.9, 0.5])).tolist()  # of the true class
    focal = -sum(
        (1 - q) ** 2 * x for q, x in zip((0.8, 0.4, 0.9, 0.5), log, strict=True)
    )
    by_hand = {
        losses.soft_dice: soft,
        losses.vnet_dice: 1 - 2 * 1.2 / (0.64 + 0.16 + 0.01 + 0.25 + 2),
        losses.tversky: 1 - (1.2 + 1) / (1.2 + 0.3 * 0.6 + 0.7 * 0.8 + 1),
        losses.focal: focal / 4,
        losses.dice_ce: soft - sum(log) / 4,
        losses.mean_dice: 2 * 1 / 3,
    }
    for loss, expected in by_hand.items():
        assert float(loss(logits, g)) == pytest.approx(expected, rel=1e-5)
    assert losses.tversky(logits, g, alpha=0.1, beta=0.2).item() == pytest.approx(
        1 - (1.2 + 1) / (1.2 + 0.1 * 0.6 + 0.2 * 0.8 + 1)
    )


@pytest.mark.parametrize("loss", SCORES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y.transpose(1, 2), r"target \(2, 14, 12\).*expected \(2, 12, 14\)"),
        (lambda y: y[:, None], r"target \(2, 1, 12, 14\).*no axis of channels"),
        (lambda y: y.flatten(), r"target \(336,\)"),
        (lambda y: y.flatten(1), r"target \(2, 168\)"),
        (lambda y: y[:, 2:-2, 2:-2], r"target \(2, 8, 10\).*size of the logits"),
        (lambda y: y[:1], r"target \(1, 12, 14\)"),
        (lambda y: y[0], r"target \(12, 14\)"),
        (lambda y: sure(y).long(), r"target \(2, 4, 12, 14\)"),
        (lambda y: y.float(), "target of torch.float32; expected integer"),
        (lambda y: y.half(), "target of torch.float16"),
        (lambda y: y > 0, "target of torch.bool"),
        (lambda y: y + 1, "label 4 has no channel; expected 0 to 3"),
        (lambda y: y - 1, "label -1 has no channel"),
        (lambda y: y.where(y != 1, 255).byte(), "label 255.*leave those pixels out"),
        (lambda y: y.where(y != 1, -100), "label -100"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss, change, words, target):
    with pytest.raises(ValueError, match=words):
        loss(drawn(2, 4, 12, 14), change(target))


@pytest.mark.parametrize("loss", SCORES)
@pytest.mark.parametrize(
    "shape", [(2, 1, 12, 14), (2, 0, 12, 14), (0, 4, 12, 14), (2,), ()]
)
def test_logits_that_do_not_fit_are_refused(loss, shape):
    y = torch.zeros(shape[:1] + shape[2:], dtype=torch.long)
    with pytest.raises(ValueError, match=r"logits \(.*expected \(B, C, H, W\), C = 2"):
        loss(torch.zeros(shape), y)


@pytest.mark.parametrize("loss", SCORES)
def test_labels_of_any_integer_type_are_taken(loss, target):
    logits = drawn(2, 4, 12, 14)
    for kind in ("uint8", "int8", "int16", "int32", "uint16"):
        assert loss(logits, target.to(getattr(torch, kind))) == loss(logits, target)
    assert loss(logits.transpose(2, 3), target.mT) == pytest.approx(
        float(loss(logits, target)), rel=1e-5
    )
    assert math.isfinite(loss(logits[..., 0, 0], target[:, 0, 0]))  # no pixels: cases


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_on_an_accelerator_are_not_looked_at(loss):
    with torch.device("meta"):
        logits, y = torch.zeros(2, 4, 3, 3), torch.zeros(2, 3, 3, dtype=torch.int32)
    assert loss(logits, y).shape == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_computed_in_fp32(loss, dtype):
    logits = (9 * drawn(1, 4, 512, 512)).to(dtype)
    y = logits.argmax(1).roll(3, 1)
    found = loss(logits, y)
    assert found.dtype == torch.float32 and found == loss(logits.float(), y)
    assert found.isfinite()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("channel", [0, 2])
def test_a_logit_that_is_nan_is_seen_in_the_loss(loss, channel, target):
    logits = drawn(2, 4, 12, 14)
    logits[1, channel, 3, 3] = math.nan
    assert loss(logits, target).isnan()


@pytest.mark.parametrize("what", [math.nan, math.inf])
def test_a_logit_that_is_nan_is_not_scored(what, target):
    logits = drawn(2, 4, 12, 14)
    logits[1, 2, 3, 3] = what
    with pytest.raises(ValueError, match="1 of 336 cases are NaN"):
        losses.mean_dice(logits, target)
    logits[1, 2, 3, 3] = -math.inf  # the logarithm of a chance of nought
    assert losses.mean_dice(logits, target) > 0


def test_what_a_class_that_nobody_has_costs():
    y = torch.zeros(1, 4, 4, dtype=torch.long)
    y[0, 0, 0] = 1
    logits = 200 * sure(y, 3)  # so sure that other chances are 0: class 2 is nowhere
    logits.requires_grad_()
    assert losses.soft_dice(logits, y) == losses.tversky(logits, y) == 0
    assert losses.focal(logits, y) == 0
    assert losses.vnet_dice(logits, y) == 0.5  # the mean of 0 and 1
    losses.vnet_dice(logits, y).backward()
    assert (logits.grad == 0).all()
    wrong = 200 * sure(0 * y, 3)
    assert losses.vnet_dice(wrong, y) == 1
    wrong[0, :2, 0, 0] = 0  # p = ½ on the only pixel: 2 · ½ / (¼ + 1)
    assert losses.vnet_dice(wrong[:, :2], y).item() == pytest.approx(0.2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_gradient_where_all_is_right(gamma, target):
    logits = (5 * sure(target)).requires_grad_()
    losses.focal(logits, target, gamma=gamma).backward()
    assert (logits.grad == 0).all()


def test_focal_weighs_two_unless_told(target):
    logits = drawn(2, 4, 12, 14)
    assert losses.focal(logits, target) == losses.focal(logits, target, gamma=2)


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(4, 4, dtype=torch.long),
        torch.zeros(1, 1, 4, 4, dtype=torch.long),
        torch.zeros(1, 4, 4),
        torch.full((1, 4, 4), -1),
    ],
)
def test_border_weight_wants_numbers_of_objects(bad):
    with pytest.raises(ValueError, match=r"target \(.*expected \(B, H, W\)"):
        losses.border_weight(bad)


@pytest.mark.parametrize("sigma", [0, -1, math.nan])
def test_border_weight_wants_a_positive_sigma(sigma):
    with pytest.raises(ValueError, match="sigma=.*expected"):
        losses.border_weight(torch.zeros(1, 4, 4, dtype=torch.long), sigma=sigma)


def test_border_weight_of_three_objects_by_hand():
    row = torch.tensor([1, 0, 0, 2, 0, 255, 0], dtype=torch.uint8)
    w = losses.border_weight(row.expand(2, 1, 7), w0=4, sigma=2)
    # to the two nearest objects: 1 + 2, 2 + 1, 1 + 1, and at the end 1 + 3 pixels
    near = torch.tensor([3.0, 3, 2, 4])
    expected = torch.ones(7)
    expected[[1, 2, 4, 6]] += 4 * torch.exp(-(near**2) / 8)
    torch.testing.assert_close(w, expected.expand(2, 1, 7))
    narrow = losses.border_weight(row.expand(1, 1, 7), sigma=1)
    assert narrow[0, 0, 4].item() == pytest.approx(1 + 10 * math.exp(-2))

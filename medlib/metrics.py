"""Metrics of classification and of segmentation.

Classification: from logits (B, num_classes), or one score a case (B,), which stands for
the logits 0 and score of two classes, and whole-numbered labels (B,). Each takes
`weight` too: (R, B), how often each case counts in each of R draws; then it gives (R,)
values. That is how medlib.stats resamples the cases without computing everything anew
for each draw.

Segmentation: from two masks of one shape, (H, W) or (D, H, W), each 0 outside and one
other value inside. `spacing` is in mm, one number an axis, by default 1. Where both
masks are empty there is nothing to measure: NaN. Where one is, overlaps are 0 and
distances infinite.

Other shapes, foreign labels and NaN raise ValueError.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt, find_objects
from torch import Tensor

Array = ArrayLike | Tensor  # of numbers, on whatever device
Score = Any  # a float; with weights a tensor (R,)


def accuracy(logits: Array, target: Array, weight: Array | None = None) -> Score:
    """Share of cases whose largest logit is the label's."""
    logits, target, weights = _cases(logits, target, weight)
    right = (logits.argmax(1) == target).double()
    return _score(weights @ right / weights.sum(1), weight)


def auc(logits: Array, target: Array, weight: Array | None = None) -> Score:
    """Area under the ROC curve: the chance that a random positive scores above a random
    negative.

    Ties count one half (Mann-Whitney). Two classes: class 1 is the positive one. More:
    the mean over classes of one against the rest. NaN where `target` lacks a class,
    since there is nothing to rank.
    """
    logits, target, weights = _cases(logits, target, weight)
    if logits.shape[1] == 2:
        # the difference of logits: softmax would round sure scores to ties
        area = _rank_auc(logits[:, 1] - logits[:, 0], target == 1, weights)
        return _score(area, weight)
    areas = [
        _rank_auc(scores, target == c, weights)
        for c, scores in enumerate(logits.softmax(1).T)
    ]
    return _score(torch.stack(areas).mean(0), weight)


def calibration_error(
    logits: Array, target: Array, weight: Array | None = None, *, bins: int = 15
) -> Score:
    """Expected calibration error: how far confidence lies from accuracy, |difference|
    averaged over cases.

    Cases are sorted into `bins` of equal width by their confidence, the largest softmax
    value; in each bin the mean confidence is held against the share of correct answers
    (Guo et al. 2017, Eq. 3). A bin is open on the left. 0 is best.
    """
    if not bins >= 1 or bins % 1:
        raise ValueError(f"bins={bins}; expected a whole number of at least 1")
    logits, target, weights = _cases(logits, target, weight)
    confidence, predicted = logits.softmax(1).max(1)
    correct = (predicted == target).double()
    which = (confidence * bins).ceil().long() - 1
    gap = F.one_hot(which) * (confidence - correct)[:, None]
    return _score((weights @ gap).abs().sum(1) / weights.sum(1), weight)


def expect_finite(logits: Tensor) -> None:
    """Raise ValueError where the largest logit of a case, or pixel, is no number: NaN,
    +∞, or −∞ for every class, axis 1. argmax would take it for an answer.
    """
    lost = ~logits.amax(1).isfinite()
    if lost.any():
        raise ValueError(
            f"logits: {int(lost.sum())} of {lost.numel()} cases are NaN, +∞, or −∞ for "
            "every class; expected finite numbers (has the network diverged?)"
        )


def _cases(
    logits: Array, target: Array, weight: Array | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What every metric starts from, in double: logits (B, C), labels (B,), weights (R,
    B).
    """
    z, y = torch.as_tensor(logits).double(), torch.as_tensor(target).double()
    if z.ndim == 1:
        z = torch.stack([torch.zeros_like(z), z], 1)
    if z.ndim != 2 or z.shape[1] < 2 or not len(z):
        raise ValueError(
            f"logits {tuple(z.shape)}; expected (B, num_classes) with two classes or "
            "more, or (B,): one score a case. A column is logits[:, 0]"
        )
    if y.shape != z.shape[:1]:
        raise ValueError(
            f"target {tuple(y.shape)} for {len(z)} cases; expected ({len(z)},): one "
            "label a case. A column becomes one with target.ravel(), one-hot rows with "
            "target.argmax(1)"
        )
    expect_finite(z)
    y, classes = y.to(z.device), z.shape[1]
    foreign = y[(y < 0) | (y >= classes) | (y % 1 != 0)]
    if len(foreign):
        raise ValueError(
            f"target: label {foreign[0]:g} has no logit; expected 0 to {classes - 1}. "
            "Map it to a class, or leave those cases out"
        )
    if weight is None:
        return z, y, z.new_ones(1, len(z))
    w = torch.as_tensor(weight).to(z)
    if w.shape[1:] != y.shape or not ((w >= 0) & (w < math.inf)).all():
        raise ValueError(
            f"weight {tuple(w.shape)} for {len(z)} cases; expected (R, {len(z)}) of "
            "numbers from 0"
        )
    return z, y, w


def _score(values: Tensor, weight: Array | None) -> Score:
    return values.item() if weight is None else values


def _rank_auc(score: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    values, group = score.unique(return_inverse=True)  # ascending; ties share a group

    def counts(side: Tensor) -> Tensor:
        found = weights.new_zeros(len(weights), len(values))
        return found.index_add_(1, group, weights * side)

    above, below = counts(positive), counts(~positive)
    # negatives under each score, and half of those level with it
    beaten = below.cumsum(1) - below / 2
    return (above * beaten).sum(1) / (above.sum(1) * below.sum(1))


# ---------------------------------------------------------------- overlap and volume


def dice(a: Array, b: Array) -> float:
    """2 |A ∩ B| / (|A| + |B|), from 0 to 1 (Dice 1945)."""
    one, other, _ = _masks(a, b)
    sizes = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / sizes if sizes else float("nan")


def iou(a: Array, b: Array) -> float:
    """|A ∩ B| / |A ∪ B|, from 0 to 1 (Jaccard 1912); dice = 2 iou / (1 + iou)."""
    one, other, _ = _masks(a, b)
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else float("nan")


def volume_error(a: Array, b: Array, spacing: ArrayLike | None = None) -> float:
    """Volume of A less that of B: in mL for volumes, in mm² for slices."""
    one, other, mm = _masks(a, b, spacing)
    unit = np.prod(mm) / (1000 if one.ndim == 3 else 1)
    return float((np.count_nonzero(one) - np.count_nonzero(other)) * unit)


# ---------------------------------------------------------------- distances


def surface(mask: Array) -> np.ndarray:
    """The voxels of a mask that touch the outside through a face, or lie at the border
    of the image.
    """
    inside = np.pad(_mask(mask), 1)
    middle = (slice(1, -1),) * inside.ndim
    core = inside[middle].copy()
    for axis in range(inside.ndim):
        for side in (slice(None, -2), slice(2, None)):
            core &= inside[middle[:axis] + (side,) + middle[axis + 1 :]]
    return inside[middle] & ~core


def surface_distances(
    a: Array, b: Array, spacing: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """mm from each surface voxel of A to the nearest of B, and from each of B to the
    nearest of A.
    """
    return _both_ways(a, b, spacing, surface)


def hausdorff(
    a: Array, b: Array, spacing: ArrayLike | None = None, *, percentile: float = 100
) -> float:
    """The largest surface distance, in mm; with `percentile` 95, HD95: the larger of
    the two directed percentiles, as MONAI takes it. (Others pool both directions
    first.) 0.95 is no percentile.
    """
    if not 1 <= percentile <= 100:
        raise ValueError(f"percentile={percentile}; expected 1 to 100, such as 95")
    ways = surface_distances(a, b, spacing)
    return _unless_empty(
        ways, lambda: max(float(np.percentile(way, percentile)) for way in ways)
    )


def average_surface_distance(
    a: Array, b: Array, spacing: ArrayLike | None = None
) -> float:
    """ASSD: the mean of all surface distances of both directions together, in mm."""
    ways = surface_distances(a, b, spacing)
    return _unless_empty(ways, lambda: float(np.concatenate(ways).mean()))


def surface_dice(
    a: Array, b: Array, tolerance: float, spacing: ArrayLike | None = None
) -> float:
    """The share of both surfaces that lies within `tolerance` mm of the other one
    (Nikolov et al. 2021), counted in voxels. 0 where one mask is empty.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}; expected mm, 0 or more")
    ways = surface_distances(a, b, spacing)
    if not all(map(len, ways)):
        return 0.0 if any(map(len, ways)) else float("nan")
    # 3 × 0.1 mm are 0.30000000000000004 and yet within 0.3.
    return float((np.concatenate(ways) <= tolerance * (1 + 1e-9)).mean())


def average_hausdorff(a: Array, b: Array, spacing: ArrayLike | None = None) -> float:
    """Eq. (3) of the review as it is meant, in mm: over ALL voxels of A the mean
    distance to B, the same from B to A, and the mean of the two (Dubuisson & Jain 1994,
    with a mean for their maximum).
    """
    ways = _both_ways(a, b, spacing, lambda mask: mask)
    return _unless_empty(ways, lambda: float(np.mean([way.mean() for way in ways])))


def balanced_average_hausdorff(
    a: Array, truth: Array, spacing: ArrayLike | None = None
) -> float:
    """`average_hausdorff` with both sums divided by the voxels of the truth, so that a
    mask cannot win by being larger (Aydin et al. 2021). Not symmetric.
    """
    ways = _both_ways(a, truth, spacing, lambda mask: mask)
    return _unless_empty(
        ways, lambda: float(sum(way.sum() for way in ways) / len(ways[1]) / 2)
    )


def _both_ways(
    a: Array,
    b: Array,
    spacing: ArrayLike | None,
    points: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """mm from each of the `points` of A to the nearest of B, and from B to A."""
    in_a, in_b, mm = _masks(a, b, spacing)
    for box in find_objects((in_a | in_b).astype(np.uint8)):  # none where all is empty
        in_a, in_b = in_a[box], in_b[box]
    at_a, at_b = points(in_a), points(in_b)
    if not (at_a.any() and at_b.any()):
        nowhere = np.full(max(at_a.sum(), at_b.sum()), np.inf)
        return nowhere[: at_a.sum()], nowhere[: at_b.sum()]
    to_a, to_b = (distance_transform_edt(~at, sampling=mm) for at in (at_a, at_b))
    return to_b[at_a], to_a[at_b]


def _unless_empty(ways: tuple[np.ndarray, ...], value: Callable[[], float]) -> float:
    if all(map(len, ways)):
        return value()
    return float("inf") if any(map(len, ways)) else float("nan")


def _masks(
    a: Array, b: Array, spacing: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = _mask(a), _mask(b)
    if one.shape != other.shape:
        raise ValueError(f"masks {one.shape} and {other.shape}; expected one shape")
    mm = np.ones(one.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    if mm.shape != (one.ndim,) or not ((mm > 0) & (mm < np.inf)).all():
        raise ValueError(
            f"spacing {mm.tolist()} of masks {one.shape}; expected a length in mm "
            "above 0 an axis"
        )
    return one, other, mm


def _mask(mask: Array) -> np.ndarray:
    """True inside; refuses what is no mask of one structure."""
    mask = _array(mask)
    if mask.ndim not in (2, 3) or not mask.size:
        raise ValueError(f"mask {mask.shape}; expected (H, W) or (D, H, W)")
    inside = mask == mask.max(initial=0)
    if not ((mask == 0) | inside).all():
        raise ValueError(
            f"a mask of {np.unique(mask)[:9]}; expected 0 outside and one other number "
            "inside, such as mask == 1 of labels and p > 0.5 of probabilities"
        )
    return inside & (mask != 0)


def _array(values: Array) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def consistency(mask: Array) -> float:
    """How well the slices of a stack (D, H, W) of labels go together: the Dice of each
    structure in one slice with the same structure in the next, averaged over all
    neighbours in which it appears. NaN without any.
    """
    mask = _array(mask)
    if mask.ndim != 3 or (mask % 1 != 0).any():
        raise ValueError(
            f"mask {mask.shape} {mask.dtype}; expected (D, H, W) of whole-numbered "
            "labels"
        )
    pairs = [
        (a == k, b == k)
        for k in np.unique(mask)
        if k
        for a, b in itertools.pairwise(mask)
    ]
    overlaps = [dice(a, b) for a, b in pairs if a.any() or b.any()]
    return float(np.mean(overlaps)) if overlaps else float("nan")

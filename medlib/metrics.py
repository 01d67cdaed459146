"""Metrics of classification and of segmentation.

Classification: from logits (B, num_classes) and integer labels (B,). Each takes
`weight` too: (R, B), how often each case counts in each of R draws; then it gives (R,)
values. That is how medlib.stats resamples the cases without computing everything anew
for each draw.

Segmentation: from two masks of one shape, (H, W) or (D, H, W), anything that is true
inside. `spacing` is in mm, one number an axis, by default 1. Where both masks are empty
there is nothing to measure: NaN. Where one is, overlaps are 0 and distances infinite.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt, find_objects
from torch import Tensor

Array = ArrayLike | Tensor  # of numbers, on whatever device
Score = Any  # a float; with weights a tensor (R,)


def accuracy(logits: Array, target: Array, weight: Array | None = None) -> Score:
    """Share of images whose largest logit is the label's. One score a case, (B,): its
    sign decides.
    """
    logits, target = torch.as_tensor(logits), torch.as_tensor(target)
    predicted = (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)
    return _mean((predicted == target).double(), weight)


def auc(logits: Array, target: Array, weight: Array | None = None) -> Score:
    """Area under the ROC curve: the chance that a random positive scores above a random
    negative.

    Ties count one half (Mann-Whitney). Two classes: class 1 is the positive one. More:
    the mean over classes of one against the rest. One score a case, (B,), may stand for
    the logits of two classes. NaN where `target` lacks a class, since there is nothing
    to rank.
    """
    logits, target = torch.as_tensor(logits), torch.as_tensor(target)
    if logits.ndim == 1:
        return _rank_auc(logits.double(), target == 1, weight)
    if (
        logits.shape[1] == 2
    ):  # the difference of logits: softmax would round sure scores to ties
        return _rank_auc((logits[:, 1] - logits[:, 0]).double(), target == 1, weight)
    scores = logits.double().softmax(1)
    areas = [
        _rank_auc(scores[:, c], target == c, weight) for c in range(logits.shape[1])
    ]
    return sum(areas) / len(areas)


def calibration_error(
    logits: Array, target: Array, weight: Array | None = None, *, bins: int = 15
) -> Score:
    """Expected calibration error: how far confidence lies from accuracy, |difference|
    averaged over cases.

    Cases are sorted into `bins` of equal width by their confidence, the largest softmax
    value; in each bin the mean confidence is held against the share of correct answers
    (Guo et al. 2017, Eq. 3). 0 is best.
    """
    confidence, predicted = torch.as_tensor(logits).double().softmax(1).max(1)
    correct = (predicted == torch.as_tensor(target)).double()
    which = (confidence * bins).ceil().long().clamp(
        1, bins
    ) - 1  # bins are open on the left
    gap = torch.zeros(len(which), bins, dtype=torch.double, device=which.device)
    gap[torch.arange(len(which)), which] = confidence - correct
    if weight is None:
        return (gap.sum(0).abs().sum() / len(gap)).item()
    weight = torch.as_tensor(weight).double()
    return (weight @ gap).abs().sum(1) / weight.sum(1)


def _mean(values: Tensor, weight: Array | None) -> Score:
    if weight is None:
        return values.mean().item()
    weight = torch.as_tensor(weight).double()
    return weight @ values / weight.sum(1)


def _rank_auc(score: Tensor, positive: Tensor, weight: Array | None) -> Score:
    one = weight is None
    weight = (
        torch.ones(1, len(score), device=score.device)
        if one
        else torch.as_tensor(weight)
    )
    values, group = score.unique(return_inverse=True)  # ascending; ties share a group

    def counts(side: Tensor) -> Tensor:
        found = torch.zeros(
            len(weight), len(values), dtype=torch.double, device=score.device
        )
        return found.index_add_(1, group, weight.double() * side)

    above, below = counts(positive), counts(~positive)
    beaten = (
        below.cumsum(1) - below / 2
    )  # negatives under each score, and half of those level with it
    area = (above * beaten).sum(1) / (above.sum(1) * below.sum(1))
    return area.item() if one else area


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


def surface(mask: ArrayLike) -> np.ndarray:
    """The voxels of a mask that touch the outside through a face, or lie at the border
    of the image.
    """
    inside = np.pad(np.asarray(mask, dtype=bool), 1)
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
    first.)
    """
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
    ways = surface_distances(a, b, spacing)
    if not all(map(len, ways)):
        return 0.0 if any(map(len, ways)) else float("nan")
    return float((np.concatenate(ways) <= tolerance).mean())


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
    one, other = (
        np.asarray(m.detach().cpu() if isinstance(m, Tensor) else m, dtype=np.bool_)
        for m in (a, b)
    )
    mm = np.ones(one.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    if one.shape != other.shape or mm.shape != (one.ndim,) or not (mm > 0).all():
        raise ValueError(
            f"masks {one.shape} and {other.shape}, spacing {mm.tolist()}; expected one "
            "shape, and a length in mm above 0 an axis"
        )
    return one, other, mm


def consistency(mask: ArrayLike) -> float:
    """How well the slices of a stack (D, H, W) of labels go together: the Dice of each
    structure in one slice with the same structure in the next, averaged over all
    neighbours in which it appears. NaN without any.
    """
    mask = np.asarray(mask)
    pairs = [
        (a == k, b == k)
        for k in np.unique(mask)
        if k
        for a, b in itertools.pairwise(mask)
    ]
    overlaps = [dice(a, b) for a, b in pairs if a.any() or b.any()]
    return float(np.mean(overlaps)) if overlaps else float("nan")

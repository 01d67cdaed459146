"""Metrics of classification and of segmentation.

Classification: from logits (B, num_classes) and integer labels (B,). Each takes
`weight` too: (R, B), how often each case counts in each of R draws; then it gives (R,)
values. That is how medlib.stats resamples the cases without computing everything anew
for each draw.

Segmentation: from two masks of one shape, (H, W) or (D, H, W), anything that is true
inside. `spacing` is in mm, one number an axis, by default 1. Where both masks are empty
there is nothing to measure: NaN. Where one is, overlaps are 0 and distances infinite.
"""

import functools
import itertools

import numpy as np
import torch
from torch import Tensor


def accuracy(logits: Tensor, target: Tensor, weight: Tensor | None = None):
    """Share of images whose largest logit is the label's. One score a case, (B,): its
    sign decides.
    """
    logits, target = torch.as_tensor(logits), torch.as_tensor(target)
    predicted = (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)
    return _mean((predicted == target).double(), weight)


def auc(logits: Tensor, target: Tensor, weight: Tensor | None = None):
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
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, bins: int = 15
):
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


def _mean(values: Tensor, weight: Tensor | None):
    if weight is None:
        return values.mean().item()
    weight = torch.as_tensor(weight).double()
    return weight @ values / weight.sum(1)


def _rank_auc(score: Tensor, positive: Tensor, weight: Tensor | None):
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


# ---------------------------------------------------------------- segmentation: overlap
# and volume


def dice(a, b) -> float:
    """2 |A ∩ B| / (|A| + |B|), from 0 to 1 (Dice 1945)."""
    a, b, _ = _masks(a, b)
    sizes = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / sizes if sizes else float("nan")


def iou(a, b) -> float:
    """|A ∩ B| / |A ∪ B|, from 0 to 1 (Jaccard 1912); dice = 2 iou / (1 + iou)."""
    a, b, _ = _masks(a, b)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else float("nan")


def volume_error(a, b, spacing=None) -> float:
    """Volume of A less that of B: in mL for volumes, in mm² for slices."""
    a, b, mm = _masks(a, b, spacing)
    unit = np.prod(mm) / (1000 if a.ndim == 3 else 1)
    return float((np.count_nonzero(a) - np.count_nonzero(b)) * unit)


# ---------------------------------------------------------------- segmentation:
# distances


def surface(mask) -> np.ndarray:
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


def surface_distances(a, b, spacing=None) -> tuple[np.ndarray, np.ndarray]:
    """mm from each surface voxel of A to the nearest of B, and from each of B to the
    nearest of A.
    """
    return _both_ways(a, b, spacing, surface)


def hausdorff(a, b, spacing=None, *, percentile: float = 100) -> float:
    """The largest surface distance, in mm; with `percentile` 95, HD95: the larger of
    the two directed percentiles, as MONAI takes it. (Others pool both directions
    first.)
    """
    ways = surface_distances(a, b, spacing)
    return _unless_empty(
        ways, lambda: max(float(np.percentile(way, percentile)) for way in ways)
    )


def average_surface_distance(a, b, spacing=None) -> float:
    """ASSD: the mean of all surface distances of both directions together, in mm."""
    ways = surface_distances(a, b, spacing)
    return _unless_empty(ways, lambda: float(np.concatenate(ways).mean()))


def surface_dice(a, b, tolerance: float, spacing=None) -> float:
    """The share of both surfaces that lies within `tolerance` mm of the other one
    (Nikolov et al. 2021), counted in voxels. 0 where one mask is empty.
    """
    ways = surface_distances(a, b, spacing)
    if not all(map(len, ways)):
        return 0.0 if any(map(len, ways)) else float("nan")
    return float((np.concatenate(ways) <= tolerance).mean())


def average_hausdorff(a, b, spacing=None) -> float:
    """Eq. (3) of the review as it is meant, in mm: over ALL voxels of A the mean
    distance to B, the same from B to A, and the mean of the two (Dubuisson & Jain 1994,
    with a mean for their maximum).
    """
    ways = _both_ways(a, b, spacing, lambda mask: mask)
    return _unless_empty(ways, lambda: float(np.mean([way.mean() for way in ways])))


def balanced_average_hausdorff(a, truth, spacing=None) -> float:
    """`average_hausdorff` with both sums divided by the voxels of the truth, so that a
    mask cannot win by being larger (Aydin et al. 2021). Not symmetric.
    """
    ways = _both_ways(a, truth, spacing, lambda mask: mask)
    return _unless_empty(
        ways, lambda: float(sum(way.sum() for way in ways) / len(ways[1]) / 2)
    )


def _both_ways(a, b, spacing, points) -> tuple[np.ndarray, np.ndarray]:
    a, b, mm = _masks(a, b, spacing)
    box = _box(a | b)
    a, b = points(a[box]), points(b[box])
    if not (a.any() and b.any()):
        return tuple(np.full(np.count_nonzero(m), np.inf) for m in (a, b))
    return _nearest(a, b, mm), _nearest(b, a, mm)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the mask."""
    box = ()
    for axis in range(mask.ndim):
        filled = np.flatnonzero(
            mask.any(tuple(k for k in range(mask.ndim) if k != axis))
        )
        box += (slice(filled[0], filled[-1] + 1) if len(filled) else slice(0),)
        mask = mask[(slice(None),) * axis + box[-1:]]
    return box


def _nearest(a: np.ndarray, b: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """mm from each voxel of `a` to the nearest of `b`, exactly. Most are close: so look
    at their surroundings first, at the nearest place, the second nearest, …, and ask a
    k-d tree for those whose neighbour lies further.
    """
    steps, lengths = _surroundings(tuple(mm))
    reach = np.abs(steps).max(0)
    padded = np.pad(b, [(r, r) for r in reach])
    strides = np.cumprod([1, *padded.shape[:0:-1]])[::-1]
    inside = np.zeros_like(padded)
    inside[tuple(slice(r, r + n) for r, n in zip(reach, a.shape, strict=True))] = a
    found, places = padded.ravel(), np.flatnonzero(inside)
    far, left = np.zeros(len(places)), np.arange(len(places))
    for step, length in zip(steps @ strides, lengths, strict=True):
        hit = found[places + step]
        far[left[hit]] = length
        left, places = left[~hit], places[~hit]
        if not len(left):
            return far
    from scipy.spatial import cKDTree

    tree = cKDTree(np.argwhere(b) * mm, balanced_tree=False)
    far[left] = tree.query(
        (np.stack(np.unravel_index(places, padded.shape), 1) - reach) * mm
    )[0]
    return far


@functools.cache
def _surroundings(mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The 128 shortest steps on the grid, fewer where those are longer than six times
    the smallest spacing, and their lengths in mm.
    """
    far = 6 * min(mm)
    reach = [np.arange(-int(far / length), int(far / length) + 1) for length in mm]
    steps = np.stack(np.meshgrid(*reach, indexing="ij"), -1).reshape(-1, len(mm))
    lengths = np.sqrt(((steps * mm) ** 2).sum(1))
    order = lengths.argsort(kind="stable")[: min(128, np.count_nonzero(lengths <= far))]
    return steps[order], lengths[order]


def _unless_empty(ways, value) -> float:
    if all(map(len, ways)):
        return value()
    return float("inf") if any(map(len, ways)) else float("nan")


def _masks(a, b, spacing=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = (
        np.asarray(m.detach().cpu() if hasattr(m, "detach") else m, dtype=bool)
        for m in (a, b)
    )
    mm = np.ones(a.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    if a.shape != b.shape or mm.shape != (a.ndim,) or not (mm > 0).all():
        raise ValueError(
            f"masks {a.shape} and {b.shape}, spacing {spacing}; the rule: one shape, "
            "and a length in mm above 0 an axis"
        )
    return a, b, mm


def consistency(mask) -> float:
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

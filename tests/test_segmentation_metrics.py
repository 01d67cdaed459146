"""Segmentation metrics, on masks whose distances are worked out by hand, and beside
other libraries.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from medlib import metrics

DISTANCES = [
    metrics.hausdorff,
    metrics.average_surface_distance,
    metrics.average_hausdorff,
    metrics.balanced_average_hausdorff,
]


def square(size: int, top: int, left: int, canvas: int = 12) -> np.ndarray:
    mask = np.zeros((canvas, canvas), dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def blobs(seed: int, shape=(6, 14, 15)) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    return tuple(gaussian_filter(rng.random(shape), 1.5) > 0.5 for _ in range(2))


def brute(a, b, spacing) -> np.ndarray:
    """Distances of all points of A to the nearest of B, pair by pair."""
    return cdist(*(np.argwhere(m) * spacing for m in (a, b))).min(1)


def test_a_square_moved_by_one_pixel():
    a, b = square(3, 2, 2), square(3, 2, 3)
    assert metrics.dice(a, b) == pytest.approx(2 * 6 / 18)
    assert metrics.iou(a, b) == pytest.approx(6 / 12)
    # Each ring has 8 pixels; the moved ring leaves 3 pixels of its first column behind
    # and enters the core with one: those 4 are one pixel from the other ring, which is
    # 2 mm along this axis.
    assert metrics.hausdorff(a, b, (1, 2)) == 2
    assert metrics.average_surface_distance(a, b, (1, 2)) == pytest.approx(
        np.concatenate(metrics.surface_distances(a, b, (1, 2))).mean()
    )
    assert metrics.average_hausdorff(a, b, (1, 2)) == pytest.approx(3 * 2 / 9)


@pytest.mark.parametrize("mm", [0.1, 0.7, 1.37, 1.5625])
def test_a_distance_of_just_the_tolerance_is_within_it(mm):
    a, b = np.zeros((2, 12, 12), bool)
    for k in range(1, 8):
        a[2], b[:] = True, False
        b[2 + k] = True
        assert metrics.surface_dice(a, b, k * mm, (mm, 1)) == 1
        assert metrics.surface_dice(a, b, k * mm - 0.01, (mm, 1)) == 0


def test_one_stray_voxel_moves_the_maximum_only():
    a = square(5, 3, 3)
    b = a.copy()
    b[0, 11] = True
    far = np.hypot(3, 4)  # from (0, 11) to (3, 7)
    assert metrics.hausdorff(a, b) == pytest.approx(far)
    assert metrics.hausdorff(a, b, percentile=90) == 0
    assert metrics.average_surface_distance(a, b) == pytest.approx(far / 33)


def test_surface_of_a_square_is_its_ring_and_the_image_border_counts():
    assert metrics.surface(square(4, 2, 2)).sum() == 12
    assert metrics.surface(np.ones((3, 3))).sum() == 8


def test_surface_dice_counts_the_share_within_the_tolerance():
    a, b = square(3, 2, 2), square(3, 2, 5)
    assert metrics.surface_dice(a, b, 0.5) == 0
    assert metrics.surface_dice(a, b, 3) == 1
    assert metrics.surface_dice(a, b, 1.5, (1, 0.5)) == 1


def test_volume_error_in_ml_and_mm2():
    assert metrics.volume_error(square(4, 0, 0), square(3, 0, 0), (2, 0.5)) == 7
    a, b = np.ones((2, 10, 10)), np.zeros((2, 10, 10))
    assert metrics.volume_error(a, b, (10, 1, 1)) == pytest.approx(2)


def test_empty_masks():
    none, some = np.zeros((5, 5)), np.eye(5)
    for metric in (metrics.dice, metrics.iou, *DISTANCES):
        assert np.isnan(metric(none, none))
    assert metrics.dice(none, some) == metrics.iou(some, none) == 0
    assert all(
        metric(*pair) == np.inf
        for metric in DISTANCES
        for pair in ((none, some), (some, none))
    )
    assert metrics.surface_dice(none, some, 3) == 0 and np.isnan(
        metrics.surface_dice(none, none, 3)
    )


def test_bad_arguments_say_what_is_needed():
    with pytest.raises(ValueError, match="one shape"):
        metrics.dice(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="an axis"):
        metrics.hausdorff(np.ones((2, 2)), np.ones((2, 2)), (1, 1, 1))


@pytest.mark.parametrize("seed", range(3))
def test_properties_on_random_masks(seed):
    a, b = blobs(seed)
    j = metrics.iou(a, b)
    assert metrics.dice(a, b) == pytest.approx(2 * j / (1 + j))
    assert metrics.dice(torch.tensor(a), torch.tensor(b)) == metrics.dice(b, a)
    for metric in DISTANCES[:3]:
        assert metric(a, b, (5, 1, 2)) == pytest.approx(metric(b, a, (5, 1, 2)))
        assert metric(a, a) == 0


@pytest.mark.parametrize(
    ("seed", "spacing"), list(itertools.product(range(2), [(1, 1, 1), (4, 1.5, 0.7)]))
)
def test_equals_brute_force(seed, spacing):
    a, b = blobs(seed)
    ways = brute(a, b, spacing), brute(b, a, spacing)
    assert metrics.average_hausdorff(a, b, spacing) == pytest.approx(
        np.mean([w.mean() for w in ways])
    )
    assert metrics.balanced_average_hausdorff(a, b, spacing) == pytest.approx(
        sum(w.sum() for w in ways) / b.sum() / 2
    )
    edges = metrics.surface(a), metrics.surface(b)
    found = metrics.surface_distances(a, b, spacing)
    assert np.allclose(found[0], brute(*edges, spacing)) and np.allclose(
        found[1], brute(*edges[::-1], spacing)
    )


@pytest.mark.filterwarnings(
    "ignore:.*always_return_as_numpy:FutureWarning"
)  # MONAI's own affair
@pytest.mark.parametrize("seed", range(2))
def test_equals_monai(seed):
    from monai import metrics as monai

    a, b = blobs(seed)
    one_hot = [torch.tensor(m)[None, None] for m in (a, b)]
    options = {"include_background": True, "spacing": [4.0, 1.5, 0.7]}
    spacing = options["spacing"]
    for percentile in (95, 100):
        theirs = monai.compute_hausdorff_distance(
            *one_hot, percentile=percentile, **options
        ).item()
        assert metrics.hausdorff(a, b, spacing, percentile=percentile) == pytest.approx(
            theirs, rel=1e-5
        )
    theirs = monai.compute_average_surface_distance(
        *one_hot, symmetric=True, **options
    ).item()
    assert metrics.average_surface_distance(a, b, spacing) == pytest.approx(
        theirs, rel=1e-5
    )
    theirs = monai.compute_surface_dice(
        *one_hot, class_thresholds=[1.5], **options
    ).item()
    assert metrics.surface_dice(a, b, 1.5, spacing) == pytest.approx(theirs, rel=1e-5)
    assert metrics.dice(a, b) == pytest.approx(monai.compute_dice(*one_hot).item())


def test_far_apart_the_distances_are_those_of_brute_force_too():
    a, b = square(4, 1, 1, canvas=40), square(3, 35, 30, canvas=40)
    edges = metrics.surface(a), metrics.surface(b)
    for one, other, way in zip(
        edges, edges[::-1], metrics.surface_distances(a, b, (1, 2)), strict=True
    ):
        assert np.allclose(way, brute(one, other, (1, 2)))


@pytest.mark.filterwarnings(
    "ignore:.*scipy.ndimage:DeprecationWarning"
)  # the package's own affair
def test_equals_the_surface_distance_package_where_it_measures_the_same():
    import surface_distance as pieces

    a = np.zeros((12, 14, 14), dtype=bool)
    a[3:8, 4:9, 3:8] = True
    b = np.roll(a, 3, axis=2)
    distances = pieces.compute_surface_distances(a, b, (4, 1.5, 0.7))
    assert metrics.hausdorff(a, b, (4, 1.5, 0.7)) == pieces.compute_robust_hausdorff(
        distances, 100
    )
    assert metrics.dice(a, b) == pieces.compute_dice_coefficient(a, b)
    # Elsewhere its surface is made of areas between voxels, ours of voxels, and the
    # means differ.
    theirs = pieces.compute_average_surface_distance(distances)[0]
    assert metrics.average_surface_distance(a, b, (4, 1.5, 0.7)) != pytest.approx(
        theirs, rel=0.05
    )


def test_scikit_image_takes_all_points_so_it_differs_inside():
    from skimage.metrics import hausdorff_distance

    full, hollow = square(7, 2, 2), metrics.surface(square(7, 2, 2))
    assert hausdorff_distance(
        metrics.surface(full), metrics.surface(hollow)
    ) == metrics.hausdorff(full, hollow)
    assert metrics.hausdorff(full, hollow) < hausdorff_distance(full, hollow) == 3


def test_consistency_of_neighbouring_slices():
    mask = np.zeros((3, 4, 4), int)
    mask[:, :2, :2] = 1
    assert metrics.consistency(mask) == 1
    mask[1] = mask[1].T[::-1]  # the middle slice in another corner
    assert metrics.consistency(mask) == 0
    mask[1:, 3, 3] = (
        2  # a second structure, in two slices: pairs (none, some) and (some, the same)
    )
    assert metrics.consistency(mask) == pytest.approx((0 + 0 + 0 + 1) / 4)
    assert np.isnan(metrics.consistency(0 * mask))

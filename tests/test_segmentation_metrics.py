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


@pytest.mark.parametrize("mm", [0.1, 0.2, 0.35, 1.1, 1.37])
@pytest.mark.parametrize("k", range(1, 8))
def test_a_tolerance_written_as_a_decimal_number_is_reached(mm, k):
    """3 × 0.1 is more than 0.3 in a computer, and not on paper."""
    a, b = np.zeros((2, 12, 3), bool)
    a[2], b[2 + k] = True, True
    assert metrics.surface_dice(a, b, round(k * mm, 6), (mm, 1)) == 1
    assert metrics.surface_dice(a, b, round(k * mm, 6) - 1e-5, (mm, 1)) == 0


def test_a_tolerance_of_nothing_and_of_everything():
    a, b = square(3, 2, 2), square(3, 2, 3)
    assert metrics.surface_dice(a, a, 0) == metrics.surface_dice(a, b, np.inf) == 1
    assert metrics.surface_dice(a, 0 * b, np.inf) == 0


TWO = [metrics.dice, metrics.iou, metrics.volume_error, *DISTANCES]
TWO += [lambda a, b, mm=None: metrics.surface_dice(a, b, 1, mm)]


@pytest.mark.parametrize("metric", TWO)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.ones(()), r"mask \(\); expected \(H, W\) or \(D, H, W\)"),
        (np.ones(4), r"mask \(4,\)"),
        (np.ones((0, 4)), r"mask \(0, 4\)"),
        (np.ones((1, 1, 4, 4)), r"mask \(1, 1, 4, 4\)"),
        (np.arange(16).reshape(4, 4) % 3, r"mask of \[0 1 2\].*expected 0 outside"),
        (np.where(np.eye(4) > 0, 2, 1), r"mask of \[1 2\]"),
        (np.arange(16).reshape(4, 4) / 16, "p > 0.5 of probabilities"),
        (np.full((4, 4), np.nan), "nan"),
        (np.where(np.eye(4) > 0, np.nan, 1), "nan"),
        (np.where(np.eye(4) > 0, np.nan, 0), "nan"),
        (-np.eye(4), r"mask of \[-1."),
        (-np.ones((4, 4)), r"mask of \[-1."),
    ],
)
def test_what_is_no_mask_of_one_structure_is_refused(metric, bad, words):
    good = np.ones_like(bad)
    for pair in ((bad, good), (good, bad), (torch.tensor(bad), torch.tensor(good))):
        with pytest.raises(ValueError, match=words):
            metric(*pair)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, bool])
def test_masks_are_what_is_not_zero_in_any_type(kind):
    a, b = square(5, 3, 3), square(5, 4, 3)
    for metric in TWO:
        given = metric(255 * a.astype(kind), torch.tensor(b).to(torch.uint8))
        assert given == metric(a, b)
    assert np.array_equal(metrics.surface(torch.tensor(a)), metrics.surface(a))
    graded = torch.tensor(a, dtype=torch.float32, requires_grad=True)
    assert metrics.dice(graded, a) == 1


def test_large_masks_do_not_overflow():
    a = np.ones((20, 200, 200), np.uint8)
    assert metrics.dice(a, a) == metrics.iou(a, a) == 1
    assert metrics.volume_error(a, 0 * a) == 800


@pytest.mark.parametrize("metric", [metrics.volume_error, *DISTANCES, TWO[-1]])
@pytest.mark.parametrize(
    "spacing",
    [1.5, (1,), (1, 1, 1), (1, 0), (1, -1), (1, np.nan), (np.inf, 1), (1, None)],
)
def test_a_spacing_that_is_none_is_refused(metric, spacing):
    with pytest.raises(ValueError, match=r"spacing.*\(4, 4\).*above 0 an axis"):
        metric(np.eye(4), np.eye(4), spacing)


def test_distances_and_volumes_are_in_pixels_unless_told():
    a, b = square(3, 2, 2), square(3, 2, 4)
    for metric in (metrics.volume_error, *DISTANCES, TWO[-1]):
        assert metric(a, b) == metric(a, b, (1, 1)) == metric(a, b, np.ones(2))


@pytest.mark.parametrize("percentile", [0, 0.95, -5, 100.5, np.nan])
def test_a_percentile_is_between_one_and_a_hundred(percentile):
    with pytest.raises(ValueError, match="percentile=.*such as 95"):
        metrics.hausdorff(np.eye(4), np.eye(4), percentile=percentile)


def test_the_first_percentile_is_nearly_the_least_distance():
    a, b = np.zeros((2, 3, 103), bool)
    a[1, 1:102], b[1, 1:102] = True, True
    b[1, 2:102] = False  # one point of B: 0 to 100 pixels from those of A
    assert metrics.hausdorff(a, b, percentile=1) == 1
    assert metrics.hausdorff(a, b) == metrics.hausdorff(a, b, percentile=100) == 100


@pytest.mark.parametrize("tolerance", [-1, -1e-9, np.nan])
def test_a_tolerance_is_not_negative(tolerance):
    for b in (np.eye(4), np.zeros((4, 4))):
        with pytest.raises(ValueError, match="tolerance=.*expected mm"):
            metrics.surface_dice(np.eye(4), b, tolerance)


def test_balanced_ahd_divides_both_ways_by_the_truth():
    a, b = np.zeros((2, 1, 9), bool)
    a[0, :4], b[0, 2:4] = True, True  # from A 2 + 1, from B nothing
    assert metrics.balanced_average_hausdorff(a, b) == 3 / 2 / 2
    assert metrics.balanced_average_hausdorff(b, a) == 3 / 4 / 2
    assert metrics.average_hausdorff(a, b) == 3 / 4 / 2


def test_distances_are_sought_in_the_box_around_both_masks(monkeypatch):
    sizes = []

    def counted(mask, sampling):
        sizes.append(mask.shape)
        return metrics_edt(mask, sampling=sampling)

    metrics_edt = metrics.distance_transform_edt
    monkeypatch.setattr(metrics, "distance_transform_edt", counted)
    a, b = square(3, 2, 2, canvas=400), square(3, 2, 5, canvas=400)
    assert metrics.hausdorff(a, b) == 3
    assert sizes == [(3, 6), (3, 6)]


def test_surface_in_three_dimensions():
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    expected = cube.copy()
    expected[2, 2, 2] = False
    assert np.array_equal(metrics.surface(cube), expected)
    with pytest.raises(ValueError, match=r"\(H, W\) or"):
        metrics.surface(np.ones(4))


@pytest.mark.parametrize(
    "bad", [np.ones((4, 4)), np.full((2, 4, 4), 0.5), np.full((2, 4, 4), np.nan)]
)
def test_consistency_wants_a_stack_of_labels(bad):
    with pytest.raises(ValueError, match=r"mask \(.*float64; expected \(D, H, W\)"):
        metrics.consistency(bad)


def test_consistency_of_tensors_of_masks_and_of_one_slice():
    mask = torch.zeros(3, 4, 4, dtype=torch.uint8)
    mask[:2, :2, :2] = 3
    assert metrics.consistency(mask) == metrics.consistency(mask > 0) == 0.5
    assert np.isnan(metrics.consistency(mask[:1]))


def test_from_a_mask_to_an_empty_one_it_is_infinitely_far():
    none, some = np.zeros((5, 5)), np.eye(5)
    there, back = metrics.surface_distances(some, none)
    assert there.tolist() == [np.inf] * 5 and back.tolist() == []
    there, back = metrics.surface_distances(none, some)
    assert there.tolist() == [] and back.tolist() == [np.inf] * 5
    assert [way.tolist() for way in metrics.surface_distances(none, none)] == [[], []]

import math

import numpy as np
import pytest
import torch

from medlib.hearts import function
from medlib.hearts.phantom import GROUPS, phantom

MM = (10.0, 1.5, 1.5)


def ring(
    inner=12.0,
    outer=20.0,
    *,
    shape=(5, 64, 64),
    spacing=MM,
    rv=True,
    centre=(30.3, 31.4),
):
    """A tube: cavity of `inner` mm, wall to `outer` mm, and a square RV beside it."""
    row, column = np.indices(shape[1:])
    r = np.hypot((row - centre[0]) * spacing[1], (column - centre[1]) * spacing[2])
    mask = np.where(r < inner, 3, np.where(r < outer, 2, 0))
    mask[2:10, 2:12] = 1 if rv else 0
    return np.repeat(mask[None], shape[0], 0)


def heart(**options):
    return ring(**options), ring(inner=8, outer=18, **options), MM


@pytest.fixture(scope="module")
def hearts():
    return phantom(10, shape=(10, 128, 128), seed=3)


@pytest.fixture(scope="module")
def measured(hearts):
    return [function.features(m[0], m[1], hearts.spacing) for m in hearts.mask]


def test_a_volume_drawn_by_hand():
    mask = np.zeros((2, 4, 4), int)
    mask[0, :2], mask[1, 0, 0], mask[1, 3, :2] = (
        3,
        1,
        2,
    )  # 8, 1 and 2 voxels of 10 × 2 × 5 mm
    assert function.volumes(mask, (10, 2, 5)) == pytest.approx((0.1, 0.2, 0.8))


def test_ejection_fraction_and_mass():
    assert function.ejection_fraction(120, 48) == pytest.approx(60)
    assert function.ejection_fraction(50, 60) == pytest.approx(-20) and math.isnan(
        function.ejection_fraction(0, 1)
    )
    assert function.mass(100) == pytest.approx(105)


def test_the_phantom_has_its_own_volumes_and_ejection_fractions(hearts, measured):
    for found, mask, volumes, ef in zip(
        measured, hearts.mask, hearts.volumes, hearts.ejection_fraction, strict=True
    ):
        assert function.volumes(mask[0], hearts.spacing) == pytest.approx(
            volumes[0].tolist()
        )
        assert (found["LV EF (%)"], found["RV EF (%)"]) == pytest.approx(
            (100 * ef).tolist(), rel=1e-4
        )
        assert found["LV mass (g)"] == pytest.approx(1.05 * volumes[0, 1].item())


@pytest.mark.parametrize("spacing", [(10, 1.5, 1.5), (8, 1, 2), (5, 2.5, 1.25)])
def test_an_ideal_ring_to_a_pixel(spacing):
    cavity, wall = function.rings(ring(spacing=spacing), spacing)
    assert wall.shape == (5, function.RAYS)
    assert np.abs(cavity - 12).max() <= max(spacing[1:]) and np.abs(
        wall - 8
    ).max() <= max(spacing[1:])
    assert wall.mean() == pytest.approx(8, abs=0.2) and cavity.mean() == pytest.approx(
        12, abs=0.2
    )


def test_thickening_and_shortening_of_two_rings():
    ed, es, mm = heart()  # wall 8 → 10 mm, radius 12 → 8 mm
    found = function.features(ed, es, mm)
    assert found["thickening, mean (%)"] == pytest.approx(25, abs=5)
    assert found["shortening, mean (%)"] == pytest.approx(33, abs=3)
    assert found["shortening, spread (%)"] < 5 and found[
        "thickest/mean wall"
    ] == pytest.approx(1, abs=0.1)


def test_a_still_sector_is_found():
    ed, es, mm = heart()
    es[:, :, 31:] = ed[:, :, 31:]  # one half does not move
    still, moving = function.features(ed, es, mm), function.features(*heart())
    assert (
        still["shortening, weakest tenth (%)"]
        < 8
        < moving["shortening, weakest tenth (%)"]
    )
    assert still["shortening, spread (%)"] > 2 * moving["shortening, spread (%)"]


def test_sectors_are_means_over_60_degrees_that_go_around():
    values = np.zeros((1, function.RAYS))
    values[0, 0] = 12
    assert sorted(function.sectors(values)[0])[-12:] == pytest.approx([1] * 12)
    values[0, 6:] = np.nan
    found = function.sectors(
        values
    )  # six rays are known: no window holds more than half of its twelve
    assert np.isnan(found).all()


def test_scale_free_features_do_not_know_the_spacing():
    ed, es, mm = heart()
    one, other = (function.features(ed, es, s) for s in (mm, (7.0, 3.0, 3.0)))
    for name in one:
        same = one[name] == pytest.approx(other[name], rel=1e-6)
        assert same == function.scale_free(name), name


@pytest.mark.parametrize(
    "turn",
    [
        lambda m: np.rot90(m, 1, (1, 2)),
        lambda m: np.rot90(m, 2, (1, 2)),
        lambda m: m[:, ::-1],
        lambda m: m[::-1],
        lambda m: m.transpose(0, 2, 1),
    ],
)
def test_turning_or_mirroring_changes_nothing(turn, hearts, measured):
    for k in range(5):
        found = function.features(
            *(turn(m.numpy()) for m in hearts.mask[k]), hearts.spacing
        )
        assert found == pytest.approx(measured[k], rel=1e-3, abs=0.1)


def test_every_feature_of_every_group_is_finite(measured):
    assert all(math.isfinite(v) for f in measured for v in f.values())


@pytest.mark.parametrize(
    "name, large, small, factor",
    [
        ("wall, thickest tenth (mm)", "HCM", "NOR", 1.4),
        ("LV EDV (mL)", "DCM", "NOR", 1.5),
        ("LV EF (%)", "NOR", "MINF", 1.2),
        ("LV EF (%)", "MINF", "DCM", 1.1),
        ("RV/LV at ED", "RV", "NOR", 1.3),
        ("RV EF (%)", "NOR", "RV", 1.4),
        ("mass/LV EDV (g/mL)", "HCM", "NOR", 1.5),
        ("shortening, spread (%)", "MINF", "DCM", 2),
    ],
)
def test_the_groups_differ_as_they_should(name, large, small, factor, hearts, measured):
    groups = [GROUPS[k] for k in hearts.group]
    a, b = (
        np.mean([f[name] for f, g in zip(measured, groups, strict=True) if g == k])
        for k in (large, small)
    )
    assert a > factor * b


def test_no_right_ventricle():
    found = function.features(*heart(rv=False))
    assert math.isnan(found["RV EF (%)"]) and math.isnan(found["RV/LV at ES"]) is False
    assert found["RV EDV (mL)"] == found["RV/LV at ED"] == 0 and math.isfinite(
        found["LV EF (%)"]
    )


def test_empty_masks_give_nan_and_no_error():
    ed, _, mm = heart()
    nothing = np.zeros_like(ed)
    found = function.features(nothing, nothing, mm)
    assert (
        found["LV EDV (mL)"] == 0
        and math.isnan(found["LV EF (%)"])
        and math.isnan(found["wall/radius"])
    )
    gone = function.features(ed, nothing, mm)
    assert gone["LV EF (%)"] == 100 and math.isnan(gone["shortening, mean (%)"])
    assert list(found) == list(gone) == list(function.features(ed, ed, mm))


def test_a_single_slice_a_cavity_closed_at_es_and_a_hole():
    ed, es, mm = heart(shape=(1, 64, 64))
    es[es == 3] = 2  # the cavity is gone: all of it wall
    ed[0, 30, 40:] = 0  # the ring is open
    found = function.features(ed, es, mm)
    assert all(math.isfinite(v) for name, v in found.items() if name != "RV/LV at ES")
    assert found["shortening, mean (%)"] == 100


def test_a_stray_island_does_not_thicken_the_wall():
    clean, dirty = ring(), ring()
    dirty[:, 58:62, 20:40] = 2
    dirty[:, :2, 40:60] = 2  # before the heart, in the order of the pixels
    for a, b in zip(function.rings(clean, MM), function.rings(dirty, MM), strict=True):
        assert np.array_equal(a, b)


def test_torch_and_bytes_are_read_alike(hearts):
    mask = hearts.mask[0, 0]
    assert function.volumes(mask, hearts.spacing) == function.volumes(
        mask.numpy().astype(float), hearts.spacing
    )


def test_bland_altman_of_known_differences():
    reference = np.arange(50.0)
    found = function.bland_altman(reference + 2 + np.tile([-1, 1], 25), reference)
    sd = np.tile([-1, 1], 25).std(ddof=1)
    assert found.bias.mean == pytest.approx(2) and found.low.mean == pytest.approx(
        2 - 1.96 * sd
    )
    assert found.high.low < found.high.mean < found.high.high and found.bias.n == 50
    same = function.bland_altman(reference, reference)
    assert same.bias[:4] == same.low[:4] == (0, 0, 0, 50)


def test_the_interval_of_a_limit_covers():
    rng, hit = np.random.default_rng(0), 0
    for _ in range(400):
        limit = function.bland_altman(rng.normal(size=30), np.zeros(30)).high
        hit += limit.low <= 1.96 <= limit.high
    assert 0.91 < hit / 400 < 0.98


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda: function.volumes(None, MM), "no mask.*expected"),
        (lambda: function.volumes(np.zeros((4, 4)), MM), r"\(4, 4\).*\(D, H, W\)"),
        (
            lambda: function.volumes(np.full((1, 4, 4), 4), MM),
            r"labels \[4\].*0 background",
        ),
        (lambda: function.volumes(np.full((1, 4, 4), 0.5), MM), "labels"),
        (lambda: function.volumes(np.zeros((2, 1, 4, 4)), MM), r"mask \(2, 1, 4, 4\)"),
        (lambda: function.volumes(np.zeros((0, 4, 4)), MM), r"mask \(0, 4, 4\)"),
        (lambda: function.volumes(ring() == 3, MM), r"labels \[False  True\]"),
        (lambda: function.volumes(torch.ones(1, 2, 2) > 0, MM), "labels"),
        (lambda: function.volumes(np.full((1, 4, 4), -1), MM), "labels"),
        (lambda: function.volumes(np.full((1, 4, 4), np.nan), MM), "labels"),
        (lambda: function.rings(ring() == 3, MM), "labels"),
        (lambda: function.rings(None, MM), "no mask"),
        (lambda: function.features(ring(), ring() == 3, MM), "labels"),
        *(
            (
                lambda s=s, act=act: act(s),
                "spacing.*three mm above 0, of the slices first",
            )
            for s in (
                None,
                1.5,
                (1.5, 1.5),
                (1, 1, 1, 1),
                (0, 1, 1),
                (1, 1, -1),
                (1, np.nan, 1),
                (1, 1, np.inf),
            )
            for act in (
                lambda s: function.volumes(ring(), s),
                lambda s: function.rings(ring(), s),
                lambda s: function.features(ring(), ring(), s),
            )
        ),
        (lambda: function.sectors(np.zeros(72)), r"values \(72,\); expected \(D, 72\)"),
        (lambda: function.sectors(np.zeros((72, 5))), r"values \(72, 5\)"),
        (
            lambda: function.features(ring(), ring(shape=(4, 64, 64)), MM),
            r"\(5, 64, 64\) at ED and \(4, 64, 64\)",
        ),
        (lambda: function.features(ring(), None, MM), "no mask"),
        (lambda: function.bland_altman([1, 2, 3], [1, 2]), "pairs, three"),
        (lambda: function.bland_altman([1, 2], [1, 2]), "pairs, three"),
        (lambda: function.bland_altman(np.eye(3), np.eye(3)), "pairs, three"),
        (lambda: function.bland_altman([1, 2, np.inf], [1, 2, 3]), "1 differences"),
        (
            lambda: function.bland_altman([1, 2, np.nan], [1, 2, 3]),
            "1 differences are not finite",
        ),
    ],
)
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()


def test_slices_where_the_cavity_nearly_ends_are_left_out():
    """A small, thick ring beyond the apex changes volumes and no thickness."""
    ed, es, mm = heart()
    tip = ring(inner=4, outer=28, shape=(1, 64, 64))
    longer = [np.concatenate((m, tip)) for m in (ed, es)]
    plain, found = function.features(ed, es, mm), function.features(*longer, mm)
    assert found["LV mass (g)"] > plain["LV mass (g)"]
    for name in (
        "wall, mean (mm)",
        "wall, thickest tenth (mm)",
        "shortening, mean (%)",
    ):
        assert found[name] == plain[name]


def test_walls_at_es_count_only_where_there_is_one_at_ed():
    ed, es, mm = heart()
    ed[0][ed[0] == 2] = 0  # no wall drawn in one slice at ED; a very thick one at ES
    es[0] = ring(inner=8, outer=28, shape=(1, 64, 64))[0]
    found = function.features(ed, es, mm)
    assert found["wall spread at ES"] < 0.05


def test_the_interval_of_the_bias_is_students():
    from scipy.stats import ttest_1samp

    a, b = np.random.default_rng(0).normal(size=(2, 5))
    bias = function.bland_altman(a, b).bias
    expected = ttest_1samp(a - b, 0).confidence_interval()
    assert (bias.low, bias.high) == pytest.approx((expected.low, expected.high))
    half = np.array([100.1, 101, 103.3, 108], np.float16)
    expected = function.bland_altman(half.astype(float), [0, 0, 0, 0])
    assert function.bland_altman(half, np.zeros(4, np.float16)) == expected


@pytest.mark.parametrize("corner", [(0, 0), (5, 6), (2, 3)])
@pytest.mark.parametrize("mm", [(10.0, 1.0, 2.0), (10.0, 2.0, 1.0)])
def test_rays_by_hand(corner, mm):
    """One pixel of blood in a wall of 3 × 3, at the borders of the image too. A ray
    leaves a box of ±h × ±w mm at min(h / |sin|, w / |cos|), and samples of an eighth of
    a millimetre are counted up to there.
    """
    mask = np.zeros((2, 8, 9), int)
    row, column = corner
    mask[1, row : row + 3, column : column + 3] = 2
    mask[1, row + 1, column + 1] = 3
    angle = np.radians(2.5 + 5 * np.arange(72))
    half = mm[1] / 2, mm[2] / 2
    out = np.minimum(half[0] / np.abs(np.sin(angle)), half[1] / np.abs(np.cos(angle)))
    cavity, both = (np.floor(8 * t + 0.5) / 8 for t in (out, 3 * out))
    found = function.rings(mask, mm)
    assert np.allclose(found.cavity[1], cavity)
    assert np.allclose(found.wall[1], both - cavity)
    assert np.isnan(found.cavity[0]).all() and np.isnan(found.wall[0]).all()


def test_a_ray_without_a_wall_says_nothing():
    mask = np.zeros((1, 3, 40), int)
    mask[0, 1, 10:20], mask[0, 1, 20:30] = 3, 2  # blood to the left, wall to the right
    cavity, wall = function.rings(mask, (1, 1, 1))
    assert np.array_equal(np.isnan(cavity), np.isnan(wall))
    assert np.isfinite(wall[0, 0]) and np.isnan(wall[0, 36])


def test_sectors_by_hand():
    values = np.full((2, 72), np.nan)
    values[0, 10:18] = np.arange(8)  # eight of 72 are known
    found = function.sectors(values)
    # A window has 12 rays, from six before its middle to five behind it.
    for k in range(72):
        window = [values[0, (k + j) % 72] for j in range(-6, 6)]
        known = [v for v in window if np.isfinite(v)]
        if len(known) > 6:
            assert found[0, k] == pytest.approx(np.mean(known))
        else:
            assert np.isnan(found[0, k])
    assert np.isfinite(found).sum() == 7 and found.shape == (2, 72)


def boxes(*sizes):
    """Slices of blood of `rows` × `columns` pixels in a wall of `thick`, and an RV."""
    mask = np.zeros((len(sizes), 40, 40), int)
    for z, (rows, columns, thick) in enumerate(sizes):
        top, left = 20 - rows // 2, 20 - columns // 2
        mask[
            z, top - thick : top + rows + thick, left - thick : left + columns + thick
        ] = 2
        mask[z, top : top + rows, left : left + columns] = 3
    mask[:, :3, :5] = 1
    return mask


def test_features_are_what_their_names_say():
    # The blood of the third slice is just a quarter of the first's, that of the fourth
    # a little less, and the fifth has none.
    ed = boxes((8, 8, 3), (8, 6, 4), (4, 4, 6), (5, 3, 9), (0, 0, 2))
    es = boxes((6, 5, 4), (8, 6, 4), (2, 2, 7), (1, 1, 2), (0, 0, 2))
    es[:, :3, 3:5], es[1, 20:, 20:] = 0, 0  # a smaller RV, and a torn ring
    mm = (8.0, 1.25, 1.5)
    ml = 8 * 1.25 * 1.5 / 1000

    def count(mask, k):
        return ml * (mask == k).sum()

    def of(mask):
        return [function.sectors(part)[:3] for part in function.rings(mask, mm)]

    (radius, wall), (radius_es, wall_es) = of(ed), of(es)
    assert np.isfinite(wall).all() and np.isnan(wall_es).any()
    thicker = 100 * (wall_es / wall - 1)
    shorter = 100 * (1 - radius_es / radius)
    lv, lv_es, rv, rv_es = (count(m, k) for k in (3, 1) for m in (ed, es))
    mass = 1.05 * count(ed, 2)
    expected = {
        "LV EDV (mL)": lv,
        "LV ESV (mL)": lv_es,
        "RV EDV (mL)": rv,
        "RV ESV (mL)": rv_es,
        "LV mass (g)": mass,
        "wall, mean (mm)": wall.mean(),
        "wall, thickest tenth (mm)": np.percentile(wall, 90),
        "LV EF (%)": 100 * (lv - lv_es) / lv,
        "RV EF (%)": 100 * (rv - rv_es) / rv,
        "RV/LV at ED": rv / lv,
        "RV/LV at ES": rv_es / lv_es,
        "mass/LV EDV (g/mL)": mass / lv,
        "wall/radius": wall.mean() / radius.mean(),
        "thickest/mean wall": np.percentile(wall, 90) / wall.mean(),
        "wall spread at ES": np.nanstd(wall_es) / np.nanmean(wall_es),
        "thickening, mean (%)": np.nanmean(thicker),
        "thickening, weakest tenth (%)": np.nanpercentile(thicker, 10),
        "thickening, spread (%)": np.nanstd(thicker),
        "shortening, mean (%)": np.nanmean(shorter),
        "shortening, weakest tenth (%)": np.nanpercentile(shorter, 10),
        "shortening, spread (%)": np.nanstd(shorter),
    }
    assert function.features(ed, es, mm) == pytest.approx(expected)


def test_the_limits_of_agreement_by_hand():
    from scipy.stats import t

    found = function.bland_altman([1, 2, 4, 9], [0, 0, 0, 0])
    sd = np.std([1, 2, 4, 9], ddof=1)
    q = t.ppf(0.975, 3)
    reach = q * sd * np.sqrt(1 / 4 + 1.96**2 / 6)
    for limit, centre in ((found.low, 4 - 1.96 * sd), (found.high, 4 + 1.96 * sd)):
        assert limit[:3] == pytest.approx((centre, centre - reach, centre + reach))
        assert limit.n == 4
    half = q * sd / 2
    assert found.bias[:3] == pytest.approx((4, 4 - half, 4 + half))
    assert function.bland_altman([1, 2, 4], [0, 0, 0]).bias.n == 3


def test_an_ejection_fraction_of_small_volumes_and_of_nan():
    assert function.ejection_fraction(0.5, 0.25) == 50
    assert math.isnan(function.ejection_fraction(-1, 1))
    assert math.isnan(function.ejection_fraction(math.nan, 1))
    assert math.isnan(function.ejection_fraction(1, math.nan))


def test_large_volumes_of_bytes_do_not_overflow():
    mask = np.full((20, 300, 300), 3, np.uint8)
    assert function.volumes(mask, (10, 1, 1)) == pytest.approx((0, 0, 18_000))

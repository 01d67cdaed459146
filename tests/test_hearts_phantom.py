import math

import pytest
import torch
import torch.nn.functional as F

from medlib.hearts import LABELS
from medlib.hearts.phantom import GROUPS, contraction, phantom

RV, MYO, LV = 1, 2, 3
MID = slice(3, 6)  # slices well between base and apex


@pytest.fixture(scope="module")
def cohort():
    """Twenty patients, four a group, at ED, on the way, and at ES."""
    return phantom(
        20, phases=(0.0, 0.2, 0.35), shape=(10, 96, 96), spacing=(10, 2, 2), motion=True
    )


def mean_by_group(cohort, values):
    return {
        name: values[cohort.group == k].mean().item() for k, name in enumerate(GROUPS)
    }


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (12, 20, 31), (1, 1, 1)])
def test_shapes_and_types(shape):
    p = phantom(2, shape=shape, spacing=(8, 5, 4), phases=(0, 0.1, 1), motion=True)
    assert p.image.shape == p.mask.shape == (2, 3, *shape) and p.motion.shape == (
        2,
        3,
        2,
        *shape,
    )
    assert (p.image.dtype, p.mask.dtype, p.motion.dtype) == (
        torch.float32,
        torch.uint8,
        torch.float32,
    )
    assert (
        p.volumes.shape == (2, 3, 3)
        and p.group.shape == (2,)
        and p.group.dtype == torch.int64
    )
    assert (
        p.image.isfinite().all()
        and p.motion.isfinite().all()
        and p.mask.max() < len(LABELS)
    )
    assert p.spacing == (8, 5, 4) and p.phases == (0, 0.1, 1)


def test_motion_only_on_request():
    assert phantom(1, shape=(1, 28, 28), spacing=(10, 5, 5)).motion is None


def test_same_seed_same_bytes_other_seed_other_patients():
    a, b, c = (
        phantom(5, seed=seed, shape=(2, 40, 40), spacing=(20, 5, 5))
        for seed in (3, 3, 4)
    )
    assert (
        torch.equal(a.image, b.image)
        and torch.equal(a.mask, b.mask)
        and torch.equal(a.group, b.group)
    )
    assert not any(
        torch.equal(a.mask[k], c.mask[j]) for k in range(5) for j in range(5)
    )


def test_a_phantom_is_not_changed():
    with pytest.raises(AttributeError, match="image"):
        phantom(1, shape=(1, 2, 2)).image = None


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    phantom(1, shape=(1, 8, 8))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("fewer", [1, 4, 7])
def test_patient_does_not_depend_on_how_many(fewer):
    few, many = (phantom(n, shape=(2, 30, 30), spacing=(20, 5, 5)) for n in (fewer, 12))
    assert torch.equal(few.image, many.image[:fewer]) and torch.equal(
        few.mask, many.mask[:fewer]
    )
    assert torch.equal(few.group, many.group[:fewer]) and torch.equal(
        few.volumes, many.volumes[:fewer]
    )


def test_noise_changes_no_anatomy():
    clean, noisy = (
        phantom(3, noise=noise, shape=(1, 64, 64), spacing=(10, 3, 3))
        for noise in (0, 0.1)
    )
    assert torch.equal(clean.mask, noisy.mask) and not torch.equal(
        clean.image, noisy.image
    )


def test_groups_are_balanced_and_shuffled():
    groups = phantom(25, shape=(1, 2, 2)).group.view(5, 5)
    assert torch.equal(groups.sort(1).values, torch.arange(5).expand(5, 5))
    assert len(groups.unique(dim=0)) > 1


def test_groups_can_be_chosen():
    group = phantom(6, shape=(1, 2, 2), groups=("RV", "NOR")).group
    assert group.bincount(minlength=5).tolist() == [3, 0, 0, 0, 3]


def test_contraction_curve():
    curve = contraction(torch.tensor([0, 0.175, 0.35, 0.675, 1]))
    torch.testing.assert_close(curve, torch.tensor([0, 0.5, 1, 0.5, 0]))


def test_no_motion_at_ed_and_motion_later(cohort):
    assert cohort.motion[:, 0].abs().max() == 0
    assert (cohort.motion[:, 2].norm(dim=1).amax((1, 2, 3)) > 3).all()  # mm


def test_cycle_closes():
    p = phantom(2, phases=(0, 1), shape=(2, 40, 40), spacing=(20, 5, 5), motion=True)
    assert torch.equal(p.mask[:, 0], p.mask[:, 1]) and p.motion.abs().max() < 1e-4


def warp(ed, motion, spacing):
    """Pull (B, 1, H, W) at ED along motion (B, 2, H, W) in mm to the later phase;
    nearest pixel.
    """
    height, width = ed.shape[-2:]
    row, column = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    row, column = row + motion[:, 0] / spacing[1], column + motion[:, 1] / spacing[2]
    grid = torch.stack((2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1), -1)
    return F.grid_sample(ed.float(), grid, mode="nearest", align_corners=True)


@pytest.mark.parametrize("label", [RV, MYO, LV])
@pytest.mark.parametrize("phase", [1, 2])
def test_motion_carries_the_ed_mask_to_the_phase(cohort, phase, label):
    ed, later = ((cohort.mask[:, t, MID] == label).flatten(0, 1) for t in (0, phase))
    motion = cohort.motion[:, phase, :, MID].transpose(1, 2).flatten(0, 1)
    warped = warp(ed[:, None], motion, cohort.spacing)[:, 0] > 0.5
    overlap = 2 * (warped & later).sum() / (warped.sum() + later.sum())
    still = 2 * (ed & later).sum() / (ed.sum() + later.sum())
    assert overlap > 0.93 and overlap > still + 0.03


def test_motion_carries_the_image():
    p = phantom(5, noise=0, shape=(3, 128, 128), motion=True)
    ed, es = p.image[:, 0].flatten(0, 1)[:, None], p.image[:, 1].flatten(0, 1)
    motion = p.motion[:, 1].transpose(1, 2).flatten(0, 1)
    heart = p.mask[:, 1].flatten(0, 1) > 0
    error = (warp(ed, motion, p.spacing)[:, 0] - es)[heart].abs().mean()
    assert error < 0.4 * (ed[:, 0] - es)[heart].abs().mean()


def test_motion_does_not_fold(cohort):
    dy, dx = cohort.motion[:, 2].unbind(1)
    (dyy, dyx), (dxy, dxx) = (
        torch.gradient(d, spacing=2.0, dim=(2, 3)) for d in (dy, dx)
    )
    assert ((1 + dyy) * (1 + dxx) - dyx * dxy).min() > 0.1


def test_muscle_volume_is_kept(cohort):
    muscle = cohort.volumes[..., 1]
    assert (muscle / muscle[:, :1] - 1).abs().max() < 0.05


def test_ejection_fractions(cohort):
    lv, rv = (mean_by_group(cohort, cohort.ejection_fraction[:, k]) for k in (0, 1))
    assert 0.50 < lv["NOR"] < 0.72 and lv["HCM"] > 0.55 and lv["DCM"] < 0.40
    assert lv["DCM"] < lv["MINF"] < 0.45 < lv["RV"]
    assert rv["RV"] < 0.40 < min(rv["NOR"], rv["HCM"])


def test_ejection_fraction_by_hand(cohort):
    (rv_ed, _, lv_ed), (rv_es, _, lv_es) = (
        cohort.volumes[7, 0].tolist(),
        cohort.volumes[7, 2].tolist(),
    )
    expected = torch.tensor([(lv_ed - lv_es) / lv_ed, (rv_ed - rv_es) / rv_ed])
    torch.testing.assert_close(cohort.ejection_fraction[7], expected)


def test_diseases_differ_from_normal(cohort):
    rv, muscle, lv = (mean_by_group(cohort, cohort.volumes[:, 0, k]) for k in range(3))
    assert lv["DCM"] > 1.5 * lv["NOR"] and 90 < lv["NOR"] < 180  # mL
    assert muscle["HCM"] > 1.4 * muscle["NOR"]
    assert rv["RV"] > 1.3 * rv["NOR"]


def test_septum_is_the_thick_wall_in_hcm(cohort):
    wall, cavity = (
        cohort.mask[cohort.group == GROUPS.index("HCM"), 0, 4] == label
        for label in (MYO, LV)
    )
    column = torch.arange(96)
    centre = (cavity * column).sum((1, 2)) / cavity.sum((1, 2))
    septal = (wall & (column < centre[:, None, None])).sum((1, 2)) / wall.sum((1, 2))
    assert (septal > 0.53).all()


def test_infarct_contracts_unevenly():
    p = phantom(
        10,
        groups=("MINF", "DCM"),
        noise=0,
        shape=(1, 96, 96),
        spacing=(10, 2, 2),
        motion=True,
    )
    speed, wall = p.motion[:, 1].norm(dim=1), p.mask[:, 1] == MYO
    spread = torch.stack(
        [speed[k][wall[k]].std() / speed[k][wall[k]].mean() for k in range(10)]
    )
    assert (
        spread[p.group == GROUPS.index("MINF")].mean()
        > 1.3 * spread[p.group == GROUPS.index("DCM")].mean()
    )


def test_volumes_count_voxels(cohort):
    voxels = (cohort.mask[3, 1] == LV).sum().item()
    assert math.isclose(
        cohort.volumes[3, 1, 2], voxels * 10 * 2 * 2 / 1000, rel_tol=1e-6
    )


def test_volume_does_not_depend_on_the_grid():
    coarse = phantom(5, shape=(10, 64, 64), spacing=(10, 3.2, 3.2)).volumes
    fine = phantom(5, shape=(20, 128, 128), spacing=(5, 1.6, 1.6)).volumes
    assert (coarse / fine - 1).abs().max() < 0.05


def test_mid_slices_hold_all_structures(cohort):
    present = torch.stack(
        [(cohort.mask[:, :, MID] == label).sum((-2, -1)) for label in (RV, MYO, LV)]
    )
    assert (present > 30).all()


def test_apex_has_no_rv(cohort):
    assert (
        not (cohort.mask[:, :, 9] == RV).any() and (cohort.mask[:, :, 9] == MYO).any()
    )


def test_wall_keeps_lv_from_background_and_rv(cohort):
    mask = cohort.mask[:, :, MID]
    for dim in (-2, -1):
        a, b = (
            mask.narrow(dim, 0, 95),
            mask.narrow(dim, 1, 95),
        )  # a pixel and its neighbour
        assert not ((a == LV) & (b < MYO) | (b == LV) & (a < MYO)).any()


def test_blood_is_bright_and_muscle_dark(cohort):
    rv, muscle, lv = (
        cohort.image[cohort.mask == label].mean() for label in (RV, MYO, LV)
    )
    assert min(rv, lv) > 2 * muscle
    assert cohort.image.min() >= 0 and 0.7 < cohort.image.quantile(0.99) < 1.2


def test_noise_is_rician_in_air():
    clean, noisy = (phantom(5, noise=sd, shape=(2, 128, 128)) for sd in (0, 0.05))
    air = noisy.image[
        clean.image < 0.012
    ]  # next to no signal: Rayleigh, mean sd √(π/2)
    assert (
        len(air) > 1000 and abs(air.mean() / (0.05 * math.sqrt(math.pi / 2)) - 1) < 0.1
    )


def test_noise_is_gaussian_in_blood():
    clean, noisy = (
        phantom(5, noise=sd, shape=(2, 64, 64), spacing=(10, 3, 3)) for sd in (0, 0.05)
    )
    error = (noisy.image - clean.image)[clean.image > 0.6]
    assert abs(error.std() / 0.05 - 1) < 0.05 and abs(error.mean()) < 0.005


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patients", 0, "patients=0; expected at least 1"),
        ("groups", ("NOR", "ABC"), r"groups=\('NOR', 'ABC'\); expected .*'DCM'"),
        ("groups", (), r"groups=\(\); expected some of"),
        ("phases", (), r"phases=\(\); expected one or more numbers in \[0, 1\]"),
        ("phases", (0, 1.2), r"phases=\(0.0, 1.2\); expected"),
        ("phases", (float("nan"),), r"phases=\(nan,\); expected"),
        ("shape", (128, 128), r"shape=\(128, 128\); expected three sizes"),
        ("spacing", (10, 0, 1), r"spacing=\(10, 0, 1\); expected three lengths"),
    ],
)
def test_errors_say_the_value_and_what_was_expected(name, value, message):
    with pytest.raises(ValueError, match=message):
        phantom(**{"patients": 2, name: value})


def test_every_pixel_is_the_one_that_the_book_was_made_with():
    """Each heart, seen through the same random weights: a tissue, a rib or a lesion
    that is painted elsewhere shows.
    """
    p = phantom(5, noise=0, shape=(5, 96, 96), spacing=(27, 3, 3), motion=True)
    weights = torch.Generator().manual_seed(0)
    found = []
    for x in (p.image, p.mask, p.motion):
        w = torch.rand(x.shape[1:], generator=weights, dtype=torch.double) - 0.5
        found.append((x * w).flatten(1).sum(1).tolist())
    image, mask, motion = found
    assert image == pytest.approx([32.023, 25.54, 38.22, 26.126, 3.035], abs=0.02)
    assert mask == pytest.approx([-43.4, -49.3, -53.6, -59.0, -43.9], abs=2)
    assert motion == pytest.approx([-109.6, -151.3, -35.6, -67.7, -105.1], abs=0.1)


def test_every_heart_is_the_one_that_the_book_was_made_with():
    """Drawing order and arithmetic: a change here changes every number on phantoms."""
    p = phantom(3, seed=5, shape=(2, 24, 24), spacing=(40, 8, 8), motion=True)
    found = [p.image.double().sum(), p.motion.double().abs().sum(), p.volumes.sum()]
    assert [float(v) for v in found] == pytest.approx(
        [2370.808, 8438.170, 1966.080], rel=1e-4
    )

"""The square around the heart, and the slices and stacks cut with it."""

import numpy as np
import pytest
import torch
from acdc_folder import ten_hearts, write

from medlib import hearts
from medlib.data import DataError
from medlib.hearts import Cohort


@pytest.fixture
def cohort(tmp_path):
    return ten_hearts(tmp_path)


def test_the_heart_is_found_by_its_motion_without_masks(tmp_path):
    patient = hearts.read_patient(write(tmp_path, masks=False))
    row, column = hearts.centre(patient)
    assert patient.ed.mask is None and abs(row - 55) < 8 and abs(column - 65) < 8
    with pytest.raises(DataError, match="patient001: no mask"):
        hearts.slices(*3 * [Cohort((patient,), "toy", "simulated")])


def test_slices_are_square_standardised_and_labelled(cohort):
    d = hearts.slices(*hearts.split(cohort), side=40, field=60)
    assert d.train.x.shape == (36, 1, 40, 40) and d.train.y.shape == (36, 40, 40)
    assert d.train.x[:6].mean().abs() < 0.01 and set(d.train.y.unique().tolist()) == {
        0,
        1,
        2,
        3,
    }
    assert "%" in repr(d)


def test_no_pixel_is_interpolated_where_the_sizes_agree(cohort):
    cut = hearts.window(cohort[0], 20, 30)
    top, left = (int(c - 9.5) for c in cut.centre)
    found = cut.cut(torch.from_numpy(cohort[0].ed.image)[:, None])[:, 0].numpy()
    assert np.allclose(
        found, cohort[0].ed.image[:, top : top + 20, left : left + 20], atol=1e-2
    )


def test_an_impossible_spacing_is_not_believed(tmp_path):
    with pytest.warns(UserWarning, match="840 mm wide"):
        patient = hearts.read_patient(write(tmp_path, spacing=(7, 7, 10)))
    assert hearts.spacing(patient) == pytest.approx((400 / 120, 400 / 120))


def test_stacks_hold_the_slices_in_order(cohort):
    train, val, test = hearts.split(cohort)
    flat, deep = (f(train, val, test) for f in (hearts.slices, hearts.stacks))
    assert deep.train.x.shape == (
        2 * len(train),
        1,
        8,
        128,
        128,
    )  # three slices, and five empty ones
    assert torch.equal(deep.train.x[0, 0, :3], flat.train.x[:3, 0])
    assert (
        torch.equal(deep.train.y[1, :3], flat.train.y[3:6])
        and deep.train.y[:, 3:].max() == 0
    )


def test_blocks_cover_a_longer_stack():
    blocks = hearts.blocks(torch.arange(20)[:, None], 4)[
        ..., 0
    ]  # ten slices of ED, ten of ES
    assert blocks[:, 0].tolist() == [0, 10, 3, 13, 6, 16]
    assert (
        set(blocks.flatten().tolist()) == set(range(20))
        and (blocks.diff(dim=1) == 1).all()
    )


def test_a_moment_on_another_scale_changes_nothing(cohort):
    one = cohort[0]
    other = one._replace(es=one.es._replace(image=20 * one.es.image))
    cut = hearts.window(one)
    assert hearts.centre(other) == hearts.centre(one)
    torch.testing.assert_close(hearts.prepare(other, cut), hearts.prepare(one, cut))


def test_each_slice_and_block_knows_its_patient(cohort):
    a, b = cohort[0], cohort[1]
    flat = hearts.slices(cohort[:2], cohort[:1], cohort[:1], side=32)
    assert flat.train.whose.tolist() == 6 * [a.name] + 6 * [b.name]
    deep = hearts.stacks(cohort[:2], cohort[:1], cohort[:1], side=32, depth=2)
    assert deep.train.whose.tolist() == 4 * [a.name] + 4 * [b.name]


def test_a_mask_is_cut_as_a_mask_and_not_blended(cohort):
    cut = hearts.window(cohort[0], 50, 60)
    mask = torch.from_numpy(cohort[0].ed.mask)
    found = cut.cut(mask, mode="nearest")
    assert found.dtype == torch.uint8 and found.shape == (3, 50, 50)
    with pytest.raises(ValueError, match="bilinear reading of torch.uint8"):
        cut.cut(mask)


def test_the_middle_of_an_image_is_likelier_than_its_edge(tmp_path):
    """Something at the edge that changes about as much is not taken for the heart."""
    patient = hearts.read_patient(write(tmp_path))
    moved = patient.es.image.copy()
    moved[:, 80:92, 10:22] += 100
    row, column = hearts.centre(patient._replace(es=patient.es._replace(image=moved)))
    assert abs(row - 55) < 8 and abs(column - 65) < 8


def test_fewer_pixels_are_means_and_not_samples(cohort):
    """A dark and a bright half under noise: means of 5 × 5 pixels bring the noise down
    to a fifth, samples between four pixels only to a half.
    """
    grey = np.random.default_rng(0).normal(0, 60, (3, 120, 110)).astype(np.float32)
    grey[:, :, 56:] += 100
    one = cohort[0]
    one = one._replace(ed=one.ed._replace(image=grey), es=one.es._replace(image=grey))
    x = hearts.prepare(one, hearts.Window((60.5, 55.5), (4.0, 4.0), 16, (120, 110)))
    dark, bright = x[..., :7], x[..., 9:]
    assert (bright.mean() - dark.mean()) / dark.std() > 5


@pytest.mark.parametrize("step", [1.4, 1.6, 4.0, 6.2])
def test_a_coarser_square_sees_means_of_the_pixels_around_each_place(cohort, step):
    """Of 3 × 3 from one and a half of the scanner's pixels on, 5 × 5 from three on."""
    from scipy.ndimage import uniform_filter

    one, cut = cohort[0], hearts.Window((60.3, 55.1), (step, step), 8, (120, 110))
    size = {1.4: 1, 1.6: 3, 4.0: 5, 6.2: 7}[step]
    means = [[uniform_filter(z, size) for z in v] for v in hearts.moments(one)]
    stack = torch.from_numpy(np.array(means)).flatten(0, 1)[:, None]
    expected = hearts.standardise_scan(cut.cut(stack))
    torch.testing.assert_close(hearts.prepare(one, cut), expected, rtol=0, atol=1e-3)


def test_slices_of_nobody_are_refused(cohort):
    with pytest.raises(
        DataError, match="no validation patients; expected at least one"
    ):
        hearts.slices(cohort[:2], cohort[:0], cohort[:1])

"""Pairs of moments, masks carried along, and the reader of the motion challenge."""

import nibabel
import numpy as np
import pytest
import torch
from medlib.cardiac import Patient, Volume
from medlib.phantom import phantom

from medlib import cine, data
from medlib.data import DataError, Unreachable


def heart(side=110, masks=True, mm=2.0):
    p = phantom(1, shape=(3, side, side + 20), spacing=(10.0, mm, mm), motion=True)
    ed, es = (
        Volume(
            p.image[0, t].numpy(), p.mask[0, t].numpy() if masks else None, p.spacing
        )
        for t in (0, 1)
    )
    return Patient("one", "NOR", ed, es), p.motion[0, 1].movedim(
        1, 0
    ) / mm  # field in pixels, (D, 2, H, W)


def test_a_pair_needs_no_mask():
    x = cine.pair(heart(masks=False)[0])
    assert (
        x.shape == (3, 2, 96, 96)
        and abs(float(x.mean())) < 1e-4
        and float(x.std()) == pytest.approx(1, abs=1e-3)
    )


def test_training_pairs_run_both_ways_and_carry_no_label():
    a, b = torch.randn(2, 3, 2, 16, 16)
    d = cine.dataset([a], [b])
    assert (
        torch.equal(d.train.x, torch.cat((a, a.flip(1))))
        and torch.equal(d.val.x, b)
        and not d.train.y.any()
    )


def test_phantom_pairs():
    pairs = cine.phantom_pairs(2, seed=0, phases=(0.0, 0.2, 0.35), depth=2)
    assert len(pairs) == 4 and pairs[0].shape == (2, 2, 96, 96)
    assert torch.equal(pairs[0][:, 0], pairs[1][:, 0]) and not torch.equal(
        pairs[0][:, 1], pairs[1][:, 1]
    )


def test_the_true_field_carries_the_mask_to_the_other_moment():
    patient, u = heart()
    found = cine.carry(torch.from_numpy(patient.ed.mask), u).numpy()
    assert found.dtype == np.uint8
    assert (
        2
        * ((found == 3) & (patient.es.mask == 3)).sum()
        / ((found == 3).sum() + (patient.es.mask == 3).sum())
        > 0.95
    )


def test_no_motion_scores_the_undeformed_dice():
    patient, _ = heart()
    found = cine.dice(torch.zeros(3, 2, 96, 96), patient)
    for k in (1, 2, 3):
        a, b = patient.ed.mask == k, patient.es.mask == k
        assert found[k - 1] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_field_on_the_scanner_is_in_its_pixels_and_ends_at_the_square():
    patient, _ = heart(side=300, mm=1.0)
    u = cine.on_scanner(torch.ones(3, 2, 96, 96), patient)
    assert (
        u.shape == (3, 2, 300, 320)
        and float(u.max()) == pytest.approx(cine.MM, rel=1e-3)
        and not u[..., 0, 0].any()
    )


def test_a_score_needs_masks():
    with pytest.raises(DataError, match="one: no mask.*rule"):
        cine.dice(torch.zeros(3, 2, 96, 96), heart(masks=False)[0])


POINTS = "# vtk DataFile Version 3.0\nvtk output\nASCII\nDATASET POLYDATA\nPOINTS 2 float\n-10 -20 8 -12.5 \n-25 1.6e1 \n\n"


@pytest.fixture
def challenge(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path / "nowhere")
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    place = tmp_path / "cmac" / "LMKS_GT" / "INRIA_COORDINATES"
    place.mkdir(parents=True)
    for t in range(1, 4):
        scan = nibabel.Nifti1Image(
            np.random.rand(40, 50, 3).astype(np.float32), np.diag([1.25, 1.25, 8, 1])
        )
        nibabel.save(scan, tmp_path / "cmac" / f"t{t:02}.nii.gz")
    for k in (1, 2):
        for t in range(2):
            (place / f"obs{k}_groundTruth{t:02}.vtk").write_text(POINTS)
    return place


def test_the_challenge_is_read_in_voxels(challenge):
    found = cine.cmac()
    assert found.image.shape == (3, 3, 50, 40) and found.landmarks.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(found.landmarks[0, 0], [[1, 16, 8], [2, 20, 10]])
    frames, cut = cine.beat(found, 1)
    assert frames.shape == (3, 3, 1, 96, 96) and cut.step[0] == pytest.approx(
        cine.MM / 1.25
    )


@pytest.mark.parametrize(
    "text, words",
    [("POINTS 3 float\n1 2 3\n", "3 numbers.*3 n"), ("nothing", "0 numbers")],
)
def test_damaged_landmarks_are_refused(challenge, text, words):
    (challenge / "obs1_groundTruth01.vtk").write_text(text)
    with pytest.raises(DataError, match=words):
        cine.cmac()


def test_observers_must_agree_on_what_they_saw(challenge):
    (challenge / "obs2_groundTruth01.vtk").unlink()
    with pytest.raises(DataError, match="both observers"):
        cine.cmac()


def test_without_the_folder_it_is_unreachable(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    with pytest.raises(Unreachable, match="no folder"):
        cine.cmac()

"""The reader of the motion challenge."""

import nibabel
import numpy as np
import pytest

from medlib import hearts, notes
from medlib.data import DataError
from medlib.fetch import Unreachable
from medlib.hearts.pairs import MM

POINTS = """# vtk DataFile Version 3.0
vtk output
ASCII
DATASET POLYDATA
POINTS 2 float
-10 -20 8 -12.5\x20
-25 1.6e1\x20

"""


@pytest.fixture
def challenge(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    place = tmp_path / "cmac" / "LMKS_GT" / "INRIA_COORDINATES"
    place.mkdir(parents=True)
    for t in range(1, 4):
        scan = nibabel.Nifti1Image(
            np.random.default_rng(t).random((40, 50, 3)).astype(np.float32),
            np.diag([1.25, 1.25, 8, 1]),
        )
        nibabel.save(scan, tmp_path / "cmac" / f"t{t:02}.nii.gz")
    for k in (1, 2):
        for t in range(2):
            (place / f"obs{k}_groundTruth{t:02}.vtk").write_text(POINTS)
    return place


def test_the_challenge_is_read_in_voxels(challenge):
    told = []
    with notes.listening(lambda event, facts: told.append(facts)):
        found = hearts.load_cmac()
    assert found.image.shape == (3, 3, 50, 40) and found.landmarks.shape == (2, 2, 2, 3)
    assert told == [{"name": "cmac", "source": "mirror"}]
    np.testing.assert_allclose(found.landmarks[0, 0], [[1, 16, 8], [2, 20, 10]])
    frames, cut = hearts.beat(found, 1)
    assert frames.shape == (3, 3, 1, 96, 96) and cut.step[0] == pytest.approx(MM / 1.25)


@pytest.mark.parametrize(
    "text, words",
    [("POINTS 3 float\n1 2 3\n", "3 numbers.*3 n"), ("nothing", "0 numbers")],
)
def test_damaged_landmarks_are_refused(challenge, text, words):
    (challenge / "obs1_groundTruth01.vtk").write_text(text)
    with pytest.raises(DataError, match=words):
        hearts.load_cmac()


def test_observers_must_agree_on_what_they_saw(challenge):
    (challenge / "obs2_groundTruth01.vtk").unlink()
    with pytest.raises(DataError, match="both observers"):
        hearts.load_cmac()


def test_without_the_folder_it_is_unreachable(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    with pytest.raises(Unreachable, match="not in the cache.*MEDLIB_OFFLINE is set"):
        hearts.load_cmac()


def test_phases_must_be_of_one_shape(challenge):
    folder = challenge.parents[1]
    scan = nibabel.Nifti1Image(np.zeros((40, 50, 2), np.float32), np.eye(4))
    nibabel.save(scan, folder / "t02.nii.gz")
    with pytest.raises(DataError, match="3 phases of 2 shapes; expected"):
        hearts.load_cmac()
    (folder / "t02.nii.gz").rename(folder / "t04.nii.gz")
    with pytest.raises(DataError, match="3 phases of 2 shapes, with a gap; expected"):
        hearts.load_cmac()

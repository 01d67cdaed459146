"""Folders of patients as people have them: no patient is lost without a word, and no
junk is taken for one. Files with odd numbers in them are read or named.
"""

import os
import shutil
import subprocess
import sys
import unicodedata

import nibabel
import numpy as np
import pytest
from acdc_folder import write

from medlib import fetch, hearts
from medlib.data import DataError


def names(folder) -> list[str]:
    return [p.name for p in hearts.read_patients(folder)]


def rewrite(path, change):
    """The voxels of a file, changed, with the same geometry."""
    scan = nibabel.load(path)
    voxels = change(np.asarray(scan.dataobj))
    nibabel.save(nibabel.Nifti1Image(voxels, scan.affine, dtype=voxels.dtype), path)


# ---------------------------------------------------------------- junk and hidden


def test_what_macos_and_windows_leave_behind_is_no_patient(tmp_path):
    place = write(tmp_path, "patient001")
    junk = tmp_path / "__MACOSX" / "patient001"
    junk.mkdir(parents=True)
    for path in place.iterdir():
        (junk / f"._{path.name}").write_bytes(b"\0\5\26\7")
        (place / f"._{path.name}").write_bytes(b"\0\5\26\7")
    (place / ".DS_Store").touch()
    (tmp_path / "patients_overview").mkdir()
    (tmp_path / "patients_overview" / "all.pdf").touch()
    (place / "patient001_4d_frames").mkdir()
    assert names(tmp_path) == ["patient001"]


@pytest.mark.parametrize("inner", ["patients", "patient001", "training/training"])
def test_a_patient_is_found_at_any_depth(tmp_path, inner):
    write(tmp_path / inner, "patient001")
    assert names(tmp_path) == ["patient001"]


def test_links_are_followed_once(tmp_path):
    store = tmp_path / "store"
    write(store / "training", "heart01")
    data = tmp_path / "data"
    data.mkdir()
    write(data, "heart02")
    (data / "acdc").symlink_to(store / "training")
    (data / "acdc" / "round").symlink_to(data)
    assert names(data) == ["heart01", "heart02"]


def test_a_linked_patient_keeps_the_name_of_the_link(tmp_path):
    store = write(tmp_path / "store", "patient001")
    data = tmp_path / "data"
    data.mkdir()
    (data / "heart01").symlink_to(store)
    assert names(data) == ["heart01"]


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_umlaut_is_one_sign_or_two(tmp_path, forms):
    folder, files = (unicodedata.normalize(form, "Jürgen") for form in forms)
    place = write(tmp_path, folder)
    for path in [*place.glob("*.nii.gz")]:
        path.rename(path.with_name(files + path.name.removeprefix(folder)))
    assert names(tmp_path) == [unicodedata.normalize("NFC", "Jürgen")]


# ---------------------------------------------------------------- lost patients


def test_who_is_left_out_is_named(tmp_path):
    for letter in "ABCD":
        write(tmp_path, f"Herz {letter}", spacing=(1.37, 1.37, 8))
    (tmp_path / "Herz C" / "Info.cfg").unlink()
    (tmp_path / "Herz D" / "Herz D_frame09.nii.gz").unlink()
    (tmp_path / "patient005").mkdir()
    with pytest.warns(UserWarning, match="3 left out") as said:
        assert names(tmp_path) == ["Herz A", "Herz B"]
    words = str(said[0].message)
    assert "Herz C: no Info.cfg" in words and "patient005" in words
    assert "Herz D: no file Herz D_frame09.nii.gz" in words


def test_two_patients_of_one_name_are_refused(tmp_path):
    for part in ("hospital A", "hospital B"):
        write(tmp_path / part, "patient001")
    with pytest.raises(DataError, match=r"patient001 stands twice.*hospital A.*B"):
        hearts.read_patients(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads all")
def test_a_folder_that_may_not_be_read(tmp_path):
    place = write(tmp_path, "patient002")
    place.chmod(0)
    try:
        with pytest.raises(DataError, match="patient002 cannot be opened"):
            hearts.read_patients(tmp_path)
    finally:
        place.chmod(0o755)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    place = write(tmp_path, "patient002")

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(nibabel, "load", refuse)
    with pytest.raises(DataError, match="frame01.nii.gz cannot be opened .Permission"):
        hearts.read_patient(place)


# ---------------------------------------------------------------- odd numbers


def test_a_last_axis_of_one_is_dropped(tmp_path):
    place = write(tmp_path)
    rewrite(place / "patient001_frame01.nii.gz", lambda v: v[..., None])
    assert hearts.read_patient(place).ed.image.shape == (3, 120, 110)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: np.stack([v, v], -1), "one phase; hearts.read_cine reads several"),
        (lambda v: v[..., 0], "expected .columns, rows, slices"),
        (lambda v: v * 1e39, "more than float32 can"),
        (lambda v: np.where(v > 5, np.nan, v), "NaN or infinity"),
        (lambda v: v.astype(np.complex64), "complex numbers.*save the magnitude"),
        (lambda v: np.full_like(v, 7), "is 7 in every voxel"),
    ],
)
def test_an_image_of_another_kind_is_refused_with_what_to_do(tmp_path, change, says):
    place = write(tmp_path)
    rewrite(place / "patient001_frame01.nii.gz", change)
    with pytest.raises(DataError, match=f"frame01.nii.gz.*{says}"):
        hearts.read_patient(place)


def test_a_colour_image_is_refused(tmp_path):
    place = write(tmp_path)
    path = place / "patient001_frame01.nii.gz"
    scan = nibabel.load(path)
    colour = np.zeros(scan.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, scan.affine), path)
    with pytest.raises(DataError, match=r"a colour image .R, G, B.*export it as grey"):
        hearts.read_patient(place)


def test_one_frame_drawn_twice_is_said_and_the_heart_taken_in_the_middle(tmp_path):
    place = write(tmp_path)
    shutil.copy(
        place / "patient001_frame01.nii.gz", place / "patient001_frame09.nii.gz"
    )
    with pytest.warns(UserWarning, match="patient001: ED .frame 1. and ES .frame 9."):
        patient = hearts.read_patient(place)
    with pytest.warns(UserWarning, match="taken in the middle of the slices"):
        assert hearts.centre(patient) == pytest.approx((59.5, 54.5), abs=1)


# ---------------------------------------------------------------- few, none, elsewhere


def test_parts_of_nobody_are_refused(tmp_path):
    for k in range(4):
        write(tmp_path, f"patient{k:03}", seed=k)
    cohort = hearts.read_patients(tmp_path)
    for bad in (0, 10):
        with pytest.raises(ValueError, match="fold"):
            hearts.folds(cohort, k=bad)
    with pytest.raises(DataError, match="no test patients"):
        hearts.stacks(cohort[:2], cohort[2:], cohort[:0])
    twins = tmp_path / "twins"
    for k in range(5):
        write(twins, f"patient{k:03}", seed=k // 4)  # four of them are one scan
    with pytest.raises(DataError, match="patients"):
        hearts.split(hearts.read_patients(twins))


def test_a_blank_variable_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDLIB_DATA", "  ")
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path))
    assert hearts.load().source == "stand-in"
    assert "STAND-IN" in capsys.readouterr().out


def test_a_mirror_may_be_a_file_address(tmp_path, monkeypatch):
    write(tmp_path / "my mirror" / "acdc" / "training", "patient001")
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDLIB_MIRROR", (tmp_path / "my mirror").as_uri())
    place, source = fetch.folder("acdc")
    assert source == "mirror" and len(hearts.read_patients(place)) == 1


def test_no_folder_is_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "hearts", "patient001")
    assert len(hearts.load("~/hearts")) == 1
    for read in (hearts.load, hearts.read_patients, hearts.read_sunnybrook):
        with pytest.raises(DataError, match="is not a folder"):
            read(tmp_path / "nowhere")


def test_reading_writes_nothing(tmp_path):
    place = write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code = f"from medlib import hearts; hearts.read_patients({str(place.parent)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(tmp_path.rglob("*")) == before

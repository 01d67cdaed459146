"""Reading ACDC (Bernard et al., TMI 37, 2018), or any folder laid out as ACDC is:

    patientNNN/Info.cfg                      ED: 1, ES: 12, Group: DCM (frame numbers
                                             and diagnosis); Height: (cm) and Weight:
                                             (kg) may follow
    patientNNN/patientNNN_frame01.nii.gz     the image at end-diastole (ED), the largest
                                             left ventricle
    patientNNN/patientNNN_frame01_gt.nii.gz  its mask: 0 background, 1 RV, 2 myocardium,
                                             3 LV; may be absent

Volumes have axes (D, H, W) and spacing in mm in that order. ACDC's affines say 1 mm in
every file; its pixdim is right, and `medlib.hearts.grid` knows which to believe.
"""

import os
import re
import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

import numpy as np

from medlib import fetch
from medlib.data import DataError
from medlib.hearts.cohorts import LABELS, Cine, Cohort, Patient, Volume
from medlib.hearts.grid import SECONDS, Grid, as_image, expect_together, read_nifti
from medlib.hearts.phantom import GROUPS, phantom
from medlib.notes import note

PARTS = ("training", "testing")  # the official archive's folders


class _Incomplete(DataError):
    """A folder that lacks what makes a patient."""


@overload
def load(folder: str | Path | None = None, *, split: None = None) -> Cohort: ...
@overload
def load(
    folder: str | Path | None = None, *, split: Literal["official"]
) -> tuple[Cohort, Cohort]: ...
def load(folder=None, *, split=None):
    """Patients from `folder` or MEDLIB_DATA, any folder laid out as ACDC is; else
    ACDC's, from the cache, MEDLIB_MIRROR/acdc or upstream; if there are none, phantoms,
    under a banner that says so.

    Where the folder holds training/ and testing/, as the official archive does, these
    are two sets of people: by default the training patients alone are read;
    `split="official"` gives a pair of cohorts, training and test patients.

    Raises DataError where the folder is not there, a patient is damaged or the official
    test patients are missing; ValueError for another split.
    """
    if split not in (None, "official"):
        raise ValueError(f'split {split!r}; expected "official" or None')
    chosen = folder or os.environ.get("MEDLIB_DATA", "").strip()
    if chosen:
        place, source = Path(chosen).expanduser(), "folder"
        name = place.resolve().name
    else:
        name, wanted = "acdc", {"split": split} if split else {}
        try:
            place, source = fetch.folder(name, **wanted)
        except fetch.Unreachable as error:
            fetch.banner(name, str(error))
            note("loaded", name=name, source="stand-in")
            hearts = Cohort(_phantoms(20), "phantoms", "stand-in")
            return (hearts[:15], hearts[15:]) if split else hearts
    cohorts = tuple(
        replace(read_patients(part), name=name, source=source)
        for part in _asked_for(place, split, told=not chosen)
    )
    note("loaded", name=name, source=source)
    return cohorts if split else cohorts[0]


def _asked_for(folder: Path, split: str | None, *, told: bool) -> list[Path]:
    """The folders to read: all of it, training/, or training/ and testing/."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one of patientNNN/")
    training, testing = _parts(folder)
    if training and testing:
        if not split and not told:
            warnings.warn(
                f'{testing} left out, other people; hearts.load(…, split="official") '
                "reads both apart",
                stacklevel=3,
            )
        return [training, testing] if split else [training]
    if split:
        missing = PARTS[1] if training else PARTS[0]
        raise DataError(
            f"{folder}: no {missing}/; expected training/ and testing/ as the official "
            "archive has them: unpack both, or read one folder without split="
        )
    return [folder]


def _parts(folder: Path) -> tuple[Path | None, Path | None]:
    """The one folder training/ and the testing/ beside it, at any depth."""
    for place, inner, _ in _walk(folder):
        named = {name.lower(): place / name for name in inner}
        if PARTS[0] in named or PARTS[1] in named:
            return named.get(PARTS[0]), named.get(PARTS[1])
    return None, None


def _walk(folder: Path):
    """(folder, its folders, its files) from the top down, in order of names: links are
    followed once, what is hidden or put there by macOS is not looked at. DataError for
    a folder that cannot be opened.
    """

    def refuse(error: OSError):
        raise DataError(
            f"{error.filename} cannot be opened ({error.strerror}); expected a folder "
            "that you may read"
        )

    seen = set()
    for place, inner, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        inner[:] = sorted(n for n in inner if n[0] != "." and n != "__MACOSX")
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield Path(place), inner, sorted(n for n in files if n[0] != ".")


def read_patients(folder: str | Path) -> Cohort:
    """Every patient at any depth under `folder`, by name; the folder names the cohort.
    A patient is a folder with an Info.cfg and the frames that it speaks of; a warning
    names those that lack one of these and are left out.

    Raises DataError that names the patient and the fault, and for two patients of one
    name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one of patientNNN/")
    patients, left_out = [], []
    places: dict[str, Path] = {}
    for place in sorted(_candidates(folder), key=lambda p: (p.name, str(p))):
        try:
            patient = read_patient(place)
        except _Incomplete as error:
            left_out.append(str(error))
            continue
        if patient.name in places:
            raise DataError(
                f"{patient.name} stands twice, in {places[patient.name]} and in "
                f"{place}; expected one folder a name: read the two folders apart, or "
                "rename one"
            )
        places[patient.name] = place
        patients.append(patient)
    if left_out:
        warnings.warn(
            f"{folder}: {len(left_out)} left out: {'; '.join(left_out)}", stacklevel=2
        )
    if not patients:
        raise DataError(
            f"{folder}: no patient; expected folders patientNNN/ with an Info.cfg and "
            "frames each" + "".join(f"; {text}" for text in left_out[:9])
        )
    return Cohort(tuple(patients), folder.resolve().name, "folder")


def _candidates(folder: Path) -> list[Path]:
    """Folders that are patients, or should be by their name or by what they hold."""
    whole, rest = [], []
    for place, inner, files in _walk(folder):
        scans = [n for n in files if n.endswith((".nii", ".nii.gz"))]
        if "Info.cfg" in files and scans:
            whole.append(place)
        elif "Info.cfg" in files or scans or _looks_empty(place, inner):
            rest.append(place)
    # Within a patient's folder lie derived masks, say; around one, what tells of all.
    return whole + [
        p for p in rest if not any(p in w.parents or w in p.parents for w in whole)
    ]


def _looks_empty(place: Path, inner: list[str]) -> bool:
    return not inner and re.fullmatch(r"(?i)patient\d+", place.name) is not None


def read_patient(folder: str | Path) -> Patient:
    """One patient's folder. Raises DataError that names the patient and the fault."""
    folder = Path(folder)
    name = _nfc(folder.name)
    info = folder / "Info.cfg"
    if not info.is_file():
        raise _Incomplete(
            f"{name}: no Info.cfg; expected one with the lines ED:, ES: and Group:"
        )
    lines = (
        line.split(":", 1)
        for line in info.read_text(errors="replace").splitlines()
        if ":" in line
    )
    fields = {key.strip(): value.strip() for key, value in lines}
    for key in ("ED", "ES", "Group"):
        if not fields.get(key) or (key != "Group" and not fields[key].isdecimal()):
            raise DataError(
                f"{name}: Info.cfg has {key}: {fields.get(key)!r}; "
                "expected frame numbers for ED and ES, and the diagnosis for Group"
            )
    frames = [int(fields[key]) for key in ("ED", "ES")]
    ed, es = (_volume(folder, frame) for frame in frames)
    if ed.image.shape != es.image.shape:
        raise DataError(
            f"{name}: ED {ed.image.shape}, ES {es.image.shape} voxels; expected one "
            "shape"
        )
    _expect_together(f"{name}'s ED", f"{name}'s ES", ed.grid, es.grid, ed.image)
    if np.array_equal(ed.image, es.image):
        warnings.warn(
            f"{name}: ED (frame {frames[0]}) and ES (frame {frames[1]}) are the same "
            "image; expected the full and the contracted heart",
            stacklevel=2,
        )
    height, weight = (_positive(fields.get(key)) for key in ("Height", "Weight"))
    return Patient(name, fields["Group"], ed, es, height, weight)


def read_cine(path: str | Path) -> Cine:
    """A NIfTI file of four axes, as ACDC's patientNNN_4d.nii.gz: phases (T, D, H, W),
    and their times where the header knows the unit.

    Raises DataError that names the file and the fault.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path} is not there; expected a NIfTI file of four axes")
    voxels, grid = read_nifti(path, axes=4)
    image = as_image(path.name, voxels)
    phases = np.stack([grid.to_array(v) for v in np.moveaxis(image, 3, 0)])
    unit = SECONDS.get(int(grid.header["xyzt_units"]) & 56)
    step = float(grid.header["pixdim"][4])
    ms = np.arange(len(phases)) * step * unit if unit and 0 < step < np.inf else None
    return Cine(phases, grid.spacing, grid, ms)


def _volume(folder: Path, frame: int) -> Volume:
    name = _nfc(folder.name)
    image_file, mask_file = (
        _frame_file(folder, frame, suffix) for suffix in ("", "_gt")
    )
    if image_file is None:
        raise _Incomplete(
            f"{name}: no file {name}_frame{frame:02}.nii.gz, which Info.cfg speaks of"
        )
    voxels, grid = read_nifti(image_file)
    stored = as_image(f"{name}/{image_file.name}", voxels)
    image = grid.to_array(stored)
    if mask_file is None:
        return Volume(image, None, grid.spacing, grid)
    voxels, its_grid = read_nifti(mask_file)
    if voxels.shape != stored.shape:
        raise DataError(
            f"{name}: frame {frame} has an image of {stored.shape} and a mask "
            f"of {voxels.shape} voxels"
        )
    _expect_together(image_file.name, mask_file.name, grid, its_grid, image)
    whole = np.rint(voxels)  # a slope may leave 0.99999
    labels = np.unique(whole)
    if (
        not np.isin(labels, range(len(LABELS))).all()
        or np.abs(voxels - whole).max() > 1e-3
    ):
        raise DataError(
            f"{name}: frame {frame} has mask labels {np.unique(voxels)[:9]}; expected "
            "0, 1, 2, 3"
        )
    # The mask is turned as its image is.
    return Volume(image, grid.to_array(whole.astype(np.uint8)), grid.spacing, grid)


def _expect_together(
    first: str, other: str, grid: Grid | None, its: Grid | None, image: np.ndarray
) -> None:
    if grid and its:
        columns_rows_slices = grid.to_file(image).shape
        expect_together((first, other), grid, its, columns_rows_slices)


def _frame_file(folder: Path, frame: int, suffix: str) -> Path | None:
    """The file of a frame, under the folder's name or under that of the folder that a
    link leads to; é may be stored as one sign or as two.
    """
    stored = {_nfc(file): file for file in os.listdir(folder)}
    for name in (folder.name, folder.resolve().name):
        for ending in (".nii.gz", ".nii"):
            wanted = _nfc(f"{name}_frame{frame:02}{suffix}{ending}")
            if wanted in stored and (folder / stored[wanted]).is_file():
                return folder / stored[wanted]
    return None


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < np.inf else None


def _phantoms(n: int) -> tuple[Patient, ...]:
    hearts = phantom(n, shape=(8, 160, 160))

    def volume(k: int, phase: int) -> Volume:
        image, mask = hearts.image[k, phase].numpy(), hearts.mask[k, phase].numpy()
        return Volume(image, mask, hearts.spacing)

    groups = [GROUPS[g] for g in hearts.group.tolist()]
    return tuple(
        Patient(f"phantom{k:03}", group, volume(k, 0), volume(k, 1))
        for k, group in enumerate(groups)
    )

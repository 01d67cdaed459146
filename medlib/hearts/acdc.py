"""Reading ACDC (Bernard et al., TMI 37, 2018), or any folder laid out as ACDC is:

    patientNNN/Info.cfg                      ED: 1, ES: 12, Group: DCM (frame numbers
                                             and diagnosis)
    patientNNN/patientNNN_frame01.nii.gz     the image at end-diastole (ED), the largest
                                             left ventricle
    patientNNN/patientNNN_frame01_gt.nii.gz  its mask: 0 background, 1 RV, 2 myocardium,
                                             3 LV; may be absent

Volumes have axes (D, H, W) and spacing in mm in that order, from the header's zooms.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medlib import fetch
from medlib.data import DataError
from medlib.hearts.cohorts import LABELS, Cohort, Patient, Volume
from medlib.hearts.phantom import GROUPS, phantom
from medlib.notes import note

LARGEST_VOLUME = 2**27  # voxels; a header that claims more is wrong
GZIP = 1040  # bytes at most that one byte of a gzipped file stands for


def load(folder: str | Path | None = None) -> Cohort:
    """Patients from `folder` or MEDLIB_DATA, any folder laid out as ACDC is; else
    ACDC's, from the cache or MEDLIB_MIRROR/acdc; if there are none, phantoms, under a
    banner that says so. ACDC asks for a registration, so nothing is downloaded.

    Raises DataError where the folder is not there or a patient is damaged.
    """
    chosen = folder or os.environ.get("MEDLIB_DATA")
    if chosen:
        cohort = read_patients(Path(chosen).expanduser())
        note("loaded", name=cohort.name, source=cohort.source)
        return cohort
    try:
        place, source = fetch.folder("acdc")
    except fetch.Unreachable as error:
        fetch.banner("acdc", str(error))
        note("loaded", name="acdc", source="stand-in")
        return Cohort(_phantoms(20), "phantoms", "stand-in")
    note("loaded", name="acdc", source=source)
    return replace(read_patients(place), name="acdc", source=source)


def read_patients(folder: str | Path) -> Cohort:
    """Every patient at any depth under `folder`, by name; the folder names the cohort.

    Raises DataError that names the patient and the fault.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one of patientNNN/")
    found = {p.parent for p in folder.rglob("Info.cfg")} | {
        p for p in folder.rglob("patient*") if p.is_dir()
    }
    if not found:
        raise DataError(
            f"{folder}: no patient; expected folders patientNNN/ with an Info.cfg each"
        )
    patients = (read_patient(place) for place in sorted(found, key=lambda p: p.name))
    return Cohort(tuple(patients), folder.resolve().name, "folder")


def read_patient(folder: str | Path) -> Patient:
    """One patient's folder. Raises DataError that names the patient and the fault."""
    folder = Path(folder)
    info = folder / "Info.cfg"
    if not info.is_file():
        raise DataError(
            f"{folder.name}: no Info.cfg; expected one with the lines ED:, ES: "
            "and Group:"
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
                f"{folder.name}: Info.cfg has {key}: {fields.get(key)!r}; "
                "expected frame numbers for ED and ES, and the diagnosis for Group"
            )
    ed, es = (_volume(folder, int(fields[key])) for key in ("ED", "ES"))
    return Patient(folder.name, fields["Group"], ed, es)


def _volume(folder: Path, frame: int) -> Volume:
    stem = f"{folder.name}_frame{frame:02}"
    found, drawn = read_nifti(folder, stem), read_nifti(folder, stem + "_gt")
    if not found:
        raise DataError(
            f"{folder.name}: no file {stem}.nii.gz, which Info.cfg speaks of"
        )
    image, spacing = found
    if not drawn:
        return Volume(image, None, spacing)
    mask, _ = drawn
    if mask.shape != image.shape:
        raise DataError(
            f"{folder.name}: frame {frame} has an image of {image.shape} and a mask "
            f"of {mask.shape} voxels"
        )
    labels = np.unique(mask)
    if not np.isin(labels, range(len(LABELS))).all():
        raise DataError(
            f"{folder.name}: frame {frame} has mask labels {labels[:9]}; expected 0, "
            "1, 2, 3"
        )
    return Volume(image, mask.astype(np.uint8), spacing)


def read_nifti(
    folder: Path, stem: str
) -> tuple[np.ndarray, tuple[float, float, float]] | None:
    """Voxels (D, H, W) and spacing; None where there is no such file."""
    import nibabel

    files = [
        path
        for suffix in (".nii.gz", ".nii")
        if (path := folder / (stem + suffix)).is_file()
    ]
    if not files:
        return None
    try:
        scan: Any = nibabel.load(files[0])
        # The zooms, since ACDC's affines say 1 mm whatever the pixels are.
        shape, zooms = scan.shape, scan.header.get_zooms()[:3]
        if len(shape) != 3 or not 0 < np.prod(shape, dtype=float) <= LARGEST_VOLUME:
            raise DataError(
                f"{folder.name}: {files[0].name} has the shape {shape}; expected (W, "
                "H, D)"
            )
        if (
            np.prod(shape) * scan.get_data_dtype().itemsize
            > GZIP * files[0].stat().st_size
        ):
            raise DataError(
                f"{folder.name}: {files[0].name} has the shape {shape}, and is too "
                "short for that"
            )
        voxels = np.asarray(scan.dataobj, np.float32).transpose(2, 1, 0)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001
        # whatever nibabel or zlib make of a damaged file
        raise DataError(
            f"{folder.name}: {files[0].name} cannot be read ({error}); fetch it anew"
        ) from None
    if not np.isfinite(voxels).all():
        raise DataError(f"{folder.name}: {files[0].name} holds NaN or infinity")
    columns, rows, slices = (float(mm) for mm in zooms)
    spacing = (slices, rows, columns)
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise DataError(
            f"{folder.name}: {files[0].name} has the spacing {spacing} mm; expected "
            "three lengths above 0"
        )
    return np.ascontiguousarray(voxels), spacing


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

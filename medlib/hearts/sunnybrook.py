"""Sunnybrook: hearts of another hospital, to see what a network is worth away from
home.

Radau et al., "Evaluation Framework for Algorithms Segmenting Short Axis Cardiac MRI",
MIDAS Journal, 2009. An expert drew the LV's inner border at ED and ES and its outer
border at ED, as polygons; the RV was not drawn. `read` takes the original DICOM files
or a copy as JPEG, in any folders that carry the patients' names:

    …/SC-HF-I-05/…/IM-0001-0120-icontour-manual.txt   inner border on image 120;
                                                      …-ocontour-…: outer, only at ED
    …/HF-I-05/d-120.jpg or …/IM-0001-0120.dcm         image 120

Images are numbered through the phases of one slice and then through the slices, base to
apex. Chapter 18.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from medlib import fetch
from medlib.data import DataError
from medlib.extras import extra
from medlib.hearts.cohorts import Cohort, Patient, Volume
from medlib.notes import note

PHASES = 20  # of every slice
LARGEST_IMAGE = 2**24  # pixels; a header that claims more is wrong
# mm; what the set is described with, where a copy as JPEG says nothing
ASSUMED = (8.0, 1.25, 1.25)


def load_sunnybrook() -> Cohort:
    """The patients in the cache or in MEDLIB_MIRROR/sunnybrook; nothing is downloaded.

    Raises Unreachable where there is no such folder, DataError where it is damaged.
    """
    place, source = fetch.folder("sunnybrook")
    note("loaded", name="sunnybrook", source=source)
    return replace(read_sunnybrook(place), name="sunnybrook", source=source)


def read_sunnybrook(folder: str | Path) -> Cohort:
    """Patients with the slices that were drawn at both moments, base to apex, by name;
    a cohort of the folder's name.

    Mask labels are hearts.LABELS: 3 LV, 2 myocardium (at ED alone); the RV stays
    background.

    Raises DataError that names the patient or the file, and the fault.
    """
    inner, outer = (
        _numbered(folder, f"IM-*-{which}contour-manual.txt") for which in "io"
    )
    images = _numbered(folder, "*.jpg") | _numbered(folder, "*.dcm")
    names = sorted({name for name, _ in inner})
    if not names:
        raise DataError(
            f"{folder}: no contour; expected IM-0001-NNNN-icontour-manual.txt in a "
            "patient's folder"
        )
    patients = [
        _patient(name, *(_of(name, files) for files in (images, inner, outer)))
        for name in names
    ]
    return Cohort(tuple(patients), Path(folder).resolve().name, "folder")


def _numbered(folder: str | Path, pattern: str) -> dict[tuple[str, int], Path]:
    """{(patient, image number): file}."""
    found = {}
    for path in Path(folder).rglob(pattern):
        names = [
            part.removeprefix("SC-")
            for part in path.parts
            if re.fullmatch(r"(SC-)?(HF|HYP|N)-.*\d", part)
        ]
        numbers = re.findall(r"\d+", path.stem.removeprefix("IM-0001"))
        if names and numbers:
            found[names[-1], int(numbers[0])] = path
    return found


def _of(name: str, files: dict) -> dict[int, Path]:
    return {number: path for (owner, number), path in files.items() if owner == name}


def _patient(name: str, images: dict, inner: dict, outer: dict) -> Patient:
    drawn = sorted(
        inner.keys() & images.keys()
    )  # the set has a few contours whose image is missing
    ed = {(n - 1) // PHASES: n for n in drawn if n in outer}
    es = {(n - 1) // PHASES: n for n in drawn if n not in outer}
    both = sorted(ed.keys() & es.keys())
    if not both:
        raise DataError(f"{name}: no slice with an image was drawn at both ED and ES")
    return Patient(
        name,
        name.rsplit("-", 1)[0],
        *(_volume(name, [m[k] for k in both], images, inner, outer) for m in (ed, es)),
    )


def _volume(
    name: str, numbers: list[int], images: dict, inner: dict, outer: dict
) -> Volume:
    with extra("chapters"):
        from skimage.draw import polygon2mask

    slices, masks = [], []
    for n in numbers:
        image, spacing = _image(images[n])
        mask = np.zeros(image.shape, np.uint8)
        for label, contours in ((2, outer), (3, inner)):
            if n in contours:
                mask[polygon2mask(image.shape, _polygon(contours[n]))] = label
        slices.append(image)
        masks.append(mask)
    if len({i.shape for i in slices}) > 1:
        raise DataError(
            f"{name}: slices of {sorted({i.shape for i in slices})} pixels; expected "
            "one size"
        )
    return Volume(np.stack(slices), np.stack(masks), spacing)


def _image(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    try:
        if path.suffix == ".dcm":
            import pydicom

            scan = pydicom.dcmread(path)
            if (
                not 0
                < scan.Rows * scan.Columns * int(scan.get("NumberOfFrames", 1))
                <= LARGEST_IMAGE
            ):
                raise ValueError(f"{scan.Rows} × {scan.Columns} pixels")
            image = scan.pixel_array.astype(np.float32)
            spacing = tuple(
                map(float, (scan.get("SliceThickness", ASSUMED[0]), *scan.PixelSpacing))
            )
            if (
                image.ndim != 2
                or len(spacing) != 3
                or not (np.isfinite(spacing).all() and min(spacing) > 0)
            ):
                raise ValueError(f"an image of {image.shape} pixels, {spacing} mm")
            return image, spacing
        from PIL import Image

        return np.asarray(Image.open(path).convert("L"), np.float32), ASSUMED
    except Exception as error:  # noqa: BLE001
        # whatever a damaged file does to its reader
        raise DataError(
            f"{path.name} cannot be read ({error}); fetch it anew"
        ) from None


def _polygon(path: Path) -> np.ndarray:
    """(points, 2): row, column."""
    try:
        points = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path.name} cannot be read ({error})") from None
    if points.shape[1:] != (2,) or len(points) < 3 or not np.isfinite(points).all():
        raise DataError(
            f"{path.name} holds {points.shape} numbers; expected three or more "
            "points of x and y"
        )
    return points[:, ::-1]

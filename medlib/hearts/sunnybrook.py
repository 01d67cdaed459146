"""Sunnybrook: hearts of another hospital, to see what a network is worth away from
home.

Radau et al., "Evaluation Framework for Algorithms Segmenting Short Axis Cardiac MRI",
MIDAS Journal, 2009. An expert drew the LV's inner border at ED and ES and its outer
border at ED, as polygons; the RV was not drawn. `read_sunnybrook` takes each layout
that is about, in folders or in zips:

    SCD_ManualContours/SC-HF-I-01/…/IM-0001-0120-icontour-manual.txt
                                   inner border on image 120; …-ocontour-…: outer
    SCD0000101/CINESAX_300/IM-0003-0120.dcm and scd_patientdata.csv, which joins
                                   SCD0000101 to SC-HF-I-1 (Cardiac Atlas Project)
    SC-HF-I-1/IM-0004-0120.dcm     image 120 (2009)
    HF-I-01/d-120.jpg              image 120, as JPEG
    index.csv, images/…, masks/…   the cavity as masks, without contours (PNG)

What counts in a file's name is its last number. Images are numbered through the 20
phases of one slice and then through the slices, base to apex. Chapter 18.
"""

import csv
import io
import re
import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medlib import fetch
from medlib.data import DataError
from medlib.hearts import dicom
from medlib.hearts.cohorts import Cohort, Patient, Volume
from medlib.hearts.dicom import Entry
from medlib.notes import note

PHASES = 20  # of every slice
# mm; what the set is described with, where a copy as JPEG or PNG says nothing
ASSUMED = (8.0, 1.25, 1.25)
PICTURES = (".jpg", ".jpeg", ".png")


def load_sunnybrook(name: str = "sunnybrook", **wanted: Any) -> Cohort:
    """The patients of a set of the registry: sunnybrook; sunnybrook45, all patients
    with masks of the cavity alone; or sunnybrook_dicom, one whole cine with contours.
    `wanted` goes to fetch.folder.

    Raises Unreachable where the set is not to be had, DataError where it is damaged.
    """
    place, source = fetch.folder(name, **wanted)
    cohort = replace(read_sunnybrook(place), name=name, source=source)
    note("loaded", name=name, source=source)
    return cohort


def read_sunnybrook(folder: str | Path) -> Cohort:
    """Patients with the slices that were drawn at both moments, base to apex, by name;
    a cohort of the folder's name. Volumes are therefore of these slices alone.

    Mask labels are hearts.LABELS: 3 LV, 2 myocardium (at ED alone); the RV stays
    background. A pixel belongs to a contour if the polygon runs through it or around it
    (a point x, y lies in the pixel of column ⌊x⌋ and row ⌊y⌋). With its edge the cavity
    is some 6 % larger than the polygon's area. Slices from DICOM are turned towards
    DICOM's axes, and carry their grid; pictures are as they come.

    A warning names what is lost beyond that: contours without an image, patients who
    cannot be read. Raises DataError where no patient is left.
    """
    folder = Path(folder).expanduser()
    entries = dicom.files(folder)
    index = [e for e in entries if PurePosixPath(e.name).name == "index.csv"]
    masks = [e for e in entries if "masks" in PurePosixPath(e.name).parts]
    told: list[str] = []
    patients = (
        _drawn_as_masks(entries, index[0], told)
        if index and masks
        else _drawn_as_contours(entries, str(folder), told)
    )
    if not patients:
        raise DataError(f"{folder}: no patient can be read: {'; '.join(told)}")
    if told:
        warnings.warn(f"{folder.name}: {'; '.join(told)}", stacklevel=2)
    return Cohort(tuple(patients), folder.resolve().name, "folder")


# ---------------------------------------------------------------- files by patient


def _name(text: str) -> str | None:
    """HF-I-01 of SC-HF-I-1, HF-I-01 and the like: one patient, however written."""
    found = re.fullmatch(r"(?:SC-)?(HF-I|HF-NI|HYP|N)-0*(\d+)", text, re.IGNORECASE)
    return f"{found[1].upper()}-{int(found[2]):02}" if found else None


def _number(name: str) -> int | None:
    """The last number of a file's name: 120 of IM-0001-0120-icontour-manual.txt."""
    numbers = re.findall(r"\d+", PurePosixPath(name).stem)
    return int(numbers[-1]) if numbers else None


def _owner(entry: Entry, names: dict[str, str]) -> str | None:
    """The patient, by the innermost folder of that name."""
    for part in reversed(PurePosixPath(entry.name).parts[:-1]):
        part = part.removesuffix(".zip")
        if owner := names.get(part.upper()) or _name(part):
            return owner
    return None


def _keep(found: dict[int, Any], n: int, entry: Entry, twins: list[str]) -> None:
    """`entry` as number `n`; into `twins` where there is another one already."""
    first = found.setdefault(n, entry)
    if first is entry:
        return
    with first.open() as a, entry.open() as b:
        if a.read() != b.read():
            twins.append(
                f"{first.name} and {entry.name} are both number {n} and differ; "
                "expected one: take the other away"
            )


def _renamed(entries: list[Entry]) -> dict[str, str]:
    """{SCD0000101: HF-I-01}, of any table of the two."""
    names = {}
    for entry in entries:
        if entry.name.lower().endswith(".csv"):
            with entry.open() as f:
                text = f.read().decode("utf-8-sig", errors="replace")
            for row in csv.reader(io.StringIO(text)):
                owners = [n for n in map(_name, map(str.strip, row)) if n]
                keys = [c.strip().upper() for c in row if c.strip().startswith("SCD")]
                if len(owners) == len(keys) == 1:
                    names[keys[0]] = owners[0]
    return names


def _drawn_as_contours(
    entries: list[Entry], where: str, told: list[str]
) -> list[Patient]:
    names = _renamed(entries)
    contours: dict[str, dict[str, dict[int, Entry]]] = defaultdict(
        lambda: {"i": {}, "o": {}}
    )
    images: dict[str, list[Entry]] = defaultdict(list)
    twins: dict[str, list[str]] = defaultdict(list)
    strangers = []
    for entry in entries:
        owner, file = _owner(entry, names), PurePosixPath(entry.name).name
        drawn = re.fullmatch(
            r"IM-\d+-(\d+)-([io])contour-manual\.txt", file, re.IGNORECASE
        )
        if drawn and owner:
            _keep(contours[owner][drawn[2].lower()], int(drawn[1]), entry, twins[owner])
        elif drawn:
            strangers.append(entry.name)
        elif owner and not file.lower().endswith((".txt", ".csv", ".htm", ".pdf")):
            images[owner].append(entry)
    if strangers:
        told.append(
            f"{len(strangers)} contours in no patient's folder left out, e.g. "
            f"{strangers[0]}"
        )
    if not contours:
        raise DataError(
            f"{where}: no contour; expected IM-0001-NNNN-icontour-manual.txt in a "
            "patient's folder, SC-HF-I-01 or the like"
        )
    if bare := [name for name in sorted(contours) if not images[name]]:
        told.append(
            f"left out, contours of {len(bare)} patients without any image: "
            f"{', '.join(bare)}"
        )
    patients = []
    for name in sorted(contours.keys() - set(bare)):
        said: list[str] = []
        try:
            if twins[name]:
                raise DataError(f"{name}: {twins[name][0]}")
            patients.append(_patient(name, images[name], contours[name], said))
        except DataError as error:
            said = [f"left out, {error}"]
        told += said
    return patients


# ---------------------------------------------------------------- one patient


def _patient(
    name: str,
    files: list[Entry],
    contours: dict[str, dict[int, Entry]],
    said: list[str],
) -> Patient:
    inner, outer = contours["i"], contours["o"]
    images = _images(name, files, inner)
    if missing := sorted((inner.keys() | outer.keys()) - images.keys()):
        said.append(
            f"{name}: {len(missing)} contours without an image left out "
            f"({', '.join(map(str, missing))})"
        )
    drawn = sorted(inner.keys() & images.keys())
    ed, es = _moments(drawn, outer)
    both = sorted(ed.keys() & es.keys())
    if not both:
        raise DataError(
            f"{name}: no slice with an image was drawn at both ED and ES "
            f"({len(inner)} inner and {len(outer)} outer contours, {len(images)} "
            "images)"
        )
    volumes, places = [], []
    for numbers in ([m[k] for k in both] for m in (ed, es)):
        planes = [_plane(images[n]) for n in numbers]
        frames = [frame for _, frame in planes if frame is not None]
        remarks: list[str] = []
        spacing, grid = ASSUMED, None
        if frames:
            dicom.alike(frames)
            grid = dicom.geometry(frames, remarks, gaps=True)
            spacing = grid.spacing
        if len({image.shape for image, _ in planes}) > 1:
            raise DataError(
                f"{name}: slices of {sorted({i.shape for i, _ in planes})} pixels; "
                "expected one size"
            )
        shape = planes[0][0].shape
        image = np.stack([i for i, _ in planes])
        mask = np.stack([_mask(shape, n, inner, outer) for n in numbers])
        if grid is not None:
            image, mask = dicom.turned(grid, image), dicom.turned(grid, mask)
        volumes.append(Volume(image, mask, spacing, grid))
        places.append((frames, remarks))
    said += [f"{name}: {remark}" for remark in places[0][1]]
    _expect_one_place(name, volumes, places)
    return Patient(name, name.rsplit("-", 1)[0], volumes[0], volumes[1])


def _images(name: str, files: list[Entry], inner: dict) -> dict[int, Any]:
    """{number: a picture's entry, or a DICOM frame}; of several series of DICOM that
    which holds the images that were drawn.
    """
    pictures = [e for e in files if e.name.lower().endswith(PICTURES)]
    frames, _ = dicom.read_headers(e for e in files if e not in pictures)
    series: dict[Any, dict[int, Any]] = defaultdict(dict)
    for frame in frames:
        number = _number(frame.name)
        if number is not None:
            # Files of two series may lie in one folder, and one series in two.
            prefix = re.sub(r"\d+\D*$", "", frame.name)
            series[frame.series[2], prefix][number] = frame
    if not series:
        numbered: dict[int, Any] = {}
        twins: list[str] = []
        for entry in pictures:
            if (n := _number(entry.name)) is not None:
                _keep(numbered, n, entry, twins)
        if twins:
            raise DataError(f"{name}: {twins[0]}")
        return numbered
    most = max(len(inner.keys() & found.keys()) for found in series.values())
    best = [s for s in series.items() if len(inner.keys() & s[1].keys()) == most]
    if len(best) > 1:
        best = [s for s in best if _short_axis(s[1])] or best
    if len(best) > 1:
        raise DataError(
            f"{name}: {len(best)} series hold the images that were drawn: "
            f"{', '.join(next(iter(s.values())).name for _, s in best)}; expected one: "
            "take the others away"
        )
    return best[0][1]


def _short_axis(found: dict[int, Any]) -> bool:
    frames = list(found.values())
    return "SAX" in f"{frames[0].name} {frames[0].title}".upper() or (
        len({round(f.depth, 1) for f in frames if f.depth is not None}) >= 3
    )


def _moments(
    drawn: list[int], outer: dict[int, Entry]
) -> tuple[dict[int, int], dict[int, int]]:
    """{slice: image number} at ED and at ES. Only at ED was the outer border drawn; an
    image without one is of ED where it has the phase at which most outer ones lie.
    """
    phases = Counter((n - 1) % PHASES for n in drawn if n in outer)
    full = phases.most_common(1)[0][0] if phases else None
    ed = {(n - 1) // PHASES: n for n in drawn if n in outer}
    es: dict[int, int] = {}
    for n in drawn:
        k = (n - 1) // PHASES
        if n not in outer and k not in ed and (n - 1) % PHASES == full:
            ed[k] = n
        elif n not in outer:
            es[k] = n
    return ed, es


def _expect_one_place(name: str, volumes: list[Volume], places: list) -> None:
    ed, es = (frames for frames, _ in places)
    if volumes[0].image.shape != volumes[1].image.shape:
        raise DataError(
            f"{name}: {volumes[0].image.shape} voxels at ED and "
            f"{volumes[1].image.shape} at ES; expected one shape"
        )
    if not ed:
        return
    dicom.alike(ed + es)
    for a, b in zip(ed, es, strict=True):
        if None not in (a.depth, b.depth) and abs(a.depth - b.depth) > dicom.SAME_PLACE:
            raise DataError(
                f"{name}: {a.name} and {b.name} lie {abs(a.depth - b.depth):.1f} mm "
                "apart; expected one slice at ED and ES"
            )


def _plane(image: Any) -> tuple[np.ndarray, dicom.Frame | None]:
    """(H, W) float32, and its DICOM header if it has one."""
    if isinstance(image, dicom.Frame):
        if image.fault:
            raise DataError(image.fault)
        return dicom.read_pixels(image.entry)[image.plane], image
    return _picture(image), None


def _picture(entry: Entry) -> np.ndarray:
    from PIL import Image

    try:
        with entry.open() as f:
            return np.asarray(Image.open(f).convert("L"), np.float32)
    except Exception as error:  # noqa: BLE001
        # whatever a damaged file does to its reader
        raise DataError(
            f"{entry.name} cannot be read ({error}); fetch it anew"
        ) from None


def _mask(shape: tuple, n: int, inner: dict, outer: dict) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for label, contours in ((2, outer), (3, inner)):
        if n in contours:
            mask[filled(_polygon(contours[n]), shape)] = label
    return mask


def filled(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels that the polygon of (points, 2): x, y runs through or
    around.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("1", shape[::-1])
    corners = [(int(x), int(y)) for x, y in np.floor(points)]
    ImageDraw.Draw(picture).polygon(corners, fill=1, outline=1)
    return np.array(picture)


def _polygon(entry: Entry) -> np.ndarray:
    """(points, 2): x, y."""
    try:
        with entry.open() as f, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the file is empty: said below
            points = np.loadtxt(io.StringIO(f.read().decode()), ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{entry.name} cannot be read ({error})") from None
    if points.shape[1:] != (2,) or len(points) < 3 or not np.isfinite(points).all():
        raise DataError(
            f"{entry.name} holds {points.shape} numbers; expected three or more "
            "points of x and y"
        )
    if np.abs(points).max() > 2**16:
        raise DataError(f"{entry.name} holds {points.max():g}; expected pixels")
    return points


# ---------------------------------------------------------------- masks in place of
# contours


def _drawn_as_masks(
    entries: list[Entry], index: Entry, told: list[str]
) -> list[Patient]:
    """Of a copy as PNG: index.csv says what each image is (file, patient, group, slice,
    ed_or_es_inferred); images/… and masks/… hold it.
    """
    base = PurePosixPath(index.name).parent
    found = {e.name: e for e in entries}
    with index.open() as f:
        rows = list(csv.DictReader(io.StringIO(f.read().decode("utf-8-sig"))))
    columns = {"file", "patient", "group", "slice", "ed_or_es_inferred"}
    if not rows or not columns <= rows[0].keys():
        raise DataError(
            f"{index.name}: expected rows of {', '.join(sorted(columns))}; fetch it "
            "anew"
        )
    several: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        several[_name(row["patient"]) or row["patient"]].append(row)
    patients = []
    for name, mine in sorted(several.items()):
        try:
            patients.append(_masked(name, mine, base, found))
        except DataError as error:
            told.append(f"left out, {error}")
    return patients


def _masked(name: str, rows: list[dict], base: PurePosixPath, found: dict) -> Patient:
    at: dict[str, dict[int, str]] = {"ED": {}, "ES": {}}
    for row in rows:
        if row["ed_or_es_inferred"] in at and row["slice"].isdigit():
            at[row["ed_or_es_inferred"]][int(row["slice"])] = row["file"]
    both = sorted(at["ED"].keys() & at["ES"].keys())
    if not both:
        raise DataError(f"{name}: no slice was drawn at both ED and ES")
    volumes = []
    for files in at.values():
        planes = {}
        for kind in ("images", "masks"):
            names = [str(base / kind / f"{files[k]}.png") for k in both]
            if lost := [n for n in names if n not in found]:
                raise DataError(f"{name}: no file {', '.join(lost)}; fetch it anew")
            planes[kind] = [_picture(found[n]) for n in names]
        if len({p.shape for kind in planes.values() for p in kind}) > 1:
            raise DataError(f"{name}: images and masks of several sizes; expected one")
        mask = np.where(np.stack(planes["masks"]) > 0, 3, 0).astype(np.uint8)
        volumes.append(Volume(np.stack(planes["images"]), mask, ASSUMED))
    ed, es = volumes
    return Patient(name, rows[0]["group"], ed, es)

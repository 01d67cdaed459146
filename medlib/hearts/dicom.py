"""DICOM: a folder or a zip of files becomes one cine, each slice at its true place.

Names and numbers of files say nothing of where a slice lies, and SliceLocation may lie.
What counts is ImagePositionPatient, projected on the normal of the slices; what is
missing there is refused, or said. Files need no suffix; nothing is unpacked.
"""

import os
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from medlib.data import DataError
from medlib.hearts.grid import PIXEL, STEP, Grid, towards_dicom

LARGEST_IMAGE = 2**24  # pixels; a header that claims more is wrong
LARGEST_FILE = 2**30  # bytes of a member of a zip, once unpacked
SAME_PLACE = 0.2  # mm; slices closer than this are one
UNEVEN = 0.05  # of the distance between slices
NO_SLICES = {"SEG", "RTDOSE", "RTSTRUCT", "PR", "KO", "SR", "REG"}  # Modality
# what tells the phases of one slice apart; the first that does is taken
CLOCKS = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "InstanceNumber",
    "AcquisitionTime",
)


class Entry(NamedTuple):
    """One file, of a folder or of a zip."""

    name: str  # below the folder that was asked for, with /
    open: Callable[[], BinaryIO]


class Frame(NamedTuple):
    """One image: where it lies, and what tells it from others."""

    entry: Entry
    plane: int  # within a file of several
    uid: str
    series: tuple[str, str, str]  # patient, study, series
    title: str
    shape: tuple[int, int]  # H, W
    pixel: tuple[float, ...]  # mm, row and column
    axes: np.ndarray | None  # (2, 3): along a row, along a column; LPS
    place: np.ndarray | None  # (3,) mm of the first pixel; LPS
    steps: dict[str, float]  # SpacingBetweenSlices, SliceThickness, SliceLocation
    clock: dict[str, float]
    fault: str  # why it can be no slice; empty where it can

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def depth(self) -> float | None:
        """mm along the normal of the slices."""
        if self.axes is None or self.place is None:
            return None
        return float(np.cross(*self.axes) @ self.place)


class Scan(NamedTuple):
    """A cine from DICOM."""

    image: np.ndarray  # (T, D, H, W) float32
    spacing: tuple[float, float, float]  # mm, D, H, W
    grid: Grid  # told is False where the tags do not say where the axes point
    ms: np.ndarray | None  # (T,) after the trigger, median over slices; None: not told
    said: tuple[str, ...]  # what was left out or assumed


def read_dicom(place: str | Path, *, series: str | None = None) -> Scan:
    """The short-axis cine of a folder, a zip or a single file: slices along the normal,
    in the order of rising position, turned towards DICOM's axes; phases in the order
    of time.

    Of several series the stack of three or more parallel slices is taken, and of those
    the one with several phases; a stack that was stored slice by slice in series of its
    own counts as one. `series` names one: its SeriesInstanceUID, SeriesNumber or
    SeriesDescription.

    Raises DataError, which names file and tag, where not exactly one series is meant,
    where slices differ in size, spacing or direction, in the number of phases or in
    distance, or where pixels cannot be decoded.
    """
    frames, said = read_headers(files(place))
    if not frames:
        raise DataError(
            f"{place}: no DICOM image ({'; '.join(said) or 'no file'}); expected the "
            "files of a short-axis cine"
        )
    chosen, others = _choose(frames, series, str(place))
    slices, order = _sorted(chosen, said)
    grid = geometry([phases[0] for phases in slices], said)
    count = len(slices[0])
    stored = np.empty((count, len(slices), *chosen[0].shape), np.float32)
    targets = defaultdict(list)
    for d, phases in enumerate(slices):
        for t, frame in enumerate(phases):
            targets[frame.name].append((t, d, frame))
    for wanted in _progress(list(targets.values())):
        planes = read_pixels(wanted[0][2].entry)
        for t, d, frame in wanted:
            stored[t, d] = planes[frame.plane]
    ms = None
    if order in CLOCKS[:2]:
        ms = np.median([[f.clock[order] for f in phases] for phases in slices], axis=0)
    said += [f"left out, another series: {o}" for o in others]
    image = np.stack([turned(grid, phase) for phase in stored])
    return Scan(image, grid.spacing, grid, ms, tuple(said))


def turned(grid: Grid, stored: np.ndarray) -> np.ndarray:
    """Slices (D, rows, columns) as stored → (D, H, W)."""
    return grid.to_array(stored.transpose(2, 1, 0))


# ---------------------------------------------------------------- files


def files(place: str | Path) -> list[Entry]:
    """The files of a folder, of the zips in it, or of one zip; or the file itself.
    Without hidden ones and what macOS puts beside them. Members of a zip are read into
    memory, and never written.

    Raises DataError where the place is missing or cannot be opened.
    """
    place = Path(place).expanduser()
    if place.is_file():
        if zipfile.is_zipfile(place) or place.suffix.lower() == ".zip":
            return _zipped(place, place.name)
        return [Entry(place.name, partial(_open, place))]
    if not place.is_dir():
        raise DataError(f"{place} is not a folder; expected a folder, a zip or a file")

    def refuse(error: OSError):
        raise DataError(
            f"{error.filename} cannot be opened ({error.strerror}); expected a folder "
            "that you may read"
        )

    found, seen = [], set()
    for folder, inner, names in os.walk(place, onerror=refuse, followlinks=True):
        if os.path.realpath(folder) in seen:  # a link that leads back
            inner.clear()
            continue
        seen.add(os.path.realpath(folder))
        inner[:] = sorted(n for n in inner if not _junk(n))
        for name in sorted(n for n in names if not _junk(n)):
            path = Path(folder, name)
            inside = path.relative_to(place).as_posix()
            if path.suffix.lower() == ".zip":
                found += _zipped(path, inside)
            else:
                found.append(Entry(inside, partial(_open, path)))
    return found


def _junk(name: str) -> bool:
    return name.startswith(".") and name != ".." or name == "__MACOSX"


def _zipped(path: Path, prefix: str) -> list[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read ({error}); expected a whole zip: fetch it anew"
        ) from None
    return [
        Entry(f"{prefix}/{member.filename}", partial(_member, archive, member))
        for member in archive.infolist()
        if not member.is_dir()
        and not any(map(_junk, PurePosixPath(member.filename).parts))
    ]


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    if member.file_size > LARGEST_FILE:
        raise OSError(f"{member.file_size:,} bytes once unpacked")
    return BytesIO(archive.read(member))


# ---------------------------------------------------------------- headers


def read_headers(entries: Iterable[Entry]) -> tuple[list[Frame], list[str]]:
    """The images among the files, without their pixels, and a word on what is none."""
    frames, other, objects, damaged = [], 0, 0, []
    for entry in _progress(list(entries)):
        try:
            scan = _header(entry)
            if scan is None:
                other += 1
            elif not _is_image(scan):
                objects += 1
            else:
                frames += _frames(entry, scan)
        except Exception as error:  # noqa: BLE001
            # whatever a damaged file does to its reader
            damaged.append(f"{entry.name} ({error})")
    said = []
    if other:
        said.append(f"{other} files that are no DICOM left out")
    if objects:
        said.append(f"{objects} DICOM objects that are no images left out")
    if damaged:
        said.append(f"{len(damaged)} damaged files left out: {', '.join(damaged)}")
        warnings.warn(said[-1], stacklevel=3)
    return frames, said


def _header(entry: Entry):
    """The data set without its pixels; None where the file is no DICOM."""
    import pydicom

    with entry.open() as f, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of UIDs and dates that break the rules
        start = f.read(132)
        f.seek(0)
        whole = start[128:] == b"DICM"
        # Old files begin with the data themselves: group 2 or 8, in either byte order.
        bare = start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")
        if not (whole or bare):
            if entry.name.lower().endswith((".dcm", ".dicom", ".ima")):
                raise ValueError("no DICOM file")
            return None
        return pydicom.dcmread(f, stop_before_pixels=True, force=bare)


def _is_image(scan) -> bool:
    return (
        "Rows" in scan and "Columns" in scan and scan.get("Modality") not in NO_SLICES
    )


def _frames(entry: Entry, scan) -> list[Frame]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = int(scan.get("NumberOfFrames") or 1)
        shape = int(scan.Rows), int(scan.Columns)
        if not 0 < count * shape[0] * shape[1] <= LARGEST_IMAGE * 16 or not (
            0 < shape[0] * shape[1] <= LARGEST_IMAGE
        ):
            raise ValueError(f"{count} frames of {shape[0]} × {shape[1]} pixels")
        return [_frame(entry, scan, i, count, shape) for i in range(count)]


def _frame(entry: Entry, scan, index: int, count: int, shape: tuple[int, int]) -> Frame:
    fault, values = "", {}
    for keyword, length in {
        "PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3,
        "SpacingBetweenSlices": 1, "SliceThickness": 1, "SliceLocation": 1,
        **dict.fromkeys(CLOCKS, 1),
    }.items():  # fmt: skip
        try:
            values[keyword] = _numbers(scan, index, keyword, length)
        except DataError as error:
            fault = fault or f"{entry.name}: {error}"
    single = {k: v[0] for k, v in values.items() if v and len(v) == 1}
    pixel = values.get("PixelSpacing") or ()
    colour = str(scan.get("PhotometricInterpretation") or "MONOCHROME2")
    axes, place = (
        values.get(f"Image{what}Patient") for what in ("Orientation", "Position")
    )
    directions = None if axes is None else np.reshape(axes, (2, 3))
    if not fault:
        fault = _fault(scan, colour, pixel, directions, count)
        fault = fault and f"{entry.name}: {fault}"
    steps = ("SpacingBetweenSlices", "SliceThickness", "SliceLocation")
    clock = {k: v for k, v in single.items() if k in CLOCKS}
    if count > 1:
        pointer = scan.get("FrameIncrementPointer")
        if "PerFrameFunctionalGroupsSequence" not in scan and pointer is not None:
            clock = {"TemporalPositionIndex": float(index)}
            if time := scan.get("FrameTime"):
                clock["TriggerTime"] = index * float(time)
        elif "InstanceNumber" in clock:  # one for the whole file
            clock["InstanceNumber"] = float(index)
    text = {k: str(scan.get(k) or "") for k in (
        "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID",
        "SeriesNumber", "SeriesDescription",
    )}  # fmt: skip
    return Frame(
        entry,
        index,
        text["SOPInstanceUID"],
        (text["PatientID"], text["StudyInstanceUID"], text["SeriesInstanceUID"]),
        f"{text['SeriesNumber']} {text['SeriesDescription']}".strip(),
        shape,
        pixel,
        directions,
        None if place is None else np.array(place),
        {k: single[k] for k in steps if k in single},
        clock,
        fault,
    )


def _fault(scan, colour: str, pixel: tuple, axes, count: int) -> str:
    if int(scan.get("SamplesPerPixel") or 1) != 1 or not colour.startswith("MONO"):
        return (
            f"a colour image (PhotometricInterpretation {colour}); expected grey values"
        )
    if not pixel:
        instead = (
            "; ImagerPixelSpacing measures the detector and is no substitute"
            if scan.get("ImagerPixelSpacing")
            else ""
        )
        return (
            f"{_tag('PixelSpacing')} is missing or empty, so that no length is known"
            f"{instead}; expected mm, as the scanner wrote them: export the series anew"
        )
    if not PIXEL[0] <= min(pixel) <= max(pixel) <= PIXEL[1]:
        return (
            f"{_tag('PixelSpacing')} is {pixel}; expected {PIXEL[0]:g} to "
            f"{PIXEL[1]:g} mm"
        )
    if axes is not None and np.abs(axes @ axes.T - np.eye(2)).max() > 1e-2:
        return (
            f"{_tag('ImageOrientationPatient')} is {axes.ravel().tolist()}; expected "
            "two directions of length 1 at right angles"
        )
    told = "FrameIncrementPointer" in scan or "PerFrameFunctionalGroupsSequence" in scan
    if count > 1 and not told:
        return (
            f"{count} frames, and no {_tag('FrameIncrementPointer')} that says whether "
            "they are phases or slices; expected one: export it as single frames"
        )
    return ""


def _numbers(scan, index: int, keyword: str, length: int) -> tuple[float, ...] | None:
    """Of one frame; None where the tag is missing or empty."""
    value = _find(scan, index, keyword)
    if value is None or value == "" or (np.ndim(value) and not len(value)):
        return None
    values = value if np.ndim(value) else [value]
    try:
        if keyword == "AcquisitionTime":
            text = str(values[0]).replace(":", "")
            values = [
                3600 * float(text[:2]) + 60 * float(text[2:4]) + float(text[4:] or 0)
            ]
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        if keyword == "AcquisitionTime":
            return None
        numbers = ()
    if len(numbers) != length or not np.isfinite(numbers).all():
        raise DataError(f"{_tag(keyword)} is {value}; expected {length} numbers")
    return numbers


def _find(scan, index: int, keyword: str) -> Any:
    """A tag's value: of the frame, of all frames, or of the file."""
    for groups, k in (("PerFrame", index), ("Shared", 0)):
        items = scan.get(f"{groups}FunctionalGroupsSequence") or []
        for macro in items[k] if k < len(items) else []:
            if macro.VR == "SQ" and macro.value:
                value = macro.value[0].get(keyword)
                if value not in (None, ""):
                    return value
    return scan.get(keyword)


def _tag(keyword: str) -> str:
    """PixelSpacing (0028,0030)"""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


# ---------------------------------------------------------------- which series


def _choose(
    frames: list[Frame], wanted: str | None, where: str
) -> tuple[list[Frame], list[str]]:
    """The frames of the one stack that is meant, and the other series in words."""
    several = defaultdict(list)
    for frame in frames:
        several[frame.series].append(frame)
    if wanted is not None:
        chosen = [
            group
            for group in several.values()
            if wanted
            in (group[0].series[2], group[0].title, *group[0].title.split(" ", 1))
        ]
        stacks = chosen
    else:
        stacks = _joined(list(several.values()))
        if len(stacks) > 1:
            chosen = [s for s in stacks if _is_stack(s)]
            moving = [s for s in chosen if len(s) > len(_places(s))]
            chosen = moving or chosen
        else:
            chosen = stacks
    if len(chosen) != 1:
        found = "; ".join(map(_in_words, stacks or several.values()))
        raise DataError(
            f"{where}: {len(chosen) or 'none'} of {len(stacks or several)} series "
            f"could be the short-axis cine: {found}; expected exactly one: name it as "
            "series=…, or put its files into a folder of their own"
        )
    return chosen[0], [_in_words(s) for s in stacks if s is not chosen[0]]


def _joined(groups: list[list[Frame]]) -> list[list[Frame]]:
    """Series of one slice each that are parallel and alike are one stack: some scanners
    store a short-axis cine so.
    """
    whole, loose = [], defaultdict(list)
    for group in groups:
        first = group[0]
        if len(_places(group)) > 1 or first.axes is None or first.place is None:
            whole.append(group)
        else:
            key = (*first.series[:2], first.shape, first.pixel, len(group))
            loose[*key, tuple(first.axes.round(3).ravel() + 0.0)].append(group)
    for alike in loose.values():
        together = [frame for group in alike for frame in group]
        apart = len(alike) > 1 and len(_places(together)) == len(alike)
        whole += [together] if apart else alike
    return whole


def _places(group: list[Frame]) -> set[tuple]:
    return {
        tuple(np.round(f.place / SAME_PLACE))
        if f.place is not None
        else (f.steps.get("SliceLocation"),)
        for f in group
    }


def _is_stack(group: list[Frame]) -> bool:
    """Three or more slices, most of them parallel; a scout has three directions."""
    axes = Counter(
        None if f.axes is None else tuple(f.axes.round(2).ravel()) for f in group
    )
    grey = [f for f in group if "colour" not in f.fault]
    return (
        len(grey) == len(group)
        and len(_places(group)) >= 3
        and axes.most_common(1)[0][1] > 2 / 3 * len(group)
    )


def _in_words(group: list[Frame]) -> str:
    first = group[0]
    name = first.title or first.series[2] or "without a number"
    places = len(_places(group))
    return f"{name} ({len(group)} images at {places} places, e.g. {first.name})"


# ---------------------------------------------------------------- order


def _sorted(frames: list[Frame], said: list[str]) -> tuple[list[list[Frame]], str]:
    """Slices along the normal, each with its phases in time; and the tag that told the
    phases apart.
    """
    alike(frames)
    frames = _once(frames, said)
    slices = _slices(frames, said)
    usual = Counter(len(s) for s in slices).most_common(1)[0][0]
    for phases in sorted(slices, key=len):  # where files are missing, first
        if len(phases) != usual:
            f = phases[0]
            raise DataError(
                f"{f.name}: its slice ({_tag('ImagePositionPatient')} {_at(f)}) has "
                f"{len(phases)} phases and most others {usual}; expected as many in "
                f"each: {_so_far(said)}export the series anew, or take the files of "
                "that slice away"
            )
    if usual == 1:
        return slices, ""
    for clock in CLOCKS:
        if not all(clock in f.clock for f in frames):
            continue
        times = [[f.clock[clock] for f in phases] for phases in slices]
        distinct = [len(set(t)) for t in times]
        if all(n == usual for n in distinct):
            return [sorted(s, key=lambda f: f.clock[clock]) for s in slices], clock
        if clock == "TriggerTime" and max(distinct) > 1:
            short = slices[int(np.argmin(distinct))]
            _refuse_twins(short, clock)
    raise DataError(
        f"{frames[0].name}: nothing tells the {usual} phases of a slice apart; "
        f"expected {', '.join(map(_tag, CLOCKS[:1] + CLOCKS[4:]))}: one of them "
        "different in each"
    )


def _refuse_twins(phases: list[Frame], clock: str) -> None:
    first: dict[float, Frame] = {}
    for f in phases:
        twin = first.setdefault(f.clock[clock], f)
        if twin is not f:
            raise DataError(
                f"{twin.name} and {f.name} are of one slice and one {_tag(clock)} "
                f"({f.clock[clock]:g} ms); expected one file for each phase: take one "
                "of each pair away"
            )


def alike(frames: list[Frame]) -> None:
    """Raise DataError where frames cannot be slices of one stack; it names one that
    differs from most.
    """
    for f in frames:
        if f.fault:
            raise DataError(f.fault)
    for what, of in (
        ("Rows × Columns", lambda f: f.shape),
        (_tag("PixelSpacing"), lambda f: f.pixel),
        (
            _tag("ImageOrientationPatient"),
            lambda f: () if f.axes is None else tuple(f.axes.ravel()),
        ),
    ):
        usual = Counter(map(of, frames)).most_common(1)[0][0]
        for f in frames:
            mine = of(f)
            if len(mine) != len(usual) or not np.allclose(mine, usual, 1e-3, 1e-3):
                raise DataError(
                    f"{f.name}: {what} is {_short(mine)}, and {_short(usual)} in most "
                    "files of its series; expected one for all slices: put other "
                    "series into folders of their own"
                )


def _short(values: tuple) -> str:
    return " × ".join(f"{v:.5g}" for v in values) or "missing"


def _once(frames: list[Frame], said: list[str]) -> list[Frame]:
    """Without copies of a file under a second name."""
    kept: dict[tuple, Frame] = {}
    copies = []
    for f in frames:
        key = (f.uid or f.name, f.plane, f.depth, tuple(sorted(f.clock.items())))
        if kept.setdefault(key, f) is not f:
            copies.append(f"{f.name} (a copy of {kept[key].name})")
    if copies:
        said.append(f"{len(copies)} left out: {', '.join(copies)}")
    return list(kept.values())


def _slices(frames: list[Frame], said: list[str]) -> list[list[Frame]]:
    if all(f.depth is not None for f in frames):
        depths: list[float] = [f.depth for f in frames]  # type: ignore[misc]
    elif any(f.depth is not None for f in frames):
        f = next(f for f in frames if f.depth is None)
        raise DataError(
            f"{f.name}: {_tag('ImagePositionPatient')} is missing or empty, and others "
            "of its series have one; expected one in each: export the series anew"
        )
    elif len(frames) > 1 and all("SliceLocation" in f.steps for f in frames):
        said.append(
            f"no {_tag('ImagePositionPatient')}: slices are ordered by SliceLocation"
        )
        depths = [f.steps["SliceLocation"] for f in frames]
    elif len({f.name for f in frames}) == 1:  # one file: a slice through time
        depths = [0.0] * len(frames)
    else:
        f = frames[0]
        raise DataError(
            f"{f.name}: neither {_tag('ImagePositionPatient')} nor "
            f"{_tag('SliceLocation')}, so that the place of a slice is not known; "
            "expected one: export the series anew"
        )
    slices: list[list[Frame]] = []
    last = -np.inf
    for i in np.argsort(depths, kind="stable"):
        if depths[i] - last > SAME_PLACE:
            slices.append([])
            last = depths[i]
        slices[-1].append(frames[i])
    return slices


def _at(frame: Frame) -> str:
    return "?" if frame.place is None else " ".join(f"{v:.1f}" for v in frame.place)


def _so_far(said: list[str]) -> str:
    return "".join(f"{s}; " for s in said if "damaged" in s)


# ---------------------------------------------------------------- millimetres


def geometry(slices: list[Frame], said: list[str], *, gaps: bool = False) -> Grid:
    """The grid of slices in their order, turned towards DICOM's axes.

    Distances are those of ImagePositionPatient along the normal. Where it is missing,
    or there is one slice, SpacingBetweenSlices, then SliceThickness, and `said` tells.
    Raises DataError where they are not equal, unless `gaps`, which are said.
    """
    first, sign = slices[0], 1.0
    placed = all(f.depth is not None for f in slices)
    if placed and len(slices) > 1:
        steps = np.diff([f.depth for f in slices])  # type: ignore[arg-type]
        step = round(float(np.median(np.abs(steps))), 4)  # tags hold no more
        sign = float(np.sign(np.median(steps)))
        uneven = np.abs(steps - sign * step) > UNEVEN * step
        if uneven.any():
            k = int(np.argmax(uneven))
            text = (
                f"{slices[k].name} and {slices[k + 1].name} lie {abs(steps[k]):.2f} mm "
                f"apart, most slices {step:.2f} mm ({_tag('ImagePositionPatient')})"
            )
            if not gaps:
                raise DataError(
                    f"{text}; expected equal distances: {_so_far(said)}a slice is "
                    "missing, or two stacks are mixed"
                )
            said.append(text)
    else:
        tag, step = next(
            ((k, first.steps[k]) for k in ("SpacingBetweenSlices", "SliceThickness")
             if first.steps.get(k, 0) != 0), ("", 0.0)
        )  # fmt: skip
        step = abs(step)
        if not STEP[0] <= step <= STEP[1]:
            raise DataError(
                f"{first.name}: the distance of slices is not known: no "
                f"{_tag('ImagePositionPatient')} of two slices, no "
                f"{_tag('SpacingBetweenSlices')}, no {_tag('SliceThickness')} "
                f"({step:g} mm); expected one: export the series anew"
            )
        if len(slices) > 1 or tag == "SliceThickness":
            said.append(f"{step:g} mm between slices, by {tag} ({first.name})")
    affine = np.diag([first.pixel[1], first.pixel[0], step, 1.0])
    if not placed or first.axes is None or first.place is None:
        return Grid(np.diag([-1.0, -1, 1, 1]) @ affine, told=False)
    axes = np.vstack((first.axes, sign * np.cross(*first.axes)))
    affine[:3, :3] = (axes / np.linalg.norm(axes, axis=1, keepdims=True)).T * (
        first.pixel[1],
        first.pixel[0],
        step,
    )
    affine[:3, 3] = first.place
    places = np.array([f.place for f in slices])
    straight = first.place + np.outer(np.arange(len(slices)), affine[:3, 2])
    aside = np.abs(places - straight).max()
    if not gaps and aside > max(first.pixel):
        said.append(
            f"slices are shifted against each other by up to {aside:.1f} mm; the grid "
            "takes them as straight"
        )
    affine = np.diag([-1.0, -1, 1, 1]) @ affine  # DICOM's left and back to right, front
    return Grid(affine, towards_dicom(affine))


# ---------------------------------------------------------------- pixels


def read_pixels(entry: Entry) -> np.ndarray:
    """(frames, H, W) float32: RescaleSlope and RescaleIntercept applied, MONOCHROME1
    turned round, so that more is brighter.

    Raises DataError that names the file.
    """
    import pydicom

    try:
        with entry.open() as f, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scan = pydicom.dcmread(f, force=True)
            _decodable(scan)
            stored = scan.pixel_array
            shape = (-1, int(scan.Rows), int(scan.Columns))
            stored = stored.reshape(shape).astype(np.float32)
            if scan.PhotometricInterpretation == "MONOCHROME1":
                bits, signed = int(scan.BitsStored), int(scan.PixelRepresentation)
                stored = (-1 if signed else 2**bits - 1) - stored
            for i, plane in enumerate(stored):
                slope, intercept = (
                    _numbers(scan, i, f"Rescale{what}", 1)
                    for what in ("Slope", "Intercept")
                )
                if slope == (0,):
                    raise ValueError(f"{_tag('RescaleSlope')} is 0")
                plane *= slope[0] if slope else 1
                plane += intercept[0] if intercept else 0
    except Exception as error:  # noqa: BLE001
        # whatever a damaged file does to its reader
        raise DataError(
            f"{entry.name} cannot be read ({error}); expected a whole DICOM image"
        ) from None
    if not np.isfinite(stored).all():
        raise DataError(f"{entry.name} holds NaN or infinity; expected grey values")
    return stored


def _decodable(scan) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    if "TransferSyntaxUID" not in scan.file_meta:  # a file without a preamble
        implicit, little = scan.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        scan.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    syntax = scan.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.name.startswith("Deflated"):
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ValueError(f"compressed as {syntax.name}, {syntax}: no decoder") from None
    if not decoder.is_available:
        needs = [d.split("requires ")[-1] for d in decoder.missing_dependencies]
        raise ValueError(
            f"compressed as {syntax.name}, {syntax}; to decode it, install one of: "
            + "; ".join(needs)
        )


def _progress(items: list):
    from tqdm.auto import tqdm

    quiet = len(items) < 100 or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(items, desc="DICOM", unit="file", leave=False, disable=quiet)

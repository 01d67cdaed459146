"""Where voxels lie: what a file says of lengths and directions, how much of it can be
believed, and the way back into the file.

Arrays are (D, H, W), and D is always the file's slice axis: nothing permutes it. Within
a slice only flips and quarter turns, towards DICOM's axes; they are kept beside the
affine and undone exactly on writing. NIfTI's header fields: Cox et al., "A (sort of)
new image data format standard: NIfTI-1", Neuroimage 22, 2004.
"""

import gzip
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medlib.data import DataError

# What a scan of a heart can be, in mm. Two fields of a header that contradict each
# other are judged by both sides of the image and the height of the stack together.
SIDE = (80.0, 550.0)  # no image of a chest is wider, and few scanners are
STACK = (30.0, 250.0)  # a heart is some 100 mm long
USUAL = 400.0  # the usual longer side of ACDC's images
PIXEL = (0.1, 20.0)  # outside these a length is no pixel's
STEP = (0.1, 50.0)  # nor a distance of slices
NARROW = 60.0  # an image of a hundred pixels or more shows at least a heart
ROUNDING = 0.01  # of a length
ANGLE = 0.02  # of a direction's cosine: one degree
LARGEST_VOLUME = 2**27  # voxels; a header that claims more is wrong
GZIP = 1040  # bytes at most that one byte of a gzipped file stands for
METRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # mm, by the code of the unit
SECONDS = {8: 1000.0, 16: 1.0, 24: 0.001}  # ms


class Turn(NamedTuple):
    """One of the eight positions of a slice: rows and columns exchanged, then the rows
    in reverse, then the columns.
    """

    transposed: bool = False
    rows: bool = False
    columns: bool = False


AS_STORED = Turn()


@dataclass(frozen=True, eq=False)
class Grid:
    """The way between a file's voxels [column, row, slice] and an array (D, H, W).

    affine  (4, 4): of the file's indices to millimetres towards right, front and head,
            as believed
    turn    of each slice, from the file to the array
    told    whether the file says where its axes point
    header  of the NIfTI file, byte for byte; None where there was none
    """

    affine: np.ndarray
    turn: Turn = AS_STORED
    told: bool = True
    header: Any = None

    @property
    def lengths(self) -> tuple[float, float, float]:
        """mm from one column, row and slice of the file to the next."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).round(6).tolist()
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm of the array's axes (D, H, W)."""
        i, j, k = self.lengths
        return (k, i, j) if self.turn.transposed else (k, j, i)

    def to_array(self, voxels: np.ndarray) -> np.ndarray:
        """[column, row, slice] as stored → (D, H, W)."""
        x = voxels.transpose(2, 1, 0)
        if self.turn.transposed:
            x = x.swapaxes(1, 2)
        return np.ascontiguousarray(x[:, *self._steps()])

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_array`."""
        x = array[:, *self._steps()]
        if self.turn.transposed:
            x = x.swapaxes(1, 2)
        return np.ascontiguousarray(x.transpose(2, 1, 0))

    def _steps(self) -> tuple[slice, slice]:
        return (
            slice(None, None, -1 if self.turn.rows else 1),
            slice(None, None, -1 if self.turn.columns else 1),
        )


def towards_dicom(affine: np.ndarray) -> Turn:
    """The turn after which rows run most towards the patient's left or back, and
    columns towards the back or the feet, as DICOM's do. A tie keeps the file's order.

    affine (4, 4): of column, row and slice to millimetres towards right, front, head.
    """
    # DICOM counts towards the left, the back and the head.
    axes = np.diag([-1, -1, 1]) @ affine[:3, :3]
    column, row, _ = (axes / np.linalg.norm(axes, axis=0)).T
    best, found = -np.inf, AS_STORED
    for transposed in (False, True):
        for rows in (False, True):
            for columns in (False, True):
                w, h = (row, column) if transposed else (column, row)
                w, h = (-w if columns else w), (-h if rows else h)
                score = w @ (1, 1, 0) + h @ (0, 1, -1)
                if score > best + 1e-3:  # a tie is one within rounding
                    best, found = score, Turn(transposed, rows, columns)
    return found


# ---------------------------------------------------------------- reading


def read_nifti(path: str | Path, *, axes: int = 3) -> tuple[np.ndarray, Grid]:
    """Voxels as the file stores them, [column, row, slice] or with `axes=4` [column,
    row, slice, phase], in the file's own number type or scaled by its slope; and their
    grid, which brings them into an array.

    A header that contradicts itself is mended with a warning where one of its values
    can be a heart scan's and the other cannot. Raises DataError that names the file,
    what was found and what was expected.
    """
    import nibabel

    path = Path(path)
    name = f"{path.parent.name}/{path.name}"
    try:
        scan: Any = nibabel.load(path)
        shape = _shape(name, scan, axes)
        if np.prod(shape) * scan.get_data_dtype().itemsize > GZIP * path.stat().st_size:
            raise DataError(f"{name} has the shape {shape}, and is too short for that")
        _expect_grey(name, scan.get_data_dtype())
        voxels = np.asarray(scan.dataobj).reshape(shape)
        header = _raw_header(path, scan)
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(
            f"{name} cannot be opened ({error.strerror}); expected a file that you may "
            "read"
        ) from None
    except Exception as error:  # noqa: BLE001
        # whatever nibabel or zlib make of a damaged file
        raise DataError(
            f"{name} cannot be read ({error}); expected a whole NIfTI file: fetch it "
            "anew"
        ) from None
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise DataError(f"{name} holds NaN or infinity; expected grey values")
    return voxels, geometry(name, header, shape[:3])


def _shape(name: str, scan: Any, axes: int) -> tuple[int, ...]:
    """Without axes of 1 behind the last that counts."""
    shape = tuple(int(n) for n in scan.shape)
    while len(shape) > axes and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != axes or not 0 < np.prod(shape, dtype=float) <= LARGEST_VOLUME:
        several = (
            ", one phase; hearts.read_cine reads several"
            if len(shape) == 4
            else ", slices through time"
            if axes == 4
            else ""
        )
        expected = ("columns", "rows", "slices", "phases")[:axes]
        raise DataError(
            f"{name} has the shape {shape}; expected ({', '.join(expected)}){several}"
        )
    return shape


def _expect_grey(name: str, dtype: np.dtype) -> None:
    if dtype.kind == "V":
        raise DataError(
            f"{name} is a colour image ({', '.join(dtype.names or ())}); expected one "
            "grey value a voxel: export it as grey"
        )
    if dtype.kind == "c":
        raise DataError(
            f"{name} holds complex numbers; expected grey values: save the magnitude"
        )


def as_image(name: str, voxels: np.ndarray) -> np.ndarray:
    """float32. Raises DataError for values beyond it and for an image of one value."""
    largest = max(abs(float(voxels.max())), abs(float(voxels.min())))
    if largest > float(np.finfo(np.float32).max):
        raise DataError(
            f"{name} holds values up to {largest:.3g}, more than float32 can; expected "
            "grey values: divide them by a constant"
        )
    if voxels.size > 1 and voxels.max() == voxels.min():
        raise DataError(
            f"{name} is {float(voxels.flat[0]):g} in every voxel; expected an image"
        )
    return voxels.astype(np.float32)


def _raw_header(path: Path, scan: Any) -> Any:
    """The header as it stands in the file: nibabel mends some of it on loading."""
    from nibabel.openers import ImageOpener

    kind = type(scan.header)
    place = scan.file_map.get("header") or scan.file_map["image"]
    with ImageOpener(str(place.filename or path)) as f:
        block = f.read(kind.sizeof_hdr)
    return kind(block, endianness=scan.header.endianness, check=False)


# ---------------------------------------------------------------- what to believe


def geometry(name: str, header: Any, shape: Sequence[int]) -> Grid:
    """The grid of `shape` voxels (columns, rows, slices) by a NIfTI header.

    Lengths stand in pixdim and in the sform. Where they disagree, the one that says
    1 × 1 × 1 mm is the unset one: the other's lengths are taken, and the sform's
    directions. Any other disagreement is decided by what a heart scan can be, said,
    and refused where neither or both can. Unknown units are mm. Slices are turned
    towards DICOM's axes where lengths and directions agree.
    """
    unit = METRES.get(int(header["xyzt_units"]) & 7, 1.0)
    pixdim = header["pixdim"][1:4].astype(float) * unit
    sform = _sform(name, header, unit)
    qform = _qform(header, unit)
    in_sform = None if sform is None else np.linalg.norm(sform[:3, :3], axis=0)
    lengths, trusted = _lengths(name, pixdim, in_sform, shape)
    lengths = _expect_heart(name, lengths, unit, shape)
    if sform is not None and (trusted == "both" or trusted == "sform"):
        chosen, believed = sform, True
        if trusted == "both" and qform is not None:
            _compare_forms(name, sform, qform)
    elif qform is not None:  # its lengths are pixdim's
        chosen, believed = qform, True
    elif sform is not None:
        chosen, believed = sform, False
    else:
        chosen, believed = np.diag([-1.0, -1.0, 1.0, 1.0]), False
    affine = chosen.copy()
    affine[:3, :3] *= lengths / np.linalg.norm(affine[:3, :3], axis=0)
    if _lost(lengths, shape):
        believed = believed and not _unset(lengths)
        warnings.warn(
            f"{name}: {shape[2]} slices {lengths[2]:g} mm apart make a stack of "
            f"{shape[2] * lengths[2]:.0f} mm, less than a heart: the header's lengths "
            "are probably lost; do not trust mm and mL",
            stacklevel=2,
        )
    turn = towards_dicom(affine) if believed else AS_STORED
    told = sform is not None or qform is not None
    return Grid(affine, turn, told, header)


def _sform(name: str, header: Any, unit: float) -> np.ndarray | None:
    """(4, 4), offsets and lengths in mm; None where unset or no geometry."""
    if int(header["sform_code"]) <= 0:
        return None
    affine = np.eye(4)
    affine[:3] = [header[f"srow_{axis}"] for axis in "xyz"]
    affine[:3] *= unit
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or min(lengths) <= 0:
        _say(name, "the sform holds no three directions; pixdim is taken")
        return None
    cosines = affine[:3, :3] / lengths
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 0.05:
        raise DataError(
            f"{name}: the axes of its sform are not at right angles; expected a grid "
            "that is not sheared: resample it"
        )
    return affine


def _qform(header: Any, unit: float) -> np.ndarray | None:
    """(4, 4), directions of length 1; None where unset or no rotation."""
    from nibabel.quaternions import fillpositive, quat2mat

    if int(header["qform_code"]) <= 0:
        return None
    try:
        quaternion = fillpositive(
            [float(header[f"quatern_{axis}"]) for axis in "bcd"], w2_thresh=-1e-5
        )
    except ValueError:
        return None
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion)
    if header["pixdim"][0] < 0:  # the third axis in reverse
        affine[:3, 2] *= -1
    affine[:3, 3] = [float(header[f"qoffset_{axis}"]) * unit for axis in "xyz"]
    return affine if np.isfinite(affine).all() else None


def _lengths(
    name: str, pixdim: np.ndarray, sform: np.ndarray | None, shape: Sequence[int]
) -> tuple[np.ndarray, str]:
    """mm of columns, rows and slices, and whose they are: both, pixdim or sform."""
    if (pixdim < 0).any() and np.isfinite(pixdim).all():
        _say(name, f"pixdim is {_mm(pixdim)}; its signs are dropped")
        pixdim = np.abs(pixdim)
    valid = np.isfinite(pixdim).all() and (pixdim > 0).all()
    if not valid:
        if sform is None:
            raise DataError(
                f"{name} has the spacing {_mm(pixdim)} in pixdim, and no sform; "
                "expected three lengths above 0: look them up where the file was made"
            )
        _say(name, f"pixdim is {_mm(pixdim)}; the sform's {_mm(sform)} are taken")
        return sform, "sform"
    if sform is None:
        return pixdim, "pixdim"
    if np.allclose(pixdim, sform, rtol=ROUNDING):
        return pixdim, "both"
    if _unset(sform):  # as in ACDC: every file of it, so that no word is needed
        return pixdim, "pixdim"
    if _unset(pixdim):
        _say(name, f"pixdim is unset ({_mm(pixdim)}); the sform's {_mm(sform)} taken")
        return sform, "sform"
    fits = [_fits(pixdim, shape), _fits(sform, shape)]
    both = f"pixdim says {_mm(pixdim)}, its sform {_mm(sform)}"
    if sum(fits) != 1:
        raise DataError(
            f"{name}: {both}, and {'both' if all(fits) else 'neither'} can be a heart "
            f"scan's ({_sizes(pixdim, shape)}; {_sizes(sform, shape)}); expected one "
            "spacing: look it up where the file was made"
        )
    k = fits.index(True)
    _say(
        name,
        f"{both}; only {('pixdim', 'the sform')[k]} can be a heart scan's, and is "
        "taken",
    )
    return ((pixdim, "pixdim"), (sform, "sform"))[k]


def _expect_heart(
    name: str, lengths: np.ndarray, unit: float, shape: Sequence[int]
) -> np.ndarray:
    """Lengths that a heart scan can have, mended where that is certain enough."""
    if unit != 1 and not _fits(lengths, shape) and _fits(lengths / unit, shape):
        _say(name, f"{_mm(lengths)} by its unit; taken as {_mm(lengths / unit)}")
        return lengths / unit
    field = max(shape[:2] * lengths[:2])
    if field > SIDE[1]:
        mended = lengths * (USUAL / field, USUAL / field, 1)
        _say(
            name,
            f"the header's spacing makes the image {field:.0f} mm wide, which no heart "
            f"scan is; taken as {USUAL:.0f} mm",
        )
        lengths = mended
    low, high = np.array([PIXEL, PIXEL, STEP]).T
    narrow = field < NARROW and min(shape[:2]) >= 100
    tall = shape[2] * lengths[2] > 2 * STACK[1]
    if narrow or tall or (lengths < low).any() or (lengths > high).any():
        raise DataError(
            f"{name} has the spacing {_mm(lengths)}, {_sizes(lengths, shape)}; "
            f"expected mm of a heart scan, pixels of {PIXEL[0]:g} to {PIXEL[1]:g}, "
            f"slices up to {STEP[1]:g} apart: look them up where the file was made"
        )
    return lengths


def _compare_forms(name: str, sform: np.ndarray, qform: np.ndarray) -> None:
    cosines = sform[:3, :3] / np.linalg.norm(sform[:3, :3], axis=0)
    if np.abs(cosines - qform[:3, :3]).max() > ANGLE:
        _say(
            name,
            f"its sform points towards {_axes(sform)}, its qform towards "
            f"{_axes(qform)}, turned by up to "
            f"{np.degrees(np.arccos(_cosine(cosines, qform))):.0f}°; the sform is "
            "taken",
        )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.clip((a * b[:3, :3]).sum(0).min(), -1, 1))


def _unset(lengths: np.ndarray) -> bool:
    return bool(np.allclose(lengths, 1, rtol=0, atol=1e-4))


def _fits(lengths: np.ndarray, shape: Sequence[int]) -> bool:
    sides, height = shape[:2] * lengths[:2], shape[2] * lengths[2]
    return bool(
        SIDE[0] <= min(sides)
        and max(sides) <= SIDE[1]
        and STACK[0] <= height <= STACK[1]
    )


def _lost(lengths: np.ndarray, shape: Sequence[int]) -> bool:
    return shape[2] >= 5 and shape[2] * lengths[2] < STACK[0]


def _sizes(lengths: np.ndarray, shape: Sequence[int]) -> str:
    width, height, stack = shape * lengths
    return f"an image of {width:.4g} × {height:.4g} mm and a stack of {stack:.4g} mm"


def _mm(lengths: np.ndarray) -> str:
    return " × ".join(f"{v:.5g}" for v in lengths) + " mm"


def _axes(affine: np.ndarray) -> str:
    import nibabel

    return "".join(code or "?" for code in nibabel.aff2axcodes(affine))


def _say(name: str, text: str) -> None:
    warnings.warn(f"{name}: {text}", stacklevel=4)


def expect_together(
    names: tuple[str, str], first: Grid, other: Grid, shape: Sequence[int]
) -> None:
    """Hold two grids of `shape` voxels (columns, rows, slices) against each other:
    image and mask, or two moments.

    A warning where one is shifted by more than half a voxel, or has no geometry of its
    own; DataError where lengths or directions differ by more than rounding.
    """
    a, b = np.array(first.lengths), np.array(other.lengths)
    if not np.allclose(a, b, rtol=ROUNDING):
        if _unset(b):
            _say(
                names[1],
                f"its header says 1 × 1 × 1 mm and is unset; {names[0]}'s {_mm(a)} "
                "are taken",
            )
            return
        raise DataError(
            f"{names[0]} has the spacing {_mm(a)}, {names[1]} {_mm(b)}; expected one "
            "grid: resample the second onto the first"
        )
    if first.told != other.told:
        silent = names[first.told]
        _say(silent, "does not say where its axes point; taken as the other's do")
    if not (first.told and other.told):
        return
    # How far apart the first's and the other's corners are, in the first's own voxels,
    # so that half a pixel counts as much as half a slice.
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    apart = (other.affine - first.affine)[:3] @ np.vstack((ends, np.ones(8)))
    steps = np.linalg.solve(first.affine[:3, :3], apart)
    shift = steps.mean(1, keepdims=True)
    if np.abs(steps - shift).max() > 1:
        raise DataError(
            f"{names[0]} and {names[1]} do not lie together: their axes point towards "
            f"{_axes(first.affine)} and {_axes(other.affine)}, and corners are up to "
            f"{np.linalg.norm(apart, axis=0).max():.0f} mm apart; expected one grid: "
            "resample the second onto the first, or copy the first's header where only "
            "the header is wrong"
        )
    if np.abs(shift).max() > 0.5:
        _say(
            names[1],
            f"lies {np.linalg.norm(apart.mean(1)):.1f} mm away from {names[0]} by its "
            "header; taken voxel by voxel",
        )


# ---------------------------------------------------------------- writing


def write_mask(mask: Any, like: Any, path: str | Path) -> None:
    """A mask (D, H, W) of whole numbers from 0 to 255 as NIfTI, in the geometry of the
    file that `like`, a Volume or a Cine, was read from: its axes, sform, qform and
    pixdim, byte for byte, and uint8. `path` ends in .nii or .nii.gz; the file is there
    whole or not at all.

    Raises ValueError for a mask of another shape or with other values and for another
    ending, DataError for a volume that was read from no file or a place that cannot be
    written.
    """
    path = Path(path).expanduser()
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name}; expected a name that ends in .nii or .nii.gz")
    if like.grid is None:
        raise DataError(
            "the volume has no grid, since it was read from no file that has one; "
            "expected a volume of hearts.load, read_patient or read_cine"
        )
    mask = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    expected = like.image.shape[-3:]
    if mask.shape != expected:
        raise ValueError(f"mask {mask.shape}; expected (D, H, W) = {expected}")
    whole = mask.dtype.kind in "biuf" and bool(np.isfinite(mask).all())
    if not whole or (np.rint(mask) != mask).any() or mask.min() < 0 or mask.max() > 255:
        raise ValueError(
            f"mask of {mask.dtype} with values {np.unique(mask)[:9]}; expected whole "
            "numbers from 0 to 255"
        )
    voxels = like.grid.to_file(mask.astype(np.uint8))
    content = _header_bytes(like.grid, voxels.shape) + voxels.tobytes(order="F")
    if path.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}); expected a place "
            "with room that you may write to"
        ) from None


def _header_bytes(grid: Grid, shape: tuple[int, ...]) -> bytes:
    """A single file's header for uint8, with the place of the file that was read."""
    import nibabel

    if grid.header is None:
        header = nibabel.Nifti1Header()
        header.set_sform(grid.affine, code=1)
        header.set_qform(grid.affine, code=1, strip_shears=True)
        header.set_xyzt_units("mm")
        fields = header.structarr.copy()
    else:
        fields = grid.header.structarr.copy()
    second = int(fields["sizeof_hdr"]) == 540
    fields["dim"] = [3, *shape, 1, 1, 1, 1]
    fields["datatype"], fields["bitpix"] = 2, 8
    fields["scl_slope"], fields["scl_inter"] = 1, 0
    fields["cal_max"] = fields["cal_min"] = 0
    fields["vox_offset"] = 544 if second else 352
    fields["magic"] = b"n+2\0\r\n\x1a\n" if second else b"n+1"
    return fields.tobytes() + bytes(4)  # no extensions

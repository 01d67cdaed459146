"""The square: where a heart is in its slices, how large its pixels are, and the same
square of millimetres cut around every heart, so that a network sees all alike.

Nothing here looks at a mask to decide where the heart is or how an image is scaled, so
patients without masks are treated as those with them.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlib import augment
from medlib.augment import Mode
from medlib.data import DataError, Dataset, Split
from medlib.hearts.cohorts import LABELS, Cohort, Patient, expect_cohorts, masks_of

PIXEL = 1.5625  # mm; the middle of ACDC's, which has 0.7 to 1.9


def spacing(patient: Patient) -> tuple[float, float]:
    """mm a pixel (row, column)."""
    _, row, column = patient.ed.spacing
    return row, column


def centre(
    patient: Patient, mm: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Where the heart is, as (row, column): the place where ED and ES differ most,
    blurred to the size of a heart, and rather near the middle of the image. No mask is
    looked at. `mm`: a pixel's, by default `spacing`. Where nothing moves it is the
    middle, with a warning.
    """
    from scipy.ndimage import gaussian_filter

    shape, pixel = patient.ed.image.shape[1:], np.array(mm or spacing(patient))
    row, column = np.indices(shape)
    middle = (np.array(shape) - 1) / 2
    away = np.hypot((row - middle[0]) * pixel[0], (column - middle[1]) * pixel[1])
    ed, es = moments(patient)
    if np.array_equal(ed, es):
        warnings.warn(
            f"{patient.name}: ED and ES are the same image, so that the heart cannot "
            "be found by its motion; taken in the middle of the slices",
            stacklevel=2,
        )
        return float(middle[0]), float(middle[1])
    moving = gaussian_filter(np.abs(ed - es).mean(0), 3 / pixel)
    likely = moving * np.exp(-((away / 94) ** 2) / 2)
    row, column = np.unravel_index(gaussian_filter(likely, 31 / pixel).argmax(), shape)
    # Half-way between pixels, so that an even number of pixels of the same size needs
    # no interpolation.
    return float(row) + 0.5, float(column) + 0.5


def moments(patient: Patient) -> np.ndarray:
    """(2, D, H, W) float32: ED and ES, each divided by the grey value that one voxel in
    a hundred exceeds, since there are files that store the two on different scales.
    """
    volumes = [v.image for v in (patient.ed, patient.es)]
    if volumes[0].shape != volumes[1].shape:
        raise DataError(
            f"{patient.name}: ED {volumes[0].shape}, ES {volumes[1].shape} voxels; "
            "expected one shape"
        )
    return np.stack([v / max(float(np.quantile(v, 0.99)), 1e-6) for v in volumes])


class Window(NamedTuple):
    """A square that is cut out of each slice, and how to go back."""

    centre: tuple[float, float]
    step: tuple[float, float]  # pixels of the scanner for one of ours (row, column)
    side: int
    shape: tuple[int, int]  # of the scanner's slices

    def cut(self, x: Tensor, *, mode: Mode = "bilinear") -> Tensor:
        """On the scanner's grid (D, C, H, W) → (D, C, side, side); masks (D, H, W) →
        (D, side, side), with mode="nearest".
        """
        ours = torch.arange(self.side) - (self.side - 1) / 2
        row, column = (
            c + ours * s for c, s in zip(self.centre, self.step, strict=True)
        )
        return _read(x, row, column, mode)

    def paste(self, x: Tensor) -> Tensor:
        """(D, C, side, side) → (D, C, H, W) on the scanner's grid; outside the square,
        its edge.
        """
        theirs = zip(self.shape, self.centre, self.step, strict=True)
        row, column = (
            (torch.arange(n) - c) / s + (self.side - 1) / 2 for n, c, s in theirs
        )
        return _read(x, row, column, "bilinear")

    def covers(self) -> np.ndarray:
        """(H, W) bool: the scanner's pixels inside the square."""
        theirs = zip(self.shape, self.centre, self.step, strict=True)
        inside = [np.abs(np.arange(n) - c) <= self.side / 2 * s for n, c, s in theirs]
        return inside[0][:, None] & inside[1]


def _read(x: Tensor, row: Tensor, column: Tensor, mode: Mode) -> Tensor:
    """x at these rows and columns, which may lie between pixels."""
    # `augment.sample` counts from −1 to 1, columns first.
    height, width = x.shape[-2:]
    down, right = (
        (2 * p.float() + 1) / n - 1 for p, n in ((row, height), (column, width))
    )
    grid = torch.stack(torch.meshgrid(down, right, indexing="ij")[::-1], -1)
    places = grid.to(x.device).expand(len(x), -1, -1, -1)
    return augment.sample(x, places, mode=mode)


def window(patient: Patient, side: int = 128, field: float = 128 * PIXEL) -> Window:
    """The square of `field` mm around the heart, as `side` × `side` pixels."""
    row, column = spacing(patient)
    step = field / side / row, field / side / column
    _, height, width = patient.ed.image.shape
    return Window(centre(patient, (row, column)), step, side, (height, width))


def prepare(patient: Patient, cut: Window) -> Tensor:
    """(2 D, 1, side, side): the slices of ED, then of ES, clipped and standardised
    together.
    """
    stack = torch.from_numpy(moments(patient)).flatten(0, 1)[:, None]
    blur = max(cut.step) / 2  # fewer pixels than the scanner's: average them first
    if blur > 0.75:
        size = 2 * round(blur) + 1
        stack = F.avg_pool2d(stack, size, 1, size // 2, count_include_pad=False)
    return standardise_scan(cut.cut(stack))


def standardise_scan(x: Tensor) -> Tensor:
    """One patient's images, clipped to the middle 98 % of their grey values; mean 0,
    standard deviation 1.
    """
    low, high = np.quantile(x.numpy(), (0.01, 0.99))
    x = x.clamp(float(low), float(high))
    return (x - x.mean()) / x.std().clamp(min=1e-6)


def slices(
    train: Cohort,
    val: Cohort,
    test: Cohort,
    *,
    side: int = 128,
    field: float = 128 * PIXEL,
) -> Dataset:
    """Slices of ED and ES, cut to a square of `field` mm around the heart and `side`
    pixels, under the cohorts' name and source.

    Images (N, 1, side, side), standardised patient by patient; masks (N, side, side)
    int64; `whose` names the patient of each.

    Raises DataError for a plain list of patients, and for a patient without masks.
    """
    return _dataset(train, val, test, side, field, depth=None)


def stacks(
    train: Cohort,
    val: Cohort,
    test: Cohort,
    *,
    depth: int = 8,
    side: int = 128,
    field: float = 128 * PIXEL,
) -> Dataset:
    """As `slices`, in blocks of `depth` neighbouring slices of one moment, for networks
    that see them together.

    Images (N, 1, depth, side, side), masks (N, depth, side, side). A longer stack gives
    as few blocks as cover it, spread evenly; a shorter one is filled up with empty
    slices, which are background.
    """
    return _dataset(train, val, test, side, field, depth)


def blocks(x: Tensor, depth: int) -> Tensor:
    """(2 D, …) slices of ED and ES → (N, depth, …)."""
    moments = x.unflatten(0, (2, -1))
    d = moments.shape[1]
    if d < depth:
        empty = moments.new_zeros(2, depth - d, *x.shape[1:])
        return torch.cat((moments, empty), 1)
    starts = torch.linspace(0, d - depth, -(-d // depth)).round().int().tolist()
    return torch.cat([moments[:, s : s + depth] for s in starts])


def _dataset(
    train: Cohort,
    val: Cohort,
    test: Cohort,
    side: int,
    field: float,
    depth: int | None,
) -> Dataset:
    expect_cohorts(train, val, test)
    everyone = train + val + test
    return Dataset(
        everyone.name,
        LABELS,
        _split(train, "training", side, field, depth),
        _split(val, "validation", side, field, depth),
        _split(test, "test", side, field, depth),
        everyone.source,
    )


def _split(
    patients: Cohort, part: str, side: int, field: float, depth: int | None
) -> Split:
    if not len(patients):
        raise DataError(f"{patients.name}: no {part} patients; expected at least one")
    images, masks, whose = [], [], []
    for patient in patients:
        labels = torch.from_numpy(np.concatenate(masks_of(patient)))
        cut = window(patient, side, field)
        x = prepare(patient, cut)  # (2 D, 1, side, side)
        y = cut.cut(labels, mode="nearest").long()  # (2 D, side, side)
        if depth:
            x, y = blocks(x, depth).transpose(1, 2), blocks(y, depth)
        images.append(x)
        masks.append(y)
        whose += len(x) * [patient.name]
    return Split(torch.cat(images), torch.cat(masks), np.array(whose))

"""Cardiac function: from two masks of a heart to the numbers that a cardiologist reads.

A mask is (D, H, W) with the labels hearts.LABELS: 1 RV, 2 myocardium, 3 LV; its
slices may run either way. ED is the full heart, ES the contracted one. Spacing is in mm
in the order of the axes. Volumes are sums of slices (Simpson's rule), mass is 1.05 g a
mL of myocardium, and the wall is measured along rays in each slice.

Where there is nothing to measure (no RV at ED, no ring in any slice) a value is NaN,
never an error: an imputer in the classifier's pipeline fills it. Agreement: Bland and
Altman, Stat Methods Med Res 8, 1999. Clinical software has 17 segments that start at
the RV; here sectors slide around, so a turned heart has the same features. Chapter 19.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from medlib.hearts.cohorts import LABELS
from medlib.stats import Interval

RV, MYOCARDIUM, LV = (LABELS.index(name) for name in ("RV", "myocardium", "LV"))
DENSITY = 1.05  # g/mL of myocardium
RAYS, SECTOR = 72, 12  # rays around the LV, 5° apart; a sector is 12 of them, 60°
# units that need the spacing; any other, or none, does not
LENGTHS = ("(mL)", "(g)", "(mm)")


class Volumes(NamedTuple):
    rv: float  # mL
    myocardium: float
    lv: float


def volumes(mask: ArrayLike | Tensor, spacing: Sequence[float]) -> Volumes:
    """mL of the three structures of a mask (D, H, W); 0 where one is absent.

    Raises ValueError for a missing mask, one that is not (D, H, W), labels outside 0 to
    3, a mask of True and False, or a bad spacing.
    """
    mask, spacing = _checked(mask, spacing)
    counts = np.bincount(mask.ravel(), minlength=len(LABELS))
    rv, myocardium, lv = (
        float(counts[k] * np.prod(spacing) / 1000) for k in (RV, MYOCARDIUM, LV)
    )
    return Volumes(rv, myocardium, lv)


def ejection_fraction(ed: float, es: float) -> float:
    """The share of the volume `ed` that is gone at ES, in %; NaN where `ed` is 0.
    Negative if the cavity grew.
    """
    return 100 * (1 - es / ed) if ed > 0 else float("nan")


def mass(myocardium: float) -> float:
    """g of so many mL of myocardium."""
    return DENSITY * myocardium


class Rings(NamedTuple):
    cavity: np.ndarray  # (D, 72) mm: on each ray, the length inside the cavity
    wall: np.ndarray  # (D, 72) mm: the length inside the wall


def rings(mask: ArrayLike | Tensor, spacing: Sequence[float]) -> Rings:
    """On each ray from the middle of the left heart, the length
    inside the cavity and the length inside the wall. NaN where the ray meets no wall,
    and in slices without one.

    The middle is the centroid of cavity and wall together in that slice, of their
    largest piece.
    """
    from scipy.ndimage import label

    mask, spacing = _checked(mask, spacing)
    angle = (np.arange(RAYS) + 0.5) * 2 * np.pi / RAYS
    step = min(spacing[1:]) / 8  # mm between two looks at the mask
    cavity, wall = np.full((2, len(mask), RAYS), np.nan)
    for z, labels in enumerate(mask):
        pieces, found = label(np.isin(labels, (MYOCARDIUM, LV)))
        if not found:
            continue
        heart = pieces == 1 + np.bincount(pieces[pieces > 0] - 1).argmax()
        pixels = np.argwhere(heart)
        centre = pixels.mean(0)
        reach = np.hypot(*((pixels - centre) * spacing[1:]).T).max() + max(spacing[1:])
        out = np.arange(step / 2, reach, step)  # mm from the middle
        place = [
            np.outer(f(angle), out) / mm
            for f, mm in zip((np.sin, np.cos), spacing[1:], strict=True)
        ]
        row, column = (
            np.rint(p + c).astype(int) for p, c in zip(place, centre, strict=True)
        )
        height, width = labels.shape
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        met = np.where(heart, labels, 0)[
            row.clip(0, height - 1), column.clip(0, width - 1)
        ]
        lengths = [((met == k) & inside).sum(1) * step for k in (LV, MYOCARDIUM)]
        cavity[z], wall[z] = np.where(lengths[1] > 0, lengths, np.nan)
    return Rings(cavity, wall)


def sectors(values: np.ndarray) -> np.ndarray:
    """(D, 72) on rays → (D, 72): the mean of each 60° window, all around; NaN where
    half of its rays or more are.
    """
    from scipy.ndimage import uniform_filter1d

    if values.ndim != 2 or values.shape[1] != RAYS:
        raise ValueError(f"values {values.shape}; expected (D, {RAYS}), one a ray")
    known = np.isfinite(values)
    share = uniform_filter1d(known.astype(float), SECTOR, mode="wrap")
    mean = uniform_filter1d(np.where(known, values, 0), SECTOR, mode="wrap")
    return np.where(share > 0.5, mean / np.where(share > 0.5, share, 1), np.nan)


def features(
    ed: ArrayLike | Tensor, es: ArrayLike | Tensor, spacing: Sequence[float]
) -> dict[str, float]:
    """What two masks (D, H, W) say of a heart, by name with the unit; NaN where there
    is nothing to measure.

    Of sectors: "mean" over all; "thickest" and "weakest tenth": the 90th and the 10th
    percentile, which one odd sector does not move; "spread": the standard deviation.
    Thickening is the wall's gain from ED to ES, shortening the cavity radius's loss,
    both in % of ED, sector by sector in slices that hold the ring at both moments.
    Slices with less than a quarter of the largest cavity at ED are left out: rays cut
    the apex slantwise.
    """
    ed, spacing = _checked(ed, spacing)
    es, _ = _checked(es, spacing)
    if ed.shape != es.shape:
        raise ValueError(
            f"masks {ed.shape} at ED and {es.shape} at ES; expected one shape"
        )
    full, small = volumes(ed, spacing), volumes(es, spacing)
    area = (ed == LV).sum((1, 2))
    kept = (area > 0) & (area >= area.max() / 4)
    at_ed, at_es = (_smoothed(rings(mask, spacing), kept) for mask in (ed, es))
    # Where ED has no ring, ES has nothing to be compared with.
    known = np.isfinite(at_ed.wall)
    at_es = Rings(*(np.where(known, values, np.nan) for values in at_es))
    wall, wall_es, radius = (
        _summary(values) for values in (at_ed.wall, at_es.wall, at_ed.cavity)
    )
    thickening = _summary(100 * _ratio(at_es.wall - at_ed.wall, at_ed.wall))
    shortening = _summary(100 * _ratio(at_ed.cavity - at_es.cavity, at_ed.cavity))
    return {
        "LV EDV (mL)": full.lv,
        "LV ESV (mL)": small.lv,
        "RV EDV (mL)": full.rv,
        "RV ESV (mL)": small.rv,
        "LV mass (g)": mass(full.myocardium),
        "wall, mean (mm)": wall.mean,
        "wall, thickest tenth (mm)": wall.high,
        "LV EF (%)": ejection_fraction(full.lv, small.lv),
        "RV EF (%)": ejection_fraction(full.rv, small.rv),
        "RV/LV at ED": float(_ratio(full.rv, full.lv)),
        "RV/LV at ES": float(_ratio(small.rv, small.lv)),
        "mass/LV EDV (g/mL)": float(_ratio(mass(full.myocardium), full.lv)),
        "wall/radius": float(_ratio(wall.mean, radius.mean)),
        "thickest/mean wall": float(_ratio(wall.high, wall.mean)),
        "wall spread at ES": float(_ratio(wall_es.sd, wall_es.mean)),
        "thickening, mean (%)": thickening.mean,
        "thickening, weakest tenth (%)": thickening.low,
        "thickening, spread (%)": thickening.sd,
        "shortening, mean (%)": shortening.mean,
        "shortening, weakest tenth (%)": shortening.low,
        "shortening, spread (%)": shortening.sd,
    }


def _smoothed(on_rays: Rings, kept: np.ndarray) -> Rings:
    """Sector by sector, in the slices `kept`."""
    return Rings(sectors(on_rays.cavity[kept]), sectors(on_rays.wall[kept]))


def scale_free(name: str) -> bool:
    """Does the feature `name` stay as it is where the header's spacing is wrong by a
    factor an axis of the heart (in the plane by the same for rows and columns)?
    """
    return not name.endswith(LENGTHS)


class Agreement(NamedTuple):
    """Mean difference, and the limits between which 95 % of differences lie, each with
    its 95 % interval.
    """

    bias: Interval
    low: Interval
    high: Interval


def bland_altman(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """How well a measurement agrees with a reference, both (N,), N at least 3, in their
    own unit.

    The limits are bias ± 1.96 standard deviations of the differences, so they take
    these for Gaussian.
    """
    from scipy.stats import t

    a, b = (np.asarray(v, dtype=float) for v in (measured, reference))
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3:
        raise ValueError(
            f"{a.shape} against {b.shape} values; expected pairs, three or more"
        )
    difference = a - b
    if missing := np.count_nonzero(~np.isfinite(difference)):
        raise ValueError(
            f"{missing} differences are not finite; expected such pairs left out"
        )
    n, sd = len(difference), difference.std(ddof=1)
    half = t.ppf(0.975, n - 1) * sd
    reach = half * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))  # their section 3.2
    centres = [difference.mean() + k * 1.96 * sd for k in (0, -1, 1)]
    bias, low, high = (
        Interval(c, c - r, c + r, n)
        for c, r in zip(centres, (half / n**0.5, reach, reach), strict=True)
    )
    return Agreement(bias, low, high)


class _Summary(NamedTuple):
    mean: float
    low: float
    high: float
    sd: float


def _summary(values: np.ndarray) -> _Summary:
    values = values[np.isfinite(values)]
    if not len(values):
        return _Summary(*4 * [float("nan")])
    return _Summary(
        *map(float, (values.mean(), *np.percentile(values, (10, 90)), values.std()))
    )


def _ratio(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """a / b, and NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) != 0)


def _checked(
    mask: ArrayLike | Tensor | None, spacing: Sequence[float]
) -> tuple[np.ndarray, tuple[float, float, float]]:
    if mask is None:
        raise ValueError(
            "no mask; expected (D, H, W) labels at ED and at ES (some patients have "
            "none)"
        )
    mask = np.asarray(mask.detach().cpu() if isinstance(mask, Tensor) else mask)
    if mask.ndim != 3 or not mask.size:
        raise ValueError(f"mask {mask.shape}; expected (D, H, W)")
    mm = np.asarray(spacing, dtype=float)
    if mm.shape != (3,) or not ((mm > 0) & (mm < np.inf)).all():
        raise ValueError(
            f"spacing {mm.tolist()}; expected three mm above 0, of the slices first"
        )
    if mask.dtype == bool or not np.isin(mask, range(len(LABELS))).all():
        raise ValueError(
            f"labels {np.unique(mask)[:9]}; expected 0 background, 1 RV, 2 "
            "myocardium, 3 LV"
        )
    return mask.astype(np.int64), tuple(mm.tolist())

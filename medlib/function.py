"""Cardiac function: from two masks of a heart to the numbers that a cardiologist reads.

A mask is (D, H, W) with the labels of medlib.cardiac: 1 RV, 2 myocardium, 3 LV; its
slices may run either way. ED is the full heart, ES the contracted one. Spacing is in mm
in the order of the axes. Volumes are sums of slices (Simpson's rule), mass is 1.05 g a
mL of myocardium, and the wall is measured along rays in each slice.

Where there is nothing to measure (no RV at ED, no ring in any slice) a value is NaN,
never an error: an imputer in the classifier's pipeline fills it. Agreement: Bland and
Altman, Stat Methods Med Res 8, 1999. Clinical software has 17 segments that start at
the RV; here sectors slide around, so a turned heart has the same features. Chapter 19.
"""

from typing import NamedTuple

import numpy as np

from medlib.cardiac import LABELS
from medlib.stats import Interval

RV, MYOCARDIUM, LV = (LABELS.index(name) for name in ("RV", "myocardium", "LV"))
DENSITY = 1.05  # g/mL of myocardium
RAYS, SECTOR = 72, 12  # rays around the LV, 5° apart; a sector is 12 of them, 60°
NOMINAL = (
    "(mL)",
    "(g)",
    "(mm)",
)  # units that need the true spacing; any other, or none, does not


class Volumes(NamedTuple):
    rv: float  # mL
    myocardium: float
    lv: float


def volumes(mask, spacing) -> Volumes:
    """mL of the three structures of a mask (D, H, W); 0 where one is absent.

    Raises ValueError for a missing mask, one that is not (D, H, W), labels outside 0 to
    3, or a bad spacing.
    """
    mask, spacing = _checked(mask, spacing)
    counts = np.bincount(mask.ravel(), minlength=len(LABELS))
    return Volumes(
        *(float(counts[k] * np.prod(spacing) / 1000) for k in (RV, MYOCARDIUM, LV))
    )


def ejection_fraction(ed: float, es: float) -> float:
    """The share of the volume `ed` that is gone at ES, in %; NaN where `ed` is 0.
    Negative if the cavity grew.
    """
    return 100 * (1 - es / ed) if ed > 0 else float("nan")


def mass(myocardium: float) -> float:
    """g of so many mL of myocardium."""
    return DENSITY * myocardium


def rings(mask, spacing) -> tuple[np.ndarray, np.ndarray]:
    """(D, 72) twice, in mm: on each ray from the middle of the left heart, the length
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
    return cavity, wall


def sectors(values: np.ndarray) -> np.ndarray:
    """(D, 72) on rays → (D, 72): the mean of each 60° window, all around; NaN where
    half of its rays or more are.
    """
    from scipy.ndimage import uniform_filter1d

    known = np.isfinite(values)
    share = uniform_filter1d(known.astype(float), SECTOR, axis=1, mode="wrap")
    mean = uniform_filter1d(np.where(known, values, 0), SECTOR, axis=1, mode="wrap")
    return np.where(share > 0.5, mean / np.where(share > 0.5, share, 1), np.nan)


def features(ed, es, spacing) -> dict[str, float]:
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
            f"masks {ed.shape} at ED and {es.shape} at ES; the rule: one shape"
        )
    full, small = volumes(ed, spacing), volumes(es, spacing)
    area = (ed == LV).sum((1, 2))
    kept = (area > 0) & (area >= area.max() / 4)
    (radius, wall), (radius_es, wall_es) = (
        (sectors(r[kept]) for r in rings(m, spacing)) for m in (ed, es)
    )
    radius_es, wall_es = (
        np.where(np.isfinite(wall), r, np.nan) for r in (radius_es, wall_es)
    )
    thickening, shortening = (
        100 * _ratio(wall_es - wall, wall),
        100 * _ratio(radius - radius_es, radius),
    )
    at_ed, at_es, more, less = (
        _summary(v) for v in (wall, wall_es, thickening, shortening)
    )
    return {
        "LV EDV (mL)": full.lv,
        "LV ESV (mL)": small.lv,
        "RV EDV (mL)": full.rv,
        "RV ESV (mL)": small.rv,
        "LV mass (g)": mass(full.myocardium),
        "wall, mean (mm)": at_ed.mean,
        "wall, thickest tenth (mm)": at_ed.high,
        "LV EF (%)": ejection_fraction(full.lv, small.lv),
        "RV EF (%)": ejection_fraction(full.rv, small.rv),
        "RV/LV at ED": float(_ratio(full.rv, full.lv)),
        "RV/LV at ES": float(_ratio(small.rv, small.lv)),
        "mass/LV EDV (g/mL)": float(_ratio(mass(full.myocardium), full.lv)),
        "wall/radius": float(_ratio(at_ed.mean, _summary(radius).mean)),
        "thickest/mean wall": float(_ratio(at_ed.high, at_ed.mean)),
        "wall spread at ES": float(_ratio(at_es.sd, at_es.mean)),
        "thickening, mean (%)": more.mean,
        "thickening, weakest tenth (%)": more.low,
        "thickening, spread (%)": more.sd,
        "shortening, mean (%)": less.mean,
        "shortening, weakest tenth (%)": less.low,
        "shortening, spread (%)": less.sd,
    }


def scale_free(name: str) -> bool:
    """Does the feature `name` stay as it is where the header's spacing is wrong by a
    factor an axis of the heart (in the plane by the same for rows and columns)?
    """
    return not name.endswith(NOMINAL)


class Agreement(NamedTuple):
    """Mean difference, and the limits between which 95 % of differences lie, each with
    its 95 % interval.
    """

    bias: Interval
    low: Interval
    high: Interval


def bland_altman(measured, reference) -> Agreement:
    """How well a measurement agrees with a reference, both (N,), N at least 3, in their
    own unit.

    The limits are bias ± 1.96 standard deviations of the differences, so they take
    these for Gaussian.
    """
    from scipy.stats import t

    measured, reference = (np.asarray(v, dtype=float) for v in (measured, reference))
    if measured.shape != reference.shape or measured.ndim != 1 or len(measured) < 3:
        raise ValueError(
            f"{measured.shape} against {reference.shape} values; the rule: pairs, "
            "three or more"
        )
    difference = measured - reference
    if missing := np.count_nonzero(~np.isfinite(difference)):
        raise ValueError(
            f"{missing} differences are not finite; the rule: leave such pairs out"
        )
    n, sd = len(difference), difference.std(ddof=1)
    half = t.ppf(0.975, n - 1) * sd
    reach = half * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))  # their section 3.2
    centres = [difference.mean() + k * 1.96 * sd for k in (0, -1, 1)]
    return Agreement(
        *(
            Interval(c, c - r, c + r, n)
            for c, r in zip(centres, (half / n**0.5, reach, reach), strict=True)
        )
    )


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


def _ratio(a, b):
    """a / b, and NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) != 0)


def _checked(mask, spacing) -> tuple[np.ndarray, tuple[float, float, float]]:
    if mask is None:
        raise ValueError(
            "no mask; the rule: (D, H, W) labels at ED and at ES (some patients have "
            "none)"
        )
    mask = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    spacing = tuple(float(mm) for mm in spacing)
    if (
        mask.ndim != 3
        or len(spacing) != 3
        or not all(0 < mm < np.inf for mm in spacing)
    ):
        raise ValueError(
            f"mask {mask.shape}, spacing {spacing}; the rule: (D, H, W), and three mm "
            "above 0"
        )
    if not np.isin(mask, range(len(LABELS))).all():
        raise ValueError(
            f"labels {np.unique(mask)[:9]}; the rule: 0 background, 1 RV, 2 "
            "myocardium, 3 LV"
        )
    return mask.astype(np.int64), spacing

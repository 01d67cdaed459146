"""How sure are we? Intervals over seeds and over patients, leads with their p-values,
several comparisons at once.

Two kinds of chance stand behind a score: which seed was drawn, and which patients were
tested. Each has its own variance, known from as many values as there are seeds or
patients, and so its own Student's t. An interval here adds the two:

    half-width² = t²(seeds − 1) · variance of seeds + t²(patients − 1) · variance of
    patients

A lead is the same sum on differences, seed by seed and patient by patient.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BLOCKS = 1000  # patients beyond this number are left out in blocks: it costs less
SMALLEST_P = 1e-12


class Interval(NamedTuple):
    """A mean with its confidence interval and the number of values behind it."""

    mean: float
    low: float
    high: float
    n: int  # patients, or seeds where only they vary
    p: float = math.nan  # two-sided, of a mean of zero; NaN where zero is no question
    over: str = ""  # what was drawn by chance, in words: "5 seeds and 16 patients"

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def says(self, above: str, below: str, neither: str) -> str:
        """One of three answers: the interval lies above zero, below it, or holds it."""
        return above if self.low > 0 else below if self.high < 0 else neither

    def shifted(self, by: float) -> "Interval":
        """The interval of the same values with the constant `by` added: of an AUC above
        chance, say. Its p-value was of another question, and is gone.
        """
        mean, low, high = (value + by for value in self[:3])
        return Interval(mean, low, high, self.n, over=self.over)


def interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of `values` (n,), one a seed, say.

    One value has no variance: its interval is open. Raises ValueError where a value is
    not finite, and where there is none.
    """
    values = _finite(values, "values")
    if values.ndim != 1:
        raise ValueError(f"values of shape {values.shape}; expected one row of numbers")
    variance = values.var(ddof=1) / len(values) if len(values) > 1 else math.inf
    parts = [(variance, len(values) - 1)]
    return _interval(values.mean(), parts, len(values), level, "")


def paired(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Interval:
    """`interval` of the mean of a − b, both (n,), paired by seed. Its `p` is below .05
    where the 95 % interval leaves zero out, and only there.
    """
    a, b = _finite(a, "a"), _finite(b, "b")
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} against {b.shape} values; expected pairs")
    return interval(a - b, level=level)


def over_patients(
    values: ArrayLike,
    rival: ArrayLike | None = None,
    *,
    whose: Sequence | np.ndarray | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean of one number a patient, such as its Dice, or of its lead
    over that of `rival`, over seeds and patients.

    values    (seeds, N), or (N,) where there is one seed: then over patients alone
    rival     likewise, or (N,) where it is the same for every seed
    whose     (N,): the patient of each value, where a patient has several; then the
              patient is the unit, with all values
    """
    values = np.atleast_2d(values)
    if rival is not None:
        rival = np.atleast_2d(rival)
        rival = rival.repeat(len(values), 0) if len(rival) == 1 else rival
    if whose is None:
        whose = np.arange(values.shape[1])
    return over_cases(mean_value, values, None, rival, whose=whose, level=level)


def over_cases(
    metric: Callable,
    scores: ArrayLike,
    target: ArrayLike | None,
    baseline: ArrayLike | None = None,
    *,
    whose: Sequence | np.ndarray | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of a metric over seeds and patients, or of its lead over a baseline's.

    metric    of medlib.metrics, or `mean_value`: (scores, target, weight) → (R,)
    scores    (seeds, N) or (seeds, N, num_classes): one row a seed; `baseline`
              likewise, for the difference. With one row, over patients alone
    target    (N,), or None where the metric needs none
    whose     (N,): the patient of each case; a patient comes and goes with all cases.
              None where nobody knows: then each case stands alone, which makes the
              interval too short if some belong together, and `over` says so

    What a patient adds is found by leaving each out in turn (the jackknife of Tukey
    1958). A score between 0 and 1 gets its interval on the logit scale, which keeps it
    there. Open where a class has a single patient. `n` is the number of patients.
    """
    sides = [
        np.atleast_2d(np.asarray(side, dtype=float))
        for side in (scores, baseline)
        if side is not None
    ]
    for side in sides:  # −∞ is the logarithm of a probability of 0
        if np.isnan(side).any():
            raise ValueError("scores with NaN; expected numbers")
    seeds, cases = sides[0].shape[:2]
    target = None if target is None else np.asarray(target)
    lengths = {len(x) for x in (target, whose) if x is not None}
    if any(side.shape[:2] != (seeds, cases) for side in sides) or lengths - {cases}:
        raise ValueError(
            f"scores {[side.shape for side in sides]}, with "
            f"{'no' if target is None else len(target)} targets and the patients of "
            f"{'no' if whose is None else len(whose)} cases; expected (seeds, cases, "
            "…), as many on both sides, one target and one patient a case"
        )
    owner = np.arange(cases)
    if whose is not None:
        nobody = (isinstance(name, float) and math.isnan(name) for name in whose)
        if any(nobody) or any(name is None for name in whose):
            raise ValueError("a case without a patient; expected a name for each")
        owner = np.unique(np.asarray(whose), return_inverse=True)[1]
    n = int(owner.max()) + 1
    without = _left_out(owner, n)
    wholes, pseudo = [], np.zeros((seeds, len(without)))
    for sign, rows in zip((1, -1), sides, strict=False):
        whole = np.array([float(metric(row, target)) for row in rows])
        if np.isnan(whole).any():
            raise ValueError(
                "the metric is NaN; expected cases of each class among the targets"
            )
        wholes.append(whole.mean())
        for s, row in enumerate(rows if n > 1 else []):
            rest = np.asarray(metric(row, target, without), dtype=float)
            pseudo[s] += sign * (len(without) * whole[s] - (len(without) - 1) * rest)
    value = float(wholes[0] - sum(wholes[1:]))
    parts = _variances(pseudo)
    over = [f"{seeds} seeds"] if seeds > 1 else []
    over += [f"{n} patients" if whose is not None else f"{n} cases of unknown patients"]
    words = " and ".join(over)
    if baseline is None and metric is not mean_value and 0 <= value <= 1:
        return _share(value, parts, n, level, words, _fewest(target, owner, n))
    return _interval(value, parts, n, level, words)


def mean_value(
    values: ArrayLike, target: None = None, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """For `over_cases` on one number a case: the mean, or that under each weight."""
    values = _finite(values, "values")
    if values.ndim != 1:
        raise ValueError(
            f"values {values.shape} of one seed; expected one number a patient"
        )
    return values.mean() if weight is None else weight @ values / weight.sum(1)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's (1979) adjusted p-values (m,): compare them with .05 as if there were one
    test.

    The smallest of m is multiplied by m, the next by m − 1, …, and none may fall below
    the one before. Raises ValueError where one is no probability: a test that failed
    has no p-value, and leaving it out is the caller's decision.
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            f"p-values {p.tolist()}; expected one row of numbers from 0 to 1"
        )
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(
        1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    )
    return adjusted


# ---------------------------------------------------------------- how it is done


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"{name}: {values.size} numbers, {int((~np.isfinite(values)).sum())} of "
            "them not finite; expected 1 or more, finite"
        )
    return values


def _left_out(owner: np.ndarray, n: int) -> np.ndarray:
    """(blocks, cases): the weights of the cases with one patient left out, or one block
    of patients where they are many. Blocks are drawn, since files are often sorted.
    """
    size = -(-n // BLOCKS)
    block = np.arange(n)
    if size > 1:
        block = np.random.default_rng(0).permutation(n) // size
    return (np.arange(block.max() + 1)[:, None] != block[owner]).astype(float)


def _variances(values: np.ndarray) -> list[tuple[float, int]]:
    """Of the mean of values (seeds, patients): (variance, degrees of freedom) of each
    source, from the two-way layout. A source of one value says nothing and adds
    nothing, but where it stands alone.
    """
    seeds, patients = values.shape
    if patients == 1 or not np.isfinite(values).all():  # a class had one patient
        return [(math.inf, 0)]
    by_patient = values.mean(0)
    of_patients = by_patient.var(ddof=1) / patients
    if seeds == 1:
        return [(of_patients, patients - 1)]
    by_seed = values.mean(1)
    rest = values - by_patient - by_seed[:, None] + values.mean()
    noise = (rest**2).sum() / ((seeds - 1) * (patients - 1)) / (seeds * patients)
    # A part of the variance between seeds is noise that the patients' carries already.
    # To take off all of it leaves nothing, too often, where 3 seeds do differ; 0.6 is
    # what covers 93 % and more in the simulations of tests/test_coverage.py.
    of_seeds = max(by_seed.var(ddof=1) / seeds - 0.6 * noise, 0.0)
    return [(of_seeds, seeds - 1), (of_patients, patients - 1)]


def _half_width(parts: list[tuple[float, int]], level: float) -> float:
    from scipy.stats import t

    if not 0 <= level < 1:
        raise ValueError(f"level={level}; expected a share such as 0.95")
    if any(variance == math.inf for variance, _ in parts):
        return math.inf
    tail = (1 - level) / 2
    return math.sqrt(sum(t.isf(tail, freedom) ** 2 * v for v, freedom in parts))


def _interval(
    mean: float, parts: list[tuple[float, int]], n: int, level: float, over: str
) -> Interval:
    half = _half_width(parts, level)
    low, high = float(mean - half), float(mean + half)
    return Interval(float(mean), low, high, n, _p_value(float(mean), parts), over)


def _p_value(mean: float, parts: list[tuple[float, int]]) -> float:
    """One less the level at which the interval comes to touch zero."""
    from scipy.optimize import brentq

    def beyond(p: float) -> float:
        return abs(mean) - _half_width(parts, 1 - p)

    if mean == 0 or beyond(1.0) <= 0:
        return 1.0
    if beyond(SMALLEST_P) > 0:
        return SMALLEST_P
    return float(brentq(beyond, SMALLEST_P, 1.0, xtol=1e-15, rtol=1e-12))


def _share(
    value: float,
    parts: list[tuple[float, int]],
    n: int,
    level: float,
    over: str,
    fewest: int,
) -> Interval:
    """The interval of a score between 0 and 1."""
    from scipy.special import expit, logit

    half = _half_width(parts, level)
    if not math.isfinite(half):
        return Interval(value, -math.inf, math.inf, n, over=over)
    if value in (0.0, 1.0):
        # Nobody was ranked wrongly, so nothing varies: what then bounds the score is
        # how few patients the rarer class has (Clopper & Pearson 1934).
        bound = ((1 - level) / 2) ** (1 / fewest)
        low, high = (bound, 1.0) if value else (0.0, 1 - bound)
        return Interval(value, low, high, n, over=over)
    half /= value * (1 - value)
    low, high = (float(expit(logit(value) + side)) for side in (-half, half))
    return Interval(value, low, high, n, over=over)


def _fewest(target: np.ndarray | None, owner: np.ndarray, n: int) -> int:
    """The number of patients in the rarest class."""
    if target is None:
        return n
    return min(len(np.unique(owner[target == c])) for c in np.unique(target))

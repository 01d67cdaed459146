"""How sure are we? Intervals over seeds and over patients, paired tests, several
comparisons at once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A mean with its confidence interval and the number of values behind it."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def says(self, above: str, below: str, neither: str) -> str:
        """One of three answers: the interval lies above zero, below it, or holds it."""
        return above if self.low > 0 else below if self.high < 0 else neither

    def shifted(self, by: float) -> "Interval":
        """The interval of the same values with the constant `by` added: of an AUC above
        chance, say.
        """
        return Interval(self.mean + by, self.low + by, self.high + by, self.n)


def bootstrap(
    values: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Bootstrap interval of the mean of `values` (one a seed, say).

    The percentile interval is too short for few values: with five seeds it covers about
    four times in five, not nineteen in twenty. We widen its percentiles as Hesterberg
    (2015, section 4.3) does, so that it agrees with Student's t where the values are
    Gaussian.
    """
    from scipy.stats import norm, t

    values = np.asarray(values, dtype=float)
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"{n} values, {int((~np.isfinite(values)).sum())} of them not finite; "
            "expected 1 or more, finite"
        )
    if n == 1:
        return Interval(values[0], -np.inf, np.inf, 1)
    means = np.random.default_rng(seed).choice(values, (resamples, n)).mean(1)
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(values.mean(), low, high, n)


def paired(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95
) -> tuple[Interval, float]:
    """Interval of the mean of a − b, paired by seed, and the p-value of an exact
    sign-flip test.

    With n pairs that p-value cannot fall below 2 / 2ⁿ: five seeds never reach .05.
    """
    from scipy.stats import permutation_test

    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} against {b.shape} values; expected pairs")
    test = permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis),
        permutation_type="samples",
        vectorized=True,
    )
    return bootstrap(a - b, level=level), float(test.pvalue)


def bootstrap_cases(
    metric: Callable,
    scores: ArrayLike,
    target: ArrayLike | None,
    baseline: ArrayLike | None = None,
    **options,
) -> Interval:
    """Interval that carries both chances: which patients were tested, and which seed
    was drawn.

    metric    of medlib.metrics, or `mean_value`: (scores, target, weight) → (R,)
    scores    (seeds, N) or (seeds, N, num_classes): one row a seed; `baseline`
              likewise, for the difference
    target    (N,), or None where the metric needs none
    options   whose, (N,): the patient of each case, where it is known; then patients
              are drawn, each with all that belongs to them, and by default every case
              stands alone. level, 0.95; resamples, 1000; seed, 0
    Each resample draws as many patients and as many seeds as there are, the same for
    both sides of a difference. Draws that lack a class are drawn again. `n` of the
    result is the number of patients.
    """
    return _over_cases(metric, scores, target, baseline, **options)[0]


def paired_cases(
    metric: Callable,
    scores: ArrayLike,
    target: ArrayLike | None,
    baseline: ArrayLike,
    **options,
) -> tuple[Interval, float]:
    """`bootstrap_cases` of the lead over `baseline`, and its two-sided p-value: twice
    the share of the same resamples in which the lead is zero or has the other sign. So
    the two agree: p < .05 where the 95 % interval leaves zero out, up to one resample.
    With R resamples p cannot fall below 2 / (R + 1).
    """
    return _over_cases(metric, scores, target, baseline, **options)


def _over_cases(
    metric: Callable,
    scores: ArrayLike,
    target: ArrayLike | None,
    baseline: ArrayLike | None,
    *,
    whose: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Interval, float]:
    """The one place where both chances become an interval, and a p-value."""
    sides = [np.atleast_2d(s) for s in (scores, baseline) if s is not None]
    seeds, cases = sides[0].shape[:2]
    target = None if target is None else np.asarray(target)
    if any(side.shape[1] != cases for side in sides) or (
        target is not None and len(target) != cases
    ):
        raise ValueError(
            f"scores {[side.shape for side in sides]} for "
            f"{cases if target is None else len(target)} cases; expected "
            "(seeds, cases, …)"
        )
    if len({len(side) for side in sides}) > 1:
        raise ValueError(
            f"{len(sides[0])} seeds against {len(sides[1])}; expected as many on both "
            "sides"
        )
    if whose is not None and len(whose) != cases:
        raise ValueError(
            f"the patients of {len(whose)} cases for {cases} cases; expected one a case"
        )
    owner = np.arange(cases)
    if whose is not None:
        owner = np.unique(np.asarray(whose), return_inverse=True)[1]
    rng, n = np.random.default_rng(seed), int(owner.max()) + 1
    classes = np.ones((cases, 1))
    if target is not None:
        classes = np.stack([target == c for c in np.unique(target)], 1).astype(float)
    weight = np.empty((0, cases))
    while len(weight) < resamples:
        drawn = rng.multinomial(n, np.full(n, 1 / n), resamples)[:, owner].astype(float)
        weight = np.concatenate([weight, drawn[(drawn @ classes > 0).all(1)]])
    weight = weight[:resamples]
    lots = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds

    draws, value = np.zeros(resamples), 0.0
    for sign, rows in zip((1, -1), sides, strict=False):
        found = np.stack([np.asarray(metric(row, target, weight)) for row in rows], 1)
        draws += sign * (lots * found).sum(1)
        value += sign * float(np.mean([float(metric(row, target)) for row in rows]))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    other_side = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (1 + int(other_side)) / (resamples + 1))
    return Interval(value, float(low), float(high), n), p


def over_patients(
    values: ArrayLike, rival: ArrayLike | None = None, **options
) -> Interval:
    """`bootstrap_cases` of one number a patient (or another case), such as its Dice:
    the mean of `values`, or its lead over that of `rival`.

    values    (seeds, N), or (N,) where there is one seed; `rival` too, or (N,) where it
              is the same for every seed
    options   those of `bootstrap_cases`
    """
    values = np.atleast_2d(values)
    if rival is not None:
        rival = np.atleast_2d(rival)
        rival = rival.repeat(len(values), 0) if len(rival) == 1 else rival
    return bootstrap_cases(mean_value, values, None, rival, **options)


def mean_value(
    values: ArrayLike, target: None = None, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """For `bootstrap_cases` on one number a case: the mean, or that of each draw."""
    values = np.asarray(values, dtype=float)
    return values.mean() if weight is None else weight @ values / weight.sum(1)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's (1979) adjusted p-values: compare them with .05 as if there were one test.

    The smallest of m is multiplied by m, the next by m − 1, …, and none may fall below
    the one before.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(
        1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    )
    return adjusted

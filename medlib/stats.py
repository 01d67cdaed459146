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
    target: ArrayLike,
    baseline: ArrayLike | None = None,
    *,
    whose: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval that carries both chances: which patients were tested, and which seed
    was drawn.

    metric    of medlib.metrics, or `mean_value`: (scores, target, weight) → (R,)
    scores    (seeds, N) or (seeds, N, num_classes): one row a seed; `baseline`
              likewise, for the difference
    target    (N,)
    whose     (N,) the patient of each case, where it is known: then patients are drawn,
              each with all that belongs to them; by default every case stands alone
    Each resample draws as many patients and as many seeds as there are, the same for
    both sides of a difference. Draws that lack a class are drawn again. `n` of the
    result is the number of patients.
    """
    scores, target = np.atleast_2d(scores), np.asarray(target)
    sides = [scores] if baseline is None else [scores, np.atleast_2d(baseline)]
    if any(side.shape[1] != len(target) for side in sides):
        raise ValueError(
            f"scores {[side.shape for side in sides]} for {len(target)} cases; "
            "expected (seeds, cases, …)"
        )
    if len({len(side) for side in sides}) > 1:
        raise ValueError(
            f"{len(sides[0])} seeds against {len(sides[1])}; expected as many on both "
            "sides"
        )
    if whose is not None and len(whose) != len(target):
        raise ValueError(
            f"the patients of {len(whose)} cases for {len(target)} cases; expected one "
            "a case"
        )
    owner = np.arange(len(target))
    if whose is not None:
        owner = np.unique(np.asarray(whose), return_inverse=True)[1]
    rng, n = np.random.default_rng(seed), int(owner.max()) + 1
    classes = np.stack([target == c for c in np.unique(target)], 1).astype(float)
    weight = np.empty((0, len(target)))
    while len(weight) < resamples:
        drawn = rng.multinomial(n, np.full(n, 1 / n), resamples)[:, owner].astype(float)
        weight = np.concatenate([weight, drawn[(drawn @ classes > 0).all(1)]])
    weight = weight[:resamples]
    seeds = len(scores)
    lots = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds

    draws, value = np.zeros(resamples), 0.0
    for sign, rows in zip((1, -1), sides, strict=False):
        found = np.stack([np.asarray(metric(row, target, weight)) for row in rows], 1)
        draws += sign * (lots * found).sum(1)
        value += sign * float(np.mean([float(metric(row, target)) for row in rows]))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), n)


def over_patients(
    values: ArrayLike, rival: ArrayLike | None = None, **options
) -> Interval:
    """`bootstrap_cases` of one number a patient (or another case), such as its Dice:
    the mean of `values`, or its lead over that of `rival`.

    values    (seeds, N), or (N,) where there is one seed; `rival` too, or (N,) where it
              is the same for every seed
    options   those of `bootstrap_cases`: whose, level, resamples, seed
    """
    values = np.atleast_2d(values)
    if rival is not None:
        rival = np.atleast_2d(rival)
        rival = rival.repeat(len(values), 0) if len(rival) == 1 else rival
    return bootstrap_cases(
        mean_value, values, np.zeros(values.shape[1]), rival, **options
    )


def mean_value(
    values: ArrayLike, target: ArrayLike, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """For `bootstrap_cases` on one number a case: the mean, or that of each draw. The
    target is not looked at.
    """
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

"""Does a "95 %" interval hold the truth in 95 of 100 experiments? Experiments are
simulated, seeds and patients drawn anew in each, so that the truth is known.

`python tests/test_coverage.py` prints the table. The nightly tier asks all cases for
2,000 experiments each; `make test` a few of them for 250.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm, t

from medlib import stats
from medlib.metrics import auc


class Case(NamedTuple):
    what: str  # mean, AUC, lead of means, lead of AUCs
    seeds: int
    patients: int
    share: float  # of the variance of the result, that of the seeds
    shape: str  # of a patient's values: Gauss, or Dice with its long tail of failures
    noise: float = 0.7  # sd of a single value, in those of patients


SHARES = (0.0, 0.2, 0.5, 0.8, 0.97)
CASES = [
    *(Case("mean", *rest) for rest in itertools.product(
        (3, 5), (20, 100, 600), SHARES, ("Gauss", "Dice"))),
    # What two networks on the same patients differ by is mostly noise.
    *(Case("lead", *rest, noise=3.0) for rest in itertools.product(
        (3, 5), (20, 100, 600), SHARES, ("Gauss", "Dice"))),
    *(Case(what, *rest, "Gauss") for what, *rest in itertools.product(
        ("AUC", "lead of AUC"), (3, 5), (20, 100, 600), (0.0, 0.3, 0.8))),
]  # fmt: skip
THIN = [
    Case("mean", 3, 20, 0.0, "Dice"),
    Case("mean", 3, 100, 0.8, "Gauss"),
    Case("lead", 3, 20, 0.8, "Gauss", 3.0),
    Case("lead", 5, 20, 0.5, "Dice", 3.0),
    Case("AUC", 3, 100, 0.3, "Gauss"),
    Case("lead of AUC", 5, 20, 0.3, "Gauss"),
]
AUC = 0.85


def draw(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> np.ndarray:
    """Mean 0, standard deviation 1; Dice with a skewness of −1.6."""
    if shape == "Gauss":
        return rng.normal(size=size)
    return -(rng.gamma(1.5, size=size) - 1.5) / math.sqrt(1.5)


def table_of_values(rng: np.random.Generator, case: Case) -> np.ndarray:
    """(seeds, patients) with the mean 0."""
    seeds, patients = case.seeds, case.patients
    rest = (1 + case.noise**2 / seeds) / patients
    of_seeds = math.sqrt(seeds * rest * case.share / (1 - case.share))
    return (
        of_seeds * rng.normal(size=(seeds, 1))
        + draw(rng, case.shape, (1, patients))
        + case.noise * draw(rng, case.shape, (seeds, patients))
    )


def experiment(rng: np.random.Generator, case: Case) -> tuple[stats.Interval, float]:
    """The interval, and the truth that it should hold."""
    seeds, patients = case.seeds, case.patients
    if case.what == "mean":
        return stats.over_patients(table_of_values(rng, case)), 0.0
    if case.what == "lead":
        rival = rng.normal(size=(seeds, patients))
        return stats.over_patients(rival + table_of_values(rng, case), rival), 0.0

    # The AUC of Gaussian scores with the separation d is Φ(d / √2).
    separation = math.sqrt(2) * norm.ppf(AUC)
    slope = norm.pdf(norm.ppf(AUC)) / math.sqrt(2)
    of_cases = 1.3 * AUC * (1 - AUC) / patients
    sd = math.sqrt(seeds * of_cases * case.share / (1 - case.share)) / slope
    y = np.arange(patients) % 2
    common = 0.8 * rng.normal(size=patients)

    def scores(d: float) -> np.ndarray:
        each = d + sd * rng.normal(size=(seeds, 1))
        return each * y + common + 0.6 * rng.normal(size=(seeds, patients))

    def truth(d: float) -> float:
        return float(norm.cdf(d / math.sqrt(2 + sd**2)))

    if case.what == "AUC":
        return stats.over_cases(auc, scores(separation), y), truth(separation)
    less = 0.8 * separation
    found = stats.over_cases(auc, scores(separation), y, scores(less))
    return found, truth(separation) - truth(less)


def coverage(case: Case, experiments: int) -> float:
    rng = np.random.default_rng([case.seeds, case.patients, int(100 * case.share)])
    held = 0
    for _ in range(experiments):
        found, truth = experiment(rng, case)
        held += found.low <= truth <= found.high
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0) or "lead" not in (
            case.what
        )
    return held / experiments


def enough(experiments: int) -> float:
    """93 % less two standard errors."""
    return 0.93 - 2 * math.sqrt(0.93 * 0.07 / experiments)


@pytest.mark.parametrize("case", THIN, ids=str)
def test_coverage_of_a_few(case):
    assert coverage(case, 250) >= enough(250)


@pytest.mark.nightly
@pytest.mark.parametrize("case", CASES, ids=str)
def test_coverage(case):
    assert coverage(case, 2000) >= enough(2000)


def width(rng: np.random.Generator, values: np.ndarray, exact: np.ndarray) -> float:
    """Of the interval of `values`, in widths of Student's t of the means `exact`."""
    found = stats.over_patients(values)
    n = len(exact)
    student = 2 * t.ppf(0.975, n - 1) * exact.std(ddof=1) / math.sqrt(n)
    return (found.high - found.low) / student


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("patients", [20, 100])
@pytest.mark.parametrize("alone", ["seeds", "patients", "patients and noise"])
def test_an_interval_is_not_much_longer_than_an_exact_one(seeds, patients, alone):
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        if alone == "seeds":
            values = rng.normal(size=(seeds, 1)).repeat(patients, 1)
            exact = values.mean(1)
        else:
            noise = 3.0 if "noise" in alone else 0.0
            values = table_of_values(rng, Case("", seeds, patients, 0, "Gauss", noise))
            exact = values.mean(0)
        found.append(width(rng, values, exact))
    assert 0.99 < np.median(found) <= 1.3


if __name__ == "__main__":
    print(f"{'':12} seeds patients share shape  coverage of 2,000")
    for case in CASES:
        what, seeds, patients, share, shape, _ = case
        found = coverage(case, 2000)
        print(
            f"{what:12} {seeds:5} {patients:8} {share:5} {shape:6} {found:.3f}"
            + ("" if found >= enough(2000) else "  too low"),
            flush=True,
        )

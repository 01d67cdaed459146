import numpy as np
import pytest
from scipy.stats import ttest_1samp

from medlib.metrics import auc
from medlib.stats import (
    Interval,
    bootstrap,
    bootstrap_cases,
    holm,
    over_patients,
    paired,
    paired_cases,
)


def test_bootstrap_of_five_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [
        low <= 0 <= high
        for _, low, high, _ in (
            bootstrap(rng.normal(size=5), resamples=2000) for _ in range(300)
        )
    ]
    assert 0.88 < np.mean(hits) <= 1  # the plain percentile interval stays near 0.82


def test_bootstrap_of_many_agrees_with_student():
    values = np.random.default_rng(1).normal(3, 1, 200)
    student = ttest_1samp(values, 0).confidence_interval()
    assert bootstrap(values)[1:3] == pytest.approx(tuple(student), abs=0.02)


def test_bootstrap_repeats_and_is_degenerate_where_it_must_be():
    assert bootstrap([1, 2, 4]) == bootstrap([1, 2, 4])
    assert bootstrap([2, 2, 2])[:3] == (2, 2, 2)
    assert bootstrap([7])[1:3] == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "up"), (-0.3, -0.1, "down"), (-0.1, 0.1, "?"), (0.0, 0.2, "?")],
)
def test_an_interval_says_on_which_side_of_zero_it_lies(low, high, word):
    assert Interval((low + high) / 2, low, high, 5).says("up", "down", "?") == word


def test_a_shifted_interval_is_that_of_the_shifted_values():
    values = np.random.default_rng(0).normal(size=9)
    assert bootstrap(values).shifted(2) == pytest.approx(bootstrap(values + 2))


@pytest.mark.parametrize("values", [[], [1, float("nan")]])
def test_bootstrap_refuses(values):
    with pytest.raises(ValueError, match="finite"):
        bootstrap(values)


def test_paired_p_value_is_exact():
    interval, p = paired([2, 3, 4, 5, 6], [1, 1, 1, 1, 1])
    assert p == pytest.approx(2 / 2**5) and interval.mean == 3 and interval.low > 0
    with pytest.raises(ValueError, match="pairs"):
        paired([1, 2], [1, 2, 3])


def test_bootstrap_cases_of_a_difference():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    good, bad = y + rng.normal(size=(3, 300)), y + 3 * rng.normal(size=(3, 300))
    lead = bootstrap_cases(auc, good, y, bad, resamples=200)
    assert lead.low > 0 and lead.n == 300
    assert lead.mean == pytest.approx(
        np.mean([auc(g, y) for g in good]) - np.mean([auc(b, y) for b in bad])
    )
    assert bootstrap_cases(auc, good, y, good, resamples=50)[:3] == (0, 0, 0)


def test_bootstrap_cases_covers_the_spread_of_patients_and_of_seeds():
    rng = np.random.default_rng(0)
    per_case = rng.normal(size=(1, 400)).repeat(
        3, 0
    )  # three seeds that agree: patients alone vary
    found = over_patients(per_case)
    assert found.mean == pytest.approx(per_case.mean())
    assert (found.high - found.low) / 2 == pytest.approx(
        1.96 * per_case[0].std() / 20, rel=0.1
    )
    seeds = over_patients([[0.0] * 400, [1.0] * 400])
    assert (seeds.low, seeds.mean, seeds.high) == (0, 0.5, 1)


def test_a_lead_over_patients_is_paired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=50)  # some patients are hard for everybody
    ours, rival = hard + rng.normal(0.1, 0.01, (3, 50)), hard
    lead = over_patients(ours, rival, resamples=200)
    assert lead.mean == pytest.approx((ours - rival).mean()) and lead.low > 0.08
    assert lead == over_patients(ours, np.stack([rival] * 3), resamples=200)
    assert over_patients(ours[0], rival).n == 50


def test_draws_that_lack_a_class_are_drawn_again():
    scores, y = np.array([[0.1, 0.4, 0.3, 0.2, 0.9]]), np.array([0, 0, 0, 0, 1])
    found = bootstrap_cases(auc, scores, y, resamples=200)  # a third would lack it
    assert found[:3] == (1, 1, 1)


def test_the_p_value_of_a_lead_agrees_with_its_interval():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    good, bad = y + rng.normal(size=(3, 200)), y + 3 * rng.normal(size=(3, 200))
    lead, p = paired_cases(auc, good, y, bad)
    assert lead == bootstrap_cases(auc, good, y, bad)
    assert lead.low > 0 and p == pytest.approx(2 / 1001)
    assert paired_cases(auc, bad, y, good)[1] == p
    assert paired_cases(auc, good, y, good)[1] == 1
    better = y + 2.3 * rng.normal(size=(3, 200))
    _, p = paired_cases(auc, better, y, bad)
    assert 0.02 < p < 0.9  # the level at which the interval comes to touch zero
    shorter, longer = (
        paired_cases(auc, better, y, bad, level=1 - p + d)[0] for d in (-0.01, 0.01)
    )
    assert shorter.says("out", "out", "in") == "out"
    assert longer.says("out", "out", "in") == "in"


def test_patients_are_drawn_with_all_their_images():
    rng = np.random.default_rng(0)
    of_patient = rng.normal(size=100)
    images, whose = of_patient.repeat(9), np.arange(100).repeat(9)
    mixed = rng.permutation(900)  # a patient's images need not lie side by side
    by_image = over_patients(images)
    by_patient = over_patients(images[mixed], whose=[f"p{w}" for w in whose[mixed]])
    assert (by_image.n, by_patient.n) == (900, 100)
    # Nine equal images are worth one: the interval of 100 patients, not of 900.
    assert by_patient.high - by_patient.low == pytest.approx(
        2 * 1.96 * of_patient.std() / 10, rel=0.15
    )
    assert by_patient.high - by_patient.low > 2.5 * (by_image.high - by_image.low)
    with pytest.raises(ValueError, match="one a case"):
        over_patients(images, whose=whose[:10])


def test_bootstrap_cases_refuses_other_lengths():
    with pytest.raises(ValueError, match="cases"):
        bootstrap_cases(auc, np.zeros((2, 5)), np.zeros(4))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp, ttest_rel

from medlib import stats
from medlib.metrics import accuracy, auc
from medlib.stats import (
    Interval,
    holm,
    interval,
    mean_value,
    over_cases,
    over_patients,
    paired,
)


@pytest.mark.parametrize("n", [2, 3, 5, 200])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_an_interval_of_one_row_is_students(n, level):
    values = np.random.default_rng(n).normal(1, 2, n)
    student = ttest_1samp(values, 0)
    found = interval(values, level=level)
    assert found.mean == pytest.approx(values.mean()) and found.n == n
    assert found[1:3] == pytest.approx(tuple(student.confidence_interval(level)))
    assert found.p == pytest.approx(student.pvalue, rel=1e-6)
    assert over_patients(values, level=level)[1:3] == pytest.approx(found[1:3])


def test_the_default_is_a_95_percent_interval():
    values, rival = np.random.default_rng(0).normal(size=(2, 9))
    for ask in (interval, paired, over_patients):
        arguments = (values, rival) if ask is paired else (values,)
        assert ask(*arguments) == ask(*arguments, level=0.95)
    y = np.arange(9) % 2
    assert over_cases(auc, values, y) == over_cases(auc, values, y, level=0.95)


def test_intervals_that_need_no_t():
    assert interval([2, 2, 2])[:4] == (2, 2, 2, 3) and interval([2, 2, 2]).p < 1e-9
    assert interval([7])[:4] == (7, -np.inf, np.inf, 1)
    assert interval([7]).p == 1 and interval([-1, 1]).p == 1
    assert interval([0, 0]).p == 1
    assert interval([1, 1 + 1e-9]).p > 0


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "up"), (-0.3, -0.1, "down"), (-0.1, 0.1, "?"), (0.0, 0.2, "?"),
     (-0.2, 0.0, "?")],
)  # fmt: skip
def test_an_interval_says_on_which_side_of_zero_it_lies(low, high, word):
    found = Interval((low + high) / 2, low, high, 5)
    assert found.says("up", "down", "?") == word
    assert math.isnan(found.p) and found.over == ""


def test_a_shifted_interval_is_that_of_the_shifted_values():
    values = np.random.default_rng(0).normal(size=9)
    shifted = over_patients(values).shifted(2)
    assert shifted[:4] == pytest.approx(over_patients(values + 2)[:4])
    assert math.isnan(shifted.p) and shifted.over == "9 patients"
    assert str(Interval(0.12345, -1, 2, 3)) == "0.123 [-1.000, 2.000]"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_everywhere(bad):
    good, values, y = [1.0, 2, 3, 4], [1.0, bad, 2, 3], [0, 1, 0, 1]
    asked = [
        lambda: interval(values), lambda: paired(values, good),
        lambda: paired(good, values), lambda: over_patients(values),
        lambda: over_patients([good, good], values),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(ValueError, match="numbers, 1 of them not|scores with NaN"):
            ask()
    for scores in [(values, y), (good, y, values)]:
        if math.isnan(bad):
            with pytest.raises(ValueError, match="scores with NaN"):
                over_cases(auc, *scores)


def test_a_probability_of_zero_has_a_logarithm():
    y = np.array([0, 1, 0, 1, 1, 0])
    chances = np.array([[1, 0], [0, 1], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1], [1, 0]])
    with np.errstate(divide="ignore"):
        found = over_cases(accuracy, np.log(chances)[None], y)
    assert found.mean == pytest.approx(4 / 6) and found.low > 0


def test_shapes_are_not_taken_on_trust():
    y = [0, 1, 0, 1, 1]
    with pytest.raises(ValueError, match="1 or more"):
        interval([])
    with pytest.raises(ValueError, match="one row"):
        interval(np.ones((3, 2)))
    for a, b in [([1, 2], [1, 2, 3]), ([[1, 2]], [1, 2]), ([1, 2], 1.0)]:
        with pytest.raises(ValueError, match="expected pairs"):
            paired(a, b)
    wrong = [
        (np.zeros((2, 5)), y[:4], None, None), (np.zeros((2, 5)), y, np.zeros(5), None),
        (np.zeros((2, 5)), y, np.zeros((2, 4)), None), (np.zeros(5), y, None, y[:3]),
        (np.zeros((1, 5)), [y], None, None), (0.5, y, None, None),
    ]  # fmt: skip
    for scores, target, rival, whose in wrong:
        with pytest.raises(ValueError, match="expected .seeds, cases"):
            over_cases(auc, scores, target, rival, whose=whose)
    with pytest.raises(ValueError, match="cases of each class"):
        over_cases(auc, np.arange(5), [1] * 5)
    with pytest.raises(ValueError, match="one number a patient"):
        over_patients(np.zeros((2, 5, 3)))
    for level in (95, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="such as 0.95"):
            interval([1, 2, 3], level=level)
    for name in (None, math.nan):
        with pytest.raises(ValueError, match="a name for each"):
            over_patients([1, 2, 3], whose=["a", "b", name])


@pytest.mark.parametrize("ask", [interval, over_patients, mean_value])
def test_numbers_of_half_precision_are_averaged_in_double(ask):
    half = np.array([0.1, 0.2, 0.4, 0.8], np.float16)
    assert ask(half) == ask(half.astype(float))


def test_pairs_are_subtracted():
    a, b = np.random.default_rng(0).normal(size=(2, 8))
    test, found = ttest_rel(a, b), paired(a, b, level=0.9)
    assert found.p == pytest.approx(test.pvalue, rel=1e-6)
    assert found[1:3] == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert found.mean == pytest.approx((a - b).mean())
    # 18 pairs, where a test by drawn signs gives another value each time
    a, b = np.random.default_rng(1).normal(size=(2, 18))
    assert len({paired(a, b).p for _ in range(5)}) == 1


# ---------------------------------------------------------------- seeds and patients


def by_hand(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width, from the sums of squares of the two-way layout."""
    seeds, patients = values.shape
    grand = sum(values[s][p] for s in range(seeds) for p in range(patients))
    grand /= seeds * patients
    of_seed = [sum(values[s]) / patients for s in range(seeds)]
    of_patient = [sum(values[:, p]) / seeds for p in range(patients)]
    between_seeds = patients * sum((m - grand) ** 2 for m in of_seed) / (seeds - 1)
    between = seeds * sum((m - grand) ** 2 for m in of_patient) / (patients - 1)
    rest = sum(
        (values[s][p] - of_seed[s] - of_patient[p] + grand) ** 2
        for s in range(seeds) for p in range(patients)
    ) / ((seeds - 1) * (patients - 1))  # fmt: skip
    square = t.ppf(0.975, seeds - 1) ** 2 * max(between_seeds - 0.6 * rest, 0)
    square += t.ppf(0.975, patients - 1) ** 2 * between
    return grand, math.sqrt(square / (seeds * patients))


@pytest.mark.parametrize("of_seeds", [0, 1])
def test_both_variances_add_up(of_seeds):
    rng = np.random.default_rng(0)
    values = of_seeds * rng.normal(size=(3, 1)) + rng.normal(size=(3, 12))
    mean, half = by_hand(values)
    found = over_patients(values)
    assert found[:3] == pytest.approx((mean, mean - half, mean + half))
    assert found.n == 12 and found.over == "3 seeds and 12 patients"


def test_a_source_alone_has_the_interval_of_its_own_t():
    rng = np.random.default_rng(0)
    row, column = rng.normal(size=(1, 30)), rng.normal(size=(4, 1))
    same = over_patients(row.repeat(3, 0))  # three seeds that agree
    assert same[:3] == pytest.approx(interval(row[0])[:3])
    same = over_patients(column.repeat(30, 1))  # patients that agree
    assert same[:3] == pytest.approx(interval(column[:, 0])[:3])
    one = over_patients(row[0, :1])
    assert one[1:4] == (-np.inf, np.inf, 1) and one.over == "1 patients"


def test_a_lead_over_patients_is_paired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=50)  # some patients are hard for everybody
    ours, rival = hard + rng.normal(0.1, 0.01, (3, 50)), hard
    lead = over_patients(ours, rival)
    assert lead.mean == pytest.approx((ours - rival).mean()) and lead.low > 0.08
    assert lead[:4] == pytest.approx(over_patients(ours - rival)[:4])
    assert lead == over_patients(ours, np.stack([rival] * 3))
    assert over_patients(ours[0], rival).n == 50
    turned = over_patients(np.stack([rival] * 3), ours)
    assert turned[:3] == pytest.approx((-lead.mean, -lead.high, -lead.low))
    assert turned.p == pytest.approx(lead.p, rel=1e-6)


def test_patients_come_and_go_with_all_their_images():
    rng = np.random.default_rng(0)
    of_patient = rng.normal(size=100)
    images, whose = of_patient.repeat(9), np.arange(100).repeat(9)
    mixed = rng.permutation(900)  # a patient's images need not lie side by side
    by_image = over_patients(images)
    by_patient = over_patients(images[mixed], whose=[f"p{w}" for w in whose[mixed]])
    assert (by_image.n, by_patient.n) == (900, 100)
    # Nine equal images are worth one: the interval of 100 patients, not of 900.
    assert by_patient[:4] == pytest.approx(interval(of_patient)[:4])
    assert over_cases(mean_value, images, None).over == "900 cases of unknown patients"
    assert over_cases(mean_value, images, None, whose=whose).over == "100 patients"


def test_patients_with_more_images_weigh_more():
    values, whose = np.array([0.0, 0, 0, 1, 2, 2]), [0, 0, 0, 1, 2, 2]
    found = over_patients(values, whose=whose)
    assert found.mean == pytest.approx(5 / 6)
    left = [np.mean([1, 2, 2]), np.mean([0, 0, 0, 2, 2]), np.mean([0, 0, 0, 1])]
    pseudo = [3 * 5 / 6 - 2 * m for m in left]
    half = t.ppf(0.975, 2) * np.std(pseudo, ddof=1) / math.sqrt(3)
    assert found.high - found.mean == pytest.approx(half)


def test_many_patients_are_left_out_in_blocks_that_are_drawn(monkeypatch):
    values = np.sort(np.random.default_rng(0).normal(size=600))
    exact = over_patients(values)
    monkeypatch.setattr(stats, "BLOCKS", 200)
    blocks = stats._left_out(np.arange(600), 600)
    assert blocks.shape == (200, 600) and set((blocks == 0).sum(1)) == {3}
    assert ((blocks == 0).sum(0) == 1).all()
    found = over_patients(values)
    assert (
        over_patients(values) == found
        and (stats._left_out(np.arange(600), 600) == blocks).all()
    )
    assert found.n == 600 and found.mean == pytest.approx(exact.mean)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.15)
    assert stats._left_out(np.arange(200), 200).shape == (200, 200)
    assert stats._left_out(np.arange(201), 201).shape == (101, 201)


# ---------------------------------------------------------------- metrics


def test_the_lead_in_a_metric():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    good, bad = y + rng.normal(size=(3, 300)), y + 3 * rng.normal(size=(3, 300))
    lead = over_cases(auc, good, y, bad)
    assert lead.low > 0 and lead.n == 300
    assert lead.mean == pytest.approx(
        np.mean([auc(g, y) for g in good]) - np.mean([auc(b, y) for b in bad])
    )
    none = over_cases(auc, good, y, good)
    assert none[:3] == (0, 0, 0) and none.p == 1


def test_the_width_of_an_auc_is_delongs():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    scores = y + rng.normal(size=200)
    wins = scores[y == 1][:, None] > scores[y == 0]
    value = wins.mean()
    variance = (wins.mean(1).var(ddof=1) + wins.mean(0).var(ddof=1)) / 100
    logit = math.log(value / (1 - value))
    half = t.ppf(0.975, 199) * math.sqrt(variance) / (value * (1 - value))
    ends = [1 / (1 + math.exp(-(logit + side))) for side in (-half, half)]
    found = over_cases(auc, scores, y)
    assert found.mean == pytest.approx(value) and math.isnan(found.p)
    assert found[1:3] == pytest.approx(ends, abs=2e-3)


def test_a_share_stays_between_0_and_1():
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    perfect = over_cases(auc, y.astype(float), y)
    assert perfect[:3] == pytest.approx((1, 0.025 ** (1 / 4), 1))  # four are rarest
    assert perfect.over == "10 cases of unknown patients"
    hopeless = over_cases(auc, -y.astype(float), y)
    assert hopeless[:3] == pytest.approx((0, 0, 1 - 0.025 ** (1 / 4)))
    nearly = over_cases(auc, np.array([0, 1, 2, 4.5, 4, 5, 6, 7, 8, 9]), y)
    assert 0.3 < nearly.low < nearly.mean < nearly.high < 1
    assert nearly.over == perfect.over
    right = np.array([[-1, -1, -1, 1, 1, 1, 1, 1, 1, 1]])
    assert over_cases(accuracy, right, y).high < 1
    # One number a patient may be anything, and has no such bounds.
    assert over_patients([1.0, 1, 1, 0.99, 0.9]).high > 1


def test_a_score_that_may_exceed_1_has_no_such_bounds():
    def doubled(values, target, weight=None):
        return 2 * mean_value(values, target, weight)

    found = over_cases(doubled, [[0.9, 1, 0.5], [0.7, 0.8, 0.4]], None)
    assert found.high > 2 > found.mean > 1
    assert found.over == "2 seeds and 3 cases of unknown patients"
    half = over_cases(doubled, [0.5, 0.5, 0.5], None)
    assert half[:3] == pytest.approx((1, 0.025 ** (1 / 3), 1))


def test_the_rarest_of_three_classes_counts():
    y = [0, 0, 0, 0, 1, 1, 1, 2, 2]
    sure = np.eye(3)[y] * 9
    assert over_cases(accuracy, sure[None], y).low == pytest.approx(0.025 ** (1 / 2))


def test_two_images_of_a_rare_patient_are_one_patient():
    y, whose = np.array([0, 0, 0, 1, 1, 1]), [0, 0, 1, 2, 3, 4]
    assert over_cases(auc, y * 1.0, y, whose=whose).low == pytest.approx(0.025**0.5)


def test_an_auc_that_hangs_on_one_patient_has_no_ends():
    scores, y = np.array([[0.1, 0.4, 0.3, 0.2, 0.9]]), np.array([0, 0, 0, 0, 1])
    alone = over_cases(auc, scores, y)
    assert alone[:3] == (1, -np.inf, np.inf) and alone.over.startswith("5 cases")
    lead = over_cases(auc, scores, y, -scores)
    assert lead[:3] == (1, -np.inf, np.inf) and lead.p == 1


@pytest.mark.parametrize("level", [0.6, 0.95, 0.999])
def test_the_p_value_of_a_lead_agrees_with_its_interval(level):
    rng = np.random.default_rng(0)
    for _ in range(40):
        values = rng.normal(0.3, 1, (3, 1)) + rng.normal(size=(3, 20))
        found = over_patients(values, level=level)
        assert (found.p < 1 - level) == (found.low > 0 or found.high < 0)
    found = over_patients(values)
    touching = over_patients(values, level=1 - found.p)
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-9)


def test_mean_value_with_weights():
    assert mean_value([1, 2, 6]) == 3
    weight = np.array([[1.0, 1, 0], [0, 0, 2]])
    assert mean_value([1, 2, 6], None, weight).tolist() == [1.5, 6]


# ---------------------------------------------------------------- Holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([0.9, 0.8]).tolist() == [1, 1] and holm([0, 1]).tolist() == [0, 1]
    assert holm([0.0, 1.0]).tolist() == [0, 1] and holm([]).tolist() == []


@pytest.mark.parametrize(
    "p", [[0.01, float("nan")], [1.01], [-0.01], [[0.01, 0.02]], 0.03]
)
def test_holm_takes_only_probabilities(p):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm(p)

"""Metrics of classification: by hand, beside scikit-learn, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medlib.metrics import accuracy, auc, calibration_error

METRICS = [accuracy, auc, calibration_error]
LOGITS = torch.tensor([[2.0, 1], [0, 3], [1, 0], [5, 4]])  # says 0, 1, 0, 0
TARGET = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    score, y = rng.integers(0, 20, 200) / 7, rng.integers(0, 2, 200)  # with many ties
    assert auc(score, y) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    two = torch.tensor(np.stack([0 * score, score], 1))
    assert auc(two, torch.tensor(y)) == pytest.approx(
        roc_auc_score(y, score), abs=1e-12
    )


def test_auc_of_many_classes_equals_scikit_learn():
    torch.manual_seed(0)
    logits, y = torch.randn(300, 4), torch.randint(0, 4, (300,))
    theirs = roc_auc_score(
        y, logits.double().softmax(1), multi_class="ovr", average="macro"
    )
    assert auc(logits, y) == pytest.approx(theirs, abs=1e-9)


def test_auc_by_hand():
    y = torch.tensor([0, 0, 1, 1])
    assert auc(torch.tensor([1.0, 2, 3, 4]), y) == 1
    assert auc(torch.tensor([4.0, 3, 2, 1]), y) == 0
    assert auc(torch.zeros(4), y) == 0.5
    assert auc(torch.tensor([1.0, 3, 2, 4]), y) == 0.75


def test_auc_of_sure_scores_is_not_rounded():
    logits = torch.tensor([[0.0, 100], [0, 101], [0, 102], [0, 103]])
    assert auc(logits, torch.tensor([0, 0, 1, 1])) == 1


def test_auc_without_a_class_is_nan():
    assert np.isnan(auc(torch.zeros(3), torch.ones(3)))


def test_accuracy_by_hand():
    assert accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75


def test_calibration_error_by_hand():
    # Confidence .8 four times, three of them right: |.75 − .8|. Then two at .5 in
    # another bin, one right: 0.
    logits = torch.tensor([[0, np.log(4)]] * 4 + [[0.0, 0]] * 2)
    target = torch.tensor([1, 1, 1, 0, 0, 1])
    assert calibration_error(logits, target) == pytest.approx(4 / 6 * 0.05, abs=1e-6)
    assert calibration_error(logits[:4], target[:4]) == pytest.approx(0.05, abs=1e-6)


def test_a_confidence_at_the_edge_of_two_bins_belongs_to_the_lower_one():
    # With two bins, (0, ½] holds the wrong answer and (½, 1] the right one.
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3)]], dtype=torch.double)
    target = torch.tensor([1, 1])
    found = calibration_error(logits, target, bins=2)
    assert found == pytest.approx((0.5 + 0.25) / 2)


def test_calibration_error_of_sure_answers_is_their_error_rate():
    logits = 1000 * torch.eye(2)[torch.tensor([0, 1, 1, 0])]
    assert calibration_error(logits, torch.tensor([0, 1, 0, 0])) == 0.25


@pytest.mark.parametrize("metric", [accuracy, auc, calibration_error])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_weight_counts_a_case_that_often(metric, classes):
    g = torch.Generator().manual_seed(0)
    logits, y = (
        torch.randn(60, classes, generator=g),
        torch.randint(0, classes, (60,), generator=g),
    )
    logits[:30] = logits[:30].round()  # ties
    weight = torch.randint(0, 4, (5, 60), generator=g)
    repeated = [
        metric(logits.repeat_interleave(w, 0), y.repeat_interleave(w)) for w in weight
    ]
    assert metric(logits, y, weight).tolist() == pytest.approx(repeated, abs=1e-12)


def test_accuracy_of_one_score_a_case():
    assert accuracy(torch.tensor([-1.0, 2, 3, -4]), torch.tensor([0, 1, 0, 0])) == 0.75


@pytest.mark.parametrize("metric", METRICS)
def test_one_score_a_case_stands_for_the_logits_of_two_classes(metric):
    score = torch.tensor([-1.0, 0, 2, 3, -0.5])
    two, y = torch.stack([0 * score, score], 1), [0, 1, 1, 0, 1]
    assert metric(score, y) == metric(two, y)
    weight = [[1, 2, 0, 1, 1], [0, 1, 1, 1, 3]]
    assert torch.equal(metric(score, y, weight), metric(two, y, weight))


def test_a_score_of_zero_is_no_positive():
    assert accuracy([0.0, 0.0, 0.1], [0, 1, 1]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "kind", [list, np.uint8, np.uint16, np.int32, np.float32, np.bool_, torch.bool]
)
def test_labels_of_any_type_are_taken(metric, kind):
    if kind is list:
        given = TARGET.tolist()
    elif isinstance(kind, torch.dtype):
        given = TARGET.to(kind)
    else:
        given = TARGET.numpy().astype(kind)
    assert metric(LOGITS, given) == metric(LOGITS, TARGET)
    assert metric(LOGITS.numpy(), given) == metric(LOGITS, TARGET)


COLUMN = TARGET[:, None]
BAD_TARGETS = [
    (COLUMN, r"target \(4, 1\) for 4 cases; expected \(4,\).*ravel"),
    (COLUMN.numpy().astype(np.uint8), r"target \(4, 1\)"),
    (TARGET[None], r"target \(1, 4\)"),
    (torch.eye(2)[TARGET], r"target \(4, 2\).*argmax"),
    (TARGET[:3], r"target \(3,\)"),
    (TARGET[:1], r"target \(1,\)"),
    (TARGET[0], r"target \(\)"),
    (TARGET[:0], r"target \(0,\)"),
    (TARGET + 1, "label 2 has no logit; expected 0 to 1"),
    (TARGET - 1, "label -1 has no logit"),
    (2 * TARGET, "label 2"),
    ([0, 1, 255, 255], "label 255"),
    ([0, 1, 0.5, 0], "label 0.5"),
    ([0, 1, math.nan, 0], "label nan"),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("target", "words"), BAD_TARGETS)
def test_a_target_of_another_shape_or_with_foreign_labels_is_refused(
    metric, target, words
):
    for logits in (LOGITS, LOGITS[:, 1], LOGITS.numpy()):
        with pytest.raises(ValueError, match=words):
            metric(logits, target)


INF = math.inf
BAD_LOGITS = [
    (LOGITS[:, :1], r"logits \(4, 1\); expected \(B, num_classes\).*logits\[:, 0\]"),
    (LOGITS[..., None], r"logits \(4, 2, 1\)"),
    (LOGITS[0, 0], r"logits \(\)"),
    (LOGITS[:0], r"logits \(0, 2\)"),
    (LOGITS[:, :0], r"logits \(4, 0\)"),
    ([], "expected"),
    ([[0, math.nan], [math.nan, 0], [1, 0], [0, 1]], "2 of 4 cases are NaN"),
    ([[0, INF], [0, 1], [1, 0], [0, 1]], "1 of 4 cases"),
    ([[-INF, -INF], [0, 1], [1, 0], [0, 1]], "1 of 4 cases"),
    (torch.full((4, 2), math.nan), "4 of 4.*expected finite.*diverged"),
    ([1, 2, math.nan, 3], "1 of 4 cases"),
    ([1, 2, INF, 3], "1 of 4 cases"),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("logits", "words"), BAD_LOGITS)
def test_logits_of_another_shape_or_without_a_number_are_refused(metric, logits, words):
    with pytest.raises(ValueError, match=words):
        metric(logits, TARGET[: len(logits)] if np.ndim(logits) else TARGET)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(4),
        torch.ones(2, 3),
        torch.ones(2, 1),
        torch.ones(2, 3, 4),
        1.0,
        [[1, 1, 1, -1]],
        [[1, 1, 1, math.nan]],
        [[1, 1, 1, INF]],
    ],
)
def test_weights_of_another_shape_or_below_zero_are_refused(metric, weight):
    with pytest.raises(ValueError, match=r"weight .* for 4 cases; expected \(R, 4\)"):
        metric(LOGITS, TARGET, weight)


@pytest.mark.parametrize("metric", METRICS)
def test_a_draw_of_nothing_is_nan_and_the_others_count(metric):
    found = metric(LOGITS, TARGET, [[0, 0, 0, 0], [1, 1, 1, 1]])
    assert math.isnan(found[0]) and found[1] == metric(LOGITS, TARGET)
    assert metric(LOGITS, TARGET, [[1, 1, 1, 1]]).shape == (1,)


def test_the_logarithm_of_a_chance_of_nought_is_a_logit():
    p = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0.25, 0.75]])
    y = torch.tensor([0, 2, 1])
    assert accuracy(p.log(), y) == pytest.approx(1 / 3)  # at a tie the first class
    assert auc(p.log(), y) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert calibration_error(p.log(), y) == pytest.approx((0 + 0.5 + 0.75) / 3)
    assert auc(p[:, :2].log()[:2], [0, 1]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_low_precision_are_doubled_before_they_are_subtracted(dtype):
    wide = torch.tensor([[-60000.0, 50000], [-60000, 60000]], dtype=dtype)
    assert auc(wide, [0, 1]) == 1  # in fp16 both differences are infinite: a tie
    fine = torch.tensor([[256.0, 1], [256, 1.0078125]], dtype=dtype)
    assert auc(fine, [0, 1]) == 1  # in either type both differences round to −255
    single = torch.tensor([[2.0**25, 1], [2.0**25, 2]])
    assert auc(single, [0, 1]) == 1


def test_auc_of_many_classes_without_one_of_them_is_nan():
    assert math.isnan(auc(torch.eye(3), [0, 1, 1]))
    assert auc(torch.eye(3), [0, 1, 2]) == 1


def test_bins_are_fifteen_unless_told_and_share_their_cases():
    # .605 and .66 lie together in (.6, .667], and apart with 14 or 16 bins.
    p = torch.tensor([[0.395, 0.605], [0.34, 0.66]], dtype=torch.double)
    together, apart = abs(0.605 - 1 + 0.66) / 2, (1 - 0.605 + 0.66) / 2
    assert calibration_error(p.log(), [1, 0]) == pytest.approx(together)
    for bins in (14, 16):
        found = calibration_error(p.log(), [1, 0], bins=bins)
        assert found == pytest.approx(apart)
    assert calibration_error(p.log(), [1, 0], bins=1) == pytest.approx(together)


@pytest.mark.parametrize("bins", [0, -1, 2.5, math.nan])
def test_bins_are_a_whole_number(bins):
    with pytest.raises(ValueError, match="bins=.*at least 1"):
        calibration_error(LOGITS, TARGET, bins=bins)


def test_a_network_that_diverged_is_not_scored_by_fit():
    from torch import nn

    from medlib import fit
    from medlib.data import Dataset, Split

    class Overflowing(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) if self.training else x[:, 0, 0] / 0

    x, y = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    data = Dataset("d", ("a", "b"), *3 * [Split(x, y)], "")
    with pytest.raises(ValueError, match="4 of 4 cases are NaN.*diverged"):
        fit(Overflowing(4, 2), data, steps=1, store=False)

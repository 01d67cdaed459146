import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medlib.metrics import accuracy, auc, calibration_error


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

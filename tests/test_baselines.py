import numpy as np
import pytest
import torch

from medlib import baselines, load
from medlib.data import Dataset, Split
from medlib.metrics import auc


@pytest.fixture(scope="module")
def bars():
    """Upright bars against lying ones."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (90,), generator=g)
    x = torch.randn(90, 1, 28, 28, generator=g)
    x[y == 0, :, 10:16, :] += 3
    x[y == 1, :, :, 10:16] += 3
    parts = [Split(x[i : i + 30], y[i : i + 30]) for i in (0, 30, 60)]
    return Dataset("bars", ("lying", "upright"), *parts, "simulated")


@pytest.mark.parametrize("name", baselines.NAMES)
def test_each_method_learns(bars, name):
    found = baselines.train(name, bars)
    assert found.scores.shape == (30,) and found.validation > 0.95
    assert np.mean((found.scores > 0) == bars.test.y.numpy()) > 0.9


def test_the_setting_is_chosen_on_validation_images():
    """Test labels are turned round, so that the best setting there is the worst."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (180,), generator=g)
    x = torch.randn(180, 1, 8, 8, generator=g) + 0.15 * y[:, None, None, None]
    parts = [Split(x[i : i + 60], y[i : i + 60]) for i in (0, 60)]
    parts.append(Split(parts[1].x, 1 - parts[1].y))
    found = baselines.train(
        "logistic regression", Dataset("noise", ("a", "b"), *parts, "simulated")
    )
    describe, settings = baselines.methods(0)["logistic regression"]
    aucs = [
        auc(
            model.fit(describe(parts[0].x), parts[0].y).decision_function(
                describe(parts[1].x)
            ),
            parts[1].y,
        )
        for model in settings
    ]
    assert len(set(aucs)) > 1 and found.validation == max(aucs)
    assert auc(found.scores, parts[2].y) == pytest.approx(1 - max(aucs))


def test_names_are_those_of_the_methods():
    assert tuple(baselines.methods(0)) == baselines.NAMES


def test_only_the_forest_depends_on_the_seed(bars):
    for name in ("SVM", "random forest"):
        one, two = (baselines.train(name, bars, seed=s).scores for s in (0, 1))
        assert (one == two).all() == (name == "SVM")


def test_ten_classes_are_refused():
    with pytest.raises(ValueError, match="10 classes"):
        baselines.train("SVM", load("digits"))

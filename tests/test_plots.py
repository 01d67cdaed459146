import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch

from medlib import plots
from medlib.metrics import auc
from medlib.stats import Interval


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *a, **k: found.append((*a, k))
    )
    return found


def test_a_figure_needs_words():
    with pytest.raises(TypeError, match="alt"):
        plots.show(plots.grid([np.eye(2)]))
    with pytest.raises(ValueError, match="alt text"):
        plots.show(plots.grid([np.eye(2)]), alt=" ", caption="x")


def test_a_figure_carries_its_words(shown):
    plots.show(
        plots.grid([np.eye(2)]), alt="two pixels", caption="Two pixels.", name="fig-two"
    )
    bundle, options = shown[0]
    assert bundle["image/png"].startswith("iVBOR") and options["metadata"][
        "image/png"
    ] == {"alt": "two pixels"}
    assert options["metadata"]["medlib"]["figure"]["name"] == "fig-two"


def test_intervals_and_overlays_hold_what_they_were_given():
    rows = {"a": Interval(0.9, 0.8, 0.95, 5), "b": Interval(0.7, 0.6, 0.8, 5)}
    axis = plots.intervals(rows, xlabel="AUC", references={"published": 0.944}).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_legend().get_texts()[0].get_text() == "published"
    figure = plots.overlay(
        np.zeros((3, 4, 4)), np.ones((3, 4, 4)), ["x", "y", "z"], columns=2
    )
    assert [len(a.images) for a in figure.axes] == [2, 2, 2, 0]


def test_tables_and_sources_are_markdown(shown):
    plots.table([("a", 1)], ["name", "n"])
    plots.show_source(auc)
    assert shown[0][0].data.splitlines() == [
        "| name | n |",
        "| --- | ---: |",
        "| a | 1 |",
    ]
    assert "medlib/metrics.py" in shown[1][0].data and "def auc(" in shown[1][0].data


def test_the_style_comes_with_the_first_figure_and_not_with_the_import():
    code = (
        "import matplotlib as m; before = dict(m.rcParams); from medlib import plots\n"
        "assert dict(m.rcParams) == before\n"
        "_, axis = plots.panels(1)\n"
        "assert not axis.spines['top'].get_visible()\n"
        "assert m.rcParams['image.cmap'] == 'gray'"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_every_figure_has_the_style_whatever_was_set_before():
    with mpl.rc_context({"axes.spines.top": True, "axes.grid": False}):
        axis = plots.intervals({"a": Interval(0.9, 0.8, 0.95, 5)}, xlabel="AUC").axes[0]
        assert not axis.spines["top"].get_visible()
        assert axis.xaxis.get_gridlines()[0].get_visible()


def test_the_dot_of_a_learning_curve_is_the_best_validation():
    history = SimpleNamespace(
        step=[10, 20, 30],
        train_loss=[3, 2, 1],
        val_loss=[3, 2, 2],
        score=[0.5, 0.9, 0.7],
    )
    history.best = 1
    left, right = plots.curves({"net": history}).axes
    assert [line.get_label() for line in left.lines] == [
        "net, training", "net, validation"
    ]  # fmt: skip
    assert left.lines[0].get_ydata().tolist() == [3, 2, 1]
    assert right.lines[1].get_xydata().tolist() == [[20, 0.9]]


def test_a_confusion_matrix_has_the_truth_in_its_rows():
    # Of three healthy two are found, of two ill both.
    target, found = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 1])
    logits = torch.nn.functional.one_hot(found, 2).float()
    result = SimpleNamespace(target=target, logits=logits)
    axis = plots.confusion(result, ["healthy", "ill"]).axes[0]
    assert axis.get_ylabel() == "true" and axis.get_xlabel() == "predicted"
    counts = {(t.get_position()[::-1], t.get_text()) for t in axis.texts}
    assert counts == {((0, 0), "2"), ((0, 1), "1"), ((1, 0), "0"), ((1, 1), "2")}
    shares = axis.images[0].get_array().tolist()
    assert shares == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))


def test_a_roc_curve_is_sensitivity_over_one_minus_specificity():
    # The surest positive leads, then the negatives: half of the positives at no cost.
    axis = plots.roc({"net": [4, 1, 3, 2]}, [1, 1, 0, 0], resamples=5).axes[0]
    x, y = axis.lines[0].get_data()
    assert axis.get_ylabel() == "sensitivity" and "specificity" in axis.get_xlabel()
    assert y[0] == 0.5 and y[50] == 0.5 and y[-1] == 1 and len(x) == 101


def test_the_band_of_a_roc_curve_is_around_it_and_narrower_with_more_cases():
    rng, widths = np.random.default_rng(0), []
    for n in (200, 3200):
        target = np.arange(n) % 2
        axis = plots.roc({"net": target + rng.normal(size=n)}, target).axes[0]
        (band,) = axis.collections[0].get_paths()
        x, y = axis.lines[0].get_data()
        low, high = (
            np.array(
                [f(band.vertices[np.isclose(band.vertices[:, 0], v), 1]) for v in x]
            )
            for f in (np.min, np.max)
        )
        assert (low <= y).all() and (y <= high).all()
        widths.append((high - low).mean())
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.3)  # one over the root


def test_an_outline_is_drawn_in_the_colour_of_its_label():
    mask = np.zeros((7, 7), int)
    mask[2:5, 2:5] = 3
    picture = plots.outlined(np.full((7, 7), 0.5), mask, zoom=1)
    colour = [round(255 * c) for c in mpl.colors.to_rgb(plots.OUTLINES[3])]
    outlined = (picture == colour).all(2)
    assert outlined.sum() == 8 and not outlined[3, 3]  # the ring around its middle

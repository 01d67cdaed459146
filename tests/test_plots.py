import numpy as np
import pytest

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

"""A reader's run beside the published one."""

import json
from types import SimpleNamespace

import nbformat
import pytest

from medlib import beside as module
from medlib import paths
from medlib.beside import beside
from medlib.notes import listening
from medlib.stats import Interval

DATA = SimpleNamespace(name="acdc", source="mirror")
HERS = {"lead": Interval(0.10, 0.08, 0.12, 20)}


@pytest.fixture
def shown(monkeypatch):
    """What reaches the page: (text, metadata) of each call."""
    found = []

    def display(markdown, metadata=None):
        found.append((markdown.data, metadata["medlib"]["beside"]))

    monkeypatch.setattr("IPython.display.display", display)
    return found


@pytest.fixture
def published(monkeypatch, tmp_path, shown):
    """A book with one stored chapter, made by this very function."""
    (tmp_path / "chapters").mkdir()
    with listening(lambda event, facts: None):
        beside("99_test", HERS, DATA)
    output = nbformat.v4.new_output(
        "display_data", {}, metadata={"medlib": {"beside": shown[0][1]}}
    )
    cell = nbformat.v4.new_code_cell("", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(notebook, tmp_path / "chapters" / "99_test.ipynb")
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    return shown


def test_a_published_run_records_its_figures_and_can_be_read_as_json(published):
    text, record = published[0]
    assert "0.100 [0.080, 0.120]" in text and "yours" not in text
    assert json.loads(json.dumps(record, allow_nan=False))["figures"] == {
        "lead": [0.10, 0.08, 0.12]
    }


def test_a_mean_inside_says_so_and_gives_no_reasons(published):
    beside("99_test", {"lead": Interval(0.11, 0.0, 0.2, 20)}, DATA)
    assert "✔ inside" in published[1][0] and "What differs" not in published[1][0]


def test_a_mean_outside_is_given_what_differs_and_nothing_else(published, monkeypatch):
    monkeypatch.setenv("MEDLIB_PROFILE", "quick")
    other = SimpleNamespace(name="acdc", source="stand-in")
    beside("99_test", {"lead": Interval(0.07, 0.0, 0.2, 20)}, other)
    said = published[1][0]
    assert "✘ outside" in said and "0 of 1 inside" in said
    assert "size: quick, published with smoke" in said
    assert "acdc (stand-in), published with acdc (mirror)" in said
    assert "device:" not in said


def test_a_mean_outside_of_an_equal_run_says_that_nothing_differs(published):
    beside("99_test", {"lead": Interval(0.2, 0.1, 0.3, 20)}, DATA)
    assert "same size, data, device and precision" in published[1][0]


def test_an_open_interval_holds_everything_and_a_new_figure_is_named(published):
    open_end = Interval(0.1, -float("inf"), float("inf"), 1)
    beside("99_test", {"lead": open_end, "other": open_end}, DATA)
    said = published[1][0]
    assert "0.100 (no interval)" in said and "not published" in said
    assert "1 of 1 inside" in said


def test_without_the_book_the_figures_stand_alone(shown, monkeypatch):
    monkeypatch.setattr(paths, "CHECKOUT", None)
    beside("99_test", HERS, DATA)
    assert "not at hand" in shown[0][0] and "0.100" in shown[0][0]


def test_a_plain_number_is_refused():
    with pytest.raises(TypeError, match="lead: 0.1; expected an Interval"):
        beside("99_test", {"lead": 0.1}, DATA)


def test_every_reason_is_a_fact_of_a_run():
    assert module._run(DATA).keys() == module.REASONS.keys()

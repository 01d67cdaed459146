"""Each rule finds its fault, and a sound notebook has none."""

import nbformat
import pytest

from press import check, text
from press.card import card

TOY = "# %% [markdown]\n# # Toy\n\n# %%\nprint(1)\n\n# %%\nprint(2)\n"


def stream(words, name="stdout"):
    return nbformat.v4.new_output("stream", text=words, name=name)


def picture(name=None):
    made = {"figure": {"alt": "a", "caption": "c", "name": name}} if name else {}
    return nbformat.v4.new_output(
        "display_data", {"image/png": "x"}, metadata={"medlib": made}
    )


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """(the stored notebook, its text, its stamp) of a chapter as it should be."""
    monkeypatch.setattr(text, "FOLDER", tmp_path)
    source = tmp_path / "99_toy.py"
    source.write_text(TOY, encoding="utf-8")
    stored, words = text.read(source), text.read(source)
    stored.metadata["medlib"] = {
        "profile": "full", "device": "cpu", "precision": "no", "threads": 1,
        "torch": "2.9.0", "cpu_seconds": 61, "peak_mb": 1024, "date": "2026-01-01",
        "data": {"digits": "package"}, "code": text.code_hash(words),
    }  # fmt: skip
    stamp = stored.metadata["medlib"]
    for i, cell in enumerate(text.code_cells(stored)):
        cell.execution_count, cell.outputs = i + 1, [stream(f"{i + 1}\n")]
    made = nbformat.v4.new_markdown_cell(card(stamp), metadata={"tags": ["card"]})
    stored.cells.insert(1, made)
    return stored, words, stamp


def test_a_sound_notebook_has_no_faults(toy, tmp_path):
    assert check.faults(toy[0], tmp_path / "99_toy.py") == []


def test_a_notebook_without_a_stamp_is_refused(toy, tmp_path):
    del toy[0].metadata["medlib"]
    assert "no stamp" in check.faults(toy[0], tmp_path / "99_toy.py")[0]


def test_every_rule_is_asked(toy, tmp_path):
    toy[0].cells[2].outputs = [stream("/home/someone/file")]
    toy[2]["code"] = "0"
    found = check.faults(toy[0], tmp_path / "99_toy.py")
    assert len(found) == 2 and "absolute path" in found[0] and "code" in found[1]


def error():
    return nbformat.v4.new_output("error", ename="E", evalue="why", traceback=[])


def widget():
    return nbformat.v4.new_output("display_data", {check.WIDGET: {}})


# For each rule what spoils the notebook (its first code cell, its stamp), and a word of
# what the rule then says.
SPOILED = [
    (check.same_text, lambda cell, stamp: cell.update(source="x = 1"), "text changed"),
    (check.same_card, lambda cell, stamp: stamp.update(cpu_seconds=9999), "card"),
    (check.same_code, lambda cell, stamp: stamp.update(code="0"), "code changed"),
    (
        check.one_clean_run,
        lambda cell, stamp: cell.update(execution_count=9),
        "execution counts",
    ),
    (check.no_error, lambda cell, stamp: cell.outputs.append(error()), "E: why"),
    (
        check.no_stderr,
        lambda cell, stamp: cell.outputs.append(stream("careful", "stderr")),
        "careful",
    ),
    (check.no_widget, lambda cell, stamp: cell.outputs.append(widget()), "widget"),
    (
        check.no_path,
        lambda cell, stamp: cell.outputs.append(stream("see /home/someone/file")),
        "/home/someone/file",
    ),
    (
        check.no_path,
        lambda cell, stamp: cell.outputs.append(stream(r"C:\Users\me")),
        "path",
    ),
    (
        check.no_address,
        lambda cell, stamp: cell.outputs.append(stream("<Legend at 0x7f48>")),
        "address",
    ),
    (
        check.real_data,
        lambda cell, stamp: stamp["data"].update(acdc="stand-in"),
        "stand-in data for acdc",
    ),
    (check.published_size, lambda cell, stamp: stamp.update(profile="smoke"), "smoke"),
    (check.published_size, lambda cell, stamp: stamp.update(profile="quick"), "full"),
    (
        check.sentences_hold,
        lambda cell, stamp: stamp.update(untrue=["skips help"]),
        "skips help",
    ),
    (check.alt_texts, lambda cell, stamp: cell.outputs.append(picture()), "alt text"),
    (
        check.one_label_a_cell,
        lambda cell, stamp: cell.outputs.append(picture("fig-1")),
        "fig-1 shares",
    ),
    (
        check.small_file,
        lambda cell, stamp: cell.outputs.append(stream("x" * check.LIMIT)),
        "MB",
    ),
]


@pytest.mark.parametrize("rule, spoil, words", SPOILED)
def test_the_rule_finds_its_fault(toy, rule, spoil, words):
    stored, now, stamp = toy
    assert list(rule(stored, now, stamp)) == []
    spoil(text.code_cells(stored)[0], stamp)
    (fault,) = rule(stored, now, stamp)
    assert words in fault


def test_the_list_above_names_every_rule():
    assert {rule for rule, _, _ in SPOILED} == {*check.RULES, *check.OF_ITS_OWN_RUN}


def test_only_older_outputs_are_excused_in_a_chapter_that_waits(toy, tmp_path):
    stored, _, stamp = toy
    stamp["code"] = "0"
    stored.cells[2].execution_count = None
    (tmp_path / "waiting.txt").write_text("# a comment\n99_toy\n", encoding="utf-8")
    assert check.faults(stored, tmp_path / "99_toy.py") == []
    stored.cells[2].outputs.append(stream("careful", "stderr"))
    (fault,) = check.faults(stored, tmp_path / "99_toy.py")
    assert "stderr" in fault

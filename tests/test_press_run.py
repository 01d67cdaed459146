"""Chapters are executed, stored whole or not at all, and take over their prose."""

import subprocess
import sys

import nbformat
import pytest

from press import __main__, text
from press import run as runner
from press.text import ChapterError, stored
from press.waiting import waiting

LOADED = (
    "from medlib.notes import note\nnote('loaded', name='digits', source='package')"
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes a chapter with these cells of code into an empty folder."""
    monkeypatch.setattr(text, "FOLDER", tmp_path)
    monkeypatch.setenv("MEDLIB_PROFILE", "full")
    monkeypatch.setenv("MEDLIB_STORE", str(tmp_path / "store"))

    def write(*cells, name="99_toy", title="# Toy"):
        path = tmp_path / f"{name}.py"
        parts = [f"# %% [markdown]\n# {title}\n", *(f"# %%\n{c}\n" for c in cells)]
        path.write_text("\n".join(parts), encoding="utf-8")
        return path

    return write


def wait_for(*names):
    path = text.FOLDER / "waiting.txt"
    path.write_text("\n".join(["# they wait", *names, ""]), encoding="utf-8")


def printed(notebook):
    """What each cell of code printed."""
    return ["".join(o.text for o in c.outputs) for c in text.code_cells(notebook)]


# ---------------------------------------------------------------- running


def test_a_chapter_runs_and_is_stored_with_its_stamp(toy):
    source = toy(f"{LOADED}\nfrom medlib import cost", "print(6 * 7)")
    notebook = nbformat.read(runner.run(source), as_version=4)
    stamp = notebook.metadata.medlib
    assert printed(notebook) == ["", "42\n"]
    assert stamp.data == {"digits": "package"} and "digits" in stamp.cards
    assert stamp.profile == "full" and stamp.claims == {} and "uses" in stamp
    assert runner.state(source) == ("fresh", [])


def test_the_press_leaves_no_trace_in_the_kernel(toy):
    names = "print([n for n in dir() if n in ('begin', 'finish', 'press')])"
    notebook = runner.execute(toy(names))
    assert printed(notebook) == ["[]\n"]
    assert [c.execution_count for c in text.code_cells(notebook)] == [1]


def test_trainings_out_of_the_store_count_in_the_card(toy):
    told = [
        f"note('trained', parameters={p}, seed={s}, cpu_seconds=600, kept={kept})"
        for p, s, kept in [(10, 0, True), (1000, 3, False)]
    ]
    source = toy("\n".join(["from medlib.notes import note", *told]))
    words = stored_card(runner.run(source))
    assert "About 10 CPU-minutes" in words  # and a few seconds of its own
    assert "2 trainings of networks with 10 to 1,000 parameters, seeds 0 to 3" in words


def stored_card(path):
    return nbformat.read(path, as_version=4).cells[-1].source


def test_printed_claims_are_stamped_with_their_entries(toy):
    source = toy("from medlib.notes import note\nnote('claims', ids=['C037'])")
    runner.run(source)
    assert list(stored(source).metadata.medlib.claims) == ["C037"]


def test_the_value_of_a_setter_is_not_shown(toy):
    source = toy(
        "class Axis:\n    def set(self):\n        return 'noise'",
        "print('kept')\nAxis().set()",
    )
    outputs = text.code_cells(runner.execute(source))[1].outputs
    assert [o.output_type for o in outputs] == ["stream"]


def test_a_second_run_names_the_cells_that_came_out_otherwise(toy, capsys):
    source = toy("import time\nprint('always')", "print(time.time())")
    timing = '\n# %% tags=["timing"]\nprint(time.time())\n'
    source.write_text(source.read_text() + timing, encoding="utf-8")
    runner.run(source)
    assert runner.verify(source) == ["99_toy, cell [2]: print(time.time())"]


def test_a_failing_cell_stores_nothing(toy):
    source = toy("1 / 0")
    with pytest.raises(ChapterError, match="ZeroDivisionError"):
        runner.run(source)
    assert not source.with_suffix(".ipynb").exists()


def test_a_kernel_that_dies_is_named(toy):
    with pytest.raises(ChapterError, match=r"99_toy.py, cell 1: the kernel died"):
        runner.run(toy("import os\nos._exit(1)"))


def test_outputs_from_stand_in_data_are_not_stored(toy):
    source = toy(LOADED.replace("package", "stand-in"))
    with pytest.raises(ChapterError, match="stand-in data for digits"):
        runner.run(source)
    assert not source.with_suffix(".ipynb").exists()


def test_the_smoke_profile_is_not_stored(toy, monkeypatch):
    monkeypatch.setenv("MEDLIB_PROFILE", "smoke")
    with pytest.raises(ChapterError, match="smoke"):
        runner.run(toy("1"))


def test_the_kernel_gets_a_store_and_the_published_size(monkeypatch):
    for name in ("MEDLIB_PROFILE", "MEDLIB_STORE"):
        monkeypatch.delenv(name, raising=False)
    found = runner.environment()
    assert found["MEDLIB_PROFILE"] == "full" and found["MEDLIB_STORE"].endswith("store")
    monkeypatch.setenv("MEDLIB_STORE", "elsewhere")
    assert runner.environment()["MEDLIB_STORE"] == "elsewhere"


def test_chapters_run_side_by_side_and_one_that_fails_stops_no_other(toy, capfd):
    meet = """import os, time
open(f'{here}.here', 'w').close()
while not os.path.exists(f'{other}.here'):
    time.sleep(0.05)"""
    for name, other in (("96_a", "97_b"), ("97_b", "96_a")):
        toy(f"here, other = {name!r}, {other!r}\n{meet}", name=name)
    bad = toy("1 / 0", name="98_bad")
    assert __main__.main(["run", "-j", "2"]) == 1
    assert {p.stem for p in text.FOLDER.glob("*.ipynb")} == {"96_a", "97_b"}
    said = capfd.readouterr()
    assert "2 chapter(s) run, 1 failed" in said.out
    assert f"{bad.stem}: {bad.name}, cell 1, failed" in said.err


def test_a_fresh_chapter_is_not_run_again(toy, capsys):
    runner.run(toy("print('once')"))
    assert __main__.main(["run", "99"]) == 0
    assert "0 chapter(s) run" in capsys.readouterr().out
    assert __main__.main(["run", "99", "--again"]) == 0
    assert "1 chapter(s) run" in capsys.readouterr().out


def test_an_unknown_chapter_is_named(capsys):
    assert __main__.main(["run", "77"]) == 1
    assert "no chapter '77'" in capsys.readouterr().err


# ---------------------------------------------------------------- prose


def test_changed_prose_is_taken_over_and_changed_code_is_not(toy, capsys):
    source = toy("print(2)  # even")
    before = nbformat.read(runner.run(source), as_version=4)
    toy("print(2)  # still even", title="# Another\n#\n# word")
    assert runner.state(source)[0] == "prose"
    assert __main__.main(["run"]) == 0
    assert "0 chapter(s) run" in capsys.readouterr().out
    after = stored(source)
    assert "word" in after.cells[0].source and "still" in after.cells[1].source
    assert after.cells[1].outputs == before.cells[1].outputs
    assert runner.state(source)[0] == "fresh"
    toy("print(3)")
    assert runner.state(source)[0] == "faulty"
    with pytest.raises(ChapterError, match="code changed"):
        runner.store_prose(source)


def test_cells_are_matched_in_order_or_else_by_what_is_alike():
    assert runner.matched(["a", "b"], ["x", "y"]) == {0: 0, 1: 1}
    assert runner.matched(["a", "b"], ["a", "new", "b"]) == {0: 0, 2: 1}
    assert runner.matched(["a", "old", "b"], ["a", "b"]) == {0: 0, 1: 2}
    assert runner.matched(["a", "b", "c"], ["a", "b2"]) == {0: 0, 1: 1}


# ---------------------------------------------------------------- waiting


@pytest.fixture
def aged(toy, tmp_path):
    """A chapter that waits: it ran, was committed, and then its code changed."""
    source = toy("print('one')", "print('gone')", "print('two')")
    runner.run(source)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "run"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    toy("print('one')  # new", "print('added')", "print('ONE')", "print('two')")
    toy("print('one')", "print('two')")
    wait_for("99_toy")
    return source


def test_a_waiting_chapter_takes_new_code_over_its_old_outputs(aged, tmp_path):
    assert runner.state(aged)[0] == "prose"
    runner.store_prose(aged)
    notebook = stored(aged)
    assert printed(notebook) == ["one\n", "two\n"]
    asked = ["git", "log", "-1", "--format=%h"]
    commit = subprocess.check_output(asked, cwd=tmp_path, text=True).strip()
    date = notebook.metadata.medlib.date
    last = notebook.cells[-1].source.splitlines()[-1]
    assert "Waiting for a rerun" in last and f"`{commit}` ({date})" in last
    assert runner.state(aged)[0] == "waiting"


def test_a_second_taking_over_keeps_the_commit_of_the_outputs(aged, toy, tmp_path):
    runner.store_prose(aged)
    first = stored(aged).metadata.medlib.outputs_of
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "text"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    toy("print('one')", "print('added')", "print('two')")
    runner.store_prose(aged)
    assert stored(aged).metadata.medlib.outputs_of == first
    assert printed(stored(aged)) == ["one\n", "", "two\n"]


def test_a_waiting_chapter_runs_only_when_it_is_named(aged, capsys):
    assert __main__.main(["run"]) == 0 and waiting() == ["99_toy"]
    assert "took over the text of 99_toy" in capsys.readouterr().out
    assert __main__.main(["run", "99"]) == 0 and waiting() == []
    notebook = stored(aged)
    assert "Waiting" not in notebook.cells[-1].source
    assert "outputs_of" not in notebook.metadata.medlib
    assert runner.state(aged)[0] == "fresh"


def test_text_of_all_chapters_at_once(aged, toy, capsys):
    toy("1 + 1", name="98_never")
    assert __main__.main(["text", "--all"]) == 1
    said = capsys.readouterr()
    assert "took over the text of 99_toy" in said.out and "98_never" in said.err


# ---------------------------------------------------------------- the rest


def test_forecast_scales_with_the_speed_of_this_machine(capsys):
    for seconds in ("0.47", "4.7"):
        assert __main__.main(["forecast", "--seconds", seconds]) == 0
    fast, slow = [line.split() for line in lines(capsys, "20_motion")]
    assert int(slow[3]) == pytest.approx(10 * int(fast[3]), abs=5)


def lines(capsys, start):
    return [x for x in capsys.readouterr().out.splitlines() if x.startswith(start)]


def test_status_has_a_line_for_each_chapter(capsys):
    assert __main__.main(["status"]) == 0
    said = capsys.readouterr().out
    assert all(source.stem in said for source in text.sources())


def test_importing_the_press_needs_no_torch():
    names = [p.stem for p in (text.ROOT / "press").glob("[a-z]*.py")]
    code = f"""import importlib, sys
for name in {names!r}:
    importlib.import_module("press." + name)
print("torch" in sys.modules)"""
    asked = [sys.executable, "-c", code]
    assert subprocess.check_output(asked, cwd=text.ROOT, text=True) == "False\n"


HOLDS = "from medlib.claims import holds\nholds('two is more than one', 2 > 1)"


def test_a_sentence_that_holds_is_silent_and_stored(toy):
    notebook = nbformat.read(runner.run(toy(HOLDS)), as_version=4)
    assert printed(notebook) == [""] and "untrue" not in notebook.metadata.medlib


def test_a_chapter_with_a_sentence_that_does_not_hold_is_not_stored(toy):
    false = "holds('one is more than two', float('nan') > 2)\nprint('went on')"
    source = toy(HOLDS, false)
    with pytest.raises(ChapterError, match="one is more than two") as error:
        runner.run(source)
    assert "two is more than one" not in str(error.value)
    assert not source.with_suffix(".ipynb").exists()

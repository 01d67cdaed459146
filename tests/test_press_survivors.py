"""Mutants of a toy package, tried by its own tests."""

import json
import os

import pytest

from press import survivors
from press.survivors import Module, Score, campaign, equivalents
from press.text import ChapterError
from press.trial import Trial

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

CODE = """
def count(n):
    k = 0
    while k < n:
        k += 1
    return k

def half(n):
    return n / 2 + 0

def never(n):
    return n + 1
"""
TESTS = """
import subprocess, sys
from toy import sums

def test_count():
    assert sums.count(3) == 3

def test_half():
    assert sums.half(3) == 1.5

def test_elsewhere():
    code = "from toy import sums; assert sums.half(1) == .5"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    for folder in ("toy", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "toy" / "sums.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "tests" / "test_sums.py").write_text(TESTS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    listed = {"toy": (["toy/*.py"], ["test_sums.py"])}
    monkeypatch.setattr(survivors, "MODULES", listed)
    return Module("toy", tmp_path)


@pytest.fixture
def trial(toy, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    made = Trial(toy.root, toy.files, toy.tests, folder)
    made.record()
    yield made
    made.stop()


def mutant(toy, old, new):
    (found,) = (
        m
        for m in toy.mutants()
        if [" ".join(part).strip() for part in (m.old, m.new)] == [old, new]
    )
    return found


def test_killed_survived_and_not_reached(toy, trial):
    assert trial.start(mutant(toy, "return k", "pass"))
    assert trial.wait()[1] == "killed"
    assert trial.start(same := mutant(toy, "return n / 2 + 0", "return n / 2 - 0"))
    assert trial.wait()[:2] == (same, "survived")
    assert not trial.start(mutant(toy, "return n + 1", "return n - 1"))


def test_an_endless_loop_is_ended(toy, trial):
    trial.limit = 1
    assert trial.start(mutant(toy, "k += 1", "k -= 1"))
    assert trial.wait()[1] == "killed by SIGXCPU"


def test_lines_and_the_tests_that_start_processes_are_noted(trial):
    (name,) = trial.left_out
    assert name.endswith("test_elsewhere")
    lines = {test: {line for _, line in ran} for test, ran in trial.lines.items()}
    assert lines[name.replace("elsewhere", "count")] == {2, 3, 4, 5, 6}
    assert lines[name.replace("elsewhere", "half")] == {8, 9}
    assert lines[""] - {0} == {2, 8, 11}  # where the functions are defined


def test_tests_that_fail_anyway_are_refused(toy, tmp_path):
    toy.tests[0].write_text("def test(): assert False", encoding="utf-8")
    with pytest.raises(ChapterError, match="test_sums.py fail without a mutant"):
        Trial(toy.root, toy.files, toy.tests, tmp_path).record()


def test_a_campaign_goes_on_where_it_stopped(toy):
    first, *others = toy.mutants()
    for known in others:
        toy.keep(known.number, "killed", 60.0)
    score = campaign(toy)
    tried = [number for number, _, _ in toy.results()]
    assert tried == [*(m.number for m in others), "", first.number]
    assert score.tried == len(others) + 1 and score.seconds > 60 * len(others)
    assert campaign(toy) == score and len(toy.results()) == len(tried)


def test_an_equivalent_is_replaced_in_the_sample(toy):
    drawn = toy.mutants()
    for known in drawn:
        toy.keep(known.number, "survived", 0)
    keys = ("file", "scope", "old", "new", "which")
    rows = [f"{k} = {json.dumps(v)}" for k, v in zip(keys, drawn[1].place, strict=True)]
    path = toy.root / "tests" / "equivalent_mutants.toml"
    path.write_text("\n".join(["[[mutant]]", *rows, "why = 'text'"]), encoding="utf-8")
    assert equivalents(toy.root) == {drawn[1].place: "text"}
    score = campaign(toy, sample=2)
    assert [m for m, _ in score.survivors] == [drawn[0], drawn[2]]
    assert (score.tried, score.equivalent, score.killed) == (2, 1, 0)


def test_results_belong_to_the_module_and_its_tests(toy):
    before = toy.kept
    assert Module("toy", toy.root).kept == before
    for path in (*toy.files, *toy.tests, toy.root / "tests" / "conftest.py"):
        path.write_text("# changed", encoding="utf-8")
        now = Module("toy", toy.root).kept
        assert now != before
        before = now


def test_the_draw_is_the_same_each_time_and_takes_what_there_is(toy):
    every = toy.mutants()
    assert toy.mutants() == every and len({m.number for m in every}) == len(every)
    assert [m.line for m in every] != sorted(m.line for m in every)


def test_too_few_killed_is_a_failure(toy, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(survivors, "Module", lambda name: toy)
    left = [(m, "survived") for m in toy.mutants()[:2]]
    for tried, status in ((20, 0), (19, 1)):
        score = Score(tried, 3, left, 90.0)
        monkeypatch.setattr(survivors, "campaign", lambda *given, s=score: s)
        assert survivors.main(["toy"]) == status
        said = capsys.readouterr().out
        assert said.count("survived: toy/sums.py:") == 2
        row = said.splitlines()[-1].split()
        assert row[:6] == ["toy", str(tried), str(tried - 2), "2", "3", "1.5"]


@pytest.mark.parametrize("name", survivors.MODULES)
def test_every_module_has_files_and_tests(name):
    module = Module(name)
    assert module.files and module.tests


def test_what_is_listed_as_equivalent_is_a_mutant_with_a_reason():
    places = {m.place for name in survivors.MODULES for m in Module(name).mutants()}
    assert equivalents().keys() <= places and all(equivalents().values())

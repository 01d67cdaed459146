"""The tiers choose the tests of what changed, and count what ran."""

import sys

import pytest

from press import tiers
from press.text import ROOT

REPORT = """<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"/>
<testsuite tests="3" failures="0" errors="0" skipped="0"/></testsuites>"""


def test_a_module_brings_the_tests_of_its_name():
    assert tiers.tests_of(["medlib/stats.py"]) == ["tests/test_stats.py"]
    found = tiers.tests_of(["press/run.py", "chapters/02_lenet.py", "README.md"])
    assert found == ["tests/test_chapters.py", "tests/test_press_run.py"]


def test_a_module_without_tests_of_its_name_brings_those_that_import_it():
    assert not (ROOT / "tests" / "test_text.py").exists()
    found = tiers.tests_of(["press/text.py"])
    assert "tests/test_chapters.py" in found and "tests/test_stats.py" not in found


def test_a_changed_test_brings_itself_and_a_deleted_one_nothing():
    changed = ["tests/test_cost.py", "tests/test_gone.py", "tests/conftest.py"]
    assert tiers.tests_of(changed) == ["tests/test_cost.py"]


def test_counts_are_those_of_the_report(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(REPORT, encoding="utf-8")
    assert tiers.counts(path, 1) == (6, 2, 2)


def test_no_report_and_no_tests_are_failures(tmp_path):
    path = tmp_path / "report.xml"
    assert tiers.counts(path, 4) == (0, 1, 0)
    path.write_text('<testsuites><testsuite tests="0"/></testsuites>', "utf-8")
    assert tiers.counts(path, 5) == (0, 1, 0)


@pytest.mark.parametrize("code, status", [("1", 0), ("1 / 0", 1)])
def test_a_tier_ends_in_one_line_of_counts(monkeypatch, capfd, code, status):
    stages = [
        tiers.Stage("well", [sys.executable, "-c", "sum(range(10**7))"]),
        tiers.Stage("maybe", [sys.executable, "-c", code]),
    ]
    monkeypatch.setattr(tiers, "NIGHTLY", stages)
    assert tiers.main("nightly") == status
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == f"{2 - status} passed, {status} failed, 0 skipped"
    row = next(line.split() for line in said if line.startswith("well"))
    assert float(row[4]) >= 0 and row[1:4] == ["1", "0", "0"]


def test_no_tier_runs_a_stage_of_the_night_by_day():
    names = [stage.name for stage in tiers.TEST]
    assert not {s.name for s in tiers.NIGHTLY} & set(names) and "types" in names

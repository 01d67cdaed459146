"""Everything that checks the project, in three tiers; each ends in a line of counts.

check     lint, types, spelling and the tests of what changed: under a minute
test      all that must be green before a change is kept
nightly   what takes hours: chapters on a stand-in for a GPU, fifty kills, Colab, a PDF,
          mutants of the core
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

from press.graph import Graph, Module, imports
from press.text import ROOT

PYTHON = [sys.executable, "-m"]
PYTEST = [*PYTHON, "pytest", "-p", "no:cacheprovider"]
PARALLEL = ["-n", str(os.cpu_count()), "--dist", "loadfile"]
SMOKE = {
    "MEDLIB_PROFILE": "smoke", "MEDLIB_OFFLINE": "1", "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
}  # fmt: skip


class Stage(NamedTuple):
    name: str
    command: list[str]
    variables: dict[str, str] | None = None


class Outcome(NamedTuple):
    passed: int
    failed: int
    skipped: int
    cpu: float  # seconds of the processor


JUPYTER_BOOK = shutil.which("jupyter-book", path=sysconfig.get_path("scripts")) or ""
BUILD = [JUPYTER_BOOK, "build", ".", "--all", "--quiet"]
STRICT = ["--warningiserror", "--keep-going"]
CHAPTERS = [*PYTEST, *PARALLEL, "--nbval-lax", "--nbval-current-env", "chapters"]
UNIT = [*PYTEST, *PARALLEL, "tests", "--ignore=tests/test_book.py"]
PAGES = [*PYTEST, "-rs", "tests/test_book.py"]
STANDIN = {"PYTHONSTARTUP": str(ROOT / "tests" / "startup.py")}

LINT = [
    Stage("lint", [*PYTHON, "ruff", "check", "."]),
    Stage("format", [*PYTHON, "ruff", "format", "--check", "."]),
    Stage("types", [*PYTHON, "mypy", "medlib", "press"]),
    Stage("spelling", [*PYTHON, "codespell_lib"]),
]
TEST = [
    *LINT,
    Stage("unit tests", [*UNIT, "-m", "not nightly"]),
    Stage("chapters in the smoke profile", CHAPTERS),
    Stage("book, warnings as errors", [*BUILD, *STRICT]),
    Stage("pages of the book", [*PAGES, "-m", "not nightly"]),
]
NIGHTLY = [
    Stage("chapters on a stand-in for a GPU", CHAPTERS, STANDIN),
    Stage("tests for the night", [*UNIT, "-m", "nightly"]),
    Stage("mutants of the core", [*PYTHON, "press", "mutants", "-j", "2"]),
    Stage("book", BUILD),
    Stage("the book as a PDF", [*PYTHON, "press", "pdf"]),
    Stage("pages of the PDF", [*PAGES, "-m", "nightly"]),
]


# ---------------------------------------------------------------- what changed


def changed(base: str) -> list[str]:
    """The files that differ from a commit, new ones included, deleted ones not."""
    asked = (
        ["git", "diff", "--name-only", "--diff-filter=d", base],
        ["git", "ls-files", "--others", "--exclude-standard"],
    )
    found = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for command in asked
    ]
    return sorted({line for done in found for line in done.stdout.splitlines()})


def tests_of(files: list[str]) -> list[str]:
    """The tests to run after a change of these files: the changed tests themselves,
    those that bear a changed module's name, or else those that import it.
    """
    tests = sorted((ROOT / "tests").glob("test_*.py"))
    graph = Graph(ROOT, "medlib", "press")
    found = set()
    for file in map(Path, files):
        parts = file.with_suffix("").parts
        if file.suffix != ".py":
            continue
        if file.parent.name == "chapters":
            found.add("test_chapters.py")
        elif parts[0] == "tests":
            found.add(file.name)
        elif parts[0] in ("medlib", "press"):
            names = (f"test_{parts[-1]}.py", f"test_{'_'.join(parts[-2:])}.py")
            named = {test.name for test in tests if test.name in names}
            found |= named or _importing(".".join(parts), tests, graph)
    return [f"tests/{test.name}" for test in tests if test.name in found]


def _importing(module: str, tests: list[Path], graph: Graph) -> set[str]:
    """The names of those tests that import a module."""
    found = set()
    for path in tests:
        test = Module("test", path.read_text(encoding="utf-8"))
        if module in imports(graph, test):
            found.add(path.name)
    return found


def check(base: str) -> list[Stage]:
    tests = tests_of(changed(base))
    command = [*PYTEST, *PARALLEL, "-m", "not nightly", *tests]
    return [*LINT, Stage(f"tests since {base}", command)] if tests else LINT


# ---------------------------------------------------------------- running


def run(stage: Stage) -> Outcome:
    """A stage that is no pytest counts as one check."""
    print(f"\n== {stage.name}", flush=True)
    before = os.times()
    variables = os.environ | SMOKE | (stage.variables or {})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        counted = "pytest" in stage.command
        extra = [f"--junitxml={report}"] if counted else []
        done = subprocess.run(
            [*stage.command, *extra], cwd=ROOT, env=variables, check=False
        )
        after = os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])  # of the children
        if not counted:
            well = done.returncode == 0
            return Outcome(int(well), int(not well), 0, cpu)
        return Outcome(*counts(report, done.returncode), cpu)


def counts(report: Path, status: int) -> tuple[int, int, int]:
    """(passed, failed, skipped) of pytest's report; without one, a failure."""
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (ET.ParseError, FileNotFoundError):
        return 0, 1, 0
    tests, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites)
        for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors or int(status != 0)  # no test collected is a failure too
    return max(tests - failures - errors - skipped, 0), failed, skipped


def book() -> int:
    """Render the pages into _build/html."""
    command = [JUPYTER_BOOK, "build", ".", "--quiet", *STRICT]
    failed = subprocess.run(command, cwd=ROOT, check=False).returncode
    if not failed:
        page = ROOT / "_build" / "html" / "index.html"
        print(f"The book is ready: open {page.as_uri()}")
    return failed


def at_night(only: str) -> list[Stage]:
    """All of it, or the nightly tests of one file."""
    if not only:
        return NIGHTLY
    command = [*PYTEST, "-rs", "-m", "nightly", f"tests/test_{only}.py"]
    return [Stage(f"tests for the night: {only}", command)]


def main(tier: str, base: str = "HEAD", only: str = "") -> int:
    stages = {"test": TEST, "nightly": at_night(only)}.get(tier) or check(base)
    started = time.perf_counter()
    outcomes = [run(stage) for stage in stages]
    if tier == "test":
        print("\n== state of the stored chapters", flush=True)
        subprocess.run([*PYTHON, "press", "status"], cwd=ROOT, check=False)
    print(f"\n{'stage':34} passed failed skipped  CPU-seconds")
    for stage, (passed, failed, skipped, cpu) in zip(stages, outcomes, strict=True):
        line = f"{stage.name:34} {passed:6} {failed:6} {skipped:7} {cpu:12.0f}"
        print(line + ("   FAILED" if failed else ""))
    passed, failed, skipped, cpu = (
        sum(column) for column in zip(*outcomes, strict=True)
    )
    wall = time.perf_counter() - started
    print(f"{cpu / 60:.1f} CPU-minutes, {wall / 60:.1f} minutes")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)

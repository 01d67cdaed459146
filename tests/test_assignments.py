"""The reference gets all points, the untouched notebook none, and each wrong solution
loses what it should.
"""

import ast
import copy
import gc
import json
import os
import re
import warnings
from contextlib import suppress
from types import SimpleNamespace

import jupytext
import nbformat
import pytest

from assignments import make
from press import first

FOLDERS = make.folders()
NAMES = [folder.name for folder in FOLDERS]
WRONG = [
    pytest.param(f, w, id=f"{f.name}-{w['name']}")
    for f in FOLDERS
    for w in make.wrongs(f)
]
each = pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
# of otter and what it imports: calls that newer versions of others deprecate, and the
# socket of its log
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Traits should be given as instances:DeprecationWarning"
    ),
    pytest.mark.filterwarnings(
        "ignore:The inplace keyword in DataFrame:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    result = tmp_path_factory.mktemp("assignments")
    for folder in FOLDERS:
        make.assign(folder, result / folder.name, check=False)
    return result


@pytest.fixture
def grade(built, tmp_path, monkeypatch):
    """What `otter run` gives; the archive has to bring what it needs of medlib."""
    from otter.run import main as otter_run

    monkeypatch.delenv("PYTHONPATH", raising=False)

    def run(folder, notebook):
        nbformat.write(notebook, tmp_path / f"{folder.name}.ipynb")
        archive = built / folder.name / f"{folder.name}-autograder.zip"
        results = otter_run(
            str(tmp_path / f"{folder.name}.ipynb"),
            autograder=str(archive),
            output_dir=None,
            no_logo=True,
        )
        gc.collect()  # that socket, here where its warning is expected
        return {name: file.score for name, file in results.results.items()}

    return run


def scores_here(built, folder, notebook):
    """The same without otter's kernel, which takes seconds: the cells that it would
    run, in this process, and its own test files.
    """
    from otter.test_files import ExceptionTestFile

    tests = built / folder.name / "autograder" / "tests"
    scores = {}

    def check(name):
        file = ExceptionTestFile.from_file(str(tests / f"{name}.py"))
        file.run(names)
        scores[name] = file.score

    names = {"grader": SimpleNamespace(check=check)}
    with warnings.catch_warnings(action="ignore"):
        for cell in notebook.cells:
            tags = set(cell.metadata.get("tags", ()))
            if cell.cell_type == "code" and not tags & {"colab", "otter_ignore"}:
                with suppress(Exception):  # otter goes on after a cell that fails
                    exec(cell.source, names)  # noqa: S102
    return scores


def notebook(built, folder, part):
    return nbformat.read(
        built / folder.name / part / f"{folder.name}.ipynb", as_version=4
    )


def points(folder):
    return {
        q["name"]: q["points"] for q in make.questions(folder) if not q.get("manual")
    }


def lost(folder, scores):
    """{question: points lost}, of those that lost any."""
    return {
        name: full - scores[name]
        for name, full in points(folder).items()
        if scores[name] != full
    }


def spoil(notebook, change):
    spoilt = copy.deepcopy(notebook)
    code = [cell for cell in spoilt.cells if cell.cell_type == "code"]
    for find, replacement in change:
        found = [cell for cell in code if find in cell.source]
        assert sum(cell.source.count(find) for cell in code) == 1, find
        found[0].source = found[0].source.replace(find, replacement)
    return spoilt


def leaks(text):
    return make.CANARY in text or "hidden=True" in text


# ---------------------------------------------------------------- points


@each
def test_reference_gets_all_points(built, grade, folder):
    assert grade(folder, notebook(built, folder, "autograder")) == points(folder)


@each
def test_untouched_notebook_gets_none(built, grade, folder):
    assert grade(folder, notebook(built, folder, "student")) == dict.fromkeys(
        points(folder), 0
    )


@each
def test_without_a_kernel_the_points_are_the_same(built, folder):
    reference, untouched = (
        scores_here(built, folder, notebook(built, folder, part))
        for part in ("autograder", "student")
    )
    assert reference == points(folder)
    assert untouched == dict.fromkeys(points(folder), 0)


@pytest.mark.parametrize("folder, wrong", WRONG)
def test_wrong_solution_loses_what_it_should(built, folder, wrong):
    wrongly = spoil(notebook(built, folder, "autograder"), wrong["change"])
    assert lost(folder, scores_here(built, folder, wrongly)) == wrong["lost"]


@pytest.mark.nightly
@pytest.mark.parametrize("folder, wrong", WRONG)
def test_wrong_solution_loses_the_same_in_otter(built, grade, folder, wrong):
    wrongly = spoil(notebook(built, folder, "autograder"), wrong["change"])
    assert lost(folder, grade(folder, wrongly)) == wrong["lost"]


@each
def test_twenty_points_and_five_misconceptions(folder):
    assert sum(points(folder).values()) == 20 and 5 <= len(points(folder)) <= 7
    assert len({w["name"] for w in make.wrongs(folder)}) >= 5
    assert all(q["minutes"] > 0 and q["tests"] for q in make.questions(folder))


# ---------------------------------------------------------------- what students get


@each
def test_published_files_are_those_of_the_master(built, folder):
    made = built / folder.name / "student"
    files = sorted(
        p.relative_to(made) for p in made.rglob("*") if p.suffix in (".py", ".ipynb")
    )
    assert sorted(p.name for p in (folder / "tests").glob("*.py")) == [
        f.name for f in files if f.suffix == ".py"
    ]
    for file in files:
        assert (folder / file).read_bytes() == (made / file).read_bytes(), (
            f"{file}: run make assignments"
        )


@each
def test_every_solution_holds_the_canary(folder):
    cells = jupytext.read(folder / "master.py", fmt="py:percent").cells
    inside = False
    for cell in cells:
        if cell.cell_type == "raw":
            inside = cell.source.startswith("# BEGIN SOLUTION") or (
                inside and "END SOLUTION" not in cell.source
            )
        elif inside:
            assert make.CANARY in cell.source
            marks = re.findall(r"# (?:BEGIN )?SOLUTION.*", cell.source)
            assert all(mark.endswith(make.CANARY) for mark in marks)


@each
def test_a_solution_in_one_line_is_a_whole_statement(folder):
    """Of a statement over several lines otter would hide the last one alone."""
    text = (folder / "master.py").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "  # SOLUTION" in line]
    for line in lines:
        ast.parse(line.strip())
    assert lines


@each
def test_nothing_leaks_to_students(built, folder):
    files = [folder / f"{folder.name}.ipynb", *(folder / "tests").glob("*.py")]
    files += [p for p in (built / folder.name / "student").rglob("*") if p.is_file()]
    assert files and not [f for f in files if leaks(f.read_text(encoding="utf-8"))]


@each
def test_a_leak_would_be_seen(built, folder):
    reference = json.dumps(notebook(built, folder, "autograder"))
    assert leaks(reference) and leaks(
        (folder / "master.py").read_text(encoding="utf-8")
    )
    with_hidden = [
        p
        for p in (built / folder.name / "autograder" / "tests").glob("*.py")
        if leaks(p.read_text())
    ]
    assert len(with_hidden) >= 5


@each
def test_first_code_cells_fetch_and_start_and_the_rest_are_short(folder):
    cells = nbformat.read(folder / f"{folder.name}.ipynb", as_version=4).cells
    assert cells[0].source.startswith("# ") and "colab" in cells[1].metadata.tags
    assert cells[1].source == first.assignment(folder.name)
    assert cells[2].source == make.START and "colab" in cells[2].metadata.tags
    code = [len(c.source.splitlines()) for c in cells[2:] if c.cell_type == "code"]
    assert max(code) <= 25


@pytest.mark.parametrize("page", make.PAGES)
def test_tables_are_those_of_the_masters(page):
    assert make.filled(page) == (make.ROOT / "book" / page).read_text(
        encoding="utf-8"
    ), "run make assignments"


def test_otter_run_says_the_same(built, tmp_path):
    """The command that instructors type, once; the tests above call the function behind
    it.
    """
    import subprocess
    import sys

    work = built / "04_metrics"
    command = [
        sys.executable,
        "-m",
        "otter",
        "run",
        "--no-logo",
        "-a",
        str(work / "04_metrics-autograder.zip"),
    ]
    command += ["-o", str(tmp_path), str(work / "autograder" / "04_metrics.ipynb")]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    scores = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))[
        "tests"
    ]
    assert sum(test.get("score", 0) for test in scores) == 20

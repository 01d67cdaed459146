"""From each master.py: the student notebook and its tests, the autograder archive, the
page of solutions.

    python assignments/make.py       all; `make assignments` runs this
    python assignments/make.py 03    this one

Everything goes to _build/assignments/NN_slug. What a student needs, the notebook and
its visible tests, is also written beside the master, where Colab can open it, and the
tables of the two pages in book/ are made anew. A master holds the questions alone; the
settings for otter and the cell that starts the checks are added here.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat
import yaml

from press import first

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "assignments"
# stands in every solution, so that a test can look for what leaked
CANARY = "gannet-on-the-ninth-stair"
# of medlib, in the archive where a master imports it
NEEDS = (
    "medlib/__init__.py",
    "medlib/hearts/__init__.py",
    "medlib/hearts/phantom.py",
)
CONFIG = {
    "runs_on": "colab",
    "init_cell": False,
    "export_cell": False,
    "tests": {"files": True, "ok_format": False},
    "environment": "environment.yml",
}
# behind the first cell, which brings otter where it is not at hand
START = """\
import otter

grader = otter.Notebook()"""


def folders(number: str = "") -> list[Path]:
    return sorted(path.parent for path in FOLDER.glob(f"{number}*/master.py"))


def read(folder: Path) -> nbformat.NotebookNode:
    """The master as a notebook, with otter's settings in front and the first cells
    behind the title. The grader ignores what fetches the book.
    """
    notebook = jupytext.read(folder / "master.py", fmt="py:percent")
    config = CONFIG | {"name": folder.name}
    if any("from medlib" in cell.source for cell in notebook.cells):
        config["autograder_files"] = list(NEEDS)
    marks = ["hide-input", "colab"]
    fetching, starting = ["otter_ignore", *marks], marks
    notebook.cells[1:1] = [
        nbformat.v4.new_code_cell(code, metadata={"tags": tags})
        for code, tags in [(first.assignment(folder.name), fetching), (START, starting)]
    ]
    notebook.cells.insert(
        0, nbformat.v4.new_raw_cell(f"# ASSIGNMENT CONFIG\n{yaml.safe_dump(config)}")
    )
    notebook.metadata = {
        "kernelspec": {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        },
        "language_info": {"name": "python"},
    }
    return notebook


def questions(folder: Path) -> list[dict]:
    """Name, points, minutes and what is tested, as the master says."""
    notebook = jupytext.read(folder / "master.py", fmt="py:percent")
    return [
        yaml.safe_load(cell.source)
        for cell in notebook.cells
        if cell.source.startswith("# BEGIN QUESTION")
    ]


def wrongs(folder: Path) -> list[dict]:
    return tomllib.loads((folder / "wrong.toml").read_text(encoding="utf-8"))["wrong"]


def assign(folder: Path, result: Path, *, check: bool) -> None:
    """`otter assign`; then names without a time stamp, ids by place, and tests in the
    house's format.
    """
    from otter.assign import main as otter_assign

    shutil.rmtree(result, ignore_errors=True)
    for name in NEEDS:
        (result / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, result / name)
    shutil.copy(FOLDER / "environment.yml", result)
    master = result / f"{folder.name}.ipynb"
    nbformat.write(read(folder), master)
    otter_assign(str(master), str(result), no_run_tests=not check)
    next((result / "autograder").glob("*.zip")).rename(
        result / f"{folder.name}-autograder.zip"
    )
    for path in (result / part / master.name for part in ("student", "autograder")):
        notebook = nbformat.read(path, as_version=4)
        for i, cell in enumerate(notebook.cells):
            cell["id"] = f"{folder.name[:2]}-{i:03}"
        nbformat.write(notebook, path)
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--quiet", "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    tests = str(result / "student" / "tests")
    for command in (["check", "--fix", "--ignore", "E501"], ["format"]):
        subprocess.run([*ruff, *command, *settings, tests], check=True)


def solutions(folder: Path, result: Path) -> None:
    """The reference, executed, as one page: for those who grade."""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    place = result / "autograder"
    notebook = nbformat.read(place / f"{folder.name}.ipynb", as_version=4)
    ExecutePreprocessor(kernel_name="python3").preprocess(
        notebook, {"metadata": {"path": str(place)}}
    )
    page, _ = HTMLExporter().from_notebook_node(
        notebook, {"metadata": {"name": f"{folder.name}: solutions"}}
    )
    (result / f"{folder.name}-solutions.html").write_text(page, encoding="utf-8")


def publish(folder: Path, result: Path) -> None:
    """The student's files, beside the master."""
    shutil.copy(result / "student" / f"{folder.name}.ipynb", folder)
    shutil.rmtree(folder / "tests", ignore_errors=True)
    shutil.copytree(result / "student" / "tests", folder / "tests")


# ---------------------------------------------------------------- the two pages' tables


def title(folder: Path) -> str:
    master = folder / "master.py"
    text = master.read_text(encoding="utf-8")
    found = re.search(r"^# # (.+)$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"{master}: expected a line '# # Title'")
    return found[1]


def student_table() -> str:
    lines = [
        "| No. | You build | Minutes | Points | Notebook |",
        "| --- | --- | --- | --- | --- |",
    ]
    for folder in folders():
        asked = questions(folder)
        path = f"assignments/{folder.name}/{folder.name}.ipynb"
        minutes, points = (sum(q[key] for q in asked) for key in ("minutes", "points"))
        colab = "repo.replace('https://github.com', 'https://colab.research.google.com/github')"
        links = [f"{{{{ '[Colab](' ~ {colab} ~ '/blob/' ~ branch ~ '/{path})' }}}}"]
        links.append(f"{{{{ '[file](' ~ repo ~ '/blob/' ~ branch ~ '/{path})' }}}}")
        lines.append(
            f"| {folder.name[:2]} | {title(folder)} | {minutes} | {points} | "
            f"{' · '.join(links)} |"
        )
    return "\n".join(lines)


def instructor_table() -> str:
    parts = []
    for folder in folders():
        parts += [f"### {folder.name[:2]}: {title(folder)}", ""]
        parts += [
            "| Question | Points | Minutes | What it tests |",
            "| --- | --- | --- | --- |",
        ]
        parts += [
            f"| {q['name']} | {q['points']} | {q['minutes']} | {q['tests']} |"
            for q in questions(folder)
        ]
        parts += [
            "",
            "| Wrong solution | Misconception | Loses |",
            "| --- | --- | --- |",
        ]
        for wrong in wrongs(folder):
            lost = ", ".join(
                f"{name}: {points:g}" for name, points in wrong["lost"].items()
            )
            parts.append(f"| {wrong['name']} | {wrong['why']} | {lost} |")
        parts.append("")
    return "\n".join(parts).strip()


PAGES = {"assignments.md": student_table, "instructor.md": instructor_table}
MARKS = ("<!-- made by `make assignments` from here -->", "<!-- to here -->")


def filled(page: str) -> str:
    """The page with its table made anew."""
    text = (ROOT / "book" / page).read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise ValueError(f"book/{page}: expected {MARKS[0]!r} and {MARKS[1]!r}, once")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return f"{before}{MARKS[0]}\n\n{PAGES[page]()}\n\n{MARKS[1]}{after}"


def main(number: str = "") -> None:
    chosen = folders(number)
    if not chosen:
        names = ", ".join(folder.name for folder in folders())
        raise SystemExit(f"expected one of {names}, not {number!r}")
    for folder in chosen:
        result = ROOT / "_build" / "assignments" / folder.name
        assign(folder, result, check=True)
        solutions(folder, result)
        publish(folder, result)
        print(f"{folder.name}: {result.relative_to(ROOT)}", flush=True)
    for page in PAGES:
        (ROOT / "book" / page).write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

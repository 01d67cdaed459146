"""The readers' notebooks on Colab as it is now, simulated: Colab's own Python and
versions, `google.colab` in sys.modules, an empty cache, and the book's address leading
to a clone of this repository's last commit.

For the night: pip fetches several GB once, into a folder that MEDLIB_COLAB names or the
user's cache. Three chapters run from the first cell to the last in the `quick` profile;
where MEDLIB_IMAGES names a folder laid out as for MEDLIB_MIRROR, on the real images, by
way of a server that plays the upstreams.
"""

import ast
import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
from upstream import serving

from medlib import doctor
from press import colab, first
from press.text import ROOT, code_cells, digest, sources, stored

# googlecolab/backend-info, pip-freeze.txt; live since 25 August 2026
CARRIED = [
    "torch==2.11.0",
    "torchvision==0.26.0",
    "numpy==2.1.3",
    "scipy==1.16.3",
    "matplotlib==3.10.0",
    "ipython==7.34.0",
    "ipykernel==6.17.1",
    "scikit-learn==1.6.1",
    "scikit-image==0.25.2",
    "accelerate==1.14.0",
    "nibabel==5.4.2",
    "pandas",
    "requests",
    "tqdm",
    "pillow",
    "ipywidgets",
]
PYTHON = "python3.13"
LACKING = {"monai", "pydicom", "captum", "simpleitk", "surface-distance"}
ADDRESS = first.address()
AS_COLAB = """
import sys, types
from importlib.machinery import ModuleSpec
sys.modules["google.colab"] = types.ModuleType("google.colab")
sys.modules["google.colab"].__spec__ = ModuleSpec("google.colab", None)
"""
# Runs the first cell, then what the chapter imports, each chapter in a child of one
# process that has torch.
DRIVER = f"""
import json, os, torch
{AS_COLAB}
for name, code in json.load(open("chapters.json")).items():
    if os.fork() == 0:
        try:
            exec(compile(code, name, "exec"), {{"__name__": "__main__"}})
        except BaseException as error:
            print(f"{{name}}: {{type(error).__name__}}: {{error}}")
            os._exit(1)
        os._exit(0)
    print(name, "fails" if os.wait()[1] else "runs")
"""


def absent(why: str):
    """A failure where CI is set, a skip on a reader's machine."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


def first_cells(source: Path) -> str:
    """The first cell as it is, and every import that the chapter's other cells make."""
    code = code_cells(stored(source))
    imports = [
        ast.unparse(node)
        for cell in code[1:]
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join([code[0].source, *imports])


@pytest.fixture(scope="module")
def carried() -> Path:
    """The environment that Colab starts with, made once for each list."""
    cache = Path.home() / ".cache" / "medlib-book"
    named = os.environ.get("MEDLIB_COLAB")
    folder = Path(named) if named else cache / f"colab-{digest(' '.join(CARRIED))}"
    whole = folder / "whole"
    if whole.exists() or (named and (folder / "bin" / "python").exists()):
        return folder
    if not shutil.which(PYTHON):
        absent(f"no {PYTHON}")
    shutil.rmtree(folder, ignore_errors=True)
    versions = os.environ | {"PYENV_VERSION": "3.13.0"}  # where pyenv keeps several
    subprocess.run([PYTHON, "-m", "venv", folder], env=versions, check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    if subprocess.run([*pip, *CARRIED], check=False).returncode:
        absent("pip could not bring Colab's packages")
    whole.touch()
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The last commit as the branch main of a repository without tags."""
    folder = tmp_path_factory.mktemp("github") / "book.git"

    def git(*command, at=folder):
        done = ["git", "-C", at, *command]
        return subprocess.check_output(done, text=True).strip()

    last = git("rev-parse", "HEAD", at=ROOT)
    git("clone", "--quiet", "--bare", "--no-tags", ROOT, folder, at=folder.parent)
    git("update-ref", "refs/heads/main", last)
    git("symbolic-ref", "HEAD", "refs/heads/main")
    return folder


@pytest.fixture
def runtime(carried, repository, tmp_path):
    """(python, variables) of a fresh session in the folder tmp_path/content."""
    (tmp_path / "content").mkdir()
    env = tmp_path / "env"
    subprocess.run([carried / "bin" / "python", "-m", "venv", env], check=True)
    (theirs,) = (carried / "lib").glob("python*/site-packages")
    (ours,) = (env / "lib").glob("python*/site-packages")
    (ours / "carried.pth").write_text(f"{theirs}\n", encoding="utf-8")
    redirect = {
        "COUNT": "1", "KEY_0": f"url.file://{repository}.insteadOf", "VALUE_0": ADDRESS
    }  # fmt: skip
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MEDLIB_")}
    variables.pop("PYTHONPATH", None)
    variables |= {f"GIT_CONFIG_{key}": value for key, value in redirect.items()}
    (tmp_path / "home").mkdir()  # where the first cell puts the book
    variables |= {"HOME": str(tmp_path / "home"), "MEDLIB_PROFILE": "quick"}
    return env / "bin" / "python", variables


def brought(python: Path) -> set[str]:
    """The packages that a session installed."""
    found = (python.parents[1] / "lib").glob("python*/site-packages/*.dist-info")
    return {p.name.split("-")[0].replace("_", "-").lower() for p in found}


@pytest.mark.nightly
def test_first_cells_and_imports_of_every_chapter(runtime, tmp_path):
    python, variables = runtime
    folder = tmp_path / "content"
    cells = {source.stem: first_cells(source) for source in sources()}
    (folder / "chapters.json").write_text(json.dumps(cells), encoding="utf-8")
    done = subprocess.run(
        [python, "-c", DRIVER], cwd=folder, env=variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if "No matching distribution" in done.stderr:
        absent("no package index can be reached")
    said = done.stdout + done.stderr
    assert [name for name in cells if f"{name} runs" not in said] == [], said
    new = brought(python)
    names = {line.split("==")[0] for line in CARRIED}
    assert new >= LACKING and not new & names, "what Colab carries stays as it is"


# ---------------------------------------------------------------- whole chapters


def executed(name: str, runtime, folder: Path, before: str):
    """A readers' notebook, run in the simulated session from first cell to last."""
    from nbclient import NotebookClient

    python, variables = runtime
    kernel = folder / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": command, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(about), encoding="utf-8")
    notebook = nbformat.read(colab.folder() / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    client = NotebookClient(
        notebook, timeout=None, kernel_name="colab",
        resources={"metadata": {"path": str(folder / "content")}},
    )  # fmt: skip
    client.execute(env=variables)
    return notebook


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("02_lenet", "Colab"),
        ("02_lenet", "Kaggle"),
        ("11_unet", "Colab"),
        ("19_diagnosis", "Colab"),
    ],
)
def test_a_chapter_from_the_first_cell_to_the_last(
    name, where, runtime, tmp_path, monkeypatch
):
    python, variables = runtime
    images = os.environ.get("MEDLIB_IMAGES")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    with contextlib.ExitStack() as stack:
        if images:
            server = stack.enter_context(serving(Path(images)))
            variables["MEDLIB_UPSTREAM"] = server.address
        else:
            variables["MEDLIB_OFFLINE"] = "1"
        wall, cpu = time.perf_counter(), sum(os.times()[2:4])
        before = AS_COLAB if where == "Colab" else "pass"
        notebook = executed(name, (python, variables), tmp_path, before)
    wall, cpu = time.perf_counter() - wall, sum(os.times()[2:4]) - cpu
    print(f"{name} on {where}: {wall / 60:.1f} minutes, {cpu / 60:.1f} of a processor")
    outputs = [o for cell in code_cells(notebook) for o in cell.outputs]
    shown = json.dumps([o.get("data", {}).get("text/markdown", "") for o in outputs])
    assert not images or ("STAND-IN" not in shown and server.asked)
    assert brought(python) >= LACKING


def test_the_first_cell_is_inert_here(capsys):
    exec(first.chapter(""), {})  # noqa: S102
    assert capsys.readouterr().out == "" and doctor.unmet(doctor.requirements()) == {}

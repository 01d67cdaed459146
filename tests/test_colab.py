"""The first cells of every chapter in a simulated Colab: a fresh environment with the
packages that Colab's image is known to carry, `google.colab` in sys.modules, and the
book's address leading to this repository.
"""

import ast
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from medlib import doctor
from press import first
from press.text import ROOT, code_cells, read, sources

ADDRESS = first.address()
# A cautious part of Colab's list (googlecolab/backend-info, pip-freeze.txt): what it
# has carried for years.
CARRIED = [
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "matplotlib",
    "pandas",
    "scikit-learn",
    "scikit-image",
    "requests",
    "tqdm",
    "pillow",
    "ipython",
    "ipykernel",
]
# Runs the Colab cell, then what the chapter imports, each chapter in a child of one
# process that has torch.
DRIVER = """
import json, os, sys, types
from importlib.machinery import ModuleSpec
import torch
sys.modules["google.colab"] = types.ModuleType("google.colab")
sys.modules["google.colab"].__spec__ = ModuleSpec("google.colab", None)
for name, code in json.load(open("chapters.json")).items():
    if os.fork() == 0:
        try:
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    print(name, "fails" if os.wait()[1] else "runs")
"""


def closure(names: list[str]) -> set[str]:
    """The installed distributions that these need, themselves among them."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        if name not in found:
            found.add(name)
            wanted = [Requirement(text) for text in needs]
            waiting += [
                r.name.lower()
                for r in wanted
                if r.marker is None or r.marker.evaluate({"extra": ""})
            ]
    return found


def first_cells(source: Path) -> str:
    """The Colab cell as it is, and every import that the chapter's other cells make."""
    code = code_cells(read(source))
    imports = [
        ast.unparse(node)
        for cell in code[1:]
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join([code[0].source, *imports])


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> tuple[Path, Path]:
    """(python, the folder of links to the packages that are carried)."""
    home = tmp_path_factory.mktemp("colab")
    carried = home / "carried"
    carried.mkdir()
    for name in closure(CARRIED):
        for top in {
            file.parts[0]
            for file in metadata.files(name) or []
            if file.parts[0] != ".."
        }:
            place = Path(metadata.distribution(name).locate_file(top))
            if top != "__pycache__" and not (carried / top).exists():
                (carried / top).symlink_to(place)
    subprocess.run([sys.executable, "-m", "venv", home / "env"], check=True)
    (packages,) = (home / "env" / "lib").glob("python*/site-packages")
    (packages / "carried.pth").write_text(f"{carried}\n", encoding="utf-8")
    return home / "env" / "bin" / "python", carried


@pytest.fixture(scope="module")
def ran(colab, tmp_path_factory) -> str:
    python, _ = colab
    folder = tmp_path_factory.mktemp("content")
    cells = {source.stem: first_cells(source) for source in sources()}
    (folder / "chapters.json").write_text(json.dumps(cells), encoding="utf-8")
    redirect = {
        "COUNT": "1",
        "KEY_0": f"url.file://{ROOT}.insteadOf",
        "VALUE_0": ADDRESS,
    }
    (folder / "home").mkdir()
    left_out = ("PYTHONPATH", "MEDLIB_OFFLINE")
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    environment["HOME"] = str(folder / "home")
    environment |= {f"GIT_CONFIG_{key}": value for key, value in redirect.items()}
    done = subprocess.run(
        [python, "-c", DRIVER],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in done.stderr and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    return done.stdout + done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("source", sources(), ids=lambda p: p.stem)
def test_first_cells_run_on_colab(ran, source):
    assert f"{source.stem} runs" in ran, ran


@pytest.mark.nightly
def test_torch_and_what_colab_carries_stay(ran, colab):
    python, _ = colab
    new = {
        p.name.lower()
        for p in (python.parents[1] / "lib").glob("python*/site-packages/*.dist-info")
    }
    names = {name.rsplit("-", 1)[0].split("-")[0].replace("_", "-") for name in new}
    assert {"monai", "captum"} <= names and not names & {
        name.lower() for name in CARRIED
    }


def test_all_chapters_have_the_same_first_cell_and_it_is_inert_here(capsys):
    cells = {code_cells(read(source))[0].source for source in sources()}
    assert len(cells) == 1 and ADDRESS in next(iter(cells))
    exec(next(iter(cells)), {})  # noqa: S102
    assert capsys.readouterr().out == "" and doctor.unmet(doctor.requirements()) == {}

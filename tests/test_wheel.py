"""medlib as a reader has it who runs `pip install .`: the wheel alone, in an
environment of its own, in an empty folder."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
READS = {"encoding": "utf-8"}


PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without a network by the backend of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "-w", folder]
    subprocess.run([*PIP, "wheel", *options, ROOT], check=True)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment that holds the wheel, and sees this one's
    packages behind it."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(home)}), "python")
    options = ["--no-deps", "--no-index"]
    subprocess.run([*PIP, "--python", python, "install", *options, wheel], check=True)
    place = Path(sysconfig.get_path("purelib", "venv", {"base": str(home)}))
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (place / "seen.pth").write_text("\n".join(seen), **READS)
    return python


@pytest.fixture
def run(python, tmp_path):
    """Run the interpreter in an empty folder; what it printed, and its status."""

    def run(*arguments: str) -> tuple[str, int]:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"MEDLIB_PROFILE": "smoke", "MEDLIB_OFFLINE": "1"}
        environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        (tmp_path / "empty").mkdir()
        done = subprocess.run(
            [python, *arguments],
            cwd=tmp_path / "empty",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr, done.returncode

    return run


def test_it_holds_medlib_and_its_lists_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        claims = archive.read("medlib/claims.toml")
    files = [p for p in (ROOT / "medlib").rglob("*.*") if p.suffix != ".pyc"]
    sources = {p.relative_to(ROOT).as_posix() for p in files}
    tables = (ROOT / "data" / "checksums").glob("*.csv")
    rest = {name for name in names if ".dist-info/" not in name}
    assert rest == sources | {f"medlib/checksums/{table.name}" for table in tables} | {
        "medlib/datasets.toml",
        "medlib/claims.toml",
        "medlib/pneumoniamnist_keys.csv.gz",
    }
    assert claims == (ROOT / "book" / "claims.toml").read_bytes()


TRAINED = """
from medlib import fit, load
import medlib
from torch import nn

data = load("digits").subset(60)
history = fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, steps=3)
print(medlib.__file__, data.source, len(history.step))
"""


def test_it_loads_and_trains(run, python):
    printed, status = run("-c", TRAINED)
    assert status == 0, printed
    where, source, _ = printed.split()[-3:]
    assert Path(where).is_relative_to(python.parents[1]) and source == "package"


def test_it_knows_the_claims(run):
    printed, status = run(
        "-c", "from medlib import claims; print(claims.claim('C001'))"
    )
    listed = tomllib.loads((ROOT / "book" / "claims.toml").read_text(**READS))["claim"]
    assert status == 0 and printed.strip() == str(listed[0])


def test_its_doctor_finds_everything_and_no_book(run, tmp_path):
    printed, status = run("-m", "medlib", "doctor")
    assert status == 0, printed
    assert "OK   torch" in printed and "OK   monai" in printed
    assert "chapter needs" not in printed and "orecast" not in printed
    assert str(tmp_path / "cache" / "medlib") in printed  # where the hearts would lie


def test_name_version_and_address_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(**READS))["project"]
    book = yaml.safe_load((ROOT / "_config.yml").read_text(**READS))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(**READS))
    assert citation["title"] == book["title"]
    assert citation["version"] == project["version"]
    assert citation["repository-code"] == book["parse"]["myst_substitutions"]["repo"]
    changes = (ROOT / "CHANGELOG.md").read_text(**READS)
    assert f"\n## {project['version']}" in changes

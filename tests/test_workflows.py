"""What GitHub runs: held by actionlint, and each step one command that exists here."""

import re
import shlex
import shutil
import subprocess
import sys
import sysconfig

import pytest
import yaml

from press.text import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_actionlint_finds_no_fault():
    linter = shutil.which("actionlint", path=sysconfig.get_path("scripts"))
    if not linter:
        pytest.skip("actionlint is not installed")
    done = subprocess.run(
        [linter, "-no-color", *FILES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_step_is_one_command_that_a_reader_has_too(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert steps
    for step in steps:
        assert "\n" not in step and re.match(r"python -m (pip|press|medlib) ", step)
        if " pip " not in step:
            command = [sys.executable, *shlex.split(step)[1:4], "--help"]
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_the_oldest_torch_is_the_one_that_pyproject_allows():
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tested = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    for name in ("torch", "torchvision"):
        oldest = re.search(rf'"{name}>=([\d.]+)"', listed)[1]
        assert re.search(rf"\b{name}=={re.escape(oldest)}\.\*", tested), name

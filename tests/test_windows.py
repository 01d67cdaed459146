"""What Windows lacks, taken away: no fork, no fcntl, no resource, and another encoding
where none is named. Readers work there without WSL.
"""

import os
import subprocess
import sys

import pytest

from press.text import ROOT

# Put where every process of a test, a chapter's kernel too, starts by reading it.
LACKING = """
import os, sys, warnings
for name in ("fcntl", "resource", "termios", "grp"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "killpg", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
warnings.filterwarnings("error", category=EncodingWarning, module=r"medlib|press")
"""
MODULES = """
import importlib, pathlib
for path in sorted([*pathlib.Path("medlib").rglob("*.py"), *pathlib.Path("press").glob("*.py")]):
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    # Mutants are tried in forked processes; press.trial refuses with a word.
    if name not in ("medlib.__main__", "press.__main__", "press.trial", "press.survivors"):
        importlib.import_module(name)
"""  # noqa: E501
TRAINING = """
import os, pathlib, tempfile
os.environ["MEDLIB_STORE"] = tempfile.mkdtemp()
from medlib import fit, load
from torch import nn
data = load("digits")
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
history = fit(model, data, steps=4)
assert list(pathlib.Path(os.environ["MEDLIB_STORE"]).iterdir())
assert history.val_loss[-1] > 0
"""
CHAPTER = """
import pathlib, tempfile
from press import run, text
text.FOLDER = pathlib.Path(tempfile.mkdtemp())
source = text.FOLDER / "99_toy.py"
words = '# %% [markdown]\\n# # Été ± σ\\n\\n# %%\\nfrom medlib import load\\nprint(len(load("digits").test.x), "σ")\\n'
source.write_text(words, encoding="utf-8")
made = run.execute(source)
assert "360 σ" in str(made.cells[-1].outputs), made.cells[-1].outputs
assert made.metadata["medlib"]["peak_mb"] > 0
"""  # noqa: E501


@pytest.fixture
def windows(tmp_path):
    """Runs Python as on Windows."""
    (tmp_path / "sitecustomize.py").write_text(LACKING, encoding="utf-8")
    places = [str(tmp_path), str(ROOT)]
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join(places), "PYTHONWARNDEFAULTENCODING": "1",
        "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252", "MEDLIB_PROFILE": "smoke",
    }  # fmt: skip

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=variables, capture_output=True,
            encoding="cp1252", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_something_is_taken_away(windows):
    lacking = "import os, sys; print(hasattr(os, 'fork'), sys.modules['fcntl'])"
    assert windows("-c", lacking).split() == ["False", "None"]


@pytest.mark.parametrize("code", [MODULES, TRAINING, CHAPTER])
def test_medlib_and_the_press_work(windows, code):
    windows("-c", code)


@pytest.mark.parametrize(
    "command",
    [["press", "status"], ["press", "forecast"], ["medlib", "fetch"], ["medlib", "-h"]],
    ids=" ".join,
)
def test_commands_print_what_the_console_cannot(windows, command):
    assert windows("-m", *command)

"""A session on Colab ends in the middle of a chapter; the next one, on a fresh machine,
goes on with the store that lies on a Drive: slow, without links and without locks.
"""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from press.text import ROOT, code_cells

DRIVE = """
import errno, os, signal, sys, time
try:
    import fcntl
except ImportError:
    fcntl = None

def refuse(*args, **kwargs):
    raise OSError(errno.ENOTSUP, "Operation not supported")

writes = []

def slow(source, target, quick=os.replace):
    time.sleep(0.05)
    quick(source, target)
    if str(target).startswith(os.environ["MEDLIB_STORE"]):
        writes.append(target)
    if len(writes) == int(os.environ.get("SESSION_ENDS", 0)):
        os.kill(os.getpid(), signal.SIGKILL)

os.link = os.symlink = refuse
if fcntl:
    fcntl.flock = fcntl.lockf = refuse
os.replace = slow
"""
BEGIN = """
import torch
from torch import nn
from medlib import fit, seed
from medlib.data import Dataset, Split

generator = torch.Generator().manual_seed(0)
y = torch.arange(64) % 2
x = torch.randn(64, 1, 8, 8, generator=generator) + y[:, None, None, None]
toy = Dataset("toy", ["a", "b"], Split(x, y), Split(x, y), Split(x, y), "")
"""
TRAIN = """
seed({seed})
before, net = len(writes), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
history = fit(net, toy, steps=6, batch_size=32, validations=3)
print("writes", len(writes) - before, "weights", net[1].weight.sum().item())
"""
CHAPTER = [DRIVE, BEGIN, *(TRAIN.format(seed=s) for s in (1, 2, 3, 4))]
WRITES = 1 + 3 + 1  # of a training: at its beginning, three validations, its end


def session(folder, **variables) -> list[tuple[int, float]]:
    """Run the chapter in a kernel of its own: what each training that ended printed."""
    cells = [nbformat.v4.new_code_cell(source) for source in CHAPTER]
    notebook = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_name="python3", resources=where)
    given = {"PYTHONPATH": str(ROOT), "MEDLIB_PROFILE": "smoke"} | variables
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            client.execute()
    except DeadKernelError:
        print("the session ended")
    text = "".join(o.text for c in code_cells(notebook) for o in c.outputs)
    found = re.findall(r"writes (\d+) weights (\S+)", text)
    return [(int(writes), float(weights)) for writes, weights in found]


def test_a_chapter_killed_after_its_second_training_goes_on(tmp_path):
    store = tmp_path / "drive" / "My Drive" / "medlib"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    ends = str(2 * WRITES + 2)  # in the third training, after its first validation
    first = session(tmp_path / "first", MEDLIB_STORE=str(store), SESSION_ENDS=ends)
    assert [writes for writes, _ in first] == [WRITES, WRITES]
    second = session(tmp_path / "second", MEDLIB_STORE=str(store))
    assert [weights for _, weights in second[:2]] == [weights for _, weights in first]
    assert [writes for writes, _ in second] == [0, 0, WRITES - 2, WRITES]
    alone = session(tmp_path / "second", MEDLIB_STORE=str(tmp_path / "another"))
    assert alone == [(WRITES, weights) for _, weights in second]

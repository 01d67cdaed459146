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
import errno, os, sys, time
try:
    import fcntl
except ImportError:
    fcntl = None

def refuse(*args, **kwargs):
    raise OSError(errno.ENOTSUP, "Operation not supported")

def slow(source, target, quick=os.replace):
    time.sleep(0.05)
    quick(source, target)

os.link = os.symlink = refuse
if fcntl:
    fcntl.flock = fcntl.lockf = refuse
os.replace = slow
"""
BEGIN = """
import os, signal
import torch
from torch import nn
from torch.nn import functional as F
from medlib import fit, seed
from medlib.data import Dataset, Split

generator = torch.Generator().manual_seed(0)
y = torch.arange(64) % 2
x = torch.randn(64, 1, 8, 8, generator=generator) + y[:, None, None, None]
toy = Dataset("toy", ["a", "b"], Split(x, y), Split(x, y), Split(x, y), "")
calls, fatal = [], os.environ.get("SESSION_ENDS")

def loss(logits, y):
    calls.append(1)
    if fatal and len(calls) == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
    return F.cross_entropy(logits, y)
"""
TRAIN = """
seed({seed})
before, net = len(calls), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
history = fit(net, toy, steps=6, batch_size=32, validations=3, loss=loss)
print("calls", len(calls) - before, "weights", net[1].weight.sum().item())
"""
CHAPTER = [DRIVE, BEGIN, *(TRAIN.format(seed=s) for s in (1, 2, 3, 4))]
CALLS = 6 + 3  # of a training: six steps and three validations


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
    found = re.findall(r"calls (\d+) weights (\S+)", text)
    return [(int(calls), float(weights)) for calls, weights in found]


def test_a_chapter_killed_after_its_second_training_goes_on(tmp_path):
    store = tmp_path / "drive" / "My Drive" / "medlib"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    ends = str(2 * CALLS + 4)  # in the third training, after its first validation
    first = session(tmp_path / "first", MEDLIB_STORE=str(store), SESSION_ENDS=ends)
    assert [calls for calls, _ in first] == [CALLS, CALLS]
    second = session(tmp_path / "second", MEDLIB_STORE=str(store))
    assert [weights for _, weights in second[:2]] == [weights for _, weights in first]
    calls = [calls for calls, _ in second]
    assert calls[:2] == [0, 0] and 0 < calls[2] < CALLS and calls[3] == CALLS
    assert not list(store.glob("*.part")) or len(list(store.glob("*.pt"))) == 4

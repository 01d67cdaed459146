"""`fit` under two processes (gloo, on the processor): the same training as one process
on the same batches.
"""

import os
import subprocess
import sys

import pytest
import torch

# Batches of 45 for two processes, 180 validation images cut to 179: both parts are
# uneven.
SCRIPT = """
import os, sys, torch
from dataclasses import replace
from medlib import fit, load, seed
from medlib.data import Split
from medlib.device import rank_and_world
from torch import nn

data = load("digits", device="cpu").standardise()
data = replace(data, val=Split(data.val.x[:179], data.val.y[:179]))
seed(rank_and_world()[0])  # other weights in each process: the first one's count
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))

def die(optimizer, steps):
    if os.environ.get("RANK") == "1" and len(sys.argv) > 2:
        os.kill(os.getpid(), 9)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)

byhand = sys.argv[1].replace(".pt", ".hand.pt")
h = fit(net, data, epochs=2, batch_size=45, validations=3, store=byhand, schedule=die)
small = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
fit(small, data, epochs=0.2)
rank, world = rank_and_world()
if rank == 0:
    torch.save({"h": vars(h), "w": net.state_dict(), "world": world}, sys.argv[1])
"""


def run(folder, name, processes, *more):
    (folder / "job.py").write_text(SCRIPT, encoding="utf-8")
    one = (
        [sys.executable]
        if processes == 1
        else [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            "--tee=3",
            f"--log-dir={folder / name}.log",
        ]
    )
    environment = os.environ | {
        "MEDLIB_PRECISION": "no",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("TQDM_DISABLE", None)
    environment["MEDLIB_STORE"] = str(folder / f"{name}.kept")
    return subprocess.run(
        [*one, "job.py", str(folder / name), *more],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    logs = [run(folder, f"{n}.pt", n).stderr for n in (1, 2)]
    return folder, logs, [torch.load(folder / f"{n}.pt") for n in (1, 2)]


def test_losses_and_weights_are_those_of_one_process(both):
    _, _, (one, two) = both
    for key in ("train_loss", "val_loss", "score"):
        assert two["h"][key] == pytest.approx(one["h"][key], abs=1e-4)
    torch.testing.assert_close(two["w"], one["w"], atol=1e-4, rtol=1e-3)


def test_two_processes_were_two(both):
    _, _, (one, two) = both
    assert two["world"] == 2 and one["world"] == 1


def test_there_is_one_bar_and_one_checkpoint(both):
    folder, logs, _ = both
    assert (
        "training:" in logs[0]
        and "[default0]:training:" in logs[1]
        and "[default1]:training:" not in logs[1]
    )
    assert sorted(p.name for p in folder.glob("*.hand.pt*")) == [
        "1.hand.pt",
        "2.hand.pt",
    ]


def test_the_store_holds_one_file_a_training_however_many_processes(both):
    folder, _, _ = both
    kept = [len(list((folder / f"{n}.pt.kept").iterdir())) for n in (1, 2)]
    assert kept == [1, 1]


def test_a_killed_worker_ends_the_job_with_its_name(tmp_path):
    done = run(tmp_path, "x.pt", 2, "die")
    assert done.returncode != 0 and not (tmp_path / "x.pt").exists()
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr

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
import sys, torch
from dataclasses import replace
from medlib import fit, load, seed, train
from medlib.data import Split
data = load("digits", device="cpu").standardise()
data = replace(data, val=Split(data.val.x[:179], data.val.y[:179]))
seed(0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
def die(optimizer, steps):
    import os
    if int(os.environ.get("RANK", 0)) == 1 and len(sys.argv) > 2:
        os.kill(os.getpid(), 9)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
h = fit(net, data, epochs=2, batch_size=45, validations=3, checkpoint=sys.argv[1] + ".ckpt", schedule=die)
fit(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), data, epochs=0.2)
if train._accelerator().is_main_process:
    torch.save({"h": vars(h), "w": net.state_dict()}, sys.argv[1])
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
    environment["MEDLIB_RESUME"] = str(folder / f"{name}.kept")
    (folder / f"{name}.kept").mkdir()
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


def test_there_is_one_bar_and_one_checkpoint(both):
    folder, logs, _ = both
    assert (
        "training:" in logs[0]
        and "[default0]:training:" in logs[1]
        and "[default1]:training:" not in logs[1]
    )
    assert sorted(p.name for p in folder.glob("*.ckpt*")) == ["1.pt.ckpt", "2.pt.ckpt"]


def test_only_a_process_that_trains_alone_keeps_trainings_by_itself(both):
    folder, _, _ = both
    assert [[p.name for p in (folder / f"{n}.pt.kept").iterdir()] for n in (1, 2)] == [
        ["0000.pt"],
        [],
    ]


def test_a_killed_worker_ends_the_job_with_its_name(tmp_path):
    done = run(tmp_path, "x.pt", 2, "die")
    assert done.returncode != 0 and not (tmp_path / "x.pt").exists()
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr

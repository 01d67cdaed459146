"""The store: what is found again, what is not, and what a crash leaves."""

import functools
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import blobs, net, weights
from torch import nn
from torch.nn import functional as F

from medlib import augment, checkpoint, data, fit, losses, notes, seed, train
from medlib.checkpoint import OtherTraining, make_room, measured_once

CALLS = []


def counted(logits, y):
    CALLS.append(1)
    return F.cross_entropy(logits, y)


def trained(store, model=None, images=None, **more):
    """(history, weights) of a short training, and how many steps it took."""
    CALLS.clear()
    model = model or net()
    given = {"steps": 6, "batch_size": 32, "validations": 3, "loss": counted} | more
    history = fit(model, images or blobs(), store=store, **given)
    return history, weights(model), len(CALLS)


def test_a_finished_training_is_found_and_not_done_again(tmp_path):
    history, found, steps = trained(tmp_path)
    again, same, none = trained(tmp_path)
    assert steps == 6 + 3 and none == 0  # six steps and three validations; nothing
    assert torch.equal(found, same) and history == again  # its times too
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_from_the_store_equals_the_first_cell_by_cell(tmp_path, monkeypatch):
    """A chapter: two trainings, and things drawn before, between and after them."""

    def chapter():
        seed(1)
        shown, first = [torch.rand(1).item()], net()
        shown.append(fit(first, blobs(), steps=4, batch_size=32).score)
        shown += [random.random(), np.random.rand(), torch.rand(1).item()]
        second = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
        shown.append(fit(second, blobs(), steps=4, batch_size=32).train_loss)
        return [*shown, torch.rand(1).item(), weights(second).tolist()]

    alone = chapter()
    monkeypatch.setenv("MEDLIB_STORE", str(tmp_path))
    assert chapter() == chapter() == alone and len(list(tmp_path.iterdir())) == 2


def test_the_old_name_of_the_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLIB_RESUME", str(tmp_path / "old"))
    trained(None)
    monkeypatch.setenv("MEDLIB_STORE", str(tmp_path / "new"))
    trained(None)
    assert [len(list((tmp_path / n).iterdir())) for n in ("old", "new")] == [1, 1]


def wider():
    seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 2))


def other_dropout():
    model = net()
    model[3].p = 0.3  # the same weights, another network
    return model


def other_images():
    first = blobs()
    x = first.train.x.clone()
    x[0, 0, 0, 0] += 1
    return data.Dataset(
        "blobs", first.classes, data.Split(x, first.train.y), first.val, first.test, ""
    )


@pytest.mark.parametrize(
    "change",
    [
        {"loss": F.cross_entropy},
        {"loss": functools.partial(F.cross_entropy, label_smoothing=0.1)},
        {"score": train.accuracy},
        {"augment": augment.random_shift(1)},
        {"augment": augment.random_shift(2)},
        {"optimizer": torch.optim.SGD},
        {"schedule": lambda o, s: torch.optim.lr_scheduler.ConstantLR(o)},
        {"steps": 7},
        {"batch_size": 16},
        {"validations": 2},
        {"lr": 0.01},
        {"seed": 1},
        {"keep": "last"},
        {"target": 2.0},
        {"model": net(1)},
        {"model": wider()},
        {"model": other_dropout()},
        {"images": other_images()},
        {"images": blobs(seed=1)},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_experiment_is_another_training(change, tmp_path):
    trained(tmp_path)
    trained(tmp_path, **change)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_precision_is_another_training(tmp_path, monkeypatch):
    for precision in ("no", "bf16"):
        monkeypatch.setenv("MEDLIB_PRECISION", precision)
        trained(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


class Stop(Exception):
    pass


def broken_off(at):
    """A score that fails at its `at`-th call."""
    seen = []

    def score(logits, target):
        seen.append(1)
        if len(seen) == at:
            raise Stop
        return train.auc(logits, target)

    return score


@pytest.mark.parametrize("at", [2, 3])
def test_a_run_cut_short_goes_on_to_the_same_weights(at, tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole")
    file = tmp_path / "one.pt"
    # The score that fails is another one, so its training is another one too.
    monkeypatch.setattr(checkpoint, "digest", lambda content: "one key")
    with pytest.raises(Stop):
        trained(file, score=broken_off(at))
    history, found, steps = trained(file, model=net(99))
    assert torch.equal(whole[1], found) and history.score == whole[0].score
    assert history.train_loss == whole[0].train_loss
    assert steps == (6, 3)[at - 2]  # what was validated is not done again


def test_a_file_named_by_hand_holds_one_training(tmp_path):
    trained(tmp_path / "one.pt")
    assert trained(tmp_path / "one.pt")[2] == 0
    model = net(5)
    before = weights(model)
    with pytest.raises(OtherTraining, match="another training.*delete it or name"):
        trained(tmp_path / "one.pt", model=model)
    assert torch.equal(before, weights(model))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "one.pt").write_bytes(b"not a training")
    with pytest.raises(ValueError, match="one.pt cannot be read.*delete it"):
        trained(tmp_path / "one.pt")


KILLED = """
import os, sys, time
sys.path[:0] = {path!r}
from test_train import blobs, net
from medlib import fit
import torch
def slow(x, generator):
    time.sleep(0.02)
    return x
fit(net(), blobs(), steps=60, batch_size=32, validations=20, augment=slow,
    store=sys.argv[1])
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    """Killed twice in mid-training, the third run goes on from what it finds."""
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script, store = tmp_path / "job.py", tmp_path / "store"
    script.write_text(KILLED.format(path=path), encoding="utf-8")
    steps = [0]
    for kill in (True, True, False):
        job = subprocess.Popen([sys.executable, str(script), str(store)])
        before = steps[-1]
        while kill and job.poll() is None and steps[-1] <= before:
            time.sleep(0.05)
            for file in store.glob("*.pt"):
                steps.append(max([0, *torch.load(file)["history"]["step"]]))
        if kill:
            job.kill()
        job.wait(120)
    (file,) = store.glob("*.pt")
    saved = torch.load(file)
    assert 0 < steps[-1] < 60  # it was killed on its way
    assert saved["finished"] and saved["history"]["step"] == list(range(3, 61, 3))


def test_the_store_keeps_within_its_limit_and_what_was_used_last(tmp_path, monkeypatch):
    names = [letter * 32 + ".pt" for letter in "abcd"]
    for age, name in enumerate([*names, "photos.zip", "e" * 32 + ".pt.7.part"]):
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    monkeypatch.setenv("MEDLIB_STORE_GB", "2.5e-6")
    make_room(tmp_path)  # the reader's own file stays, whatever its age
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [*names[:2], "photos.zip"]


def test_what_a_killed_process_left_goes_after_a_day(tmp_path):
    old, new = (tmp_path / f"{letter * 32}.pt.7.part" for letter in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    make_room(tmp_path)
    assert new.exists() and not old.exists()


def test_a_limit_that_is_no_number_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLIB_STORE_GB", "ten")
    with pytest.raises(ValueError, match="MEDLIB_STORE_GB='ten'; expected a number"):
        trained(tmp_path)


def test_the_limit_never_takes_the_training_that_is_asked_for(tmp_path, monkeypatch):
    trained(tmp_path)
    (file,) = tmp_path.iterdir()
    os.utime(file, (1, 1))
    (tmp_path / ("a" * 32 + ".pt")).write_bytes(bytes(10**5))  # younger, and too large
    monkeypatch.setenv("MEDLIB_STORE_GB", "1e-4")
    assert trained(tmp_path)[2] == 0


def test_a_store_that_cannot_be_written_says_so_at_once(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("no folder")
    with pytest.raises(OSError, match="cannot be written.*MEDLIB_STORE"):
        trained(file)
    assert len(CALLS) == 0

    def full(facts, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="cannot be written.*room on its disk"):
        trained(tmp_path / "full")
    assert len(CALLS) == 0 and not list((tmp_path / "full").iterdir())


def test_a_store_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    def refuse(*given, **more):
        raise PermissionError("read-only")

    first = trained(tmp_path)
    for name in ("utime", "replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    again = trained(tmp_path)
    assert again[2] == 0 and torch.equal(first[1], again[1])


def test_weights_of_another_program_are_not_overwritten(tmp_path):
    torch.save(net().state_dict(), tmp_path / "mine.pt")
    with pytest.raises(ValueError, match="mine.pt cannot be read.*name another"):
        trained(tmp_path / "mine.pt")


def test_a_score_of_numpy_is_found_again(tmp_path):
    """torch refuses to load NumPy's numbers without pickle."""

    def score(logits, y):
        return np.float64(0.5)

    first, again = (trained(tmp_path, score=score)[0] for _ in range(2))
    assert first == again and {type(s) for s in again.score} == {float}


def test_a_rate_of_numpy_is_resumed(tmp_path, monkeypatch):
    def cosine(optimizer, steps):
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 + 0.5 * np.cos(np.pi * step / steps)
        )

    whole = trained(None, schedule=cosine)
    monkeypatch.setattr(checkpoint, "digest", lambda content: "one key")
    with pytest.raises(Stop):
        trained(tmp_path / "one.pt", schedule=cosine, score=broken_off(2))
    assert torch.equal(whole[1], trained(tmp_path / "one.pt", schedule=cosine)[1])


def test_augmentation_from_the_global_generators_is_resumed_too(tmp_path, monkeypatch):
    def noise(x, generator):  # as torchvision's transforms draw
        return x + torch.randn_like(x) + random.random()

    whole = trained(None, augment=noise)
    monkeypatch.setattr(checkpoint, "digest", lambda content: "one key")
    with pytest.raises(Stop):
        trained(tmp_path / "one.pt", augment=noise, score=broken_off(2))
    torch.manual_seed(99)
    random.seed(99)
    assert torch.equal(whole[1], trained(tmp_path / "one.pt", augment=noise)[1])


def test_a_training_that_is_used_is_younger_than_one_that_is_not(tmp_path):
    trained(tmp_path)
    (file,) = tmp_path.iterdir()
    os.utime(file, (1, 1))
    trained(tmp_path)
    assert file.stat().st_mtime > 1e9


def test_what_a_clock_said_is_kept(tmp_path):
    def measure():
        return {"steps": [time.perf_counter(), math.pi]}

    assert measured_once(lambda: {1: (2,)}) == {"1": [2]}  # as JSON, stored or not
    first = measured_once(measure, tmp_path)
    assert measured_once(measure, tmp_path) == first != measured_once(measure)
    assert json.loads(next(tmp_path.glob("*.json")).read_text()) == first


def test_the_note_says_whether_a_training_was_found(tmp_path):
    heard = []
    with notes.listening(lambda event, facts: heard.append(facts)):
        trained(tmp_path)
        trained(tmp_path)
    assert [n["kept"] for n in heard] == [False, True]
    assert heard[0]["cpu_seconds"] == heard[1]["cpu_seconds"] > 0


def test_a_loss_of_the_book_is_found_again(tmp_path):
    """dice_ce reaches soft_dice and torch; masks move with their images."""
    x = torch.randn(12, 1, 16, 16)
    split = data.Split(x, (x[:, 0] > 0).long())
    hearts = data.Dataset("toy", ("no", "yes"), split, split, split, "simulated")
    given = {"loss": losses.dice_ce, "score": losses.mean_dice, "steps": 2}
    for _ in range(2):
        torch.manual_seed(0)
        fit(
            nn.Conv2d(1, 2, 3, padding=1),
            hearts,
            augment=augment.random_affine(),
            store=tmp_path,
            **given,
        )
    assert len(list(tmp_path.iterdir())) == 1


def test_another_loop_is_another_training(tmp_path, monkeypatch):
    """So that a mended `fit`, or a mended step, is never answered from before."""

    def step(model, x, y, loss, optimizer):
        return train.train_step(model, x, y, loss, optimizer)

    trained(tmp_path)
    monkeypatch.setattr(train, "PARTS", [step, *train.PARTS[1:]])
    trained(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_training_can_do_without_the_store(tmp_path, monkeypatch):
    """One whose score collects what it sees has to be done each time."""
    monkeypatch.setenv("MEDLIB_STORE", str(tmp_path))
    assert trained(False)[2] == trained(False)[2] == 9
    assert list(tmp_path.iterdir()) == []

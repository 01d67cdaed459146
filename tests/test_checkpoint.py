"""The store: what is found again, what is not, and what a crash leaves."""

import functools
import json
import math
import os
import random
import struct
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


def halves():
    """The same images of all classes, with two labels the other way round."""
    first = blobs()
    y = first.val.y.clone()
    y[:2] = 1 - y[:2]
    val = first.val._replace(y=y)
    return data.Dataset("blobs", first.classes, first.train, val, first.test, "")


def with_buffer():
    model = net()
    model.register_buffer("shift", torch.ones(1))
    return model


def frozen():
    model = net()
    model[0].requires_grad_(False)
    return model


def double(split):
    return split._replace(x=split.x.double())


SIZES = {"pixels": 1}


def shifted_by(pixels):
    sizes = {"pixels": pixels}

    def shift(x, generator):
        return augment.random_shift(sizes["pixels"])(x, generator)

    return shift


def by_global(x, generator):
    return augment.random_shift(SIZES["pixels"])(x, generator)


def test_a_constant_that_changed_makes_another_training(tmp_path, monkeypatch):
    for pixels in (1, 2):
        monkeypatch.setitem(SIZES, "pixels", pixels)
        trained(tmp_path, augment=by_global)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_mode_of_a_model_makes_no_other_training(tmp_path):
    trained(tmp_path, model=net().eval())
    assert trained(tmp_path, model=net().train())[2] == 0


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
        {"images": halves()},
        {"model": with_buffer()},
        {"model": frozen()},
        {"model": net().double(), "images": blobs().map(double)},
        {"score": functools.partial(train.auc, weight=None)},
        {"augment": shifted_by(1)},
        {"augment": shifted_by(2)},
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


def steep(logits, y):
    """Its gradients overflow in fp16 until its scale has fallen: above 65,504."""
    CALLS.append(1)
    return 4 * F.cross_entropy(logits, y)


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


def test_a_training_in_fp16_goes_on_with_its_scale(tmp_path, monkeypatch):
    """A resumed training that began again at 65,536 would skip steps twice."""
    monkeypatch.setenv("MEDLIB_PRECISION", "fp16")
    monkeypatch.setattr(checkpoint, "digest", lambda content: "one key")
    whole = trained(None, loss=steep)
    with pytest.raises(Stop):
        trained(tmp_path / "one.pt", loss=steep, score=broken_off(2))
    saved = torch.load(tmp_path / "one.pt")
    skipped = math.log2(65536 / saved["scaler"]["scale"])
    assert 0 < skipped < 2  # of the two steps before the validation
    assert saved["schedule"]["last_epoch"] == 2 - skipped
    history, found, _ = trained(tmp_path / "one.pt", model=net(99), loss=steep)
    assert torch.equal(whole[1], found) and history.train_loss == whole[0].train_loss


def test_a_file_named_by_hand_holds_one_training(tmp_path):
    trained(tmp_path / "one.pt")
    assert trained(tmp_path / "one.pt")[2] == 0
    model = net(5)
    before = weights(model)
    with pytest.raises(OtherTraining, match="another training.*delete it or name"):
        trained(tmp_path / "one.pt", model=model)
    assert torch.equal(before, weights(model))


def flipped(whole):
    """One byte of the weights is another; torch would not notice."""
    place = whole.index(struct.pack("<f", 0.3125))
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"not a training",
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        flipped,
    ],
    ids=["foreign", "empty", "half", "cut", "flipped"],
)
def test_a_damaged_file_is_named(damage, tmp_path):
    model, file = net(), tmp_path / "one.pt"
    model.register_buffer("mark", torch.tensor([0.3125]))
    trained(file, model=model)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="one.pt cannot be read.*delete it"):
        trained(file, model=model)


@pytest.mark.parametrize("part", ["key", "history", "best", "finished", "model"])
def test_a_file_that_lacks_a_part_is_named(part, tmp_path):
    trained(tmp_path / "one.pt")
    saved = torch.load(tmp_path / "one.pt")
    del saved[part]
    torch.save(saved, tmp_path / "one.pt")
    with pytest.raises(ValueError, match="one.pt cannot be read.*delete it"):
        trained(tmp_path / "one.pt")


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved["history"].update(foreign=1),
        lambda saved: saved["model"].pop("0.weight"),
        lambda saved: saved.update(finished=False),  # and no optimizer to go on with
    ],
)
def test_a_file_whose_parts_do_not_fit_is_named(change, tmp_path):
    trained(tmp_path / "one.pt")
    saved = torch.load(tmp_path / "one.pt")
    change(saved)
    torch.save(saved, tmp_path / "one.pt")
    with pytest.raises(ValueError, match="one.pt cannot be read.*delete it"):
        trained(tmp_path / "one.pt")


def test_a_folder_with_the_name_of_a_file_is_named(tmp_path):
    (tmp_path / "one.pt").mkdir()
    with pytest.raises(ValueError, match="one.pt cannot be read.*name another"):
        trained(tmp_path / "one.pt")
    with pytest.raises(TypeError, match="store=5; expected a folder"):
        trained(5)


def test_folders_on_the_way_to_a_file_are_made(tmp_path):
    trained(tmp_path / "a" / "b" / "one.pt")
    assert trained(str(tmp_path / "a" / "b" / "one.pt"))[2] == 0


def test_a_training_of_a_gpu_goes_on_without_one(tmp_path, monkeypatch):
    whole = trained(None)
    monkeypatch.setattr(checkpoint, "digest", lambda content: "one key")
    with pytest.raises(Stop), monkeypatch.context() as gpu:
        gpu.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        trained(tmp_path / "one.pt", score=broken_off(2))
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "one.pt")
    assert torch.equal(whole[1], trained(tmp_path / "one.pt")[1])


def test_the_times_of_a_training_go_on_where_they_were_broken_off(monkeypatch):
    clock = iter([100.0, 107.0, 500.0, 504.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: 10.0)
    history = checkpoint.History()
    history.record(3, 1.0, 2.0, 0.5, history.started())
    history.record(6, 0.9, 1.9, 0.6, history.started())
    assert (history.seconds, history.cpu) == ([7.0, 11.0], [0.0, 0.0])
    assert (history.step, history.train_loss) == ([3, 6], [1.0, 0.9])
    assert (history.val_loss, history.score) == ([2.0, 1.9], [0.5, 0.6])


def test_the_best_weights_are_a_copy_of_the_moment():
    model = nn.Linear(1, 1)
    saved = checkpoint.Checkpoint(None, "", {"model": model})
    assert saved.step == 0
    kept = []
    for k, score in enumerate([0.3, 0.9, math.nan, 0.9, 0.1]):
        nn.init.constant_(model.weight, float(k))
        saved.history.record(k + 1, 0.0, 0.0, score, (0.0, 0.0))
        saved.update()
        kept.append(saved.best["weight"].item())
    assert kept == [0, 1, 1, 1, 1] and saved.step == 5
    saved.finish("best", 0)
    assert model.weight.item() == 1 and saved.finished and saved.best is None


def test_by_default_the_store_holds_ten_gigabytes(tmp_path, monkeypatch):
    monkeypatch.delenv("MEDLIB_STORE_GB", raising=False)
    assert checkpoint._limit() == 10e9
    monkeypatch.setenv("MEDLIB_STORE_GB", "0")
    assert checkpoint._limit() == 0


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
    now = time.time()
    for path, hours in ((old, 24.005), (new, 23.995)):
        os.utime(path, 2 * (now - 3600 * hours,))
    make_room(tmp_path)
    assert new.exists() and not old.exists()


def test_a_limit_that_is_no_number_is_named(tmp_path, monkeypatch):
    for value in ("ten", "nan", "-1"):
        monkeypatch.setenv("MEDLIB_STORE_GB", value)
        with pytest.raises(ValueError, match=f"STORE_GB='{value}'; expected a number"):
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
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text()) == first
    file.write_text("{")
    with pytest.raises(ValueError, match="json cannot be read; expected.*delete it"):
        measured_once(measure, tmp_path)


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

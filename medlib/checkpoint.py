"""What a training leaves behind: its history, and a store where it is found again.

A training is known by its content (medlib.content): the code and the arguments of
everything that it reaches (network, loss, score, augmentation, schedule), the first
weights, the data, the plan, the seed and the arithmetic. Change one of them, and it is
another training under another key; change none, and it is not done twice.
"""

import contextlib
import json
import math
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from medlib.content import digest
from medlib.device import precision, profile, rank_and_world
from medlib.notes import note

# What the store itself names: by a key, and half written as one process does it.
OURS = re.compile(r"[0-9a-f]{32}(-\d+)?\.(pt|json)(\.\d+\.part)?")
DAY = 24 * 3600.0
LIMIT = 10.0  # GB that a store may hold; MEDLIB_STORE_GB names another number


class OtherTraining(ValueError):
    """A file named by hand holds another training than the one that asks for it."""


@dataclass
class History:
    """What `fit` saw. All lists have one entry a validation; `seconds` are wall time,
    `cpu` those of the processor, both from the first step on."""

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    reached_target: bool = False

    def started(self) -> tuple[float, float]:
        """When the training would have begun if it had never been broken off: on the
        wall's clock and on the processor's."""
        wall, cpu = (times[-1] if times else 0.0 for times in (self.seconds, self.cpu))
        return time.perf_counter() - wall, time.process_time() - cpu

    def record(self, step, train_loss, val_loss, score, started) -> None:
        """Add a validation after `step` steps."""
        self.step.append(step)
        self.train_loss.append(train_loss)
        self.val_loss.append(val_loss)
        self.score.append(score)
        self.seconds.append(time.perf_counter() - started[0])
        self.cpu.append(time.process_time() - started[1])

    @property
    def best(self) -> int:
        """Index of the first validation with the highest score. NaN is never the best;
        where all are NaN, it is the last. Raises ValueError before the first."""
        if not self.score:
            raise ValueError("no validation yet; expected one at least")
        known = [i for i, score in enumerate(self.score) if not math.isnan(score)]
        return max(known or [len(self.score) - 1], key=self.score.__getitem__)


# ---------------------------------------------------------------- one training on disk


class Checkpoint:
    """Everything that a training needs to go on, and its best weights so far.

    `parts` are the model, the optimizer, the schedule and the scaler of fp16. Where
    `path` holds a file of the same `key`, they and the history are as it says; None
    keeps nothing on disk.
    """

    def __init__(self, path: Path | None, key: str, parts: dict):
        self.path, self.key, self.parts = path, key, parts
        self.history, self.best, self.finished = History(), None, False
        saved = _read(path) if path else None
        if not path or not saved:
            return
        if saved["key"] != key:
            raise OtherTraining(
                f"{path} holds another training: its code, network, data or settings "
                "differ from this one's; delete it or name another file"
            )
        self.finished, self.best = saved["finished"], saved["best"]
        try:
            self.history = History(**saved["history"])
            for name, part in parts.items():
                if name == "model" or not self.finished:
                    part.load_state_dict(saved[name])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(path) from error
        with contextlib.suppress(OSError):  # a store that may only be read
            os.utime(path)  # used now: the last to be thrown away

    @property
    def step(self) -> int:
        """The number of steps that are done."""
        return self.history.step[-1] if self.history.step else 0

    def update(self) -> None:
        """After a validation: keep the weights if they are the best, write the file."""
        if self.history.best == len(self.history.score) - 1:
            state = self.parts["model"].state_dict()
            self.best = {name: t.detach().clone() for name, t in state.items()}
        self.write(self.parts)

    def finish(self, keep: str, seed: int) -> History:
        """At the end: leave the model with the best or the last weights."""
        model, found = self.parts["model"], self.finished
        if not found:
            if keep == "best":
                model.load_state_dict(self.best)
            self.finished, self.best = True, None
            self.write({"model": model})  # needs no optimizer any more
        size, spent = sum(p.numel() for p in model.parameters()), self.history.cpu[-1]
        note("trained", parameters=size, seed=seed, cpu_seconds=spent, kept=found)
        return self.history

    def write(self, parts: dict) -> None:
        if not self.path or rank_and_world()[0] > 0:
            return
        facts = {"key": self.key, "finished": self.finished, "best": self.best}
        facts |= {"history": asdict(self.history)}
        facts |= {name: _plain(part.state_dict()) for name, part in parts.items()}
        with _replaced(self.path) as partial:
            torch.save(facts, partial)


def _plain(state):
    """Settings with NumPy's numbers as Python's: torch loads no others safely."""
    if isinstance(state, np.generic):
        return state.item()
    if type(state) is dict:
        return {name: _plain(value) for name, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map(_plain, state))
    return state


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A file to write that then takes the place of `path`, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
        raise OSError(
            f"{path} cannot be written ({error}); expected a folder to write to, with "
            "room on its disk: name another in MEDLIB_STORE, or unset it to train "
            "without a store"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _read(path: Path) -> dict | None:
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None  # torch compares no checksums
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if whole and {"key", "finished", "history", "best", "model"} <= saved.keys():
            return saved
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # which one is up to what lies there
        raise _unreadable(path) from error
    raise _unreadable(path)


def _unreadable(path: Path) -> ValueError:
    return ValueError(
        f"{path} cannot be read; expected a training that fit kept: delete it, and it "
        "is done again, or name another file"
    )


# ---------------------------------------------------------------- the store


def find(
    store: str | Path | Literal[False] | None,
    content: list,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
) -> Checkpoint:
    """The checkpoint of the training of `model` that `content`, all else that decides
    how it comes out, describes.

    store   a folder, where the training is found by its content; a file named ….pt, for
            this training alone; by default the folder in MEDLIB_STORE (in its old name
            MEDLIB_RESUME), and without one, or with False, nothing is kept
    """
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    parts["scaler"] = scaler
    place = _folder(store)
    if not place:
        return Checkpoint(None, "", parts)
    key = digest([model, content])
    by_hand = place.suffix == ".pt"
    if not by_hand:  # batch norm sees a process's own images, so their number counts
        world = rank_and_world()[1]
        place = place / (f"{key}.pt" if world == 1 else f"{key}-{world}.pt")
    saved = Checkpoint(place, key, parts)
    if not saved.step:
        saved.write(parts)  # a full disk shows now, and not after the first hours
    if not by_hand:
        make_room(place.parent)
    return saved


def _folder(store: str | Path | Literal[False] | None) -> Path | None:
    if store is False:
        return None
    if not isinstance(store, str | Path | None):
        raise TypeError(f"store={store!r}; expected a folder, a file ….pt, or False")
    named = os.environ.get("MEDLIB_STORE") or os.environ.get("MEDLIB_RESUME")
    chosen = store or named
    return Path(chosen).expanduser() if chosen else None


def measured_once(measure: Callable[[], object], store: str | Path | None = None):
    """What `measure()` returned the first time, as JSON knows it: for numbers taken
    from a clock that decide what comes after, such as the steps that a second pays for.
    Kept in the store, by the code of all that `measure` reaches; measured anew without
    one.
    """
    place = _folder(store)
    if not place:
        return json.loads(json.dumps(measure()))
    path = place / f"{digest([measure, profile(), precision()])}.json"
    if not path.exists():
        text = json.dumps(measure())
        with _replaced(path) as partial:
            partial.write_text(text, encoding="utf-8")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(
            f"{path} cannot be read; expected what a clock said: delete it, and it is "
            "measured again"
        ) from None


def make_room(folder: Path) -> None:
    """Throw away what was not used for longest, until the store is within its limit,
    and what killed processes left half written. Files of others in `folder` stay."""
    limit = _limit()
    files = []
    for path in folder.glob("*"):
        if not OURS.fullmatch(path.name):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in files)
    for used, size, path in sorted(files):
        abandoned = path.suffix == ".part" and used < time.time() - DAY
        if total > limit or abandoned:
            with contextlib.suppress(OSError):  # a store that may only be read
                path.unlink(missing_ok=True)
                total -= size


def _limit() -> float:
    """In bytes."""
    named = os.environ.get("MEDLIB_STORE_GB") or LIMIT
    try:
        limit = float(named) * 1e9
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise ValueError(f"MEDLIB_STORE_GB={named!r}; expected a number, 0 or more")
    return limit

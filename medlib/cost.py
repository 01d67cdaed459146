"""What a network costs: parameters, multiply-adds, measured time, and the time that
its trainings would take on another device (`counting`).
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from medlib import device, train
from medlib.checkpoint import History
from medlib.data import Dataset
from medlib.notes import note
from medlib.train import Plan, train_step


def parameters(model: nn.Module) -> int:
    """How many numbers `model` can learn, those that are frozen for now among them."""
    return sum(p.numel() for p in model.parameters())


def parameters_and_macs(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> tuple[int, int]:
    """(parameters, multiply-adds) of `build()` on one input of `shape` (C, H, W) or
    (C, D, H, W).

    Counted on the meta device, which holds shapes without numbers: nothing is computed,
    and any size fits. Multiply-adds are those of convolutions and matrix products, as
    papers count them.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with (
        torch.device("meta"),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        model = build().eval()
        model(torch.empty(1, *shape))
    return parameters(model), counter.get_total_flops() // 2


def activation_bytes(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
    """Bytes of the activations that one training step of `build()` keeps for the
    backward pass, in fp32, for one input of `shape` (C, H, W) or (C, D, H, W): what
    fills the memory, besides the weights. Counted on the meta device.
    """
    with torch.device("meta"):
        model, x = build(), torch.empty(1, *shape)
        own = {p.untyped_storage()._cdata for p in model.parameters()}
        # By their numbers; held here, so that none is freed and its number used again.
        storages: dict[int, torch.UntypedStorage] = {}

        def remember(t: torch.Tensor) -> torch.Tensor:
            storages[t.untyped_storage()._cdata] = t.untyped_storage()
            return t

        with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
            model(x)
    return sum(
        storage.nbytes() for number, storage in storages.items() if number not in own
    )


def time_in_turn(
    actions: dict[str, Callable[[], object]], repeats: int = 10
) -> dict[str, np.ndarray]:
    """Milliseconds of each action, (repeats,), timed in turn, so that a busy moment
    hits all of them.

    On a CPU the clock is the processor time of this process, which a neighbour's work
    does not enter; on a GPU, wall time with the queue emptied before and after.
    """
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    times: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(repeats + 1):
        for name, action in actions.items():
            if on_gpu:
                torch.cuda.synchronize()
            started = clock()
            action()
            if on_gpu:
                torch.cuda.synchronize()
            if round_:  # the first round warms up
                times[name].append(1000 * (clock() - started))
    return {name: np.array(t) for name, t in times.items()}


def forward(model: nn.Module, shape: tuple[int, ...]) -> Callable[[], None]:
    """An action for `time_in_turn`: one prediction on a batch of `shape` (B, C, H, W),
    in fp32.
    """
    model = model.to(device.device()).eval()
    x = torch.zeros(shape, device=device.device())

    def action() -> None:
        with torch.no_grad():
            model(x)

    return action


def training_step(model: nn.Module, shape: tuple[int, ...]) -> Callable[[], None]:
    """An action for `time_in_turn`: forward, backward and an SGD step on a batch of
    `shape` (B, C, H, W), as `fit` does them.
    """
    model = device.place(model, shape).train()
    x = torch.randn(shape, device=device.device())
    with torch.no_grad():
        logits = model(x)  # (B, classes), or (B, classes, H, W) with masks
    y = torch.zeros_like(logits[:, 0], dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def action() -> None:
        with device.exact(model):
            train_step(model, x, y, F.cross_entropy, optimizer)

    return action


# ---------------------------------------------------------------- counting trainings


class Work(NamedTuple):
    """What a device is asked to do."""

    launches: float  # operations that compute: views and allocations cost nothing
    macs: float  # multiply-adds of convolutions and matrix products
    bytes: float  # that the operations read and write

    def times(self, share: float) -> "Work":
        """The same operations on `share` times as many images."""
        return Work(self.launches, self.macs * share, self.bytes * share)


class Device(NamedTuple):
    """What a device does in a second. A step is bound by the launches of its
    operations, by arithmetic, or by memory, whichever takes longest.
    """

    launch: float  # seconds from one operation to the next
    step: float  # seconds that Python, the batch and the optimizer add to a step
    macs: float  # multiply-adds a second in fp32
    fp16: float  # how much faster they are in fp16
    bytes: float  # a second

    def seconds(self, work: Work, fp16: bool = False) -> float:
        speed = self.macs * (self.fp16 if fp16 else 1)
        launches = work.launches * self.launch + self.step
        return max(launches, work.macs / speed, work.bytes / self.bytes)


# A T4 of Colab, from what others measured there: 14 to 30 microseconds an operation and
# 3 to 4 ms a step; 2.5 to 4.3 TFLOP/s in fp32 of the 8.1 that its data sheet names, and
# two to three times that in fp16 where convolutions are large; 240 GB/s of 320. The
# middle of each. Trust what comes out to a factor of 1.5.
T4 = Device(launch=22e-6, step=3.5e-3, macs=3.3e12 / 2, fp16=2.5, bytes=240e9)

PIXELS = 2**19  # of a batch or of images to predict; what is larger is counted in part
SLOW = 5  # CPU-seconds of a step that needs no warming up


class Training(NamedTuple):
    """A training that `fit` was asked for, counted and not done."""

    shape: tuple[int, ...]  # of a batch
    steps: int
    validations: int
    seed: int
    parameters: int
    step: Work
    validation: Work
    step_seconds: float  # of this machine's processor
    validation_seconds: float

    @property
    def cpu_seconds(self) -> float:
        """Of the whole training, on this machine's processor."""
        return (
            self.steps * self.step_seconds + self.validations * self.validation_seconds
        )

    def seconds(self, on: Device) -> float:
        """Of the whole training on a GPU without bf16, as `fit` does it there."""
        fp16 = device.wants_fp16(self.shape)
        return self.steps * on.seconds(self.step, fp16) + self.validations * on.seconds(
            self.validation, fp16
        )


@dataclass
class Counts:
    """What `counting` saw. `inside` are the CPU-seconds that the counting itself took:
    those that are left of a run are of what is no network.
    """

    gpu: bool = False  # whether what only a GPU has the time for is counted too
    trainings: list[Training] = field(default_factory=list)
    predictions: list[Work] = field(default_factory=list)  # one a call of `predict`
    predicting: float = 0.0  # their CPU-seconds on this machine
    known: dict = field(default_factory=dict)  # what was counted before
    inside: float = 0.0

    def gpu_seconds(self, on: Device) -> float:
        """Of all networks on a GPU."""
        made = sum(one.seconds(on) for one in self.trainings)
        return made + sum(map(on.seconds, self.predictions))

    @property
    def cpu_seconds(self) -> float:
        """Of all networks on this machine's processor."""
        return self.predicting + sum(one.cpu_seconds for one in self.trainings)

    def fit(self, model, data: Dataset, plan: Plan, settings: dict) -> History:
        """Stands in for `fit`: takes three steps, the first to warm up, the second
        timed, the third counted, forgets them, and validates once. What large images
        cost is counted on fewer of them, and trainings that differ in seed or rate
        alone are counted once.
        """
        with self._alone():
            shape = (plan.batch_size, *data.train.x.shape[1:])
            data, model = data.to(device.device()), device.place(model, shape).train()
            optimizer = settings["optimizer"](model.parameters(), lr=settings["lr"])
            alike = _alike(model, data, plan, settings)
            if alike not in self.known:
                self.known[alike] = _step(model, data, plan, settings, optimizer)
            train_loss, step, seconds = self.known[alike]
            logits, work, val_seconds = self._predicted(model, data.val.x)
            started = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of scores of what never learnt
                loss = float(settings["loss"](logits, data.val.y))
                score = float(settings["score"](logits, data.val.y))
            val_seconds += time.process_time() - started
        validated = [k + 1 for k in range(plan.steps) if plan.validates(k)]
        made = Training(
            shape, plan.steps, len(validated), settings["seed"], parameters(model),
            step, work, seconds, val_seconds,
        )  # fmt: skip
        self.trainings.append(made)
        note(
            "trained", parameters=made.parameters, seed=made.seed, kept=False,
            cpu_seconds=made.cpu_seconds,
        )  # fmt: skip
        return _untrained(made, validated, train_loss, loss, score)

    def predict(self, model, x: Tensor, batch_size: int) -> Tensor:
        """Stands in for `predict`: the logits of the first images, over and over where
        there are many large ones.
        """
        with self._alone():
            logits, work, seconds = self._predicted(model, x, batch_size)
            self.predictions.append(work)
            self.predicting += seconds
        return logits

    def _predicted(self, model, x: Tensor, batch_size: int = 0):
        """(logits, work, CPU-seconds) of a prediction: that of as many images as PIXELS
        hold, again and again.
        """
        n, share = _part(len(x), x)
        logits, seconds = _timed(lambda: train.predict(model, x[:n], batch_size))
        alike = str(model), tuple(x[:n].shape), batch_size
        if alike not in self.known:
            self.known[alike] = _counted(
                lambda: train.predict(model, x[:n], batch_size)
            )[1]
        work: Work = self.known[alike]
        launches = work.launches * math.ceil(len(x) / n)
        again = torch.arange(len(x), device=logits.device) % n
        work = work.times(share)._replace(launches=launches)
        return logits[again], work, seconds * share

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While this is open, `fit` and `predict` do what they say."""
        started, train.counter = time.process_time(), None
        try:
            yield
        finally:
            train.counter = self
            self.inside += time.process_time() - started


@contextmanager
def counting(*, gpu: bool = False) -> Iterator[Counts]:
    """While this is open, `fit` does not train and `predict` is counted: how many
    steps, of what batches, with how many launches and multiply-adds. What `fit` returns
    is the history of a network that learnt nothing, so that a chapter goes on; no
    store is read or written.

    gpu   whether networks that only a GPU has the time for (medlib.pretrained) are
          asked for at full size

    >>> with counting() as counts:
    ...     fit(model, data, steps=5000)
    >>> counts.gpu_seconds(T4) / 60
    """
    counts, before = Counts(gpu), train.counter
    train.counter = counts
    try:
        yield counts
    finally:
        train.counter = before


class _Counter(TorchDispatchMode):
    """Counts the operations that reach a device, those of the backward pass too."""

    def __init__(self):
        super().__init__()
        self.launches, self.bytes = 0, 0

    def __torch_dispatch__(self, operation, types, args=(), options=None):
        found = operation(*args, **(options or {}))
        name = operation._schema.name.removeprefix("aten::")
        if not (operation.is_view or name.startswith(("empty", "new_empty"))):
            self.launches += 1
            leaves = torch.utils._pytree.tree_leaves((args, found))
            self.bytes += sum(t.nbytes for t in leaves if isinstance(t, Tensor))
        return found


def _counted(action: Callable) -> tuple:
    """What `action()` returns, and its Work."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as flops, _Counter() as counter:
        found = action()
    macs = flops.get_total_flops() / 2
    return found, Work(counter.launches, macs, counter.bytes)


def _timed(action: Callable) -> tuple:
    """What `action()` returns, and its CPU-seconds."""
    started = time.process_time()
    found = action()
    return found, time.process_time() - started


def _alike(model: nn.Module, data: Dataset, plan: Plan, settings: dict) -> tuple:
    """What decides how long a step takes: the same for all seeds and rates."""
    calls = (settings[name] for name in ("optimizer", "loss", "augment"))
    weights = tuple((tuple(p.shape), p.requires_grad) for p in model.parameters())
    shapes = tuple(data.train.x.shape[1:]), tuple(data.train.y.shape[1:])
    return (str(model), weights, shapes, plan.batch_size, *map(str, calls))


def _step(model, data, plan, settings, optimizer) -> tuple[float, Work, float]:
    """(loss, work, CPU-seconds) of a training step. The weights are as they were."""
    before = {name: t.clone() for name, t in model.state_dict().items()}
    small, share = _part(plan.batch_size, data.train.x)
    few, seed = plan._replace(batch_size=small), settings["seed"]
    for group in optimizer.param_groups:
        if "foreach" in group:  # as on a GPU: one operation for all weights
            group["foreach"] = True

    def step(number: int) -> Tensor:
        train._seed_step(seed, number)
        x, y = train.batch(data.train, few, number, seed, settings["augment"])
        return train_step(model, x, y, settings["loss"], optimizer)

    with train._settled(model):
        _, seconds = _timed(lambda: step(0))
        if seconds < SLOW:
            _, seconds = _timed(lambda: step(1))
        loss, work = _counted(lambda: step(2))
    model.zero_grad()
    model.load_state_dict(before)
    return float(loss), work.times(share), seconds * share


def _part(images: int, x: Tensor) -> tuple[int, float]:
    """(as many of the images as PIXELS hold, how many times that all of them are)."""
    n = min(images, max(2, PIXELS // max(1, math.prod(x.shape[1:]))))
    return n, images / max(n, 1)


def _untrained(made: Training, validated: list[int], train_loss, loss, score):
    """A history as long as that of the training, in which nothing changes."""
    n = len(validated)
    cpu = np.linspace(made.cpu_seconds / n, made.cpu_seconds, n).tolist()
    return History(
        validated, [train_loss] * n, [loss] * n, [score] * n, cpu, list(cpu), False
    )

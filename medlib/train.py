"""Training: one loop for every chapter.

`fit` draws batches from tensors that already lie on the device, follows a one-cycle
schedule (Smith & Topin 2019), keeps the weights that score best on the validation
images, and can stop and resume exactly. accelerate places the model and runs its
forward pass in bf16 where the hardware has matrix units for it; losses and metrics stay
in fp32. Under `accelerate launch` the processes share each batch.
"""

import functools
import itertools
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.data import Dataset, Split, check
from medlib.device import CHANNELS_LAST, precision
from medlib.metrics import accuracy, auc

fitted: list[tuple[int, int]] = []  # (parameters, seed) of each training, for the stamp


@functools.cache
def _accelerator():
    from accelerate import Accelerator

    return Accelerator(mixed_precision=precision())


@dataclass
class History:
    """What `fit` saw. All lists have one entry a validation; `seconds` are wall time,
    `cpu` those of the processor.
    """

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    reached_target: bool = False

    @property
    def best(self) -> int:
        """Index of the first validation with the highest score."""
        return int(np.argmax(self.score))


class Evaluation(NamedTuple):
    logits: Tensor  # (N, num_classes) float32
    target: Tensor  # (N,)
    loss: float
    accuracy: float
    auc: float


def fit(
    model: nn.Module,
    data: Dataset,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    lr: float = 3e-3,
    batch_size: int = 128,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    score: Callable[[Tensor, Tensor], float] = auc,
    schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None = None,
    augment: Callable | None = None,
    validations: int | None = None,
    keep: str = "best",
    target: float | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> History:
    """Train `model` in place on `data.train`; leave it with the weights that scored
    best on `data.val`.

    `data` holds one label an image, or masks; then `loss` and `score` must be of
    medlib.losses, say.

    optimizer    called as optimizer(parameters, lr=lr); SGD:
                 functools.partial(torch.optim.SGD, momentum=0.9)
    schedule     called as schedule(optimizer, steps), steps being their number; by
                 default one cycle
    loss, score  (logits, target) → scalar tensor, lower is better / float, higher is
                 better
    augment      on a whole batch: (x, generator) → x; with masks (x, y, generator) → x,
                 y
    keep         "best", or "last": the final weights, whatever `data.val` says
    validations  how often to validate, evenly spaced; by default once an epoch, at most
                 20 times
    target       finish early once the validation score reaches it
    seed         of the batches and the augmentation; seed the weights before you build
                 the model
    checkpoint   a file: written at each validation, and read when it exists, so that a
                 run cut short goes on to the same weights. Delete it to start anew. By
                 default, where MEDLIB_RESUME names a folder, a file there for each call
                 in turn: `make run` so goes on with a chapter that was killed. Only in
                 a process that trains alone; several count their calls apart.

    Several processes (`accelerate launch`) take a part of each batch each, and of the
    validation images: `batch_size` is that of all together, and the weights that come
    out are those of one process, but for two things that see only a process's own part:
    batch norm, and a loss that sums over the batch, such as Dice. Chapter 21.

    Raises ValueError on a bad argument and FloatingPointError where the loss stops
    being finite.
    """
    n = len(data.train.x)
    if keep not in ("best", "last"):
        raise ValueError(f"keep={keep!r}; the rule: best or last")
    if steps is not None and epochs is not None:
        raise ValueError(f"steps={steps} and epochs={epochs}; expected one of them")
    epochs = 10 if epochs is None else epochs
    if epochs <= 0 or lr <= 0 or batch_size < 1:
        raise ValueError(
            f"epochs={epochs}, lr={lr}, batch_size={batch_size}; the rule: all positive"
        )
    batch_size = min(batch_size, n)
    per_epoch = (
        n // batch_size
    )  # a short last batch is dropped; the next shuffle brings its images back
    total = steps or max(1, round(epochs * per_epoch))
    epochs = total / per_epoch
    every = max(1, total // (validations or min(20, max(1, round(epochs)))))

    accelerator = _accelerator()
    rank, world = accelerator.process_index, accelerator.num_processes
    if batch_size < world:
        raise ValueError(
            f"batches of {batch_size} for {world} processes; the rule: an image each, "
            "or more"
        )
    fitted.append((sum(p.numel() for p in model.parameters()), seed))
    data = data.to(accelerator.device)
    layout = CHANNELS_LAST.get(data.train.x.ndim)
    model.to(accelerator.device)
    for p in model.parameters():
        if layout and p.ndim in CHANNELS_LAST:
            p.data = p.data.contiguous(memory_format=CHANNELS_LAST[p.ndim])
    opt = optimizer(model.parameters(), lr=lr)
    if schedule:
        rate = schedule(opt, total)
    else:
        rate = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=max(total, 2))
    settings = f"{n} images, {total} steps of {batch_size}, lr {lr}, seed {seed}, {type(opt).__name__}"
    checkpoint = checkpoint or (_next_file() if world == 1 else None)
    state = _State(checkpoint, settings, model, opt, rate)
    history = state.history
    exact = exact_layers(model, accelerator.device)
    model, opt = accelerator.prepare(model, opt)

    from tqdm.auto import tqdm

    running, started = [], time.perf_counter() - (history.seconds or [0])[-1]
    started_cpu = time.process_time() - (history.cpu or [0])[-1]
    first = (history.step or [0])[-1]
    # tqdm's notebook form ignores the variable; one bar is enough for all processes.
    quiet = bool(os.environ.get("TQDM_DISABLE")) or not accelerator.is_main_process
    bar = tqdm(
        range(first, total),
        initial=first,
        total=total,
        desc="training",
        leave=False,
        disable=quiet,
    )
    model.train()
    try:
        for step in bar:
            if history.reached_target:
                break
            # Drawn from (seed, epoch) and (seed, step) alone, so that a resumed run
            # sees the same batches.
            if step == first or step % per_epoch == 0:
                order = torch.randperm(n, generator=_generator(seed, step // per_epoch))
            index = order[(step % per_epoch) * batch_size :][:batch_size].to(
                accelerator.device
            )
            x, y = data.train.x[index], data.train.y[index]
            if augment:
                draw = _generator(seed + 1_000_003, step)
                x, y = augment(x, y, draw) if y.ndim > 1 else (augment(x, draw), y)
            x, y = x[rank::world], y[rank::world]
            if layout:
                x = x.contiguous(memory_format=layout)
            # The mean over processes is then the mean over images, though their parts
            # may differ by one.
            value = loss(model(x).float(), y) * (len(x) * world / batch_size)
            opt.zero_grad()
            accelerator.backward(value)
            opt.step()
            rate.step()
            running.append(value.detach())
            if (step + 1) % every and step + 1 < total:
                continue
            train_loss = accelerator.reduce(torch.stack(running).mean(), "mean").item()
            running = []
            if not np.isfinite(train_loss):
                raise FloatingPointError(
                    f"the training loss became {train_loss} before step {step + 1}; "
                    f"try a smaller lr than {lr}, "
                    "and check that the images are standardised"
                )
            logits = _gathered(
                accelerator, predict(model, data.val.x[rank::world]), len(data.val.x)
            )
            history.step.append(step + 1)
            history.train_loss.append(train_loss)
            history.val_loss.append(loss(logits, data.val.y).item())
            history.score.append(score(logits, data.val.y))
            history.seconds.append(time.perf_counter() - started)
            history.cpu.append(time.process_time() - started_cpu)
            history.reached_target = target is not None and history.score[-1] >= target
            state.save(accelerator.is_main_process)
            bar.set_postfix(loss=f"{train_loss:.3f}", score=f"{history.score[-1]:.3f}")
    finally:
        # Hand back the plain module: accelerate had wrapped its forward pass.
        model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        vars(model).pop("forward", None)
        accelerator.free_memory()
        for convolution in exact:
            del convolution.forward
    if keep == "best":
        model.load_state_dict(state.best)
    return history


def exact_layers(model: nn.Module, where: torch.device) -> list[nn.Module]:
    """Let some layers run in fp32 on a processor, and return them. Convolutions in
    groups: in bf16 they take twice the time, and with holes torch 2.14 gets their
    weight gradients wrong (up to 1e35). Large dense layers: rounding their weights anew
    in each step costs more than it saves.
    """
    if where.type != "cpu" or precision() == "no":
        return []
    found = [
        m
        for m in model.modules()
        if (isinstance(m, nn.Conv2d | nn.Conv3d) and m.groups > 1)
        or (isinstance(m, nn.Linear) and m.weight.numel() > 2**20)
    ]
    for m in found:
        m.forward = functools.partial(_in_fp32, m.forward)
    return found


def _in_fp32(forward: Callable, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(x.float())


def _gathered(accelerator, part: Tensor, n: int) -> Tensor:
    """The n rows of which each process has every world-th, in their order; parts may
    differ by one row.
    """
    if accelerator.num_processes == 1:
        return part
    parts = accelerator.gather(accelerator.pad_across_processes(part)).unflatten(
        0, (accelerator.num_processes, -1)
    )
    return parts.transpose(0, 1).flatten(0, 1)[:n]


def _generator(seed: int, k: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 2_000_003 + k)


_calls = itertools.count()


def _next_file() -> Path | None:
    folder = os.environ.get("MEDLIB_RESUME")
    return Path(folder) / f"{next(_calls):04}.pt" if folder else None


class _State:
    """Everything that a resumed run needs, and the best weights so far."""

    def __init__(self, path, settings, model, optimizer, schedule):
        self.path, self.settings = Path(path) if path else None, settings
        self.parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
        self.history, self.best = History(), None
        if self.path and self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            if saved["settings"] != settings:
                raise ValueError(
                    f"{self.path} is of another run ({saved['settings']}) than this "
                    f"one ({settings}); "
                    "delete it or name another file"
                )
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            self.history, self.best = History(**saved["history"]), saved["best"]
            torch.set_rng_state(saved["rng"])
            torch.cuda.set_rng_state_all(saved["cuda_rng"])

    def save(self, write: bool) -> None:
        if self.history.best == len(self.history.score) - 1:
            self.best = {
                k: v.detach().clone()
                for k, v in self.parts["model"].state_dict().items()
            }
        if self.path and write:
            partial = self.path.with_name(self.path.name + ".part")
            torch.save(
                {name: part.state_dict() for name, part in self.parts.items()}
                | {
                    "settings": self.settings,
                    "history": asdict(self.history),
                    "best": self.best,
                }
                | {
                    "rng": torch.get_rng_state(),
                    "cuda_rng": torch.cuda.get_rng_state_all(),
                },
                partial,
            )
            os.replace(
                partial, self.path
            )  # a crash leaves the old file or the new one, never half of one


@contextmanager
def evaluating(model: nn.Module):
    """`model` in evaluation mode for a while; its mode is put back, whatever happens."""
    was_training = model.training
    try:
        yield model.eval()
    finally:
        model.train(was_training)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = 0) -> Tensor:
    """Logits of `model` for x (N, C, H, W), in fp32 and in batches: by default of 256
    images, fewer where they are larger than 64 × 64. They lie where the model lies; its
    mode is left as found.
    """
    where = next(model.parameters(), x).device
    batch_size = batch_size or max(1, 256 * 64**2 // max(x[0].numel(), 64**2))
    with evaluating(model):
        return torch.cat(
            [model(part.to(where)).float() for part in x.split(batch_size)]
        )


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Evaluation:
    """Logits of `model` on `split`, in fp32, and what they are worth. The model's mode
    is left as found.
    """
    logits = predict(model, split.x)
    y = split.y.to(logits.device)
    check(split, logits.shape[1], "evaluate")
    return Evaluation(
        logits, y, loss(logits, y).item(), accuracy(logits, y), auc(logits, y)
    )

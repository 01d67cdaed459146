"""Training: one loop for every chapter.

`fit` repeats three things: take a `batch`, do a `train_step`, and now and then
`validate` on images that it does not learn from. Batches, augmentation and dropout
depend on the seed and the number of the step alone, so a training that was broken off
goes on to the same weights, and one that is finished is found again
(medlib.checkpoint).
"""

import functools
import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib import checkpoint, device
from medlib.checkpoint import Checkpoint, History
from medlib.data import Dataset, Split, check
from medlib.metrics import accuracy, auc

SMALLEST_SCALE = 2.0**-14  # of losses in fp16: 30 steps skipped in a row
# What medlib.cost.counting puts here counts the trainings, and none is done.
counter: Any = None


class Plan(NamedTuple):
    """How a training is laid out; `of` does the sums and refuses what cannot be."""

    images: int
    batch_size: int
    steps: int
    every: int  # steps from one validation to the next

    @property
    def steps_per_epoch(self) -> int:
        # A short last batch is dropped; the next shuffle brings its images back.
        return self.images // self.batch_size

    def validates(self, step: int) -> bool:
        """Does a validation follow this step, counted from 0? The last one has one."""
        return (step + 1) % self.every == 0 or step + 1 == self.steps

    @classmethod
    def of(
        cls, images, batch_size, steps=None, epochs=None, validations=None
    ) -> "Plan":
        """A plan from what `fit` was given. Raises ValueError."""
        if steps is not None and epochs is not None:
            raise ValueError(f"steps={steps} and epochs={epochs}; expected one of them")
        epochs = 10 if steps is None and epochs is None else epochs
        whole = {"steps": steps, "batch_size": batch_size, "validations": validations}
        for name, value in whole.items():
            if value is not None and not (
                isinstance(value, Integral) and int(value) > 0
            ):
                raise ValueError(f"{name}={value!r}; expected a positive whole number")
        if epochs is not None and not _positive(epochs):
            raise ValueError(f"epochs={epochs!r}; expected a positive number")
        world = device.rank_and_world()[1]
        if min(batch_size, images) < world:
            raise ValueError(
                f"batches of {min(batch_size, images)} images for {world} processes; "
                "expected an image for each, or more"
            )
        batch_size = min(batch_size, images)
        per_epoch = images // batch_size
        if steps is None:
            steps = max(1, round(epochs * per_epoch))
        validations = validations or min(20, max(1, round(steps / per_epoch)))
        every = math.ceil(steps / validations)
        return cls(images, int(batch_size), int(steps), every)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int):
    """The learning rate rises for a third of the steps and then falls to nearly zero
    (Smith & Topin 2019); its peak is the optimizer's own. Momentum, where there is any,
    falls from .95 to .85 and rises again."""
    peak = [group["lr"] for group in optimizer.param_groups]
    # torch would give plain SGD a momentum.
    momentum = any(g.get("momentum") or "betas" in g for g in optimizer.param_groups)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=max(steps, 2), cycle_momentum=momentum
    )


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
    schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler] = one_cycle,
    augment: Callable | None = None,
    validations: int | None = None,
    keep: str = "best",
    target: float | None = None,
    seed: int = 0,
    store: str | Path | Literal[False] | None = None,
) -> History:
    """Train `model` in place on `data.train`; leave it with the weights that scored
    best on `data.val`.

    `data` holds one label an image, or masks; then `loss` and `score` must be of
    medlib.losses, say. The global random generators are left as they were found.

    steps        how many batches to learn from; or `epochs`, passes over the images
                 (10)
    optimizer    called as optimizer(parameters, lr=lr), so SGD with momentum is
                 functools.partial(torch.optim.SGD, momentum=0.9)
    loss, score  (logits, target) → scalar tensor, lower is better / float, higher is
                 better; both in fp32
    schedule     called as schedule(optimizer, steps), steps being their number
    augment      on a whole batch: (x, generator) → x; with masks (x, y, generator) → x,
                 y
    validations  how often to validate, evenly spaced; once an epoch, at most 20 times
    keep         "best", or "last": the final weights, whatever `data.val` says
    target       finish early once the validation score reaches it
    seed         of batches, augmentation and dropout; seed the weights before you build
                 the model
    store        where a training is kept, and found if it was done before: a folder, or
                 a file named ….pt for this one alone; by default what MEDLIB_STORE
                 names; False for a score, say, that collects what it sees

    Under `accelerate launch` the processes share each batch and the validation images:
    `batch_size` is that of all together, and the weights that come out are those of one
    process, but for what sees only a process's own part: batch norm, dropout, and a
    loss that sums over the batch, such as Dice. Chapter 21.

    Raises ValueError or TypeError on a bad argument, FloatingPointError where the loss
    stops being finite, OSError where the store cannot be written.
    """
    _check(model, data)
    _check_settings(lr, keep, target, seed)
    _check_calls(data, optimizer, loss, score, schedule, augment)
    seed = int(seed)  # NumPy's whole numbers seed no generator of Python
    plan = Plan.of(len(data.train.x), batch_size, steps, epochs, validations)
    if counter:
        settings = {"lr": lr, "optimizer": optimizer, "loss": loss, "score": score}
        settings |= {"augment": augment, "seed": seed}
        return counter.fit(model, data, plan, settings)
    shape = tuple(data.train.x.shape)
    recipe = [lr, optimizer, loss, score, schedule, augment, keep, target, seed]
    content = [data, tuple(plan), recipe, device.precision(shape), fit.__code__, *PARTS]
    data, model = data.to(device.device()), device.place(model, shape).train()
    opt, scaler = optimizer(model.parameters(), lr=lr), device.scaler(shape)
    rate = schedule(opt, plan.steps)
    saved = checkpoint.find(store, content, model, opt, rate, scaler)
    history, losses, started = saved.history, [], saved.history.started()
    with _settled(model), _explaining(data):
        for step in _remaining(plan, saved):
            _seed_step(seed, step)
            x, y = batch(data.train, plan, step, seed, augment)
            x, y, scale = device.own(x), device.own(y), scaler.get_scale()
            losses.append(train_step(model, x, y, loss, opt, scaler))
            if not _skipped(scaler, scale):
                rate.step()
            if plan.validates(step):
                train_loss = _mean(losses, lr)
                found = validate(model, data.val, loss, score)
                history.record(step + 1, train_loss, *found, started)
                history.reached_target = target is not None and found[1] >= target
                losses.clear()
                saved.update()
    return saved.finish(keep, seed)


def batch(
    split: Split, plan: Plan, step: int, seed: int, augment: Callable | None = None
) -> tuple[Tensor, Tensor]:
    """The images and labels of a step, the same whenever they are asked for. An epoch
    goes once through the images in an order of its own."""
    epoch, number = divmod(step, plan.steps_per_epoch)
    order = _order(len(split.x), seed, epoch)
    index = order[number * plan.batch_size :][: plan.batch_size].to(split.x.device)
    x, y = split.x[index], split.y[index]
    if augment is None:
        return x, y
    draw = _generator(seed + 1_000_003, step)
    if y.ndim == 1:
        return _pair((augment(x, draw), y))
    return _pair(augment(x, y, draw))  # masks move with their images


def train_step(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> Tensor:
    """Learn from one batch; returns the loss before the step. In fp16 the `scaler` may
    skip the step.
    """
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    with device.mixed_precision(x.shape):
        logits = model(device.in_layout(x))
    value = _scalar(loss(_single(logits), y))
    value = value * device.weight(len(x))  # 1 in a single process
    optimizer.zero_grad()
    scaler.scale(value).backward()
    device.average_gradients(model)
    scaler.step(optimizer)
    scaler.update()
    return value.detach()


def validate(
    model: nn.Module,
    val: Split,
    loss: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[Tensor, Tensor], float],
) -> tuple[float, float]:
    """Loss and score on the validation images, as the network is now."""
    device.share(model, buffers_only=True)
    with device.mixed_precision(val.x.shape):
        part = predict(model, device.own(val.x))
    logits = device.gathered(part, len(val.x))
    return _number(loss(logits, val.y)), _score(score(logits, val.y), logits, val.y)


def _seed_step(seed: int, step: int) -> None:
    """What augmentation and layers draw from the global generators depends on seed,
    step and process, and not on where a training was broken off."""
    rank, world = device.rank_and_world()
    device.seed(abs(seed) * 2_000_003 + step * world + rank)


@contextmanager
def _settled(model: nn.Module) -> Iterator[None]:
    """The arithmetic and the generators of a training, for a while."""
    with device.exact(model), device.own_randomness(), device.tuned():
        yield


def _skipped(scaler: torch.amp.GradScaler, before: float) -> bool:
    """Whether the gradients of a step overflowed in fp16, so that it was left out and
    the scale, `before` it still higher, fell. Raises FloatingPointError where no scale
    is low enough.
    """
    scale = scaler.get_scale()
    if scale < SMALLEST_SCALE:
        raise FloatingPointError(
            f"gradients overflow in fp16 even at a scale of {scale:.1g}; try a smaller "
            "lr, or MEDLIB_PRECISION=no"
        )
    return scale < before


# What a training reaches besides its arguments: a change of these makes it another one.
PARTS = [
    batch, train_step, validate, _seed_step, _skipped, device.exact, device.place,
    Plan.validates, vars(Plan)["steps_per_epoch"].fget,
    vars(History)["best"].fget, Checkpoint.update,
]  # fmt: skip


@functools.lru_cache(maxsize=2)
def _order(images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(images, generator=_generator(seed, epoch))


def _generator(seed: int, k: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 2_000_003 + k)


def _check(model: nn.Module, data: Dataset) -> None:
    if not isinstance(model, nn.Module) or not isinstance(data, Dataset):
        raise TypeError(
            f"a model of type {type(model).__name__} and data of type "
            f"{type(data).__name__}; expected an nn.Module and a medlib.data.Dataset"
        )
    weights = list(model.parameters())
    if any(map(nn.parameter.is_lazy, weights)):
        raise ValueError(
            "a model with lazy layers; expected one that has seen an image: call "
            "model(data.train.x[:1]) once"
        )
    if not any(p.requires_grad for p in weights):
        raise ValueError(
            "a model without weights to learn; expected at least one parameter with "
            "requires_grad"
        )
    kinds = {weights[0].dtype, data.train.x.dtype, data.val.x.dtype}
    if len(kinds) > 1:
        raise ValueError(
            f"images in {data.train.x.dtype} and {data.val.x.dtype} for weights in "
            f"{weights[0].dtype}; expected one type, as x.float() gives"
        )


def _positive(value: Any) -> bool:
    return isinstance(value, Real) and 0 < float(value) < math.inf


def _check_settings(lr: float, keep: str, target: float | None, seed: int) -> None:
    if not _positive(lr):
        raise ValueError(f"lr={lr!r}; expected a positive number")
    if keep not in ("best", "last"):
        raise ValueError(f"keep={keep!r}; expected best or last")
    if target is not None and (not isinstance(target, Real) or math.isnan(target)):
        raise ValueError(f"target={target!r}; expected a number, or None")
    if not isinstance(seed, Integral) or abs(seed) >= 2**32:
        raise ValueError(f"seed={seed!r}; expected a whole number below 2**32")


def _check_calls(data: Dataset, optimizer, loss, score, schedule, augment) -> None:
    """TypeError where one of these cannot be called as `fit` will call it."""
    masks = data.train.y.ndim > 1
    _check_call("optimizer", optimizer, "parameters", lr=1.0)
    _check_call("loss", loss, "logits", "target")
    _check_call("score", score, "logits", "target")
    _check_call("schedule", schedule, "optimizer", "steps")
    if augment is not None:
        _check_call("augment", augment, *(["x", "y"] if masks else ["x"]), "generator")


def _check_call(name: str, call, *given: str, **named) -> None:
    wrong = ""
    try:
        inspect.signature(call).bind(*given, **named)
        if name in ("loss", "score") and isinstance(call, type):
            wrong = "a class, not yet an object of it"
    except TypeError as error:
        wrong = str(error)
    except ValueError:  # written in C, it has no signature
        pass
    if wrong:
        raise TypeError(
            f"{name}={call!r}: {wrong}; expected a function of "
            f"({', '.join([*given, *named])})"
        )


@contextmanager
def _explaining(data: Dataset) -> Iterator[None]:
    """In words of ours, what torch says of a label without a logit."""
    try:
        yield
    except IndexError as error:
        if not str(error).startswith("Target"):
            raise
        raise ValueError(
            f"{error} The network has too few logits; expected {len(data.classes)}, "
            f"one for each class of {data.name}"
        ) from error


def _pair(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """What came out of an augmentation, with the labels."""
    tensors = isinstance(pair, tuple) and all(isinstance(t, Tensor) for t in pair)
    if not tensors or len(pair) != 2 or len(pair[0]) != len(pair[1]):
        found = [tuple(getattr(t, "shape", ())) or type(t).__name__ for t in pair]
        raise ValueError(
            f"augment makes {found} of a batch; expected images, and with masks the "
            "masks too, as many as there were"
        )
    return pair


def _single(logits: Tensor) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"a network that returns a {type(logits).__name__}; expected a tensor of "
            "logits: put a module around it that takes them out"
        )
    return logits.float()


def _scalar(value: Tensor) -> Tensor:
    tensor = isinstance(value, Tensor)
    if not tensor or value.ndim or not value.is_floating_point():
        shape = tuple(getattr(value, "shape", ()))
        raise ValueError(
            f"a loss that is a {type(value).__name__} {shape}; expected a tensor of "
            "one number, such as the mean over the batch"
        )
    if not value.requires_grad:
        raise ValueError(
            "a loss without a gradient; expected one computed from the logits by "
            "torch alone, and no torch.no_grad() around it"
        )
    return value


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"a loss or a score of {value!r:.99}; expected one number"
        ) from None


def _score(value, logits: Tensor, y: Tensor) -> float:
    score = _number(value)
    if math.isnan(score):
        warnings.warn(
            f"the score is NaN for logits {tuple(logits.shape)} and the labels "
            f"{y.unique().tolist()} of data.val; expected an image of each class there "
            "for AUC, and a logit a class. The weights of such a validation are never "
            "the best; where all are NaN, the last are kept.",
            stacklevel=4,
        )
    return score


def _mean(losses: list[Tensor], lr: float) -> float:
    """The mean of the losses since the last validation."""
    mean = device.mean_over_processes(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the training loss became {mean}; try a smaller lr than {lr}, and check "
            "that the images are standardised"
        )
    return mean


def _remaining(plan: Plan, saved: Checkpoint) -> Iterator[int]:
    """The steps that are left, with a bar: one for all processes."""
    from tqdm.auto import tqdm

    history = saved.history
    # tqdm's notebook form ignores the variable.
    quiet = bool(os.environ.get("TQDM_DISABLE")) or device.rank_and_world()[0] > 0
    todo = range(saved.step, plan.steps)
    with tqdm(
        todo, "training", plan.steps, False, disable=quiet, initial=saved.step
    ) as bar:
        for step in bar:
            if saved.finished or history.reached_target:
                return
            yield step
            if plan.validates(step):
                bar.set_postfix(loss=history.train_loss[-1], score=history.score[-1])


# ---------------------------------------------------------------- using a network


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """`model` in evaluation mode for a while; afterwards in the mode it was in."""
    was_training = model.training
    try:
        yield model.eval()
    finally:
        model.train(was_training)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = 0) -> Tensor:
    """Logits of `model` for x (N, C, H, W), in fp32 and in batches: by default of 256
    images, fewer where they are larger than 64 × 64. They lie where the model lies; its
    mode is left as found."""
    if counter:
        return counter.predict(model, x, batch_size)
    where = next(model.parameters(), x).device
    batch_size = batch_size or max(1, 256 * 64**2 // max(x[:1].numel(), 64**2))
    with evaluating(model):
        parts = [_single(model(part.to(where))) for part in x.split(batch_size)]
    return torch.cat(parts)


class Evaluation(NamedTuple):
    logits: Tensor  # (N, num_classes) float32
    target: Tensor  # (N,)
    loss: float
    accuracy: float
    auc: float


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
    if logits.ndim < 2:
        raise ValueError(f"logits {tuple(logits.shape)}; expected (N, num_classes)")
    y = split.y.to(logits.device)
    check(split, logits.shape[1], "evaluate")
    return Evaluation(
        logits, y, loss(logits, y).item(), accuracy(logits, y), auc(logits, y)
    )

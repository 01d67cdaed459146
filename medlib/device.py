"""The ground floor: which size, which device, which arithmetic, which seed.

Nothing here imports anything of ours, so everything else may stand on it.
"""

import functools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

PROFILES = ("smoke", "quick", "full")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LARGE = 224  # pixels a side from which arithmetic, and not launches, bounds a step
# By the number of axes of a batch: the order in memory that convolutions are fast in.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d


def profile(**sizes):
    """The name of the profile, or the one of `sizes` that belongs to it.

    MEDLIB_PROFILE=smoke|quick|full decides; by default full where CUDA is there, else
    quick. Where `sizes` names no quick size, it is the full one.

    >>> steps = profile(smoke=2, quick=400, full=5000)
    """
    name = os.environ.get("MEDLIB_PROFILE") or (
        "full" if torch.cuda.is_available() else "quick"
    )
    if name not in PROFILES:
        raise ValueError(
            f"MEDLIB_PROFILE={name!r}; expected one of {', '.join(PROFILES)}"
        )
    if not sizes:
        return name
    if name == "quick" and "quick" not in sizes:
        name = "full"
    return sizes[name]


def spare(minutes: int) -> None:
    """For a chapter that takes `minutes` on a T4, as it was foreseen: on a card without
    bf16, and where nobody chose, the profile is quick from here on, and that is said.
    """
    slow = torch.cuda.is_available() and precision() != "bf16"
    if slow and not os.environ.get("MEDLIB_PROFILE"):
        os.environ["MEDLIB_PROFILE"] = "quick"
        print(f"On this card the whole chapter takes about {minutes} minutes, so it is")
        print(
            "run in the smaller profile quick. For all of it, put this above and start"
        )
        print("a new session:  %env MEDLIB_PROFILE=full")


def precision(shape: tuple[int, ...] = ()) -> str:
    """ "bf16" on a GPU or a CPU that multiplies in bf16 (AMX, AVX-512 BF16), else "no";
    MEDLIB_PRECISION overrides. A T4 only imitates bf16: torch calls it supported, and
    it is slow. There a batch of this `shape` takes "fp16" if it is large enough to gain
    by it (`wants_fp16`).
    """
    if choice := os.environ.get("MEDLIB_PRECISION"):
        if choice not in (*HALVES, "no"):
            raise ValueError(f"MEDLIB_PRECISION={choice!r}; expected bf16, fp16 or no")
        return choice
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if wants_fp16(shape) else "no"
    units: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if units.get("amx_bf16") or units.get("avx512_bf16") else "no"


def wants_fp16(shape: tuple[int, ...]) -> bool:
    """Whether a batch (B, C, H, W) is large enough that a GPU without bf16 gains by
    fp16. Smaller networks are bound by their launches, and casts are launches more.
    """
    return len(shape) == 4 and min(shape[2:]) >= LARGE


def seed(value: int = 0) -> None:
    """Seed Python, NumPy and torch."""
    value = int(value)  # Python's generator takes no number of NumPy
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


# ---------------------------------------------------------------- arithmetic


def mixed_precision(shape: tuple[int, ...] = ()) -> torch.autocast:
    """A context in which layers compute on a batch of `shape` in bf16 or fp16 where
    `precision` says so. Losses and metrics stay outside of it, in fp32."""
    name = precision(shape)
    dtype = HALVES.get(name, torch.bfloat16)
    return torch.autocast(
        device().type, dtype, enabled=name in HALVES, cache_enabled=True
    )


def scaler(shape: tuple[int, ...]) -> torch.amp.GradScaler:
    """What multiplies the loss in fp16, so that small gradients do not round to zero,
    and leaves out a step whose gradients overflowed. In any other arithmetic it does
    nothing.
    """
    return torch.amp.GradScaler(device().type, enabled=precision(shape) == "fp16")


@contextmanager
def tuned() -> Iterator[None]:
    """cuDNN times its algorithms on the first batch of a shape and keeps the fastest:
    it pays where thousands of batches have one shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def exact(model: nn.Module) -> Iterator[None]:
    """Let those layers of `model` compute in fp32 for which bf16 on a processor is
    wrong or slow; elsewhere, change nothing.

    Convolutions in groups take twice the time in bf16. Where they are dilated, and
    where an input is thinner than its kernel or its stride, torch 2.14 gets the weight
    gradients of convolutions wrong (up to 1e35). Rounding the weights of a large dense
    layer anew in each step costs more than it saves.
    """
    changed = []
    if device().type == "cpu" and precision() == "bf16":
        for layer in model.modules():
            convolution = isinstance(layer, CONVOLUTIONS)
            large = isinstance(layer, nn.Linear) and layer.weight.numel() > 2**20
            if convolution or large:
                changed.append((layer, vars(layer).get("forward")))
                layer.forward = functools.partial(_exact, layer, layer.forward)
    try:
        yield
    finally:
        for layer, own in changed:
            del layer.forward
            if own:  # one that was put in the place of the class's
                layer.forward = own


def _exact(layer: nn.Module, forward: Callable, x: Tensor, *more) -> Tensor:
    if isinstance(layer, CONVOLUTIONS) and layer.groups == 1:
        axes = -len(layer.kernel_size)  # of an image alone, too: it has no axis B
        sizes = zip(x.shape[axes:], layer.kernel_size, layer.stride, strict=True)
        if all(size >= max(kernel, stride) for size, kernel, stride in sizes):
            return forward(x, *more)
    with torch.autocast("cpu", enabled=False):
        return forward(x.to(next(layer.parameters()).dtype), *more)


def in_layout(x: Tensor, batch: tuple[int, ...] = ()) -> Tensor:
    """A batch (B, C, H, W) or (B, C, D, H, W) in the order of memory that convolutions
    are fast in, or a kernel for a batch of the shape `batch`; any other tensor as it
    is.

    In fp32 a GPU before sm_80 is slower with the channels last (1.68 against 2.76 s
    on a V100: pytorch's issue 44943), and the order stays.
    """
    old = torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0)
    if x.ndim not in CHANNELS_LAST or old and precision(batch or x.shape) == "no":
        return x
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])


def place(model: nn.Module, batch: tuple[int, ...] = ()) -> nn.Module:
    """`model` on the device, its kernels in the order of memory that `in_layout` gives
    to batches of this shape, and with the same weights in all processes.
    """
    model.to(device())
    for p in model.parameters():
        p.data = in_layout(p.data, batch)
    share(model)
    return model


@contextmanager
def own_randomness() -> Iterator[None]:
    """The global generators of Python, NumPy and torch stand afterwards where they
    stood before, whatever was drawn in between."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)


# ---------------------------------------------------------------- several processes


def _processes():
    """accelerate's view of the processes that `accelerate launch`, torchrun or
    `notebook_launcher` started; None in a process that works alone."""
    world = os.environ.get("WORLD_SIZE", "1")
    return None if world == "1" else _accelerator(world)


@functools.cache
def _accelerator(world: str):
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{world} processes, but no accelerate; expected: pip install accelerate"
        ) from None

    return Accelerator()


def device() -> torch.device:
    """Where tensors and models go: a GPU if there is one, else the CPU."""
    if processes := _processes():
        return processes.device
    gpu = None
    if torch.accelerator.is_available():
        gpu = torch.accelerator.current_accelerator()
    return gpu or torch.device("cpu")


def rank_and_world() -> tuple[int, int]:
    """The number of this process and how many there are: (0, 1) where it is alone."""
    processes = _processes()
    return (processes.process_index, processes.num_processes) if processes else (0, 1)


def own(x: Tensor) -> Tensor:
    """Of a batch, the images of this process: every world-th."""
    rank, world = rank_and_world()
    return x[rank::world]


def share(model: nn.Module, *, buffers_only: bool = False) -> None:
    """Give all processes the weights and the running averages of the first."""
    if rank_and_world()[1] > 1:
        for t in [*model.buffers(), *([] if buffers_only else model.parameters())]:
            torch.distributed.broadcast(t.data, 0)


def weight(images: int) -> float:
    """What to multiply the loss over this process's `images` with, so that the mean
    over processes is the mean over images though their parts may differ by one: K n / B
    for n of B images and K processes.
    """
    world = rank_and_world()[1]
    if world == 1:
        return 1.0
    total = torch.tensor(float(images), device=device())
    torch.distributed.all_reduce(total)
    return images * world / total.item()


def average_gradients(model: nn.Module) -> None:
    """Give all processes the mean of their gradients."""
    world = rank_and_world()[1]
    if world > 1:
        for p in model.parameters():
            if p.grad is not None:
                torch.distributed.all_reduce(p.grad)
                p.grad /= world


def gathered(part: Tensor, n: int) -> Tensor:
    """The n rows of which each process has every world-th, in their order; parts may
    differ by one row."""
    world = rank_and_world()[1]
    if world == 1:
        return part
    padded = part.new_zeros(-(-n // world), *part.shape[1:])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded)
    return torch.stack(parts, 1).flatten(0, 1)[:n]


def mean_over_processes(value: Tensor) -> float:
    """The mean of a scalar that each process has its own of."""
    world = rank_and_world()[1]
    if world > 1:
        torch.distributed.all_reduce(value)
    return value.item() / world

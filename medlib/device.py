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

PROFILES = ("smoke", "quick", "full")
# By the number of axes of a batch: the order in memory that convolutions are fast in.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


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


def precision() -> str:
    """ "bf16" on a GPU or a CPU that multiplies in bf16 (AMX, AVX-512 BF16), else "no";
    MEDLIB_PRECISION overrides. A T4 only imitates bf16: torch calls it supported, and
    it is slow."""
    if choice := os.environ.get("MEDLIB_PRECISION"):
        if choice not in ("bf16", "no"):
            raise ValueError(f"MEDLIB_PRECISION={choice!r}; expected bf16 or no")
        return choice
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        units = getattr(torch.cpu, "get_capabilities", dict)()
        able = units.get("amx_bf16") or units.get("avx512_bf16")
    return "bf16" if able else "no"


def seed(value: int = 0) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


# ---------------------------------------------------------------- several processes


@functools.cache
def _processes():
    """accelerate's view of the processes that `accelerate launch`, torchrun or
    `notebook_launcher` started; None in a process that works alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    try:
        from accelerate import PartialState
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'several processes, but no accelerate; expected: pip install "medlib[chapters]"'
        ) from None

    return PartialState()


def device() -> torch.device:
    """Where tensors and models go: a GPU if there is one, else the CPU."""
    if processes := _processes():
        return processes.device
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def rank_and_world() -> tuple[int, int]:
    """The number of this process and how many there are: (0, 1) where it is alone."""
    processes = _processes()
    return (processes.process_index, processes.num_processes) if processes else (0, 1)


# ---------------------------------------------------------------- what a run has seen

_listeners: list[Callable[[str, dict], None]] = []  # empty outside a published run


def note(event: str, **facts) -> None:
    """Tell whoever listens that something was loaded, trained or printed. Nobody does,
    but for the press while it runs a chapter: the stamp is made of these notes."""
    for listener in _listeners:
        listener(event, facts)


@contextmanager
def listening(listener: Callable[[str, dict], None]) -> Iterator[None]:
    """Hand every `note` to `listener` for a while."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

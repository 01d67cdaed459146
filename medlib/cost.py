"""What a network costs: parameters, multiply-adds and measured time."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import device
from medlib.train import train_step


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
    model = device.place(model).train()
    x = torch.randn(shape, device=device.device())
    with torch.no_grad():
        logits = model(x)  # (B, classes), or (B, classes, H, W) with masks
    y = torch.zeros_like(logits[:, 0], dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def action() -> None:
        with device.exact(model):
            train_step(model, x, y, F.cross_entropy, optimizer)

    return action

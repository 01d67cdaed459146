"""What all families share: the check of a shape, single precision where it matters, and
the width of a bottleneck.
"""

import torch
from torch import Tensor, nn


def check(module: nn.Module, x: Tensor) -> None:
    """ValueError unless x is (B, module.channels, H, W), with a pixel at least."""
    if x.ndim != 4 or x.shape[1] != module.channels or 0 in x.shape[2:]:
        raise ValueError(
            f"{type(module).__name__} got {tuple(x.shape)}; expected (B, "
            f"{module.channels}, H, W)"
        )


def check_batch(module: nn.Module, x: Tensor) -> None:
    """The same for modules with a BatchNorm behind a global pooling."""
    check(module, x)
    if module.training and len(x) < 2:
        raise ValueError(
            f"{type(module).__name__} got {tuple(x.shape)} in training; expected B ≥ "
            "2, for the BatchNorm behind a global pooling"
        )


def fp32(x: Tensor) -> Tensor:
    """x in single precision at least: softmaxes and statistics lose digits in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def narrow(channels: int, reduction: int) -> int:
    """channels / reduction, but 4 at least (or `channels`, where there are fewer)."""
    return max(channels // reduction, min(4, channels))

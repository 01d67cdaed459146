"""Augmentation: images, and masks with them, drawn anew in each step of training.

An augmentation takes a batch and a generator, (x, generator) → x; where there are masks
(x, y, generator) → x, y. `medlib.fit` calls it; all chance comes from the generator, so
a training can be repeated.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

# One name for both ways to read between pixels: images blend, labels must not.
Mode = Literal["bilinear", "nearest"]
SINGLE = torch.float32


def sample(x: Tensor, places: Tensor, *, mode: Mode) -> Tensor:
    """Images (B, C, H, W) or masks (B, H, W), read at `places` (B, H', W', 2): (x, y)
    from −1 to 1, as torch's grid_sample takes them; the edge is repeated. Stacks have
    an axis D before H, and every slice is read at the same places. In single precision
    at least, whatever x and `places` come in; the type of x comes out. An image read at
    NaN is NaN there.

    mode   "bilinear" for images, "nearest" for masks of integers

    Raises ValueError where integers are to be read bilinearly, or at NaN.
    """
    if mode == "bilinear" and not x.is_floating_point():
        raise ValueError(
            f"bilinear reading of {x.dtype}; expected floating point, or nearest"
        )
    if not x.is_floating_point() and places.isnan().any():
        raise ValueError("a mask read at places that are NaN; expected numbers")
    return _read(x, places, mode)


def _read(x: Tensor, places: Tensor, mode: Mode) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(x.dtype, places.dtype), SINGLE)
    places, flat = places.to(dtype), x[:, None] if x.ndim == 3 else x.flatten(1, -3)
    found = torch.nn.functional.grid_sample(
        flat.to(dtype), places, mode, "border", align_corners=False
    )
    if x.is_floating_point():  # at NaN torch reads the first pixel
        found = found.masked_fill(places.isnan().any(-1)[:, None], torch.nan)
    return found.to(x.dtype).view(*x.shape[:-2], *found.shape[-2:])


def random_affine(
    *,
    degrees: float = 15,
    scale: float = 0.1,
    shift: float = 0.05,
    contrast: float = 0.2,
) -> Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]:
    """Augmentation of images with masks: turn by up to `degrees`, stretch each axis by
    up to `scale`, move by up to `shift` of the side, and draw contrast and brightness
    anew with that standard deviation. All slices of a stack (B, C, D, H, W) are moved
    alike.
    """

    def affine(
        x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        places = _turned(x, generator, degrees, scale, shift)
        a, b = contrast * torch.randn(
            2, len(x), *(x.ndim - 1) * [1], generator=generator
        ).to(x.device)
        moved = _read(x, places, "bilinear") * (1 + a) + b
        return moved.to(x.dtype), _read(y, places, "nearest")

    return affine


def elastic(
    *,
    strength: float = 0.02,
    points: int = 3,
    degrees: float = 0,
    scale: float = 0,
    shift: float = 0,
) -> Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]:
    """Augmentation of images with masks: the elastic deformation of Ronneberger et al.
    (2015, section 3.1). Each of `points` × `points` positions, spread evenly from
    corner to corner, is displaced at random, in both directions with a standard
    deviation of `strength` of the image's side (the paper: 10 of 512 pixels); between
    them the displacements are interpolated bicubically. `degrees`, `scale` and `shift`
    turn, stretch and move as `random_affine` does, and the image is read but once,
    since each reading blurs. All slices of a stack are bent alike.

    Raises ValueError for fewer than 2 points.
    """
    if points < 2:
        raise ValueError(f"points={points}; expected 2 or more, from corner to corner")

    def bend(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = _turned(x, generator, degrees, scale, shift)
        coarse = torch.randn(len(x), 2, points, points, generator=generator)
        moves = torch.nn.functional.interpolate(
            2 * strength * coarse,  # in units of `sample`, where a side is 2 long
            x.shape[-2:],
            mode="bicubic",
            align_corners=True,
        )
        places = places + moves.movedim(1, -1).to(x.device)
        return _read(x, places, "bilinear"), _read(y, places, "nearest")

    return bend


def _turned(
    x: Tensor, generator: torch.Generator, degrees: float, scale: float, shift: float
) -> Tensor:
    """Places (B, H, W, 2) at which to read x, turned, stretched and moved at random."""
    draw = 2 * torch.rand(5, len(x), generator=generator) - 1
    angle, stretch = torch.deg2rad(degrees * draw[0]), 1 + scale * draw[1:3]
    cos, sin, move = angle.cos(), angle.sin(), 2 * shift * draw[3:]
    rows = (
        cos * stretch[0],
        -sin * stretch[1],
        move[0],
        sin * stretch[0],
        cos * stretch[1],
        move[1],
    )
    theta = torch.stack(rows, 1).view(-1, 2, 3).to(x.device)
    size = [len(x), 1, *x.shape[-2:]]
    with torch.autocast(x.device.type, enabled=False):  # it would round places
        return torch.nn.functional.affine_grid(theta, size, align_corners=False)


def random_shift(pixels: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Augmentation: move each image by up to `pixels` in both directions, edges
    repeated.
    """

    def shift(x: Tensor, generator: torch.Generator) -> Tensor:
        b, _, h, w = x.shape
        dy, dx = torch.randint(-pixels, pixels + 1, (2, b, 1), generator=generator).to(
            x.device
        )
        rows = (torch.arange(h, device=x.device) + dy).clamp(0, h - 1)  # (B, H)
        cols = (torch.arange(w, device=x.device) + dx).clamp(0, w - 1)  # (B, W)
        n = torch.arange(b, device=x.device)[:, None, None]
        return x.transpose(0, 1)[:, n, rows[:, :, None], cols[:, None, :]].transpose(
            0, 1
        )

    return shift

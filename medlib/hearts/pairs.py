"""Two moments of one heart as pairs of images, and masks carried from one to the other
by a field of motion (medlib.hearts.motion).

Pairs come from patients (end-diastole and end-systole) or from the phantom's cine. No
mask is needed to make a pair. Chapter 20.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlib import metrics
from medlib.data import Dataset, Split
from medlib.hearts.cohorts import LABELS, Patient, masks_of
from medlib.hearts.motion import warp
from medlib.hearts.phantom import phantom
from medlib.hearts.square import PIXEL, prepare, standardise_scan, window

SIDE, FIELD = 96, 128 * PIXEL  # pixels and mm of the square around the heart
MM = FIELD / SIDE  # of one of its pixels

# ---------------------------------------------------------------- pairs


def pair(patient: Patient, *, side: int = SIDE, field: float = FIELD) -> Tensor:
    """(D, 2, side, side): each slice at ED and at ES, cut to `field` mm around the
    heart and standardised together.
    """
    both = prepare(patient, window(patient, side, field))  # (2 D, 1, side, side)
    return torch.cat(both.chunk(2), 1)


def dataset(
    train: list[Tensor], val: list[Tensor], *, name: str, source: str
) -> Dataset:
    """Pairs (D, 2, H, W) for `medlib.fit`: those of `train` in both directions, ED to
    ES and back. There is nothing to label, so all labels are 0. `name` and `source`:
    those of the cohort that the pairs were made of, or "phantom" and "simulated".
    """

    def unlabelled(x: Tensor) -> Split:
        return Split(x, torch.zeros(len(x), *x.shape[2:], dtype=torch.long))

    both_ways = unlabelled(torch.cat([*train, *(p.flip(1) for p in train)]))
    watched, tested = unlabelled(torch.cat(val)), unlabelled(val[0])
    return Dataset(name, ("no label",), both_ways, watched, tested, source)


def phantom_pairs(
    patients: int,
    *,
    seed: int,
    phases: tuple[float, ...] = (0.0, 0.35),
    depth: int = 10,
) -> list[Tensor]:
    """Phantoms' slices, prepared as a patient's: one (D, 2, SIDE, SIDE) a heart and a
    later phase, from phase 0 to it.
    """
    hearts = phantom(
        patients,
        seed=seed,
        phases=phases,
        shape=(depth, SIDE, SIDE),
        spacing=(10.0, MM, MM),
    )
    return [
        torch.stack((x[0], x[t]), 1)
        for x in map(standardise_scan, hearts.image)
        for t in range(1, len(phases))
    ]


# ---------------------------------------------------------------- masks carried along


def carry(mask: Tensor, u: Tensor) -> Tensor:
    """Mask (D, H, W) of the earlier moment → of the later one: each label is drawn
    through u (D, 2, H, W) as an image, and the largest wins, so that outlines move by
    less than a pixel too.
    """
    layers = F.one_hot(mask.long(), len(LABELS)).movedim(-1, 1).float()
    return warp(layers, u).argmax(1).to(mask.dtype)


def on_scanner(u: Tensor, patient: Patient) -> Tensor:
    """A field on the patient's square (D, 2, side, side) → on the scanner's grid (D, 2,
    H, W), in its pixels; no motion outside the square.
    """
    cut = window(patient, u.shape[-1], FIELD)
    step = torch.tensor(cut.step, dtype=u.dtype).view(2, 1, 1)
    return cut.paste(u) * step * torch.from_numpy(cut.covers()).to(u)


def carried_dice(u: Tensor, patient: Patient) -> np.ndarray:
    """(3,): Dice of RV, myocardium and LV between the ED mask carried to ES by u (D, 2,
    side, side) and the ES mask, over the volume, on the scanner's grid.

    Raises DataError for a patient without masks.
    """
    ed, es = masks_of(patient)
    there = on_scanner(u.cpu().float(), patient)
    found = carry(torch.from_numpy(ed), there).numpy()
    return np.array([metrics.dice(found == k, es == k) for k in (1, 2, 3)])

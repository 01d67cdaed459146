"""Moments of one heart as pairs of images, and masks carried from one to the other by a
field of motion.

Pairs come from ACDC-style patients (end-diastole and end-systole), from the phantom's
cine, or from the motion challenge of Tobon-Gomez et al., "Benchmarking framework for
myocardial tracking and deformation algorithms", Medical Image Analysis 17, 2013: one
volunteer's cine with landmarks by two observers. No mask is needed to make a pair.
Fields: medlib.motion. Chapter 20.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlib import cardiac, data, metrics
from medlib.cardiac import LABELS, PIXEL, Patient, Volume, Window
from medlib.data import DataError, Dataset, Split
from medlib.motion import warp

SIDE, FIELD = 96, 128 * PIXEL  # pixels and mm of the square around the heart
MM = FIELD / SIDE  # of one of its pixels

# ---------------------------------------------------------------- pairs


def pair(patient: Patient, *, side: int = SIDE, field: float = FIELD) -> Tensor:
    """(D, 2, side, side): each slice at ED and at ES, cut to `field` mm around the
    heart and standardised together.
    """
    return torch.cat(
        cardiac.prepare(patient, cardiac.window(patient, side, field)).chunk(2), 1
    )


def dataset(train: list[Tensor], val: list[Tensor]) -> Dataset:
    """Pairs (D, 2, H, W) for `medlib.fit`: those of `train` in both directions, ED to
    ES and back. There is nothing to label, so all labels are 0.
    """
    parts = [torch.cat([*train, *(p.flip(1) for p in train)]), torch.cat(val), val[0]]
    splits = [
        Split(x, torch.zeros(len(x), *x.shape[2:], dtype=torch.long)) for x in parts
    ]
    return Dataset(
        "pairs", ("no label",), *splits, data.loaded.get("acdc", "simulated")
    )


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
    from medlib.phantom import phantom

    hearts = phantom(
        patients,
        seed=seed,
        phases=phases,
        shape=(depth, SIDE, SIDE),
        spacing=(10.0, MM, MM),
    )
    return [
        torch.stack((x[0], x[t]), 1)
        for x in map(cardiac.standardise, hearts.image)
        for t in range(1, len(phases))
    ]


# ---------------------------------------------------------------- masks carried along


def carry(mask: Tensor, u: Tensor) -> Tensor:
    """Mask (D, H, W) of the earlier moment → of the later one: each label is drawn
    through u (D, 2, H, W) as an image, and the largest wins, so that outlines move by
    less than a pixel too.
    """
    return (
        warp(F.one_hot(mask.long(), len(LABELS)).movedim(-1, 1).float(), u)
        .argmax(1)
        .to(mask.dtype)
    )


def on_scanner(u: Tensor, patient: Patient) -> Tensor:
    """A field on the patient's square (D, 2, side, side) → on the scanner's grid (D, 2,
    H, W), in its pixels; no motion outside the square.
    """
    cut = cardiac.window(patient, u.shape[-1], FIELD)
    step = torch.tensor(cut.step, dtype=u.dtype).view(2, 1, 1)
    return cut.paste(u) * step * torch.from_numpy(cut.covers()).to(u)


def dice(u: Tensor, patient: Patient) -> np.ndarray:
    """(3,): Dice of RV, myocardium and LV between the ED mask carried to ES by u (D, 2,
    side, side) and the ES mask, over the volume, on the scanner's grid.
    """
    cardiac.need_masks(patient)
    found = carry(
        torch.from_numpy(patient.ed.mask), on_scanner(u.cpu().float(), patient)
    ).numpy()
    return np.array([metrics.dice(found == k, patient.es.mask == k) for k in (1, 2, 3)])


# ---------------------------------------------------------------- the motion challenge


class Cine(NamedTuple):
    """One volunteer's beat."""

    image: np.ndarray  # (T, D, H, W) float32
    spacing: tuple[float, float, float]  # mm
    landmarks: np.ndarray  # (2 observers, phases, points, 3): slice, row, column


def cmac() -> Cine:
    """The volunteer of the motion challenge, from data/cache/cmac or
    MEDLIB_MIRROR/cmac; nothing is downloaded.

    Raises Unreachable where there is no such folder, DataError where it is damaged.
    """
    place, source = data.folder("cmac")
    phases = [
        cardiac.nifti(place, f"t{t:02}")
        for t in range(1, 1 + len(list(place.glob("t[0-9][0-9].nii.gz"))))
    ]
    if not phases or any(p is None or p[0].shape != phases[0][0].shape for p in phases):
        raise DataError(
            f"cmac: {len(phases)} phases; the rule: t01.nii.gz, t02.nii.gz, … of one "
            "shape"
        )
    spacing = phases[0][1]
    points = [_observer(place / "LMKS_GT" / "INRIA_COORDINATES", k) for k in (1, 2)]
    if points[0].shape != points[1].shape:
        raise DataError(
            f"cmac: landmarks {points[0].shape} and {points[1].shape}; the rule: "
            "alike for both observers"
        )
    data.loaded["cmac"] = source
    # The files count x and y the other way round than the voxels, whatever the image's
    # header says.
    voxels = np.stack(points)[..., ::-1] * (1, -1, -1) / spacing
    return Cine(np.stack([p[0] for p in phases]), spacing, voxels)


def _observer(folder: Path, k: int) -> np.ndarray:
    """(phases, points, 3) as written: x, y, z in mm."""
    files = sorted(folder.glob(f"obs{k}_groundTruth[0-9][0-9].vtk"))
    frames = []
    for file in files:
        text = re.search(
            r"POINTS\s+(\d+)\s+\w+\s([-+.\deE\s]*)", file.read_text(errors="replace")
        )
        values = np.array(text[2].split(), dtype=float) if text else np.zeros(0)
        if not text or len(values) != 3 * int(text[1]):
            raise DataError(
                f"cmac: {file.name} holds {len(values)} numbers; the rule: POINTS n, "
                "then 3 n of them"
            )
        frames.append(values.reshape(-1, 3))
    if not frames or len({f.shape for f in frames}) > 1:
        raise DataError(
            f"cmac: observer {k} has {len(frames)} files; the rule: one a phase, as "
            "many points in each"
        )
    return np.stack(frames)


def beat(
    cine: Cine, es: int, *, side: int = SIDE, field: float = FIELD
) -> tuple[Tensor, Window]:
    """(T, D, 1, side, side): every phase cut around the heart, found by what moves from
    phase 0 to `es`, and the window.
    """
    first, last = (Volume(cine.image[t], None, cine.spacing) for t in (0, es))
    cut = cardiac.window(Patient("cine", "", first, last), side, field)
    frames = torch.stack([cut.cut(torch.from_numpy(v)[:, None]) for v in cine.image])
    return cardiac.standardise(frames), cut

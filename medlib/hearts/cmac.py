"""The motion challenge of Tobon-Gomez et al., "Benchmarking framework for myocardial
tracking and deformation algorithms", Medical Image Analysis 17, 2013: one volunteer's
cine with landmarks by two observers. Chapter 20.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medlib import fetch
from medlib.data import DataError
from medlib.hearts.acdc import read_nifti
from medlib.hearts.cohorts import Patient, Volume
from medlib.hearts.pairs import FIELD, SIDE
from medlib.hearts.square import Window, standardise_scan, window
from medlib.notes import note


class Cine(NamedTuple):
    """One volunteer's beat."""

    image: np.ndarray  # (T, D, H, W) float32
    spacing: tuple[float, float, float]  # mm
    landmarks: np.ndarray  # (2 observers, phases, points, 3): slice, row, column


def load_cmac() -> Cine:
    """The volunteer of the motion challenge, from the cache or MEDLIB_MIRROR/cmac;
    nothing is downloaded.

    Raises Unreachable where there is no such folder, DataError where it is damaged.
    """
    place, source = fetch.folder("cmac")
    count = len(list(place.glob("t[0-9][0-9].nii.gz")))
    read = (read_nifti(place, f"t{t:02}") for t in range(1, count + 1))
    phases = [phase for phase in read if phase is not None]
    shapes = {image.shape for image, _ in phases}
    if len(phases) < count or len(shapes) != 1:
        raise DataError(
            f"cmac: {len(phases)} phases of {len(shapes)} shapes; expected t01.nii.gz, "
            "t02.nii.gz, … of one shape"
        )
    spacing = phases[0][1]
    points = [_observer(place / "LMKS_GT" / "INRIA_COORDINATES", k) for k in (1, 2)]
    if points[0].shape != points[1].shape:
        raise DataError(
            f"cmac: landmarks {points[0].shape} and {points[1].shape}; expected "
            "alike for both observers"
        )
    note("loaded", name="cmac", source=source)
    # The files count x and y the other way round than the voxels, whatever the image's
    # header says.
    voxels = np.stack(points)[..., ::-1] * (1, -1, -1) / spacing
    return Cine(np.stack([image for image, _ in phases]), spacing, voxels)


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
                f"cmac: {file.name} holds {len(values)} numbers; expected POINTS n, "
                "then 3 n of them"
            )
        frames.append(values.reshape(-1, 3))
    if not frames or len({f.shape for f in frames}) > 1:
        raise DataError(
            f"cmac: observer {k} has {len(frames)} files; expected one a phase, as "
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
    cut = window(Patient("cine", "", first, last), side, field)
    frames = torch.stack([cut.cut(torch.from_numpy(v)[:, None]) for v in cine.image])
    return standardise_scan(frames), cut

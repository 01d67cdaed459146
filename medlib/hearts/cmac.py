"""The motion challenge of Tobon-Gomez et al., "Benchmarking framework for myocardial
tracking and deformation algorithms", Medical Image Analysis 17, 2013: one volunteer's
cine with landmarks by two observers. Chapter 20.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medlib import fetch
from medlib.data import DataError
from medlib.hearts.cohorts import Cine, Patient, Volume
from medlib.hearts.grid import AS_STORED, as_image, expect_together, read_nifti
from medlib.hearts.pairs import FIELD, SIDE
from medlib.hearts.square import Window, standardise_scan, window
from medlib.notes import note


def load_cmac() -> Cine:
    """The volunteer of the motion challenge, from the cache, MEDLIB_MIRROR/cmac or
    upstream (27 MB).

    Raises Unreachable where nothing is to be had, DataError where it is damaged.
    """
    place, source = fetch.folder("cmac")
    files = sorted(place.glob("t[0-9][0-9].nii.gz"))
    phases = [read_nifti(file) for file in files]
    shapes = {voxels.shape for voxels, _ in phases}
    gap = any(f.name != f"t{t:02}.nii.gz" for t, f in enumerate(files, 1))
    if gap or len(shapes) != 1:
        raise DataError(
            f"cmac: {len(phases)} phases of {len(shapes)} shapes"
            f"{', with a gap' if gap else ''}; expected t01.nii.gz, t02.nii.gz, … of "
            "one shape"
        )
    first, grid = phases[0]
    for file, (_, other) in zip(files, phases, strict=True):
        expect_together(("t01.nii.gz", file.name), grid, other, first.shape)
    # As the files store them: landmarks count along these axes, whatever the image's
    # header says.
    grid = replace(grid, turn=AS_STORED)
    image = np.stack(
        [
            grid.to_array(as_image(file.name, voxels))
            for file, (voxels, _) in zip(files, phases, strict=True)
        ]
    )
    points = [_observer(place / "LMKS_GT" / "INRIA_COORDINATES", k) for k in (1, 2)]
    if points[0].shape != points[1].shape:
        raise DataError(
            f"cmac: landmarks {points[0].shape} and {points[1].shape}; expected "
            "alike for both observers"
        )
    note("loaded", name="cmac", source=source)
    # They count x and y the other way round than the voxels.
    voxels = np.stack(points)[..., ::-1] * (1, -1, -1) / grid.spacing
    return Cine(image, grid.spacing, grid, landmarks=voxels)


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

"""Folders laid out as ACDC is, written for tests."""

from pathlib import Path

import numpy as np

from medlib import hearts

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")


def write(
    folder,
    name="patient001",
    group="NOR",
    *,
    seed=0,
    spacing=(1.5, 1.5, 10),
    shape=(3, 120, 110),
    masks=True,
):
    """One patient in ACDC's layout: a bright disc that shrinks while all else rests.
    Rows run towards the left and columns towards the back, as DICOM's do.
    """
    import nibabel

    place = folder / name
    place.mkdir(parents=True)
    (place / "Info.cfg").write_text(f"ED: 1\nES: 9\nGroup: {group}\nHeight: 170.0\n")
    rng = np.random.default_rng(seed)
    row, column = np.indices(shape[1:])
    far = np.hypot(row - 55, column - 65)
    for frame, radius in ((1, 12), (9, 7)):
        mask = np.zeros(shape, np.uint8)
        mask[:, far < radius + 5] = 2
        mask[:, far < radius] = 3
        mask[:, (far < radius) & (column < 62)] = 1
        image = 100 * (mask == 3) + 5 * rng.random(shape)
        for suffix, voxels in (("", image.astype(np.int16)), ("_gt", mask))[
            : 1 + masks
        ]:
            scan = nibabel.Nifti1Image(
                voxels.transpose(2, 1, 0),
                np.diag((-spacing[0], -spacing[1], spacing[2], 1)),
            )
            nibabel.save(scan, place / f"{name}_frame{frame:02}{suffix}.nii.gz")
    return place


def ten_hearts(folder: Path) -> hearts.Cohort:
    """Ten patients, two of each diagnosis."""
    for k in range(10):
        write(folder, f"patient{k:03}", GROUPS[k % 5], seed=k)
    return hearts.read_patients(folder)

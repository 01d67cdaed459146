"""Hearts: one subject, one room, with all that is particular to cardiac MRI.

acdc         hearts.load(): ACDC, or any folder laid out as it is
sunnybrook   hearts of another hospital, to test on
dicom        any cine in DICOM: read_dicom(folder or zip)
cmac         one volunteer's beat, with landmarks
grid         where voxels lie, in mm; masks written back into a file's own geometry
cohorts      patients together, with their name and source; folds by patient
square       spacing, the heart's centre, the square around it, slices and stacks
segmentation masks of whole volumes from a network, and their Dice
pairs        two moments of a heart as pairs, and masks carried between them
function     volumes, ejection fraction, wall thickness
motion       fields of motion: along them, chained, run backwards; strain
phantom      a beating heart whose masks, volumes and motion are known exactly
"""

from importlib import import_module

_HOME = {  # name → module; imported on first use: the phantom needs no training
    "load": "acdc", "read_cine": "acdc", "read_patient": "acdc",
    "read_patients": "acdc",
    "load_sunnybrook": "sunnybrook", "read_sunnybrook": "sunnybrook",
    "read_dicom": "dicom", "beat": "cmac", "load_cmac": "cmac",
    "Cine": "cohorts", "Cohort": "cohorts", "LABELS": "cohorts", "Patient": "cohorts",
    "Volume": "cohorts", "drawn": "cohorts", "folds": "cohorts", "masks_of": "cohorts",
    "shuffled": "cohorts", "split": "cohorts",
    "PIXEL": "square", "Window": "square", "blocks": "square", "centre": "square",
    "moments": "square", "prepare": "square", "slices": "square", "spacing": "square",
    "stacks": "square", "standardise_scan": "square", "window": "square",
    "Grid": "grid", "write_mask": "grid",
    "RECIPE": "segmentation", "dice_of_patients": "segmentation",
    "score": "segmentation", "segment": "segmentation",
}  # fmt: skip
__all__ = [*_HOME]  # noqa: PLE0604


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"medlib.hearts.{_HOME[name]}"), name)
    raise AttributeError(f"module 'medlib.hearts' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

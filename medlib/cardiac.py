"""Cardiac MRI: reading short-axis stacks, splitting patients, preparing slices,
segmenting volumes.

`load()` finds ACDC (Bernard et al., TMI 37, 2018) or any folder laid out as ACDC is:

    patientNNN/Info.cfg                      ED: 1, ES: 12, Group: DCM (frame numbers
                                             and diagnosis)
    patientNNN/patientNNN_frame01.nii.gz     the image at end-diastole (ED), the largest
                                             left ventricle
    patientNNN/patientNNN_frame01_gt.nii.gz  its mask: 0 background, 1 RV, 2 myocardium,
                                             3 LV; may be absent

Volumes have axes (D, H, W) and spacing in mm in that order. Nothing here looks at a
mask to decide where the heart is or how an image is scaled, so patients without masks
are treated as those with them.
"""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlib import data, losses
from medlib.data import DataError, Dataset, Split, random_affine, warp
from medlib.metrics import dice as _dice

LABELS = ("background", "RV", "myocardium", "LV")
PIXEL = 1.5625  # mm; what ACDC's images have, give or take a tenth
FIELD = 550  # mm; no image of a chest is wider, and few scanners are
USUAL = 400  # mm; the usual longer side of ACDC's images
LARGEST = 2**27  # voxels; a header that claims more is wrong
GZIP = 1040  # bytes at most that one byte of a gzipped file stands for
# what `medlib.fit` takes for a U-Net on hearts; chosen on validation patients
RECIPE = {
    "lr": 5e-3, "batch_size": 16, "loss": losses.dice_ce, "score": losses.mean_dice, "augment": random_affine(),
    "validations": 1, "keep": "last",
}  # fmt: skip


class Volume(NamedTuple):
    image: np.ndarray  # (D, H, W) float32, the scanner's intensities
    mask: np.ndarray | None  # (D, H, W) uint8, index in LABELS
    spacing: tuple[float, float, float]  # mm, as the header says


class Patient(NamedTuple):
    name: str
    group: str  # the diagnosis: NOR, DCM, HCM, MINF or RV
    ed: Volume
    es: Volume


# ---------------------------------------------------------------- reading


def load(folder: str | Path | None = None) -> list[Patient]:
    """Patients from `folder` or MEDLIB_DATA, any folder laid out as ACDC is; else
    ACDC's, from data/cache/acdc or MEDLIB_MIRROR/acdc; if there are none, phantoms,
    under a banner that says so. ACDC asks for a registration, so nothing is downloaded.
    """
    folder = folder or os.environ.get("MEDLIB_DATA")
    if folder and not Path(folder).expanduser().is_dir():
        raise DataError(
            f"{folder} is not a folder; the rule: it holds patientNNN/ folders"
        )
    try:
        place, data.loaded["acdc"] = (
            (Path(folder).expanduser(), "folder") if folder else data.folder("acdc")
        )
        return read(place)
    except data.Unreachable as error:
        data.loaded["acdc"] = "stand-in"
        data.banner("acdc", str(error))
        return _phantoms()


def read(folder: str | Path) -> list[Patient]:
    """Every patient at any depth under `folder`, by name.

    Raises DataError that names the patient and the fault.
    """
    folder = Path(folder)
    found = {p.parent for p in folder.rglob("Info.cfg")} | {
        p for p in folder.rglob("patient*") if p.is_dir()
    }
    if not found:
        raise DataError(
            f"{folder}: no patient; the rule: folders patientNNN/ with an Info.cfg each"
        )
    return [read_patient(place) for place in sorted(found, key=lambda p: p.name)]


def read_patient(folder: str | Path) -> Patient:
    """One patient's folder. Raises DataError that names the patient and the fault."""
    folder = Path(folder)
    info = folder / "Info.cfg"
    if not info.is_file():
        raise DataError(
            f"{folder.name}: no Info.cfg; the rule: it holds the lines ED:, ES: and "
            "Group:"
        )
    lines = (
        line.split(":", 1)
        for line in info.read_text(errors="replace").splitlines()
        if ":" in line
    )
    fields = {key.strip(): value.strip() for key, value in lines}
    for key in ("ED", "ES", "Group"):
        if not fields.get(key) or (key != "Group" and not fields[key].isdecimal()):
            raise DataError(
                f"{folder.name}: Info.cfg has {key}: {fields.get(key)!r}; the rule: "
                "ED and ES are frame numbers, "
                "Group is the diagnosis"
            )
    ed, es = (_volume(folder, int(fields[key])) for key in ("ED", "ES"))
    return Patient(folder.name, fields["Group"], ed, es)


def _volume(folder: Path, frame: int) -> Volume:
    stem = f"{folder.name}_frame{frame:02}"
    found, drawn = nifti(folder, stem), nifti(folder, stem + "_gt")
    if not found:
        raise DataError(
            f"{folder.name}: no file {stem}.nii.gz, which Info.cfg speaks of"
        )
    image, spacing = found
    if not drawn:
        return Volume(image, None, spacing)
    mask, _ = drawn
    if mask.shape != image.shape:
        raise DataError(
            f"{folder.name}: frame {frame} has an image of {image.shape} and a mask "
            f"of {mask.shape} voxels"
        )
    labels = np.unique(mask)
    if not np.isin(labels, range(len(LABELS))).all():
        raise DataError(
            f"{folder.name}: frame {frame} has mask labels {labels[:9]}; the rule: 0, "
            "1, 2, 3"
        )
    return Volume(image, mask.astype(np.uint8), spacing)


def nifti(
    folder: Path, stem: str
) -> tuple[np.ndarray, tuple[float, float, float]] | None:
    """Voxels (D, H, W) and spacing; None where there is no such file."""
    import nibabel

    files = [
        path
        for suffix in (".nii.gz", ".nii")
        if (path := folder / (stem + suffix)).is_file()
    ]
    if not files:
        return None
    try:
        scan = nibabel.load(files[0])
        shape, spacing = (
            scan.shape,
            tuple(float(mm) for mm in scan.header.get_zooms()[:3][::-1]),
        )
        if len(shape) != 3 or not 0 < np.prod(shape, dtype=float) <= LARGEST:
            raise DataError(
                f"{folder.name}: {files[0].name} has the shape {shape}; the rule: (W, "
                "H, D)"
            )
        if (
            np.prod(shape) * scan.get_data_dtype().itemsize
            > GZIP * files[0].stat().st_size
        ):
            raise DataError(
                f"{folder.name}: {files[0].name} has the shape {shape}, and is too "
                "short for that"
            )
        voxels = np.asarray(scan.dataobj, np.float32).transpose(2, 1, 0)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 — whatever nibabel, gzip or zlib make of a damaged file
        raise DataError(
            f"{folder.name}: {files[0].name} cannot be read ({error}); fetch it anew"
        ) from None
    if not np.isfinite(voxels).all():
        raise DataError(f"{folder.name}: {files[0].name} holds NaN or infinity")
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise DataError(
            f"{folder.name}: {files[0].name} has the spacing {spacing} mm; the rule: "
            "above 0"
        )
    return np.ascontiguousarray(voxels), spacing


def _phantoms() -> list[Patient]:
    from medlib.phantom import GROUPS, phantom

    hearts = phantom(20, shape=(8, 160, 160))

    def volume(k: int, phase: int) -> Volume:
        return Volume(
            hearts.image[k, phase].numpy(),
            hearts.mask[k, phase].numpy(),
            hearts.spacing,
        )

    groups = [GROUPS[g] for g in hearts.group.tolist()]
    return [
        Patient(f"phantom{k:03}", group, volume(k, 0), volume(k, 1))
        for k, group in enumerate(groups)
    ]


# ---------------------------------------------------------------- splitting


def shuffled(patients: list[Patient], seed: int = 0) -> list[Patient]:
    """The patients in an order of which every beginning keeps the shares of the
    diagnoses.
    """
    rng, place = np.random.default_rng(seed), {}
    for group in sorted({p.group for p in patients}):
        members = [p.name for p in patients if p.group == group]
        places = (np.arange(len(members)) + rng.random()) / len(members)
        place |= dict(zip(rng.permutation(members), places, strict=True))
    return sorted(patients, key=lambda p: place[p.name])


def folds(patients: list[Patient], k: int = 5, *, seed: int = 0) -> list[list[Patient]]:
    """`k` groups of patients, alike in size and in diagnoses. Copies of one image stay
    in one group: ACDC's patient074 and patient076 are one scan under two names.
    """
    parts, home = [[] for _ in range(k)], {}
    unique = {p.ed.image.tobytes(): p for p in reversed(patients)}
    dealt = sorted(shuffled(list(unique.values()), seed), key=lambda p: p.group)
    for i, patient in enumerate(dealt):
        home[patient.ed.image.tobytes()] = parts[i % k]
    for patient in patients:
        home[patient.ed.image.tobytes()].append(patient)
    return parts


def split(
    patients: list[Patient], *, seed: int = 0
) -> tuple[list[Patient], list[Patient], list[Patient]]:
    """Training, validation and test patients: three, one and one of five `folds`."""
    if len(patients) < 5:
        raise DataError(
            f"{len(patients)} patients; the rule: five or more, to split them"
        )
    a, b, c, val, test = folds(patients, seed=seed)
    return a + b + c, val, test


# ---------------------------------------------------------------- preparing


def spacing(patient: Patient) -> tuple[float, float]:
    """mm a pixel (row, column): the header's, unless they make the image wider than a
    chest. Then the header is wrong, and a longer side of 400 mm is assumed, with a
    warning.
    """
    volume = patient.ed
    field = max(
        n * mm for n, mm in zip(volume.image.shape[1:], volume.spacing[1:], strict=True)
    )
    if field <= FIELD:
        return volume.spacing[1:]
    warnings.warn(
        f"{patient.name}: the header's spacing makes the image {field:.0f} mm wide, "
        "which no heart scan is; "
        f"taken as {USUAL} mm",
        stacklevel=2,
    )
    return tuple(mm * USUAL / field for mm in volume.spacing[1:])


def centre(
    patient: Patient, mm: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Where the heart is, as (row, column): the place where ED and ES differ most,
    blurred to the size of a heart, and rather near the middle of the image. No mask is
    looked at. `mm`: a pixel's, by default `spacing`.
    """
    from scipy.ndimage import gaussian_filter

    shape, mm = patient.ed.image.shape[1:], np.array(mm or spacing(patient))
    row, column = np.indices(shape)
    middle = (np.array(shape) - 1) / 2
    away = np.hypot((row - middle[0]) * mm[0], (column - middle[1]) * mm[1])
    ed, es = moments(patient)
    moving = gaussian_filter(np.abs(ed - es).mean(0), 3 / mm)
    place = gaussian_filter(moving * np.exp(-((away / 94) ** 2) / 2), 31 / mm).argmax()
    # Half-way between pixels, so that an even number of pixels of the same size needs
    # no interpolation.
    return tuple(float(i) + 0.5 for i in np.unravel_index(place, shape))


def moments(patient: Patient) -> np.ndarray:
    """(2, D, H, W) float32: ED and ES, each divided by the grey value that one voxel in
    a hundred exceeds, since there are files that store the two on different scales.
    """
    volumes = [v.image for v in (patient.ed, patient.es)]
    if volumes[0].shape != volumes[1].shape:
        raise DataError(
            f"{patient.name}: ED {volumes[0].shape}, ES {volumes[1].shape} voxels; "
            "the rule: alike"
        )
    return np.stack([v / max(float(np.quantile(v, 0.99)), 1e-6) for v in volumes])


class Window(NamedTuple):
    """A square that is cut out of each slice, and how to go back."""

    centre: tuple[float, float]
    step: tuple[float, float]  # pixels of the scanner for one of ours (row, column)
    side: int
    shape: tuple[int, int]  # of the scanner's slices

    def cut(self, x: Tensor) -> Tensor:
        """On the scanner's grid (D, C, H, W) → (D, C, side, side); masks (D, H, W) →
        (D, side, side).
        """
        ours = torch.arange(self.side) - (self.side - 1) / 2
        return _sample(
            x, [c + ours * s for c, s in zip(self.centre, self.step, strict=True)]
        )

    def paste(self, x: Tensor) -> Tensor:
        """(D, C, side, side) → (D, C, H, W) on the scanner's grid; outside the square,
        its edge.
        """
        theirs = zip(self.shape, self.centre, self.step, strict=True)
        return _sample(
            x, [(torch.arange(n) - c) / s + (self.side - 1) / 2 for n, c, s in theirs]
        )

    def covers(self) -> np.ndarray:
        """(H, W) bool: the scanner's pixels inside the square."""
        theirs = zip(self.shape, self.centre, self.step, strict=True)
        inside = [np.abs(np.arange(n) - c) <= self.side / 2 * s for n, c, s in theirs]
        return inside[0][:, None] & inside[1]


def _sample(x: Tensor, places: list[Tensor]) -> Tensor:
    """Images or masks at the rows and columns in `places`, which may lie between
    pixels.
    """
    row, column = (
        (2 * p.float() + 1) / n - 1 for p, n in zip(places, x.shape[-2:], strict=True)
    )
    grid = torch.stack(
        torch.meshgrid(row, column, indexing="ij")[::-1], -1
    )  # `warp` wants (x, y)
    return warp(x, grid.to(x.device).expand(len(x), -1, -1, -1))


def window(patient: Patient, side: int = 128, field: float = 128 * PIXEL) -> Window:
    """The square of `field` mm around the heart, as `side` × `side` pixels."""
    mm = spacing(patient)
    step = tuple(field / side / length for length in mm)
    return Window(centre(patient, mm), step, side, patient.ed.image.shape[1:])


def prepare(patient: Patient, cut: Window) -> Tensor:
    """(2 D, 1, side, side): the slices of ED, then of ES, clipped and standardised
    together.
    """
    stack = torch.from_numpy(moments(patient)).flatten(0, 1)[:, None]
    blur = max(cut.step) / 2  # fewer pixels than the scanner's: average them first
    if blur > 0.75:
        size = 2 * round(blur) + 1
        stack = F.avg_pool2d(stack, size, 1, size // 2, count_include_pad=False)
    return standardise(cut.cut(stack))


def standardise(x: Tensor) -> Tensor:
    """Clip to the middle 98 % of the grey values; mean 0, standard deviation 1."""
    low, high = np.quantile(x.numpy(), (0.01, 0.99))
    x = x.clamp(float(low), float(high))
    return (x - x.mean()) / x.std().clamp(min=1e-6)


def slices(
    train: list[Patient],
    val: list[Patient],
    test: list[Patient],
    *,
    side: int = 128,
    field: float = 128 * PIXEL,
) -> Dataset:
    """Slices of ED and ES, cut to a square of `field` mm around the heart and `side`
    pixels.

    Images (N, 1, side, side), standardised patient by patient; masks (N, side, side)
    int64.
    """
    parts = [_split(patients, side, field) for patients in (train, val, test)]
    return Dataset("acdc", LABELS, *parts, data.loaded.get("acdc", "folder"))


def stacks(
    train: list[Patient],
    val: list[Patient],
    test: list[Patient],
    *,
    depth: int = 8,
    side: int = 128,
    field: float = 128 * PIXEL,
) -> Dataset:
    """As `slices`, in blocks of `depth` neighbouring slices of one moment, for networks
    that see them together.

    Images (N, 1, depth, side, side), masks (N, depth, side, side). A longer stack gives
    as few blocks as cover it, spread evenly; a shorter one is filled up with empty
    slices, which are background.
    """
    parts = [_split(patients, side, field, depth) for patients in (train, val, test)]
    return Dataset("acdc", LABELS, *parts, data.loaded.get("acdc", "folder"))


def _blocks(x: Tensor, depth: int) -> Tensor:
    """(2 D, …) slices of ED and ES → (N, depth, …)."""
    moments = x.unflatten(0, (2, -1))
    d = moments.shape[1]
    if d < depth:
        empty = moments.new_zeros(2, depth - d, *x.shape[1:])
        return torch.cat((moments, empty), 1)
    starts = torch.linspace(0, d - depth, -(-d // depth)).round().int().tolist()
    return torch.cat([moments[:, s : s + depth] for s in starts])


def need_masks(patient: Patient) -> None:
    """Raise DataError unless there are masks at ED and ES."""
    if patient.ed.mask is None or patient.es.mask is None:
        raise DataError(
            f"{patient.name}: no mask (…_gt.nii.gz); the rule: training and scoring "
            "need one"
        )


def drawn(patients: list[Patient]) -> list[Patient]:
    """Those with masks at ED and ES; a warning names the others, which are left out."""
    kept = [p for p in patients if p.ed.mask is not None and p.es.mask is not None]
    if left_out := sorted({p.name for p in patients} - {p.name for p in kept}):
        warnings.warn(
            f"left out, since they have no masks: {', '.join(left_out)}", stacklevel=2
        )
    return kept


def _split(patients: list[Patient], side: int, field: float, depth: int = 0) -> Split:
    images, masks = [], []
    for patient in patients:
        need_masks(patient)
        cut = window(patient, side, field)
        x = prepare(patient, cut)
        labels = torch.from_numpy(np.concatenate((patient.ed.mask, patient.es.mask)))
        y = cut.cut(labels).long()
        images.append(_blocks(x, depth).transpose(1, 2) if depth else x)
        masks.append(_blocks(y, depth) if depth else y)
    return Split(torch.cat(images), torch.cat(masks))


# ---------------------------------------------------------------- segmenting


@torch.no_grad()
def segment(
    model: nn.Module,
    patient: Patient,
    *,
    side: int = 128,
    field: float = 128 * PIXEL,
    whole: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks at ED and ES, (D, H, W) uint8 on the scanner's grid. `side`, `field`: as
    the model was trained. `whole`: it takes whole stacks, (B, 1, D, H, W), rather than
    slices.

    The network's probabilities go back to the scanner's pixels; outside the square all
    is background.
    """
    from medlib.train import predict

    cut = window(patient, side, field)
    x = prepare(patient, cut)
    if whole:
        logits = (
            predict(model, x.view(2, 1, -1, side, side)).transpose(1, 2).flatten(0, 1)
        )
    else:
        logits = predict(model, x)
    chances = logits.softmax(1).cpu()
    labels = cut.paste(chances).argmax(1).numpy().astype(np.uint8) * cut.covers()
    return labels[: len(labels) // 2], labels[len(labels) // 2 :]


def dice(model: nn.Module, patients: list[Patient], **square) -> np.ndarray:
    """(patients, 2, 3): Dice at ED and ES of RV, myocardium and LV, volume by volume on
    the scanner's grid.
    """
    return np.array([score(segment(model, p, **square), p) for p in patients])


def score(masks, patient: Patient) -> np.ndarray:
    """(2, 3): Dice of two masks, at ED and ES, against the patient's own, for RV,
    myocardium and LV.
    """
    need_masks(patient)
    pairs = list(zip(masks, (patient.ed, patient.es), strict=True))
    return np.array(
        [[_dice(m == k, v.mask == k) for k in range(1, len(LABELS))] for m, v in pairs]
    )

"""Patients together: a cohort says who they are and where they came from, and what is
made of it, folds, slices or stacks, says so too.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

import numpy as np

from medlib.data import DataError
from medlib.hearts.grid import Grid

LABELS = ("background", "RV", "myocardium", "LV")


class Volume(NamedTuple):
    image: np.ndarray  # (D, H, W) float32, the scanner's intensities
    mask: np.ndarray | None  # (D, H, W) uint8, index in LABELS
    spacing: tuple[float, float, float]  # mm, what can be believed of the header's
    grid: Grid | None = None  # the way back into the file; None where there is none


class Patient(NamedTuple):
    name: str
    group: str  # the diagnosis: NOR, DCM, HCM, MINF or RV
    ed: Volume
    es: Volume
    height: float | None = None  # cm; None where it is not known
    weight: float | None = None  # kg


class Cine(NamedTuple):
    """A heart through a whole beat."""

    image: np.ndarray  # (T, D, H, W) float32
    spacing: tuple[float, float, float]  # mm
    grid: Grid | None = None  # of every phase
    ms: np.ndarray | None = None  # (T,) of each phase; None where it is not known
    landmarks: np.ndarray | None = None  # (observers, phases, points, 3) in voxels


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Patients in their order; a slice of a cohort, or a sum of two, is a cohort.

    name    of the set: acdc, sunnybrook, phantoms, or a folder's own
    source  cache, mirror, folder, simulated, or stand-in
    """

    patients: tuple[Patient, ...]
    name: str
    source: str

    def __post_init__(self):
        object.__setattr__(self, "patients", tuple(self.patients))

    def __len__(self) -> int:
        return len(self.patients)

    def __iter__(self) -> Iterator[Patient]:
        return iter(self.patients)

    @overload
    def __getitem__(self, index: int) -> Patient: ...
    @overload
    def __getitem__(self, index: slice) -> "Cohort": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return replace(self, patients=self.patients[index])
        return self.patients[index]

    def __add__(self, other: "Cohort") -> "Cohort":
        """Both, one after the other, under both names where these differ."""
        expect_cohorts(other)
        names = dict.fromkeys((self.name, other.name))
        sources = dict.fromkeys((self.source, other.source))
        return Cohort(
            self.patients + other.patients, " + ".join(names), " + ".join(sources)
        )

    def __repr__(self) -> str:
        groups = sorted({p.group for p in self})
        counts = [f"{g} {sum(p.group == g for p in self)}" for g in groups]
        return f"{self.name} ({self.source}): {len(self)} patients: {', '.join(counts)}"

    def where(self, keep: Callable[[Patient], bool]) -> "Cohort":
        """Those for whom `keep` is true."""
        return self.of(p for p in self if keep(p))

    def of(self, patients: Iterable[Patient]) -> "Cohort":
        """Some of these patients, in the order given.

        Raises DataError for a patient who is not of this cohort.
        """
        chosen = tuple(patients)
        members = {p.name for p in self}
        if strangers := sorted({p.name for p in chosen} - members):
            raise DataError(
                f"{self.name}: {', '.join(strangers)} not among its {len(self)} "
                "patients; expected some of these"
            )
        return replace(self, patients=chosen)


def expect_cohorts(*several: Cohort) -> None:
    """Raise DataError for a plain list: it does not say where its patients are from."""
    for patients in several:
        if not isinstance(patients, Cohort):
            raise DataError(
                f"a {type(patients).__name__} of patients; expected a Cohort, which "
                "says where they are from: cohort[:10], cohort.where(…), or "
                'Cohort(patients, "name", "source")'
            )


def masks_of(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """The expert's masks at ED and ES. Raises DataError where one is missing."""
    if patient.ed.mask is None or patient.es.mask is None:
        raise DataError(
            f"{patient.name}: no mask (…_gt.nii.gz); expected one at ED and at ES, "
            "for training and scoring"
        )
    return patient.ed.mask, patient.es.mask


def drawn(patients: Cohort) -> Cohort:
    """Those with masks at ED and ES; a warning names the others, which are left out."""
    expect_cohorts(patients)
    kept = patients.where(lambda p: p.ed.mask is not None and p.es.mask is not None)
    if left_out := [p.name for p in patients if not any(p is k for k in kept)]:
        warnings.warn(
            f"left out, since they have no masks: {', '.join(left_out)}", stacklevel=2
        )
    return kept


# ---------------------------------------------------------------- splitting


def shuffled(patients: Cohort, seed: int = 0) -> Cohort:
    """The patients in an order of which every beginning keeps the shares of the
    diagnoses.
    """
    expect_cohorts(patients)
    return patients.of(_shuffled(list(patients), seed))


def _shuffled(patients: list[Patient], seed: int) -> list[Patient]:
    rng = np.random.default_rng(seed)
    place: dict[str, float] = {}
    for group in sorted({p.group for p in patients}):
        members = [p.name for p in patients if p.group == group]
        places = (np.arange(len(members)) + rng.random()) / len(members)
        place |= dict(zip(rng.permutation(members), places, strict=True))
    return sorted(patients, key=lambda p: place[p.name])


def folds(patients: Cohort, k: int = 5, *, seed: int = 0) -> list[Cohort]:
    """`k` groups of patients, alike in size and in diagnoses. Copies of one image stay
    in one group: ACDC's patient074 and patient076 are one scan under two names.

    Raises ValueError for a `k` that is no number above 0, DataError for two patients of
    one name and for fewer scans than groups.
    """
    expect_cohorts(patients)
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"{k!r} folds; expected a whole number of 1 or more")
    names = Counter(p.name for p in patients)
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(
            f"{patients.name}: {', '.join(twice)} among its patients twice; expected "
            "one name a patient: rename the folders of one set"
        )
    scan = [hashlib.blake2b(p.ed.image.tobytes()).digest() for p in patients]
    # Of copies the first stands for all, and the others follow it.
    first = {s: p for s, p in reversed(list(zip(scan, patients, strict=True)))}
    if len(first) < k:
        raise DataError(
            f"{patients.name}: {len(patients)} patients with {len(first)} different "
            f"scans for {k} folds, so that {k - len(first)} would be empty; expected "
            "a scan a fold at least"
        )
    dealt = sorted(_shuffled(list(first.values()), seed), key=lambda p: p.group)
    part_of = {p.name: i % k for i, p in enumerate(dealt)}
    parts: list[list[Patient]] = [[] for _ in range(k)]
    for s, patient in zip(scan, patients, strict=True):
        parts[part_of[first[s].name]].append(patient)
    return [patients.of(part) for part in parts]


def split(patients: Cohort, *, seed: int = 0) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test patients: three, one and one of five `folds`.

    Raises DataError for fewer than five patients or different scans.
    """
    expect_cohorts(patients)
    if len(patients) < 5:
        raise DataError(
            f"{patients.name}: {len(patients)} patients; expected five or more, to "
            "split them"
        )
    a, b, c, val, test = folds(patients, seed=seed)
    return a + b + c, val, test

"""Images with labels in three splits, checked before they are believed.

Small sets live in memory as tensors on the device, and batches are drawn there. A set
carries its name and where it came from, and so does all that is made of it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class DataError(ValueError):
    """A set or a file is not as expected; the message names the set and the place."""


class Split(NamedTuple):
    x: Tensor  # (N, C, H, W) float32, as read in [0, 1]
    # (N,) int64: a label an image; or (N, H, W): a label a pixel, called a mask
    y: Tensor
    # (N,) strings: the patient that an image is of; None where that is not known
    whose: np.ndarray | None = None

    def take(self, index: Tensor | slice) -> "Split":
        """The images at `index`: a slice, or positions (n,), or bool (N,)."""
        if isinstance(index, slice):
            whose = None if self.whose is None else self.whose[index]
            return Split(self.x[index], self.y[index], whose)
        whose = None if self.whose is None else self.whose[index.cpu().numpy()]
        index = index.to(self.x.device)
        return Split(self.x[index], self.y[index.to(self.y.device)], whose)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Three splits of labelled images. `source` says where they came from: cache,
    mirror, upstream, package, folder, simulated, or stand-in.

    Raises DataError unless each split passes `check`.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    source: str
    # True where the values were checked before, in the set that this one is made of.
    checked: InitVar[bool] = False
    _digests: dict[tuple, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self, checked: bool):
        for part in ("train", "val", "test"):
            split, where = getattr(self, part), f"{self.name}/{part}"
            if checked:
                _check_shapes(split, where)
            else:
                check(split, len(self.classes), where)

    def __repr__(self) -> str:
        lines = [f"{self.name} ({self.source}): images {tuple(self.train.x.shape[1:])}"]
        for part in ("train", "val", "test"):
            y = getattr(self, part).y.cpu()
            counts = torch.bincount(y.flatten(), minlength=len(self.classes)).tolist()
            shown = [
                f"{k:,}" if y.ndim == 1 else f"{k / y.numel():.1%}" for k in counts
            ]
            named = ", ".join(
                f"{c} {k}" for c, k in zip(self.classes, shown, strict=True)
            )
            lines.append(f"  {part:5} {len(y):6,}: {named}")
        return "\n".join(lines)

    def map(self, f: Callable[[Split], Split]) -> "Dataset":
        """The set with `f` applied to each split. The shapes of what comes out are
        checked, its pixels and labels are not looked at again.
        """
        train, val, test = (f(split) for split in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test, checked=True)

    def _map_images(self, f: Callable[[Tensor], Tensor]) -> "Dataset":
        return self.map(lambda s: s._replace(x=f(s.x)))

    def to(self, device: torch.device | str) -> "Dataset":
        """The set on `device`; itself where it lies there already."""
        moved = self.map(lambda s: s._replace(x=s.x.to(device), y=s.y.to(device)))
        both = zip(moved._tensors(), self._tensors(), strict=True)
        return self if all(a is b for a, b in both) else moved

    def standardise(self) -> "Dataset":
        """Zero mean and unit standard deviation, both measured on the training images
        alone.

        Raises DataError where these are all of one grey value.
        """
        mean, std = self.train.x.mean(), self.train.x.std()
        if not std > 0:
            raise DataError(
                f"{self.name}: training images with a standard deviation of "
                f"{std.item():g}; expected one above 0"
            )
        return self._map_images(lambda x: (x - mean) / std)

    def resize(self, side: int) -> "Dataset":
        """Every image at `side` × `side` pixels, bilinear: larger, not sharper."""

        def larger(x: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(
                x, (side, side), mode="bilinear", antialias=True
            )

        return self._map_images(larger)

    def pad(self, side: int) -> "Dataset":
        """Every image at `side` × `side` pixels, with a frame of the darkest grey value
        of the training images.

        Raises DataError where an image is larger than that.
        """
        largest = max(n for s in self._tensors()[::2] for n in s.shape[-2:])
        if side < largest:
            raise DataError(
                f"{self.name}: {side} pixels for images of {largest}; expected as many "
                "or more"
            )

        def framed(x: Tensor) -> Tensor:
            rows, columns = side - x.shape[-2], side - x.shape[-1]
            frame = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            return torch.nn.functional.pad(x, frame, value=dark)

        dark = self.train.x.min().item()
        return self._map_images(framed)

    def subset(self, n: int, *, seed: int = 0) -> "Dataset":
        """`n` training images, those of `subset_index`; the other splits unchanged."""
        keep = self.subset_index(n, seed=seed)
        return replace(self, train=self.train.take(keep), checked=True)

    def subset_index(self, n: int, *, seed: int = 0) -> Tensor:
        """Which `n` training images, with the class shares of the whole, seed `seed`
        draws. A smaller draw lies inside a larger one.

        Raises DataError where `n` is out of range, and for a set with masks.
        """
        y = self.train.y.cpu()
        if y.ndim > 1:
            raise DataError(
                f"{self.name}: a subset by class of images with masks; expected one "
                "label an image (choose patients instead, or use Split.take)"
            )
        if not len(self.classes) <= n <= len(y):
            raise DataError(
                f"{self.name}: a subset of {n} images; expected {len(self.classes)} "
                f"to {len(y)}"
            )
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        # Sort by (rank within the class) / (size of the class): every prefix keeps the
        # class shares.
        rank = torch.empty(len(y))
        for c in range(len(self.classes)):
            members = order[y[order] == c]
            rank[members] = (torch.arange(len(members)) + 0.5) / max(len(members), 1)
        return rank.argsort()[:n].to(self.train.y.device)

    def fingerprint(self) -> str:
        """Hex digest of what a training sees: the classes, and the values, types and
        shapes of the training and validation images and labels, wherever they lie.
        Kept until one of these tensors is changed by torch; a change through shared
        NumPy memory goes unseen.
        """
        tensors = (self.train.x, self.train.y, self.val.x, self.val.y)
        state = tuple((t.data_ptr(), t._version) for t in tensors)
        if state not in self._digests:
            self._digests.clear()
            self._digests[state] = _digest(self.classes, tensors)
        return self._digests[state]

    def _tensors(self) -> list[Tensor]:
        return [t for s in (self.train, self.val, self.test) for t in (s.x, s.y)]


def _digest(classes: tuple[str, ...], tensors: tuple[Tensor, ...]) -> str:
    digest = hashlib.blake2b(repr(tuple(classes)).encode(), digest_size=16)
    for t in tensors:
        digest.update(f"{t.dtype} {tuple(t.shape)}".encode())
        # As bytes, since NumPy has no bf16; contiguous, so that the order in memory
        # does not count.
        flat = t.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check(split: Split, num_classes: int, where: str) -> None:
    """Raise DataError unless `split` holds finite images (N, C, H, W), or stacks (N, C,
    D, H, W), in floating point, and labels 0 … num_classes − 1 in int64, one each or as
    masks.
    """
    _check_shapes(split, where)
    finite = torch.isfinite(split.x).flatten(1).all(1)
    if not finite.all():
        raise DataError(
            f"{where}: image {int((~finite).nonzero()[0])} holds NaN or infinity; "
            "expected finite values"
        )
    bad = (split.y < 0) | (split.y >= num_classes)
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        raise DataError(
            f"{where}: image {i} has label {int(split.y[bad][0])}; expected 0 to "
            f"{num_classes - 1}"
        )


def _check_shapes(split: Split, where: str) -> None:
    x, y, whose = split
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise DataError(
            f"{where}: images of type {type(x).__name__} and labels of type "
            f"{type(y).__name__}; expected tensors, as of torch.from_numpy"
        )
    if not x.is_floating_point() or y.dtype != torch.int64:
        raise DataError(
            f"{where}: images in {x.dtype}, labels in {y.dtype}; expected floating "
            "point, as x.float() / 255, and torch.int64, as y.long()"
        )
    if len(x) == 0:
        raise DataError(f"{where}: no images; expected at least one")
    if x.ndim not in (4, 5) or y.shape not in (x.shape[:1], x.shape[:1] + x.shape[2:]):
        raise DataError(
            f"{where}: images {tuple(x.shape)}, labels {tuple(y.shape)}; expected "
            "(N, C, H, W) and (N,), or (N, H, W) for masks; stacks have an axis D "
            "before H. A column of labels (N, 1) becomes one with y.ravel()"
        )
    if whose is not None and whose.shape != (len(x),):
        raise DataError(
            f"{where}: patients' names {whose.shape} for {len(x)} images; expected "
            "one name an image"
        )


def audit(dataset: Dataset) -> list[tuple[str, int, str, int]]:
    """Leakage: print and return the images that stand, pixel for pixel, in two splits,
    each as (split, index, split, index). Where the set knows whose its images are,
    print too how many show a patient of an earlier split (`shared_patients`).
    """
    seen: dict[bytes, list[tuple[str, int]]] = {}
    for part in ("train", "val", "test"):
        for i, image in enumerate(getattr(dataset, part).x.cpu().numpy()):
            seen.setdefault(image.tobytes(), []).append((part, i))
    rank = ("train", "val", "test").index
    pairs = [
        (*a, *b)
        for places in seen.values()
        for a in places
        for b in places
        if rank(a[0]) < rank(b[0])
    ]
    copies = len({pair[2:] for pair in pairs})
    print(
        f"{dataset.name}: {copies} validation or test image(s) also stand in an "
        "earlier split"
    )
    for one, i, other, j in pairs:
        same = getattr(dataset, one).y[i] == getattr(dataset, other).y[j]
        print(f"  {one} {i:5} = {other} {j:5}  ({'same' if same else 'other'} label)")
    shared = shared_patients(dataset)
    if shared is None:
        print("  whose the images are is not known: one patient's others go unseen")
    for part, count in (shared or {}).items():
        of = len(getattr(dataset, part).y)
        print(f"  {part}: {count} of {of} images show a patient of an earlier split")
    return pairs


def shared_patients(dataset: Dataset) -> dict[str, int] | None:
    """How many validation and test images show a patient who is also in an earlier
    split; None where a split does not know whose its images are.
    """
    earlier, found = dataset.train.whose, {}
    for part in ("val", "test"):
        whose = getattr(dataset, part).whose
        if earlier is None or whose is None:
            return None
        found[part] = int(np.isin(whose, earlier).sum())
        earlier = np.concatenate([earlier, whose])
    return found

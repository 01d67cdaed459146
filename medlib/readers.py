"""Data sets by name: `load(name)` gives images and labels, whatever the file format.

Where nothing can be reached the chapter runs on a stand-in and says so. How a set is
read and what stands in for it is said in data/datasets.toml.
"""

import csv
import gzip
import hashlib
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medlib import device as hardware
from medlib.data import DataError, Dataset, Split
from medlib.fetch import REGISTRY, Unreachable, banner, find, folder
from medlib.notes import note
from medlib.paths import cache, resource

LARGEST_ARRAY = 2**31  # bytes in a file; a header that claims more is wrong
ALIKE = 0.8  # correlation of the fine detail of two images, above which they are one
MUCH = 1e9  # bytes of images from which on their number is told


def load(
    name: str, *, size: int | None = None, device: torch.device | str | None = None
) -> Dataset:
    """The data set `name` of data/datasets.toml, on `device` (default: medlib's).

    size   pixels a side, for the sets that come in several: MedMNIST's in 28 (by
           default), 64, 128 and 224; chestxray224 and busi256 in any up to that of
           their files, 64 by default. Images are held as float32, four bytes a pixel:
           PneumoniaMNIST takes 18 MB at 28 and 1.2 GB at 224

    Raises DataError for an unknown name or size, where a file is not as expected, and
    where nothing can be reached and nothing stands in.
    """
    known = [key for key, card in REGISTRY.items() if "reader" in card]
    if name not in known:
        raise DataError(
            f"no images by the name {name!r}; expected one of {', '.join(known)}; "
            "volumes: medlib.hearts.load()"
        )
    card = REGISTRY[name]
    try:
        if card["reader"] in SIZED:
            dataset = SIZED[card["reader"]](name, size)
        elif size is None:
            dataset = READERS[card["reader"]](name)
        else:
            raise DataError(f"{name}: it comes in one size; expected no size={size}")
    except Unreachable as error:
        if "stand_in" not in card or size not in (None, 28):
            raise DataError(
                f"{name}: {error}. {card.get('instead', 'Nothing stands in for it')}"
            ) from None
        dataset = STAND_INS[card["stand_in"]](name)
        banner(name, str(error))
    note("loaded", name=name, source=dataset.source)
    return dataset.to(device or hardware.device())


# ---------------------------------------------------------------- formats


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; no pickle is opened, and no header is believed that
    claims more than the file holds.

    Raises DataError that names the file.
    """
    try:
        found = {}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    version = np.lib.format.read_magic(member)
                    header = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, kind = header(member)
                if kind.hasobject or math.prod(shape) * kind.itemsize > min(
                    info.file_size, LARGEST_ARRAY
                ):
                    raise ValueError(f"{info.filename} claims {shape} of {kind}")
                with archive.open(info) as member:
                    found[info.filename.removesuffix(".npy")] = (
                        np.lib.format.read_array(member, allow_pickle=False)
                    )
        return found
    except Exception as error:  # noqa: BLE001
        # whatever zipfile, zlib or numpy make of a damaged file
        raise DataError(
            f"{path.name} cannot be read ({error}); {_remedy(path)}"
        ) from None


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of a gzipped idx file (LeCun's format for MNIST): two zeros,
    the type 8, the number of axes, each axis's length as four bytes, then the values.

    Raises DataError that names the file.
    """
    try:
        with gzip.open(path) as f:
            zeros, kind, axes = struct.unpack(">HBB", f.read(4))
            shape = struct.unpack(f">{axes}I", f.read(4 * axes))
            count = math.prod(shape)
            if zeros or kind != 8 or not 0 < axes < 5 or not 0 < count <= LARGEST_ARRAY:
                raise ValueError(f"a header of type {kind} and shape {shape}")
            values = np.frombuffer(f.read(count), np.uint8)
        return values.reshape(shape)
    except Exception as error:  # noqa: BLE001
        # whatever gzip, zlib or struct make of a damaged file
        raise DataError(
            f"{path.name} cannot be read ({error}); {_remedy(path)}"
        ) from None


def _remedy(path: Path) -> str:
    if path.is_relative_to(cache()):
        return "delete it, and it is fetched anew"
    return f"put a whole copy at {path}"


# ---------------------------------------------------------------- readers: name → set


def _medmnist(name: str, size: int | None) -> Dataset:
    files = {entry.get("size", 28): entry for entry in REGISTRY[name]["file"]}
    size = 28 if size is None else size
    if size not in files:
        raise DataError(
            f"{name}: size={size}; expected one of {', '.join(map(str, files))}"
        )
    path, source = find(files[size])
    arrays = read_npz(path)
    _tell(name, size, sum(a.size for key, a in arrays.items() if "images" in key))
    # Names are known by an image's 28 × 28 bytes. Whether the larger files follow the
    # order of the small one is not known, so there nobody is named.
    whose = _whose if name == "pneumoniamnist" and size == 28 else lambda images: None

    def part(which: str) -> Split:
        try:
            images = arrays.pop(f"{which}_images")
            labels = arrays.pop(f"{which}_labels")
        except KeyError as error:
            raise DataError(
                f"{path.name}: no array {error}; expected images and labels of train, "
                f"val and test; {_remedy(path)}"
            ) from None
        colour = (3,) if images.ndim == 4 else ()
        if images.shape != (len(images), size, size, *colour) or labels.shape not in (
            (len(images), 1),
            (len(images),),
        ):
            raise DataError(
                f"{path.name}: {which} images {images.shape}, labels {labels.shape}; "
                f"expected (N, {size}, {size}) or (N, {size}, {size}, 3), and (N, 1)"
            )
        y = torch.from_numpy(labels.ravel().astype(np.int64))
        return Split(_images(images), y, whose(images))

    train, val, test = part("train"), part("val"), part("test")
    return Dataset(name, tuple(REGISTRY[name]["classes"]), train, val, test, source)


def _whose(images: np.ndarray) -> np.ndarray:
    """The patient of each image (N, 28, 28), in bytes. One whose file is not known gets
    a name of its own, which equal images share.
    """
    with gzip.open(resource("pneumoniamnist_keys.csv.gz"), "rt") as f:
        known = {row["md5"]: row["patient"] for row in csv.DictReader(f)}
    prints = [hashlib.md5(image.tobytes()).hexdigest() for image in images]
    return np.array([known.get(p, f"unknown-{p}") for p in prints])


def _tell(name: str, size: int, values: int) -> None:
    if 4 * values > MUCH:
        print(f"{name} at {size} px takes {4 * values / 1e9:.1f} GB as float32")


def _chest(name: str, size: int | None) -> Dataset:
    """JPEGs in a zip, and images.csv. Upstream's test set; a tenth of its other
    patients, 16 images of upstream's own validation set among them, validates.
    """
    place, source = folder(name)
    rows = _table(place, ("file", "official_split", "label", "kind", "patient_key"))
    kinds = {r["patient_key"]: r["kind"] for r in rows if r["official_split"] != "test"}
    tenth = _tenths(kinds)
    archive_path = place / "chest_xray224.zip"
    try:
        with zipfile.ZipFile(archive_path) as archive:
            files = (
                f"chest_xray/{r['official_split']}/{r['label']}/{r['file']}"
                for r in rows
            )
            x = _decoded(name, size, 224, rows, (archive.read(f) for f in files))
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{archive_path} cannot be read ({error}); put a whole copy in its place"
        ) from None
    parts = [
        "test"
        if r["official_split"] == "test"
        else ("val" if tenth[r["patient_key"]] == 0 else "train")
        for r in rows
    ]
    y = [("NORMAL", "PNEUMONIA").index(r["label"]) for r in rows]
    return _by_parts(name, x, y, parts, source, [r["patient_key"] for r in rows])


def _busi(name: str, size: int | None) -> Dataset:
    """PNGs in a folder a class, and images.csv. Seven tenths train, one validates, two
    test; near-duplicates, linked through the file most alike, stay together.
    """
    place, source = folder(name)
    rows = _table(place, ("file", "label", "nearest_file", "nearest_similarity"))
    group = {r["file"]: r["file"] for r in rows}
    for r in rows:
        if float(r["nearest_similarity"]) > ALIKE and r["nearest_file"] in group:
            one, other = group[r["file"]], group[r["nearest_file"]]
            group = {f: one if g == other else g for f, g in group.items()}
    label = {r["file"]: r["label"] for r in rows}
    tenth = _tenths({g: label[g] for g in set(group.values())})
    try:
        x = _decoded(
            name, size, 256, rows, ((place / r["file"]).read_bytes() for r in rows)
        )
    except OSError as error:
        raise DataError(
            f"{name}: {error}; expected the files of images.csv; put a whole copy of "
            f"the folder at {place}"
        ) from None
    names = ["train"] * 7 + ["val"] + ["test"] * 2
    parts = [names[tenth[group[r["file"]]]] for r in rows]
    y = [REGISTRY[name]["classes"].index(r["label"]) for r in rows]
    return _by_parts(name, x, y, parts, source)


def _table(place: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    path = place / "images.csv"
    try:
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected it there") from None
    if not rows or (missing := [c for c in (*columns, "sha256") if c not in rows[0]]):
        raise DataError(f"{path}: no rows, or no columns {missing if rows else ''}")
    return rows


def _tenths(kind: dict[str, str]) -> dict[str, int]:
    """A number 0 … 9 for each name, by a fixed draw that has all ten as often in each
    kind and does not depend on the order of the names.
    """

    def drawn(name: str) -> tuple[str, str]:
        return kind[name], hashlib.md5(name.encode()).hexdigest()

    return {name: i % 10 for i, name in enumerate(sorted(kind, key=drawn))}


def _decoded(name, size, largest, rows, contents) -> Tensor:
    """Grey images (N, 1, size, size), one file opened at a time, each as images.csv
    knows it by its SHA-256.
    """
    from PIL import Image
    from tqdm.auto import tqdm

    size = 64 if size is None else size
    if not 8 <= size <= largest:
        raise DataError(f"{name}: size={size}; expected 8 to {largest}")
    _tell(name, size, len(rows) * size**2)
    x = torch.empty(len(rows), 1, size, size)
    quiet = bool(os.environ.get("TQDM_DISABLE"))  # its notebook form ignores that
    bar = tqdm(rows, desc=name, unit="image", leave=False, disable=quiet)
    for i, (row, content) in enumerate(zip(bar, contents, strict=True)):
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise DataError(
                f"{name}: {row['file']} is not the file of images.csv (another "
                "SHA-256); put a whole copy in its place"
            )
        with Image.open(io.BytesIO(content)) as image:
            grey = image.convert("L")
        if size != grey.width or size != grey.height:
            grey = grey.resize((size, size), Image.Resampling.BILINEAR)
        x[i, 0] = torch.from_numpy(np.array(grey)).float() / 255
    return x


def _by_parts(name, x, y, parts, source, whose=None) -> Dataset:
    labels, where = torch.tensor(y), np.array(parts)
    everything = Split(x, labels, None if whose is None else np.array(whose))
    train, val, test = (
        everything.take(torch.from_numpy(np.flatnonzero(where == part)))
        for part in ("train", "val", "test")
    )
    return Dataset(name, tuple(REGISTRY[name]["classes"]), train, val, test, source)


def _idx(name: str) -> Dataset:
    (images, source), (labels, _) = (find(entry) for entry in REGISTRY[name]["file"])
    y = torch.from_numpy(read_idx(labels).astype(np.int64))
    return _in_parts(name, _images(read_idx(images)), y, source, shuffle=True)


def _digits(name: str) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images.astype(np.float32) / 16)[:, None]
    y = torch.from_numpy(bunch.target.astype(np.int64))
    return _in_parts(name, x, y, "package", shuffle=True)


def _membranes(name: str) -> Dataset:
    """image/K.png with label/K.png, which is black on membranes; split by place in the
    stack.
    """
    from PIL import Image

    place, source = folder(name)
    count = sum(REGISTRY[name]["sizes"])
    stacks = []
    for kind in ("image", "label"):
        files = [place / kind / f"{k}.png" for k in range(count)]
        if absent := [f for f in files if not f.is_file()]:
            raise DataError(
                f"{name}: no file {absent[0]}; expected image/0.png to "
                f"image/{count - 1}.png, and label/"
            )
        stacks.append(np.stack([np.asarray(Image.open(f).convert("L")) for f in files]))
    x, y = _images(stacks[0]), torch.from_numpy((stacks[1] == 0).astype(np.int64))
    return _in_parts(name, x, y, source)


def _images(array: np.ndarray) -> Tensor:
    """(N, H, W) → (N, 1, H, W), and in colour (N, H, W, 3) → (N, 3, H, W)."""
    x = torch.from_numpy(array)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return x.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(
        255
    )


def _in_parts(
    name: str, x: Tensor, y: Tensor, source: str, *, shuffle: bool = False
) -> Dataset:
    """Cut into the sizes that the registry names, in order or by a fixed draw."""
    card, order = REGISTRY[name], torch.arange(len(x))
    if shuffle:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1998))
    train, val, test = (Split(x[i], y[i]) for i in order.split(card["sizes"]))
    return Dataset(name, tuple(card["classes"]), train, val, test, source)


# Readers of sets in several sizes: name and pixels a side, None for the default.
SIZED: dict[str, Callable[[str, int | None], Dataset]] = {
    "medmnist": _medmnist,
    "chestxray": _chest,
    "busi": _busi,
}
READERS: dict[str, Callable[[str], Dataset]] = {
    "idx": _idx,
    "scikit-learn": _digits,
    "membranes": _membranes,
}


# ---------------------------------------------------------------- stand-ins of one form


def _cells(name: str) -> Dataset:
    """Cells of a plane, each around a random point, with membranes between them."""
    draw, n = torch.Generator().manual_seed(0), sum(REGISTRY[name]["sizes"])
    pixels = torch.cartesian_prod(*[torch.arange(128.0)] * 2)
    centres = 128 * torch.rand(n, 40, 2, generator=draw)
    distances = torch.cdist(pixels.expand(n, -1, -1), centres)
    near = distances.topk(2, largest=False).values
    y = (near[..., 1] - near[..., 0] < 3).long().view(n, 128, 128)
    noise = torch.randn(n, 1, 128, 128, generator=draw)
    x = (1 - y[:, None] + 0.3 * noise).clamp(0, 1)
    return _in_parts(name, x, y, "stand-in")


def _grown_digits(name: str) -> Dataset:
    def grown(split: Split) -> Split:
        x = torch.nn.functional.interpolate(split.x, 28, mode="bilinear")
        return split._replace(x=x)

    return replace(_digits("digits").map(grown), name=name, source="stand-in")


def _two_kinds_of_hearts(name: str) -> Dataset:
    """Slices of the heart phantom: normal walls against thick ones."""
    from medlib.hearts.phantom import phantom

    hearts = phantom(
        sum(REGISTRY[name]["sizes"]),
        phases=(0.0,),
        shape=(1, 28, 28),
        spacing=(10.0, 5.0, 5.0),
        groups=("NOR", "HCM"),
    )
    x, y = hearts.image[:, 0].clamp(0, 1), hearts.group  # (N, 1, 28, 28)
    return _in_parts(name, x, (y != y.min()).long(), "stand-in")


STAND_INS: dict[str, Callable[[str], Dataset]] = {
    "cells": _cells,
    "digits": _grown_digits,
    "hearts": _two_kinds_of_hearts,
}

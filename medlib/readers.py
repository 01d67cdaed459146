"""Data sets by name: `load(name)` gives images and labels, whatever the file format.

Where nothing can be reached the chapter runs on a stand-in and says so. How a set is
read and what stands in for it is said in data/datasets.toml.
"""

import gzip
import math
import struct
import zipfile
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

LARGEST_ARRAY = 2**29  # bytes in a file; a header that claims more is wrong


def load(name: str, *, device: torch.device | str | None = None) -> Dataset:
    """The data set `name` of data/datasets.toml, on `device` (default: medlib's).

    Raises DataError for an unknown name, and where a file is not as expected.
    """
    known = [key for key, card in REGISTRY.items() if "reader" in card]
    if name not in known:
        raise DataError(
            f"no images by the name {name!r}; expected one of {', '.join(known)}; "
            "volumes: medlib.hearts.load()"
        )
    card = REGISTRY[name]
    try:
        dataset = READERS[card["reader"]](name)
    except Unreachable as error:
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
            f"{path.name} cannot be read ({error}); delete it, and it is fetched anew"
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
            f"{path.name} cannot be read ({error}); delete it, and it is fetched anew"
        ) from None


# ---------------------------------------------------------------- readers: name → set


def _medmnist(name: str) -> Dataset:
    path, source = find(REGISTRY[name]["file"][0])
    arrays = read_npz(path)

    def part(which: str) -> Split:
        labels = arrays[f"{which}_labels"].ravel().astype(np.int64)
        return Split(_images(arrays[f"{which}_images"]), torch.from_numpy(labels))

    train, val, test = part("train"), part("val"), part("test")
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
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32) / 255)[
        :, None
    ]


def _in_parts(
    name: str, x: Tensor, y: Tensor, source: str, *, shuffle: bool = False
) -> Dataset:
    """Cut into the sizes that the registry names, in order or by a fixed draw."""
    card, order = REGISTRY[name], torch.arange(len(x))
    if shuffle:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1998))
    train, val, test = (Split(x[i], y[i]) for i in order.split(card["sizes"]))
    return Dataset(name, tuple(card["classes"]), train, val, test, source)


READERS: dict[str, Callable[[str], Dataset]] = {
    "medmnist": _medmnist,
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

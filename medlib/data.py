"""Data sets by name, checked before they are believed.

`load(name)` looks in data/cache/, then in the folder or URL that MEDLIB_MIRROR names,
then upstream (unless MEDLIB_OFFLINE is set). A file counts only after its checksum
matched. Where nothing can be reached the chapter runs on a stand-in and says so; a
wrong file is an error, never a stand-in. Small sets live in memory as tensors on the
device, and batches are drawn there.
"""

import gzip
import hashlib
import math
import os
import struct
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
REGISTRY = tomllib.loads((ROOT / "data" / "datasets.toml").read_text(encoding="utf-8"))
TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte
ATTEMPTS = 3
LARGEST = 2**29  # bytes of an array in a file; a header that claims more is wrong
loaded: dict[str, str] = {}  # name → source, for the stamp


class DataError(ValueError):
    """A set or a file breaks a rule; the message names the set, the place and the rule."""


class Unreachable(OSError):
    """No copy of a file could be reached."""


class Split(NamedTuple):
    x: Tensor  # (N, C, H, W) float32, as read in [0, 1]
    # (N,) int64: a label an image; or (N, H, W): a label a pixel, called a mask
    y: Tensor


@dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits of labelled images. `source` says where they came from: cache,
    mirror, upstream, package, or stand-in.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    source: str

    def __post_init__(self):
        for part in ("train", "val", "test"):
            check(getattr(self, part), len(self.classes), f"{self.name}/{part}")

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
        """The set with `f` applied to each split."""
        return replace(self, train=f(self.train), val=f(self.val), test=f(self.test))

    def to(self, device) -> "Dataset":
        return self.map(lambda s: Split(s.x.to(device), s.y.to(device)))

    def standardise(self) -> "Dataset":
        """Zero mean and unit standard deviation, both measured on the training images
        alone.
        """
        mean, std = self.train.x.mean(), self.train.x.std()
        return self.map(lambda s: Split((s.x - mean) / std, s.y))

    def resize(self, side: int) -> "Dataset":
        """Every image at `side` × `side` pixels, bilinear: larger, not sharper."""

        def larger(x: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(
                x, (side, side), mode="bilinear", antialias=True
            )

        return self.map(lambda s: Split(larger(s.x), s.y))

    def pad(self, side: int) -> "Dataset":
        """Every image at `side` × `side` pixels, with a frame of the darkest grey value
        of the training images.
        """

        def framed(x: Tensor) -> Tensor:
            rows, columns = side - x.shape[-2], side - x.shape[-1]
            frame = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            return torch.nn.functional.pad(x, frame, value=dark)

        dark = self.train.x.min().item()
        return self.map(lambda s: Split(framed(s.x), s.y))

    def subset(self, n: int, *, seed: int = 0) -> "Dataset":
        """`n` training images, those of `subset_index`; validation and test unchanged."""
        keep = self.subset_index(n, seed=seed)
        return replace(self, train=Split(self.train.x[keep], self.train.y[keep]))

    def subset_index(self, n: int, *, seed: int = 0) -> Tensor:
        """Which `n` training images, with the class shares of the whole, seed `seed`
        draws. A smaller draw lies inside a larger one.
        """
        y = self.train.y.cpu()
        if not len(self.classes) <= n <= len(y):
            raise DataError(
                f"{self.name}: a subset of {n} images; the rule: {len(self.classes)} "
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


def check(split: Split, num_classes: int, where: str) -> None:
    """Raise DataError unless `split` holds finite images (N, C, H, W), or stacks (N, C,
    D, H, W), and labels 0 … num_classes − 1, one each or as masks.
    """
    x, y = split
    if len(x) == 0:
        raise DataError(f"{where}: no images; the rule: a split holds at least one")
    if x.ndim not in (4, 5) or y.shape not in (x.shape[:1], x.shape[:1] + x.shape[2:]):
        raise DataError(
            f"{where}: images {tuple(x.shape)}, labels {tuple(y.shape)}; "
            "the rule: (N, C, H, W) and (N,), or (N, H, W) for masks; stacks have an "
            "axis D before H"
        )
    finite = torch.isfinite(x).flatten(1).all(1)
    if not finite.all():
        raise DataError(
            f"{where}: image {int((~finite).nonzero()[0])} holds NaN or infinity; the "
            "rule: finite"
        )
    bad = (y < 0) | (y >= num_classes)
    if bad.any():
        i = int(bad.nonzero()[0])
        raise DataError(
            f"{where}: image {i} has label {int(y[i])}; the rule: 0 to "
            f"{num_classes - 1}"
        )


def load(name: str, *, device=None) -> Dataset:
    """The data set `name` of data/datasets.toml, on `device` (default: medlib's)."""
    from medlib.device import device as default_device

    if name not in READERS:
        raise DataError(
            f"no images by the name {name!r}; there are: {', '.join(READERS)}; "
            "volumes: medlib.cardiac.load()"
        )
    try:
        dataset = READERS[name](name)
    except Unreachable as error:
        dataset = _stand_in(name)
        banner(name, str(error))
    loaded[name] = dataset.source
    return dataset.to(device or default_device())


def audit(dataset: Dataset) -> list[tuple[str, int, str, int]]:
    """Leakage: print and return the images that stand, pixel for pixel, in two splits,
    each as (split, index, split, index). The same patient in two different images goes
    unseen.
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
    return pairs


def random_affine(
    *,
    degrees: float = 15,
    scale: float = 0.1,
    shift: float = 0.05,
    contrast: float = 0.2,
) -> Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]:
    """Augmentation of images with masks: turn by up to `degrees`, stretch each axis by
    up to `scale`, move by up to `shift` of the side, and draw contrast and brightness
    anew with that standard deviation. All slices of a stack (B, C, D, H, W) are moved
    alike.
    """

    def affine(
        x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        draw = 2 * torch.rand(5, len(x), generator=generator) - 1
        angle, stretch = torch.deg2rad(degrees * draw[0]), 1 + scale * draw[1:3]
        cos, sin, move = angle.cos(), angle.sin(), 2 * shift * draw[3:]
        rows = (
            cos * stretch[0],
            -sin * stretch[1],
            move[0],
            sin * stretch[0],
            cos * stretch[1],
            move[1],
        )
        theta = torch.stack(rows, 1).view(-1, 2, 3).to(x.device)
        size = (len(x), 1, *x.shape[-2:])
        places = torch.nn.functional.affine_grid(theta, size, align_corners=False)
        a, b = contrast * torch.randn(
            2, len(x), *(x.ndim - 1) * [1], generator=generator
        ).to(x.device)
        return warp(x, places) * (1 + a) + b, warp(y, places)

    return affine


def warp(x: Tensor, places: Tensor) -> Tensor:
    """Images (B, C, H, W), bilinear, or masks (B, H, W), nearest, read at `places` (B,
    H, W, 2): (x, y) from −1 to 1, as torch's grid_sample takes them; the edge is
    repeated. Stacks have an axis more: their images are of floating point, their masks
    of integers, and every slice is read at the same places.
    """
    smooth = x.is_floating_point() and x.ndim > 3
    flat = x[:, None] if x.ndim == 3 else x.flatten(1, -3)
    found = torch.nn.functional.grid_sample(
        flat if smooth else flat.float(),
        places,
        "bilinear" if smooth else "nearest",
        "border",
        align_corners=False,
    )
    return found.to(x.dtype).view(*x.shape[:-2], *found.shape[-2:])


def random_shift(pixels: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Augmentation: move each image by up to `pixels` in both directions, edges
    repeated.
    """

    def shift(x: Tensor, generator: torch.Generator) -> Tensor:
        b, _, h, w = x.shape
        dy, dx = torch.randint(-pixels, pixels + 1, (2, b, 1), generator=generator).to(
            x.device
        )
        rows = (torch.arange(h, device=x.device) + dy).clamp(0, h - 1)  # (B, H)
        cols = (torch.arange(w, device=x.device) + dx).clamp(0, w - 1)  # (B, W)
        n = torch.arange(b, device=x.device)[:, None, None]
        return x.transpose(0, 1)[:, n, rows[:, :, None], cols[:, None, :]].transpose(
            0, 1
        )

    return shift


# ---------------------------------------------------------------- files


def find(entry: dict) -> tuple[Path, str]:
    """A verified local copy of one registry file, and whether it is from cache, mirror
    or upstream.
    """
    cached = ROOT / "data" / "cache" / entry["path"]
    if cached.exists():
        _verify(cached, entry, f"{cached} (in the cache)")
        return cached, "cache"
    mirror = os.environ.get("MEDLIB_MIRROR", "")
    if mirror and not mirror.startswith(("http://", "https://")):
        local = Path(mirror).expanduser() / entry["path"]
        if local.exists():
            _verify(local, entry, f"{local} (from MEDLIB_MIRROR)")
            return local, "mirror"
    urls = (
        [(f"{mirror.rstrip('/')}/{entry['path']}", "mirror")]
        if mirror.startswith("http")
        else []
    )
    if not os.environ.get("MEDLIB_OFFLINE"):
        urls += [(url, "upstream") for url in entry["url"]]
    reasons = []
    for url, source in urls:
        try:
            _download(url, cached, entry)
            return cached, source
        except Unreachable as error:
            reasons.append(str(error))
    raise Unreachable(
        "; ".join(reasons)
        or f"{entry['path']}: not in the cache, not in MEDLIB_MIRROR, and "
        "MEDLIB_OFFLINE is set"
    )


def folder(name: str) -> tuple[Path, str]:
    """The folder of a set that asks for a registration, so that nothing is downloaded,
    and whether it is in the cache or in the mirror.
    """
    path, mirror = REGISTRY[name]["path"], os.environ.get("MEDLIB_MIRROR")
    places = {"cache": ROOT / "data" / "cache" / path}
    if mirror and not mirror.startswith(("http://", "https://")):
        places["mirror"] = Path(mirror).expanduser() / path
    for source, place in places.items():
        if place.is_dir():
            return place, source
    raise Unreachable(f"no folder {' or '.join(map(str, places.values()))}")


def _digest(path: Path, method: str) -> str:
    with open(path, "rb") as f:
        return f"{method}:{hashlib.file_digest(f, method).hexdigest()}"


def _verify(path: Path, entry: dict, origin: str) -> None:
    seen = {
        method: _digest(path, method)
        for method in {h.split(":")[0] for h in entry["hash"]}
    }
    if not set(seen.values()) & set(entry["hash"]):
        folder = (ROOT / "data" / "cache" / entry["path"]).parent
        raise DataError(
            f"{origin} is not {entry['path']}.\n"
            f"  expected: {' or '.join(entry['hash'])}\n"
            f"  seen:     {' and '.join(seen.values())} ({path.stat().st_size:,} "
            "bytes)\n"
            f"  What to do: delete that file, download {entry['url'][0]} in a browser "
            "and put it, as "
            f"{Path(entry['path']).name}, into {folder}"
        )


def _download(url: str, target: Path, entry: dict) -> None:
    """Fetch `url` to `target`, one process at a time: who waited finds the other's
    file.
    """
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.exists():
                _fetch(url, target, entry)
    except (Unreachable, DataError):
        raise
    except OSError as error:  # no room, no permission
        raise DataError(
            f"{target} cannot be written ({error.strerror or error}).\n  What to do: "
            "make room or give permission there, "
            "or put the file into a folder of yours and set MEDLIB_MIRROR to it"
        ) from None


def _fetch(url: str, target: Path, entry: dict) -> None:
    """Resume where the server allows, verify, then move into place."""
    import requests
    from tqdm.auto import tqdm

    part = target.with_name(
        f"{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    )
    limit = 2 * entry.get(
        "bytes", 2**30
    )  # a server that never stops must not fill the disk
    problem = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | (
            {"Range": f"bytes={have}-"} if have else {}
        )
        try:
            with requests.get(
                url, headers=headers, stream=True, timeout=TIMEOUT
            ) as reply:
                if (
                    reply.status_code == 416
                ):  # nothing after what we have: complete, or not the same file
                    _settle(part, target, entry, url)
                    return
                reply.raise_for_status()
                resumed = reply.status_code == 206 and reply.headers.get(
                    "Content-Range", ""
                ).startswith(f"bytes {have}-")
                bar = tqdm(
                    desc=target.name,
                    total=entry.get("bytes"),
                    initial=have if resumed else 0,
                    unit="B",
                    unit_scale=True,
                    leave=False,
                    disable=bool(
                        os.environ.get("TQDM_DISABLE")
                    ),  # its notebook form ignores the variable
                )
                with open(part, "ab" if resumed else "wb") as f, bar:
                    for chunk in reply.iter_content(2**16):
                        bar.update(f.write(chunk))
                        if f.tell() > limit:
                            break
        except requests.RequestException as error:
            problem = f"{urlsplit(url).hostname}: {type(error).__name__}"
            continue
        _settle(part, target, entry, url)
        return
    raise Unreachable(f"{entry['path']} could not be fetched ({problem})")


def _settle(part: Path, target: Path, entry: dict, url: str) -> None:
    try:
        _verify(part, entry, f"What {url} sent")
    except DataError:
        part.unlink()
        raise
    os.replace(part, target)


# ---------------------------------------------------------------- readers, one a format


def _images(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32) / 255)[
        :, None
    ]


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
                    info.file_size, LARGEST
                ):
                    raise ValueError(f"{info.filename} claims {shape} of {kind}")
                with archive.open(info) as member:
                    found[info.filename.removesuffix(".npy")] = (
                        np.lib.format.read_array(member, allow_pickle=False)
                    )
        return found
    except Exception as error:  # noqa: BLE001 — whatever zipfile, zlib or numpy make of a damaged file
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
            if zeros or kind != 8 or not 0 < axes < 5 or not 0 < count <= LARGEST:
                raise ValueError(f"a header of type {kind} and shape {shape}")
            values = np.frombuffer(f.read(count), np.uint8)
        return values.reshape(shape)
    except Exception as error:  # noqa: BLE001 — whatever gzip, zlib or struct make of a damaged file
        raise DataError(
            f"{path.name} cannot be read ({error}); delete it, and it is fetched anew"
        ) from None


def _medmnist(name: str) -> Dataset:
    path, source = find(REGISTRY[name]["file"][0])
    z = read_npz(path)
    parts = [
        Split(
            _images(z[f"{p}_images"]),
            torch.from_numpy(z[f"{p}_labels"].ravel().astype(np.int64)),
        )
        for p in ("train", "val", "test")
    ]
    return Dataset(name, tuple(REGISTRY[name]["classes"]), *parts, source)


def _shuffled(name: str, x: Tensor, y: Tensor, source: str) -> Dataset:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1998))
    parts = [Split(x[i], y[i]) for i in order.split(REGISTRY[name]["sizes"])]
    return Dataset(name, tuple(REGISTRY[name]["classes"]), *parts, source)


def _mnist10k(name: str) -> Dataset:
    (images, source), (labels, _) = (find(entry) for entry in REGISTRY[name]["file"])
    y = torch.from_numpy(read_idx(labels).astype(np.int64))
    return _shuffled(name, _images(read_idx(images)), y, source)


def _digits(name: str) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images.astype(np.float32) / 16)[:, None]
    return _shuffled(
        name, x, torch.from_numpy(bunch.target.astype(np.int64)), "package"
    )


def _em(name: str) -> Dataset:
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
                f"{name}: no file {absent[0]}; the rule: image/0.png to "
                f"image/{count - 1}.png, and label/"
            )
        stacks.append(np.stack([np.asarray(Image.open(f).convert("L")) for f in files]))
    x, y = _images(stacks[0]), torch.from_numpy((stacks[1] == 0).astype(np.int64))
    return _in_order(name, x, y, source)


def _in_order(name: str, x: Tensor, y: Tensor, source: str) -> Dataset:
    parts = zip(
        x.split(REGISTRY[name]["sizes"]), y.split(REGISTRY[name]["sizes"]), strict=True
    )
    return Dataset(
        name,
        tuple(REGISTRY[name]["classes"]),
        *(Split(*part) for part in parts),
        source,
    )


READERS = {
    "pneumoniamnist": _medmnist,
    "breastmnist": _medmnist,
    "mnist10k": _mnist10k,
    "digits": _digits,
    "em": _em,
}


# ---------------------------------------------------------------- stand-ins


def _stand_in(name: str) -> Dataset:
    """Something of the same form: scikit-learn's digits for digits, cells of a plane
    for membranes, else the heart phantom.
    """
    card = REGISTRY[name]
    if card["classes"][-1] == "membrane":
        draw, n = torch.Generator().manual_seed(0), sum(card["sizes"])
        pixels = torch.cartesian_prod(*[torch.arange(128.0)] * 2)
        cells = 128 * torch.rand(n, 40, 2, generator=draw)
        near = (
            torch.cdist(pixels.expand(n, -1, -1), cells).topk(2, largest=False).values
        )
        y = (near[..., 1] - near[..., 0] < 3).long().view(n, 128, 128)
        x = (1 - y[:, None] + 0.3 * torch.randn(n, 1, 128, 128, generator=draw)).clamp(
            0, 1
        )
        return _in_order(name, x, y, "stand-in")
    if card["modality"] == "handwritten digits":
        digits = _digits("digits")
        grown = digits.map(
            lambda s: Split(
                torch.nn.functional.interpolate(s.x, 28, mode="bilinear"), s.y
            )
        )
        return replace(grown, name=name, source="stand-in")
    from medlib.phantom import phantom

    heart = phantom(
        sum(card["sizes"]),
        phases=(0.0,),
        shape=(1, 28, 28),
        spacing=(10.0, 5.0, 5.0),
        groups=("NOR", "HCM"),
    )
    x, y = heart.image[:, 0].clamp(0, 1), heart.group  # (N, 1, 28, 28)
    y = (y != y.min()).long()
    return _in_order(name, x, y, "stand-in")


def banner(name: str, reason: str) -> None:
    """Say, where no one can miss it, that what follows runs on stand-in data."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    card = REGISTRY[name]
    files = ", ".join(f"`{entry['path']}`" for entry in card.get("file", [card]))
    page = card.get("page") or card["file"][0]["url"][0]
    message = (
        f"> **STAND-IN DATA.** {card['title']} could not be reached, so what follows "
        "runs on "
        "simulated or toy images. **No number below says anything about the real "
        "set.**\n>\n"
        f"> Reason: {reason}.\n>\n> To use the real images, put {files} into "
        "`data/cache/` "
        f"(from {page}), or set `MEDLIB_MIRROR` to a folder that holds them, and run "
        "again."
    )
    if get_ipython() is None:
        print(message)
    else:
        display(Markdown(message))

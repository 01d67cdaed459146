"""Trained networks that travel with the book, each with a card: what it takes, what it
was taught with, how well it did on patients it had not seen, and where it fails.

Weights are safetensors in fp16, a format that can hold numbers and nothing that runs.
They lie in data/weights/ of the book's folder, or beside an installed package.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from medlib import models, paths
from medlib.hearts.cohorts import Patient

# What a card says, in this order.
LINES = {
    "task": "What it does",
    "input": "Takes",
    "output": "Gives",
    "data": "Taught with",
    "licence": "Licence of the weights",
    "scores": "On patients it had not seen",
    "fails": "Where it fails",
    "made": "Made by",
}


def names(folder: str | Path | None = None) -> list[str]:
    """The networks that are there."""
    return sorted(p.stem for p in _folder(folder).glob("*.safetensors"))


def load(name: str, folder: str | Path | None = None) -> nn.Module:
    """The network `name`, trained, in fp32 and in evaluation mode, on the processor.

    folder  where it lies; by default the book's own networks

    Raises FileNotFoundError where there is none of that name, and ValueError for a file
    that holds no network of medlib.models.
    """
    path = _path(name, folder)
    about = _metadata(path)
    kind = getattr(models, about.get("network", ""), None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(  # noqa: TRY004
            f"{path} holds a network {about.get('network')!r}; expected one of "
            "medlib.models, as zoo.keep writes it"
        )
    net = kind(**json.loads(about["options"]))
    weights = load_file(path)
    net.load_state_dict({k: _single(v) for k, v in weights.items()})
    return net.eval()


def card(name: str, folder: str | Path | None = None) -> str:
    """The card of a network, in Markdown, made from what its file says of itself."""
    path = _path(name, folder)
    about = _metadata(path)
    said = json.loads(about["about"])
    lines = [f"**{LINES[key]}**: {said[key]}" for key in LINES if key in said]
    built = f"`medlib.models.{about['network']}`, options `{about['options']}`"
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    scans = len(json.loads(about["scans"]))
    lines += [
        f"**Network**: {built}",
        f"**File**: `{path.name}`, {path.stat().st_size:,} bytes, SHA-256 `{content}`",
        f"**Scans it was taught with**: {scans}; the file holds a digest of each, so "
        + "that a patient whom it knows is recognised",
    ]
    use = f'```python\nfrom medlib import zoo\n\nnet = zoo.load("{name}")\n```\n'
    return f"# {said['title']}\n\n- " + "\n- ".join(lines) + f"\n\n{use}"


def keep(
    net: nn.Module,
    name: str,
    *,
    options: Mapping[str, Any],
    about: Mapping[str, str],
    taught_with: Iterable[Patient],
    folder: str | Path | None = None,
) -> Path:
    """Write a trained network and its card; returns the path of the weights.

    options      the arguments that build it again, type(net)(**options)
    about        what the card says: "title" and the keys of LINES
    taught_with  the patients of its training, to recognise them later

    Raises ValueError where the options build another network, or a line is missing.
    """
    if missing := [key for key in ("title", *LINES) if key not in about]:
        raise ValueError(f"{name}: no {', '.join(missing)}; expected a line for each")
    kind = type(net)
    shapes = {k: v.shape for k, v in net.state_dict().items()}
    if getattr(models, kind.__name__, None) is not kind or shapes != {
        k: v.shape for k, v in kind(**options).state_dict().items()
    }:
        raise ValueError(
            f"{kind.__name__}(**{dict(options)}) is not this network; expected the "
            "arguments that it was built with, and a class of medlib.models"
        )
    place = _folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.safetensors"
    facts = {
        "network": kind.__name__,
        "options": json.dumps(dict(options)),
        "about": json.dumps(dict(about), ensure_ascii=False),
        "scans": json.dumps(sorted({digest(p) for p in taught_with})),
    }
    save_file({k: _half(v) for k, v in net.state_dict().items()}, path, metadata=facts)
    path.with_suffix(".md").write_text(card(name, folder), encoding="utf-8")
    return path


def knows(name: str, patient: Patient, folder: str | Path | None = None) -> bool:
    """Was this scan among those that the network was taught with?"""
    return digest(patient) in json.loads(_metadata(_path(name, folder))["scans"])


def digest(patient: Patient) -> str:
    """A scan in 16 hexadecimal digits: its voxels at end-diastole."""
    return hashlib.blake2b(patient.ed.image.tobytes(), digest_size=8).hexdigest()


def _folder(folder: str | Path | None) -> Path:
    if folder is not None:
        return Path(folder)
    root = paths.CHECKOUT / "data" if paths.CHECKOUT else paths.PACKAGE
    return root / "weights"


def _path(name: str, folder: str | Path | None) -> Path:
    path = _folder(folder) / f"{name}.safetensors"
    if not path.exists():
        known = ", ".join(names(folder)) or "none"
        raise FileNotFoundError(f"no network {name!r} in {path.parent}; there: {known}")
    return path


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _half(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def _single(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value

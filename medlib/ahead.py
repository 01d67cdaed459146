"""`python -m medlib fetch` and `checksums`: data sets ahead of a class, and what a
maintainer notes of them.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medlib import fetch
from medlib.data import DataError
from medlib.paths import cache, resource


def list_sets() -> None:
    """Print each set, whether it is here, and its licence."""
    print(f"Data sets; they are kept in {cache()}\n")
    for name, card in fetch.REGISTRY.items():
        size = here(name)
        state = f"{size / 1e6:,.1f} MB here" if size else "not here"
        if not _fetched(card):
            state = "comes with a package" if "path" not in card else state
        print(f"{name:<16} {state:<20} {card['title']}")
        print(f"{'':<16} {'':<20} {card['licence']}")
        if "terms" in card:
            print(f"{'':<16} {'':<20} {card['terms']}")


def _fetched(card: dict) -> bool:
    return bool({"file", "way", "part"} & card.keys())


def here(name: str) -> int:
    """Bytes of a set in the cache."""
    card = fetch.REGISTRY[name]
    places = [cache() / entry["path"] for entry in card.get("file", [])]
    places += [cache() / card["path"]] if "path" in card else []
    files = [p for place in places for p in [place, *place.rglob("*")] if p.is_file()]
    return sum(p.stat().st_size for p in files)


def entries(name: str, size: int | None) -> list[dict]:
    """The files of a set that hold images of `size` pixels (None: the usual).

    Raises DataError for a size that it does not come in.
    """
    files = fetch.REGISTRY[name].get("file", [])
    found = [entry for entry in files if entry.get("size") == size]
    if size and not found:
        known = [str(entry["size"]) for entry in files if "size" in entry]
        raise DataError(
            f"{name}: no images of {size} pixels; expected one of "
            f"{', '.join(known) or 'none: it comes in one size'}"
        )
    return found


def fetch_sets(names: Iterable[str], size: int | None = None, **wanted: Any) -> bool:
    """Bring these sets, and say where they are; True where all of them are there."""
    well = True
    for name in names:
        try:
            for place in _places(name, size, **wanted):
                print(f"OK   {name}: {place}")
        except (fetch.Unreachable, DataError) as error:
            print(f"FAIL {name}: {error}")
            well = False
    return well


def _places(name: str, size: int | None, **wanted: Any) -> list[Path]:
    if name not in fetch.REGISTRY:
        raise DataError(f"no such set; expected one of {', '.join(fetch.REGISTRY)}")
    card = fetch.REGISTRY[name]
    if "file" in card:
        return [fetch.find(entry)[0] for entry in entries(name, size)]
    if "path" in card:
        return [fetch.folder(name, **wanted)[0]]
    return []  # it comes with a package


# ---------------------------------------------------------------- for maintainers


def write_checksums(
    names: Iterable[str], size: int | None = None, **wanted: Any
) -> bool:
    """Fetch these sets and note the SHA-256 of what the registry knows by less: of a
    file by its MD5 in datasets.toml, of a folder's files in checksums/NAME.csv. A file
    that is not as noted before is named, and nothing of its set is written.
    """
    well = True
    for name in names:
        try:
            places = _places(name, size, **wanted)
            if "file" in fetch.REGISTRY[name]:
                for entry, place in zip(entries(name, size), places, strict=True):
                    _into_registry(entry, place)
            else:
                for place in places:
                    _into_table(name, place, **wanted)
        except (fetch.Unreachable, DataError) as error:
            print(f"FAIL {name}: {error}")
            well = False
    return well


def _into_registry(entry: dict, place: Path) -> None:
    found = fetch._digest(place, "sha256")
    if found in entry["hash"]:
        print(f"OK   {entry['path']}: known already")
        return
    registry, first = resource("datasets.toml"), f'"{entry["hash"][0]}"'
    text = registry.read_text(encoding="utf-8")
    _replace(registry, text.replace(first, f'"{found}", {first}', 1))
    print(f"OK   {entry['path']}: {found}, {place.stat().st_size} bytes")


def _into_table(name: str, place: Path, **wanted: Any) -> None:
    rows = dict(fetch.checksums(name))
    before = len(rows)
    for part in fetch.chosen(name, **wanted):
        for path in fetch.files_of(part, place):
            file = place / path
            rows[path] = fetch.check(file, path, rows.get(path), str(file))
    table = resource("checksums") / f"{name}.csv"
    lines = [f"{path},{size},{digest}" for path, (size, digest) in sorted(rows.items())]
    _replace(table, "\n".join(["path,bytes,sha256", *lines, ""]))
    fetch.checksums.cache_clear()
    print(f"OK   {name}: {len(rows)} files, {len(rows) - before} of them new")


def _replace(file: Path, text: str) -> None:
    half = file.with_name(f"{file.name}.part")
    half.write_text(text, encoding="utf-8", newline="\n")
    os.replace(half, file)

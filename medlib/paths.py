"""Where files lie: the book's checkout if there is one, what travels with the package,
and what is kept between runs."""

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PACKAGE = Path(__file__).resolve().parent
# The folder of the whole book, or None where medlib was installed without it.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "chapters").is_dir() else None
_IN_CHECKOUT = {
    "datasets.toml": "data",
    "checksums": "data",
    "claims.toml": "book",
    "pneumoniamnist_keys.csv.gz": "data/keys",
}


def resource(name: str) -> Path:
    """`name` (one of _IN_CHECKOUT; "checksums" is a folder): in a checkout where people
    edit it, in an installed package beside its modules."""
    if CHECKOUT:
        return CHECKOUT / _IN_CHECKOUT[name] / name
    return PACKAGE / name


def cache() -> Path:
    """The folder of downloads and kept trainings: MEDLIB_CACHE, else data/cache in a
    checkout, else the user's cache folder. It may not exist yet."""
    if chosen := os.environ.get("MEDLIB_CACHE"):
        return Path(chosen).expanduser()
    if CHECKOUT:
        return CHECKOUT / "data" / "cache"
    from platformdirs import user_cache_path

    return user_cache_path("medlib")


def mirror() -> Path | str | None:
    """What MEDLIB_MIRROR names: a folder (also as file://…), a web address or None."""
    chosen = os.environ.get("MEDLIB_MIRROR", "").strip()
    if chosen.startswith(("http://", "https://")):
        return chosen.rstrip("/")
    if chosen.startswith("file://"):
        return Path(url2pathname(urlsplit(chosen).path))
    return Path(chosen).expanduser() if chosen else None

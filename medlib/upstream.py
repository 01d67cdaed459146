"""How an upstream is asked: politely, for one file at a time, and again where it broke.

A set lies upstream as single files (their addresses follow a pattern), in folders of a
Girder server, or in an archive. Each function here says where the wanted files are;
medlib.fetch takes them and believes none that it has not checked.

MEDLIB_UPSTREAM names a relay: https://host/path is then asked as RELAY/host/path. What
it sends is checked like everything else.
"""

import email.utils
import functools
import itertools
import json
import os
import re
import shutil
import time
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from medlib import paths

if TYPE_CHECKING:
    import requests

TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte
ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt, twice that before the third
PATIENCE = 60.0  # seconds that a server may ask us to wait
PAGE = 50  # entries of a Girder listing, its own default
TOGETHER = 4  # requests at a time
BUSY = (429, 500, 502, 503, 504)


class Unreachable(OSError):
    """No copy of a file could be reached."""


class _Later(Exception):
    """Ask again: the reason, and the seconds to wait (None: as we like)."""

    def __init__(self, reason: str, seconds: float | None = None):
        super().__init__(reason)
        self.seconds = seconds


class File(NamedTuple):
    path: str  # below the set's folder
    url: str


@functools.cache
def agent() -> str:
    """Who asks: the book, its version and its address. Zenodo and others turn away the
    default name of Python's libraries."""
    if paths.CHECKOUT:
        text = (paths.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        version, address = project["version"], project["urls"]["Book"]
    else:
        found = metadata.metadata("medlib")
        version = found["Version"]
        address = found["Project-URL"].split(",")[-1].strip()
    return f"medlib-book/{version} (+{address})"


def address(url: str) -> str:
    """Where `url` is asked for."""
    relay = os.environ.get("MEDLIB_UPSTREAM", "").rstrip("/")
    if not relay or url.startswith(relay):
        return url
    return f"{relay}/{url.split('://', 1)[1]}"


def host(url: str) -> str:
    """The upstream's name, for people."""
    return urlsplit(url).hostname or url


@contextmanager
def session() -> Iterator["requests.Session"]:
    """Connections that are kept open between requests, under the book's name."""
    import requests

    with requests.Session() as opened:
        opened.headers["User-Agent"] = agent()
        yield opened


# ---------------------------------------------------------------- one request


@contextmanager
def _asked(
    opened: "requests.Session", url: str, *, start: int = 0, pinned: bool = False
) -> Iterator["requests.Response"]:
    """The answer to a GET from byte `start` on; 200, 206 or 416.

    A certificate that is not valid is refused, unless the content is `pinned` by a
    SHA-256; then that is said. Raises Unreachable, or _Later where it may pass.
    """
    import requests

    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    options: dict[str, Any] = {"headers": headers, "stream": True, "timeout": TIMEOUT}
    try:
        try:
            reply = opened.get(address(url), **options)
        except requests.exceptions.SSLError as error:
            if "certificate" not in str(error).lower():
                raise
            if not pinned:
                raise Unreachable(
                    f"{host(url)}: its certificate is not valid, so nothing was taken"
                ) from None
            _say_unsigned(host(url))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reply = opened.get(address(url), verify=False, **options)
        with reply:
            _refuse(reply, url)
            yield reply
    except requests.RequestException as error:
        raise _Later(f"{host(url)}: {type(error).__name__}") from None


@functools.cache
def _say_unsigned(name: str) -> None:
    print(
        f"{name} shows a certificate that is not valid. The file is taken all the "
        "same, since its SHA-256 is known, and only if it matches."
    )


def _refuse(reply: "requests.Response", url: str) -> None:
    code = reply.status_code
    reason = f"{host(url)}: HTTP {code} {reply.reason or ''}".rstrip()
    if code in BUSY:
        seconds = _seconds(reply.headers.get("Retry-After"))
        if seconds is not None and seconds > PATIENCE:
            raise Unreachable(f"{reason}, and asks to wait {seconds:.0f} seconds")
        raise _Later(reason, seconds)
    if code not in (200, 206, 416):
        raise Unreachable(reason)
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        raise Unreachable(
            f"{host(url)}: HTTP {code}, but a web page instead of the file (it has "
            "moved, or asks for a login)"
        )


def _seconds(header: str | None) -> float | None:
    """Retry-After is a number of seconds or a date."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _attempts(url: str, action: Callable[[], Any]) -> Any:
    """What `action` gives, once it is not told to come back later."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except _Later as later:
            reason, seconds = str(later), later.seconds
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE * 2**attempt if seconds is None else seconds)
    raise Unreachable(f"{reason}, {ATTEMPTS} times")


def download(
    opened: "requests.Session",
    url: str,
    part: Path,
    *,
    limit: int = 2**31,
    pinned: bool = False,
    progress: Callable[[int, int, int | None], None] = lambda have, more, total: None,
) -> None:
    """The bytes of `url` into `part`, going on where it ends already; at most `limit`.

    `progress` is told the bytes that were there, those that came, and how many there
    will be. Raises Unreachable; OSError where `part` cannot be written.
    """

    def action():
        have = part.stat().st_size if part.exists() else 0
        with _asked(opened, url, start=have, pinned=pinned) as reply:
            if reply.status_code == 416:  # nothing after what we have: the whole file,
                return  # or another one; whoever called will see
            span = reply.headers.get("Content-Range", "")
            resumed = reply.status_code == 206 and span.startswith(f"bytes {have}-")
            have = have if resumed else 0
            length = reply.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else None
            with open(part, "ab" if resumed else "wb") as f:
                for chunk in reply.iter_content(2**16):
                    progress(have, f.write(chunk), total)
                    if f.tell() > limit:
                        break

    _attempts(url, action)


# ---------------------------------------------------------------- where files are


def by_pattern(pattern: str, wanted: Iterable[str]) -> list[File]:
    """`wanted` paths whose addresses follow `pattern`, which holds {path}."""
    return [File(path, pattern.replace("{path}", path)) for path in wanted]


def girder(
    opened: "requests.Session",
    api: str,
    root: str,
    folders: Iterable[str],
    every: Callable[[Callable, Iterable], Iterable],
) -> list[File]:
    """All files in these `folders` below the Girder folder `root`, by the names that
    the server gives its folders and items; `every` is map, or a pool's.

    Raises Unreachable, also where a folder is not there.
    """

    def listed(what: str) -> list[dict]:
        found: list[dict] = []
        for offset in itertools.count(step=PAGE):
            url = f"{api}/{what}&limit={PAGE}&offset={offset}"
            page = _attempts(url, functools.partial(_json, opened, url))
            found += page
            if len(page) < PAGE:
                return found
        raise AssertionError

    def inside(folder: str) -> dict[str, str]:
        rows = listed(f"folder?parentType=folder&parentId={folder}")
        return {row["name"]: row["_id"] for row in rows}

    folders = list(folders)
    identity = {".": root}
    # ancestors first, each asked once
    above = {
        parent.as_posix(): None
        for folder in folders
        for parent in reversed(PurePosixPath(folder).parents)
    }
    for parent in above:
        if parent not in identity:
            raise Unreachable(f"{host(api)}: no folder {parent} any more")
        children = inside(identity[parent])
        if parent == "." and [*children] == ["database"]:  # which the archive shows too
            children = inside(children["database"])
        for name, key in children.items():
            identity[(PurePosixPath(parent) / name).as_posix()] = key
    if lost := [folder for folder in folders if folder not in identity]:
        raise Unreachable(f"{host(api)}: no folder {lost[0]} any more")

    def items(folder: str) -> list[File]:
        rows = listed(f"item?folderId={identity[folder]}")
        return [
            File(f"{folder}/{row['name']}", f"{api}/item/{row['_id']}/download")
            for row in rows
        ]

    return [file for some in every(items, folders) for file in some]


def _json(opened: "requests.Session", url: str) -> list[dict]:
    with _asked(opened, url) as reply:
        content = reply.content
    try:
        page = json.loads(content)
        if not all({"_id", "name"} <= row.keys() for row in page):
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise Unreachable(f"{host(url)}: an answer that is not a listing") from None
    return page


# ---------------------------------------------------------------- archives


def members(
    archive: Path, wanted: Callable[[str], str | None]
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(path below the set's folder, how to write it) of each file of a zip archive for
    which `wanted` gives such a path. None leads out of its folder.

    Raises zipfile.BadZipFile for what is no archive.
    """
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = info.filename
            if info.is_dir() or re.search(
                r"(^|[/\\])\.\.?([/\\]|$)|^[/\\]|[:\\]", name
            ):
                continue
            if path := wanted(name):

                def write(target: Path, info=info) -> None:
                    with opened.open(info) as source, open(target, "wb") as f:
                        shutil.copyfileobj(source, f)

                yield path, write

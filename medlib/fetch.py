"""Files by name, verified: from the cache, from a mirror, or from upstream.

A file is looked for in the cache (medlib.paths.cache), then in the folder or URL that
MEDLIB_MIRROR names, then upstream (unless MEDLIB_OFFLINE is set). It counts only after
its checksum matched: a wrong file is an error, never a reason to go on without.

A set of many files has a folder. What medlib fetches into it is marked by a file
`.fetched` there, so that a part of it is never taken for the whole; a folder without
that mark is the reader's own and is taken as it is.
"""

import contextlib
import csv
import errno
import functools
import gzip
import hashlib
import os
import re
import threading
import time
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from medlib import upstream
from medlib.data import DataError
from medlib.paths import cache, mirror, resource
from medlib.upstream import Unreachable

REGISTRY = tomllib.loads(resource("datasets.toml").read_text(encoding="utf-8"))
RECORD = ".fetched"
STALE = 120  # seconds without a sign of life after which a lock is nobody's
LARGEST = 2**30  # bytes that one unzipped file may have


class _Wrong(DataError):
    """An upstream sent something else than the file."""


# ---------------------------------------------------------------- one file


def find(entry: dict) -> tuple[Path, str]:
    """A verified local copy of one registry file, and whether it is from cache, mirror
    or upstream.

    Raises Unreachable where no copy is reached, DataError where none is right.
    """
    cached = cache() / entry["path"]
    if cached.exists():
        _verify(cached, entry, f"{cached} (in the cache)")
        return cached, "cache"
    place = mirror()
    if isinstance(place, Path):
        local = place / entry["path"]
        if local.exists():
            _verify(local, entry, f"{local} (from MEDLIB_MIRROR)")
            return local, "mirror"
    urls = [(f"{place}/{entry['path']}", "mirror")] if isinstance(place, str) else []
    if not os.environ.get("MEDLIB_OFFLINE"):
        urls += [(url, "upstream") for url in entry["url"]]
    with _writing(cached), upstream.session() as session:
        return cached, _first(
            entry["path"],
            [
                (source, functools.partial(_fetch, session, url, cached, entry))
                for url, source in urls
            ],
        )


def _first(what: str, ways: list[tuple[str, Callable[[], None]]]) -> str:
    """The source of the first way that goes through. A wrong file is an error where no
    other way leads to the right one."""
    reasons, wrong = [], None
    for source, way in ways:
        try:
            way()
            return source
        except Unreachable as error:
            reasons.append(str(error))
        except _Wrong as error:
            wrong = wrong or error
    if wrong:
        raise wrong
    nowhere = "not in the cache, not in MEDLIB_MIRROR, and MEDLIB_OFFLINE is set"
    raise Unreachable(f"{what}: {'; '.join(dict.fromkeys(reasons)) or nowhere}")


def _digest(path: Path, method: str) -> str:
    with open(path, "rb") as f:
        return f"{method}:{hashlib.file_digest(f, method).hexdigest()}"


def _verify(path: Path, entry: dict, origin: str) -> None:
    seen = {
        method: _digest(path, method)
        for method in {h.split(":")[0] for h in entry["hash"]}
    }
    if not set(seen.values()) & set(entry["hash"]):
        home = (cache() / entry["path"]).parent
        raise _Wrong(
            f"{origin} is not {entry['path']}.\n"
            f"  expected: {' or '.join(entry['hash'])}\n"
            f"  seen:     {' and '.join(seen.values())} ({path.stat().st_size:,} "
            "bytes)\n"
            f"  What to do: delete that file, download {entry['url'][0]} in a browser "
            "and put it, as "
            f"{Path(entry['path']).name}, into {home}"
        )


def _fetch(session: Any, url: str, target: Path, entry: dict) -> None:
    """One registry file, by one process at a time: who waited finds the other's."""
    from tqdm.auto import tqdm

    with _alone(target):
        if target.exists():
            return
        announce(entry["path"])
        # its notebook form ignores the variable
        quiet = bool(os.environ.get("TQDM_DISABLE"))
        bar = tqdm(
            desc=target.name,
            total=entry.get("bytes"),
            unit="B",
            unit_scale=True,
            leave=False,
            disable=quiet,
        )

        def progress(have: int, more: int, total: int | None) -> None:
            bar.total = bar.total or total
            bar.update(more + (have if not bar.n else 0))

        with bar:
            _arrive(
                session,
                url,
                target,
                lambda part: _verify(part, entry, f"What {url} sent"),
                # a server that never stops must not fill the disk
                limit=2 * entry.get("bytes", LARGEST),
                pinned=any(h.startswith("sha256:") for h in entry["hash"]),
                progress=progress,
            )


def _arrive(
    session: Any, url: str, target: Path, check: Callable[[Path], Any], **options: Any
) -> None:
    """Download beside `target`, `check`, move into place. Raises what `check` raises;
    but what was put together over several connections has a second chance as one."""
    key = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = target.with_name(f"{target.name}.{key}.part")
    while True:
        resumed = part.exists()
        upstream.download(session, url, part, **options)
        try:
            check(part)
        except _Wrong:
            part.unlink()
            if not resumed:
                raise
        else:
            os.replace(part, target)
            for other in target.parent.glob(f"{target.name}.*.part"):
                other.unlink()
            return


# ---------------------------------------------------------------- a set's folder


class Part(NamedTuple):
    """Files of a set that are fetched together."""

    folders: list[str]  # below the set's own
    keep: str  # the names of the files in each: a regular expression
    each: int  # how many there are in each
    archive: dict | None  # or: a registry file, to be unpacked into the set's folder
    name: str


def folder(
    name: str, *, cine: bool = False, split: str = "", whole: bool = False
) -> tuple[Path, str]:
    """The folder of a set of many files, and whether it is from cache, mirror or
    upstream. `cine` asks for the frames between ED and ES as well, `split="official"`
    for the challenge's test patients (in testing/, beside training/), `whole` for what
    is otherwise left upstream since it is large.

    A folder of the reader's own, in the cache or in MEDLIB_MIRROR, is taken as it is.
    Raises Unreachable where something is missing and cannot be reached; DataError where
    something else than the files was sent, or they cannot be written.
    """
    card = REGISTRY[name]
    place = cache() / card["path"]
    parts = chosen(name, cine=cine, split=split, whole=whole)
    extra = [part for part in parts if part not in chosen(name)]
    if is_own(place):
        if short := [part.name for part in extra if not _somewhere(part, place)]:
            raise Unreachable(
                f"{place} is a folder of your own, without {', '.join(short)}; move it "
                "away, and the set is fetched"
            )
        return place, "cache"
    if place.is_dir() and not any(lacking(part, name, place) for part in parts):
        return place, "cache"
    ways: list[tuple[str, dict]] = []
    if isinstance(other := mirror(), str):
        ways.append(("mirror", {"files": f"{other}/{card['path']}/{{path}}"}))
    elif other:
        there = other / card["path"]
        if there.is_dir() and all(_somewhere(part, there) for part in extra):
            return there, "mirror"
    if not os.environ.get("MEDLIB_OFFLINE"):
        ways += [("upstream", way) for way in card.get("way", [{}])]
    what = f"{name} ({', '.join(part.name for part in parts)})"
    if not ways:
        _first(what, [])
    with _writing(place), _alone(place), upstream.session() as session:
        source = _first(
            what,
            [
                (source, functools.partial(_bring, session, name, parts, place, way))
                for source, way in ways
            ],
        )
    return place, source


def chosen(
    name: str, *, cine: bool = False, split: str = "", whole: bool = False
) -> list[Part]:
    """The parts of a set that are asked for."""
    if split not in ("", "official"):
        raise DataError(f'{name}: split={split!r}; expected "" or "official"')
    asked = {"cine": cine, "official": bool(split), "whole": whole}
    return [
        Part(
            [
                pattern.format(number)
                for pattern in row.get("folders", [])
                for number in range(row.get("first", 1), row.get("last", 1) + 1)
            ],
            row.get("keep", ".*"),
            row.get("each", 0),
            row if "url" in row else None,
            row["name"],
        )
        for row in REGISTRY[name].get("part", [])
        if all(asked[word] for word in row.get("only", []))
    ]


def is_own(place: Path) -> bool:
    """Whether this folder holds something that medlib did not fetch."""
    return (
        place.is_dir()
        and not (place / RECORD).exists()
        and any(not p.name.startswith(".") for p in place.iterdir())
    )


def _somewhere(part: Part, place: Path) -> bool:
    """Whether the part is there, at any depth."""
    if part.archive:
        return True  # who has a folder of his own chose how much of it
    names = {folder.split("/")[-1] for folder in part.folders}
    return any(
        re.fullmatch(part.keep, path.name)
        for path in place.rglob("*")
        if path.parent.name in names
    )


@functools.cache
def checksums(name: str) -> dict[str, tuple[int, str]]:
    """{path: (bytes, SHA-256)} of a set's files, over the unzipped bytes where the name
    ends in .gz, so that a copy that was compressed anew passes."""
    table = resource("checksums") / f"{name}.csv"
    if not table.is_file():
        return {}
    with open(table, encoding="utf-8", newline="") as f:
        return {
            row["path"]: (int(row["bytes"]), row["sha256"]) for row in csv.DictReader(f)
        }


def _listed(part: Part, name: str, folder: str) -> list[str]:
    """The files of one folder by the table of checksums, if it has them all."""
    rows = [
        path
        for path in checksums(name)
        if PurePosixPath(path).parent.as_posix() == folder
        and re.fullmatch(part.keep, PurePosixPath(path).name)
    ]
    return rows if len(rows) == part.each else []


def files_of(part: Part, place: Path) -> list[str]:
    """The files of a part that are there."""
    return [
        (PurePosixPath(folder) / path.name).as_posix()
        for folder in part.folders
        if (place / folder).is_dir()
        for path in sorted((place / folder).iterdir())
        if re.fullmatch(part.keep, path.name)
    ]


def lacking(part: Part, name: str, place: Path) -> list[str]:
    """The folders of a part that are not whole; or its name, if it is an archive."""
    if part.archive:
        record = place / RECORD
        lines = record.read_text("utf-8").split() if record.exists() else []
        return [] if part.name in lines else [part.name]
    short = []
    for folder in part.folders:
        here = place / folder
        present = {p.name for p in here.iterdir()} if here.is_dir() else set()
        found = {n for n in present if re.fullmatch(part.keep, n)}
        expected = {PurePosixPath(path).name for path in _listed(part, name, folder)}
        if len(found) < part.each or expected - found:
            short.append(folder)
    return short


def _bring(session: Any, name: str, parts: list[Part], place: Path, way: dict) -> None:
    """What is lacking of these parts, by one way."""
    announce(REGISTRY[name]["path"])
    place.mkdir(parents=True, exist_ok=True)
    with open(place / RECORD, "a"):  # from here on the folder is ours
        pass
    for part in parts:
        if not (short := lacking(part, name, place)):
            continue
        if part.archive:
            _unpack(session, name, part, place)
        elif "archive" in way:
            _from_archive(session, name, part, short, place, way["archive"])
        else:
            _one_by_one(session, name, part, short, place, way)
        if still := lacking(part, name, place):
            raise Unreachable(
                f"{name}: {len(still)} of {len(part.folders)} folders are not whole, "
                f"{still[0]} among them"
            )


def _one_by_one(
    session: Any, name: str, part: Part, short: list[str], place: Path, way: dict
) -> None:
    from tqdm.auto import tqdm

    pool = ThreadPoolExecutor(upstream.TOGETHER)
    try:
        if "girder" in way:
            files = upstream.girder(session, way["girder"], way["id"], short, pool.map)
        elif "files" in way:
            if strange := [f for f in short if not _listed(part, name, f)]:
                raise Unreachable(
                    f"{name}: {strange[0]} is not in the table of checksums, so no "
                    f"copy of it is taken from {upstream.host(way['files'])}"
                )
            wanted = [path for f in short for path in _listed(part, name, f)]
            files = upstream.by_pattern(way["files"], wanted)
        else:
            raise Unreachable(f"no folder {place}, and nowhere to fetch it from")
        files = [
            file
            for file in files
            if re.fullmatch(part.keep, PurePosixPath(file.path).name)
            and not (place / file.path).exists()
        ]

        def one(file: upstream.File) -> None:
            target = place / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            row = checksums(name).get(file.path)
            _arrive(
                session,
                file.url,
                target,
                lambda part: check(part, file.path, row, file.url),
                limit=2 * row[0] + 2**16 if row else LARGEST,
                pinned=row is not None,
            )

        jobs = [pool.submit(one, file) for file in files]
        quiet = bool(os.environ.get("TQDM_DISABLE"))
        with tqdm(
            desc=f"{name}: {part.name}", total=len(jobs), unit="file", disable=quiet
        ) as bar:
            for job in jobs:
                job.result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def check(
    path: Path, name: str, row: tuple[int, str] | None, origin: str
) -> tuple[int, str]:
    """(bytes, SHA-256) of a file, unzipped if its name ends in .gz. Raises _Wrong where
    it is not as the table says, or, without a row there, is broken."""
    digest, size = hashlib.sha256(), 0
    try:
        with gzip.open(path) if name.endswith(".gz") else open(path, "rb") as f:
            while block := f.read(2**20):
                size += len(block)
                digest.update(block)
                if size > (row[0] if row else LARGEST):
                    raise EOFError("too long")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _Wrong(f"What {origin} sent is not {name} ({error})") from None
    seen = size, digest.hexdigest()
    if row and seen != row:
        raise _Wrong(
            f"What {origin} sent is not {name}.\n"
            f"  expected: sha256:{row[1]} ({row[0]:,} bytes, unzipped)\n"
            f"  seen:     sha256:{seen[1]} ({size:,} bytes)\n"
            "  What to do: try again later; or get the file elsewhere, put the set's "
            "folder together by hand, and set MEDLIB_MIRROR to what it lies in"
        )
    if not size:
        raise _Wrong(f"What {origin} sent is not {name}: it is empty")
    return seen


def _from_archive(
    session: Any, name: str, part: Part, short: list[str], place: Path, url: str
) -> None:
    """The files of a part out of one large archive. No checksum of it can be known,
    since the server writes it anew each time; its members are checked."""

    def wanted(member: str) -> str | None:
        steps = PurePosixPath(member).parts
        if not re.fullmatch(part.keep, steps[-1]):
            return None
        for k in range(len(steps)):
            if "/".join(steps[k:-1]) in short:
                return "/".join(steps[k:])
        return None

    archive = place / f".{name}.zip"
    try:
        upstream.download(session, url, archive, limit=4 * LARGEST)
        for path, write in upstream.members(archive, wanted):
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f"{target.name}.part")
            write(half)
            row = checksums(name).get(path)
            try:
                check(half, path, row, f"{url} ({path})")
            except _Wrong:
                half.unlink()
                raise
            os.replace(half, target)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise _Wrong(
            f"What {url} sent is not the archive of {name} ({error})"
        ) from None
    finally:
        archive.unlink(missing_ok=True)


def _unpack(session: Any, name: str, part: Part, place: Path) -> None:
    """A file of known SHA-256 into the set's folder, unpacked if it is an archive."""
    entry = part.archive
    assert entry is not None
    packed = entry.get("unpack", False)
    file = place / (f".{part.name}.zip" if packed else entry["file"])
    entry = entry | {"path": file.relative_to(cache()).as_posix()}
    if file.exists():
        with contextlib.suppress(_Wrong):
            _verify(file, entry, str(file))
    _first(
        part.name,
        [
            ("", functools.partial(_fetch, session, url, file, entry))
            for url in entry["url"]
        ],
    )
    if packed:
        keep = lambda member: member if re.match(part.keep, member) else None
        for path, write in upstream.members(file, keep):
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f"{target.name}.part")
            write(half)
            os.replace(half, target)
        file.unlink()
    record = place / RECORD
    half = record.with_name(f"{RECORD}.part")
    half.write_text(f"{record.read_text('utf-8')}{part.name}\n", "utf-8")
    os.replace(half, record)


# ---------------------------------------------------------------- writing in peace


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say what to do where `target` cannot be written."""
    try:
        yield
    except (Unreachable, DataError):
        raise
    except OSError as error:  # no room, no permission
        raise DataError(
            f"{target} cannot be written ({error.strerror or error}).\n  What to do: "
            "make room or give permission there, "
            "or put the file into a folder of yours and set MEDLIB_MIRROR to it"
        ) from None


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time. Where the system cannot lock a file (a Drive folder), the
    lock is a file that its holder keeps young; an old one is nobody's."""
    from filelock import FileLock, SoftFileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.lock")
    lock: Any = FileLock(path)
    try:
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        known = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
        if isinstance(error, OSError) and error.errno not in known:
            raise
        path = target.with_name(f".{target.name}.softlock")
        lock = SoftFileLock(path)
        while not lock.is_locked:
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=1)
                break
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE:
                    path.unlink()
    done = threading.Event()

    def keep_young() -> None:
        while not done.wait(STALE / 8):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=keep_young, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        lock.release()


# ---------------------------------------------------------------- what is said


def announce(path: str) -> None:
    """Say what is fetched, its licence and its citation, once a set."""
    for name, card in REGISTRY.items():
        if path.startswith(f"{card.get('path', 'no folder')}/") or path in {
            entry.get("path") for entry in card.get("file", [card])
        }:
            _announce(name)


@functools.cache
def _announce(name: str) -> None:
    card = REGISTRY[name]
    lines = [f"Fetching {card['title']}.", f"Licence: {card['licence']}."]
    lines += [card[key] for key in ("terms", "reference") if key in card]
    print("\n  ".join(lines))


def addresses() -> Iterator[tuple[str, str]]:
    """(set, address) of all that is asked upstream; of many alike the first."""
    for name, card in REGISTRY.items():
        for entry in card.get("file", []) + card.get("part", []):
            yield from ((name, url) for url in entry.get("url", []))
        for way in card.get("way", []):
            if "girder" in way:
                listing = "folder?parentType=folder&limit=1&parentId="
                yield name, f"{way['girder']}/{listing}{way['id']}"
            elif "files" in way:
                first = next(iter(checksums(name)), "")
                yield name, way["files"].replace("{path}", first)
            else:
                yield name, way["archive"]


def standard(card: dict) -> list[str]:
    """The paths of a set in the cache, without those of other sizes of its images."""
    entries = [entry for entry in card.get("file", [card]) if "size" not in entry]
    return [entry["path"] for entry in entries if "path" in entry]


def banner(name: str, reason: str) -> None:
    """Say, where no one can miss it, that what follows runs on stand-in data."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    card = REGISTRY[name]
    files = ", ".join(f"`{path}`" for path in standard(card))
    page = card.get("page") or card["file"][0]["url"][0]
    message = (
        f"> **STAND-IN DATA.** {card['title']} could not be reached, so what follows "
        "runs on "
        "simulated or toy images. **No number below says anything about the real "
        "set.**\n>\n"
        f"> Reason: {reason}.\n>\n> To use the real images, put {files} into "
        f"`{cache()}` "
        f"(from {page}), or set `MEDLIB_MIRROR` to a folder that holds them, and run "
        "again."
    )
    if get_ipython() is None:
        print(message)
    else:
        display(Markdown(message))

"""Files by name, verified: from the cache, from a mirror, or from upstream.

A file is looked for in the cache (medlib.paths.cache), then in the folder or URL that
MEDLIB_MIRROR names, then upstream (unless MEDLIB_OFFLINE is set). It counts only after
its checksum matched: a wrong file is an error, never a reason to go on without.
"""

import hashlib
import os
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from medlib.data import DataError
from medlib.paths import cache, resource

REGISTRY = tomllib.loads(resource("datasets.toml").read_text(encoding="utf-8"))
TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte
ATTEMPTS = 3


class Unreachable(OSError):
    """No copy of a file could be reached."""


def find(entry: dict) -> tuple[Path, str]:
    """A verified local copy of one registry file, and whether it is from cache, mirror
    or upstream.
    """
    cached = cache() / entry["path"]
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
    places = {"cache": cache() / path}
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
        home = (cache() / entry["path"]).parent
        raise DataError(
            f"{origin} is not {entry['path']}.\n"
            f"  expected: {' or '.join(entry['hash'])}\n"
            f"  seen:     {' and '.join(seen.values())} ({path.stat().st_size:,} "
            "bytes)\n"
            f"  What to do: delete that file, download {entry['url'][0]} in a browser "
            "and put it, as "
            f"{Path(entry['path']).name}, into {home}"
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


def banner(name: str, reason: str) -> None:
    """Say, where no one can miss it, that what follows runs on stand-in data."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    card = REGISTRY[name]
    files = ", ".join(
        f"`{entry['path']}`"
        for entry in card.get("file", [card])
        if "size" not in entry
    )
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

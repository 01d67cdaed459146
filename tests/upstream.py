"""Plays the upstreams of the data sets, each with its own layout, on this machine:

    python tests/upstream.py --data FOLDER --port 8765
    MEDLIB_UPSTREAM=http://127.0.0.1:8765 python …

FOLDER is laid out as for MEDLIB_MIRROR. Sunnybrook's archives are not made from it, as
their SHA-256 are known; tests make their own.
"""

import argparse
import contextlib
import hashlib
import http.server
import io
import json
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

GIRDER = "humanheart-project.creatis.insa-lyon.fr"
ROOT = "637218e573e9f0047faa00fc"
PLAIN = {  # host and folder there → folder in the data
    "zenodo.org/records/10519652/files/": "medmnist/",
    "cdn-lfs.hf.co/medmnist/": "medmnist/",
    "cdn-lfs.hf.co/acdc/": "acdc/",
    "ossci-datasets.s3.amazonaws.com/mnist/": "mnist/",
    "storage.googleapis.com/cvdf-datasets/mnist/": "mnist/",
    "raw.githubusercontent.com/zhixuhao/unet/"
    "b45af4d458437d8281cc218a07fd4380818ece4a/data/membrane/train/": "em/",
    "raw.githubusercontent.com/fsahli/WarpPINN/"
    "c9143f1b10d05f814f90e5c1502dff037f5d6e69/data/v1/": "cmac/",
}
REDIRECTS = {  # Hugging Face keeps the files elsewhere
    "huggingface.co/datasets/albertvillanova/medmnist-v2/resolve/"
    "f6dd981c7400b3e3738bde12ff948b7cc8f0d623/data/": "cdn-lfs.hf.co/medmnist/",
    "huggingface.co/datasets/msepulvedagodoy/acdc/resolve/"
    "067262d5b40f9c976f7139c13416ace5a3314f42/": "cdn-lfs.hf.co/acdc/",
}


class Upstream(http.server.ThreadingHTTPServer):
    """`data` is the folder served; `archives` {id: bytes} are those of cardiacatlas;
    `faults` {part of host/path: kind} are what goes wrong there, until `cured` answers
    were spoilt; `asked` keeps (host/path, User-Agent, Range), `busiest` the most
    requests at one time."""

    daemon_threads = True

    def __init__(self, data: Path, port: int = 0):
        super().__init__(("127.0.0.1", port), Answer)
        self.data, self.archives, self.faults, self.cured = data, {}, {}, 10**9
        self.asked, self.busy, self.busiest, self.spoilt, self.sent = [], 0, 0, 0, 0
        self.stop, self.lock = threading.Event(), threading.Lock()

    def handle_error(self, *_):  # who asked has gone away
        pass

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(data: Path):
    """An Upstream at work."""
    server = Upstream(data)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    log_message = lambda *_: None

    def do_GET(self):
        server, where = self.server, self.path.lstrip("/")
        with server.lock:
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
            agent = self.headers.get("User-Agent", "")
            server.asked.append((where, agent, self.headers.get("Range")))
            fault = next((f for part, f in server.faults.items() if part in where), "")
            if fault and server.spoilt >= server.cured:
                fault = ""
            server.spoilt += bool(fault)
        try:
            if agent.startswith(("python-requests", "Python-urllib", "Mozilla/5.0")):
                self.send(b"blocked: set a User-Agent of your own", status=403)
            elif fault.startswith("http "):
                self.send(b"no", status=int(fault[5:]))
            elif fault == "retry-after":
                self.send(b"slowly", status=429, retry_after="0")
            elif fault == "retry-tomorrow":
                self.send(b"no more", status=429, retry_after="86400")
            elif fault == "html":
                self.send(b"<html>Please log in", content_type="text/html")
            elif fault == "moved":
                self.send(b"", status=301, location=f"{server.address}/new.org/page")
            elif where == "new.org/page":
                self.send(b"<html>Our new site", content_type="text/html; charset=utf8")
            else:
                self.answer(where, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.busy -= 1

    def answer(self, where: str, fault: str):
        for place, target in REDIRECTS.items():
            if where.startswith(place):
                new = f"{self.server.address}/{target}{where.removeprefix(place)}"
                return self.send(b"", status=302, location=new)
        for place, target in PLAIN.items():
            if where.startswith(place):
                name = urlsplit(where.removeprefix(place)).path
                return self.file(self.server.data / target / name, fault)
        if where.startswith("www.cardiacatlas.org/share/download.php"):
            number = parse_qs(urlsplit(where).query).get("id", [""])[0]
            if number in self.server.archives:
                return self.content(self.server.archives[number], fault)
        if where.startswith(f"{GIRDER}/database/api/v1/"):
            return self.girder(where.split("/api/v1/")[1], fault)
        self.send(b"not here", status=404)

    def girder(self, call: str, fault: str):
        """Folders and items by id, in pages of 50 unless another limit is asked for."""
        acdc = self.server.data / "acdc"
        path, query = urlsplit(call).path, parse_qs(urlsplit(call).query)
        key = (query.get("parentId") or query.get("folderId") or path.split("/")[1:2])[
            0
        ]
        places = [acdc, *sorted(acdc.rglob("*"))]
        place = next((p for p in places if identity(p, acdc) == key), None)
        if place is None:
            return self.send(b'{"message": "Invalid id"}', status=400)
        if path.endswith("/download") and path.startswith("item/"):
            return self.file(place, fault, ranges=False)
        if path.endswith("/download"):
            return self.content(archive_of(acdc), fault, ranges=False, length=False)
        kind = Path.is_dir if path == "folder" else Path.is_file
        offset, limit = (
            int(query.get(k, [d])[0]) for k, d in (("offset", 0), ("limit", 50))
        )
        rows = [
            {"_id": identity(p, acdc), "name": p.name, "size": p.stat().st_size}
            for p in sorted(place.iterdir())
            if kind(p) and not p.name.endswith(".md")
        ][offset : offset + limit]
        self.content(json.dumps(rows).encode(), "", kind="application/json")

    def file(self, path: Path, fault: str, **options):
        if not path.is_file():
            return self.send(b"not here", status=404)
        self.content(path.read_bytes(), fault, **options)

    def content(self, body, fault, *, ranges=True, length=True, kind="application/x"):
        if fault == "wrong bytes":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif fault == "too short":  # and the server says that this is all
            body = body[: len(body) // 2]
        elif fault == "endless":
            body = body * 20
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if not ranges or fault == "ranges ignored" or fault == "broken":
            start = 0
        if fault in ("broken", "line drops", "stall", "ranges ignored"):
            self.send(
                body[start:],
                half=not (fault == "ranges ignored" and self.headers.get("Range")),
                stall=fault == "stall",
                total=len(body),
                start=start,
                content_type=kind,
            )
        elif start >= len(body) > 0 and start:
            self.send(b"", status=416)
        else:
            self.send(
                body[start:],
                total=len(body),
                start=start,
                length=length,
                content_type=kind,
            )

    def send(self, body, *, status=200, half=False, stall=False, total=0, start=0,
             length=True, **headers):  # fmt: skip
        if start:
            status = 206
            headers["content_range"] = f"bytes {start}-{total - 1}/{total}"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-").title(), value)
        if length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.server.sent += len(body) // (2 if half else 1)
        if stall:
            self.server.stop.wait(5)
        if half:
            self.close_connection = True


def identity(path: Path, root: Path) -> str:
    """A Girder id: 24 hexadecimal digits, that say nothing of the name."""
    if path == root:
        return ROOT
    name = path.relative_to(root).as_posix()
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def archive_of(folder: Path) -> bytes:
    """All of it as one zip, as Girder makes it: stored, under database/, with the time
    of day in every header."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = f"database/{path.relative_to(folder).as_posix()}"
            info = zipfile.ZipInfo(name, time.localtime()[:6])
            archive.writestr(info, path.read_bytes())
    return written.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8765)
    given = parser.parse_args()
    print(f"MEDLIB_UPSTREAM=http://127.0.0.1:{given.port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        Upstream(given.data, given.port).serve_forever()

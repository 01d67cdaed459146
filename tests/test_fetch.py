import hashlib
import http.server
import threading
from typing import ClassVar

import pytest

from medlib import fetch as fetching
from medlib import upstream
from medlib.data import DataError
from medlib.fetch import Unreachable

CONTENT = bytes(range(256)) * 800


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /good; misbehaves at the other paths. `asked` keeps the Range
    headers.
    """

    asked: ClassVar[list] = []
    log_message = lambda *_: None

    def do_GET(self):
        Server.asked.append(self.headers.get("Range"))
        getattr(self, "do_" + self.path.strip("/"))()

    def send(self, body, *, status=200, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_good(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if start >= len(CONTENT):
            self.send(b"", status=416)
        elif start:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.send(CONTENT[start:], status=206, Content_Range=span)
        else:
            self.send(CONTENT)

    def do_cut(self):  # half the file, then the line drops; resuming works
        if self.headers.get("Range"):
            return self.do_good()
        self.send(CONTENT[: len(CONTENT) // 2], length=len(CONTENT))

    def do_stubborn(self):  # half the file each time, and no resuming
        self.send(CONTENT[: len(CONTENT) // 2], length=len(CONTENT))

    def do_recovering(self):  # stubborn until the first call has given up
        first = upstream.ATTEMPTS + 1  # an attempt that got on does not count
        self.do_stubborn() if len(Server.asked) <= first else self.do_good()

    def do_short(self):  # half the file, and the server says that this is all
        self.send(CONTENT[: len(CONTENT) // 2])

    def do_html(self):
        self.send(b"<html>Please log in</html>", Content_Type="text/html")

    def do_moved(self):
        self.send(b"", status=302, Location="/good")

    def do_altered(self):
        self.send(CONTENT[:-1] + b"x")

    def do_endless(self):
        self.send(CONTENT * 20)

    def do_missing(self):
        self.send(b"", status=404)

    def do_stall(self):
        self.send(CONTENT[:100], length=len(CONTENT))
        stop.wait(5)


stop = threading.Event()


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(address, tmp_path, monkeypatch):
    """Look for a file at one path of the server, with an empty cache."""
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(upstream, "TIMEOUT", (2, 0.3))
    monkeypatch.setattr(upstream, "PAUSE", 0)
    monkeypatch.delenv("MEDLIB_OFFLINE", raising=False)
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    Server.asked = []

    def fetch(path):
        digest = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
        return fetching.find(
            {
                "path": "set/file.npz",
                "url": [address + path],
                "bytes": len(CONTENT),
                "hash": [digest],
            }
        )

    fetch.cache = tmp_path / "cache" / "set"
    fetch.left = lambda: [p for p in fetch.cache.iterdir() if p.suffix != ".lock"]
    return fetch


@pytest.mark.parametrize("path", ["/good", "/moved", "/cut"])
def test_a_right_file_arrives(fetch, path):
    found, source = fetch(path)
    assert found.read_bytes() == CONTENT and source == "upstream"
    assert [p.name for p in fetch.left()] == ["file.npz"]
    assert fetch("/missing")[1] == "cache"


def test_a_broken_line_resumes_where_it_broke(fetch):
    fetch("/cut")
    first, second = Server.asked
    assert first is None and 0 < int(second[6:-1]) <= len(CONTENT) // 2


def test_a_part_left_behind_is_not_the_set(fetch):
    with pytest.raises(Unreachable):
        fetch("/stubborn")
    (part,) = fetch.left()
    assert part.suffix == ".part"
    assert not (fetch.cache / "file.npz").exists()


def test_a_later_call_resumes_what_an_earlier_one_left(fetch):
    with pytest.raises(Unreachable):
        fetch("/recovering")
    (left,) = [p.stat().st_size for p in fetch.left()]
    assert fetch("/recovering")[0].read_bytes() == CONTENT
    assert left > 0 and Server.asked[-1] == f"bytes={left}-"


@pytest.mark.parametrize("path", ["/short", "/altered", "/endless"])
def test_a_wrong_file_is_refused_with_what_to_do(fetch, path):
    with pytest.raises(DataError) as error:
        fetch(path)
    for word in (
        "expected: sha256:",
        "seen:     sha256:",
        "127.0.0.1",
        str(fetch.cache),
    ):
        assert word in str(error.value)
    assert fetch.left() == []


@pytest.mark.parametrize("path", ["/stall", "/missing", "/html"])
def test_what_does_not_answer_is_unreachable(fetch, path):
    with pytest.raises(Unreachable, match="file.npz"):
        fetch(path)
    assert not (fetch.cache / "file.npz").exists()


def test_a_wrong_file_in_the_cache_is_named(fetch):
    fetch.cache.mkdir(parents=True)
    (fetch.cache / "file.npz").write_bytes(b"truncated")
    with pytest.raises(DataError, match="in the cache"):
        fetch("/good")


def test_a_mirror_folder_and_a_mirror_url(fetch, tmp_path, monkeypatch, address):
    mirror = tmp_path / "mirror"
    (mirror / "set").mkdir(parents=True)
    (mirror / "set" / "file.npz").write_bytes(CONTENT)
    monkeypatch.setenv("MEDLIB_MIRROR", str(mirror))
    assert fetch("/missing") == (mirror / "set" / "file.npz", "mirror")
    (mirror / "set" / "file.npz").write_bytes(b"altered")
    with pytest.raises(DataError, match="from MEDLIB_MIRROR"):
        fetch("/missing")


def test_offline_reaches_nothing(fetch, monkeypatch):
    monkeypatch.setenv("MEDLIB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="MEDLIB_OFFLINE"):
        fetch("/good")
    assert Server.asked == []


def test_a_folder_is_found_in_the_cache_then_in_the_mirror(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(Unreachable, match=r"acdc .*cache.*MIRROR.*OFFLINE"):
        fetching.folder("acdc")
    for source in ("mirror", "cache"):
        (tmp_path / source / "acdc" / "anyone").mkdir(parents=True)
        assert fetching.folder("acdc") == (tmp_path / source / "acdc", source)

import hashlib
import http.server
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch

from medlib import data
from medlib.data import (
    DataError,
    Dataset,
    Split,
    Unreachable,
    audit,
    check,
    random_shift,
)

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
        self.do_stubborn() if len(Server.asked) <= data.ATTEMPTS else self.do_good()

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
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(data, "TIMEOUT", (2, 0.3))
    monkeypatch.delenv("MEDLIB_OFFLINE", raising=False)
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    Server.asked = []

    def fetch(path):
        digest = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
        return data.find(
            {
                "path": "set/file.npz",
                "url": [address + path],
                "bytes": len(CONTENT),
                "hash": [digest],
            }
        )

    fetch.cache = tmp_path / "data" / "cache" / "set"
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
    assert not (
        fetch.cache / "file.npz"
    ).exists()  # a part is never mistaken for the set


def test_a_later_call_resumes_what_an_earlier_one_left(fetch):
    with pytest.raises(Unreachable):
        fetch("/recovering")
    (left,) = [p.stat().st_size for p in fetch.left()]
    assert fetch("/recovering")[0].read_bytes() == CONTENT
    assert left > 0 and Server.asked[-1] == f"bytes={left}-"


@pytest.mark.parametrize("path", ["/short", "/html", "/altered", "/endless"])
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


@pytest.mark.parametrize("path", ["/stall", "/missing"])
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


def images(n=4, classes=2):
    return Split(torch.rand(n, 1, 4, 4), torch.arange(n) % classes)


def nan():
    x, y = images()
    x[2, 0, 1, 1] = float("nan")
    return Split(x, y)


@pytest.mark.parametrize(
    "split, match",
    [
        (Split(torch.zeros(0, 1, 4, 4), torch.zeros(0).long()), "toy/val: no images"),
        (nan(), "toy/val: image 2 holds NaN"),
        (
            Split(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 7])),
            "toy/val: image 2 has label 7; the rule: 0 to 1",
        ),
        (
            Split(torch.zeros(3, 4, 4), torch.zeros(3).long()),
            "toy/val: images.*the rule",
        ),
    ],
)
def test_a_bad_split_names_set_index_and_rule(split, match):
    with pytest.raises(DataError, match=match):
        Dataset("toy", ("a", "b"), images(), split, images(), "simulated")


def test_check_accepts_what_is_right():
    assert check(images(), 2, "toy") is None


def test_an_unknown_name_lists_the_known():
    with pytest.raises(DataError, match="pneumoniamnist, breastmnist"):
        data.load("chestmnist")


def test_audit_finds_copies_across_splits_only(capsys):
    one, two, three = images(4), images(4), images(4)
    two.x[3], one.x[0] = one.x[1], one.x[2]
    pairs = audit(Dataset("toy", ("a", "b"), one, two, three, "simulated"))
    assert (
        pairs == [("train", 1, "val", 3)]
        and "1 validation or test image" in capsys.readouterr().out
    )


def test_digits_load_and_are_disjoint():
    digits = data.load("digits", device="cpu")
    assert [len(s.x) for s in (digits.train, digits.val, digits.test)] == [
        1257,
        180,
        360,
    ]
    assert (
        digits.train.x.min() == 0
        and digits.train.x.max() == 1
        and digits.source == "package"
    )
    assert "0 validation" not in repr(digits) and audit(digits) == []


@pytest.mark.parametrize("name", ["pneumoniamnist", "mnist10k"])
def test_without_data_a_stand_in_speaks_up(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setitem(
        data.REGISTRY,
        name,
        data.REGISTRY[name] | ({"sizes": [20, 6, 8]} if name[0] == "p" else {}),
    )
    d = data.load(name, device="cpu")
    assert "STAND-IN DATA" in capsys.readouterr().out
    assert d.source == data.loaded[name] == "stand-in" and d.train.x.shape[1:] == (
        1,
        28,
        28,
    )
    assert len(d.classes) == len(d.train.y.unique())


def test_subsets_nest_and_keep_the_class_shares():
    x = torch.arange(1000.0).view(-1, 1, 1, 1)
    d = Dataset(
        "toy",
        ("a", "b"),
        Split(x, (torch.arange(1000) % 10 == 0).long()),
        images(),
        images(),
        "simulated",
    )
    small, large = (set(d.subset_index(n, seed=3).tolist()) for n in (50, 200))
    assert small < large and d.subset(50, seed=3).train.y.sum() == 5
    assert set(d.subset_index(50, seed=4).tolist()) != small
    with pytest.raises(DataError, match="the rule: 2 to 1000"):
        d.subset(1001)


def test_standardise_uses_the_training_images_alone():
    d = Dataset(
        "toy",
        ("a", "b"),
        images(),
        Split(images().x + 5, images().y),
        images(),
        "simulated",
    ).standardise()
    assert (
        abs(d.train.x.mean()) < 1e-6
        and abs(d.train.x.std() - 1) < 1e-5
        and d.val.x.mean() > 5
    )


def test_random_shift_moves_whole_images():
    x = torch.zeros(50, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    moved = random_shift(2)(x, torch.Generator().manual_seed(0))
    places = torch.stack([m[0].nonzero()[0] for m in moved])
    assert (
        moved.sum() == 50
        and places.min() >= 2
        and places.max() <= 6
        and len(places.unique(dim=0)) > 10
    )
    assert torch.equal(random_shift(0)(x, torch.Generator()), x)


def test_pickles_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "medmnist.npz"
    np.savez(path, train_images=np.array([{"a": 1}], dtype=object))
    monkeypatch.setattr(data, "find", lambda entry: (path, "cache"))
    with pytest.raises(ValueError, match="of object"):
        data._medmnist("breastmnist")


def test_resize_and_pad():
    digits = data.load("digits", device="cpu")
    larger, framed = digits.resize(16), digits.pad(11)
    assert larger.test.x.shape[1:] == (1, 16, 16) and framed.val.x.shape[1:] == (
        1,
        11,
        11,
    )
    torch.testing.assert_close(framed.test.x[..., 1:9, 1:9], digits.test.x)
    assert (framed.test.x[..., 0, :] == digits.train.x.min()).all()
    assert abs(larger.train.x.mean() - digits.train.x.mean()) < 0.01


def test_membranes_are_read_in_order_and_a_missing_slice_is_named(
    tmp_path, monkeypatch
):
    from PIL import Image

    for kind in ("image", "label"):
        (tmp_path / "em" / kind).mkdir(parents=True)
        for k in range(30):
            Image.fromarray(np.full((8, 8), 255 * (k % 2), np.uint8)).save(
                tmp_path / "em" / kind / f"{k}.png"
            )
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    em = data.load("em")
    assert (
        em.source == "mirror"
        and em.train.y[:2, 0, 0].tolist() == [1, 0]
        and len(em.test.x) == 8
    )
    (tmp_path / "em" / "label" / "7.png").unlink()
    with pytest.raises(DataError, match=r"7\.png"):
        data.load("em")


def test_without_a_folder_membranes_are_simulated_and_said_to_be(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    em = data.load("em")
    assert (
        em.source == "stand-in"
        and "STAND-IN" in capsys.readouterr().out
        and em.train.y.float().mean() < 0.5
    )

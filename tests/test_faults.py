"""Damaged files, kill -9, a full disk, two at once: an error of ours or the right
answer, and nothing half-written taken for whole.
"""

import gzip
import io
import os
import resource
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from medlib import fetch, readers
from medlib.data import DataError
from medlib.hearts import dicom, grid

MUTANTS = 2500  # of each format
# At each place a few in every run of the tests, and fifty in the night.
kills = pytest.mark.parametrize(
    "kills", [3, pytest.param(50, marks=pytest.mark.nightly)]
)
ROOT = Path(__file__).resolve().parents[1]


# ---------------------------------------------------------------- damaged files


def nifti() -> bytes:
    voxels = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    return gzip.compress(
        nibabel.Nifti1Image(voxels, np.diag([1.5, 1.5, 8, 1])).to_bytes(), 1
    )


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        train_images=np.zeros((3, 28, 28), np.uint8),
        train_labels=np.ones((3, 1), np.int64),
    )
    return buffer.getvalue()


def idx() -> bytes:
    return gzip.compress(
        struct.pack(">HBBIII", 0, 8, 3, 2, 28, 28) + bytes(2 * 28 * 28)
    )


def dicom_file() -> bytes:
    return Path(get_testdata_file("MR_small.dcm")).read_bytes()


def read_nifti(path: Path) -> bool:
    voxels, found = grid.read_nifti(path)
    return (
        voxels.ndim == 3
        and np.isfinite(voxels).all()
        and min(found.spacing) > 0
        and np.array_equal(found.to_file(found.to_array(voxels)), voxels)
    )


def read_npz(path: Path) -> bool:
    return all(array.dtype != object for array in readers.read_npz(path).values())


def read_idx(path: Path) -> bool:
    return readers.read_idx(path).dtype == np.uint8


def read_dicom(path: Path) -> bool:
    scan = dicom.read_dicom(path)
    return (
        scan.image.ndim == 4 and np.isfinite(scan.image).all() and min(scan.spacing) > 0
    )


FORMATS = {
    "x.nii.gz": (nifti(), read_nifti),
    "plain.nii.gz": (
        gzip.decompress(nifti()),
        read_nifti,
    ),  # so that the mutations reach the header itself
    "x.npz": (npz(), read_npz),
    "x.gz": (idx(), read_idx),
    "x.dcm": (dicom_file(), read_dicom),
}
EXTREMES = st.sampled_from(
    [
        b"\x00" * 4,
        b"\xff" * 4,
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\xff" * 8,
        b"\x80",
    ]
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1), st.binary(min_size=1, max_size=6) | EXTREMES, st.booleans()
    ),
    max_size=5,
)


def mutate(content: bytes, edits, keep: float, early: bool) -> bytes:
    """Bytes overwritten or put in, near the beginning if `early`, the end cut off."""
    for place, new, insert in edits:
        k = int(place * (min(len(content), 400) if early else len(content)))
        content = content[:k] + new + content[k + (0 if insert else len(new)) :]
    return content[: round(keep * len(content))]


class Hang(Exception):
    pass


@pytest.fixture
def guarded(monkeypatch):
    """No pickle is opened, nothing takes five seconds, and memory does not grow by half
    a gigabyte.
    """
    import pickle

    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was opened")

    for name in ("load", "loads"):
        monkeypatch.setattr(pickle, name, refuse)

    def hang(*_):
        raise Hang

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, hang)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.filterwarnings("ignore")  # a reader may warn of what it then reads right
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_an_error_of_ours_or_read_right(name, tmp_path, guarded):
    content, read = FORMATS[name]
    path, seen = tmp_path / name, {"read": 0, "refused": 0}
    if name == "plain.nii.gz":
        path = tmp_path / "plain.nii"

    @settings(
        max_examples=MUTANTS,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS, st.just(1.0) | st.floats(0, 1), st.booleans())
    def check(edits, keep, early):
        path.write_bytes(mutate(content, edits, keep, early))
        signal.setitimer(signal.ITIMER_REAL, 5)
        try:
            assert read(path)
            seen["read"] += 1
        except DataError as error:
            assert path.name in str(error)
            seen["refused"] += 1
        signal.setitimer(signal.ITIMER_REAL, 0)

    check()
    assert seen["read"] > 0 and seen["refused"] > MUTANTS / 10


def test_a_forged_header_is_not_believed(tmp_path):
    (tmp_path / "x.gz").write_bytes(
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2**31) + b"few")
    )
    with pytest.raises(DataError, match="header"):
        readers.read_idx(tmp_path / "x.gz")


# ---------------------------------------------------------------- a folder that cannot
# be written

ENTRY = {"path": "set/file.npz", "url": [], "hash": ["sha256:0"]}


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.delenv("MEDLIB_OFFLINE", raising=False)
    monkeypatch.setenv("MEDLIB_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(
        DataError, match=r"(?s)file\.npz cannot be written .* MEDLIB_MIRROR"
    ):
        fetch.find(ENTRY)


def run(
    script: str, folder: Path, *arguments, **environment
) -> subprocess.CompletedProcess:
    (folder / "job.py").write_text(textwrap.dedent(script), encoding="utf-8")
    environment = (
        os.environ
        | {"MEDLIB_PRECISION": "no", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}
        | environment
    )
    environment.pop("MEDLIB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "job.py", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


SERVER = """
    import hashlib, http.server, os, random, resource, signal, sys, threading, time
    from pathlib import Path
    import filelock, requests  # or a child spends its short life on their import
    from medlib.data import DataError
    from medlib.fetch import find
    content, asked = random.Random(0).randbytes(600_000), []
    class Server(http.server.BaseHTTPRequestHandler):
        log_message = lambda *_: None
        def do_GET(self):
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            asked.append(start)
            self.send_response(206 if start else 200)
            if start:
                part = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", part)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            # A slow line, so that a kill finds it at work.
            for k in range(start, len(content), 20_000):
                try:
                    self.wfile.write(content[k : k + 20_000])
                except OSError:
                    return
                time.sleep(0.002)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["MEDLIB_CACHE"] = str(Path.cwd() / "cache")
    good = hashlib.sha256(content).hexdigest()
    address = f"http://127.0.0.1:{server.server_port}/x"
    entry = {"path": "set/file.npz", "url": [address], "hash": [f"sha256:{good}"]}
    target = Path.cwd() / "cache" / "set" / "file.npz"
    def child(before=lambda: None):
        pid = os.fork()
        if pid == 0:
            try:
                before()
                find(entry)
            except DataError as error:
                print(error, flush=True)
                os._exit(3)
            os._exit(0)
        return pid
"""


@kills
def test_kills_while_downloading_leave_nothing_half_taken_for_whole(tmp_path, kills):
    done = run(
        SERVER
        + f"""
    killed = 0
    for k in range(1000):
        before, pid = len(asked), child()
        time.sleep(random.Random(k).uniform(0.005, 0.12))
        os.kill(pid, signal.SIGKILL)
        died = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        killed += died and len(asked) > before  # at work, not on its way there
        if target.exists():
            assert target.read_bytes() == content
            target.unlink()
        if killed == {kills}:
            break
    assert os.waitpid(child(), 0)[1] == 0
    assert target.read_bytes() == content and any(asked)
    print(killed, "kills")
    """,
        tmp_path,
    )
    assert f"{kills} kills" in done.stdout, done.stdout + done.stderr


def test_two_at_once_download_once(tmp_path):
    done = run(
        SERVER
        + """
    pids = [child(), child(), child()]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    assert target.read_bytes() == content
    print(len(asked), "request")
    """,
        tmp_path,
    )
    assert "1 request" in done.stdout, done.stdout + done.stderr


def test_a_full_disk_is_named_and_nothing_is_taken(tmp_path):
    done = run(
        SERVER
        + """
    def full():  # no file may grow beyond 200 kB: the write fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    assert os.waitstatus_to_exitcode(os.waitpid(child(full), 0)[1]) == 3
    assert not target.exists()
    assert os.waitpid(child(), 0)[1] == 0 and target.read_bytes() == content
    """,
        tmp_path,
    )
    assert (
        done.returncode == 0
        and "cannot be written" in done.stdout
        and "make room" in done.stdout
    ), done.stderr


# ---------------------------------------------------------------- kill -9 while
# training and executing


@kills
def test_a_training_killed_again_and_again_ends_with_the_same_weights(tmp_path, kills):
    done = run(
        f"""
    import os, random, signal, time, torch
    from torch import nn
    from medlib import fit, load, seed
    def train(name):
        seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
                            nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, 10))
        digits = load("digits", device="cpu").standardise()
        fit(net, digits, epochs=120, batch_size=64, validations=400, store=name + ".pt")
        torch.save(net.state_dict(), name + ".weights")
    def child(name):
        pid = os.fork()
        if pid == 0:
            train(name)
            os._exit(0)
        return pid
    assert os.waitpid(child("whole"), 0)[1] == 0
    killed = 0
    while killed < {kills}:
        pid = child("broken")
        time.sleep(random.Random(killed).uniform(0.02, 0.4))
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        if os.path.exists("broken.weights"):  # it was done: once more from the start
            os.remove("broken.weights"), os.remove("broken.pt")
    assert os.waitpid(child("broken"), 0)[1] == 0
    weights = [torch.load(f"{{name}}.weights") for name in ("broken", "whole")]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    print(killed, "kills")
    """,
        tmp_path,
    )
    assert f"{kills} kills" in done.stdout, done.stdout + done.stderr


@kills
def test_a_chapter_killed_again_and_again_is_whole_or_not_there(tmp_path, kills):
    chapter = tmp_path / "99_toy.py"
    chapter.write_text(
        "# %% [markdown]\n# # Toy\n\n# %%\nsum(range(10**6))\n", encoding="utf-8"
    )
    done = run(
        f"""
    import os, random, signal, subprocess, sys, time
    import nbformat
    job = "from pathlib import Path; from press import run, text; "
    job += "text.FOLDER = Path.cwd(); run.run(text.FOLDER / '99_toy.py')"
    killed = 0
    while killed < {kills}:
        p = subprocess.Popen([sys.executable, "-c", job], start_new_session=True,
                             stderr=subprocess.DEVNULL)
        try:
            p.wait(random.Random(killed).uniform(0.3, 6))
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            killed += p.wait() == -signal.SIGKILL
        if os.path.exists("99_toy.ipynb"):
            whole = nbformat.read("99_toy.ipynb", as_version=4)
            assert whole.metadata.medlib.profile == "full"
            os.remove("99_toy.ipynb")
    print(killed, "kills")
    """,
        tmp_path,
        MEDLIB_PROFILE="full",
    )
    assert f"{kills} kills" in done.stdout, done.stdout + done.stderr

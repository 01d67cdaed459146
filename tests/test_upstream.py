"""Every upstream with its own layout, and what comes of its faults: the right file, or
a word; never a wrong file or half of one."""

import gzip
import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import upstream as playing

from medlib import __main__, ahead, fetch, paths, upstream
from medlib.data import DataError
from medlib.fetch import Unreachable

PATIENTS = {"training": (1, 2, 3), "testing": (101, 102)}
ZENODO, MIRROR = "zenodo.org", "hf.co"


def small_acdc(root: Path, rng) -> None:
    for group, numbers in PATIENTS.items():
        for n in numbers:
            place = root / "acdc" / group / f"patient{n:03}"
            place.mkdir(parents=True)
            (place / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\n")
            for stem in ("frame01", "frame01_gt", "frame12", "frame12_gt", "4d"):
                content = gzip.compress(rng.bytes(200_000), mtime=0)
                (place / f"{place.name}_{stem}.nii.gz").write_bytes(content)
    (root / "acdc" / "MANDATORY_CITATION.md").write_text("cite")


def table(folder: Path, keep) -> dict:
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and keep(p)):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        digest = hashlib.sha256(content).hexdigest()
        found[path.relative_to(folder).as_posix()] = (len(content), digest)
    return found


@pytest.fixture
def world(tmp_path, monkeypatch):
    """All upstreams on this machine with small sets, and an empty cache."""
    rng, data = np.random.default_rng(0), tmp_path / "data"
    small_acdc(data, rng)
    (data / "medmnist").mkdir()
    (data / "medmnist" / "breastmnist.npz").write_bytes(rng.bytes(150_000))
    for kind in ("image", "label"):
        (data / "em" / kind).mkdir(parents=True)
        for k in range(4):
            (data / "em" / kind / f"{k}.png").write_bytes(rng.bytes(200_000))
    tables = {
        "em": table(data / "em", lambda p: True),
        "acdc": table(
            data / "acdc", lambda p: "training" in p.parts and "_4d" not in p.name
        ),
    }
    monkeypatch.setattr(fetch, "checksums", lambda name: tables.get(name, {}))
    registry = fetch.REGISTRY
    acdc, em = dict(registry["acdc"]), dict(registry["em"])
    last = {"training": 3, "cine": 3, "testing": 102, "testing's cine": 102}
    acdc["part"] = [part | {"last": last[part["name"]]} for part in acdc["part"]]
    em["part"] = [em["part"][0] | {"each": 4}]
    monkeypatch.setitem(registry, "acdc", acdc)
    monkeypatch.setitem(registry, "em", em)
    digest = hashlib.sha256((data / "medmnist" / "breastmnist.npz").read_bytes())
    (file, *_) = registry["breastmnist"]["file"]
    file = file | {"hash": [f"sha256:{digest.hexdigest()}"], "bytes": 150_000}
    monkeypatch.setitem(
        registry, "breastmnist", registry["breastmnist"] | {"file": [file]}
    )
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDLIB_OFFLINE", raising=False)
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    monkeypatch.setattr(upstream, "TIMEOUT", (2, 0.5))
    monkeypatch.setattr(upstream, "PAUSE", 0)
    fetch._announce.cache_clear()
    with playing.serving(data) as server:
        monkeypatch.setenv("MEDLIB_UPSTREAM", server.address)
        server.tables, server.cache = tables, tmp_path / "cache"
        yield server


def breast() -> dict:
    return fetch.REGISTRY["breastmnist"]["file"][0]


def hosts(server) -> set[str]:
    return {where.split("/")[0] for where, _, _ in server.asked}


def assert_whole_or_absent(server) -> None:
    """Whatever stands in the cache under a name of the set is that file."""
    for path in server.cache.rglob("*"):
        original = server.data / path.relative_to(server.cache)
        if path.is_file() and path.name[0] != "." and path.suffix != ".part":
            assert path.read_bytes() == original.read_bytes(), path


# ---------------------------------------------------------------- who asks, and how


def test_the_book_says_who_asks(world):
    fetch.find(breast())
    assert {agent for _, agent, _ in world.asked} == {upstream.agent()}
    assert upstream.agent().startswith("medlib-book/") and "+https://" in (
        upstream.agent()
    )


def test_without_a_checkout_the_packages_own_data_say_it(monkeypatch):
    known = {"Version": "9.9", "Project-URL": "Book, https://book.example"}
    monkeypatch.setattr(paths, "CHECKOUT", None)
    monkeypatch.setattr(upstream.metadata, "metadata", lambda name: known)
    assert upstream.agent.__wrapped__() == "medlib-book/9.9 (+https://book.example)"


def test_zenodo_turns_away_pythons_own_name(world):
    import requests

    with requests.get(f"{world.address}/zenodo.org/records/x", timeout=5) as reply:
        assert reply.status_code == 403


def test_licence_and_citation_are_said_once(world, capsys):
    fetch.folder("acdc")
    said = capsys.readouterr().out
    assert "NON-COMMERCIAL" in said and "You must cite" in said
    assert said.count("CC BY-NC-SA 4.0") == 1
    fetch.folder("acdc", cine=True)
    assert "cite" not in capsys.readouterr().out


# ---------------------------------------------------------------- ACDC


def test_girder_serves_ed_and_es_of_the_training_patients_alone(world):
    place, source = fetch.folder("acdc")
    files = {p.relative_to(place).as_posix() for p in place.rglob("*.*") if p.is_file()}
    assert files - {fetch.RECORD} == {*world.tables["acdc"]} and source == "upstream"
    assert len(world.tables["acdc"]) == 15
    assert hosts(world) == {playing.GIRDER} and world.busiest <= 4
    assert not any("testing" in where for where, _, _ in world.asked)
    before = len(world.asked)
    assert fetch.folder("acdc") == (place, "cache") and len(world.asked) == before


def test_listings_are_read_to_their_last_page(world, monkeypatch):
    monkeypatch.setattr(upstream, "PAGE", 2)
    place, _ = fetch.folder("acdc")
    assert len([*place.rglob("*.gz")]) == 12


def test_cine_and_the_official_test_patients_come_when_asked_for(world):
    place, _ = fetch.folder("acdc", cine=True)
    assert len([*place.rglob("*_4d.nii.gz")]) == 3
    place, source = fetch.folder("acdc", split="official", cine=True)
    assert source == "upstream" and len([*(place / "testing").rglob("*.gz")]) == 10
    assert fetch.folder("acdc", split="official", cine=True)[1] == "cache"
    with pytest.raises(DataError, match="official"):
        fetch.folder("acdc", split="mine")


def test_a_copy_compressed_anew_passes(world):
    for path in (world.data / "acdc").rglob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content, 1, mtime=7))
    assert fetch.folder("acdc")[1] == "upstream"


def test_what_is_there_is_not_fetched_again(world):
    world.faults, world.cured = {"huggingface": "http 404", "/item/": "http 500"}, 10**9
    world.faults["folder/"] = "http 404"  # the archive
    with pytest.raises(Unreachable):
        fetch.folder("acdc")
    place = world.cache / "acdc"
    assert (place / fetch.RECORD).exists()  # begun, so it is not the reader's own
    world.faults = {"patient003": "http 404", "/folder/": "http 404"}
    broken = [p for p in (world.data / "acdc" / "training" / "patient003").iterdir()]
    for path in broken:
        path.rename(path.with_suffix(".away"))
    with pytest.raises(Unreachable):
        fetch.folder("acdc")
    got = {p: p.stat().st_mtime_ns for p in place.rglob("*.nii.gz")}
    assert got
    for path in broken:
        path.with_suffix(".away").rename(path)
    world.faults = {}
    assert fetch.folder("acdc")[1] == "upstream"
    assert all(p.stat().st_mtime_ns == then for p, then in got.items())


def test_the_archive_is_the_second_way_and_the_mirror_the_third(world):
    world.faults = {"/item/": "http 403"}
    place, _ = fetch.folder("acdc")
    assert hosts(world) == {playing.GIRDER}
    assert not (place / "testing").exists() and not [*place.rglob("*4d*")]
    assert not [*place.rglob("*.zip")]
    for path in sorted(place.rglob("*.gz"))[:3]:
        path.unlink()
    world.faults = {playing.GIRDER: "http 503"}
    assert fetch.folder("acdc")[1] == "upstream"
    assert "cdn-lfs.hf.co" in hosts(world)


def test_the_mirror_gives_nothing_whose_checksum_is_not_known(world):
    world.faults = {playing.GIRDER: "http 503"}
    with pytest.raises(Unreachable, match="table of checksums"):
        fetch.folder("acdc", split="official")


def test_no_member_of_an_archive_leaves_its_folder(tmp_path):
    file = tmp_path / "bad.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../out", "/abs", "a/../../out", "c:/out", "a\\..\\out", "a/good"):
            archive.writestr(name, "x")
    assert [path for path, _ in upstream.members(file, lambda name: name)] == ["a/good"]


# ---------------------------------------------------------------- folders of one's own


def test_a_folder_of_ones_own_is_taken_as_it_is(world):
    own = world.cache / "acdc" / "anyone" / "patient001"
    own.mkdir(parents=True)
    assert fetch.folder("acdc") == (world.cache / "acdc", "cache")
    with pytest.raises(Unreachable, match="folder of your own"):
        fetch.folder("acdc", cine=True)
    assert world.asked == []


def test_a_mirrors_address_serves_what_the_table_lists(world, monkeypatch):
    monkeypatch.setenv("MEDLIB_OFFLINE", "1")
    monkeypatch.delenv("MEDLIB_UPSTREAM")
    base = f"{world.address}/mirror.example"
    monkeypatch.setenv("MEDLIB_MIRROR", base)
    monkeypatch.setitem(playing.PLAIN, "mirror.example/", "")
    assert fetch.folder("em")[1] == "mirror"


# ---------------------------------------------------------------- Sunnybrook


def zipped(**files: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return written.getvalue()


@pytest.fixture
def sunnybrook(world, monkeypatch):
    world.archives = {
        "66": b"PatientID,OriginalID\n" * 10_000,
        "61": zipped(SCD_ManualContours__a="1 2" * 70_000),
        **{
            str(n): zipped(**{f"SCD0000{n}__CINE__1": "d" * 200_000})
            for n in range(98, 103)
        },
    }
    card = dict(fetch.REGISTRY["sunnybrook"])
    card["part"] = [
        part | {"hash": [f"sha256:{hashlib.sha256(content).hexdigest()}"]}
        for part, content in zip(card["part"], world.archives.values(), strict=True)
    ]
    monkeypatch.setitem(fetch.REGISTRY, "sunnybrook", card)
    return world


def test_sunnybrook_comes_unpacked_and_in_part(sunnybrook):
    place, _ = fetch.folder("sunnybrook")
    names = {p.name for p in place.iterdir() if not p.name.startswith(".")}
    assert names == {"scd_patientdata.csv", "SCD_ManualContours", "SCD000098"}
    assert not [*place.rglob("*.zip")]
    assert fetch.folder("sunnybrook") == (place, "cache")
    fetch.folder("sunnybrook", whole=True)
    assert len([*place.glob("SCD0*")]) == 5


def test_half_of_sunnybrook_is_not_taken_for_it(sunnybrook):
    sunnybrook.faults = {"id=98": "http 404"}
    with pytest.raises(Unreachable, match="404"):
        fetch.folder("sunnybrook")
    with pytest.raises(Unreachable):
        fetch.folder("sunnybrook")
    sunnybrook.faults = {}
    assert fetch.folder("sunnybrook")[1] == "upstream"
    asked = [where for where, _, _ in sunnybrook.asked if "id=61" in where]
    assert len(asked) == 1


# ---------------------------------------------------------------- faults × upstreams

SETS = {
    "one file: Zenodo, Hugging Face": lambda: fetch.find(breast()),
    "files: GitHub": lambda: fetch.folder("em"),
    "Girder, its archive, Hugging Face": lambda: fetch.folder("acdc"),
    "archives: cardiacatlas": lambda: fetch.folder("sunnybrook"),
}
PLACES = "zenodo", "githubusercontent", "/item/", "cardiacatlas"
FIRST = dict(zip(SETS, PLACES, strict=True))
FAULTS = {
    "ranges ignored": ("whole",) * 4,
    "line drops": ("whole",) * 4,
    "broken": ("whole", "unreachable", "whole", "unreachable"),
    "stall": ("whole",) * 4,
    "wrong bytes": ("whole", "refused", "whole", "refused"),
    "too short": ("whole", "refused", "whole", "refused"),
    "endless": ("whole", "refused", "whole", "refused"),
    "html": ("whole", "unreachable", "whole", "unreachable"),
    "moved": ("whole", "unreachable", "whole", "unreachable"),
    "http 403": ("whole", "unreachable", "whole", "unreachable"),
    "http 404": ("whole", "unreachable", "whole", "unreachable"),
    "http 410": ("whole", "unreachable", "whole", "unreachable"),
    "http 500": ("whole", "unreachable", "whole", "unreachable"),
    "retry-after": ("whole", "unreachable", "whole", "unreachable"),
    "retry-tomorrow": ("whole", "unreachable", "whole", "unreachable"),
}


def outcome(get) -> str:
    try:
        get()
    except Unreachable:
        return "unreachable"
    except DataError:
        return "refused"
    return "whole"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("which", SETS)
def test_a_fault_gives_the_right_file_or_a_word(which, fault, sunnybrook):
    sunnybrook.faults = {FIRST[which]: fault}
    seen = outcome(SETS[which])
    assert seen == FAULTS[fault][[*SETS].index(which)]
    if "archives" not in which:
        assert_whole_or_absent(sunnybrook)
    sunnybrook.faults = {}
    assert outcome(SETS[which]) == "whole"  # and the next call goes on


@pytest.mark.parametrize("fault", ["http 503", "retry-after", "line drops", "stall"])
@pytest.mark.parametrize("which", SETS)
def test_what_passes_is_waited_for(which, fault, sunnybrook):
    sunnybrook.faults, sunnybrook.cured = {FIRST[which]: fault}, 1
    assert outcome(SETS[which]) == "whole"
    if which.startswith("one file"):
        assert hosts(sunnybrook) == {"zenodo.org"}  # no second address was needed


def test_reasons_name_the_host_and_its_answer(world):
    world.faults = {"zenodo": "http 403", "huggingface": "retry-tomorrow"}
    with pytest.raises(Unreachable) as error:
        fetch.find(breast())
    for word in ("zenodo.org: HTTP 403", "huggingface.co: HTTP 429", "86400 seconds"):
        assert word in str(error.value)


def test_the_wait_is_as_long_as_the_server_says(world, monkeypatch):
    waited = []
    monkeypatch.setattr(upstream.time, "sleep", waited.append)
    world.faults, world.cured = {"zenodo": "retry-after"}, 1
    monkeypatch.setattr(upstream, "PAUSE", 5)
    fetch.find(breast())
    assert waited == [0.0]
    assert upstream._seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert upstream._seconds("soon") is None and upstream._seconds("7") == 7


# ---------------------------------------------------------------- certificates


@pytest.fixture
def unsigned(world, tmp_path, monkeypatch):
    """The same upstreams behind a certificate that nobody vouches for."""
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    try:
        subprocess.run(
            [*command.split(), "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # each connection shakes hands in its own thread, when it is first read
    world.socket = context.wrap_socket(
        world.socket, server_side=True, do_handshake_on_connect=False
    )
    monkeypatch.setenv("MEDLIB_UPSTREAM", world.address.replace("http:", "https:"))
    upstream._say_unsigned.cache_clear()
    return world


def test_a_wrong_certificate_is_refused_where_nothing_is_pinned(unsigned, monkeypatch):
    entry = breast() | {"hash": ["md5:0"]}
    with pytest.raises(Unreachable, match="certificate is not valid"):
        fetch.find(entry)
    assert unsigned.asked == []


def test_a_pinned_file_is_taken_all_the_same_and_that_is_said(unsigned, capsys):
    path, _ = fetch.find(breast() | {"url": breast()["url"][:1]})
    assert path.read_bytes() == (unsigned.data / "medmnist" / path.name).read_bytes()
    assert "certificate that is not valid" in capsys.readouterr().out


# ---------------------------------------------------------------- the cache


def test_without_locks_a_set_is_still_fetched(world, monkeypatch):
    import filelock

    def no_locks(self, *_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    assert fetch.folder("em")[1] == "upstream"
    assert not [*world.cache.rglob("*.softlock")]


def test_a_lock_that_nobody_keeps_young_is_nobodys(world, monkeypatch):
    import os

    import filelock

    def no_locks(self, *_, **__):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    lock = world.cache / ".em.softlock"
    world.cache.mkdir()
    lock.write_text("12345\nanother-machine\n")
    os.utime(lock, (1, 1))
    assert fetch.folder("em")[1] == "upstream"


# ---------------------------------------------------------------- commands


def test_a_teacher_fetches_ahead(world, capsys):
    assert __main__.main(["fetch", "em", "breastmnist"]) == 0
    assert "OK   em: " in capsys.readouterr().out
    world.faults = {"/": "http 404"}
    assert __main__.main(["fetch", "acdc", "nothing", "em"]) == 1
    said = capsys.readouterr().out
    assert "HTTP 404" in said and "FAIL nothing: no such set" in said
    assert "OK   em" in said
    assert __main__.main(["fetch"]) == 0
    listed = capsys.readouterr().out
    assert "NON-COMMERCIAL" in listed and "not here" in listed


def test_another_size_is_named_or_refused(world, capsys):
    assert __main__.main(["fetch", "breastmnist", "--size", "99"]) == 1
    assert "no images of 99 pixels" in capsys.readouterr().out
    (entry,) = ahead.entries("pneumoniamnist", 64)
    assert entry["path"] == "medmnist/pneumoniamnist_64.npz"


def test_a_maintainer_notes_what_is_not_in_the_table(world, monkeypatch, tmp_path):
    (tmp_path / "checksums").mkdir()
    monkeypatch.setattr(ahead, "resource", lambda name: tmp_path / name)
    monkeypatch.setattr(fetch.checksums, "cache_clear", lambda: None, raising=False)
    assert __main__.main(["checksums", "acdc", "--split", "official", "--cine"]) == 0
    lines = (tmp_path / "checksums" / "acdc.csv").read_text().splitlines()
    assert lines[0] == "path,bytes,sha256" and len(lines) == 1 + 5 * 6
    known = {line.split(",")[0]: line.split(",")[2] for line in lines[1:]}
    for path, (_, digest) in world.tables["acdc"].items():
        assert known[path] == digest


def test_a_file_that_changed_is_not_noted(world, monkeypatch, tmp_path, capsys):
    (tmp_path / "checksums").mkdir()
    monkeypatch.setattr(ahead, "resource", lambda name: tmp_path / name)
    place, _ = fetch.folder("em")
    (place / "image" / "0.png").write_bytes(b"other")
    assert __main__.main(["checksums", "em"]) == 1
    assert "is not image/0.png" in capsys.readouterr().out
    assert not [*(tmp_path / "checksums").iterdir()]


def test_a_maintainer_adds_the_sha256_to_the_registry(world, monkeypatch, tmp_path):
    content = (world.data / "medmnist" / "breastmnist.npz").read_bytes()
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"
    registry = tmp_path / "datasets.toml"
    registry.write_text(f'hash = ["{md5}"]\n')
    monkeypatch.setattr(ahead, "resource", lambda name: tmp_path / name)
    card = fetch.REGISTRY["breastmnist"]
    card = card | {"file": [breast() | {"hash": [md5]}]}
    monkeypatch.setitem(fetch.REGISTRY, "breastmnist", card)
    assert __main__.main(["checksums", "breastmnist"]) == 0
    digest = hashlib.sha256(content).hexdigest()
    assert registry.read_text() == f'hash = ["sha256:{digest}", "{md5}"]\n'


def test_the_addresses_are_asked_for_a_byte(world, monkeypatch, capsys):
    sets = {name: fetch.REGISTRY[name] for name in ("breastmnist", "em", "acdc")}
    monkeypatch.setattr(fetch, "REGISTRY", sets)
    assert __main__.main(["doctor", "--urls"]) == 0
    assert capsys.readouterr().out.count("OK   ") == 6
    world.faults = {"zenodo": "http 403", "huggingface": "moved"}
    assert __main__.main(["doctor", "--urls"]) == 1
    said = capsys.readouterr().out
    assert "HTTP 403" in said and "a web page (HTTP 200)" in said


def test_the_tables_hold_what_the_registry_asks_for():
    for name, count in (("acdc", 500), ("em", 60), ("cmac", 76)):
        for part in fetch.chosen(name):
            for folder in part.folders:
                assert len(fetch._listed(part, name, folder)) == part.each
        listed = sum(part.each * len(part.folders) for part in fetch.chosen(name))
        assert listed == count

"""Data sets by name: formats, and what stands in where nothing can be reached."""

import csv
import gzip
import hashlib
import io
import zipfile

import numpy as np
import pytest
import torch

from medlib import fetch, load, notes, paths, readers
from medlib.data import DataError, audit, shared_patients
from press import keys


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """An empty cache and no mirror."""
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    return tmp_path


def test_an_unknown_name_lists_the_known():
    with pytest.raises(DataError, match="expected one of pneumoniamnist, breastmnist"):
        load("chestmnist")
    with pytest.raises(DataError, match=r"volumes: medlib\.hearts"):
        load("acdc")


def test_every_set_that_can_be_loaded_names_a_reader_and_a_stand_in_that_exist():
    cards = [c for c in fetch.REGISTRY.values() if "reader" in c]
    assert {c["reader"] for c in cards} == set(readers.READERS) | set(readers.SIZED)
    assert {c["stand_in"] for c in cards if "stand_in" in c} == set(readers.STAND_INS)
    # What a package ships needs no stand-in, nor does what no chapter needs.
    lacking = {c["title"].split(",")[0] for c in cards if "stand_in" not in c}
    assert lacking == {
        "scikit-learn's digits",
        "OrganAMNIST",
        "BloodMNIST",
        "Chest X-rays of children",
        "BUSI",
    }


def test_digits_load_and_are_disjoint():
    digits = load("digits", device="cpu")
    sizes = [len(s.x) for s in (digits.train, digits.val, digits.test)]
    assert sizes == [1257, 180, 360]
    assert digits.train.x.min() == 0 and digits.train.x.max() == 1
    assert digits.source == "package" and audit(digits) == []


def test_what_was_loaded_is_told_to_whoever_listens():
    told = []
    with notes.listening(lambda event, facts: told.append((event, facts))):
        load("digits", device="cpu")
    assert told == [("loaded", {"name": "digits", "source": "package"})]


@pytest.mark.parametrize("name", ["pneumoniamnist", "mnist10k"])
def test_without_data_a_stand_in_speaks_up(name, monkeypatch, nothing, capsys):
    if name == "pneumoniamnist":  # few hearts are drawn sooner
        card = fetch.REGISTRY[name] | {"sizes": [20, 6, 8]}
        monkeypatch.setitem(fetch.REGISTRY, name, card)
    told = []
    with notes.listening(lambda event, facts: told.append(facts)):
        d = load(name, device="cpu")
    assert "STAND-IN DATA" in capsys.readouterr().out
    assert d.source == "stand-in" and told == [{"name": name, "source": "stand-in"}]
    assert d.train.x.shape[1:] == (1, 28, 28)
    assert len(d.classes) == len(d.train.y.unique())


def test_a_release_of_medmnist_is_read(monkeypatch, tmp_path):
    path, rng = tmp_path / "medmnist.npz", np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 5), ("val", 3), ("test", 2)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(n)[:, None] % 2
    np.savez(path, **arrays)
    monkeypatch.setattr(readers, "find", lambda entry: (path, "cache"))
    d = load("breastmnist", device="cpu")
    assert (d.name, d.source, d.train.y.tolist()) == (
        "breastmnist",
        "cache",
        [0, 1, 0, 1, 0],
    )
    np.testing.assert_allclose(255 * d.val.x[:, 0], arrays["val_images"])


def test_pickles_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "medmnist.npz"
    np.savez(path, train_images=np.array([{"a": 1}], dtype=object))
    monkeypatch.setattr(readers, "find", lambda entry: (path, "cache"))
    with pytest.raises(DataError, match="of object"):
        load("breastmnist")


def test_a_forged_header_is_not_believed(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (2**40,)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("train_images.npy", buffer.getvalue() + b"few")
    with pytest.raises(DataError, match="claims"):
        readers.read_npz(tmp_path / "x.npz")


def test_membranes_are_read_in_order_and_a_missing_slice_is_named(nothing, monkeypatch):
    from PIL import Image

    for kind in ("image", "label"):
        (nothing / "em" / kind).mkdir(parents=True)
        for k in range(30):
            Image.fromarray(np.full((8, 8), 255 * (k % 2), np.uint8)).save(
                nothing / "em" / kind / f"{k}.png"
            )
    monkeypatch.setenv("MEDLIB_MIRROR", str(nothing))
    em = load("em")
    assert (
        em.source == "mirror"
        and em.train.y[:2, 0, 0].tolist() == [1, 0]
        and len(em.test.x) == 8
    )
    (nothing / "em" / "label" / "7.png").unlink()
    with pytest.raises(DataError, match=r"7\.png"):
        load("em")


def test_without_a_folder_membranes_are_simulated_and_said_to_be(nothing, capsys):
    em = load("em", device="cpu")
    assert em.source == "stand-in" and "STAND-IN" in capsys.readouterr().out
    assert 0 < em.train.y.float().mean() < 0.5
    # Membranes are dark, as in the real slices.
    assert em.train.x[:, 0][em.train.y == 1].mean() < 0.3


def release(path, side, colour=(), parts=(("train", 5), ("val", 3), ("test", 2))):
    """A made file of MedMNIST's form, and its arrays."""
    rng, arrays = np.random.default_rng(side), {}
    for part, n in parts:
        shape = (n, side, side, *colour)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("size", [64, 128, 224])
def test_each_size_is_a_file_of_its_own(size, tmp_path, monkeypatch):
    arrays = release(tmp_path / "x.npz", size)
    asked = []
    monkeypatch.setattr(
        readers, "find", lambda e: asked.append(e["path"]) or (tmp_path / "x.npz", "m")
    )
    d = load("pneumoniamnist", size=size, device="cpu")
    assert asked == [f"medmnist/pneumoniamnist_{size}.npz"]
    np.testing.assert_allclose(255 * d.val.x[:, 0], arrays["val_images"], rtol=1e-6)
    assert d.test.whose is None and d.train.y.tolist() == [0, 1, 0, 1, 0]


def test_colour_is_read_as_colour(tmp_path, monkeypatch):
    arrays = release(tmp_path / "x.npz", 28, (3,))
    monkeypatch.setattr(readers, "find", lambda e: (tmp_path / "x.npz", "m"))
    x = load("bloodmnist", device="cpu").train.x
    assert x.shape == (5, 3, 28, 28) and x.is_contiguous()
    expected = arrays["train_images"].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(255 * x, expected, rtol=1e-6)


def test_a_size_that_does_not_exist_lists_those_that_do():
    with pytest.raises(DataError, match="size=32; expected one of 28, 64, 128, 224"):
        load("pneumoniamnist", size=32)
    with pytest.raises(DataError, match="size=0; expected one of 28"):
        load("pneumoniamnist", size=0)
    with pytest.raises(DataError, match="digits: it comes in one size"):
        load("digits", size=28)


def test_a_file_of_another_form_is_named_with_what_was_found(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "find", lambda e: (tmp_path / "x.npz", "m"))
    release(tmp_path / "x.npz", 28)
    with pytest.raises(DataError, match=r"\(5, 28, 28\).*expected \(N, 64, 64\)"):
        load("breastmnist", size=64)
    release(tmp_path / "x.npz", 28, parts=[("train", 5)])
    with pytest.raises(DataError, match="x.npz: no array 'val_images'"):
        load("breastmnist")


def test_only_what_is_fetched_is_said_to_be_fetched_anew(nothing):
    for folder, remedy in (("cache", "fetched anew"), ("mine", "put a whole copy at")):
        (nothing / folder).mkdir()
        (nothing / folder / "x.npz").write_bytes(b"half a file")
        with pytest.raises(DataError, match=remedy):
            readers.read_npz(nothing / folder / "x.npz")


def test_much_memory_is_told(capsys):
    readers._tell("x", 224, 10**9)
    assert "x at 224 px takes 4.0 GB as float32" in capsys.readouterr().out
    readers._tell("x", 28, 10**6)
    assert capsys.readouterr().out == ""


def test_an_image_is_known_by_its_bytes_whatever_the_order(tmp_path, monkeypatch):
    arrays = release(tmp_path / "x.npz", 28)
    prints = [hashlib.md5(i.tobytes()).hexdigest() for i in arrays["train_images"]]
    table = "md5,patient\n" + "".join(f"{m},child{k}\n" for k, m in enumerate(prints))
    (tmp_path / "keys.gz").write_bytes(gzip.compress(table.encode()))
    monkeypatch.setattr(readers, "resource", lambda name: tmp_path / "keys.gz")
    monkeypatch.setattr(readers, "find", lambda e: (tmp_path / "x.npz", "m"))
    arrays["train_images"] = arrays["train_images"][::-1]
    arrays["val_images"][1] = arrays["val_images"][0]
    np.savez(tmp_path / "x.npz", **arrays)
    d = load("pneumoniamnist", device="cpu")
    assert d.train.whose.tolist() == [f"child{k}" for k in (4, 3, 2, 1, 0)]
    assert all(who.startswith("unknown-") for who in [*d.val.whose, *d.test.whose])
    assert d.val.whose[0] == d.val.whose[1] != d.val.whose[2]
    assert load("breastmnist", device="cpu").train.whose is None


def test_the_keys_that_travel_are_one_row_an_image():
    with gzip.open(paths.resource("pneumoniamnist_keys.csv.gz"), "rt") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == len({row["md5"] for row in rows}) > 5700
    assert all(len(row["md5"]) == 32 and row["patient"] for row in rows)


def picture(seed, kind, mode="L", side=32):
    from PIL import Image

    rng, buffer = np.random.default_rng(seed), io.BytesIO()
    shape = (side, side) if mode == "L" else (side, side, 3)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def listing(folder, rows):
    with open(folder / "images.csv", "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def chest(nothing, monkeypatch):
    """60 children with two X-rays each; a third of them are upstream's test set."""
    place, rows = nothing / "chestxray224", []
    place.mkdir()
    with zipfile.ZipFile(place / "chest_xray224.zip", "w") as archive:
        for i in range(120):
            child, label = i // 2, ("NORMAL", "PNEUMONIA")[i // 2 % 2]
            part = "test" if child < 20 else ("val" if child == 20 else "train")
            content = picture(i, "JPEG")
            archive.writestr(f"chest_xray/{part}/{label}/{i}.jpeg", content)
            rows.append(
                {
                    "file": f"{i}.jpeg",
                    "official_split": part,
                    "label": label,
                    "kind": label,
                    "patient_key": f"child{child}",
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
    listing(place, rows)
    monkeypatch.setenv("MEDLIB_MIRROR", str(nothing))
    return place


def test_x_rays_are_split_by_patient_and_upstreams_test_set_is_kept(chest, capsys):
    d = load("chestxray224", size=16, device="cpu")
    sizes = [len(s.y) for s in (d.train, d.val, d.test)]
    assert sizes == [72, 8, 40] and d.train.x.shape == (72, 1, 16, 16)
    assert set(d.test.whose) == {f"child{k}" for k in range(20)}
    assert shared_patients(d) == {"val": 0, "test": 0}
    assert d.val.y.tolist().count(1) == 4  # alike in both kinds
    child = np.array([int(w[5:]) for w in d.val.whose])
    assert d.val.y.tolist() == (child % 2).tolist()


def test_an_x_ray_that_is_another_or_not_there_is_named(chest):
    with pytest.raises(DataError, match="size=300; expected 8 to 224"):
        load("chestxray224", size=300)
    text = (chest / "images.csv").read_text()
    (chest / "images.csv").write_text(text.replace("\n2.jpeg", "\n3.jpeg"))
    with pytest.raises(DataError, match=r"3\.jpeg is not the file of images\.csv"):
        load("chestxray224")
    (chest / "images.csv").write_text("file\nx\n")
    with pytest.raises(DataError, match="no columns.*patient_key"):
        load("chestxray224")
    (chest / "images.csv").write_text(text)
    (chest / "chest_xray224.zip").write_bytes(b"half")
    with pytest.raises(DataError, match=r"chest_xray224\.zip cannot be read"):
        load("chestxray224")


def test_near_duplicates_stay_in_one_split(nothing, monkeypatch):
    place, rows = nothing / "busi256", []
    for i in range(90):
        label = ("normal", "benign", "malignant")[i // 30]
        content = picture(i, "PNG", "RGB")
        (place / label).mkdir(parents=True, exist_ok=True)
        (place / label / f"{i}.png").write_bytes(content)
        near = i + 1 if i % 3 < 2 else 0  # chains of three
        rows.append(
            {
                "file": f"{label}/{i}.png",
                "label": label,
                "nearest_file": f"{('normal', 'benign', 'malignant')[near // 30]}/"
                f"{near}.png",
                "nearest_similarity": 0.9 if i % 3 < 2 else 0.7,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    listing(place, rows)
    monkeypatch.setenv("MEDLIB_MIRROR", str(nothing))
    monkeypatch.setattr(
        readers,
        "_decoded",
        lambda name, size, largest, rows, contents: torch.arange(90.0)[
            :, None, None, None
        ].expand(-1, 1, 4, 4),
    )
    d = load("busi256", device="cpu")
    groups = [{int(v) // 3 for v in s.x[:, 0, 0, 0]} for s in (d.train, d.val, d.test)]
    assert [len(g) for g in groups] == [21, 3, 6]  # 30 chains, each in one split
    assert d.classes[int(d.test.y[0])] == "normal" and d.train.whose is None
    monkeypatch.undo()
    monkeypatch.setenv("MEDLIB_MIRROR", str(nothing))
    assert load("busi256", size=32, device="cpu").train.x.shape[1:] == (1, 32, 32)
    (place / "benign" / "40.png").unlink()
    with pytest.raises(DataError, match=r"40\.png.*put a whole copy"):
        load("busi256")


@pytest.mark.parametrize("name", ["chestxray224", "busi256", "organamnist"])
def test_without_a_stand_in_an_error_says_what_to_take(name, nothing, monkeypatch):
    monkeypatch.setenv("MEDLIB_OFFLINE", "1")
    instead = {
        "chestxray224": r'load\("pneumoniamnist", size=224\)',
        "busi256": r'load\("breastmnist", size=224\)',
        "organamnist": "Nothing stands in",
    }
    with pytest.raises(DataError, match=instead[name]):
        load(name)
    with pytest.raises(DataError, match="pneumoniamnist_64.npz.*Nothing stands in"):
        load("pneumoniamnist", size=64)


def test_the_keys_are_made_of_upstreams_names_whatever_their_order(tmp_path, mirror):
    listed = mirror("chestxray224") / "pneumoniamnist_sources.csv"
    travelling = paths.resource("pneumoniamnist_keys.csv.gz").read_bytes()
    assert gzip.decompress(keys.table(listed)) == gzip.decompress(travelling)
    head, *rows = listed.read_text("utf-8").splitlines()
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join([head, *rows[::-1]]), "utf-8")
    assert keys.table(turned) == keys.table(listed)
    fields = dict(zip(head.split(","), rows[0].split(","), strict=True))
    twice = rows[0].replace(fields["patient_key"], "someone-else")
    turned.write_text("\n".join([head, rows[0], twice]), "utf-8")
    with pytest.raises(ValueError, match="one image with two patients"):
        keys.table(turned)

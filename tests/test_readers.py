"""Data sets by name: formats, and what stands in where nothing can be reached."""

import io
import zipfile

import numpy as np
import pytest

from medlib import fetch, load, notes, readers
from medlib.data import DataError, audit


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
    assert {c["reader"] for c in cards} == set(readers.READERS)
    assert {c["stand_in"] for c in cards if "stand_in" in c} == set(readers.STAND_INS)
    # What a package ships needs no stand-in; all else does.
    assert all("stand_in" in c for c in cards if "file" in c or "path" in c)


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

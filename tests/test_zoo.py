"""Trained networks that travel with the book."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medlib import zoo
from medlib.hearts.cohorts import Patient, Volume
from medlib.models import UNet
from medlib.paths import CHECKOUT

OPTIONS = {"in_channels": 1, "num_classes": 4, "width": 2, "depth": 1, "norm": True}
ABOUT = {"title": "A small U-Net"} | {key: f"its {key}" for key in zoo.LINES}


def patient(seed):
    scan = np.random.default_rng(seed).random((2, 4, 4)).astype(np.float32)
    volume = Volume(scan, None, (8.0, 1.5, 1.5))
    return Patient(f"p{seed}", "NOR", volume, volume)


@pytest.fixture
def kept(tmp_path):
    """A network with running means that are not those of a new one, and its folder."""
    torch.manual_seed(0)
    net = UNet(**OPTIONS)
    net(torch.randn(4, 1, 24, 24))
    taught = [patient(1), patient(2)]
    zoo.keep(
        net, "a", options=OPTIONS, about=ABOUT, taught_with=taught, folder=tmp_path
    )
    return net.eval(), tmp_path


def test_a_network_comes_back_and_answers_alike(kept):
    net, folder = kept
    found, x = zoo.load("a", folder), torch.randn(1, 1, 24, 24)
    assert not found.training and zoo.names(folder) == ["a"]
    assert all(p.dtype == torch.float32 for p in found.parameters())
    torch.testing.assert_close(found(x), net(x), rtol=5e-3, atol=5e-3)


def test_weights_are_stored_with_two_bytes_each(kept):
    kinds = {v.dtype for v in load_file(kept[1] / "a.safetensors").values()}
    assert kinds == {torch.float16, torch.int64}  # int64: batches seen by a batch norm


def test_the_card_says_what_the_file_says(kept):
    folder = kept[1]
    text = (folder / "a.md").read_text(encoding="utf-8")
    assert text == zoo.card("a", folder)
    assert all(f"its {key}" in text for key in zoo.LINES)
    whole = hashlib.sha256((folder / "a.safetensors").read_bytes()).hexdigest()
    assert whole in text and "**Scans it was taught with**: 2" in text


def test_a_scan_of_its_training_is_recognised_under_any_name(kept):
    folder, known = kept[1], patient(1)
    assert zoo.knows("a", known._replace(name="somebody"), folder)
    assert not zoo.knows("a", patient(3), folder)


def test_the_card_of_every_network_of_the_book_is_the_one_made_from_its_file():
    for name in zoo.names():
        path = CHECKOUT / "data" / "weights" / f"{name}.md"
        assert path.read_text(encoding="utf-8") == zoo.card(name)
        zoo.load(name)


def test_a_missing_network_is_named_with_those_that_are_there(kept):
    with pytest.raises(FileNotFoundError, match=r"no network 'b' in .*; there: a"):
        zoo.load("b", kept[1])


def test_options_of_another_network_are_refused(tmp_path):
    net = UNet(**OPTIONS)
    with pytest.raises(ValueError, match="is not this network"):
        zoo.keep(net, "a", options=OPTIONS | {"width": 3}, about=ABOUT,
                 taught_with=[], folder=tmp_path)  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_card_with_a_missing_line_is_refused(tmp_path):
    less = {k: v for k, v in ABOUT.items() if k != "fails"}
    with pytest.raises(ValueError, match="no fails; expected a line for each"):
        zoo.keep(UNet(**OPTIONS), "a", options=OPTIONS, about=less,
                 taught_with=[], folder=tmp_path)  # fmt: skip


def test_a_file_of_something_else_is_refused(tmp_path):
    facts = {"network": "SKIPS", "options": json.dumps({})}
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=facts)
    with pytest.raises(ValueError, match="network 'SKIPS'; expected one of medlib"):
        zoo.load("a", tmp_path)
    save_file({"w": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="network None"):
        zoo.load("b", tmp_path)

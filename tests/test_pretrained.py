import hashlib
import http.server
import re
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medlib import load, pretrained


def small(channels=3, classes=5):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A file of weights on 127.0.0.1, under the name that torchvision would give it."""
    torch.save(small().state_dict(), tmp_path / "w.pth")
    name = (
        f"net-{hashlib.sha256((tmp_path / 'w.pth').read_bytes()).hexdigest()[:8]}.pth"
    )
    (tmp_path / "w.pth").rename(tmp_path / name)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/{name}"
        found = SimpleNamespace(url=url, file=tmp_path / name)
        monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(
            "torchvision.models.get_model_weights",
            lambda name: {"IMAGENET1K_V1": SimpleNamespace(url=found.url)},
        )
        yield found
        running.shutdown()


def test_weights_arrive_and_are_kept(server):
    theirs = torch.load(server.file, weights_only=True)
    model = pretrained.imagenet_weights(small(classes=2), "net")
    torch.testing.assert_close(model[0].weight, theirs["0.weight"])
    assert (server.file.parent / "cache" / "weights" / server.file.name).is_file()
    server.file.unlink()
    pretrained.imagenet_weights(
        model, "net"
    )  # from the folder, with no server file left


def test_one_channel_adds_up_three(server):
    model = pretrained.imagenet_weights(small(1), "net")
    grey = torch.rand(1, 1, 4, 4)
    three = pretrained.imagenet_weights(small(), "net").eval()
    torch.testing.assert_close(model.eval()(grey), three(grey.expand(1, 3, 4, 4)))


def test_a_spoilt_file_is_refused(server):
    server.file.write_bytes(server.file.read_bytes()[:-1] + b"?")
    with pytest.raises(pretrained.NoWeights, match="could not be fetched.*hash"):
        pretrained.imagenet_weights(small(), "net")


def test_no_network(server):
    server.url = "http://127.0.0.1:9/net-00000000.pth"
    with pytest.raises(pretrained.NoWeights, match="could not be fetched"):
        pretrained.imagenet_weights(small(), "net")


def test_weights_of_another_network_are_refused(server):
    with pytest.raises(pretrained.NoWeights, match="not the same network"):
        pretrained.imagenet_weights(nn.Linear(2, 2), "net")


def test_an_unknown_name():
    with pytest.raises(pretrained.NoWeights, match="'resnet19'"):
        pretrained.imagenet_weights(small(), "resnet19")


@pytest.mark.parametrize(
    "kind, chosen, full",
    [
        ("cpu", "full", False),
        ("cuda", "smoke", False),
        ("cuda", "quick", True),
        ("mps", "full", True),
    ],
)
def test_full_size_wants_a_gpu_and_time(monkeypatch, kind, chosen, full):
    monkeypatch.setenv("MEDLIB_PROFILE", chosen)
    monkeypatch.setattr(pretrained, "device", lambda: torch.device(kind))
    assert pretrained.full_size() is full


@pytest.mark.parametrize(
    "full, words",
    [
        (False, "64 × 64 pixels, from random weights: two steps, loss"),
        (True, "32 × 32 .*random weights, since .* could not be.* after 3 steps of 8"),
    ],
)
def test_train_full_size_says_what_it_did(monkeypatch, capsys, server, full, words):
    server.url = "http://127.0.0.1:9/net-00000000.pth"
    monkeypatch.setattr(pretrained, "full_size", lambda: full)
    monkeypatch.setattr(pretrained, "FULL", (3, 32, 8))
    digits = load("digits").subset(60)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    pretrained.train_full_size(model, digits, "net")
    assert re.search(words, capsys.readouterr().out)

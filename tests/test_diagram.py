"""Drawings of networks: what is traced, what stands there, whether it can be read."""

import importlib
import inspect
import itertools
import pkgutil
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from medlib import attention, models
from medlib.diagram import diagram
from medlib.diagram.__main__ import SHEET, main
from medlib.diagram.bars import size
from medlib.diagram.page import ACCENT, INK, PAPER, SOFT, TINT
from medlib.diagram.series import Parallel, series
from medlib.diagram.trace import trace

ROOT = Path(__file__).parents[1]

# Every class of medlib.models is on the sheet, in a network there, or here.
NOT_DRAWN = {
    "Concatenate": "a variant of the basic block",
    "OptionA": "a variant of the basic block",
    "OptionC": "a variant of the basic block",
    "Pad": "the shortcut of OptionA",
    "ResidualBlock": "what the blocks share, no network",
    "Unsupervised": "VoxelMorph with what its loss looks at; its paths are crosswise",
}


def made(make):
    with torch.device("meta"):
        return make()


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def dashed(figure):
    return sum(line.is_dashed() for line in figure.axes[0].lines)


def sizes(graph):
    return [(node.op, node.shape) for node in graph.nodes]


@pytest.fixture(scope="module")
def unet():
    return diagram(made(models.UNet), (1, 1, 572, 572))


# ---------------------------------------------------------------- sizes by hand


def test_the_sizes_of_lenet():
    assert sizes(trace(models.LeNet(), (2, 1, 28, 28))) == [
        ("input", (1, 28, 28)),
        ("conv", (6, 28, 28)),
        ("act", (6, 28, 28)),
        ("pool", (6, 14, 14)),
        ("conv", (16, 10, 10)),
        ("act", (16, 10, 10)),
        ("pool", (16, 5, 5)),
        ("dense", (120,)),
        ("act", (120,)),
        ("dense", (84,)),
        ("act", (84,)),
        ("dense", (10,)),
    ]


def test_the_sizes_and_the_paths_of_a_residual_block():
    graph = trace(models.BasicBlock(8, 16, stride=2), (2, 8, 6, 6))
    first, paths, join, last = series(graph)
    assert (first.op, join.op, last.op) == ("input", "+", "act")
    assert isinstance(paths, Parallel)
    straight, shortcut = paths.paths
    assert [(n.label, n.shape) for n in straight] == [
        ("3 × 3 convolution, stride 2", (16, 3, 3)),
        ("batch norm", (16, 3, 3)),
        ("ReLU", (16, 3, 3)),
        ("3 × 3 convolution", (16, 3, 3)),
        ("batch norm", (16, 3, 3)),
    ]
    assert [n.label for n in shortcut] == ["1 × 1 convolution, stride 2", "batch norm"]


def test_the_sizes_of_the_unet_are_the_papers(unet):
    words = texts(unet)
    assert [w for w in words if "→" in w] == [
        "572 → 568", "284 → 280", "140 → 136", "68 → 64", "32 → 28",
        "56 → 52", "104 → 100", "200 → 196", "392 → 388",
    ]  # fmt: skip
    assert [w for w in words if w.isdigit()] == [
        "1", "64", "128", "256", "512", "1024", "512", "256", "128", "64", "2",
    ]  # fmt: skip
    assert "skip: crop and concatenate" in words


# ---------------------------------------------------------------- skips and loops


@pytest.mark.parametrize(
    "skip, arrows, words",
    [("concatenate", 2, "skip: concatenate"), ("add", 2, "skip: add"), ("none", 0, "")],
)
def test_an_arrow_for_each_skip(skip, arrows, words):
    net = models.UNet(width=4, depth=2, padded=True, skip=skip)
    figure = diagram(net, (1, 1, 32, 32))
    assert dashed(figure) == arrows + bool(arrows)  # and one in the key
    assert [t for t in texts(figure) if t.startswith("skip")] == [words][: len(words)]


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("block", [models.BasicBlock, models.PreActivation])
def test_no_shortcut_no_arrow(block, shortcut):
    assert dashed(diagram(block(8, 8, shortcut=shortcut), (1, 8, 6, 6))) == shortcut


def test_a_skip_in_forward_alone_is_seen():
    class Twice(nn.Module):
        def forward(self, x):
            return x + torch.tanh(x).relu_()

    assert sizes(trace(Twice(), (1, 3, 4, 4))) == [
        (op, (3, 4, 4)) for op in ("input", "act", "act", "+")
    ]


def test_what_is_called_again_is_drawn_once():
    graph = trace(models.Propagation(width=4), (1, 1, 3, 16, 16))
    assert graph.loops
    assert [n.shape for n in graph.nodes if n.path == "net.unet.head"] == [(16, 8, 8)]
    assert graph.nodes[-1].shape == (4, 16, 16)
    graph = trace(models.RFCN(width=4), (1, 1, 3, 16, 16))
    assert not graph.loops
    (gru,) = (n for n in graph.nodes if n.op == "loop")
    assert (gru.path, gru.label, gru.shape) == ("gru", "ConvGRU", (32, 1, 1))


def test_repeats_are_drawn_once():
    words = texts(diagram(made(models.resnet50), (1, 3, 224, 224)))
    assert [w for w in words if w.startswith("×")] == ["× 3", "× 4", "× 6", "× 3"]
    words = texts(diagram(made(models.VGG), (1, 3, 224, 224)))
    assert [w for w in words if w.startswith("×")] == ["× 2"] * 2 + ["× 3"] * 3 + [
        "× 2"
    ]


def test_paths_of_aspp():
    words = texts(diagram(made(models.DeepLabV3Plus), (1, 3, 512, 512)))
    rates = [f"3 × 3, dilation {rate}" for rate in (6, 12, 18)]
    assert {"global mean, 1 × 1", "1 × 1", *rates} < set(words)


# ---------------------------------------------------------------- all networks


@pytest.mark.parametrize("name", SHEET)
def test_every_drawing_can_be_read(name):
    make, shape = SHEET[name]
    figure = diagram(made(make), shape)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = {text: text.get_window_extent(renderer) for text in figure.axes[0].texts}
    page = figure.bbox
    for text, box in boxes.items():
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text
    for (a, at), (b, there) in itertools.combinations(boxes.items(), 2):
        assert not at.overlaps(there), (a, b)


def test_every_class_has_a_drawing_or_a_reason():
    drawn = {type(m) for make, _ in SHEET.values() for m in made(make).modules()}
    classes = set()
    for info in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"medlib.models.{info.name}")
        classes |= {
            thing
            for _, thing in inspect.getmembers(module, inspect.isclass)
            if issubclass(thing, nn.Module) and thing.__module__ == module.__name__
        }
    assert {c.__name__ for c in classes - drawn} == set(NOT_DRAWN)


def test_colours_that_a_page_can_change(tmp_path, unet):
    unet.savefig(tmp_path / "unet.svg")
    svg = (tmp_path / "unet.svg").read_text(encoding="utf-8")
    used = set(re.findall("#[0-9a-f]{6}", svg))
    assert {INK, SOFT, ACCENT} <= used <= {INK, SOFT, PAPER, TINT, ACCENT}


@pytest.mark.parametrize(
    "name",
    ["additive", "bayesian", "channel", "gaussian", "hard", "mixed", "self", "spatial"],
)
def test_a_drawing_by_hand_for_each_family_of_attention(name):
    svg = (ROOT / "book/_static/attention" / f"{name}.svg").read_text(encoding="utf-8")
    tags = {
        element.tag.rsplit("}")[-1] for element in ElementTree.fromstring(svg).iter()
    }
    assert {"title", "desc", "text"} <= tags
    used = set(re.findall("#[0-9a-f]{6}", svg))
    assert {INK, SOFT, ACCENT} <= used <= {INK, SOFT, PAPER, TINT, ACCENT}


@pytest.mark.parametrize(
    "shape, words",
    [
        ((572, 572), "572"),
        ((96, 128), "96 × 128"),
        ((3, 128, 128), "3 × 128²"),
        ((3, 96, 128), "3 × 96 × 128"),
        ((50,), "50"),
        ((1, 1), ""),
        ((), ""),
    ],
)
def test_a_size_in_words(shape, words):
    assert size(shape) == words


def test_the_sheet(tmp_path, monkeypatch):
    few = {name: SHEET[name] for name in ("LeNet", "Squeeze-and-excitation")}
    monkeypatch.setattr("medlib.diagram.__main__.SHEET", few)
    monkeypatch.setattr("sys.argv", ["diagram", str(tmp_path / "sheet")])
    main()
    page = (tmp_path / "sheet" / "index.html").read_text(encoding="utf-8")
    files = re.findall('src="(.*?)"', page)
    assert files == ["lenet.svg", "squeeze-and-excitation.svg"]
    assert all((tmp_path / "sheet" / file).stat().st_size for file in files)


# ---------------------------------------------------------------- care and errors


def test_the_model_is_left_as_it_is():
    net = attention.SE(8).train()
    before = {name: p.clone() for name, p in net.named_parameters()}
    trace(net, (2, 8, 4, 4))
    assert net.training and net.weights is None
    assert not net._forward_hooks and not net.squeeze._forward_hooks
    for name, p in net.named_parameters():
        assert p.device.type == "cpu" and torch.equal(p, before[name])


def test_errors():
    with pytest.raises(ValueError, match="LeNet got images"):
        diagram(models.LeNet(), (1, 1, 32, 32))
    with pytest.raises(ValueError, match="Linear cannot be traced with .*3, 4"):
        diagram(nn.Linear(5, 2), (3, 4))
    with pytest.raises(ValueError, match="expected one of chain, U, block"):
        diagram(models.LeNet(), (1, 1, 28, 28), layout="V")

    class Same(nn.Module):
        def forward(self, x):
            return x

    class Crosswise(nn.Module):
        def forward(self, x):
            a, b = x.tanh(), x.sigmoid()
            return a.relu() * (a + b) * b.relu()

    with pytest.raises(ValueError, match="output does not come from its input"):
        diagram(Same(), (1, 1, 4, 4))
    with pytest.raises(ValueError, match="joined crosswise"):
        diagram(Crosswise(), (1, 1, 4, 4))

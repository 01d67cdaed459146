"""Who imports whom, imports inside functions included."""

import pytest

from press.graph import Graph, Module, arrows, circle, imports
from press.text import ROOT

ARROWS = arrows(Graph(ROOT, "medlib", "press"))
GROUND = {"medlib.device", "medlib.notes", "medlib.paths"}


def test_no_module_imports_itself_by_way_of_others():
    assert circle(ARROWS) == []


@pytest.mark.parametrize("name", sorted(GROUND & ARROWS.keys()))
def test_the_ground_floor_imports_nothing_above_it(name):
    assert ARROWS[name] <= GROUND


def test_medlib_never_imports_the_press():
    up = {
        n: o
        for n, other in ARROWS.items()
        if (o := {m for m in other if inside(m, "press")})
    }
    assert [name for name in up if inside(name, "medlib")] == []


@pytest.mark.parametrize("name", ["medlib.train", "medlib.checkpoint"])
def test_training_knows_no_hearts_and_no_readers(name):
    above = {"medlib.hearts", "medlib.readers", "medlib.fetch"}
    below = reachable(name)
    assert not {m for m in below if any(inside(m, package) for package in above)}


def inside(module, package):
    return module == package or module.startswith(f"{package}.")


def reachable(name):
    found, waiting = set(), [name]
    while waiting:
        new = ARROWS.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def test_a_circle_is_found_and_named():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_of_every_form_are_seen(tmp_path):
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "__init__.py").write_text('_HOME = {"fit": "train"}', encoding="utf-8")
    for name in ("train", "cost", "data", "plots"):
        (folder / f"{name}.py").write_text("def fit(): ...", encoding="utf-8")
    code = (
        "import numpy, lib.cost\nfrom lib import fit\n"
        "def f():\n    from lib.data import fit as g\n    from . import plots"
    )
    found = imports(Graph(tmp_path, "lib"), Module("lib.new", code))
    assert found == {"lib.cost", "lib.train", "lib.data", "lib.plots"}

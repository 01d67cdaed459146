"""What a chapter uses is found in its text; only a change of that makes it stale."""

import re
import shutil

import pytest

from press import stale, text
from press.graph import Graph, Module, code_of

CLAIM = re.compile(r"""["'](C\d{3})["']""")


# ---------------------------------------------------------------- a small package


PACKAGE = {
    "__init__": '_HOME = {"fit": "train"}',
    "train": """
import numpy as np
from lib import cost as prices
from lib.nets import Net
from lib.tools import *
RATE = 0.1
UNUSED = 2
def fit(net, seed=RATE):
    \"\"\"Fit.\"\"\"
    from lib.late import helper
    return helper(net), prices.count(net), np.mean(seed)
def seed():
    pass
def other():
    return Net
""",
    "cost": "def count(net):\n    return len(net)\ndef flops(net):\n    return 3",
    "late": "import lib.tools as t\ndef helper(net):\n    return t.inner.deep",
    "tools": "print('hello')\nclass inner:\n    deep = 1\nclass outer:\n    pass",
    "nets": "class Base:\n    pass\nclass Net(Base):\n    kind = 'net'",
}


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "lib"
    folder.mkdir()
    for name, code in PACKAGE.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return tmp_path


def reached(package, code):
    """(the definitions that some code reaches, the modules that run)."""
    graph, chapter = Graph(package, "lib"), Module("chapter", code)
    graph.add(chapter)
    keys, loaded = graph.closure(chapter)
    return {".".join(key) for key in keys if key[0] != "chapter"}, loaded


@pytest.mark.parametrize(
    "code",
    [
        "from lib import fit\nfit(1)",
        "import lib\nlib.fit(1)",
        "import lib.train as t\nt.fit(1)",
        "def f():\n    from lib.train import fit as g\n    return g(1)",
        "from lib import train\n[train.fit(net) for net in range(3)]",
        "class A:\n    def f(self):\n        return fit\nfrom lib.train import fit",
    ],
)
def test_names_are_followed_through_imports_aliases_and_lazy_packages(package, code):
    found, _ = reached(package, code)
    assert found == {
        "lib.train.fit", "lib.train.RATE", "lib.cost.count", "lib.late.helper",
        "lib.tools.inner",
    }  # fmt: skip


def test_a_name_that_a_function_binds_is_its_own(package):
    code = "from lib.train import fit, seed\ndef f(fit, *, x=seed):\n    return fit"
    assert reached(package, code)[0] == {"lib.train.seed"}


def test_a_base_class_is_reached_and_a_module_as_a_value_brings_all(package):
    found, _ = reached(package, "from lib.nets import Net\nNet()")
    assert found == {"lib.nets.Net", "lib.nets.Base"}
    found, _ = reached(package, "from lib import cost\ngetattr(cost, 'count')")
    assert found == {"lib.cost.count", "lib.cost.flops"}


def test_modules_that_run_on_import_are_known(package):
    _, loaded = reached(package, "from lib import fit\nfit(1)")
    assert {"lib", "lib.train", "lib.nets", "lib.tools"} <= loaded
    assert reached(package, "from lib.nets import Net")[1] == {
        "chapter",
        "lib",
        "lib.nets",
    } - {"chapter"}


def test_what_does_not_run_is_not_hashed():
    def of(code):
        return code_of(Module("m", code).tree.body)

    plain = of("def f(x, y=1):\n    return x + y")
    typed = 'def f(x: int, y: "A" = 1) -> int:\n    """Doc."""\n    # why'
    assert plain == of(f"{typed}\n    return (x\n + y)")
    assert plain != of("def f(x, y=2):\n    return x + y")
    assert of("class A:\n    x: int = 1") != of("class A:\n    x: float = 1")


# ---------------------------------------------------------------- the book


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """medlib in a folder where it may be changed, and what the chapters use of it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(text.ROOT / "medlib", folder / "medlib")
    return folder, used(folder)


def used(folder):
    graph = Graph(folder, "medlib")
    return {source.stem: stale.uses(source, graph) for source in text.sources()}


def changed_after(copy, name, old, new):
    """{chapter: the names that changed} after a change of one file; undone after it."""
    folder, before = copy
    path = folder / "medlib" / name
    code = path.read_text(encoding="utf-8")
    assert old in code
    path.write_text(code.replace(old, new, 1), encoding="utf-8")
    after = used(folder)
    path.write_text(code, encoding="utf-8")
    return {
        chapter: [n for n in now if before[chapter].get(n) != now[n]]
        for chapter, now in after.items()
        if now != before[chapter]
    }


def test_a_comment_and_a_docstring_stale_nothing(copy):
    name = "models/vnet.py"
    assert changed_after(copy, name, "class VNet", "# a reason\nclass VNet") == {}
    assert changed_after(copy, name, '    """', '    """Reworded. ') == {}


def test_a_changed_initialisation_of_vnet_stales_its_chapter_alone(copy):
    code = (copy[0] / "medlib" / "models" / "vnet.py").read_text(encoding="utf-8")
    head = re.search(r"class VNet.+?super\(\).__init__\(\)", code, re.DOTALL)[0]
    found = changed_after(copy, "models/vnet.py", head, f"{head}; self.gain = 2")
    assert found == {"17_volumes": ["medlib.models.vnet.VNet"]}


def test_a_new_class_beside_those_in_use_stales_nothing(copy):
    assert (
        changed_after(
            copy, "models/vnet.py", "class VNet", "class New:\n    pass\n\n\nclass VNet"
        )
        == {}
    )


def test_a_changed_fit_stales_every_chapter_that_trains(copy):
    found = changed_after(copy, "train.py", "def fit(", "@print\ndef fit(")
    trains = {
        s.stem for s in text.sources()
        if re.search(r"\b(fit|repeat|compare)\(", s.read_text(encoding="utf-8"))
    }  # fmt: skip
    assert trains <= found.keys() and "09_metrics" not in found


def test_a_changed_import_effect_stales_those_that_import(copy):
    found = changed_after(copy, "stats.py", "\ndef ", "\nprint('hello')\n\n\ndef ")
    assert "medlib.stats.<import>" in found["02_lenet"]


def test_a_changed_rule_stales_the_chapters_that_print_the_claim(tmp_path, monkeypatch):
    def stamp(source):
        ids = sorted(set(CLAIM.findall(source.read_text(encoding="utf-8"))))
        return {
            "uses": stale.uses(source), "claims": stale.claim_hashes(ids),
            "cards": {}, "torch": stale.locked_torch(),
        }  # fmt: skip

    stamps = {source: stamp(source) for source in text.sources()}
    assert {s.stem: c for s in stamps if (c := stale.changes(stamps[s], s))} == {}
    real = stale.paths.resource("claims.toml").read_text(encoding="utf-8")
    head, _, tail = real.partition('id = "C037"')
    assert 'rule = "< 0"' in tail.partition("[[claim]]")[0]
    other = tmp_path / "claims.toml"
    tail = tail.replace('rule = "< 0"', 'rule = "< 1"', 1)
    other.write_text(f'{head}id = "C037"{tail}', encoding="utf-8")
    monkeypatch.setattr(stale.paths, "resource", lambda name: other)
    found = {s.stem: c for s in stamps if (c := stale.changes(stamps[s], s))}
    printing = {s.stem for s in stamps if "C037" in stamps[s]["claims"]}
    assert found == {name: ["C037"] for name in printing} and "13_residual" in found


# ---------------------------------------------------------------- stamps


@pytest.fixture
def stamp(tmp_path):
    source = tmp_path / "99_toy.py"
    source.write_text("# %%\nfrom medlib import cost\ncost.parameters\n", "utf-8")
    return source, {
        "uses": stale.uses(source), "claims": stale.claim_hashes(["C037"]),
        "cards": stale.card_hashes(["digits"]), "torch": stale.locked_torch(),
    }  # fmt: skip


def test_a_stamp_is_fresh_until_something_it_uses_changes(stamp):
    source, then = stamp
    assert stale.changes(then, source) == []
    then["uses"]["medlib.cost.parameters"] = "0"
    then["claims"]["C037"] = then["cards"]["digits"] = "0"
    assert stale.changes(then, source) == ["C037", "digits", "medlib.cost.parameters"]


def test_another_minor_version_of_torch_stales(stamp):
    source, then = stamp
    major, minor, *_ = then["torch"].split(".")
    assert stale.changes(then | {"torch": f"{major}.{minor}.99+cpu"}, source) == []
    (found,) = stale.changes(then | {"torch": f"{major}.{int(minor) + 1}.0"}, source)
    assert found.startswith("torch")


def test_a_stamp_of_the_older_kind_is_stale(stamp):
    assert stale.changes({"medlib": {}}, stamp[0]) == ["how chapters are stamped"]

"""What counts as the same content, and what does not."""

import functools
import importlib
import math
import os
import random
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from medlib import losses, models
from medlib.content import Indescribable, digest

FACTOR = 2


def made(source, name="f", **names):
    """A function as a notebook's cell would define it."""
    space = {"__name__": "__main__", **names}
    exec(compile(source, "cell", "exec"), space)  # noqa: S102
    return space[name]


def test_comments_docstrings_and_places_are_no_content():
    plain = made("def f(x):\n    return 2 * x")
    talkative = made('\n\ndef f(x):\n    "Twice."\n    # why\n    return 2 * x')
    assert digest(plain) == digest(talkative) != digest(made("def f(x): return 3 * x"))


@pytest.mark.parametrize(
    "one, other",
    [
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x, k=1): return k * x", "def f(x, k=2): return k * x"),
        ("def f(x, *, k=1): return k * x", "def f(x, *, k=2): return k * x"),
        ("def f(x): return [x for _ in 'a']", "def f(x): return [x for _ in 'b']"),
        ("def f(x): return 'a'", "def f(x): return 'b'"),
        ("def f(x): return x.mean()", "def f(x): return x.sum()"),
        ("f = lambda x: x", "f = lambda x: -x"),
        ("K = 1\ndef f(x): return K * x", "K = 2\ndef f(x): return K * x"),
        (
            "def g(x): return x\ndef f(x): return g(x)",
            "def g(x): return -x\ndef f(x): return g(x)",
        ),
        (
            "def make(k):\n    def g(x): return k * x\n    return g\nf = make(1)",
            "def make(k):\n    def g(x): return k * x\n    return g\nf = make(2)",
        ),
        (
            "class f:\n    k = 1\n    def __call__(self): return 1",
            "class f:\n    k = 1\n    def __call__(self): return 2",
        ),
        ("class f:\n    k = 1", "class f:\n    k = 2"),
        (
            "class B:\n    k = 1\nclass f(B):\n    pass",
            "class B:\n    k = 2\nclass f(B):\n    pass",
        ),
        (
            "class f:\n    @property\n    def k(self): return 1",
            "class f:\n    @property\n    def k(self): return 2",
        ),
        (
            "import functools\n@functools.cache\ndef f(x): return 1",
            "import functools\n@functools.cache\ndef f(x): return 2",
        ),
        (
            "import torch\n@torch.no_grad()\ndef f(x): return 1",
            "import torch\n@torch.no_grad()\ndef f(x): return 2",
        ),
        (
            "import torch\n@torch.no_grad()\ndef f(x): return 1",
            "import torch\n@torch.enable_grad()\ndef f(x): return 1",
        ),
        ("def f(*x): return x", "def f(**x): return x"),
        ("def f(): return f.k\nf.k = 1", "def f(): return f.k\nf.k = 2"),
        (
            "class C:\n    pass\na, b = C(), C()\nf = [a, b, a]",
            "class C:\n    pass\na, b = C(), C()\nf = [a, b, b]",
        ),
        (
            "import torch\nf = torch.ones(2).mul",
            "import torch\nf = torch.zeros(2).mul",
        ),
    ],
)
def test_other_code_is_other_content(one, other):
    assert digest(made(one)) == digest(made(one)) != digest(made(other))


CORNERS = """
class f:
    def __new__(cls): return NUMBER
---
class M(type):
    def __call__(cls): return NUMBER
class f(metaclass=M): pass
---
import functools
class f:
    @functools.cached_property
    def k(self): return NUMBER
---
class f:
    __call__ = staticmethod(lambda x: NUMBER)
---
class K(dict):
    def __call__(self): return NUMBER
f = K(a=1)
---
class K(float):
    def __call__(self): return NUMBER
f = K(1)
---
class K(list): pass
f = K([1])
f.k = NUMBER
---
class A: __slots__ = ("k",)
class B(A): pass
f = B()
f.k = NUMBER
---
import enum
class K(enum.IntEnum):
    A = 1
    def k(self): return NUMBER
f = K.A
---
import typing
class K(typing.NamedTuple):
    a: int
    def __call__(self): return NUMBER
f = K(3)
---
import functools
class W:
    def __init__(self, f, k):
        self.k = k
        functools.update_wrapper(self, f)
f = W(len, NUMBER)
"""


@pytest.mark.parametrize("source", CORNERS.split("---"))
def test_every_corner_of_a_class_is_content(source):
    one, other = (source.replace("NUMBER", n) for n in "12")
    assert digest(made(one)) == digest(made(one)) != digest(made(other))


@dataclass
class Weighted:
    weight: float

    def __call__(self, logits, y):
        return self.weight * logits.mean()


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    "one, other",
    [
        (1, 1.0),
        (1, True),
        ([1, 2], (2, 1)),
        ({"a": 1}, {"a": 2}),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])),
        (np.arange(3), np.arange(3.0)),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (functools.partial(losses.focal, gamma=1.0), losses.focal),
        (Weighted(1.0), Weighted(2.0)),
        (Weighted(1.0).__call__, Weighted(2.0).__call__),
        (Pair(1, 2), Pair(2, 1)),
        (math.sin, math.cos),
        (torch.relu, torch.tanh),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(torch.ones(2))),
        (nn.ReLU(), nn.Tanh()),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_other_values_are_other_content(one, other):
    assert digest(one) == digest(one) != digest(other)


def test_a_network_is_its_code_its_settings_and_its_weights():
    def build(s=0, **more):
        torch.manual_seed(s)
        return models.UNet(1, 2, width=4, padded=True, **more)

    frozen = build()
    next(frozen.parameters()).requires_grad = False
    hooked = build()
    hooked.register_forward_hook(lambda m, i, o: 2 * o)
    patched = build()
    patched.forward = lambda x: x
    seen = [digest(m) for m in (build(), build(1), frozen, hooked, patched)]
    assert digest(build()) == seen[0] and len(set(seen)) == 5


def test_shared_layers_and_weights_and_hooks_are_content():
    def build(change):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
        change(model)
        return model

    def hook(model, factor=1):
        model[0].weight.register_hook(lambda g: factor * g)

    def tie(model, which):
        model[2].weight = model[which].weight

    changes = [
        lambda model: None,
        lambda model: model.append(model[0]),
        lambda model: model.append(model[1]),
        lambda model: tie(model, 0),
        lambda model: tie(model, 1),
        hook,
        lambda model: hook(model, 2),
    ]
    found = [digest(build(change)) for change in changes]
    assert found == [digest(build(change)) for change in changes]  # and no counters
    assert len(set(found)) == len(changes)


def test_a_layer_that_a_library_dresses_up_is_still_ours():
    """torch.nn.utils.parametrize makes a class around the layer's own."""

    def dressed(factor):
        class Scaled(nn.Linear):
            def forward(self, x):
                return factor * super().forward(x)

        torch.manual_seed(0)
        return nn.utils.parametrizations.weight_norm(Scaled(2, 2))

    assert digest(dressed(1)) == digest(dressed(1)) != digest(dressed(2))


def test_sets_do_not_depend_on_their_order():
    assert digest({"a", "b", "c"}) == digest({"c", "b", "a"})


MINE = """
def used(x): return {value} * x
def unused(x): return {other} * x
"""
WAYS = """
def f(x):
    import mine_{n} as m
    return m.used(x)
---
def f(x):
    import package_{n}.mine
    return package_{n}.mine.used(x)
---
def f(x):
    from package_{n} import mine as m
    return [m.used(y) for y in x]
---
import package_{n}
def f(x): return package_{n}.mine.used(x)
---
def make():
    from package_{n} import mine
    return lambda x: mine.used(x)
f = make()
---
def f(x):
    from .mine import used
    return used(x)
"""


@pytest.mark.parametrize("way", WAYS.split("---"))
def test_modules_of_the_reader_count_by_what_is_used_of_them(
    way, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    number = WAYS.split("---").index(way)

    def found(value, other):
        for name in [m for m in sys.modules if m.split(".")[0].endswith(f"_{number}")]:
            del sys.modules[name]
        folder = tmp_path / f"package_{number}"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("from . import mine")
        text = MINE.format(value=value, other=other)
        for path in (folder / "mine.py", tmp_path / f"mine_{number}.py"):
            path.write_text(text)
        importlib.invalidate_caches()
        source = way.replace("{n}", str(number))
        return digest(made(source, __package__=f"package_{number}"))

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert found("1", 1) == found("1", 22) != found("22", 1)


KEY = """
import sys
from medlib.content import digest
from medlib import models
class A: pass
class B: pass
def shared(): return 1
def one(): return shared()
def two(): return shared()
GROUP = {A, B, one, two, "a", "b"}
def f(x): return x in GROUP or x in {"c", "d", "e"}
print(digest([f, models.UNet]))
"""


def test_a_key_is_the_same_in_every_process():
    """Sets are walked in the order of hashes and addresses, which differ."""
    keys = set()
    for seed in ("0", "1", "2"):
        keys.add(
            subprocess.run(
                [sys.executable, "-c", KEY],
                env=os.environ | {"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert len(keys) == 1


def test_lines_and_docstrings_inside_are_no_content():
    plain = made("def f(x):\n    class K: pass\n    return K")
    other = made('\n\ndef f(x):\n    class K:\n        "A class."\n    return K')
    # A class without a docstring stores none.
    longer = made('def f(x):\n    class K:\n        "Much more."\n    return K')
    assert digest(other) == digest(longer) and digest(plain) == digest(plain)


def test_the_global_generators_may_be_reached():
    """`fit` seeds them; what they hold at the moment says nothing."""
    f = made("from random import choice\ndef f(x): return choice(x)")
    first = digest(f)
    random.gauss(0, 1)
    assert digest(f) == first


def test_functions_may_call_each_other():
    source = "def f(x): return g(x)\ndef g(x): return f(x)"
    assert digest(made(source)) == digest(made(source))


@pytest.mark.parametrize(
    "thing",
    [
        torch.Generator(),
        np.random.default_rng(0),
        iter([1]),
        (i for i in "abc"),
        threading.Lock(),
        random.Random(0),
        losses,
        torch.compile(nn.Linear(1, 1)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_has_no_content_is_refused_with_advice(thing):
    def loss(logits, y):
        return thing

    with pytest.raises(Indescribable, match="expected functions.*unset MEDLIB_STORE"):
        digest(loss)

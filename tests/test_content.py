"""What counts as the same content, and what does not."""

import functools
import math
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
    ],
)
def test_other_code_is_other_content(one, other):
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


def test_sets_do_not_depend_on_their_order():
    assert digest({"a", "b", "c"}) == digest({"c", "b", "a"})


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
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_has_no_content_is_refused_with_advice(thing):
    def loss(logits, y):
        return thing

    with pytest.raises(Indescribable, match="expected functions.*unset MEDLIB_STORE"):
        digest(loss)

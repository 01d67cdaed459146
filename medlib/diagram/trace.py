"""What a network does to a tensor, as a graph: one forward pass on the meta device,
where tensors have a shape and no values, so that even VGG-16 takes no memory.

Hooks see the modules; skips live in `forward`, as torch.cat or +, where no hook is
called: a TorchFunctionMode sees those.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]


@dataclass(eq=False)
class Node:
    """An operation and the tensor that it gives.

    op       conv, pointwise, depthwise, up, resize, patch, unpatch, pool, mean, dense,
             norm, act, pad, warp, shape, block, loop, input, or one of JOINED
    label    in words: "3 × 3 convolution"
    shape    of what it gives, without the batch
    factor   by how much H and W shrink: 2 for a pooling, 1/2 for an up-convolution
    inputs   the nodes whose tensors it takes, each with that tensor's shape; a cropped
             one is in `cropped`
    """

    op: str
    label: str
    path: str
    shape: Shape
    inputs: dict["Node", Shape]
    factor: float = 1.0
    kernel: Shape = ()
    dilation: int = 1
    cropped: set["Node"] = field(default_factory=set)
    absorbed: list["Node"] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> Shape:
        """Without the channels: (H, W), (D, H, W) or ()."""
        return self.shape[1:]


@dataclass
class Graph:
    """Nodes in the order of the forward pass, the input first, the output last; `loops`
    where the network is called again with what it gave (slice after slice); `shape` of
    the output, without the batch.
    """

    nodes: list[Node]
    shape: Shape
    loops: bool = False

    def consumers(self) -> dict[Node, list[Node]]:
        found: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for source in node.inputs:
                found[source].append(node)
        return found

    def replace(self, old: Node, new: Node) -> None:
        """What took `old` takes `new`."""
        for node in self.nodes:
            if old in node.inputs and node is not new:
                inputs = node.inputs.items()
                node.inputs = {new if n is old else n: shape for n, shape in inputs}
                node.cropped |= {new} if old in node.cropped else set()

    def contract(self, members: list[Node], block: Node) -> None:
        """`block` takes the place of nodes that have one input and one output."""
        *others, last = members
        gone = set(members)
        for node in members:
            block.inputs |= {n: s for n, s in node.inputs.items() if n not in gone}
        self.nodes[self.nodes.index(last)] = block
        self.nodes = [node for node in self.nodes if node not in others]
        self.replace(last, block)

    def absorb(self, ops: Iterable[str]) -> None:
        """These operations become part of the one before them, as a ReLU does of a
        convolution.
        """
        for node in list(self.nodes):
            if node.op in ops and len(node.inputs) == 1:
                (source,) = node.inputs
                source.absorbed.append(node)
                source.shape = source.shape if node.op == "pad" else node.shape
                self.nodes.remove(node)
                self.replace(node, source)


def words(name: str) -> str:
    """The name of a class: "BasicBlock" → "basic block"; "MBConv" and "GRU" stay."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    return spaced.lower() if re.fullmatch("[A-Z][a-z]+|.* .*", spaced) else spaced


def times(sides: Iterable) -> str:
    return " × ".join(map(str, sides))


JOINED = ("+", "−", "×", "÷", "@", "cat")
JOINS = {
    "add": "+", "radd": "+", "iadd": "+", "mul": "×", "rmul": "×", "imul": "×",
    "matmul": "@", "rmatmul": "@", "bmm": "@", "cat": "cat", "concat": "cat",
    "stack": "cat", "sub": "−", "rsub": "−", "truediv": "÷", "div": "÷",
}  # fmt: skip
ACTIVATIONS = {
    "relu": "ReLU", "relu_": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh",
    "softmax": "softmax", "log_softmax": "log-softmax", "gelu": "GELU",
    "silu": "swish", "hardswish": "h-swish", "hardsigmoid": "hard sigmoid",
    "prelu": "PReLU", "leaky_relu": "leaky ReLU", "relu6": "ReLU6", "elu": "ELU",
}  # fmt: skip
OTHERS = {  # function: (op, label)
    "interpolate": ("resize", "interpolation"),
    "upsample": ("resize", "interpolation"),
    "pixel_unshuffle": ("patch", "patches to channels"),
    "pixel_shuffle": ("unpatch", "channels to patches"),
    "linear": ("dense", "dense layer"),
    "batch_norm": ("norm", "batch norm"),
    "layer_norm": ("norm", "layer norm"),
    "group_norm": ("norm", "group norm"),
    "instance_norm": ("norm", "instance norm"),
    "pad": ("pad", "pad"),
    "grid_sample": ("warp", "resampling"),
}
REDUCTIONS = {"mean": "mean", "amax": "maximum", "max": "maximum", "sum": "sum"}
SOURCES = {"zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "eye"}


def describe(
    name: str, args: tuple, x: Shape, y: Shape, module: nn.Module | None
) -> dict[str, Any] | None:
    """op, label and so on of a function that takes the shape x to y, called by a module
    without children or by none; None where a drawing would show nothing.
    """
    ratio = x[-1] / y[-1] if len(x) > 2 and len(y) > 2 and y[-1] else 1.0
    factor = float(round(ratio)) if ratio >= 1 else 1 / round(1 / ratio)
    if re.fullmatch("conv[123]d", name):
        return convolution(args, x, y, module, factor)
    if name.startswith("conv_transpose"):
        label = f"{times(args[1].shape[2:])} up-convolution"
        return {"op": "up", "label": label, "factor": factor}
    if "pool" in name:
        return pooling(name, args, x, y, module, factor)
    if name in ACTIVATIONS:
        return {"op": "act", "label": ACTIVATIONS[name]}
    if name in REDUCTIONS:
        everywhere = len(y) == 1 or max(y[1:]) == 1
        over = "" if everywhere or y[0] == x[0] else " over channels"
        of = "global " if everywhere else ""
        return {"op": "mean", "label": of + REDUCTIONS[name] + over}
    if name in OTHERS:
        op, label = OTHERS[name]
        resized = op in ("resize", "patch", "unpatch")
        return {"op": op, "label": label, "factor": factor if resized else 1.0}
    return None


def convolution(
    args: tuple, x: Shape, y: Shape, module: Any, factor: float
) -> dict[str, Any]:
    kernel = tuple(args[1].shape[2:])
    stride = max(getattr(module, "stride", (1,)))
    dilation = max(getattr(module, "dilation", (1,)))
    alone = getattr(module, "groups", 1) == x[0] == y[0] > 1
    op = "depthwise" if alone else "pointwise" if max(kernel) == 1 else "conv"
    label = f"{times(kernel)} {'depthwise' if alone else 'convolution'}"
    label += f", dilation {dilation}" if dilation > 1 else ""
    label += f", stride {stride}" if stride > 1 else ""
    return {
        "op": op, "label": label, "kernel": kernel, "dilation": dilation,
        "factor": factor if stride > 1 else 1.0,
    }  # fmt: skip


def pooling(
    name: str, args: tuple, x: Shape, y: Shape, module: Any, factor: float
) -> dict[str, Any] | None:
    if x == y:
        return None
    if max(y[1:]) == 1 and max(x[1:]) > 2:
        return {"op": "mean", "label": "global mean"}
    window = getattr(module, "kernel_size", None) or args[1]
    sides = window if isinstance(window, tuple) else (window,) * (len(x) - 1)
    kind = "max-pooling" if "max" in name else "average pooling"
    label = kind if "adaptive" in name else f"{times(sides)} {kind}"
    return {"op": "pool", "label": label, "factor": factor}


class _Recorder(TorchFunctionMode):
    """Keeps a node for each operation that a drawing would show; a tensor of any other
    one (a view, a cast) stands for the node that it came from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.of: dict[int, Node] = {}  # by the id of a tensor
        self.cropped: set[int] = set()
        self.alive: list[Tensor] = []  # or an id would be given away again
        self.stack: list[tuple[str, int]] = []  # (path, nodes before) of open modules
        self.leaf: list[tuple[str, tuple]] | None = None  # functions in a leaf module
        self.done: dict[tuple[int, str], list[Node]] = {}
        self.replaying: str | None = None
        self.loops: set[str] = set()

    # ---------------------------------------------------------------- tensors

    def keep(self, tensors: Iterable[Tensor], node: Node) -> None:
        for tensor in tensors:
            self.of[id(tensor)] = node
            self.alive.append(tensor)

    def add(self, out: Any, tensors: list[Tensor], **about: Any) -> None:
        path = self.stack[-1][0] if self.stack else ""
        inputs = {self.of[id(t)]: tuple(t.shape[1:]) for t in tensors}
        crops = {self.of[id(t)] for t in tensors if id(t) in self.cropped}
        results = list(_tensors(out))
        shape = tuple(results[0].shape[1:])
        node = Node(path=path, shape=shape, inputs=inputs, cropped=crops, **about)
        self.nodes.append(node)
        self.keep(results, node)
        self.cropped -= {id(t) for t in results}

    def __torch_function__(
        self, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")  # add_ and __add__ add
        if self.replaying is not None:
            return out
        if self.leaf is not None:
            self.leaf.append((name, args))
        elif name not in SOURCES:
            self.function(name, args, kwargs or {}, out)
        return out

    def function(self, name: str, args: tuple, kwargs: dict, out: Any) -> None:
        known = [t for t in _tensors((args, kwargs)) if id(t) in self.of]
        if not known or not any(True for _ in _tensors(out)):
            return
        y = next(_tensors(out))
        if name in JOINS and len({self.of[id(t)] for t in known}) > 1:
            op = JOINS[name]
            label = "concatenation" if op == "cat" else op
            self.add(out, known, op=op, label=label)
            return
        x = known[0]
        about = describe(name, args, tuple(x.shape[1:]), tuple(y.shape[1:]), None)
        if about:
            self.add(out, known, **about)
            return
        node = self.of[id(x)]
        self.keep(_tensors(out), node)
        if id(x) in self.cropped or (
            name == "getitem" and x.ndim == y.ndim > 3 and x.shape[2:] != y.shape[2:]
        ):
            self.cropped.add(id(y))
        moved = name in ("transpose", "movedim", "permute") and x.ndim == y.ndim
        slices = node.op == "loop" and y.ndim == 4  # from (B, D, C, H, W)
        if slices or moved and node.op in ("patch", "unpatch"):
            node.shape = tuple(y.shape[1:])  # channels first again

    # ---------------------------------------------------------------- modules

    def open(self, path: str, module: nn.Module) -> None:
        if self.replaying is not None:
            return
        owner, since = self.stack[-1] if self.stack else ("", 0)
        if (since, path) in self.done and next(module.parameters(), None) is not None:
            self.replaying = path  # the same weights again: a loop, drawn once
            self.loops.add(owner)
            return
        self.stack.append((path, len(self.nodes)))
        if path and not any(True for _ in module.children()):
            self.leaf = []

    def close(self, path: str, module: nn.Module, args: Any, out: Any) -> None:
        results = list(_tensors(out))
        owner, since = self.stack[-1]
        if self.replaying is not None:
            if self.replaying == path:
                self.replaying = None
                for tensor, node in zip(results, self.done[since, path], strict=True):
                    self.keep([tensor], node)
            return
        functions, self.leaf = self.leaf, None
        known = [t for t in _tensors(args) if id(t) in self.of]
        if functions is not None and known and results:
            self.module(module, functions, known, out)
        elif owner in self.loops and owner:
            del self.nodes[since:]
            self.add(out, known, op="loop", label=words(type(module).__name__))
        self.stack.pop()
        if self.stack and all(id(t) in self.of for t in results):
            self.done[self.stack[-1][1], path] = [self.of[id(t)] for t in results]

    def module(
        self, module: nn.Module, functions: list, known: list[Tensor], out: Any
    ) -> None:
        """A module without children: one operation, the first in it that tells."""
        x, y = known[0], next(_tensors(out))
        shapes = tuple(x.shape[1:]), tuple(y.shape[1:])
        found = [describe(name, args, *shapes, module) for name, args in functions]
        told = [about for about in found if about]
        weighty = [a for a in told if a["op"] in ("conv", "pointwise", "up", "pool")]
        own = not type(module).__module__.startswith("torch.")
        if weighty or told and not own:
            self.add(out, known, **(weighty or told)[0])
        elif own and y is not x:
            op = "dense" if y.ndim == 2 else "norm" if shapes[0] == shapes[1] else "own"
            self.add(out, known, op=op, label=words(type(module).__name__))
        else:
            self.keep(_tensors(out), self.of[id(x)])


def _tensors(thing: Any) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, (list, tuple)):
        for part in thing:
            yield from _tensors(part)
    elif isinstance(thing, dict):
        yield from _tensors(list(thing.values()))


def trace(model: nn.Module, shape: Shape) -> Graph:
    """The graph of one forward pass with a batch of this shape, in eval mode; `model`
    itself is left as it is.

    ValueError where the network refuses the shape (its own words, if it has any), or
    gives back nothing that comes from the input.
    """
    meta = {id(b): b.to("meta") for b in model.buffers()}
    for p in model.parameters():
        meta[id(p)] = nn.Parameter(p.detach().to("meta"), requires_grad=False)
    model = copy.deepcopy(model, meta).eval()  # without a copy of the weights
    x = torch.zeros(shape, device="meta")
    recorder = _Recorder()
    first = Node("input", "input", "", tuple(shape[1:]), {})
    recorder.nodes.append(first)
    recorder.keep([x], first)
    for path, module in model.named_modules():
        module.register_forward_pre_hook(lambda m, _, p=path: recorder.open(p, m))
        module.register_forward_hook(
            lambda m, args, out, p=path: recorder.close(p, m, args, out)
        )
    # autocast knows no meta device
    quiet = mock.patch("torch.autocast", lambda *a, **k: nullcontext())
    try:
        with torch.no_grad(), torch.device("meta"), quiet, recorder:
            out = model(x)
    except (RuntimeError, NotImplementedError, IndexError, TypeError) as error:
        raise ValueError(
            f"{type(model).__name__} cannot be traced with {tuple(shape)}: {error}"
        ) from error
    last = next((recorder.of.get(id(t)) for t in _tensors(out)), None)
    if last is None or last is first:
        raise ValueError(
            f"{type(model).__name__}: its output does not come from its input"
        )
    (result, *_) = _tensors(out)
    given = tuple(result.shape[1:])
    if len(given) > 2 and not last.size:  # a vector that is made an image again
        last = Node("shape", "as an image", "", given, {last: last.shape})
        recorder.nodes.append(last)
    nodes = reaching(recorder.nodes, last)
    return Graph(nodes, given, "" in recorder.loops)


def reaching(nodes: list[Node], last: Node) -> list[Node]:
    """Those nodes that the last one needs."""
    needed = {last}
    for node in reversed(nodes):
        if node in needed:
            needed |= set(node.inputs)
    return [node for node in nodes if node in needed]

"""Drawings of networks, made from the networks themselves: `diagram(model, shape)`.

A feature map is a bar: its height grows with the square root of its size, its width
with the logarithm of its channels, which stand above it. A network is a chain from left
to right, or, where it goes down and up again, a U; a block is drawn larger, operation
by operation, from top to bottom.

`python -m medlib.diagram FOLDER` draws all networks of the book on one sheet.
"""

from matplotlib.figure import Figure
from torch import nn

from medlib.diagram.bars import Plan
from medlib.diagram.block import block
from medlib.diagram.coarse import coarse
from medlib.diagram.paint import paint
from medlib.diagram.trace import Graph, Shape, trace

LAYOUTS = ("chain", "U", "block")


def diagram(model: nn.Module, shape: Shape, *, layout: str | None = None) -> Figure:
    """`model` as it works on a batch of this shape, (B, C, H, W) say, drawn from a
    forward pass without values; give it to `plots.show`, or save it as an SVG.

    layout  "chain", "U" or "block"; by default the one that fits: a U where the network
            goes down and up, operation by operation where it is a block

    ValueError where the network refuses the shape, or where its paths are joined
    crosswise.
    """
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout={layout!r}; expected one of {', '.join(LAYOUTS)}")
    graph = trace(model, shape)
    layout = layout or fitting(graph)
    if layout == "block":
        return block(graph)
    return paint(Plan(coarse(model, graph), u=layout == "U"))


def fitting(graph: Graph) -> str:
    """The layout for a graph."""
    ops = {node.op for node in graph.nodes}
    if any(node.factor < 1 for node in graph.nodes):
        return "U"
    small = len(graph.nodes) <= 40 and len(graph.shape) > 1 and "pool" not in ops
    return "block" if small and ops - {"input", "dense", "shape"} else "chain"

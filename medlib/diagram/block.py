"""A block, operation by operation, from top to bottom, with the shape at each edge."""

from itertools import pairwise

from matplotlib.figure import Figure

from medlib.diagram.page import ACCENT, SOFT, TINT, Page, width
from medlib.diagram.series import Parallel, series, weight
from medlib.diagram.trace import JOINED, Graph, Node, Shape, times

EDGE = 34.0  # points of an edge, with its shape beside it
SIGNS = JOINED[:-1]  # a concatenation is a box
WEIGHTS = ("conv", "depthwise", "pointwise", "dense", "block", "up")


def block(graph: Graph) -> Figure:
    """Paths stand side by side, the identity dashed."""
    page = Page()
    y = draw(page, series(graph)[1:], 0, 0, graph.nodes[0].shape)
    edge(page, 0, y, y + EDGE, graph.shape)
    return page.figure()


# ---------------------------------------------------------------- widths


def half(node: Node) -> float:
    """Half the width of its box."""
    return 8.0 if node.op in SIGNS else width(node.label) / 2 + 12


def reach(items: list) -> tuple[float, float]:
    """How far a series goes to the left and to the right of its axis."""
    left = right = 10.0
    for item in items:
        if isinstance(item, Parallel):
            _, (a, b) = columns(item)
        else:
            a, b = half(item), max(half(item), width(times(item.shape)) + 12)
        left, right = max(left, a), max(right, b)
    return left, right


def columns(item: Parallel) -> tuple[list[float], tuple[float, float]]:
    """The axis of each path, and the reach of all: a path with a shorter one beside it
    goes straight on, others stand around the middle.
    """
    reaches = [reach(path) for path in item.paths]
    xs = [0.0]
    for (_, right), (left, _) in pairwise(reaches):
        xs.append(xs[-1] + right + left + 14)
    middle = 0.0 if beside(item) else xs[-1] / 2
    xs = [x - middle for x in xs]
    return xs, (reaches[0][0] - xs[0], xs[-1] + reaches[-1][1])


def beside(item: Parallel) -> bool:
    """Whether there is one path, and a shorter one beside it."""
    longest, *others = map(weight, item.paths)
    return len(others) == 1 and others[0] <= longest / 2


# ---------------------------------------------------------------- drawing


def draw(
    page: Page, items: list, x: float, y: float, shape: Shape, *, arrived: bool = False
) -> float:
    """A series from y down, its first operation behind an edge unless the arrow has
    `arrived` there; the lower edge of its last.
    """
    for i, item in enumerate(items):
        if isinstance(item, Parallel):
            y = parallel(page, item, items[i + 1], x, y, shape)
            continue
        if not arrived and not (i and isinstance(items[i - 1], Parallel)):
            y = edge(page, x, y, y + EDGE, shape)
        y, arrived, shape = operation(page, item, x, y), False, item.shape
    return y


def edge(page: Page, x: float, y: float, end: float, shape: Shape) -> float:
    """An arrow down, with the shape of what goes along it; its end."""
    page.line([(x, y), (x, end)])
    page.text(x + 8, (y + end) / 2 - 3, times(shape), ha="left", colour=SOFT)
    return end


def operation(page: Page, node: Node, x: float, y: float) -> float:
    """The operation with its upper edge at y; its lower edge."""
    if node.op in SIGNS:
        page.sign(x, y + 8, node.op)
        return y + 16
    look = (ACCENT, 0.3, ACCENT) if node.op in WEIGHTS else (TINT, 1.0, SOFT)
    page.box(x - half(node), y, 2 * half(node), 26, look, corner=4)
    page.text(x, y + 13, node.label)
    return y + 26


def parallel(
    page: Page, item: Parallel, join: Node, x: float, y: float, shape: Shape
) -> float:
    """The paths side by side; the height at which they meet in `join`."""
    xs, _ = columns(item)
    fork, ends = y + 24, []
    page.line([(x, y), (x, fork)], head=None)
    page.text(x + 8, y + 10, times(shape), ha="left", colour=SOFT)
    for path, dx in zip(item.paths, xs, strict=True):
        nested = bool(path) and isinstance(path[0], Parallel)
        if path:
            way = [(x, fork), (x + dx, fork), (x + dx, fork + 20)]
            page.line(way if dx else way[1:], head=None if nested else "full")
            inner = draw(page, path, x + dx, fork + 20, shape, arrived=not nested)
        ends.append(inner if path else fork)
    straight = beside(item)
    meet = max(ends) + EDGE + (0 if straight else 10)
    for path, dx, end in zip(item.paths, xs, ends, strict=True):
        if straight and not dx:
            edge(page, x, end, meet, path[-1].shape)
            continue
        start = [(x + dx, end)] if path else [(x, fork), (x + dx, fork)]
        if straight:  # into the side
            level = meet + (8 if join.op in SIGNS else 13)
            way = [(x + dx, level), (x + half(join), level)]
        else:
            way = [(x + dx, meet - 14), (x, meet - 14), (x, meet)]
        page.line([*start, *way], dashed=not path)
        if path:
            text = times(path[-1].shape)
            page.text(x + dx + 8, end + 12, text, ha="left", colour=SOFT)
    return meet

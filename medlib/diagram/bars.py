"""Where the bars of a network stand, one a feature map: in a chain from left to right,
or in a U.

Bars of one scale stand side by side: a run. In a chain all runs stand on one line; in a
U each scale has its row, a run that shrinks stands under the bar that it came from, and
a run that grows above it.
"""

import math
from dataclasses import dataclass, field

from medlib.diagram.page import width
from medlib.diagram.series import Parallel, nodes, series
from medlib.diagram.trace import JOINED, Graph, Node, Shape, times

ACROSS = 9.0  # points from one bar to the next
APART = 18.0  # to the next one on a skip, which has an arrow between
LINE = 21.0  # of text, from one baseline to the next
PLAIN = ("input", "pool", "up", "resize", "mean", "patch", "unpatch", "shape")


@dataclass(eq=False)
class Bar:
    """A feature map: `x` is its left edge, `run` the bars at its side.

    times    how often it comes in a row
    join     where a skip meets it: "cat" or the sign of a sum, which takes `room` at
             its left
    behind   the same, where the skip comes in behind it
    fan      parallel paths that lead to it, in words
    """

    node: Node
    w: float
    h: float
    run: "Run"
    labelled: bool
    x: float = 0.0
    times: int = 1
    join: str = ""
    room: float = 0.0
    behind: str = ""
    fan: list[str] = field(default_factory=list)

    @property
    def depth(self) -> float:
        """How far the second edge of a volume stands back."""
        volume = len(self.node.size) == 3 and max(self.node.size) > 1
        return 3 + 0.5 * math.sqrt(self.node.size[0]) if volume else 0.0

    @property
    def middle(self) -> float:
        return self.x + self.w / 2

    @property
    def right(self) -> float:
        return self.x + self.w + self.depth

    @property
    def y(self) -> float:
        """The height of its middle."""
        return self.run.y

    @property
    def top(self) -> float:
        return self.y - self.h / 2 - self.depth

    @property
    def bottom(self) -> float:
        return self.y + self.h / 2


@dataclass(eq=False)
class Run:
    """Bars of one scale, side by side; `arcs` are shortcuts from bar to bar."""

    scale: float
    rising: bool
    bars: list[Bar] = field(default_factory=list)
    arcs: list[tuple[Bar, Bar]] = field(default_factory=list)
    y: float = 0.0

    @property
    def middle(self) -> float:
        return (self.bars[0].x + self.bars[-1].right) / 2

    def sizes(self) -> str:
        """The size of the first → that of the last."""
        ends = [size(bar.node.size) for bar in (self.bars[0], self.bars[-1])]
        return " → ".join(dict.fromkeys(words for words in ends if words))

    def labels(self) -> list["Label"]:
        """Neighbours with as many channels share a label."""
        found: list[Label] = []
        for bar in self.bars:
            if bar.labelled:
                if found and found[-1].text == str(bar.node.channels):
                    found[-1].bars.append(bar)
                else:
                    found.append(Label([bar]))
        return found


@dataclass
class Label:
    """The channels of neighbouring bars, which stand above them."""

    bars: list[Bar]

    @property
    def text(self) -> str:
        return str(self.bars[0].node.channels)

    @property
    def x(self) -> float:
        return (self.bars[0].x + self.bars[-1].right) / 2

    @property
    def half(self) -> float:
        return width(self.text) / 2

    @property
    def y(self) -> float:
        arcs = self.bars[0].run.arcs
        under = any(a.x <= bar.x <= b.x for a, b in arcs for bar in self.bars)
        return min(bar.top for bar in self.bars) - (25 if under else 11)


@dataclass
class Skip:
    """From a bar to another, over the nodes `across`; they meet in `join`."""

    source: Bar
    across: list[Node]
    join: Node
    target: Bar


class Plan:
    """All bars of a graph, and what leads from one to another; `moves` are poolings and
    the like, from a run to the next.
    """

    def __init__(self, graph: Graph, *, u: bool) -> None:
        self.graph, self.u = graph, u
        self.runs: list[Run] = []
        self.moves: list[tuple[Bar, Bar]] = []
        self.skips: list[Skip] = []
        self.scale = 1.0
        # 120 points at most: small images are drawn larger, for their own sake
        self.unit = min(120 / math.sqrt(max(side(graph.nodes[0]), 1)), 17.0)
        self.walk(series(graph))
        if u:
            self.rows()
        else:
            self.line_up()

    @property
    def bars(self) -> list[Bar]:
        return [bar for run in self.runs for bar in run.bars]

    @property
    def bar(self) -> Bar:
        """The latest one."""
        return self.runs[-1].bars[-1]

    def dimensions(self, node: Node) -> tuple[float, float]:
        """Width and height."""
        if not size(node.size):  # a vector: as tall as the logarithm of its length
            return 7.0, 8 + 7 * math.log2(node.channels + 1)
        wide = 6.0 if node.op == "pointwise" else wide_as(node.channels)
        return wide, max(8.0, self.unit * math.sqrt(side(node)))

    # ---------------------------------------------------------------- one by one

    def walk(self, items: list) -> None:
        for i, item in enumerate(items):
            if isinstance(item, Parallel):
                self.parallel(item, items[i + 1])
            elif not i or isinstance(items[i - 1], Node):  # else it met its paths
                self.put(item)

    def put(self, node: Node, *, room: float = 0.0, join: str = "") -> Bar:
        """The next bar: in this run, or in a new one where the scale changes."""
        self.scale *= node.factor
        before = self.bar if self.runs else None
        flat = not self.u and before and bool(size(before.node.size)) > bool(node.size)
        if before and node.factor == 1 and not flat:
            if not join and self.again(node, before):
                before.times += 1
                return before
            bar = self.add(node, room, join)
            gap = ACROSS if self.u else 1.5 * ACROSS
            bar.x = before.right + gap + room
            labels = bar.run.labels()
            if len(labels) > 1 and labels[-1].bars == [bar]:
                ends = labels[-2].x + labels[-2].half + 6
                bar.x = max(bar.x, ends + labels[-1].half - bar.w / 2)
            return bar
        self.runs.append(Run(self.scale, node.factor < 1))
        bar = self.add(node, room, join)
        if before and node.factor != 1:
            self.moves.append((before, bar))
        if before and self.u:
            self.below_or_above(before, bar)
        return bar

    def add(self, node: Node, room: float, join: str) -> Bar:
        last = node is self.graph.nodes[-1] or not node.size
        labelled = node.op not in PLAIN or node.op in ("input", "patch") or last
        w, h = self.dimensions(node)
        bar = Bar(node, w, h, self.runs[-1], labelled, join=join, room=room)
        bar.run.bars.append(bar)
        return bar

    def again(self, node: Node, bar: Bar) -> bool:
        """Whether a bar may stand for this node too: blocks, and in a chain all."""
        same = (node.op, node.label, node.shape) == (
            bar.node.op, bar.node.label, bar.node.shape,
        )  # fmt: skip
        return same and not bar.join and (node.op == "block" or not self.u)

    def below_or_above(self, before: Bar, bar: Bar) -> None:
        """In line with the bar that it comes from, but right of what is in its row."""
        bar.x = before.middle - bar.w / 2
        if before.behind:  # leave room for the sign behind it
            bar.x = before.right + 42 - bar.w / 2
        row = [run for run in self.runs[:-1] if run.scale == bar.run.scale]
        needed = max((b.right for run in row for b in run.bars), default=-math.inf)
        missing = needed + 26 + bar.room - bar.x
        if missing <= 0:
            return
        bar.x += missing
        *first, last = before.run.bars
        if not before.run.rising and first and missing < 24:
            # the bottom's bars stand wider, for a straight arrow from the last of them
            for i, one in enumerate([*first, last]):
                one.x += missing * i / len(first)

    # ---------------------------------------------------------------- side by side

    def parallel(self, item: Parallel, join: Node) -> None:
        source, (main, *others) = self.bar, item.paths
        inner = list(nodes(main))
        if any(node.factor != 1 for node in inner):
            self.skip(source, main, [n for path in others for n in nodes(path)], join)
        elif join.op == "+" and not any(others) and len(inner) < 6:
            self.walk(main)
            source.run.arcs.append((source, self.bar))
            self.bar.node.absorbed += join.absorbed
        else:
            bar = self.put(join, join="" if join.op == "cat" else join.op)
            bar.fan = [in_words(path) for path in item.paths]
            bar.x = source.right + 72 + max(map(width, bar.fan))

    def skip(self, source: Bar, main: list, across: list[Node], join: Node) -> None:
        """A path that goes down and comes up, and a shorter one across."""
        *inner, end = main
        if isinstance(end, Node) and end.factor < 1:
            self.walk(inner)
            brought = across[-1] if across else source.node
            room = wide_as(brought.channels) if join.op == "cat" else 20.0
            small = [self.dimensions(n)[0] + APART for n in drawn(across)]
            bar = self.put(end, room=room + sum(small), join=join.op)
            bar.room = room
        else:
            self.walk(main)
            bar = self.bar
            bar.behind = join.op
        bar.node.absorbed += join.absorbed
        self.skips.append(Skip(source, across, join, bar))

    # ---------------------------------------------------------------- rows

    def rows(self) -> None:
        """The heights of the rows of a U."""
        y = 0.0
        for scale in sorted({run.scale for run in self.runs}):
            here = [run for run in self.runs if run.scale == scale]
            bars = [bar for run in here for bar in run.bars]
            half = max(max(bar.h, 26.0 * len(bar.fan)) for bar in bars) / 2
            y += LINE + 4 + half
            y += 14 * any(run.arcs for run in here) + 26 * any(b.behind for b in bars)
            for run in here:
                run.y = y
            y += half + 24

    def line_up(self) -> None:
        """The runs of a chain, each beside the one before, with room for its texts."""
        edge = 0.0
        for i, run in enumerate(self.runs):
            ends = [(run.bars[0].x, run.bars[-1].right)]
            ends += [
                (label.x - label.half, label.x + label.half) for label in run.labels()
            ]
            half = width(run.sizes()) / 2
            ends.append((run.middle - half, run.middle + half))
            left, right = min(a for a, _ in ends) - 3, max(b for _, b in ends) + 3
            gap = max(4.0, 24 - (run.bars[0].x - left)) if i else 0.0
            for bar in run.bars:
                bar.x += edge + gap - left
            edge += gap + right - left


def wide_as(channels: int) -> float:
    return max(6.0, 4 + 1.5 * math.log2(channels))


def side(node: Node) -> float:
    """The side of a square as large as the plane of a feature map."""
    return math.sqrt(math.prod(node.size[-2:]))


def size(shape: Shape) -> str:
    """A size in words: "572", "3 × 128²", or nothing for a vector."""
    if not shape or max(shape) == 1:
        return ""
    if len(shape) == 1:
        return str(shape[0])
    *slices, h, w = shape
    plane = [h, w] if h != w else [f"{h}²"] if slices else [h]
    return times([*slices, *plane])


def drawn(across: list[Node]) -> list[Node]:
    """The nodes on a skip that are bars."""
    return [node for node in across if node.op not in JOINED]


def in_words(path: list) -> str:
    """A path in a few words, for the box that stands for it."""
    told = []
    for node in nodes(path):
        if node.kernel:
            rate = f", dilation {node.dilation}" if node.dilation > 1 else ""
            told.append(times(node.kernel) + rate)
        elif node.op not in JOINED:
            told.append(node.label)
        told += [n.label for n in node.absorbed if n.label.endswith("sigmoid")]
    return ", ".join(told) or "identity"

"""Drawings of networks, made from the networks themselves: `diagram(model, shape)`.

A feature map is a bar: its height grows with the square root of its size, its width
with the logarithm of its channels, which stand above it. A network is a chain from left
to right, or, where it goes down and up again, a U; a block is drawn larger, operation by
operation, from top to bottom. `python -m medlib.diagram FOLDER` draws all networks of
the book on one sheet.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from matplotlib.textpath import text_to_path
from torch import nn

from medlib import plots
from medlib.trace import Graph, Node, Parallel, Shape, series, times, trace, words

INK, SOFT, PAPER, TINT, RULE = "#1d2733", "#5b6776", "#ffffff", "#f5f7fa", "#dfe4ea"
ACCENT = "#0b5cad"
LETTER = 14.0  # of a drawing about 480 wide; all lengths here are points
ACROSS = 9.0  # from one bar to the next
LINE = 18.0  # of text


def diagram(model: nn.Module, shape: Shape, *, layout: str | None = None) -> Figure:
    """`model` as it works on a batch of this shape, (B, C, H, W) say, drawn from a
    forward pass without values; give it to `plots.show`, or save it as an SVG.

    layout  "chain", "U" or "block"; by default the one that fits: a U where the network
            goes down and up, operations one by one where it is a block

    ValueError where the network refuses the shape, or its paths cannot be drawn side by
    side.
    """
    graph = trace(model, shape)
    layout = layout or _layout(graph)
    if layout == "block":
        return _Block(graph).figure()
    if layout not in ("chain", "U"):
        raise ValueError(f"layout={layout!r}; expected chain, U or block")
    return _Bars(_coarse(model, graph), layout == "U").figure()


def _layout(graph: Graph) -> str:
    first, last = graph.nodes[0], graph.nodes[-1]
    ops = {node.op for node in graph.nodes}
    if any(node.factor < 1 for node in graph.nodes):
        return "U"
    small = len(graph.nodes) <= 40 and len(first.shape) == len(last.shape)
    bare = ops <= {"input", "dense", "shape"}
    return "block" if small and "pool" not in ops and not bare else "chain"


# ---------------------------------------------------------------- what is a bar


PART = ("norm", "act", "pad", "+", "−", "×", "÷", "cat")  # with one input


def _coarse(model: nn.Module, graph: Graph) -> Graph:
    """A bar for each feature map: norms and activations are part of their convolution,
    and so are the insides of a block that comes more than once.
    """
    for path, kind in _blocks(model, graph):
        members = [n for n in graph.nodes if f"{n.path}.".startswith(f"{path}.")]
        kernels = [n for n in members if n.kernel]
        wide = max(kernels, key=lambda n: n.kernel)
        sides = [n.factor for n in members if n.factor != 1]
        block = Node(
            "block", words(kind), path, members[-1].shape, {},
            factor=sides[0] if sides else 1.0, kernel=wide.kernel,
            dilation=wide.dilation,
        )  # fmt: skip
        graph.contract(members, block)
    graph.absorb(PART)
    return graph


def _blocks(model: nn.Module, graph: Graph) -> list[tuple[str, str]]:
    """(path, class) of the blocks: modules whose class comes more than once, of several
    convolutions with a shortcut or a depthwise one among them. Not those that only add
    dense convolutions at one size, which a drawing has room for.
    """
    inside: dict[str, list[tuple[str, list[Node]]]] = {}
    for path, module in model.named_modules():
        members = [n for n in graph.nodes if path and f"{n.path}.".startswith(f"{path}.")]
        entries = {s for n in members for s in n.inputs} - set(members)
        if sum(bool(n.kernel) for n in members) > 1 and len(entries) == 1:
            if type(module) not in (nn.Sequential, nn.ModuleList):
                inside.setdefault(type(module).__name__, []).append((path, members))
    found: list[tuple[str, str]] = []
    for kind, ones in inside.items():
        ops = {n.op for _, members in ones for n in members}
        resized = any(n.factor != 1 for _, members in ones for n in members)
        joined = "+" in ops and (resized or "pointwise" in ops or "depthwise" in ops)
        if len(ones) > 1 and (joined or "depthwise" in ops) and not ops & {"up", "cat"}:
            found += [(path, kind) for path, _ in ones]
    outer = [p for p, _ in found]
    return [
        (p, kind)
        for p, kind in found
        if not any(p.startswith(f"{other}.") for other in outer)
    ]


# ---------------------------------------------------------------- a page to draw on


def _width(text: str, size: float = LETTER) -> float:
    return text_to_path.get_text_width_height_descent(
        text, FontProperties(size=size), ismath=False
    )[0]


class _Page:
    """Axes in points, y downward, that grow with what is drawn."""

    def __init__(self) -> None:
        self.figure_ = plots.new_figure(1, 1)
        self.figure_.set_layout_engine("none")
        self.axes: Axes = self.figure_.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self.taken: list[tuple[float, float, float, float]] = []

    def take(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.taken.append((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))

    def free(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        return not any(
            a < x1 and x0 < c and b < y1 and y0 < d for a, b, c, d in self.taken
        )

    def text(
        self, x: float, y: float, text: str, *, ha: str = "center", colour: str = INK,
        weight: str = "normal",
    ) -> None:  # fmt: skip
        """With its middle at the height y."""
        w = _width(text)
        left = x - {"left": 0.0, "center": w / 2, "right": w}[ha]
        self.take(left, y - 9, left + w, y + 9)
        self.axes.text(
            x, y, text, ha=ha, va="center_baseline", fontsize=LETTER, color=colour,
            fontweight=weight,
        )  # fmt: skip

    def box(
        self, x: float, y: float, w: float, h: float, *, face: str = PAPER,
        alpha: float = 1.0, edge: str = ACCENT, round_: float = 1.5, z: float = 2,
    ) -> None:  # fmt: skip
        """A see-through face on paper, so that no line behind it shines through."""
        self.take(x, y, x + w, y + h)
        for fill, line in ((PAPER, "none"), (to_rgba(face, alpha), edge)):
            style = f"round,pad=0,rounding_size={round_}"
            self.axes.add_patch(
                FancyBboxPatch(
                    (x, y), w, h, boxstyle=style, fc=fill, ec=line, lw=1.0, zorder=z
                )
            )

    def line(
        self, points: list[tuple[float, float]], *, dashed: bool = False,
        head: str | None = "full", colour: str = SOFT, z: float = 1,
    ) -> None:  # fmt: skip
        """Through these points, with a head at the last: "full", "open" or None."""
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        path = points[:-1] + ([(x1 - 7 * ux, y1 - 7 * uy)] if head else points[-1:])
        self.axes.plot(
            *zip(*path, strict=True), color=colour, lw=1.2, zorder=z,
            linestyle=(0, (4, 2.6)) if dashed else "-", solid_joinstyle="round",
            dash_capstyle="butt",
        )  # fmt: skip
        if head:
            self.head(x1, y1, ux, uy, open_=head == "open", colour=colour)
        for (a, b), (c, d) in zip(points[:-1], points[1:], strict=True):
            self.take(a - 3, b - 3, c + 3, d + 3)

    def head(
        self, x: float, y: float, ux: float, uy: float, *, open_: bool = False,
        colour: str = SOFT,
    ) -> None:  # fmt: skip
        """A triangle whose tip is at (x, y), in the direction (ux, uy)."""
        back = x - 8 * ux, y - 8 * uy
        corners = [
            (x, y),
            (back[0] - 4 * uy, back[1] + 4 * ux),
            (back[0] + 4 * uy, back[1] - 4 * ux),
        ]
        self.axes.add_patch(
            Polygon(corners, fc=PAPER if open_ else colour, ec=colour, lw=1.2, zorder=3)
        )

    def sign(self, x: float, y: float, sign: str) -> None:
        """A sign in a circle, drawn rather than written: no letter sits in its middle."""
        r = 8.0
        self.take(x - r, y - r, x + r, y + r)
        self.axes.add_patch(Circle((x, y), r, fc=PAPER, ec=INK, lw=1.2, zorder=4))
        if sign in "+×−":
            a = 4.5 if sign != "×" else 3.4
            strokes = {
                "+": [((-a, 0), (a, 0)), ((0, -a), (0, a))],
                "−": [((-a, 0), (a, 0))],
                "×": [((-a, -a), (a, a)), ((-a, a), (a, -a))],
            }[sign]
            for (x0, y0), (x1, y1) in strokes:
                self.axes.plot(
                    [x + x0, x + x1], [y + y0, y + y1], color=INK, lw=1.4, zorder=5,
                    solid_capstyle="round",
                )  # fmt: skip
        else:
            self.axes.text(
                x, y, {"@": "·"}.get(sign, sign), ha="center", va="center", zorder=5,
                fontsize=LETTER, color=INK,
            )  # fmt: skip

    def figure(self) -> Figure:
        """Cut to what was drawn, with a margin."""
        left, top = (min(t[i] for t in self.taken) - 8 for i in (0, 1))
        right, bottom = (max(t[i] for t in self.taken) + 8 for i in (2, 3))
        self.axes.set(xlim=(left, right), ylim=(bottom, top))
        self.figure_.set_size_inches((right - left) / 72, (bottom - top) / 72)
        return self.figure_


# ---------------------------------------------------------------- chains and Us


@dataclass(eq=False)
class _Bar:
    """A feature map on the page; `fan` holds the words of parallel paths that lead to
    it, `skip` is where a skip arrives: "cat" or the sign of a sum.
    """

    node: Node
    w: float
    h: float
    x: float = 0.0  # left
    times: int = 1
    skip: str = ""
    fan: list[str] = field(default_factory=list)
    run: "_Run | None" = None
    extra: float = 0.0  # room at the left, for the skip's part or its sign

    @property
    def middle(self) -> float:
        return self.x + self.w / 2

    @property
    def depth(self) -> float:
        """How far the second edge of a volume stands back."""
        volume = len(self.node.size) == 3 and max(self.node.size) > 1
        return 3 + 0.5 * math.sqrt(self.node.size[0]) if volume else 0.0

    @property
    def right(self) -> float:
        return self.x + self.w + self.depth

    @property
    def y(self) -> float:
        assert self.run
        return self.run.y


@dataclass(eq=False)
class _Run:
    """Bars of one scale, side by side."""

    scale: float
    rising: bool
    bars: list[_Bar] = field(default_factory=list)
    y: float = 0.0

    def words(self) -> str:
        """The size in → out."""
        sizes = [_size(b.node.size) for b in (self.bars[0], self.bars[-1])]
        return " → ".join(dict.fromkeys(s for s in sizes if s))


def _size(size: Shape) -> str:
    if not size or max(size) == 1:
        return ""
    return str(size[0]) if len(set(size)) == 1 and len(size) < 3 else times(size)


KINDS = {
    "pool": "pooling", "strided": "stride 2", "up": "up-convolution",
    "resize": "interpolation", "patch": "patches to channels",
    "unpatch": "channels to patches",
}  # fmt: skip
PLAIN = ("pool", "up", "resize", "mean")  # bars without a convolution


class _Bars:
    def __init__(self, graph: Graph, u: bool) -> None:
        self.page, self.u, self.graph = _Page(), u, graph
        self.runs: list[_Run] = []
        self.links: list[tuple[str, Any, Any]] = []
        self.arcs: list[tuple[_Bar, _Bar, str]] = []
        self.loops: list[_Bar] = []
        self.scale = 1.0
        self.last = graph.nodes[-1]
        side = max(_side(graph.nodes[0]), 1.0)
        self.unit = min(120 / math.sqrt(side), 17.0)
        self.items = series(graph)

    # -------------------------------------------------------- places

    @property
    def bar(self) -> _Bar:
        return self.runs[-1].bars[-1]

    def dimensions(self, node: Node) -> tuple[float, float]:
        if not _size(node.size):  # a vector
            return 7.0, 8 + 7 * math.log2(node.channels + 1)
        thin = node.op == "pointwise"
        width = 6.0 if thin else max(6.0, 4 + 1.5 * math.log2(node.channels))
        return width, max(8.0, self.unit * math.sqrt(_side(node)))

    def put(self, node: Node, *, extra: float = 0.0, skip: str = "") -> _Bar:
        """The next bar: in this run, or in a new one where the scale changes."""
        bar = _Bar(node, *self.dimensions(node), skip=skip, extra=extra)
        self.scale *= node.factor
        vector = not _size(node.size)
        new = node.factor != 1 or not self.runs
        new = new or not self.u and vector and bool(_size(self.bar.node.size))
        if not new:
            previous = self.bar
            same = _signature(previous.node) == _signature(node)
            if same and not skip and (not self.u or node.op == "block") and not previous.skip:
                previous.times += 1
                return previous
            bar.x = previous.right + ACROSS + extra
            wide = _width(str(node.channels)) / 2
            labelled = self.labelled(bar) and node.channels != previous.node.channels
            if labelled:  # its label beside the one before
                ends = self.label_ends()
                bar.x = max(bar.x, ends + 6 + wide - bar.w / 2)
            bar.run = self.runs[-1]
            bar.run.bars.append(bar)
            return bar
        run = _Run(self.scale, node.factor < 1)
        before = self.bar if self.runs else None
        self.runs.append(run)
        run.bars.append(bar)
        bar.run = run
        if before:
            if self.u:
                bar.x = before.middle - bar.w / 2
                row = [
                    b.right for r in self.runs[:-1] if r.scale == run.scale for b in r.bars
                ]
                if row:
                    self.widen(max(row) + 26 + extra - bar.x, bar)
            if node.factor != 1:
                self.links.append(("down" if node.factor > 1 else "up", before, bar))
        return bar

    def widen(self, missing: float, bar: _Bar) -> None:
        """Move a bar that stands too far left; the bottom's bars move apart with it."""
        if missing <= 0:
            return
        bar.x += missing
        below = self.runs[-2]
        if not below.rising:
            for i, one in enumerate(below.bars):
                one.x += missing * i / max(len(below.bars) - 1, 1)

    def labelled(self, bar: _Bar) -> bool:
        return bar.node.op not in PLAIN or bar.node is self.last or not bar.node.size

    def groups(self, run: _Run) -> list[list[_Bar]]:
        """Neighbours with as many channels, which share a label."""
        found: list[list[_Bar]] = []
        for bar in run.bars:
            if not self.labelled(bar):
                continue
            if found and found[-1][-1].node.channels == bar.node.channels:
                found[-1].append(bar)
            else:
                found.append([bar])
        return found

    def label_ends(self) -> float:
        groups = self.groups(self.runs[-1])
        if not groups:
            return -math.inf
        last = groups[-1]
        middle = (last[0].x + last[-1].right) / 2
        return middle + _width(str(last[0].node.channels)) / 2

    # -------------------------------------------------------- walking

    def walk(self, items: list) -> None:
        for i, item in enumerate(items):
            if isinstance(item, Node):
                if i and isinstance(items[i - 1], Parallel):
                    continue  # placed with its paths
                bar = self.put(item)
                if item.loops:
                    self.loops.append(bar)
            else:
                self.parallel(item, items[i + 1])

    def parallel(self, item: Parallel, join: Node) -> None:
        source, (main, *others) = self.bar, item.paths
        nodes = list(_nodes(main))
        if any(n.factor != 1 for n in nodes):
            self.skip(source, main, others, join)
        elif not any(map(list, others)) and join.op == "+" and len(nodes) < 6:
            start = len(self.runs[-1].bars)
            self.walk(main)
            bars = self.runs[-1].bars[start:]
            self.arcs.append((source, bars[-1] if bars else self.bar, join.op))
            self.bar.node = join if not self.arcs else _with(self.bar.node, join)
        else:
            bar = self.put(_as(join, "join"), extra=0)
            bar.fan = [_brief(path) for path in item.paths]
            wide = max(_width(words_) for words_ in bar.fan) + 16
            bar.x = source.right + 26 + wide + 30
            if join.op != "cat":
                bar.skip = join.op

    def skip(self, source: _Bar, main: list, others: list[list], join: Node) -> None:
        """A path that goes down and comes up, and another that goes across."""
        *inner, end = main
        direct = isinstance(end, Node) and end.factor < 1
        across = [n for path in others for n in _nodes(path)]
        self.walk(inner if direct else main)
        if direct:
            kind = join.op
            part = max(6.0, 4 + 1.5 * math.log2(_skipped(join, source, across)))
            small = [self.dimensions(n)[0] + ACROSS for n in across]
            room = (part if kind == "cat" else 20.0) + sum(small)
            bar = self.put(end, extra=room, skip=kind)
            bar.node = _with(end, join)
            bar.extra = part if kind == "cat" else 20.0
        else:
            bar = self.bar
            bar.skip = f"over {join.op}"
        self.links.append(("skip", (source, across, bool(join.cropped), join), bar))

    # -------------------------------------------------------- drawing

    def figure(self) -> Figure:
        self.walk(self.items)
        if self.u:
            self.rows()
        else:
            self.line_up()
        for run in self.runs:
            self.draw_run(run)
        for kind, a, b in self.links:
            getattr(self, f"draw_{kind}")(a, b)
        for source, bar, sign in self.arcs:
            self.draw_arc(source, bar, sign)
        for bar in self.loops:
            self.draw_loop(bar)
        if self.graph.loops:
            self.draw_again()
        self.key()
        return self.page.figure()

    def rows(self) -> None:
        """The heights of the rows of a U, and room between them."""
        y = 0.0
        for scale in sorted({run.scale for run in self.runs}):
            here = [run for run in self.runs if run.scale == scale]
            bars = [b for run in here for b in run.bars]
            tall = max(max(b.h, 26.0 * len(b.fan)) for b in bars)
            arcs = any(a[1].run in here for a in self.arcs)
            over = any(b.skip.startswith("over") for b in bars)
            top = LINE + 4 + (14 if arcs else 0) + (26 if over else 0)
            y += top + tall / 2
            for run in here:
                run.y = y
            y += tall / 2 + 24

    def line_up(self) -> None:
        """The runs of a chain, each beside the one before, with room for its size."""
        edge = 0.0
        for i, run in enumerate(self.runs):
            first, last = run.bars[0], run.bars[-1]
            middle = (first.x + last.right) / 2
            reach = [_width(run.words()) / 2 + 3]
            left = min([first.x, middle - reach[0]])
            right = max([last.right, middle + reach[0]])
            for group in self.groups(run):
                centre = (group[0].x + group[-1].right) / 2
                half = _width(str(group[0].node.channels)) / 2 + 3
                left, right = min(left, centre - half), max(right, centre + half)
            gap = 0.0 if not i else max(4.0, 24 - (first.x - left))
            shift = edge + gap - left
            for bar in run.bars:
                bar.x += shift
            edge = right + shift
            if i + 1 < len(self.runs):  # the mark between two bars needs its room
                edge = max(edge, last.right)

    def draw_bar(self, bar: _Bar) -> None:
        node, page = bar.node, self.page
        x, y, w, h = bar.x, bar.y - bar.h / 2, bar.w, bar.h
        if d := bar.depth:
            page.axes.add_patch(
                Polygon(
                    [(x, y), (x + d, y - d), (x + w + d, y - d), (x + w + d, y + h - d),
                     (x + w, y + h)],
                    fc=PAPER, ec=ACCENT, lw=1.0, zorder=1.8,
                )  # fmt: skip
            )
        if node.op == "pointwise":
            page.box(x, y, w, h, face=INK, edge=INK)
        elif node.op in ("dense",):
            page.box(x, y, w, h, face=ACCENT, alpha=0.75)
        elif node.op in ("input", *PLAIN, "join", "patch", "unpatch", "shape"):
            page.box(x, y, w, h)
        else:
            page.box(x, y, w, h, face=ACCENT, alpha=0.3)
        if bar.skip == "cat":
            page.box(x - bar.extra, y, bar.extra, h, face=SOFT, alpha=0.3)
        elif bar.skip and not bar.skip.startswith("over"):
            page.sign(x - 11, bar.y, bar.skip)
        if node.op == "block":  # a shortcut in small
            page.axes.plot(
                [x + w / 2] * 2, [y + 5, y + h - 5], color=ACCENT, lw=1.2, zorder=3,
                linestyle=(0, (2, 2)),
            )  # fmt: skip

    def top(self, bar: _Bar) -> float:
        """The upper edge of what stands at this bar."""
        return bar.y - bar.h / 2 - bar.depth

    def draw_run(self, run: _Run) -> None:
        page = self.page
        for bar in run.bars:
            self.draw_bar(bar)
            if bar.fan:
                self.draw_fan(bar)
        for group in self.groups(run):
            x = (group[0].x + group[-1].right) / 2
            page.text(x, self.label_y(group), str(group[0].node.channels))
        sizes, first, last = run.words(), run.bars[0], run.bars[-1]
        tall = max(b.h for b in run.bars) / 2
        for bar in run.bars:
            if bar.times > 1:
                down = any(k == "down" and a is bar for k, a, _ in self.links) and self.u
                page.text(
                    bar.middle + (7 if down else 0), run.y + bar.h / 2 + 11,
                    f"× {bar.times}", ha="left" if down else "center",
                )  # fmt: skip
        if not sizes:
            return
        if not self.u:
            below = 11 + (LINE if any(b.times > 1 for b in run.bars) else 0)
            page.text((first.x + last.right) / 2, run.y + tall + below, sizes, colour=SOFT)
        elif run.rising:
            page.text(last.right + 8, run.y, sizes, ha="left", colour=SOFT)
        else:
            page.text(first.x - 8, run.y, sizes, ha="right", colour=SOFT)

    def label_y(self, group: list[_Bar]) -> float:
        arc = any(
            a.run is b.run and a.x <= g.x <= b.x
            for a, b, _ in self.arcs for g in group
        )  # fmt: skip
        return min(self.top(b) for b in group) - 11 - (14 if arc else 0)

    def clear(self, bar: _Bar, x: float, *, leaves: bool = False) -> float:
        """The height above a bar at which an arrow may start or end: over its label,
        and where it starts over the end of a shortcut too.
        """
        assert bar.run
        for group in self.groups(bar.run):
            if bar in group:
                middle = (group[0].x + group[-1].right) / 2
                half = _width(str(bar.node.channels)) / 2 + 4
                if abs(middle - x) < half:
                    return self.label_y(group) - 10
        arc = leaves and any(b is bar for _, b, _ in self.arcs)
        return self.top(bar) - (16 if arc else 3)

    def draw_down(self, a: _Bar, b: _Bar) -> None:
        strided = b.node.op not in PLAIN
        head = "open" if strided else "full"
        if self.u:
            x = b.middle
            points = [(x, a.y + a.h / 2 + 3), (x, self.clear(b, x))]
            self.page.line(points, head=head)
        else:
            x, y = (a.right + b.x) / 2, a.y
            self.page.head(x, y + 4, 0, 1, open_=strided)
            self.page.take(x - 4, y - 4, x + 4, y + 4)

    def draw_up(self, a: _Bar, b: _Bar) -> None:
        x = b.middle
        end = (x, b.y + b.h / 2 + 3)
        head = "open" if b.node.op in ("unpatch", "resize") else "full"
        if x > a.right - 2:
            self.page.line([(a.right + 2, a.y), (x, a.y), end], head=head)
        else:
            self.page.line([(x, self.clear(a, x, leaves=True)), end], head=head)

    def draw_skip(self, way: tuple, b: _Bar) -> None:
        source, across, cropped, join = way
        y, start = source.y, source.right + 4
        if b.skip.startswith("over"):
            top = min(self.top(bar) for bar in b.run.bars) - 34
            x = b.right + 16
            sizes = b.run.words()
            self.page.line(
                [(source.middle, self.clear(source, source.middle)), (source.middle, top),
                 (x, top), (x, y - 9)], dashed=True,
            )  # fmt: skip
            self.page.line([(b.right, y), (x - 8, y)], head=None)
            self.page.sign(x, y, join.op)
            return
        end = b.x - (b.extra if b.skip == "cat" else 20) - 2
        for node in reversed(across):
            w, h = self.dimensions(node)
            self.page.box(
                end - w - 2, y - h / 2, w, h, face=INK if node.op == "pointwise" else ACCENT,
                edge=INK if node.op == "pointwise" else ACCENT,
                alpha=1 if node.op == "pointwise" else 0.3,
            )  # fmt: skip
            end -= w + ACROSS
        self.page.line([(start, y), (end, y)], dashed=True)

    def draw_arc(self, a: _Bar, b: _Bar, sign: str) -> None:
        top = min(self.top(bar) for bar in (a, b)) - 12
        start, end = a.right - a.w / 3, b.x + b.w / 3 + b.depth
        self.page.line(
            [(start, self.top(a) - 1), (start, top), (end, top),
             (end, self.top(b) - 1)], dashed=True,
        )  # fmt: skip

    def draw_fan(self, bar: _Bar) -> None:
        page, n = self.page, len(bar.fan)
        right = bar.x - 30
        wide = max(map(_width, bar.fan)) + 16
        left = right - wide
        target = bar.x - (22 if bar.skip else 2)
        for i, text in enumerate(bar.fan):
            y = bar.y + 26 * (i - (n - 1) / 2)
            page.line([(left - 20, bar.y), (left - 10, bar.y), (left - 10, y), (left, y)], head=None)
            page.box(left, y - 11, wide, 22, face=ACCENT, alpha=0.12)
            page.text((left + right) / 2, y, text)
            page.line([(right, y), (right + 8, y), (right + 8, bar.y), (target, bar.y)], head=None if i else "full")

    def draw_loop(self, bar: _Bar) -> None:
        """A memory: what it gives comes back to it."""
        x, y = bar.middle, bar.y + bar.h / 2
        d = bar.w / 2 + 8
        self.page.line(
            [(bar.right, bar.y), (x + d, bar.y), (x + d, y + 9), (x - d, y + 9), (x - d, bar.y), (bar.x, bar.y)],
            colour=INK,
        )

    def draw_again(self) -> None:
        """The whole network once more, with what it gave."""
        first, last = self.runs[0].bars[0], self.runs[-1].bars[-1]
        top = min(self.label_y(g) for r in self.runs for g in self.groups(r)) - 26
        self.page.line(
            [(last.middle, self.clear(last, last.middle)), (last.middle, top), (first.middle, top),
             (first.middle, self.clear(first, first.middle))], colour=INK,
        )  # fmt: skip

    # -------------------------------------------------------- the key

    def entries(self) -> list[tuple[str, str]]:
        """(mark, words) of the marks that occur."""
        found: dict[str, str] = {}
        bars = [bar for run in self.runs for bar in run.bars]
        nodes = [bar.node for bar in bars]

        def kinds(*ops: str) -> list[Node]:
            return [n for n in nodes if n.op in ops]

        convs = kinds("conv", "depthwise")
        if convs:
            found["conv"] = _of_convolutions([n for n in convs if n.factor == 1] or convs)
        for label in dict.fromkeys(n.label for n in kinds("block")):
            found["block"] = ", ".join(
                dict.fromkeys(n.label for n in kinds("block"))
            )
        if self.arcs:
            found["arc"] = "sum with the shortcut"
        for mark, ops, direction in (
            ("pool", ("pool",), 2), ("strided", ("conv", "depthwise", "block"), 2),
            ("patch", ("patch",), 2), ("up", ("up",), 0), ("resize", ("resize",), 0),
            ("unpatch", ("unpatch",), 0),
        ):  # fmt: skip
            some = [n for n in kinds(*ops) if (n.factor > 1 if direction else n.factor < 1)]
            if some:
                labels = dict.fromkeys(n.label for n in some)
                one = len(labels) == 1 and some[0].op != "block"
                found[mark] = next(iter(labels)) if one else KINDS[mark]
        skips = [(way, bar) for kind, way, bar in self.links if kind == "skip"]
        if skips:
            joins = {way[3].op for way, _ in skips}
            crop = "crop and " if any(way[2] for way, _ in skips) else ""
            verb = {"cat": "concatenate", "+": "add", "×": "multiply"}
            found["skip"] = "skip: " + crop + " or ".join(verb.get(j, j) for j in joins)
        if kinds("pointwise") or any(
            n.op == "pointwise" for way, _ in skips for n in way[1]
        ):
            found["pointwise"] = "1 × 1 × 1 convolution" if any(len(n.kernel) == 3 for n in kinds("pointwise")) else "1 × 1 convolution"
        if kinds("dense"):
            found["dense"] = "dense layer"
        if any(not n.size for n in kinds("mean")):
            found["mean"] = "global mean"
        if self.loops:
            found["loop"] = f"{self.loops[0].node.label}, slice after slice"
        if self.graph.loops:
            found["loop"] = "again, with the mask of the slice before"
        return list(found.items())

    def key(self) -> None:
        entries = self.entries()
        page, wide = self.page, [_width(text) + 46 for _, text in entries]
        left, right = min(t[0] for t in page.taken), max(t[2] for t in page.taken)
        bottom = max(t[3] for t in page.taken)
        top, width = bottom - 20 * len(entries), max(wide)
        for x in (right - width, right - width + 40, left):
            if self.u and page.free(x, top - 8, x + width, bottom):
                for i, (mark, text) in enumerate(entries):
                    self.mark(x + 14, top + 20 * i + 10, mark, text)
                return
        columns = 3  # under the drawing, in as many columns as there is room for
        while True:
            per = -(-len(entries) // columns)
            steps = [max(wide[i : i + per]) for i in range(0, len(entries), per)]
            if columns == 1 or sum(steps) < max(right - left, 480) + 20:
                break
            columns -= 1
        for i, (mark, text) in enumerate(entries):
            x = left + sum(steps[: i // per])
            self.mark(x, bottom + 22 + 20 * (i % per), mark, text)

    def mark(self, x: float, y: float, mark: str, text: str) -> None:
        page = self.page
        c = x + 11
        if mark in ("conv", "block", "dense", "pointwise", "mean"):
            face = {"conv": (ACCENT, 0.3), "block": (ACCENT, 0.3), "dense": (ACCENT, 0.75),
                    "pointwise": (INK, 1.0), "mean": (PAPER, 1.0)}[mark]  # fmt: skip
            w = 6 if mark in ("pointwise", "dense", "mean") else 11
            edge = INK if mark == "pointwise" else ACCENT
            page.box(c - w / 2, y - 6, w, 12, face=face[0], alpha=face[1], edge=edge)
            if mark == "block":
                page.axes.plot([c, c], [y - 4, y + 4], color=ACCENT, lw=1.2, zorder=3,
                               linestyle=(0, (2, 2)))  # fmt: skip
        elif mark in ("skip", "arc"):
            page.line([(x, y), (x + 24, y)], dashed=True)
        elif mark == "loop":
            page.line([(x, y), (x + 24, y)], colour=INK)
        else:
            down = mark in ("pool", "strided", "patch")
            open_ = mark in ("strided", "patch", "resize", "unpatch")
            page.head(c, y + (4 if down else -4), 0, 1 if down else -1, open_=open_)
            page.take(c - 4, y - 4, c + 4, y + 4)
        page.text(x + 32, y, text, ha="left")


def _side(node: Node) -> float:
    """The side of a square as large as the plane of a feature map."""
    return math.sqrt(math.prod(node.size[-2:])) if node.size else 1.0


def _signature(node: Node) -> tuple:
    if node.op == "block":  # its first one changes the size, its others do not
        return node.op, node.label, node.shape
    return node.op, node.label, node.shape, tuple(n.label for n in node.absorbed)


def _nodes(items: list) -> Iterable[Node]:
    for item in items:
        if isinstance(item, Node):
            yield item
        else:
            for path in item.paths:
                yield from _nodes(path)


def _with(node: Node, join: Node) -> Node:
    """`node` with the activations that follow the join."""
    node.absorbed += join.absorbed
    return node


def _as(node: Node, op: str) -> Node:
    """The same under another op."""
    return Node(op, node.label, node.path, node.shape, node.inputs)


def _skipped(join: Node, source: _Bar, across: list[Node]) -> int:
    """The channels that a skip brings."""
    return across[-1].channels if across else source.node.channels


def _brief(path: list) -> str:
    """A path of a fan in a few words."""
    told = []
    for node in _nodes(path):
        if node.kernel:
            told.append(
                times(node.kernel)
                + (f", dilation {node.dilation}" if node.dilation > 1 else "")
            )
        elif node.op == "mean":
            told.append(node.label)
        elif node.op == "act":
            told.append(node.label)
        told += [n.label for n in node.absorbed if n.label == "sigmoid"]
    return ", ".join(told) or "identity"


def _of_convolutions(nodes: list[Node]) -> str:
    kernels = ", ".join(dict.fromkeys(times(n.kernel) for n in nodes))
    usual = [n for n in nodes if n.absorbed] or nodes
    after = [n.label for n in usual[0].absorbed if n.op in ("norm", "act")]
    return ", ".join([f"{kernels} convolution", *dict.fromkeys(after)])


# ---------------------------------------------------------------- blocks

STEP = 34.0  # of an edge, with its shape beside it


class _Block:
    """Operation by operation, from top to bottom, with the shape at each edge; paths
    side by side, the identity dashed.
    """

    def __init__(self, graph: Graph) -> None:
        self.page, self.graph = _Page(), graph
        self.items = series(graph)

    def figure(self) -> Figure:
        first, last = self.graph.nodes[0], self.graph.nodes[-1]
        y = self.edge(0, 0, None, first.shape)
        y = self.draw(self.items[1:], 0, y, first.shape)
        self.edge(0, y, None, last.shape)
        return self.page.figure()

    # -------------------------------------------------------- sizes

    def reach(self, items: list) -> tuple[float, float]:
        """How far a series goes to the left and to the right of its axis."""
        left = right = 10.0
        for item in items:
            if isinstance(item, Parallel):
                centres, (a, b) = self.columns(item)
                left, right = max(left, a), max(right, b)
            else:
                half = _width(item.label) / 2 + 12
                left, right = max(left, half), max(right, half)
                right = max(right, _width(_shape(item.shape)) + 12)
        return left, right

    def columns(self, item: Parallel) -> tuple[list[float], tuple[float, float]]:
        """The axis of each path, and the reach of all: the longest path keeps the axis
        where the identity is beside it, else the paths stand around it.
        """
        reaches = [self.reach(path) for path in item.paths]
        xs, x = [], 0.0
        for i, (left, right) in enumerate(reaches):
            x += (left + 14) if i else 0.0
            xs.append(x)
            x += right
        shift = 0.0 if [] in item.paths and len(xs) == 2 else (xs[0] + xs[-1]) / 2
        xs = [x - shift for x in xs]
        return xs, (reaches[0][0] - xs[0], xs[-1] + reaches[-1][1])

    # -------------------------------------------------------- drawing

    def edge(
        self, x: float, y: float, to: float | None, shape: Shape | None
    ) -> float:
        """An arrow down from y, with the shape of what goes along it; its end."""
        end = y + STEP if to is None else to
        self.page.line([(x, y), (x, end)])
        if shape is not None:
            self.page.text(x + 8, y + (end - y) / 2 - 3, _shape(shape), ha="left", colour=SOFT)
        return end

    def node(self, node: Node, x: float, y: float) -> float:
        """The operation with its upper edge at y; its lower edge."""
        if node.op in "+×−÷@":
            self.page.sign(x, y + 8, node.op)
            return y + 16
        w = _width(node.label) + 24
        face, alpha = {
            "conv": (ACCENT, 0.3), "depthwise": (ACCENT, 0.3), "dense": (ACCENT, 0.3),
            "pointwise": (ACCENT, 0.3), "block": (ACCENT, 0.3), "cat": (SOFT, 0.25),
        }.get(node.op, (TINT, 1.0))  # fmt: skip
        edge = ACCENT if face == ACCENT else SOFT
        self.page.box(x - w / 2, y, w, 26, face=face, alpha=alpha, edge=edge, round_=4)
        self.page.text(x, y + 13, node.label)
        return y + 26

    def draw(self, items: list, x: float, y: float, shape: Shape) -> float:
        """A series whose first operation stands at y; the lower edge of its last."""
        bottom = y
        for i, item in enumerate(items):
            if isinstance(item, Parallel):
                bottom = self.parallel(item, items[i + 1], x, bottom, shape, first=i == 0)
            elif i == 0 or isinstance(items[i - 1], Parallel):
                bottom = self.node(item, x, bottom)
            else:
                bottom = self.node(item, x, self.edge(x, bottom, None, shape))
            if isinstance(item, Node):
                shape = item.shape
        return bottom

    def parallel(
        self, item: Parallel, join: Node, x: float, y: float, shape: Shape, first: bool
    ) -> float:  # fmt: skip
        """The paths side by side; gives the height at which they meet."""
        page, (xs, _) = self.page, self.columns(item)
        fork = y if first else y + 22
        if not first:
            page.line([(x, y), (x, fork)], head=None)
            page.text(x + 8, y + 8, _shape(shape), ha="left", colour=SOFT)
        ends = []
        for path, dx in zip(item.paths, xs, strict=True):
            if path:
                top = fork + 18
                page.line([(x, fork), (x + dx, fork), (x + dx, top)])
                ends.append(self.draw(path, x + dx, top, shape))
            else:
                ends.append(fork)
        straight = 0.0 in xs and len(xs) == 2
        meet = max(ends) + (STEP if straight else STEP + 8)
        for path, dx, end in zip(item.paths, xs, ends, strict=True):
            out = _last_shape(path) if path else None
            if straight and dx:  # into the side of the sign, or of the box
                side = 8.0 if join.op in "+×−÷@" else _width(join.label) / 2 + 12
                middle = meet + (8 if join.op in "+×−÷@" else 13)
                start = [(x, fork), (x + dx, fork)] if not path else [(x + dx, end)]
                page.line(
                    [*start, (x + dx, middle), (x + side, middle)], dashed=not path
                )
            elif straight:
                self.edge(x, end, meet, out)
            else:
                bus = meet - 14
                page.line([(x + dx, end), (x + dx, bus), (x, bus), (x, meet)],
                          dashed=not path)  # fmt: skip
            if out and not (straight and not dx):
                page.text(x + dx + 8, end + 11, _shape(out), ha="left", colour=SOFT)
        return meet


def _shape(shape: Shape) -> str:
    return times(shape)


def _last_shape(path: list) -> Shape:
    return path[-1].shape

"""The bars of a `Plan` on a page, with their arrows, texts and key."""

from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from medlib.diagram.bars import APART, LINE, PLAIN, Bar, Plan, Run, Skip, drawn
from medlib.diagram.page import ACCENT, DOTS, INK, PAPER, SOFT, Page, width
from medlib.diagram.trace import Node, times

FACES = {  # colour, opacity, edge
    "plain": (PAPER, 1.0, ACCENT),
    "joined": (SOFT, 0.3, ACCENT),
    "pointwise": (INK, 1.0, INK),
    "dense": (ACCENT, 0.75, ACCENT),
    "conv": (ACCENT, 0.3, ACCENT),
}
OPEN = ("conv", "depthwise", "block", "patch", "unpatch", "resize")  # heads of arrows


def face(node: Node) -> str:
    if node.op in FACES:
        return node.op
    return {"cat": "joined"}.get(node.op, "plain" if node.op in PLAIN else "conv")


def paint(plan: Plan) -> Figure:
    page = Page()
    for run in plan.runs:
        draw_run(page, plan, run)
    for a, b in plan.moves:
        (up_or_down if plan.u else mark_between)(page, a, b)
    for skip in plan.skips:
        draw_skip(page, plan, skip)
    if plan.graph.loops:
        all_again(page, plan)
    draw_key(page, key(plan), inside=plan.u)
    return page.figure()


# ---------------------------------------------------------------- bars and texts


def draw_run(page: Page, plan: Plan, run: Run) -> None:
    for bar in run.bars:
        draw_bar(page, bar)
        if bar.fan:
            draw_fan(page, bar)
        if bar.node.op == "loop":
            around(page, bar)
        if bar.times > 1:
            beside = plan.u and any(a is bar for a, _ in plan.moves)  # of an arrow
            x, ha = (bar.middle + 7, "left") if beside else (bar.middle, "center")
            page.text(x, bar.bottom + 11, f"× {bar.times}", ha=ha)
    for label in run.labels():
        page.text(label.x, label.y, label.text)
    for a, b in run.arcs:
        start, end = a.right - a.w / 3, b.x + b.w / 3 + b.depth
        top = min(a.top, b.top) - 12
        page.line(
            [(start, a.top - 1), (start, top), (end, top), (end, b.top - 1)],
            dashed=True,
        )
    first, last = run.bars[0], run.bars[-1]
    if not plan.u:
        below = max(bar.bottom for bar in run.bars) + 11
        below += LINE * any(bar.times > 1 for bar in run.bars)
        page.text(run.middle, below, run.sizes(), colour=SOFT)
    elif run.rising:
        x = last.right + (52 if last.behind else 8)
        page.text(x, run.y, run.sizes(), ha="left", colour=SOFT)
    else:
        page.text(first.x - 8, run.y, run.sizes(), ha="right", colour=SOFT)


def draw_bar(page: Page, bar: Bar) -> None:
    x, y, w, h, d = bar.x, bar.y - bar.h / 2, bar.w, bar.h, bar.depth
    if d:  # a volume has a second edge
        back = [(x, y), (x + d, y - d), (x + w + d, y - d), (x + w + d, y + h - d)]
        back.append((x + w, y + h))
        page.axes.add_patch(Polygon(back, fc=PAPER, ec=ACCENT, lw=1.0, zorder=1.8))
    page.box(x, y, w, h, FACES[face(bar.node)])
    if bar.node.op == "block":
        page.stroke([(bar.middle, y + 5), (bar.middle, y + h - 5)], DOTS)
    if bar.join == "cat":
        page.box(x - bar.room, y, bar.room, h, FACES["joined"])
    elif bar.join:
        page.sign(x - 11, bar.y, bar.join)


def draw_fan(page: Page, bar: Bar) -> None:
    """Parallel paths as boxes one above the other, in words."""
    right, wide = bar.x - 30, max(map(width, bar.fan)) + 16
    left, target = right - wide, bar.x - (20 if bar.join else 1)
    for i, text in enumerate(bar.fan):
        y = bar.y + 26 * (i - (len(bar.fan) - 1) / 2)
        fork = [(left - 26, bar.y), (left - 10, bar.y), (left - 10, y), (left, y)]
        meet = [(right, y), (right + 8, y), (right + 8, bar.y), (target, bar.y)]
        page.line(fork, head=None)
        page.line(meet, head=None if i else "full")
        page.box(left, y - 11, wide, 22, (ACCENT, 0.12, ACCENT))
        page.text((left + right) / 2, y, text)


def around(page: Page, bar: Bar) -> None:
    """A memory: what the bar gives comes back to it."""
    left, right, low = bar.x - 5, bar.right + 8, bar.bottom + 16
    points = [(bar.right, bar.y), (right, bar.y), (right, low), (bar.middle, low)]
    page.line([*points, (bar.middle, bar.bottom + 1)], colour=INK)
    page.take(left, bar.y, right, low)


# ---------------------------------------------------------------- arrows


def clear(bar: Bar, x: float, *, leaves: bool = False) -> float:
    """The height above a bar at which an arrow at x may end: over its label; or start:
    over the end of a shortcut too.
    """
    for label in bar.run.labels():
        if bar in label.bars and abs(label.x - x) < label.half + 4:
            return label.y - 10
    arc = leaves and any(end is bar for _, end in bar.run.arcs)
    return bar.top - (16 if arc else 3)


def head_of(bar: Bar) -> str:
    return "open" if bar.node.op in OPEN else "full"


def mark_between(page: Page, a: Bar, b: Bar) -> None:
    page.triangle((a.right + b.x) / 2, a.y, up=False, head=head_of(b))


def up_or_down(page: Page, a: Bar, b: Bar) -> None:
    x = b.middle
    if not b.run.rising:
        page.line([(x, a.bottom + 3), (x, clear(b, x))], head=head_of(b))
        return
    below = b.bottom + 3
    if a.behind:  # from the sign behind it
        page.line([(a.right + 26, a.y), (x, a.y), (x, below)], head=head_of(b))
        return
    start = x if a.x <= x <= a.right else a.middle
    bend = [(start, below + 12), (x, below + 12)] if start != x else []
    top = clear(a, start, leaves=True)
    page.line([(start, top), *bend, (x, below)], head=head_of(b))


def draw_skip(page: Page, plan: Plan, skip: Skip) -> None:
    source, bar = skip.source, skip.target
    y, points = source.y, [(source.right + 4, source.y)]
    if bar.behind:  # over the bars between, to a sign behind them
        x, end = bar.right + 18, bar.run.bars[0].x - 12
        top = min(label.y for label in bar.run.labels()) - 14
        points += [(end, y), (end, top), (x, top), (x, y - 9)]
        page.line([(bar.right + 1, y), (x - 8, y)], head=None)
        page.sign(x, y, bar.behind)
    else:
        end = bar.x - bar.room - (2 if bar.join == "cat" else 0)
        points += [(end, y)]
    page.line(points, dashed=True)
    for node in reversed(drawn(skip.across)):
        w, h = plan.dimensions(node)
        end -= w + APART
        page.box(end, y - h / 2, w, h, FACES[face(node)])


def all_again(page: Page, plan: Plan) -> None:
    """What the network gives goes in again, at the next slice."""
    first, last = plan.bars[0], plan.bars[-1]
    top = min(label.y for run in plan.runs for label in run.labels()) - 26
    start, end = ((bar.middle, clear(bar, bar.middle)) for bar in (last, first))
    page.line([start, (start[0], top), (end[0], top), end], colour=INK)


# ---------------------------------------------------------------- the key

VERBS = {
    "+": "add", "−": "subtract", "×": "multiply", "÷": "divide", "@": "multiply",
    "cat": "concatenate",
}  # fmt: skip
MOVES = {  # mark: in words, where their labels differ
    "pool": "pooling", "stride": "stride 2", "up": "up-convolution",
    "resize": "interpolation", "patch": "patches to channels",
    "unpatch": "channels to patches",
}  # fmt: skip


def key(plan: Plan) -> list[tuple[str, str]]:
    """(mark, words) of the marks that occur."""
    found: list[tuple[str, str]] = []
    across = [node for skip in plan.skips for node in drawn(skip.across)]
    every = [bar.node for bar in plan.bars] + across
    convolutions = [n for n in every if n.op in ("conv", "depthwise")]
    if convolutions:
        still = [n for n in convolutions if n.factor == 1]
        found.append(("conv", convolution(still or convolutions)))
    if blocks := dict.fromkeys(n.label for n in every if n.op == "block"):
        found.append(("block", ", ".join(blocks)))
    if thin := [n for n in every if n.op == "pointwise"]:
        found.append(("pointwise", f"{times(thin[0].kernel)} convolution"))
    if any(n.op == "dense" for n in every):
        found.append(("dense", "dense layer"))
    if any(n.op == "mean" and not n.size for n in every):
        found.append(("plain", "global mean"))
    labels: dict[str, set[str]] = {}
    for _, bar in plan.moves:
        op = bar.node.op
        labels.setdefault(op if op in MOVES else "stride", set()).add(
            MOVES["stride"] if op == "block" else bar.node.label
        )
    for mark, words in labels.items():
        found.append((mark, words.pop() if len(words) == 1 else MOVES[mark]))
    if any(run.arcs for run in plan.runs):
        found.append(("skip", "shortcut: add"))
    if plan.skips:
        crop = "crop and " * any(skip.join.cropped for skip in plan.skips)
        verbs = sorted({VERBS[skip.join.op] for skip in plan.skips})
        found.append(("skip", f"skip: {crop}{', '.join(verbs)}"))
    for node in (n for n in every if n.op == "loop"):
        found.append(("loop", f"{node.label} along the slices"))
    if plan.graph.loops:
        found.append(("loop", "output of the slice before"))
    return found


def convolution(convolutions: list[Node]) -> str:
    """Their kernels, and the activations that all of them have."""
    kernels = ", ".join(dict.fromkeys(times(n.kernel) for n in convolutions))
    after = [[a.label for a in n.absorbed if a.op != "pad"] for n in convolutions]
    shared = [a for a in max(after, key=len) if all(a in one for one in after if one)]
    return ", ".join([f"{kernels} convolution", *dict.fromkeys(shared)])


def draw_key(page: Page, entries: list[tuple[str, str]], *, inside: bool) -> None:
    """In a free corner of a U, else under the drawing in as many columns as fit."""
    if not entries:
        return
    wide = [width(text) + 46 for _, text in entries]
    left, _, right, bottom = page.extent()
    top = bottom - 20 * len(entries)
    for x in (right - max(wide) + 12, right - max(wide) + 50, left):
        if inside and page.free(x - 12, top - 8, x + max(wide) - 12, bottom):
            for i, (mark, text) in enumerate(entries):
                draw_entry(page, x, top + 20 * i + 10, mark, text)
            return
    for columns in (3, 2, 1):
        per = -(-len(entries) // columns)
        steps = [max(wide[i : i + per]) for i in range(0, len(wide), per)]
        if sum(steps) < max(right - left, 540) + 24:
            break
    for i, (mark, text) in enumerate(entries):
        x = left + sum(steps[: i // per])
        draw_entry(page, x, bottom + 24 + 20 * (i % per), mark, text)


def draw_entry(page: Page, x: float, y: float, mark: str, text: str) -> None:
    middle = x + 12
    if mark in FACES or mark == "block":
        w = 12 if mark in ("conv", "block") else 6
        page.box(middle - w / 2, y - 6, w, 12, FACES.get(mark, FACES["conv"]))
        if mark == "block":
            page.stroke([(middle, y - 4), (middle, y + 4)], DOTS)
    elif mark in ("skip", "loop"):
        colour = INK if mark == "loop" else SOFT
        page.line([(x, y), (x + 24, y)], dashed=mark == "skip", colour=colour)
    else:
        up = mark in ("up", "resize", "unpatch")
        page.triangle(
            middle, y, up=up, head="full" if mark in ("pool", "up") else "open"
        )
    page.text(x + 32, y, text, ha="left")

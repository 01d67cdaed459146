"""A page to draw on, which grows with what is drawn, and the marks that all drawings
share. Lengths are points; y goes down.
"""

import math
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Polygon
from matplotlib.textpath import text_to_path

from medlib import plots

# The book's colours; its pages change them with the theme.
INK, SOFT, PAPER, TINT = "#1d2733", "#5b6776", "#ffffff", "#f5f7fa"
ACCENT = "#0b5cad"
LETTER = 14.0  # readable on a phone, where a drawing is 360 wide

Point = tuple[float, float]
Face = tuple[str, float, str]  # colour, opacity, edge
DASHES = (0, (4, 2.6))
DOTS = (0, (2, 2))


def width(text: str) -> float:
    font = FontProperties(size=LETTER)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


class Page:
    """`taken` are the rectangles (left, top, right, bottom) of all that is drawn."""

    def __init__(self) -> None:
        self._figure = plots.new_figure(1, 1)
        self._figure.set_layout_engine("none")
        self.axes: Axes = self._figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self.taken: list[tuple[float, float, float, float]] = []

    def take(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.taken.append((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))

    def free(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        """Whether nothing is drawn in this rectangle."""
        return not any(
            a < x1 and x0 < c and b < y1 and y0 < d for a, b, c, d in self.taken
        )

    def extent(self) -> tuple[float, float, float, float]:
        a, b, c, d = zip(*self.taken, strict=True)
        return min(a), min(b), max(c), max(d)

    def figure(self) -> Figure:
        """Cut to what was drawn, with a margin."""
        left, top, right, bottom = self.extent()
        self.axes.set(xlim=(left - 8, right + 8), ylim=(bottom + 8, top - 8))
        self._figure.set_size_inches((right - left + 16) / 72, (bottom - top + 16) / 72)
        return self._figure

    # ---------------------------------------------------------------- marks

    def text(
        self, x: float, y: float, text: str, *, ha: str = "center", colour: str = INK
    ) -> None:
        """With its middle at the height y; nothing where there is no text."""
        if not text:
            return
        left = x - {"left": 0.0, "center": 0.5, "right": 1.0}[ha] * width(text)
        self.take(left, y - 9, left + width(text), y + 9)
        self.axes.text(
            x, y, text, ha=ha, va="center_baseline", fontsize=LETTER, color=colour
        )

    def box(
        self, x: float, y: float, w: float, h: float, look: Face, *, corner: float = 1.5
    ) -> None:
        """A see-through face on paper, so that no line behind it shines through."""
        self.take(x, y, x + w, y + h)
        colour, opacity, edge = look
        style = f"round,pad=0,rounding_size={corner}"
        for fill, line in ((PAPER, "none"), (to_rgba(colour, opacity), edge)):
            self.axes.add_patch(
                FancyBboxPatch(
                    (x, y), w, h, boxstyle=style, fc=fill, ec=line, lw=1.0, zorder=2
                )
            )

    def stroke(
        self, points: list[Point], dashes: tuple = (), *, colour: str = ACCENT,
        lw: float = 1.2, z: float = 3,
    ) -> None:  # fmt: skip
        xs, ys = zip(*points, strict=True)
        (line,) = self.axes.plot(xs, ys, color=colour, lw=lw, zorder=z)
        line.set(linestyle=dashes or "-", dash_capstyle="butt")

    def line(
        self, points: list[Point], *, dashed: bool = False, head: str | None = "full",
        colour: str = SOFT,
    ) -> None:  # fmt: skip
        """Through these points, with a head at the last: "full", "open" or None."""
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        end = (x1 - 7 * ux, y1 - 7 * uy) if head else (x1, y1)
        dashes = DASHES if dashed else ()
        self.stroke([*points[:-1], end], dashes, colour=colour, z=1)
        if head:
            self.head((x1, y1), (ux, uy), head=head, colour=colour)
        for (a, b), (c, d) in pairwise(points):
            self.take(min(a, c) - 3, min(b, d) - 3, max(a, c) + 3, max(b, d) + 3)

    def head(
        self, tip: Point, towards: Point, *, head: str = "full", colour: str = SOFT
    ) -> None:
        """A triangle with its tip here, in the direction of a unit vector."""
        (x, y), (ux, uy) = tip, towards
        base = [(x - 8 * ux - s * uy, y - 8 * uy + s * ux) for s in (4, -4)]
        fill = PAPER if head == "open" else colour
        self.axes.add_patch(Polygon([tip, *base], fc=fill, ec=colour, lw=1.2, zorder=3))

    def triangle(self, x: float, y: float, *, up: bool, head: str) -> None:
        """▲ or ▼ around this point."""
        self.take(x - 4, y - 4, x + 4, y + 4)
        way = -1 if up else 1
        self.head((x, y + 4 * way), (0, way), head=head)

    def sign(self, x: float, y: float, sign: str) -> None:
        """+, −, ×, ÷ or @ in a circle, drawn: no letter sits exactly in its middle."""
        self.take(x - 8, y - 8, x + 8, y + 8)
        self.axes.add_patch(Circle((x, y), 8, fc=PAPER, ec=INK, lw=1.2, zorder=4))
        flat, tall, fall, rise = (-4.5, 0), (0, -4.5), (-3.2, -3.2), (-3.2, 3.2)
        strokes: dict[str, list[Point]] = {
            "+": [flat, tall],
            "−": [flat],
            "÷": [flat],
            "×": [fall, rise],
        }
        for dx, dy in strokes.get(sign, []):
            self.stroke([(x + dx, y + dy), (x - dx, y - dy)], colour=INK, lw=1.4, z=5)
        dots = [-3.4, 3.4] if sign == "÷" else [0.0] if sign == "@" else []
        for dy in dots:  # @ is a matrix product
            self.axes.add_patch(Circle((x, y + dy), 1.6, fc=INK, ec="none", zorder=5))

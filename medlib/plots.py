"""Figures, tables and source listings in one style, which theme.py holds.

A figure reaches a page through `show`, which asks for its alt text and caption.
Functions here draw and return a matplotlib Figure; none of them calls plt.show.
"""

import base64
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from medlib.stats import Interval
from medlib.theme import (
    ARMS,
    COLOURS,
    COLUMN,
    PIXELS,
    SMOOTH,
    YELLOW,
    new_figure,
    png,
    svg,
)

if TYPE_CHECKING:  # to draw needs no torch
    from medlib.train import Evaluation, History

SVG = "application/vnd.medlib.svg"  # a type that the book's pages alone know
LARGEST = 300_000  # bytes of an SVG; a figure that needs more is a PNG alone


def panels(
    columns: int, rows: int = 1, *, width: float = COLUMN, height: float = 2.6, **kwargs
) -> tuple[Figure, Any]:
    """A figure and its axes, as `Figure.subplots` gives them, `height` inches a row."""
    figure = new_figure(width, height * rows)
    return figure, figure.subplots(rows, columns, **kwargs)


def show(figure: Figure, *, alt: str, caption: str, name: str | None = None) -> None:
    """Put `figure` on the page. `alt` says what a reader who cannot see it should know.
    `caption` stands below it in the book: its first sentence is the title, which the
    page sets in bold, and the last one names source and licence of the images. `name`
    is its label for cross-references.
    """
    from IPython.display import display

    if not alt.strip() or not caption.strip():
        raise ValueError("a figure needs alt text and a caption")
    for axis in figure.axes:
        if axis.images:  # a grid over a picture is one of pixels, or turned off
            axis.grid(any(line.get_visible() for line in axis.get_ygridlines()))
            axis.spines[:].set_visible(False)
        elif axis.name != "3d" and axis.get_label() != "<colorbar>":
            _name_on_top(axis)
    data = {
        "image/png": base64.b64encode(png(figure)).decode(),
        "text/plain": f"Figure: {caption}",
    }
    title = re.sub(r"[*`$]|\{[\w:-]+\}", "", caption).split(". ")[0].rstrip(".")
    drawn = svg(figure, title, alt)
    if len(drawn) <= LARGEST:
        data[SVG] = drawn
    display(
        data,
        raw=True,
        metadata={
            "image/png": {"alt": alt, "width": round(PIXELS * figure.get_figwidth())},
            "medlib": {"figure": {"alt": alt, "caption": caption, "name": name}},
        },
    )


def _name_on_top(axis: Axes) -> None:
    """The name of a y axis, horizontal and above it, where it is read first; below
    the title, if there is one.
    """
    label = axis.yaxis.label
    if label.get_rotation() != 90 or not label.get_text():
        return
    right = axis.yaxis.get_label_position() == "right"
    label.set(rotation=0, ha="right" if right else "left", va="bottom")
    axis.yaxis.set_label_coords(int(right), 1.02)
    for where in ("left", "center", "right"):
        if title := axis.get_title(where):
            size = float(axis.title.get_fontsize())
            axis.set_title(title, loc=where, pad=1.7 * size + 6, fontsize=size)


def label_ends(axis: Axes) -> None:
    """Name each labelled line at its right end, in its colour, in place of a legend:
    as far apart as letters need. To be called when all is drawn.
    """
    lines = [n for n in axis.lines if not str(n.get_label()).startswith("_")]
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the limits and the axes' size are known now
    size = float(axis.xaxis.label.get_fontsize())
    tips = []
    for line in lines:
        x, y = (np.asarray(v, float) for v in line.get_data())
        last = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[-1]
        tips.append((x[last], y[last]))
    heights = axis.transData.transform(tips)[:, 1] * 72 / figure.dpi
    order, wanted = heights.argsort(), heights.copy()
    for _ in range(50):  # push neighbours apart until none overlap
        gaps = np.diff(wanted[order])
        push = (1.15 * size - gaps).clip(0) / 2
        wanted[order[:-1]] -= push
        wanted[order[1:]] += push
    for line, tip, up in zip(lines, tips, wanted - heights, strict=True):
        axis.annotate(
            str(line.get_label()),
            tip,
            (6, up),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )


def table(
    rows: Iterable[Sequence], headers: Sequence[str], *, folded: str | None = None
) -> None:
    """Show rows as a table; under the line `folded`, which opens it, where a figure
    above says the same.
    """
    from IPython.display import Markdown, display

    lines = [headers, ["---"] + ["---:"] * (len(headers) - 1), *rows]
    text = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
    if folded:
        summary = f"<summary>{folded}</summary>"
        text = f'<details class="numbers">{summary}\n\n{text}\n\n</details>'
    display(Markdown(text))


def _cell(value) -> str:
    """An interval stands under its mean, so that a column is narrow and no line breaks
    within it.

    >>> _cell("0.968 [0.954, 0.980]")
    '0.968<br><small>[0.954,&nbsp;0.980]</small>'
    """
    pattern = r"(\**)([−+-]?[\d.,]+) (\[[^\]|]+\])\1"
    if found := re.fullmatch(pattern, str(value)):
        bold, mean, span = found.groups()
        span = span.replace(" ", "&nbsp;")
        return f"{bold}{mean}{bold}<br><small>{span}</small>"
    return str(value)


def say(sentence: str) -> None:
    """Show a sentence whose numbers the cell computed."""
    from IPython.display import Markdown, display

    display(Markdown(sentence))


def show_source(*objects: type | Callable) -> None:
    """Show the source of classes or functions, highlighted, as it stands in medlib."""
    from IPython.display import Markdown, display

    for thing in objects:
        source = inspect.getsource(thing).rstrip()
        display(
            Markdown(
                f"`{thing.__module__.replace('.', '/')}.py`\n\n```python\n{source}\n```"
            )
        )


def _array(image) -> np.ndarray:
    return (
        image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    )


def grid(
    images: Iterable,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    size: float | None = None,
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Images (N, H, W) or (N, 1, H, W) side by side, each with its title. `size`:
    inches of one; as many as fill the column, without it. `limits`: grey values of
    black and white.
    """
    images = [_array(image).squeeze() for image in images]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = size or min(COLUMN / columns, 2.8)
    letters = int(14 * size)  # of a title in one line
    titles = [
        "\n".join(textwrap.fill(line, letters) for line in title.split("\n"))
        for title in titles or []
    ]
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    figure = new_figure(columns * size, rows * (size + 0.17 * lines))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = limits or (None, None)
    for i, axis in enumerate(axes):
        axis.axis("off")
        if i < len(images):
            axis.imshow(images[i], cmap=cmap, vmin=low, vmax=high)
        if i < len(titles):
            axis.set_title(titles[i], fontsize=9, fontweight="normal", pad=3)
    return figure


def curves(histories: "Mapping[str, History]") -> Figure:
    """Learning curves of one or more `fit` histories: the loss on the left, thin in
    training; on the right the validation score, with a dot on the step that was kept.
    """
    figure, (left, right) = panels(2)
    for arm, (name, h) in zip(_arms(len(histories)), histories.items(), strict=True):
        thin = {**arm, "linewidth": 0.8, "alpha": 0.7}
        left.plot(h.step, h.train_loss, label=f"{name}, training", **thin)
        left.plot(h.step, h.val_loss, label=f"{name}, validation", **arm)
        right.plot(h.step, h.score, label=name, **arm)
        right.plot(h.step[h.best], h.score[h.best], "o", color=arm["color"])
    left.set(xlabel="step", ylabel="loss (thin: in training)", ylim=(0, None))
    right.set(xlabel="step", ylabel="validation score (dot: kept)")
    label_ends(right)
    return figure


def _arms(n: int) -> list[dict[str, Any]]:
    """How n arms are drawn: as ARMS says, from the start again when all are used."""
    return [ARMS[i % len(ARMS)] for i in range(n)]


def dots(
    rows: Mapping[str, Interval | Mapping[str, Interval]],
    *,
    xlabel: str,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """One line a row of {name: Interval}, its mean a dot; or several, one under the
    other, of {name: {arm: Interval}}. `references` {name: value} are dashed verticals.
    What a wide table of intervals says, to be seen at once: see also `table(folded=…)`.
    """
    several = {n: r if isinstance(r, Mapping) else {"": r} for n, r in rows.items()}
    names = list(dict.fromkeys(arm for row in several.values() for arm in row))
    step = 0.7 / len(names)
    figure, axis = panels(1, height=0.9 + max(0.27, 0.17 * len(names)) * len(rows))
    for arm, name in zip(_arms(len(names)), names, strict=True):
        k, colour = names.index(name), arm["color"]
        found = [(i, r[name]) for i, r in enumerate(several.values()) if name in r]
        at = [i + (k - (len(names) - 1) / 2) * step for i, _ in found]
        axis.hlines(
            at, [r.low for _, r in found], [r.high for _, r in found], color=colour
        )
        mark = "osD^vP*"[k % 7]
        axis.plot([r.mean for _, r in found], at, mark, color=colour, label=name)
    for reference, value in (references or {}).items():
        axis.axvline(value, color=COLOURS["soft"], linestyle="--", linewidth=1)
        axis.annotate(
            reference,
            (value, 1),
            (3, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=COLOURS["soft"],
        )
    axis.grid(False)
    axis.grid(axis="x")
    axis.tick_params("y", labelcolor=COLOURS["ink"])
    axis.set(
        yticks=range(len(rows)),
        yticklabels=list(rows),
        xlabel=xlabel,
        ylim=(len(rows) - 0.4, -0.6),
    )
    if names != [""]:
        figure.legend(loc="outside upper left", ncols=len(names))
    return figure


def intervals(
    rows: Mapping[str, Interval],
    *,
    xlabel: str,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """`dots` of one interval a row."""
    return dots(rows, xlabel=xlabel, references=references)


def overlay(
    images: Iterable,
    maps: Iterable,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    size: float | None = None,
) -> Figure:
    """`grid` of grey images (N, H, W) with maps (N, H, W) from 0 to 1 laid over them in
    colour.
    """
    figure = grid(images, titles, columns=columns, size=size)
    for axis, heat in zip(figure.axes, maps, strict=False):
        heat = _array(heat)
        axis.imshow(heat, cmap="inferno", alpha=0.6 * heat, vmin=0, vmax=1)
    return figure


# ---------------------------------------------------------------- outlines

NAMES = {1: "RV", 2: "myocardium", 3: "LV"}
OUTLINES = {1: COLOURS["rv"], 2: YELLOW, 3: COLOURS["lv"]}
PANELS = ("image", "expert", "network", "error")
CASING = (0, 0, 0, 0.6)
# {who: (points of the line, an inch being 100 pixels of the page; how it is drawn)}
LINES: dict[str, tuple[float, Any]] = {
    "expert": (1.6, "solid"),
    "network": (0.95, (0, (3, 2))),
}


def outline(axis: Axes, mask: ArrayLike, who: str = "expert") -> None:
    """Draw around each label of a mask (H, W), over the image that `axis` shows: the
    expert's lines solid and in the structure's colour, the network's dashed and white.
    They run halfway between the pixels inside and those outside. A mask of True and
    False is the left ventricle's. KeyError where `who` is neither.
    """
    points, style = LINES[who]
    labels = _array(mask)
    if labels.dtype == bool:
        labels = 3 * labels
    height, width = labels.shape
    x, y = np.arange(-1, width + 1), np.arange(-1, height + 1)
    view = axis.axis()
    for label, colour in OUTLINES.items():
        if (labels == label).any():
            inside = np.pad(labels == label, 1)  # closed at the image's border too
            later = np.pad(labels > label, 1)  # a common border is drawn once, by them
            lines = axis.contour(
                x,
                y,
                np.ma.masked_where(later, inside.astype(float)),
                levels=[0.5],
                colors=colour if who == "expert" else "#ffffff",
                linewidths=points,
                linestyles=[style],
            )
            lines.set_path_effects(
                [withStroke(linewidth=points + 1, foreground=CASING)]
            )
    axis.axis(view)


def outlined(
    image: ArrayLike,
    mask: ArrayLike,
    *,
    network: ArrayLike | None = None,
    zoom: int = 2,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """(H, W) grey values and labels → (zoom · H, zoom · W, 3) uint8: the picture with
    the outline of each label, as a frame of a scrubber. `network`: labels of a second
    mask, drawn over the first.
    """
    image = _array(image).astype(float)
    height, width = (zoom * n for n in image.shape)
    # half a pixel more, for the canvas rounds down
    figure = new_figure((width + 0.5) / PIXELS, (height + 0.5) / PIXELS)
    figure.set_layout_engine("none")
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    low, high = limits or (image.min(), image.max())
    axis.imshow(image, vmin=low, vmax=high, aspect="auto", interpolation=SMOOTH)
    outline(axis, mask)
    if network is not None:
        outline(axis, network, "network")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def cases(
    images: Sequence[ArrayLike],
    experts: Sequence[ArrayLike],
    networks: Sequence[ArrayLike],
    titles: Sequence[str],
    *,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Rows of image | expert | network | error, of grey values and labels (H, W) each;
    a row's title stands over it. An error is a pixel that the network has too much,
    one that it missed, or one that it gave to another structure. `limits`: grey values
    of black and white.
    """
    size = 2.25  # inches: what is smaller shows no error of a pixel
    height = size * np.mean([np.divide(*_array(image).shape) for image in images])
    figure = new_figure(4 * size, len(images) * (height + 0.25) + 0.6)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, hspace=0.01)
    axes = figure.subplots(len(images), 4, squeeze=False)
    low, high = limits or (None, None)
    errors = {  # each True where it is, of labels e and n
        "too much": (COLOURS["more"], lambda e, n: (n > 0) & (e == 0)),
        "missed": (COLOURS["missed"], lambda e, n: (e > 0) & (n == 0)),
        "another structure": ("#ffffff", lambda e, n: (e > 0) & (n > 0) & (e != n)),
    }
    labels: set[int] = set()
    for row, *three, title in zip(axes, images, experts, networks, titles, strict=True):
        image, expert, network = map(_array, three)
        labels |= set(np.unique(expert).astype(int)) & set(OUTLINES)
        for axis in row:
            axis.axis("off")
            axis.imshow(image, vmin=low, vmax=high, interpolation=SMOOTH)
        outline(row[1], expert)
        outline(row[2], network, "network")
        wrong = np.zeros((*expert.shape, 4))
        for colour, where in errors.values():
            wrong[where(expert, network)] = (*to_rgb(colour), 0.9)
        black, white = row[3].images[0].get_clim()
        row[3].images[0].set_clim(black, 2 * white - black)  # dim below the errors
        row[3].imshow(wrong)
        row[0].set_title(title, fontsize=11, fontweight="normal", pad=3)
    for axis, name in zip(axes[-1], PANELS, strict=True):
        axis.set_title(name, loc="center", y=-0.03, va="top", fontweight="normal")
    swatches = [Patch(facecolor=OUTLINES[k], label=NAMES[k]) for k in sorted(labels)]
    for name, (colour, _) in errors.items():
        swatches.append(
            Patch(facecolor=colour, edgecolor="#767676", linewidth=0.5, label=name)
        )
    figure.legend(
        handles=swatches,
        loc="outside lower center",
        ncols=len(swatches),
        handlelength=1,
        handleheight=1,
        fontsize=11,
    )
    return figure


def confusion(evaluation: "Evaluation", classes: Sequence[str]) -> Figure:
    """Confusion matrix of an `Evaluation`: counts, coloured by the share of each true
    class.
    """
    k = len(classes)
    index = evaluation.target.cpu() * k + evaluation.logits.argmax(1).cpu()
    counts = np.bincount(index, minlength=k * k).reshape(k, k)
    share = counts / counts.sum(1, keepdims=True).clip(1)
    figure, axis = panels(1, width=1.6 + 0.75 * k, height=1.2 + 0.6 * k)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.grid(False)
    axis.set(
        xticks=range(k),
        yticks=range(k),
        xticklabels=classes,
        xlabel="predicted",
        ylabel="true",
    )
    axis.set_yticklabels(classes, rotation=90, va="center")
    for (i, j), count in np.ndenumerate(counts):
        axis.text(
            j,
            i,
            f"{count:,}",
            ha="center",
            va="center",
            color="white" if share[i, j] > 0.6 else "black",
        )
    return figure


def roc(
    scores: dict[str, ArrayLike], target: ArrayLike, *, resamples: int = 200
) -> Figure:
    """ROC curves of {name: (N,) scores of class 1}, with a 95 % band from resampled
    cases.
    """
    target = np.asarray(target)
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 101)

    def sensitivity(score, truth):
        order = np.argsort(-score, kind="stable")
        hits, falls = np.cumsum(truth[order] == 1), np.cumsum(truth[order] == 0)
        return np.interp(
            x, np.r_[0, falls / max(falls[-1], 1)], np.r_[0, hits / max(hits[-1], 1)]
        )

    figure, axis = panels(1, width=4.6, height=4)
    for arm, (name, score) in zip(_arms(len(scores)), scores.items(), strict=True):
        score = np.asarray(score)
        draws = rng.integers(0, len(target), (resamples, len(target)))
        low, high = np.quantile(
            [sensitivity(score[d], target[d]) for d in draws], [0.025, 0.975], axis=0
        )
        axis.plot(x, sensitivity(score, target), label=name, **arm)
        axis.fill_between(x, low, high, color=arm["color"], alpha=0.15, linewidth=0)
    axis.plot([0, 1], [0, 1], color=COLOURS["soft"], linewidth=0.8, label="chance")
    axis.set(
        xlabel="1 − specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01)
    )
    axis.legend(loc="lower right")
    return figure

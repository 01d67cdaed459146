"""Figures, tables and source listings in one style.

A figure reaches a page through `show`, which asks for its alt text and caption.
Functions here draw and return a matplotlib Figure; none of them calls plt.show.
"""

import base64
import inspect
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medlib.stats import Interval

if TYPE_CHECKING:  # to draw needs no torch
    from medlib.train import Evaluation, History

STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "image.cmap": "gray",
    "image.interpolation": "nearest",  # show the pixels that are there
    # Okabe and Ito's palette, which colour-blind readers can tell apart.
    "axes.prop_cycle": cycler(
        color=[
            "#0072B2",
            "#D55E00",
            "#009E73",
            "#CC79A7",
            "#E69F00",
            "#56B4E9",
            "#000000",
        ]
    ),
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches. It and all that is drawn from now on have the
    book's style; to import this module changes nothing.
    """
    matplotlib.style.use(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def panels(
    columns: int, rows: int = 1, *, width: float = 7.2, height: float = 2.6, **kwargs
) -> tuple[Figure, Any]:
    """A figure and its axes, as `Figure.subplots` gives them, `height` inches a row."""
    figure = new_figure(width, height * rows)
    return figure, figure.subplots(rows, columns, **kwargs)


def show(figure: Figure, *, alt: str, caption: str, name: str | None = None) -> None:
    """Put `figure` on the page. `alt` says what a reader who cannot see it should know;
    `caption` stands below it in the book; `name` is its label for cross-references.
    """
    from IPython.display import display

    if not alt.strip() or not caption.strip():
        raise ValueError("a figure needs alt text and a caption")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    display(
        {
            "image/png": base64.b64encode(buffer.getvalue()).decode(),
            "text/plain": f"Figure: {caption}",
        },
        raw=True,
        metadata={
            "image/png": {"alt": alt},
            "medlib": {"figure": {"alt": alt, "caption": caption, "name": name}},
        },
    )


def table(rows: Iterable[Sequence], headers: Sequence[str]) -> None:
    """Show rows as a table."""
    from IPython.display import Markdown, display

    lines = [headers, ["---"] + ["---:"] * (len(headers) - 1), *rows]
    display(
        Markdown(
            "\n".join("| " + " | ".join(str(v) for v in line) + " |" for line in lines)
        )
    )


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
    size: float = 0.95,
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Images (N, H, W) or (N, 1, H, W) side by side, each with its title. `limits`:
    grey values of black and white.
    """
    images = [_array(image).squeeze() for image in images]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(columns * size, rows * (size + (0.32 if titles else 0)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = limits or (None, None)
    for i, axis in enumerate(axes):
        axis.axis("off")
        if i < len(images):
            axis.imshow(images[i], cmap=cmap, vmin=low, vmax=high)
            axis.set_title(titles[i] if titles else "", fontsize=7)
    return figure


def curves(histories: "dict[str, History]") -> Figure:
    """Learning curves of one or more `fit` histories: loss on the left, validation
    score on the right.
    """
    figure, (left, right) = panels(2)
    for i, (name, h) in enumerate(histories.items()):
        left.plot(h.step, h.train_loss, color=f"C{i}", label=f"{name}, training")
        left.plot(
            h.step,
            h.val_loss,
            color=f"C{i}",
            linestyle="--",
            label=f"{name}, validation",
        )
        right.plot(h.step, h.score, color=f"C{i}", label=name)
        right.plot(h.step[h.best], h.score[h.best], "o", color=f"C{i}")
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    right.set(xlabel="step", ylabel="validation score (dot: kept)")
    left.legend(fontsize=8)
    return figure


def intervals(
    rows: dict[str, Interval],
    *,
    xlabel: str,
    references: dict[str, float] | None = None,
) -> Figure:
    """One line a row of {name: Interval}, its mean a dot; `references` {name: value}
    are dotted verticals.
    """
    figure, axis = panels(1, height=1.0 + 0.27 * len(rows))
    for i, interval in enumerate(rows.values()):
        axis.plot([interval.low, interval.high], [i, i], color="C0", linewidth=2)
        axis.plot(interval.mean, i, "o", color="C0")
    for i, (name, value) in enumerate((references or {}).items()):
        axis.axvline(value, color=f"C{i + 1}", linestyle=":", label=name)
    axis.set(
        yticks=range(len(rows)),
        yticklabels=list(rows),
        xlabel=xlabel,
        ylim=(len(rows) - 0.4, -0.6),
    )
    if references:
        axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def overlay(
    images: Iterable,
    maps: Iterable,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    size: float = 0.95,
) -> Figure:
    """`grid` of grey images (N, H, W) with maps (N, H, W) from 0 to 1 laid over them in
    colour.
    """
    figure = grid(images, titles, columns=columns, size=size)
    for axis, heat in zip(figure.axes, maps, strict=False):
        heat = _array(heat)
        axis.imshow(heat, cmap="inferno", alpha=0.6 * heat, vmin=0, vmax=1)
    return figure


# RV, myocardium, LV; Okabe and Ito's palette.
OUTLINES = {1: "#56B4E9", 2: "#F0E442", 3: "#D55E00"}


def outlined(
    image: ArrayLike,
    mask: ArrayLike,
    *,
    zoom: int = 2,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """(H, W) grey values and labels → (zoom · H, zoom · W, 3) uint8: the picture with
    the outline of each label.
    """
    from medlib.metrics import surface

    image, mask = _array(image).astype(float), _array(mask)
    low, high = limits or (image.min(), image.max())
    grey = 255 * ((image - low) / max(high - low, 1e-9)).clip(0, 1)
    picture, mask = (a.repeat(zoom, 0).repeat(zoom, 1) for a in (grey, mask))
    picture = np.stack([picture] * 3, -1).astype(np.uint8)
    for label, colour in OUTLINES.items():
        picture[surface(mask == label)] = [round(255 * c) for c in to_rgb(colour)]
    return picture


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

    figure, axis = panels(1, width=4.2, height=3.6)
    for name, score in scores.items():
        score = np.asarray(score)
        draws = rng.integers(0, len(target), (resamples, len(target)))
        low, high = np.quantile(
            [sensitivity(score[d], target[d]) for d in draws], [0.025, 0.975], axis=0
        )
        (line,) = axis.plot(x, sensitivity(score, target), label=name)
        axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="chance")
    axis.set(
        xlabel="1 − specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01)
    )
    axis.legend(loc="lower right", fontsize=8)
    return figure

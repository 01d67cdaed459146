"""Pictures to move through with the mouse or the keyboard, in a page that needs no
server.
"""

import base64
import html
import io
import itertools
from importlib import resources
from string import Template

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

_numbers = itertools.count()


def scrubber(
    frames: ArrayLike,
    *,
    sliders: tuple[str, ...],
    alt: str,
    caption: str,
    quality: int = 80,
) -> None:
    """Show frames, one at a time, with a slider for each of their axes.

    frames    (N, H, W, 3) uint8 for one slider, (M, N, H, W, 3) for two, the first over
              M
    sliders   their names, for one "iteration", say; the last one gets a play button
    quality   of the picture that holds all frames, a lossy WebP: up to 100

    Without JavaScript, the middle picture stands still. Raises ValueError where there
    are more or fewer names than axes.
    """
    from IPython.display import display

    stack = np.asarray(frames, dtype=np.uint8)
    stack = stack[None] if stack.ndim == 4 else stack
    rows, columns, height, width = stack.shape[:4]
    if len(sliders) != 1 + (rows > 1):
        raise ValueError(
            f"{len(sliders)} slider(s) for frames {stack.shape}; expected one, or two "
            "for (M, N, …)"
        )
    first = rows // 2 if rows > 2 else 0, columns // 2
    axes = [("y", rows, first[0]), ("x", columns, first[1])][-len(sliders) :]
    named = zip(sliders, axes, strict=True)
    page = Template(
        resources.files("medlib").joinpath("scrubber.html").read_text("utf-8")
    )
    text = page.substitute(
        id=f"scrubber-{next(_numbers)}",
        alt=html.escape(alt),
        caption=html.escape(caption),
        sheet=base64.b64encode(_sheet(stack, quality)).decode(),
        width=width,
        height=height,
        across=100 * columns,
        down=100 * rows,
        x=f"{100 * first[1] / max(columns - 1, 1):.3f}",
        y=f"{100 * first[0] / max(rows - 1, 1):.3f}",
        inputs="".join(_slider(name, *axis) for name, axis in named),
    )
    shown = {"text/html": text, "text/plain": f"Pictures to move through: {caption}"}
    display(shown, raw=True)


def _sheet(stack: np.ndarray, quality: int) -> bytes:
    """All frames in one picture, M rows of N; the page shows a part of it at a time."""
    rows, columns, height, width = stack.shape[:4]
    sheet = stack.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def _slider(name: str, axis: str, n: int, at: int) -> str:
    return (
        f'<label>{html.escape(name)} <input type="range" min="0" max="{n - 1}" '
        f'value="{at}" data-axis="{axis}"> <output>{at + 1}</output> of {n}</label> '
    )

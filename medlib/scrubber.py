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

LONGEST = 16_383  # pixels of a side, in a WebP
SHOWN = 480  # pixels of the page that a small frame may take, up to twice its own
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
    across = min(rows * columns, LONGEST // width)  # frames in a row of the sheet
    down = -(-rows * columns // across)
    if len(sliders) != 1 + (rows > 1):
        raise ValueError(
            f"{len(sliders)} slider(s) for frames {stack.shape}; expected one, or two "
            "for (M, N, …)"
        )
    first = rows // 2 if rows > 2 else 0, columns // 2
    place = first[0] * columns + first[1]
    axes = [("y", rows, first[0]), ("x", columns, first[1])][-len(sliders) :]
    named = zip(sliders, axes, strict=True)
    page = Template(
        resources.files("medlib").joinpath("scrubber.html").read_text("utf-8")
    )
    text = page.substitute(
        id=f"scrubber-{next(_numbers)}",
        alt=html.escape(alt),
        caption=html.escape(caption),
        sheet=base64.b64encode(_sheet(stack, across, down, quality)).decode(),
        width=width,
        height=height,
        shown=max(width, min(2 * width, SHOWN)),
        columns=columns,
        across=across,
        down=down,
        x=f"{100 * (place % across) / max(across - 1, 1):.3f}",
        y=f"{100 * (place // across) / max(down - 1, 1):.3f}",
        inputs="".join(_slider(name, *axis) for name, axis in named),
    )
    shown = {"text/html": text, "text/plain": f"Pictures to move through: {caption}"}
    display(shown, raw=True)


def _sheet(stack: np.ndarray, across: int, down: int, quality: int) -> bytes:
    """All frames in one picture, row by row, so many across and down; the page shows
    one at a time.
    """
    height, width = stack.shape[2:4]
    frames = stack.reshape(-1, height, width, 3)
    places = np.zeros((down * across, height, width, 3), np.uint8)
    places[: len(frames)] = frames
    sheet = places.reshape(down, across, height, width, 3).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(down * height, across * width, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def _slider(name: str, axis: str, n: int, at: int) -> str:
    return (
        f'<label><span>{html.escape(name)}</span> <input type="range" min="0" '
        f'max="{n - 1}" value="{at}" data-axis="{axis}"> '
        f"<span><output>{at + 1}</output> of {n}</span></label> "
    )

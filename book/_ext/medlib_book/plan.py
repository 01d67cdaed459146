"""The map of the book: its parts from _toc.yml, what builds on what from book/map.toml,
titles and questions from the chapters; and a picture of it.
"""

import json
import textwrap
import tomllib
from functools import cache
from html import escape
from pathlib import Path

import yaml

from press.colab import numbered
from press.minutes import table as known_minutes
from press.minutes import whole

ROOT = Path(__file__).resolve().parents[3]
WIDTH, HEIGHT = 132, 46  # of a box of the picture
STEP_X, STEP_Y, CAPTION = 154, 66, 30


@cache
def parts() -> dict[str, list[str]]:
    """{a part's title: the files of its chapters}, of the parts that have chapters."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    title = ""
    for part in toc["parts"]:
        title = part.get("caption", title)  # a list without one goes on with its part
        files = [Path(entry["file"]) for entry in part["chapters"]]
        found.setdefault(title, []).extend(
            file.name for file in files if file.parent.name == "chapters"
        )
    return {title: files for title, files in found.items() if files}


@cache
def chapters() -> dict[str, dict]:
    """{file: what it needs and what is related, its number ("–" without one), part,
    title, question and the images of its run}.
    """
    plan = tomllib.loads((ROOT / "book" / "map.toml").read_text(encoding="utf-8"))
    found = {}
    for part, files in parts().items():
        for file in files:
            path = ROOT / "chapters" / f"{file}.ipynb"
            notebook = json.loads(path.read_text(encoding="utf-8"))
            title, question = "".join(notebook["cells"][0]["source"]).split("\n\n")[:2]
            found[file] = plan[file] | {
                "part": part,
                "title": title.removeprefix("# "),
                "question": question.strip("*"),
                "data": sorted(notebook["metadata"]["medlib"]["data"]),
                "number": file[:2] if file in numbered() else "–",
            }
    return found


def leads_to(file: str) -> list[str]:
    return [other for other, entry in chapters().items() if file in entry["needs"]]


def minutes() -> str:
    """How long each chapter takes, and on which images, as a Markdown table."""
    known = known_minutes()
    rows = []
    for file, c in chapters().items():
        sizes = known.get(file, {})
        t4, quick = (
            whole(sizes[size]) if size in sizes else "–" for size in ("full", "quick")
        )
        images = ", ".join(f"`{name}`" for name in c["data"]) or "simulated"
        rows.append(
            f"| {c['number']} | [{c['title']}](../chapters/{file}.ipynb) | {t4} | "
            f"{quick} | {images} |"
        )
    head = (
        "| No. | Chapter | `full` on a T4, min | `quick` on Colab's processor, min | "
        "images |"
    )
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *rows])


# ---------------------------------------------------------------- the picture


def places(
    columns: int,
) -> tuple[dict[str, tuple[int, int]], list[tuple[str, int]], int]:
    """Where the boxes and the captions of the parts stand, with so many boxes in a row,
    and the picture's height.
    """
    spots, captions, y = {}, [], 0
    for title, files in parts().items():
        captions.append((title, y + 20))
        y += CAPTION
        for i, file in enumerate(files):
            spots[file] = i % columns * STEP_X + 6, y + i // columns * STEP_Y
        y += -(-len(files) // columns) * STEP_Y
    return spots, captions, y


def arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """The path from one box to another: straight to the next in a row, in an arc over
    those between, else from below to above.
    """
    (x0, y0), (x1, y1) = start, end
    if y0 == y1 and x1 == x0 + STEP_X:
        return f"M{x0 + WIDTH} {y0 + HEIGHT // 2} H{x1}"
    if y0 == y1:
        a, b = x0 + WIDTH // 2, x1 + WIDTH // 2
        return f"M{a} {y0} C{a + 20} {y0 - 18} {b - 20} {y0 - 18} {b} {y0}"
    a, b, y0 = x0 + WIDTH // 2, x1 + WIDTH // 2, y0 + HEIGHT
    bend = max(14, (y1 - y0) // 2)
    return f"M{a} {y0} C{a} {y0 + bend} {b} {y1 - bend} {b} {y1}"


def box(file: str, x: int, y: int) -> str:
    chapter = chapters()[file]
    lines = textwrap.wrap(chapter["title"], 13)
    middle = y + HEIGHT / 2 + 5 - 8 * (len(lines) - 1)
    words = "".join(
        f'<tspan x="{x + 34}" y="{middle + 16 * i}">{escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    return (
        f'<a href="../chapters/{file}.html" class="map-{file}">'
        f"<title>{escape(chapter['question'])}</title>"
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
        f'<text class="number" x="{x + 9}" y="{y + HEIGHT / 2 + 5}">'
        f"{chapter['number']}</text><text>{words}</text></a>"
    )


def picture(columns: int, kind: str) -> str:
    """The map as an SVG: a box a chapter, an arrow from each chapter to those that
    build on it.
    """
    spots, captions, height = places(columns)
    arrows = "".join(
        f'<path class="from-{need} to-{file}" d="{arrow(spots[need], spots[file])}" '
        f'marker-end="url(#tip-{kind})"/>'
        for file, chapter in chapters().items()
        for need in chapter["needs"]
    )
    marked = "".join(
        f"svg.map:has(.map-{file}:is(:hover, :focus)) :is(.from-{file}, .to-{file}) "
        "{ stroke: var(--pst-color-primary); stroke-width: 3; opacity: 1; }"
        for file in chapters()
    )
    titles = "".join(
        f'<text class="part" x="6" y="{y}">{escape(title)}</text>'
        for title, y in captions
    )
    boxes = "".join(box(file, *place) for file, place in spots.items())
    return (
        f'<svg class="map {kind}" viewBox="0 0 {columns * STEP_X} {height}" '
        'role="group" aria-label="Map of the book: a box for each chapter, arrows to '
        'the chapters that build on it">'
        f'<style>{marked}</style><defs><marker id="tip-{kind}" viewBox="0 0 8 8" '
        'refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        f"{titles}{arrows}{boxes}</svg>"
    )

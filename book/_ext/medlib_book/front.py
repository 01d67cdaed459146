"""The front page: a beating heart, the score of the claims as a bar, and every chapter
as a card with a picture of its own.
"""

import base64
import io
import json
from collections import Counter
from html import escape

from PIL import Image

from press import colab
from press.check import figure
from press.ledger import ledger
from press.minutes import reading, words

from . import plan
from .cards import css
from .ledger import STATE

BEAT = plan.ROOT / "book" / "_static" / "front"  # made by `python -m press front`
WIDTH = 440  # pixels of a card's picture, twice what is shown on a telephone


def raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```"


def heart() -> str:
    """The beating heart with its Play button, and the three ways in."""
    about = json.loads((BEAT / "beat.json").read_text(encoding="utf-8"))
    ways = [
        ("first", "../chapters/01_images.html", "Start reading"),
        ("", colab.launchers("02_lenet")["Colab"], "Open a chapter in Colab"),
        ("", "how_to_use.html", "On your own machine"),
    ]
    links = "".join(
        f'<a class="button {kind}" href="{escape(to)}">{label}</a>'
        for kind, to, label in ways
    )
    return raw(
        f'<div class="ways">{links}</div>\n<figure class="beat" '
        f'data-frames="{about["frames"]}" data-beat="{about["ms"]}">'
        f'<div role="img" aria-label="{escape(about["alt"])}" style="'
        f"background-image: url(../_static/front/beat.webp); "
        f'background-size: {100 * about["frames"]}% 100%"></div>'
        f'<figcaption><button type="button">▶ Play</button> '
        f"{escape(about['caption'])}</figcaption></figure>"
    )


def score() -> str:
    """How many claims have which verdict: a bar, and under it each sign with its word
    and number, since colour never stands alone.
    """
    count = Counter(row["verdict"] for row in ledger())
    states = [state for state in STATE if count[state]]
    parts = "".join(
        f'<span class="{css(state)}" style="flex-grow:{count[state]}"></span>'
        for state in states
    )
    words_ = "".join(
        f"<li>{STATE[state]} {state} {count[state]}</li>" for state in states
    )
    return raw(
        f'<div class="score" aria-hidden="true">{parts}</div>'
        f'<ul class="states">{words_}</ul>'
    )


def cards() -> str:
    """The chapters, part by part; and, folded, which builds on which."""
    lines = []
    for part, files in plan.parts().items():
        shown = "".join(card(file) for file in files)
        lines.append(f'<h3>{escape(part)}</h3>\n<div class="cards">{shown}</div>')
    maps = plan.picture(6, "wide") + plan.picture(3, "narrow")
    lines.append(f"<details><summary>Which builds on which</summary>{maps}</details>")
    return raw("\n".join(lines))


def card(file: str) -> str:
    chapter = plan.chapters()[file]
    path = plan.ROOT / "chapters" / f"{file}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    number = f"{chapter['number']} · " if chapter["number"] != "–" else ""
    minutes = f"{reading(notebook)} min"
    if run := words(file):
        minutes += f" · {run}"
    return (
        f'<a class="card-of" href="../chapters/{file}.html">'
        f"{picture(notebook)}"
        f"<strong>{number}{escape(chapter['title'])}</strong>"
        f"<span>{escape(chapter['question'])}</span><small>{minutes}</small></a>"
    )


def picture(notebook: dict) -> str:
    """A chapter's first figure, small, with its title as the text for those who cannot
    see it.
    """
    outputs = [o for c in notebook["cells"] for o in c.get("outputs", [])]
    first = next(output for output in outputs if figure(output))
    drawn = base64.b64decode("".join(first["data"]["image/png"]))
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=6)
    source = base64.b64encode(buffer.getvalue()).decode()
    title = figure(first)["caption"].split(". ")[0].rstrip(".:")
    return (
        f'<img src="data:image/webp;base64,{source}" alt="{escape(title)}" '
        'loading="lazy">'
    )

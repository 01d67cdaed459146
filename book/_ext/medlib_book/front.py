"""The front page: the score of the claims as a bar, and every chapter as a card with a
picture of its own.
"""

import base64
import io
import json
from collections import Counter
from html import escape

from PIL import Image

from medlib.claims import SYMBOL
from press.check import figure
from press.ledger import WAITS, ledger
from press.minutes import reading, words

from . import plan

WIDTH = 440  # pixels of a card's picture, twice what is shown on a telephone


def score() -> str:
    """How many claims have which verdict: a bar, and under it each sign with its word
    and number, since colour never stands alone. In HTML.
    """
    count = Counter(row["verdict"] for row in ledger())
    states = [state for state in [*SYMBOL, WAITS] if count[state]]
    parts = "".join(
        f'<span class="{state.split()[0]}" style="flex-grow:{count[state]}"></span>'
        for state in states
    )
    words_ = "".join(
        f"<li>{SYMBOL.get(state, '…')} {state} {count[state]}</li>" for state in states
    )
    return (
        f'<div class="score" aria-hidden="true">{parts}</div>'
        f'<ul class="states">{words_}</ul>'
    )


def cards() -> str:
    """The chapters, part by part. In HTML."""
    lines = []
    for part, files in plan.parts().items():
        shown = "".join(card(file) for file in files)
        lines.append(f'<h3>{escape(part)}</h3>\n<div class="cards">{shown}</div>')
    return "\n".join(lines)


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
        f'<img src="{picture(notebook)}" alt="" loading="lazy">'
        f"<strong>{number}{escape(chapter['title'])}</strong>"
        f"<span>{escape(chapter['question'])}</span><small>{minutes}</small></a>"
    )


def picture(notebook: dict) -> str:
    """A chapter's first figure, small, as the address of an image."""
    outputs = [o for c in notebook["cells"] for o in c.get("outputs", [])]
    first = next(o for o in outputs if figure(o))["data"]["image/png"]
    image = Image.open(io.BytesIO(base64.b64decode("".join(first)))).convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def page() -> str:
    """What stands at the hook of book/intro.md."""
    pictures = plan.picture(6, "wide") + "\n" + plan.picture(3, "narrow")
    return f"""\
```{{raw}} html
{score()}
```

The review is [Agarwal, Kumar and Gupta](ledger.md); each of its claims is measured, counted, read in the source, or declared not testable here, and the rule that decides is written down before the run. All of them stand in [the ledger](ledger.md).

## The chapters

```{{raw}} html
{cards()}
<details><summary>Which chapter builds on which</summary>
{pictures}
</details>
```"""

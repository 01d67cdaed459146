"""What the book's pages get at build time: the map, the ledger, the errata, each
network against its paper; and on every chapter buttons, verdicts as cards, listings as
the files are today, and its place in the book. Needs no torch.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from . import (
    bench,
    cards,
    faithful,
    figures,
    front,
    ledger,
    listings,
    navigation,
    page,
    plan,
)

# {page: {what stands at the line <!-- made at build time: … -->: who makes it}}
MADE = {
    "book/intro": {"heart": front.heart, "score": front.score, "cards": front.cards},
    "book/how_to_use": {"minutes": plan.minutes},
    "book/ledger": {"ledger": ledger.page},
    "book/errata": {"errata": ledger.errata},
    "book/faithful": {"networks": faithful.page},
    "book/bench": {"bench": bench.page},
}


def fill(app, docname, source):
    if docname in MADE:
        for name, make in MADE[docname].items():
            hook = f"<!-- made at build time: {name} -->"
            if hook not in source[0]:
                raise ValueError(f"{docname}.md has no line {hook!r}")
            source[0] = source[0].replace(hook, make())
    elif docname.startswith("chapters/"):
        name, notebook = docname.removeprefix("chapters/"), json.loads(source[0])
        listings.renew(name, notebook)
        cards.deal(notebook)
        page.dress(name, notebook)
        source[0] = json.dumps(notebook)


def setup(app):
    figures.setup(app)
    app.connect("source-read", fill)
    app.connect("html-page-context", navigation.tell, priority=400)  # before the
    app.connect("html-page-context", navigation.number, priority=502)  # theme; after it
    # These pages read the notebooks, which may have moved.
    app.connect(
        "env-get-outdated", lambda app, env, added, changed, removed: list(MADE)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What the book's pages get at build time: the map, the ledger, the errata, each
network against its paper, and on every chapter its place in the book, the anchors of
its verdicts and the buttons that run it. Needs no torch.
"""

import sys
from pathlib import Path

from docutils import nodes

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from press import colab

from . import bench, faithful, figures, ledger, listings, plan

HOOK = "<!-- made at build time -->"
MADE = {
    "book/intro": plan.front_page,
    "book/how_to_use": plan.minutes,
    "book/ledger": ledger.page,
    "book/errata": ledger.errata,
    "book/faithful": faithful.page,
    "book/bench": bench.page,
}


def fill(app, docname, source):
    if docname in MADE:
        if HOOK not in source[0]:
            raise ValueError(f"{docname}.md has no line {HOOK!r}")
        source[0] = source[0].replace(HOOK, MADE[docname]())
    elif docname.startswith("chapters/"):
        source[0] = listings.renew(docname.removeprefix("chapters/"), source[0])


def anchor(app, tree):
    """Give each cell that decides a claim the anchor that the ledger links to, and a
    way back.
    """
    name = app.env.docname
    if not name.startswith("chapters/"):
        return
    decided = ledger.deciding_cells(ROOT / f"{name}.ipynb")
    for cell in tree.findall(nodes.container):
        names = (
            decided.get(cell["cell_index"], [])
            if cell.get("nb_element") == "cell_code"
            else []
        )
        for id in names:
            cell.insert(0, nodes.raw("", f'<span id="{id}"></span>', format="html"))
        if names:
            claim = names[0].split("-")[1]
            there = f"../book/ledger.html#{claim}"
            words = f"{claim.upper()} in the ledger"
            back = f'<a class="to-ledger" href="{there}">{words}</a>'
            cell.append(nodes.raw("", back, format="html"))


def place(app, tree, docname):
    """Below the card of a chapter: what it needs and where it leads."""
    if docname.startswith("chapters/"):
        card = next(tree.findall(nodes.block_quote))
        strip = nodes.raw(
            "", plan.neighbours(docname.removeprefix("chapters/")), format="html"
        )
        card.parent.insert(card.parent.index(card) + 1, strip)


def launch(app, pagename, templatename, context, doctree):
    """The rocket of a chapter: its readers' notebook on Colab and on Kaggle. The
    theme's own button leads to the file behind the page.
    """
    if not pagename.startswith("chapters/"):
        return
    icons = {"Colab": "_static/images/logo_colab.png", "Kaggle": "fa-brands fa-kaggle"}
    buttons = [
        {"type": "link", "text": where, "tooltip": f"Run it on {where}", "url": link,
         "icon": icons[where]}
        for where, link in colab.launchers(pagename.removeprefix("chapters/")).items()
    ]  # fmt: skip
    group = {"type": "group", "buttons": buttons, "icon": "fas fa-rocket",
             "tooltip": "Run this chapter", "label": "launch-buttons"}  # fmt: skip
    context["header_buttons"].insert(0, group)


def setup(app):
    figures.setup(app)
    app.connect("source-read", fill)
    app.connect("doctree-read", anchor)
    app.connect("doctree-resolved", place)
    app.connect("html-page-context", launch, priority=502)  # after the theme's buttons
    # These pages read the notebooks, which may have moved.
    app.connect(
        "env-get-outdated", lambda app, env, added, changed, removed: list(MADE)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}

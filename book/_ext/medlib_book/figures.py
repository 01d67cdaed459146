"""Figures on a page: the SVG that `plots.show` stored stands in it, in the page's own
colours; a caption's first sentence is its title.
"""

import re

from docutils import nodes
from myst_nb.core.render import load_mime_renders

from medlib.plots import SVG


class Inline:
    """myst-nb's renderer of the private type. It counts on the screen and in print; a
    builder that knows no HTML takes the PNG.
    """

    mime_priority_overrides = (("html", SVG, 1),)

    @staticmethod
    def handle_mime(renderer, data, inline):
        if data.mime_type == SVG:
            # A box that scrolls has to be reached by the keyboard.
            box = f'<div class="plot" tabindex="0">{data.string}</div>'
            return [nodes.raw("", box, format="html")]


def bold_titles(app, tree):
    """The first sentence of a caption, where others follow, in bold."""
    for caption in tree.findall(nodes.caption):
        if any(caption.findall(nodes.strong)):
            continue
        title = nodes.strong()
        for node in list(caption.children):
            end = isinstance(node, nodes.Text) and re.search(r"[.?!](?=\s)", node)
            if end and (cut := end.end()):
                title += nodes.Text(node[:cut])
                rest = [nodes.Text(node[cut:])]
                after = caption.children[caption.index(node) + 1 :]
                caption.children = []
                caption.extend([title, *rest, *after])
                break
            title += node.deepcopy()


def setup(app):
    renderers = load_mime_renders()  # by entry points, which a folder of ours has none
    if Inline not in renderers:
        renderers.append(Inline)
    app.connect("doctree-read", bold_titles)
    app.add_css_file("figures.css", priority=900)  # after the theme's and book.css
    app.add_js_file("figures.js")

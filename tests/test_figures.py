"""How a stored figure comes onto a page."""

import sys
from types import SimpleNamespace

import pytest
from docutils import nodes
from myst_nb.core.render import get_mime_priority, load_mime_renders

from medlib.plots import SVG
from press import text

sys.path.insert(0, str(text.ROOT / "book" / "_ext"))
from medlib_book import figures


@pytest.fixture
def app():
    added = SimpleNamespace(connect=lambda *a: None, add_js_file=lambda *a: None)
    added.add_css_file = lambda *a, **k: None
    before = list(load_mime_renders())
    yield added
    load_mime_renders()[:] = before


def test_html_takes_the_svg_and_what_knows_no_html_the_png(app):
    for _ in range(2):  # a second build in one process
        figures.setup(app)
    assert load_mime_renders().count(figures.Inline) == 1
    assert get_mime_priority("html", [])[0] == SVG
    assert SVG not in get_mime_priority("latex", [])


def test_the_svg_stands_in_the_page_as_it_was_stored():
    (node,) = figures.Inline.handle_mime(
        None, SimpleNamespace(mime_type=SVG, string="<svg/>"), False
    )
    assert isinstance(node, nodes.raw) and node["format"] == "html"
    assert node.astext() == '<div class="plot" tabindex="0"><svg/></div>'
    other = SimpleNamespace(mime_type="image/png", string="")
    assert figures.Inline.handle_mime(None, other, False) is None


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        (["A title. Then more. And more."], "A title."),
        (["All there is."], ""),
        (["Of ", nodes.emphasis("", "two"), " parts. More."], "Of two parts."),
        ([nodes.strong("", "Its own."), " First. Second."], "Its own."),
    ],
)
def test_the_first_sentence_of_a_caption_is_bold(parts, title):
    children = [nodes.Text(p) if isinstance(p, str) else p for p in parts]
    caption = nodes.caption("", "", *children)
    words = caption.astext()
    figures.bold_titles(None, caption)
    assert caption.astext() == words
    assert "".join(n.astext() for n in caption.findall(nodes.strong)) == title

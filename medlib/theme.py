"""The look of a figure: colours with one meaning each, the book's type, and an SVG that
takes its colours from the page around it, light or dark.
"""

import base64
import hashlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.style
from cycler import cycler
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageColor

# {name of the page's CSS variable: its value on white}
COLOURS = {
    "ink": "#1d2733",
    "soft": "#5b6776",
    "paper": "#ffffff",
    "tint": "#f5f7fa",
    "rule": "#dfe4ea",
    "accent": "#0b5cad",  # the arm that a chapter is about
    "rival": "#5f6b79",  # the baseline
    "fourth": "#00756b",
    "rv": "#3a86c8",
    "myo": "#b97f00",
    "lv": "#e4572e",
    "more": "#c2185b",  # what a network has too much
    "missed": "#0092b0",
    "supported": "#1b7f5c",
    "refuted": "#b3391f",
    "undecided": "#8f5e00",
    "nuanced": "#6b5aa8",
}
# How the arms of a plot are drawn, in order: `axis.plot(x, y, **ARMS[i])`. More than
# four are better told apart as small multiples.
ARMS: list[dict[str, Any]] = [
    {"color": COLOURS["accent"], "linestyle": "-"},
    {"color": COLOURS["rival"], "linestyle": "-"},
    {"color": COLOURS["ink"], "linestyle": "--"},
    {"color": COLOURS["fourth"], "linestyle": ":"},
    {"color": COLOURS["nuanced"], "linestyle": "-."},
    {"color": COLOURS["undecided"], "linestyle": (0, (5, 1))},
    {"color": COLOURS["more"], "linestyle": (0, (1, 1))},
]
FAMILY = "Medlib Sans"
STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": [FAMILY, "DejaVu Sans"],
    "font.size": 10,
    "mathtext.fontset": "custom",
    "mathtext.rm": FAMILY,
    "mathtext.it": f"{FAMILY}:italic",
    "mathtext.bf": f"{FAMILY}:bold",
    "mathtext.cal": FAMILY,
    "mathtext.sf": FAMILY,
    "mathtext.tt": FAMILY,
    "mathtext.fallback": "stixsans",
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "axes.edgecolor": COLOURS["soft"],
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 7),  # 1e6 would stand where the axis has its name
    "axes.prop_cycle": cycler(color=[arm["color"] for arm in ARMS]),
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["soft"],
    "xtick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.color": COLOURS["soft"],
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "image.cmap": "gray",
    "image.interpolation": "none",  # show the pixels that are there
}
YELLOW = "#f2b134"  # the myocardium over an image; on white it is darker
SMOOTH = "bicubic"  # how a medical image is shown, as by every viewer of them
FIXED = "fixed"  # the mark of what lies over a picture
COLUMN = 7.2  # inches: the width of the page's text
PIXELS = 100  # of the page, for an inch of a figure
EXACT = 256 * 256  # pixels up to which a picture in a figure loses nothing
SHADES = 64  # of a figure's picture, besides the book's colours
REFERENCE = r'url\(#([^)]*)\)|href="#([^"]*)"|aria-labelledby="([^"]*)"'
LETTERS = 10  # pixels of the smallest letter on a phone


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches. It and all that is drawn from now on have the
    book's style; to import this module changes nothing.
    """
    _register()
    matplotlib.style.use(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


@cache
def _register() -> None:
    """Source Sans, so that words are as wide here as on the page."""
    for file in sorted((Path(__file__).parent / "fonts").glob("*.ttf")):
        font_manager.fontManager.addfont(file)


def png(figure: Figure) -> bytes:
    """The figure on white, at two pixels for one of the page, in at most 256 colours,
    those of the book among them.
    """
    buffer, small = io.BytesIO(), io.BytesIO()
    shown = min(1, COLUMN / figure.get_figwidth())
    figure.savefig(buffer, format="png", dpi=2 * PIXELS * shown)
    picture = Image.open(buffer).convert("RGB")
    ours = [v for c in (*COLOURS.values(), YELLOW) for v in ImageColor.getrgb(c)]
    found = picture.quantize(SHADES).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(ours + found)
    exact = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    exact.save(small, "PNG", optimize=True)
    return min(buffer.getvalue(), small.getvalue(), key=len)


def svg(figure: Figure, title: str, alt: str) -> str:
    """The figure as an element for a page: without a size, a date or a style sheet, and
    with `var(--ink, #1d2733)` for #1d2733, which a page without variables shows too.
    Its title and `alt` are what a screen reader says.
    """
    for axis in figure.axes:
        if axis.images:  # black and white over a picture are so in both themes
            for artist in (*axis.lines, *axis.texts, *axis.collections, *axis.patches):
                artist.set_gid(FIXED)
    smooth = [
        image
        for axis in figure.axes
        for image in axis.images
        if image.get_interpolation() == SMOOTH
    ]
    for image in smooth:  # the browser does it, from the pixels that there are
        image.set(interpolation="none", gid=SMOOTH)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "medlib"}):
        figure.savefig(
            buffer,
            format="svg",
            facecolor="none",
            metadata={"Date": None},
        )
    for image in smooth:
        image.set_interpolation(SMOOTH)
    root = ElementTree.fromstring(buffer.getvalue())
    _bare(root)
    _coloured(root, fixed=False)
    sizes = [
        float(s) for s in re.findall(r"<text [^>]*font-size: ([\d.]+)", _text(root))
    ]
    width = figure.get_figwidth()
    least = LETTERS * 72 * width / min(sizes) if sizes else 0
    root.attrib |= {
        "role": "img",
        "aria-labelledby": "title alt",
        "style": f"min-width: {least:.0f}px; max-width: {PIXELS * width:.0f}px; "
        f"fill: {_variable(COLOURS['ink'])}; stroke-linejoin: round",
    }
    for tag, words in (("desc", alt), ("title", title)):
        node = ElementTree.Element(tag, id="alt" if tag == "desc" else tag)
        node.text = words
        root.insert(0, node)
    return _with_ids_of_its_own(_text(root))


def _text(root: ElementTree.Element) -> str:
    return ElementTree.tostring(root, encoding="unicode")


def _bare(node: ElementTree.Element) -> None:
    """Without namespaces, blanks between tags, digits that nobody sees, and what
    matplotlib says of itself."""
    node.tag, node.tail = node.tag.split("}")[-1], None
    if node.tag != "tspan" and not (node.text or "").strip():
        node.text = None
    old = {key.split("}")[-1]: value for key, value in node.attrib.items()}
    node.attrib.clear()
    for key, value in old.items():
        if key in ("d", "x", "y", "points"):
            value = re.sub(r"-?\d+\.\d+", lambda n: f"{round(float(n[0]), 2):g}", value)
        if key == "href" and value.startswith("data:"):
            value = _smaller(value)
        if not value.startswith(("rotate(0 ", "rotate(-0 ")):
            node.set(key, " ".join(value.split()))
    if node.tag == "svg":
        del node.attrib["width"], node.attrib["height"], node.attrib["version"]
    for child in list(node):
        if child.tag.endswith(("metadata", "style")):
            node.remove(child)
        else:
            _bare(child)


def _smaller(picture: str) -> str:
    """A PNG in a data URL as WebP: exact where it is small."""
    image = Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1])))
    buffer = io.BytesIO()
    exact = image.width * image.height <= EXACT
    image.save(buffer, "WEBP", lossless=exact, quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _coloured(node: ElementTree.Element, fixed: bool) -> None:
    """Colours as variables, but for what lies over a picture; letters in the page's
    own font."""
    style = re.sub(r"font-family: [^;]*;? ?", "", node.get("style", ""))
    if node.get("id", "").startswith(FIXED) and not fixed:
        fixed, style = True, "fill: #000000"
    if node.get("id", "").startswith(SMOOTH):
        style = ""  # it asks for pixels
    if not fixed:
        style = re.sub("#[0-9a-f]{6}", lambda colour: _variable(colour[0]), style)
    if style:
        node.set("style", style.rstrip("; "))
    for child in node:
        _coloured(child, fixed)


def _variable(colour: str) -> str:
    """The variable of a colour; a grey is so much ink on paper.

    >>> _variable("#1d2733"), _variable("#123456")
    ('var(--ink, #1d2733)', '#123456')
    >>> _variable("#cccccc")
    'color-mix(in srgb, var(--ink, #000000) 20%, var(--paper, #ffffff))'
    """
    for name, value in COLOURS.items():
        if colour == value:
            return f"var(--{name}, {value})"
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if red == green == blue:
        share = f"{100 - 100 * red / 255:.0f}%"
        return f"color-mix(in srgb, var(--ink, #000000) {share}, var(--paper, #ffffff))"
    return colour


def _with_ids_of_its_own(text: str) -> str:
    """Ids that no other figure on the page has, where something refers to them."""
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    used = {i for many in re.findall(REFERENCE, text) for i in "".join(many).split()}

    def renamed(found: re.Match) -> str:
        return f' id="{prefix}{found[1]}"' if found[1] in used else ""

    text = re.sub(r' id="([^"]*)"', renamed, text)
    text = text.replace("url(#", f"url(#{prefix}").replace(
        'href="#', f'href="#{prefix}'
    )
    return text.replace('"title alt"', f'"{prefix}title {prefix}alt"')

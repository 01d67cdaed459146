"""Text and lines can be seen: contrast, computed from the book's colours."""

import re
from pathlib import Path

import pytest

CSS = Path(__file__).parents[1] / "book" / "_static" / "colours.css"
TEXT = {"ink", "soft", "accent", "rival", "fourth", "more"}
TEXT |= {"supported", "refuted", "undecided", "nuanced"}
LINES = {"rv", "myo", "lv", "missed"}


def themes() -> dict[str, dict[str, str]]:
    """{theme: {role: its colour}}; the dark one takes over what it does not set."""
    sheet = CSS.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *(html\S*) \{(.*?)\}", sheet, re.MULTILINE | re.DOTALL)
    found = {name: dict(re.findall(r"--(\w+): (#\w{6})", b)) for name, b in blocks}
    dark = found["html"] | found['html[data-theme="dark"]']
    return {"light": found["html"], "dark": dark}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    """Of two colours, from 1 to 21, as WCAG 2 defines it."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "tint"])
def test_text_and_lines_stand_out(theme, ground):
    roles = themes()[theme]
    assert TEXT | LINES | {"paper", "tint", "rule"} == set(roles)
    shown = {role: contrast(roles[role], roles[ground]) for role in TEXT | LINES}
    assert [role for role in TEXT if shown[role] < 4.5] == []
    assert [role for role in LINES if shown[role] < 3] == []


def test_the_themes_differ():
    light, dark = themes().values()
    assert luminance(light["paper"]) > 0.9 and luminance(dark["paper"]) < 0.05


def test_every_name_that_the_page_uses_is_defined():
    defined = re.compile(r"(--[a-z][\w-]*):")
    sheets = [path.read_text("utf-8") for path in CSS.parent.glob("*.css")]
    known = {name for sheet in sheets for name in defined.findall(sheet)}
    used = {n for s in sheets for n in re.findall(r"var\((--[\w-]+)\)", s)}
    assert {name for name in used - known if not name.startswith("--pst-")} == set()

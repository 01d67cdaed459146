"""Listings on the pages: medlib as it is now, whatever the stored notebook shows."""

import json
import sys

import pytest

from press import text
from press.graph import Module

sys.path.insert(0, str(text.ROOT / "book" / "_ext"))
from medlib_book import listings


@pytest.mark.parametrize("source", text.sources(), ids=lambda p: p.stem)
def test_every_listing_is_the_file_as_it_is(source):
    page = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    listings.renew(source.stem, page)
    chapter = Module("chapter", "")
    for cell in (c for c in page["cells"] if c["cell_type"] == "code"):
        shown = [o for o in cell["outputs"] if listings.is_listing(o)]
        assert len(shown) == len(listings.asked("".join(cell["source"]), chapter))
        for output in shown:
            file, _, code = output["data"]["text/markdown"].partition(
                "`\n\n```python\n"
            )
            whole = (text.ROOT / file[1:]).read_text(encoding="utf-8")
            assert code.removesuffix("\n```") in whole


def test_a_listing_starts_at_its_decorator_and_ends_with_its_body():
    words = listings.output("medlib.train.predict")["data"]["text/markdown"]
    lines = words.splitlines()
    assert lines[0] == "`medlib/train.py`" and lines[3] == "@torch.no_grad()"
    assert lines[-2].strip().startswith("return") and lines[-1] == "```"

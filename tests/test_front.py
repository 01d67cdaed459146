"""The front page: the heart, the score, the cards."""

import json
import re
import sys

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from press import front as maker
from press import text
from press.ledger import ledger

sys.path.insert(0, str(text.ROOT / "book" / "_ext"))
import medlib_book
from medlib_book import front, plan


def soup(made):
    return BeautifulSoup(made, "html.parser")


def test_the_score_counts_every_claim_once():
    page = soup(front.score())
    numbers = [int(re.search(r"\d+$", li.text)[0]) for li in page.select("li")]
    grown = [int(re.search(r"\d+$", s["style"])[0]) for s in page.select(".score span")]
    assert sum(numbers) == len(ledger()) == 113 and numbers == grown


def test_each_chapter_has_a_card_with_its_question_and_a_small_picture():
    cards = {a["href"]: a for a in soup(front.cards()).select("a.card-of")}
    assert list(cards) == [f"../chapters/{file}.html" for file in plan.chapters()]
    for file, chapter in plan.chapters().items():
        card = cards[f"../chapters/{file}.html"]
        assert chapter["question"] in card.text and " min" in card.text
        assert card.img["src"].startswith("data:image/webp")
        assert len(card.img["src"]) < 40_000
    assert len(front.cards()) < 600_000


def test_the_sheet_holds_the_frames_that_the_page_moves_through():
    about = json.loads((maker.FOLDER / "beat.json").read_text(encoding="utf-8"))
    sheet = Image.open(maker.FOLDER / "beat.webp")
    assert sheet.width == about["frames"] * sheet.height
    assert "CC0" in about["caption"] and 400 < about["ms"] < 2000
    pixels = np.asarray(sheet, int)
    half = about["frames"] // 2 * sheet.height
    first, other = pixels[:, : sheet.height], pixels[:, half : half + sheet.height]
    assert np.abs(first - other).mean() > 2, "the heart moves"
    assert f'data-frames="{about["frames"]}"' in front.heart()


def test_the_quarter_turn_brings_what_is_below_to_the_left():
    x = np.zeros((2, 5, 5))
    x[:, 4, 2] = 1  # below the middle
    assert maker.lying_as_acdc(x)[:, 2, 0].all()


def test_a_page_without_its_line_is_refused():
    with pytest.raises(ValueError, match="book/ledger.md has no line .*: ledger -->"):
        medlib_book.fill(None, "book/ledger", ["# The ledger"])

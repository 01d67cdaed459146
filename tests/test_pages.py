"""What the build puts around a chapter's text: head, verdicts as cards, folded end."""

import json
import re
import sys
from collections import Counter

import pytest
from bs4 import BeautifulSoup

from press import colab, minutes, text

sys.path.insert(0, str(text.ROOT / "book" / "_ext"))
from medlib_book import cards, navigation, page, plan


def notebook(name):
    stored = text.FOLDER / f"{name}.ipynb"
    return json.loads(stored.read_text(encoding="utf-8"))


def outcome(low=0.1, effect=0.2, high=0.3, rule="> 0", id="C005", **more):
    """An output as medlib.claims leaves it."""
    record = {"id": id, "kind": "measured", "effect": effect, "low": low, "high": high,
              "n": 5, "where": "here", "verdict": "supported"} | more  # fmt: skip
    words = f"✔ **{id}**\n\n*It is more.* ± Measured (here): the rule is “{rule}”."
    data = {"text/markdown": [words]}
    return {"output_type": "display_data", "data": data,
            "metadata": {"medlib": {"claim": record}}}  # fmt: skip


def dealt(*outputs):
    """The outputs of one cell, after the cards were dealt."""
    cell = {"cell_type": "code", "outputs": list(outputs)}
    cards.deal({"cells": [cell]})
    return cell["outputs"]


def soup(output):
    return BeautifulSoup(output["data"]["text/html"], "html.parser")


# ---------------------------------------------------------------- cards


@pytest.mark.parametrize("source", text.sources(), ids=lambda p: p.stem)
def test_every_verdict_of_a_chapter_lies_on_a_card(source):
    page_, count = notebook(source.stem), Counter()
    outputs = [o for c in page_["cells"] for o in c.get("outputs", [])]
    count.update(filter(None, map(cards.claimed, outputs)))
    cards.deal(page_)
    outputs = [o for c in page_["cells"] for o in c.get("outputs", [])]
    assert not any(map(cards.claimed, outputs))
    code = "".join("".join(o.get("data", {}).get("text/html", "")) for o in outputs)
    assert len(re.findall(r'id="verdict-', code)) == count.total()
    assert "*" not in "".join(re.findall(r'class="about">(.*?)</p>', code, re.DOTALL))


def test_conditions_of_one_claim_share_a_card():
    other = {"output_type": "stream", "name": "stdout", "text": "a line"}
    made = dealt(outcome(), outcome(), outcome(id="C013"), other, outcome())
    assert [len(soup(o).select(".condition")) for o in made if o != other] == [2, 1, 1]
    assert made[2] is other
    ids = [e["id"] for o in made if o != other for e in soup(o).select(".condition")]
    assert ids == ["verdict-c005", "verdict-c005-2", "verdict-c013", "verdict-c005-3"]


def test_a_card_says_what_the_chapter_printed():
    (card,) = map(
        soup, dealt(outcome(rule="< 3", quantifier="at each", over="5 seeds"))
    )
    assert card.select_one(".sign strong").get_text() == "✔ supported"
    assert "± measured" in card.select_one(".sign").get_text()
    assert card.select_one(".about").get_text() == "It is more. Rule: < 3, at each."
    words = card.select_one(".condition").get_text(" ", strip=True)
    assert words == "here 5 seeds 3 0.2 [0.1, 0.3]"  # 3: the threshold, in the drawing


@pytest.mark.parametrize(
    ("verdicts", "quantifier", "whole"),
    [
        (["supported", "supported"], "at each", "supported"),
        (["supported", "undecided"], "at each", "undecided"),
        (["supported", "undecided"], "on average", "supported"),
        (["supported", "nuanced"], "on average", "nuanced"),  # the first edition's
    ],
)
def test_the_verdict_of_several_conditions(verdicts, quantifier, whole):
    made = [outcome(verdict=v, quantifier=quantifier) for v in verdicts]
    assert soup(dealt(*made)[0]).select_one(f".verdict.{whole} .sign strong")


def test_the_interval_is_drawn_against_its_rule():
    (card,) = map(soup, dealt(outcome(-1, 0.5, 1)))
    rule, line = card.select("line")
    assert float(rule["x1"]) == cards.WIDTH / 2  # 0, halfway from −1 to 1
    assert [float(line[x]) for x in ("x1", "x2")] == [cards.MARGIN, 200 - cards.MARGIN]
    assert float(card.circle["cx"]) == cards.MARGIN + 0.75 * (200 - 2 * cards.MARGIN)


def test_a_rule_with_two_sides_has_two_lines_and_an_open_end_none():
    (card,) = map(soup, dealt(outcome(None, 0.1, 0.2, rule="within 0.5")))
    first, second, line = card.select("line")
    assert first["class"] == second["class"] == ["rule"] and line["x1"] == "0"
    assert [e.get_text() for e in card.select("text")] == ["−0.5", "0.5"]


def test_what_is_counted_has_no_interval():
    (card,) = map(soup, dealt(outcome(3, 3, 3, rule="= 0", kind="counted")))
    assert card.svg is None and card.select_one(".condition b").get_text() == "3"


# ---------------------------------------------------------------- head and end


@pytest.mark.parametrize("name", ["01_images", "11_unet_hearts"])
def test_buttons_stand_under_the_question_and_the_run_at_the_end(name):
    dressed = notebook(name)
    page.dress(name, dressed)
    title, question, top = dressed["cells"][0]["source"].split("\n\n")[:3]
    assert title == f"# {plan.chapters()[name]['title']}" and question[0] == "*"
    links = re.findall(r'href="([^"]+)"', top)
    assert links == [*colab.launchers(name).values(), colab.file(name)]
    end = dressed["cells"][-1]["source"]
    assert end.startswith("<details") and "This chapter's run" in end
    assert "Cite this chapter" in end and "Builds on" in end
    assert sum("card" in text.tags(c) for c in dressed["cells"]) == 1
    older = "of an older version" in top
    assert older == ("outputs_of" in dressed["metadata"]["medlib"])


def test_a_folded_cell_says_what_is_in_it():
    shown = {"metadata": {"medlib": {"figure": {"name": None}}}}
    cells = [
        {"source": ["# @title Sizes\n", "x = 1"], "metadata": {}, "outputs": [shown]},
        {"source": "x = 1", "metadata": {}, "outputs": [shown]},
        {"source": "x = 1", "metadata": {}, "outputs": []},
    ]
    for cell in cells:
        page.label_fold(cell)
    labels = [cell["metadata"]["mystnb"]["code_prompt_show"] for cell in cells]
    assert labels == ["Sizes", "How this figure was made", "The code of this step"]


def test_reading_takes_words_code_and_figures_but_no_solution():
    def cell(kind, source, tags=(), outputs=()):
        return {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)},
                "outputs": list(outputs)}  # fmt: skip

    words = cell("markdown", "word " * 750)  # 10 minutes
    solution = "```{solution} ex-a\n" + "word " * 750 + "\n```"
    figure = {"data": {"image/png": ""}}
    code = "x = 1\n" * 50  # 5 minutes
    assert minutes.reading({"cells": [words]}) == 10
    cells = [words, cell("markdown", solution), cell("code", code, ["hide-input"])]
    assert minutes.reading({"cells": cells}) == 10
    assert minutes.reading({"cells": [*cells, cell("code", code)]}) == 15
    figures = cell("code", "", outputs=[figure] * 10)
    assert minutes.reading({"cells": [*cells, figures]}) == 20


# ---------------------------------------------------------------- the lists


def test_the_sidebar_sets_numbers_apart():
    links = '<a class="internal">11. U-Net</a><a class="internal">2D or 3D</a>'
    made = navigation.apart(BeautifulSoup(links, "html.parser"))
    again = navigation.apart(made)  # the theme keeps what it made
    shown = [(a.span.get_text(), a.span.next_sibling) for a in again.select("a")]
    assert shown == [("11", "U-Net"), ("·", "2D or 3D")]


def test_parts_go_on_where_a_list_has_no_caption():
    parts = plan.parts()
    assert parts["From AlexNet to EfficientNet"][-1] == "07_tournament"
    assert parts["The heart"][0] == "11_unet_hearts"
    numbers = [c["number"] for c in plan.chapters().values()]
    assert [n for n in numbers if n != "–"] == [f"{i:02}" for i in range(1, 22)]

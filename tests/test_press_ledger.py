"""The ledger shows what the stored notebooks recorded."""

import json
import math
import sys

import pytest

from medlib import claims
from press import ledger as page
from press import text
from press.ledger import WAITS, first_edition, ledger, scores
from press.text import FOLDER
from press.waiting import waiting

sys.path.insert(0, str(text.ROOT / "book" / "_ext"))
from medlib_book import ledger as shown


def judged(record):
    """The verdict that the claim's rule gives to the numbers of a record."""
    rule = claims.claim(record["id"]).get("rule")
    return claims.verdict(rule, *ends(record)) if rule else "not testable here"


def ends(record):
    """The interval of a record; an open end is null in JSON."""
    low, high = record["low"], record["high"]
    return -math.inf if low is None else low, math.inf if high is None else high


def test_verdicts_are_those_of_the_records_and_waiting_chapters_are_not_judged_anew():
    rows, late = ledger(), waiting()
    seen = [(row, r) for row in rows for r in row["records"]]
    assert len(rows) == 113 and seen
    for row, r in seen:
        if r["notebook"] in late or "kind" not in r:
            assert row["verdict"] == WAITS and row["first"] in claims.SYMBOL
        else:
            assert r["verdict"] == judged(r) and r["kind"] == row["kind"]


def test_written_chapters_decide_their_claims():
    written = {path.name[:2] for path in FOLDER.glob("[0-9][0-9]_*.ipynb")}
    assert not [
        r["id"]
        for r in ledger()
        if r["chapter"] in written and r["verdict"] == "planned"
    ]


def test_kinds_are_counted_apart_and_each_claim_once():
    found = scores(ledger())
    assert set(found) == set(claims.MARK)
    assert sum(number.total() for number in found.values()) == 113
    assert set(found["none"]) <= {"not testable here", WAITS}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Writes notebooks with these records into an empty folder, and who waits."""
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    monkeypatch.setattr("press.text.FOLDER", tmp_path)

    def write(late=(), **found):
        for name, seen in found.items():
            outputs = [{"metadata": {"medlib": {"claim": r}}} for r in seen]
            cells = [{"cell_type": "code", "outputs": outputs}]
            words = json.dumps({"cells": cells})
            (tmp_path / f"{name}.ipynb").write_text(words, encoding="utf-8")
        (tmp_path / "waiting.txt").write_text("\n".join(late), encoding="utf-8")
        return {row["id"]: row for row in ledger()}

    return write


def old(id, verdict):
    return {"id": id, "verdict": verdict}


def record(id, verdict):
    return {"id": id, "verdict": verdict, "kind": claims.claim(id)["kind"]}


THEN = [("C008", "refuted"), ("C008", "nuanced"), ("C007", "nuanced")]
NOW = [("C008", "refuted"), ("C008", "undecided"), ("C007", "undecided")]


@pytest.mark.parametrize("late", [["02_a"], []])
def test_a_rerun_turns_an_old_verdict_into_a_new_one(shelf, late):
    before = shelf(late=late, **{"02_a": [old(*r) for r in THEN]})
    assert [before[id]["verdict"] for id in ("C008", "C007")] == [WAITS, WAITS]
    assert [before[id]["first"] for id in ("C008", "C007")] == ["nuanced", "nuanced"]
    after = shelf(**{"02_a": [record(*r) for r in NOW]})
    assert [after[id]["verdict"] for id in ("C008", "C007")] == ["refuted", "undecided"]
    assert "first" not in after["C008"]


def test_a_claim_waits_for_all_of_its_chapters(shelf):
    here, there = [record("C091", "supported")], [record("C091", "refuted")]
    row = shelf(late=["09_b"], **{"08_a": here, "09_b": there})["C091"]
    assert (row["verdict"], row["first"]) == (WAITS, "refuted")
    row = shelf(**{"08_a": here, "09_b": there})["C091"]
    assert row["verdict"] == "nuanced"


def test_only_a_claim_with_a_rule_needs_a_record_and_each_its_chapter(shelf):
    rows = shelf(**{"06_a": []})
    assert rows["C049"]["verdict"] == rows["C002"]["verdict"] == "not testable here"
    assert rows["C052"]["verdict"] == rows["C048"]["verdict"] == "planned"


@pytest.mark.parametrize(
    "verdicts, expected",
    [
        (["refuted", "refuted"], "refuted"),
        (["supported", "nuanced"], "nuanced"),
        (["not testable here"], "not testable here"),
    ],
)
def test_the_first_edition_called_all_that_differs_nuanced(verdicts, expected):
    assert first_edition(verdicts) == expected


# ---------------------------------------------------------------- the page

MEASURED = {
    "id": "C008", "kind": "measured", "quantifier": "at each", "effect": 0.0213,
    "low": None, "high": 0.03, "n": 624, "over": "5 seeds and 624 cases",
    "where": "50 X-rays", "verdict": "undecided",
}  # fmt: skip
THEN_OF_IT = {
    "id": "C008", "effect": 0.5, "low": 0.4, "high": 0.6, "n": 3, "where": "50 X-rays",
    "verdict": "nuanced",
}  # fmt: skip


def test_a_row_wears_its_kind_and_shows_what_the_interval_is_over(shelf):
    row = shown.row(shelf(**{"02_a": [MEASURED]})["C008"])
    assert '<span class="kind">± measured</span>' in row and "`> 0`, at each." in row
    assert "? **undecided**" in row
    assert "**0.0213** [−∞, 0.03], 5 seeds and 624 cases" in row


def test_a_row_that_waits_repeats_the_old_verdict_and_none_of_its_numbers(shelf):
    row = shown.row(shelf(late=["02_a"], **{"02_a": [THEN_OF_IT]})["C008"])
    assert "… **first edition: ≈ nuanced**, waits for a rerun" in row
    assert "#verdict-c008" in row and "0.5" not in row and "0.4" not in row


def test_the_table_of_kinds_adds_up_and_names_only_the_measured_experiments(shelf):
    rows = list(shelf(late=["08_b"], **{"02_a": [MEASURED], "08_b": []}).values())
    head, _, *lines = shown.score(rows).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert sum(int(c[1]) for c in cells) == 113
    assert all(sum(int(n or 0) for n in c[2:]) == int(c[1]) for c in cells)
    assert [c[0] for c in cells if "an experiment" in c[0]] == [
        "± measured: an experiment"
    ]
    undecided = [c.strip() for c in head.strip("|").split("|")].index("?")
    assert [c[undecided] for c in cells] == ["1", "", "", "", ""]

"""The ledger shows what the stored notebooks recorded."""

import json
import math

import pytest

from medlib import claims
from press import ledger as page
from press.ledger import WAITS, first_edition, ledger, scores
from press.text import FOLDER
from press.waiting import waiting


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
    here, there = [record("C075", "supported")], [record("C075", "refuted")]
    row = shelf(late=["09_b"], **{"08_a": here, "09_b": there})["C075"]
    assert (row["verdict"], row["first"]) == (WAITS, "refuted")
    row = shelf(**{"08_a": here, "09_b": there})["C075"]
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

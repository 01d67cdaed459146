"""The ledger shows what the stored notebooks recorded."""

import math

from medlib import claims
from press.ledger import ledger
from press.text import FOLDER


def test_ledger_verdicts_are_those_of_the_records():
    rows = ledger()
    seen = [(row, r) for row in rows for r in row["records"]]
    assert len(rows) == 113 and seen
    for row, r in seen:
        assert r["verdict"] == (
            claims.verdict(row["rule"], *ends(r))
            if "rule" in row
            else "not testable here"
        )


def ends(record):
    """The interval of a record; an open end is null in JSON."""
    low, high = record["low"], record["high"]
    return -math.inf if low is None else low, math.inf if high is None else high


def test_written_chapters_decide_their_claims():
    written = {path.name[:2] for path in FOLDER.glob("[0-9][0-9]_*.ipynb")}
    assert not [
        r["id"]
        for r in ledger()
        if r["chapter"] in written and r["verdict"] == "planned"
    ]

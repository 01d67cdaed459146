"""The ledger shows what the stored notebooks recorded."""

from medlib import claims
from press.ledger import ledger
from press.text import FOLDER


def test_ledger_verdicts_are_those_of_the_records():
    rows = ledger()
    seen = [(row, r) for row in rows for r in row["records"]]
    assert len(rows) == 113 and seen
    for row, r in seen:
        assert r["verdict"] == (
            claims.verdict(row["rule"], r["low"], r["high"])
            if "rule" in row
            else "not testable here"
        )


def test_written_chapters_decide_their_claims():
    written = {path.name[:2] for path in FOLDER.glob("[0-9][0-9]_*.ipynb")}
    assert not [
        r["id"]
        for r in ledger()
        if r["chapter"] in written and r["verdict"] == "planned"
    ]

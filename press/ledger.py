"""The ledger: every claim of the review beside what the executed notebooks recorded."""

import json
from collections import Counter
from pathlib import Path

from medlib.claims import claims, combine
from press.text import FOLDER
from press.waiting import waiting

WAITS = "waits for a rerun"


def records(notebook: Path) -> list[dict]:
    """The records that `observe` and `untestable` left in an executed notebook. Those
    of the first edition have no kind, and say nuanced where we say undecided.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    marks = [o.get("metadata", {}).get("medlib", {}) for o in outputs]
    return [mark["claim"] for mark in marks if "claim" in mark]


def ledger() -> list[dict]:
    """One row a claim: the claim, its records, its verdict: one of the five, WAITS
    until each chapter that decides it has run again, or "planned" where its chapter is
    not written. A row that waits says what the first edition had found, as `first`;
    nothing is judged anew from the numbers of then.
    """
    found: dict[str, list[dict]] = {}
    names = [path.stem for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))]
    for name in names:
        for record in records(FOLDER / f"{name}.ipynb"):
            found.setdefault(record["id"], []).append(record | {"notebook": name})
    late, written = waiting(), {name[:2] for name in names}
    rows = []
    for claim in claims().values():
        seen = found.get(claim["id"], [])
        old = [r["verdict"] for r in seen if r["notebook"] in late or "kind" not in r]
        row = claim | {"records": seen}
        if old:
            row |= {"verdict": WAITS, "first": first_edition(old)}
        elif "reason" in claim and claim["chapter"] in written | {""}:
            row["verdict"] = "not testable here"
        elif seen:
            verdicts = [record["verdict"] for record in seen]
            row["verdict"] = combine(verdicts, claim.get("quantifier", "on average"))
        else:
            row["verdict"] = "planned"
        rows.append(row)
    return rows


def first_edition(verdicts: list[str]) -> str:
    """What the first edition made of several conditions: any two that differ, of
    whatever kind the claim, were nuanced.
    """
    return verdicts[0] if len(set(verdicts)) == 1 else "nuanced"


def scores(rows: list[dict]) -> dict[str, Counter]:
    """{kind: how many of its claims have each verdict}."""
    return {
        kind: Counter(row["verdict"] for row in rows if row["kind"] == kind)
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }

"""The ledger: every claim of the review beside what the executed notebooks recorded."""

import json
from pathlib import Path

from medlib.claims import claims, combine
from press.text import FOLDER


def records(notebook: Path) -> list[dict]:
    """The records that `observe` and `untestable` left in an executed notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    marks = [o.get("metadata", {}).get("medlib", {}) for o in outputs]
    return [mark["claim"] for mark in marks if "claim" in mark]


def ledger() -> list[dict]:
    """One row a claim: the claim, its records, its verdict ("planned" where its chapter
    is not written).
    """
    found: dict[str, list[dict]] = {}
    written = set()
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")):
        written.add(path.name[:2])
        for record in records(path):
            found.setdefault(record["id"], []).append(record | {"notebook": path.stem})
    rows = []
    for claim in claims().values():
        seen = found.get(claim["id"], [])
        if seen:
            verdict = combine([record["verdict"] for record in seen])
        elif "reason" in claim and (
            not claim["chapter"] or claim["chapter"] in written
        ):
            verdict = "not testable here"
        else:
            verdict = "planned"
        rows.append(claim | {"records": seen, "verdict": verdict})
    return rows

"""The ledger and the errata: book/claims.toml beside what the executed notebooks
recorded.
"""

import json
import re
from collections import Counter
from pathlib import Path

from medlib import claims
from press.ledger import ledger

from . import plan

SYMBOL = claims.SYMBOL | {"planned": "…"}
HEAD = """\
| Claim | What the literature says | Prediction and rule | Verdict |
| --- | --- | --- | --- |"""


def anchor(id: str, k: int) -> str:
    """Of a claim's k-th record in a notebook: verdict-c045, then verdict-c045-2 …"""
    return f"verdict-{id.lower()}" + (f"-{k}" if k > 1 else "")


def deciding_cells(notebook: Path) -> dict[int, list[str]]:
    """{index of a cell: the anchors of the claims that it decides}."""
    seen, found = Counter(), {}
    for i, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        for output in cell.get("outputs", []):
            if claim := output.get("metadata", {}).get("medlib", {}).get("claim"):
                seen[claim["id"]] += 1
                found.setdefault(i, []).append(anchor(claim["id"], seen[claim["id"]]))
    return found


def cell(text: str) -> str:
    return re.sub(r"([|$])", r"\\\1", text)


def counts(states, names) -> str:
    number = Counter(states)
    return " · ".join(
        f"{SYMBOL.get(name, '')} {number[name]} {name}".strip() for name in names
    )


def cited(claim: dict) -> str:
    return f" {{cite:p}}`{','.join(claim['source'])}`" if claim["source"] else ""


def links(claim: dict) -> list[str]:
    """For each record of the claim a link to the cell that made it, in the order of the
    records.
    """
    seen, found = Counter(), []
    for record in claim["records"]:
        name = record["notebook"]
        seen[name] += 1
        found.append(f"../chapters/{name}.html#{anchor(claim['id'], seen[name])}")
    return found


def row(claim: dict) -> str:
    if "rule" in claim:
        test = f"{cell(claim['predicts'])} Rule: `{claim['rule']}`."
    else:
        test = f"No experiment decides this. {cell(claim['reason'])}"
    verdict = f"{SYMBOL[claim['verdict']]} **{claim['verdict']}**"
    for r, link in zip(claim["records"], links(claim), strict=True):
        if "effect" in r:
            low, high = (
                f"{r['low']:.3g}" if r["low"] is not None else "−∞",
                f"{r['high']:.3g}" if r["high"] is not None else "∞",
            )
            interval = (
                "" if r["low"] == r["effect"] == r["high"] else f" [{low}, {high}]"
            )
            where = f'<a href="{link}">{cell(r["where"])}</a>'
            number = f"n\u00a0=\u00a0{r['n']:,}"
            verdict += f"<br>{where}: **{r['effect']:.4g}**{interval}, {number}"
        else:
            verdict += f'<br><a href="{link}">where the chapter says so</a>'
    return (
        f"| [**{claim['id']}**]{{#{claim['id'].lower()}}} “{cell(claim['quote'])}” "
        f"(section {claim['section']}) "
        f"| **{claim['literature'].capitalize()}.** "
        f"{cell(claim['why'])}{cited(claim)} | {test} | {verdict} |"
    )


def page() -> str:
    """All claims, grouped by chapter."""
    rows = ledger()
    title = {
        number: f"{number}: [{c['title']}](../chapters/{c['file']}.ipynb)"
        for c in plan.chapters().values()
        if (number := c["number"]) != "–"
    }
    tested = counts((r["verdict"] for r in rows), SYMBOL)
    kinds = ("right", "imprecise", "wrong", "unsupported")
    lines = [
        f"**{len(rows)} claims.** By experiment: {tested}.",
        f"In the literature: {counts((r['literature'] for r in rows), kinds)}.",
        '```{raw} html\n<form id="ledger-filter" class="filter" hidden></form>\n```',
    ]
    for number in sorted(
        {r["chapter"] for r in rows}, key=lambda number: number or "99"
    ):
        lines.append(f"## {title[number]}" if number else "## In no chapter")
        body = "\n".join(row(r) for r in rows if r["chapter"] == number)
        lines.append(f"::::{{div}} ledger\n{HEAD}\n{body}\n::::")
    return "\n\n".join(lines)


def errata() -> str:
    """What is wrong or imprecise in the review, what is right, and where the book shows
    it.
    """
    rows = ledger()
    lines = []
    for kind in ("wrong", "imprecise"):
        chosen = [r for r in rows if r["literature"] == kind]
        lines += [f"## {kind.capitalize()}: {len(chosen)} places", "::::{div} ledger"]
        lines += [
            "| The review says | The sources say | Where the book shows it |",
            "| --- | --- | --- |",
        ]
        for r in chosen:
            place = f"ledger.html#{r['id'].lower()}"
            verdict = f"{SYMBOL[r['verdict']]} {r['verdict']}"
            shown = f'<a href="{place}">{r["id"]}</a>: {verdict}'
            if r["records"]:
                name = plan.chapters()[r["records"][0]["notebook"]]["title"]
                shown = f'<a href="{links(r)[0]}">{cell(name)}</a><br>{shown}'
            lines.append(
                f"| “{cell(r['quote'])}” (section {r['section']}) | "
                f"{cell(r['why'])}{cited(r)} | {shown} |"
            )
        lines.append("::::\n")
    return "\n".join(lines)

"""The ledger and the errata: book/claims.toml beside what the executed notebooks
recorded.
"""

import re
from collections import Counter

from medlib.claims import MARK, SYMBOL
from press.ledger import WAITS, ledger, scores

from . import plan

# Verdicts, and where there is none yet.
STATE = SYMBOL | {WAITS: "…", "planned": "…"}
HEAD = """\
| Claim | What the literature says | Prediction and rule | Verdict |
| --- | --- | --- | --- |"""


def anchor(id: str, k: int) -> str:
    """Of a claim's k-th record in a notebook: verdict-c045, then verdict-c045-2 …"""
    return f"verdict-{id.lower()}" + (f"-{k}" if k > 1 else "")


def cell(text: str) -> str:
    return re.sub(r"([|$])", r"\\\1", text)


def counts(states, names) -> str:
    number = Counter(states)
    return " · ".join(
        f"{STATE.get(name, '')} {number[name]} {name}".strip() for name in names
    )


def score(rows: list[dict]) -> str:
    """A table: how many claims of each kind have each verdict. Only what is measured
    is an experiment.
    """
    states = [*SYMBOL, WAITS] + ["planned"] * any(
        r["verdict"] == "planned" for r in rows
    )
    found = scores(rows)
    # The signs alone, which the page explains above: the table fits a telephone.
    lines = [
        "| Kind | all | " + " | ".join(STATE[s] for s in states) + " |",
        "| --- |" + " ---: |" * (len(states) + 1),
    ]
    words = {"none": "no experiment", "measured": "measured: an experiment"}
    for kind, mark in MARK.items():
        shown = [str(found[kind][s] or "") for s in states]
        name = f"{mark} {words.get(kind, kind)}"
        lines.append(f"| {name} | {found[kind].total()} | {' | '.join(shown)} |")
    return "\n".join(lines)


def state(row: dict) -> str:
    """The verdict of a claim, with its sign."""
    if "first" in row:
        old = f"first edition: {SYMBOL[row['first']]} {row['first']}"
        return f"{STATE[WAITS]} **{old}**, {WAITS}"
    return f"{STATE[row['verdict']]} **{row['verdict']}**"


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


def evidence(record: dict, link: str) -> str:
    """What one condition gave, with a link to the cell that says so. Of a record of
    the first edition, which has no kind, the link alone.
    """
    if "where" not in record:
        return f'<br><a href="{link}">where the chapter says so</a>'
    where = f'<br><a href="{link}">{cell(record["where"])}</a>'
    if "kind" not in record:
        return where
    shown = f"**{record['effect']:.4g}**"
    if record["kind"] == "measured":
        low = "−∞" if record["low"] is None else f"{record['low']:.3g}"
        high = "∞" if record["high"] is None else f"{record['high']:.3g}"
        shown += f" [{low}, {high}]"
    rests_on = cell(record.get("over") or f"n\u00a0=\u00a0{record['n']:,}")
    return f"{where}: {shown}, {rests_on}"


def row(claim: dict) -> str:
    kind = f'<span class="kind">{MARK[claim["kind"]]} {claim["kind"]}</span>'
    if "rule" in claim:
        quantifier = f", {claim['quantifier']}" if "quantifier" in claim else ""
        test = f"{kind}. {cell(claim['predicts'])} "
        test += f"Rule: `{claim['rule']}`{quantifier}."
    else:
        test = f"{kind}: no experiment decides this. {cell(claim['reason'])}"
    verdict = state(claim)
    for record, link in zip(claim["records"], links(claim), strict=True):
        verdict += evidence(record, link)
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
        number: f"{number}: [{c['title']}](../chapters/{file}.ipynb)"
        for file, c in plan.chapters().items()
        if (number := c["number"]) != "–"
    }
    answers = ("right", "imprecise", "wrong", "unsupported")
    lines = [
        f"**{len(rows)} claims**, by the kind of evidence:",
        score(rows),
    ]
    if old := [r["first"] for r in rows if "first" in r]:
        lines.append(
            f"In the first edition the {len(old)} that wait were: "
            f"{counts(old, [name for name in SYMBOL if name in old])}."
        )
    lines += [
        f"In the literature: {counts((r['literature'] for r in rows), answers)}.",
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
            shown = f'<a href="{place}">{r["id"]}</a>: {MARK[r["kind"]]} {state(r)}'
            if r["records"]:
                name = plan.chapters()[r["records"][0]["notebook"]]["title"]
                shown = f'<a href="{links(r)[0]}">{cell(name)}</a><br>{shown}'
            lines.append(
                f"| “{cell(r['quote'])}” (section {r['section']}) | "
                f"{cell(r['why'])}{cited(r)} | {shown} |"
            )
        lines.append("::::\n")
    return "\n".join(lines)

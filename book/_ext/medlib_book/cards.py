"""Verdicts as cards: sign, word and kind, the quotation, and the interval drawn against
its rule.
"""

import re
from collections import Counter
from html import escape
from itertools import groupby

from medlib.claims import MARK, SYMBOL, claim, combine

from .ledger import anchor

SHOWN = re.compile(
    r"\n\n\*(?P<predicts>.+?)\* .*the rule is “(?P<rule>[^”]+)”", re.DOTALL
)
WIDTH, MARGIN, MIDDLE = 200, 12, 11  # of a drawing, in px


def deal(notebook: dict) -> None:
    """Put a card in the place of each claim's verdicts, in a chapter's notebook."""
    seen: Counter[str] = Counter()
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        outputs = []
        for id, group in groupby(cell["outputs"], key=claimed):
            same = list(group)
            outputs += [html(card(id, same, seen))] if id else same
        cell["outputs"] = outputs


def html(code: str) -> dict:
    data = {"text/html": code}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def claimed(output: dict) -> str | None:
    """The id of the claim that an output decides."""
    return record(output).get("id")


def record(output: dict) -> dict:
    return output.get("metadata", {}).get("medlib", {}).get("claim", {})


def card(id: str, outputs: list[dict], seen: Counter[str]) -> str:
    """One claim, with a row for each condition; `seen` counts its records so far."""
    words = "".join(outputs[0]["data"]["text/markdown"])
    told = SHOWN.search(words)  # as it was when the chapter ran
    records = [record(output) for output in outputs]
    verdict = overall(records)
    about = words.partition("\n\n")[2]
    if told:
        quantifier = records[0].get("quantifier", "")
        about = f"{told['predicts']} Rule: {told['rule']}"
        about += f", {quantifier}." if quantifier else "."
    kind = records[0].get("kind")
    kinds = {None: "first edition", "none": "no experiment"}
    mark = kinds.get(kind) or f"{MARK[kind]} {kind}"
    rows = []
    for one in records:
        seen[id] += 1
        rows.append(
            condition(one, told and told["rule"], records, anchor(id, seen[id]))
        )
    there = f"../book/ledger.html#{id.lower()}"
    return f"""<div class="verdict {css(verdict)}">
<div class="sign"><strong><span>{SYMBOL[verdict]}</span> {verdict}</strong>
<span>{mark}</span> <a href="{there}" aria-label="{id} in the ledger">{id}</a></div>
<div class="said"><p>“{escape(claim(id)["quote"])}”</p>
<p class="about">{escape(about)}</p>
{"".join(rows)}</div></div>"""


def overall(records: list[dict]) -> str:
    """The verdict of all conditions in a card."""
    verdicts = {one["verdict"] for one in records}
    if len(verdicts) == 1:
        return verdicts.pop()
    if "nuanced" in verdicts:  # the first edition's word for an open interval
        return "nuanced"
    return combine(verdicts, records[0].get("quantifier", "on average"))


def css(verdict: str) -> str:
    return verdict.split()[0]  # supported, …, not


def condition(one: dict, rule: str, records: list[dict], name: str) -> str:
    """What one condition gave: where, the drawing, the numbers."""
    if not rule:  # not testable
        return f'<span id="{name}"></span>'
    rests_on = one.get("over", f"n = {one['n']:,}")
    value, picture = f"<b>{number(one['effect'])}</b>", ""
    if one["low"] != one["high"]:
        ends = number(one["low"], "−∞"), number(one["high"], "∞")
        value += f" <small>[{', '.join(ends)}]</small>"
        picture = interval(one, rule, records)
    return f"""<div class="condition {css(one["verdict"])}" id="{name}">
<span>{escape(one["where"])} <small>{escape(rests_on)}</small></span>
{picture}<span>{value}</span></div>
"""


def number(x: float | None, open_end: str = "") -> str:
    if x is None:
        return open_end
    digits = f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2g}" if abs(x) < 1 else f"{x:.3g}"
    return digits.replace("-", "−")


def interval(one: dict, rule: str, records: list[dict]) -> str:
    """An SVG: the interval, and a dashed line at each threshold of the rule, all
    conditions of a card on one scale, which the last one names.
    """
    sign, limit = rule.split()
    limits = {-float(limit), float(limit)} if sign == "within" else {float(limit)}
    ends = [one[end] for one in records for end in ("low", "effect", "high")]
    known = [*limits, *(end for end in ends if end is not None)]
    low, high = min(known), max(known)

    def at(x: float) -> float:
        return round(MARGIN + (x - low) / (high - low or 1) * (WIDTH - 2 * MARGIN), 1)

    start = 0 if one["low"] is None else at(one["low"])
    stop = WIDTH if one["high"] is None else at(one["high"])
    named = 14 if one is records[-1] else 0
    dashed = "".join(
        f'<line class="rule" x1="{at(x)}" x2="{at(x)}" y1="0" y2="{2 * MIDDLE}"/>'
        + (f'<text x="{at(x)}" y="{2 * MIDDLE + 11}">{number(x)}</text>' * bool(named))
        for x in sorted(limits)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {2 * MIDDLE + named}" width="{WIDTH}" '
        f'height="{2 * MIDDLE + named}" aria-hidden="true">{dashed}'
        f'<line x1="{start}" x2="{stop}" y1="{MIDDLE}" y2="{MIDDLE}"/>'
        f'<circle cx="{at(one["effect"])}" cy="{MIDDLE}" r="4.5"/></svg>'
    )

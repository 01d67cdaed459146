"""Fills the ledger page at build time: claims.toml beside what the executed notebooks recorded."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from medlib import claims

PAGE, HOOK = "book/ledger", "<!-- the ledger stands here -->"
SYMBOL = claims.SYMBOL | {"planned": "…"}
HEAD = "| Claim | What the literature says | Prediction and rule | Verdict |\n| --- | --- | --- | --- |"


def titles() -> dict[str, str]:
    """Chapter titles by number: the written ones from their notebooks, the rest from the map in intro.md."""
    plan = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| (\d\d) \| ([^|]+?) \|", plan, re.MULTILINE))
    # Where two pages share a number, the chapter comes first in the alphabet and lends its title.
    for path in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"), reverse=True):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        found[path.name[:2]] = f"[{first.splitlines()[0].lstrip('# ')}](../chapters/{path.name})"
    return found


def cell(text: str) -> str:
    return re.sub(r"([|$])", r"\\\1", text)


def counts(states, names) -> str:
    number = Counter(states)
    return " · ".join(f"{SYMBOL.get(name, '')} {number[name]} {name}".strip() for name in names)


def row(claim: dict) -> str:
    cited = f" {{cite:p}}`{','.join(claim['source'])}`" if claim["source"] else ""
    if "rule" in claim:
        test = f"{cell(claim['predicts'])} Rule: `{claim['rule']}`."
    else:
        test = f"No experiment decides this. {cell(claim['reason'])}"
    verdict = f"{SYMBOL[claim['verdict']]} **{claim['verdict']}**"
    for r in claim["records"]:
        if "effect" in r:
            interval = f" [{r['low']:.3g}, {r['high']:.3g}]" if r["low"] < r["high"] else ""
            verdict += f"<br>{cell(r['where'])}: **{r['effect']:.4g}**{interval}, n\u00a0=\u00a0{r['n']:,}"
    return (
        f"| [**{claim['id']}**]{{#{claim['id'].lower()}}} “{cell(claim['quote'])}” (section {claim['section']}) "
        f"| **{claim['literature'].capitalize()}.** {cell(claim['why'])}{cited} | {test} | {verdict} |"
    )


def text(rows: list[dict]) -> str:
    name = titles()
    order = sorted({r["chapter"] for r in rows}, key=lambda number: number or "99")
    lines = [
        f"**{len(rows)} claims.** By experiment: {counts((r['verdict'] for r in rows), SYMBOL)}.",
        "In the literature: "
        + counts((r["literature"] for r in rows), ("right", "imprecise", "wrong", "unsupported"))
        + ".",
    ]
    for number in order:
        lines.append(f"## {number}: {name[number]}" if number else "## In no chapter")
        body = "\n".join(row(r) for r in rows if r["chapter"] == number)
        lines.append(f"::::{{div}} ledger\n{HEAD}\n{body}\n::::")
    return "\n\n".join(lines)


def fill(app, docname, source):
    if docname == PAGE:
        source[0] = source[0].replace(HOOK, text(claims.ledger()))


def setup(app):
    app.connect("source-read", fill)
    app.connect(
        "env-get-outdated", lambda app, env, added, changed, removed: [PAGE]
    )  # the notebooks may have moved
    return {"parallel_read_safe": True, "parallel_write_safe": True}

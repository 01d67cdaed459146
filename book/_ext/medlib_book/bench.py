"""The page of benches, from bench/results.json."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def number(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return value


def table(headers: list[str], rows: list[list]) -> str:
    lines = [
        headers,
        ["---"] + ["---:"] * (len(headers) - 1),
        *([number(v) for v in row] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def answer(name: str, found: dict) -> str:
    question, _, how = found["question"].partition("? ")
    parts = [
        f"## {question}?",
        how,
        f"**Goal:** {found['goal']}. *Run on {found['date']} by `bench/{name}.py`.*",
    ]
    ratios = found["means"] | found["ratios"]
    if ratios:
        rows = [
            [label, number(mean), f"[{number(low)}, {number(high)}]"]
            for label, (mean, low, high) in ratios.items()
        ]
        rows = [
            [f"**{label}**", *rest] if label in found["means"] else [label, *rest]
            for label, *rest in rows
        ]
        parts.append(table(["ratio", "geometric mean", "95 % interval"], rows))
    parts.append(found.get("note", ""))
    parts.append(table(found["headers"], found["rows"]))
    return "\n\n".join(part for part in parts if part)


def page() -> str:
    found = json.loads((ROOT / "bench" / "results.json").read_text(encoding="utf-8"))
    m = found["machine"]
    where = (
        f"Machine: {m['processor']} (bf16: {m['bf16']}), {m['threads']} thread, "
        f"Python {m['python']}, torch {m['torch']}, our forward pass in "
        f"{'bf16' if m['precision'] == 'bf16' else 'fp32'}."
    )
    return "\n\n".join(
        [where, *(answer(name, a) for name, a in found["answers"].items())]
    )

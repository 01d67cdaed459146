"""How long a chapter takes a reader: chapters/minutes.toml, which press.rehearse fills,
and what is made of it.
"""

import json
import os
import re
import tomllib
from pathlib import Path

from press import text
from press.stamp import whole_seconds

HEAD = """\
# How long each chapter takes, made by `python -m press predict` (full: what a dry run
# counted, and the minutes that this makes on a T4; `failed` names the cells that were
# not counted whole) and by `python -m press quick` (quick: a run on real data on one
# thread, in fp32, with nothing out of a store).
"""
# A core of Colab, a Xeon at 2.2 GHz, against one of the machine that measured: what
# takes 1 second of the processor here takes 1.5 there.
COLAB = 1.5
SOLUTION = re.compile(r"(`{3,})\{solution\}.*?\n\1", re.DOTALL)
LIMIT = 20  # minutes on a T4 in full; a chapter above it is long
# CPU-seconds of medlib.doctor.step() on the machine behind the published outputs, by
# the precision that it was measured in.
REFERENCE = {"bf16": 0.040, "no": 0.061}


# ---------------------------------------------------------------- the file


def table() -> dict[str, dict[str, dict]]:
    """{chapter: {profile: what was found}}; empty where there is no file."""
    path = text.FOLDER / "minutes.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(source: Path, profile: str, entry: dict) -> dict:
    """Put what was found into the file, whole or not at all."""
    known = table()
    known.setdefault(source.stem, {})[profile] = entry
    lines = [HEAD]
    for name, profiles in sorted(known.items()):
        for size, facts in sorted(profiles.items()):
            pairs = [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
            lines += [f"[{name}.{size}]", *pairs, ""]
    partial = text.FOLDER / "minutes.part"
    partial.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    os.replace(partial, text.FOLDER / "minutes.toml")
    return entry


# ---------------------------------------------------------------- for readers


def long() -> dict[str, int]:
    """{chapter: minutes} of those above LIMIT on a T4: there quick is their default
    (medlib.device.spare).
    """
    found = {}
    for name, sizes in table().items():
        minutes = sizes.get("full", {}).get("minutes", 0)
        if minutes > LIMIT:
            found[name] = round(minutes)
    return found


def reading(notebook: dict) -> int:
    """Minutes to study a stored chapter, in fives: 75 words, ten lines of code that are
    not folded, and one figure a minute. Solutions are for another hour.
    """
    minutes = 0.0
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            minutes += len(SOLUTION.sub("", source).split()) / 75
            continue
        if "hide-input" not in text.tags(cell):
            minutes += len(source.splitlines()) / 10
        minutes += sum("image/png" in o.get("data", {}) for o in cell["outputs"])
    return max(5, 5 * round(minutes / 5))


def words(name: str) -> str:
    """How long a chapter takes a reader on Colab; "" where nothing is known."""
    known = table().get(name, {})
    said = []
    if "full" in known:
        said.append(f"{whole(known['full'])} min on a Colab GPU")
        if name in long():
            said[0] += " (where the small version is the default)"
    if "quick" in known:
        said.append(f"{whole(known['quick'])} min on a processor (small version)")
    return " · ".join(said)


def whole(found: dict) -> int:
    """The minutes of one entry, at least one."""
    return max(1, round(found["minutes"]))


def forecast(seconds: float | None = None) -> str:
    """A table of all chapters: minutes on a T4; and CPU-minutes in quick and in full,
    as published or, where one step takes `seconds` on a processor, on that one.
    """
    lines = [f"{'':28} {'T4':>5} {'quick':>6} {'full':>6}"]
    known = table()
    for path in sorted(text.FOLDER.glob("[0-9][0-9]_*.ipynb")):
        stamp = json.loads(path.read_text(encoding="utf-8"))["metadata"]["medlib"]
        sizes = known.get(path.stem, {})
        t4 = sizes.get("full", {}).get("minutes", "?")
        quick = _minutes(sizes.get("quick", {}).get("cpu_seconds"), "no", seconds)
        full = _minutes(whole_seconds(stamp), stamp["precision"], seconds)
        lines.append(f"{path.stem:28} {t4:>5} {quick:>6} {full:>6}")
    return "\n".join(lines)


def _minutes(measured: float | None, precision: str, seconds: float | None):
    """Whole minutes of what was measured in this precision, where a step takes
    `seconds`; "?" where it was not.
    """
    if measured is None:
        return "?"
    ratio = seconds / REFERENCE[precision] if seconds else 1
    return max(1, round(measured / 60 * ratio))

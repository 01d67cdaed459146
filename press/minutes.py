"""How long a chapter takes a reader: chapters/minutes.toml, and what is made of it.

`predict` executes a chapter in the profile full while medlib.cost.counting is open, so
that its trainings are counted and not done; what is left, the cells that are no
network, takes the time that it takes. `measure` runs it in the profile quick as it is.
Both are scaled to a free session of Colab, with its T4 or with its processor alone.
"""

import asyncio
import datetime
import json
import os
import tomllib
from contextlib import ExitStack
from pathlib import Path

from press import text
from press.stamp import cpu_seconds, whole_seconds

HEAD = """\
# How long each chapter takes, made by `python -m press predict` (full: what a dry run
# counted, and the minutes that this makes on a T4; `failed` names the cells that were
# not counted whole) and by `python -m press quick` (quick: a run on real data on one
# thread, in fp32, with nothing out of a store).
"""
BEGIN = "from press.minutes import begin; begin(); del begin"
FINISH = "from press.minutes import finish; finish()"
# A core of Colab, a Xeon at 2.2 GHz, against one of the machine that measured: what
# takes 1 second of the processor here takes 1.5 there.
COLAB = 1.5
LIMIT = 20  # minutes on a T4 in full; a chapter above it is long
# CPU-seconds of medlib.doctor.step() on the machine behind the published outputs, by
# the precision that it was measured in.
REFERENCE = {"bf16": 0.040, "no": 0.061}
ALONE = {"MEDLIB_PRECISION": "no", "MEDLIB_STORE": "", "MEDLIB_RESUME": ""}
_open = ExitStack()  # of this kernel, which runs one chapter
_seen: list = []  # and its medlib.cost.Counts


# ---------------------------------------------------------------- in the kernel


def begin() -> None:
    """Count from here on; nobody is told whether the text's sentences hold."""
    from medlib.cost import counting
    from medlib.notes import listening

    _open.enter_context(listening(lambda event, facts: None))
    _seen.append(_open.enter_context(counting(gpu=True)))


def finish() -> None:
    """Print what was counted, as JSON in the last line of the kernel's output."""
    from medlib.cost import T4

    counts = _seen.pop()
    _open.close()
    made = counts.trainings
    found = {
        "trainings": len(made),
        "steps": sum(one.steps for one in made),
        "launches": _mean(made, lambda one: one.step.launches),  # a step
        "mega_macs": _mean(made, lambda one: one.step.macs / 1e6),  # a step
        "predictions": len(counts.predictions),
        "t4_seconds": round(counts.gpu_seconds(T4)),  # of the networks
        "other_seconds": round(cpu_seconds() - counts.inside),  # of all else, here
    }
    print(json.dumps(found))


def _mean(made: list, of) -> int:
    """A step's, over all steps of all trainings."""
    steps = sum(one.steps for one in made)
    return round(sum(one.steps * of(one) for one in made) / max(steps, 1))


# ---------------------------------------------------------------- one chapter


def predict(source: Path) -> dict:
    """What a chapter asks for in full, and which of its cells failed on networks that
    learnt nothing.
    """
    from press.run import in_a_kernel

    notebook = text.read(source)
    running = in_a_kernel(
        notebook, source.name, ends=(BEGIN, FINISH),
        variables=ALONE | {"MEDLIB_PROFILE": "full"}, failing=True,
    )  # fmt: skip
    found = asyncio.run(running)
    seconds = found["t4_seconds"] + COLAB * found["other_seconds"]
    failed = [
        f"{cell.execution_count}: {output.ename}: {output.evalue[:99]}"
        for cell in text.code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    return _keep(source, "full", {"minutes": round(seconds / 60, 1)} | found, failed)


def measure(source: Path) -> dict:
    """How long a chapter takes in quick, on this machine. ChapterError where a cell
    fails.
    """
    from press.run import in_a_kernel

    variables = ALONE | {"MEDLIB_PROFILE": "quick"}
    stamp = asyncio.run(
        in_a_kernel(text.read(source), source.name, variables=variables)
    )
    found = {
        "minutes": round(COLAB * stamp["cpu_seconds"] / 60, 1),
        "cpu_seconds": stamp["cpu_seconds"],
        "peak_mb": stamp["peak_mb"],
        "torch": stamp["torch"],
        "date": datetime.date.today().isoformat(),
    }
    return _keep(source, "quick", found, [])


# ---------------------------------------------------------------- the file


def table() -> dict[str, dict[str, dict]]:
    """{chapter: {profile: what was found}}; empty where there is no file."""
    path = text.FOLDER / "minutes.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _keep(source: Path, profile: str, found: dict, failed: list[str]) -> dict:
    """Put what was found into the file, whole or not at all."""
    entry = found | ({"failed": failed} if failed else {})
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
    found = {name: sizes["full"]["minutes"] for name, sizes in table().items()}
    return {name: round(m) for name, m in found.items() if m > LIMIT}


def words(name: str) -> str:
    """What a chapter's card says of the reader's own minutes; "" where nothing is
    known.
    """
    known = table().get(name, {})
    if not {"full", "quick"} <= known.keys():
        return ""
    full, quick = (max(1, round(known[size]["minutes"])) for size in ("full", "quick"))
    said = (
        f"about {full} min on a T4, {quick} min on a processor in the profile `quick`"
    )
    if name in long():
        said += ". On a T4 `quick` is the default here, for this chapter is long"
    return f"> **For you.** On a free session of Colab: {said}."


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

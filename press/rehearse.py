"""How long a chapter takes, found out before a reader does: into chapters/minutes.toml.

`predict` executes a chapter in the profile full while medlib.cost.counting is open, so
that its trainings are counted and not done; what is left, the cells that are no
network, takes the time that it takes. `measure` runs it in the profile quick as it is.
Both are scaled to a free session of Colab, with its T4 or with its processor alone.
"""

import asyncio
import datetime
import itertools
import json
import time
from contextlib import ExitStack
from pathlib import Path

from press import text
from press.minutes import COLAB, keep
from press.run import in_a_kernel
from press.stamp import cpu_seconds

BEGIN = "from press.rehearse import begin; begin(); del begin"
FINISH = "from press.rehearse import finish; finish()"
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
    entry = {"minutes": round(seconds / 60, 1)} | found
    if failed:
        entry["failed"] = failed
    return keep(source, "full", entry)


def measure(source: Path) -> dict:
    """How long a chapter takes in quick, on this machine; prints its slowest cells.
    ChapterError where a cell fails.
    """
    variables = ALONE | {"MEDLIB_PROFILE": "quick"}
    notebook, clock = text.read(source), [time.perf_counter()]
    tick = lambda: clock.append(time.perf_counter())
    stamp = asyncio.run(in_a_kernel(notebook, source.name, tick, variables=variables))
    took = [after - before for before, after in itertools.pairwise(clock)]
    for i in sorted(range(len(took)), key=took.__getitem__)[:-6:-1]:
        print(f"  {took[i]:4.0f} s  {notebook.cells[i].source[:80]!r}")
    found = {
        "minutes": round(COLAB * stamp["cpu_seconds"] / 60, 1),
        "cpu_seconds": stamp["cpu_seconds"],
        "peak_mb": stamp["peak_mb"],
        "torch": stamp["torch"],
        "date": datetime.date.today().isoformat(),
    }
    return keep(source, "quick", found)

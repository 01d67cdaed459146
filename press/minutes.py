"""Minutes a chapter, foreseen without a run: chapters/minutes.toml.

A dry run executes a chapter in a fresh kernel while medlib.cost.counting is open, so
that its trainings are counted and not done. What is left, the cells that are no
network, takes the time that it takes. Both are scaled to the machine of a reader: a
free session of Colab, with its T4 or with its two cores alone.
"""

import json
import tomllib
from contextlib import ExitStack
from pathlib import Path

from press import text

NAME = "minutes.toml"
HEAD = """# Made by `python -m press predict`: what the dry run of each chapter counted, and the
# minutes that this makes on a T4 in the profile full, on two cores of Colab in quick.
"""
BEGIN = "from press.minutes import begin; begin({gpu}); del begin"
FINISH = "from press.minutes import finish; finish()"
# A core of Colab against one of the machine that counted: what took 1 second of the
# processor here takes 1.5 there (a Xeon at 2.2 GHz without units for bf16).
COLAB = 1.5
LIMIT = 20  # minutes on a T4 in full; a chapter above it is long
_open = ExitStack()  # of this kernel, which runs one chapter
_seen: list = []  # and its medlib.cost.Counts


# ---------------------------------------------------------------- in the kernel


def begin(gpu: bool) -> None:
    """Count from here on; nobody is told whether the text's sentences hold."""
    from medlib.cost import counting
    from medlib.notes import listening

    _open.enter_context(listening(lambda event, facts: None))
    _seen.append(_open.enter_context(counting(gpu=gpu)))


def finish() -> None:
    """Print what was counted, as JSON in the last line of the kernel's output."""
    from medlib.cost import T4
    from press.stamp import cpu_seconds

    counts = _seen.pop()
    _open.close()
    made = counts.trainings
    found = {
        "trainings": len(made),
        "seeds": len({one.seed for one in made}),
        "steps": sum(one.steps for one in made),
        "validations": sum(one.validations for one in made),
        "launches": _mean(made, lambda one: one.step.launches),  # a step
        "mega_macs": _mean(made, lambda one: one.step.macs / 1e6),  # a step
        "predictions": len(counts.predictions),
        "t4_seconds": round(counts.gpu_seconds(T4), 1),  # of the networks
        "cpu_seconds": round(counts.cpu_seconds, 1),  # of the networks, in fp32
        "other_seconds": round(cpu_seconds() - counts.inside, 1),
    }
    print(json.dumps(found))


def _mean(made: list, of) -> int:
    """A step's, over all steps of all trainings."""
    steps = sum(one.steps for one in made)
    return round(sum(one.steps * of(one) for one in made) / max(steps, 1))


# ---------------------------------------------------------------- the dry run


def dry_run(source: Path, profile: str) -> dict:
    """What one chapter asks for in a profile, and which of its cells failed on
    untrained networks. Nothing of it is stored.
    """
    import asyncio

    from press.run import in_a_kernel

    notebook = text.read(source)
    variables = {
        "MEDLIB_PROFILE": profile, "MEDLIB_PRECISION": "no", "MEDLIB_STORE": "",
        "MEDLIB_RESUME": "",
    }  # fmt: skip
    ends = BEGIN.format(gpu=profile == "full"), FINISH
    said = asyncio.run(
        in_a_kernel(notebook, source.name, ends=ends, variables=variables, failing=True)
    )
    failed = [
        f"{cell.execution_count}: {output.ename}: {output.evalue[:99]}"
        for cell in text.code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    return said | {"failed": failed}


def minutes(profile: str, found: dict) -> float:
    """On a T4 in full, on Colab's two cores in quick."""
    networks = found["t4_seconds"] if profile == "full" else None
    if networks is None:
        networks = found["cpu_seconds"] * COLAB
    return round((networks + found["other_seconds"] * COLAB) / 60, 1)


# ---------------------------------------------------------------- the file


def predictions() -> dict[str, dict]:
    """{chapter: {profile: what its dry run counted}}; empty where there is no file."""
    path = text.FOLDER / NAME
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def predict(source: Path, profile: str) -> dict:
    """Dry-run a chapter and write down what was counted."""
    found = dry_run(source, profile)
    entry = {"minutes": minutes(profile, found)} | found
    known = predictions()
    known.setdefault(source.stem, {})[profile] = entry
    _write(known)
    return entry


def _write(known: dict[str, dict]) -> None:
    lines = [HEAD]
    for name, profiles in sorted(known.items()):
        for profile, entry in sorted(profiles.items()):
            facts = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
            lines += [f"[{name}.{profile}]", *facts, ""]
    (text.FOLDER / NAME).write_text("\n".join(lines), encoding="utf-8")


def long() -> list[str]:
    """The chapters that take more than LIMIT minutes on a T4: there they are quick
    where nothing else is asked for.
    """
    return [
        name
        for name, profiles in predictions().items()
        if profiles.get("full", {}).get("minutes", 0) > LIMIT
    ]

"""Everything side by side with its peer in the same run: bench/results.json, which the
book shows as a page.

    python bench/run.py            all questions; `make bench` runs this
    python bench/run.py steps      these

Each question runs in a fresh process. Ratios of CPU-seconds, ours and the peer's in
turn, since absolute times on a shared machine mean little; their intervals are
by Student's t over the rounds.
"""

import ast
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from medlib import plots, stats
from medlib.device import precision
from press.run import allocator

HERE = Path(__file__).resolve().parent
RESULTS, PICTURE = HERE / "results.json", HERE / "ratios.png"
QUESTIONS = ("steps", "target", "hearts", "scores", "loading", "imports", "growth")
# a training that was found and not made costs no time
NO_STORE = {"MEDLIB_STORE": "", "MEDLIB_RESUME": ""}


def interval(ratios: list[float]) -> list[float]:
    """Geometric mean, low, high."""
    if min(ratios) <= 0:
        return [0.0, 0.0, 0.0]
    found = stats.interval(np.log(ratios))
    return [float(np.exp(v)) for v in (found.mean, found.low, found.high)]


def described(name: str) -> dict:
    """What a question asks and what would be a good answer, read from its script
    without running it.
    """
    script = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    goal = next(
        node.value
        for node in script.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GOAL"
    )
    return {
        "question": " ".join(ast.get_docstring(script).split()),
        "goal": ast.literal_eval(goal),
    }


def answer(name: str) -> dict:
    about = described(name)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / f"{name}.py"],
        env=os.environ | allocator() | NO_STORE,  # the same for both sides
        stdout=subprocess.PIPE,  # progress and errors go to the terminal
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"bench/{name}.py failed; nothing of it was stored")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    ratios = found.pop("ratios")
    found["means"] = {
        title: interval([float(np.exp(np.mean(np.log(ratios[key])))) for key in keys])
        for title, keys in found["means"].items()
    }
    found["ratios"] = {key: interval(values) for key, values in ratios.items()}
    return found | about | {"date": datetime.date.today().isoformat()}


def processor() -> str:
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").exists()
        else []
    )
    names = [
        line.split(":")[1].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def machine() -> dict:
    able = (
        torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    )
    units = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16, no matrix units"}
    return {
        "processor": processor(),
        "bf16": next(
            (words for name, words in units.items() if able.get(name)), "none"
        ),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "precision": precision(),
    }


def gain(label: str, ratio: list[float]) -> tuple[str, list[float]]:
    """The ratio as the peer's cost over ours, whichever way round it was taken."""
    turned = re.sub(r"(ours|medlib\S*) / (\S+?)(?=,|$)", r"\2 / \1", label)
    mean, low, high = ratio
    return (
        (turned, [1 / mean, 1 / high, 1 / low]) if turned != label else (label, ratio)
    )


def draw(results: dict) -> None:
    """Each question's means, or its ratios where it has no mean, on one axis, a colour
    a question.
    """
    lines = [
        (name, *gain(label, r))
        for name, found in results.items()
        for label, r in (found["means"] or found["ratios"]).items()
        if r[0] > 0 and re.search("ours|medlib", label)
    ]
    figure, axis = plots.panels(1, width=9, height=0.24 * len(lines) + 0.8)
    for row, (name, _, (mean, low, high)) in enumerate(lines):
        colour = f"C{list(results).index(name) % 7}"
        axis.plot([low, high], [row, row], color=colour, linewidth=2)
        axis.plot(mean, row, "o", color=colour, markersize=4)
    axis.axvline(1, color="0.4", linewidth=1)
    axis.set(
        xscale="log",
        xlabel="the peer's cost / ours",
        yticks=range(len(lines)),
        ylim=(len(lines), -1),
    )
    axis.set_yticklabels([f"{name}: {label}" for name, label, _ in lines], fontsize=8)
    figure.savefig(PICTURE, dpi=110)


def main(names: list[str]) -> int:
    if unknown := set(names) - set(QUESTIONS):
        raise SystemExit(
            f"no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}"
        )
    results = (
        json.loads(RESULTS.read_text(encoding="utf-8"))["answers"]
        if RESULTS.exists()
        else {}
    )
    for name in tqdm(names or QUESTIONS, unit="question"):
        results[name] = answer(name)
        ordered = {key: results[key] for key in QUESTIONS if key in results}
        RESULTS.write_text(
            json.dumps({"machine": machine(), "answers": ordered}, indent=1) + "\n",
            encoding="utf-8",
        )
    draw(ordered)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

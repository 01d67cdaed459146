"""Do a module's tests notice a broken line? Which mutants of it survive them.

Those that are tried are drawn by a hash of the place and the change, so that an edit
elsewhere in the file leaves the draw as it is. Results are kept in .mutants, by a hash
of the module and its tests, and a run that was interrupted goes on.
"""

import json
import os
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from press.mutants import Mutant, mutants
from press.text import ROOT, ChapterError, digest
from press.tiers import SMOKE
from press.trial import Trial

MODULES = {  # name: (its files, their tests)
    "train": (
        ["medlib/train.py", "medlib/checkpoint.py", "medlib/device.py"],
        ["test_train.py", "test_checkpoint.py", "test_device.py"],
    ),
    "losses": (["medlib/losses.py"], ["test_losses.py"]),
    "stats": (["medlib/stats.py"], ["test_stats.py"]),
    "metrics": (["medlib/metrics.py"], ["test_*metrics.py"]),
    "hearts": (["medlib/hearts/*.py"], ["test_hearts*.py"]),
    "unet": (["medlib/models/unet.py"], ["test_unet.py"]),
    "unet3d": (["medlib/models/unet3d.py"], ["test_stacks.py"]),
}
SAMPLE, ENOUGH = 60, 0.9


class Module:
    """A module's files and tests, below `root`."""

    def __init__(self, name: str, root: Path = ROOT):
        self.name, self.root = name, root
        files, tests = MODULES[name]
        self.files = sorted(p for pattern in files for p in root.glob(pattern))
        folder = root / "tests"
        self.tests = sorted(p for pattern in tests for p in folder.glob(pattern))
        shared = [p for p in folder.glob("*.py") if not p.name.startswith("test_")]
        texts = [
            p.read_text("utf-8") for p in [*self.files, *self.tests, *sorted(shared)]
        ]
        self.kept = root / ".mutants" / f"{name}-{digest(repr(texts))}.jsonl"

    def mutants(self) -> list[Mutant]:
        """All of them, in the order of the draw."""
        found = []
        for path in self.files:
            found += mutants(str(path.relative_to(self.root)), path.read_bytes())
        return sorted(found, key=lambda mutant: mutant.number)

    def results(self) -> list[tuple[str, str, float]]:
        """(a mutant's number, outcome, CPU-seconds) of what was tried so far."""
        if not self.kept.exists():
            return []
        return [json.loads(row) for row in self.kept.read_text("utf-8").splitlines()]

    def keep(self, number: str, outcome: str, seconds: float) -> None:
        self.kept.parent.mkdir(exist_ok=True)
        with self.kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps([number, outcome, round(seconds, 2)]) + "\n")


def equivalents(root: Path = ROOT) -> dict[tuple, str]:
    """{Mutant.place: why it does what the unchanged code does}."""
    path = root / "tests" / "equivalent_mutants.toml"
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text("utf-8"))["mutant"]
    keys = ("file", "scope", "old", "new")
    return {
        (*(" ".join(e[key].split()) for key in keys), e.get("which", 1)): e["why"]
        for e in entries
    }


# ---------------------------------------------------------------- a campaign


class Score(NamedTuple):
    tried: int
    equivalent: int  # met on the way and left out
    survivors: list[tuple[Mutant, str]]
    seconds: float  # of the processor

    @property
    def killed(self) -> float:
        """The part of the mutants that were tried."""
        return 1 - len(self.survivors) / max(self.tried, 1)


def campaign(module: Module, sample: int = SAMPLE, jobs: int = 1) -> Score:
    """Try a sample of a module's mutants, or all where there are fewer."""
    alike = equivalents(module.root)
    drawn = module.mutants()
    different = [mutant for mutant in drawn if mutant.place not in alike][:sample]
    known = {number for number, _, _ in module.results()}
    if waiting := [mutant for mutant in different if mutant.number not in known]:
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(module.root, module.files, module.tests, Path(folder))
            module.keep("", "recorded", trial.record())
            _work_through(waiting, trial, module, jobs)
    outcomes = {number: outcome for number, outcome, _ in module.results()}
    named = [(mutant, outcomes[mutant.number]) for mutant in different]
    left = [(mutant, said) for mutant, said in named if "killed" not in said]
    passed = drawn.index(different[-1]) + 1 - len(different) if different else 0
    seconds = sum(seconds for _, _, seconds in module.results())
    return Score(len(different), passed, left, seconds)


def _work_through(waiting: list[Mutant], trial: Trial, module: Module, jobs: int):
    with tqdm(total=len(waiting), desc=module.name, unit="mutant", smoothing=0) as bar:
        try:
            while waiting or trial.running:
                if not waiting or len(trial.running) == jobs:
                    mutant, outcome, seconds = trial.wait()
                elif trial.start(mutant := waiting.pop(0)):
                    continue
                else:
                    outcome, seconds = "not reached", 0.0
                module.keep(mutant.number, outcome, seconds)
                bar.update()
        finally:
            trial.stop()


def main(names: list[str], sample: int = SAMPLE, jobs: int = 1) -> int:
    """Print the survivors and a table; 1 where a module's tests kill too few."""
    if unknown := set(names) - set(MODULES):
        raise ChapterError(
            f"no module {', '.join(unknown)}; expected some of {', '.join(MODULES)}"
        )
    os.environ |= SMOKE
    scores = {}
    for name in names or MODULES:
        scores[name] = campaign(Module(name), sample, jobs)
        for mutant, outcome in scores[name].survivors:
            print(f"\n{outcome}: {mutant}")
    print("\nmodule   mutants  killed  survived  equivalent  CPU-minutes")
    for name, score in scores.items():
        dead = score.tried - len(score.survivors)
        print(
            f"{name:8} {score.tried:7} {dead:7} {len(score.survivors):9} "
            f"{score.equivalent:11} {score.seconds / 60:12.1f}   {score.killed:.0%}"
            + ("" if score.killed >= ENOUGH else "   TOO FEW KILLED")
        )
    return int(any(score.killed < ENOUGH for score in scores.values()))

"""Experiments: the same training with several seeds, several networks in the same
conditions, and what may be said of the difference.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from medlib import cost, plots, stats
from medlib.data import Dataset
from medlib.device import seed
from medlib.metrics import auc
from medlib.stats import Interval
from medlib.train import History, fit, predict


class Runs(NamedTuple):
    """Several trainings of one network, one a seed, judged on the test images."""

    logits: np.ndarray  # (seeds, N, num_classes), or what `judge` found, (seeds, N)
    target: np.ndarray | None  # (N,); None with a `judge`
    histories: list[History]
    seconds: list[float]  # of the processor, one a seed; wall time on a GPU
    model: nn.Module  # of the first seed
    whose: np.ndarray | None = None  # (N,) the patient of each case, where known

    def interval(
        self, metric: Callable | None = None, baseline: "Runs | None" = None
    ) -> Interval:
        """The metric's mean over seeds, or its lead over a baseline's, with a 95 %
        interval over seeds and patients; where nobody knows whose the test images are,
        over seeds and images (medlib.stats.over_cases). A lead has a p-value, `p`.

        metric   of medlib.metrics, by default AUC; with a `judge`, the mean
        """
        rival = None if baseline is None else baseline.logits
        metric = metric or (stats.mean_value if self.target is None else auc)
        return stats.over_cases(
            metric, self.logits, self.target, rival, whose=self.whose
        )


def repeat(
    build: Callable[[], nn.Module],
    data: Dataset,
    *,
    seeds: int = 5,
    judge: Callable[[nn.Module], np.ndarray] | None = None,
    **options,
) -> Runs:
    """`fit(build(), data, **options)` with seeds 0, 1, …; the seed draws weights,
    batches and augmentation.

    judge   model → (N,) one number a patient or a test image, such as its Dice; by
            default the logits of data.test are kept

    Raises ValueError where data holds masks and no judge is given.
    """
    if judge is None and data.test.y.ndim > 1:
        raise ValueError(f"{data.name} has masks; expected a judge, such as Dice")
    models: list[nn.Module] = []
    histories, logits = [], []
    for s in range(seeds):
        seed(s)
        model = build()
        histories.append(fit(model, data, seed=s, **options))
        logits.append(
            judge(model) if judge else predict(model, data.test.x).cpu().numpy()
        )
        models = models or [model]
    on_gpu = torch.cuda.is_available()
    seconds = [(h.seconds if on_gpu else h.cpu)[-1] for h in histories]
    target = None if judge else data.test.y.cpu().numpy()
    whose = data.test.whose
    if len(logits[0]) != len(data.test.y):
        whose = np.arange(len(logits[0]))  # the judge went from images to patients
    return Runs(np.stack(logits), target, histories, seconds, models[0], whose)


@dataclass(frozen=True)
class Comparison:
    """Networks that were trained in the same conditions. Intervals are of 95 % each,
    over seeds and patients, paired where two networks meet; p-values are corrected
    together for all pairs that `pairs` names (Holm 1979).
    """

    runs: dict[str, Runs]
    metric: Callable | None  # None: AUC, or the mean of what the judge found
    over: str | None  # the baseline; None: every network against every other

    @property
    def pairs(self) -> list[tuple[str, str]]:
        if self.over is None:
            return list(itertools.combinations(self.runs, 2))
        return [(name, self.over) for name in self.runs if name != self.over]

    def interval(self, name: str) -> Interval:
        """The score of one network."""
        return self.runs[name].interval(self.metric)

    def lead(self, name: str, over: str | None = None) -> Interval:
        """By how much `name` scores higher than `over`, by default the baseline."""
        over = self.over if over is None else over
        if over is None:
            raise ValueError(
                f"{name} over whom? expected one of {', '.join(self.runs)}"
            )
        return self.runs[name].interval(self.metric, self.runs[over])

    @cached_property
    def p_values(self) -> dict[tuple[str, str], float]:
        """{pair: p-value of its lead}, corrected for the number of pairs."""
        raw = [self.lead(a, b).p for a, b in self.pairs]
        return dict(zip(self.pairs, stats.holm(raw).tolist(), strict=True))

    def table(self) -> tuple[list[tuple], list[str]]:
        """Rows and headers, for `plots.table(*study.table())`: the networks, then the
        leads.
        """
        rows = [
            (name, f"{cost.parameters(runs.model):,}", str(self.interval(name)), "")
            for name, runs in self.runs.items()
        ] + [
            (f"{a} − {b}", "", str(self.lead(a, b)), f"{p:.3f}")
            for (a, b), p in self.p_values.items()
        ]
        over = self.interval(next(iter(self.runs))).over
        tests = f"p, {len(self.pairs)} tests (Holm)"
        return rows, ["", "parameters", f"score, over {over}", tests]

    def figure(self, *, xlabel: str = "lead in the score") -> Figure:
        """The lead of each pair as a line, with a dotted one where neither leads."""
        leads = {f"{a} − {b}": self.lead(a, b) for a, b in self.pairs}
        return plots.intervals(leads, xlabel=xlabel, references={"no difference": 0})


def compare(
    networks: dict[str, Callable[[], nn.Module]],
    data: Dataset,
    recipe: dict,
    *,
    seeds: int = 5,
    metric: Callable | None = None,
    judge: Callable[[nn.Module], np.ndarray] | None = None,
    over: str | None = None,
) -> Comparison:
    """Train each of {name: build} with seeds 0, 1, … on the same data, and compare
    their scores on data.test.

    recipe   the arguments of `fit`; or {name: arguments}, where each network has its
             own, such as a learning rate chosen on validation images
    metric   of medlib.metrics, by default AUC; with a `judge`, the mean
    judge    as for `repeat`
    over     the network that the others are held against; by default every pair

    Raises ValueError where `over` is none of the networks.
    """
    if over is not None and over not in networks:
        raise ValueError(f"over={over!r}; expected one of {', '.join(networks)}")
    own = (
        recipe if recipe.keys() == networks.keys() else dict.fromkeys(networks, recipe)
    )
    runs = {
        name: repeat(build, data, seeds=seeds, judge=judge, **own[name])
        for name, build in networks.items()
    }
    return Comparison(runs, metric, over)

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medlib import compare, evaluate, fit, plots, repeat, seed
from medlib.data import Dataset, Split
from medlib.experiment import Comparison, Runs
from medlib.metrics import accuracy, auc
from medlib.stats import holm
from medlib.train import predict


def blobs():
    """Bright images against dark ones: learnt in a few steps."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (160,), generator=g)
    x = torch.randn(160, 1, 4, 4, generator=g) + 0.5 * y[:, None, None, None]
    parts = (Split(x[a:b], y[a:b]) for a, b in ((0, 64), (64, 96), (96, 160)))
    return Dataset("blobs", ("dark", "bright"), *parts, "simulated")


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


class Blind(nn.Module):
    """Sees one pixel of sixteen."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, x):
        return self.layer(x[:, :, 0, 0])


RECIPE = {"steps": 20, "batch_size": 32, "lr": 3e-2, "validations": 1}


def test_repeat_is_fit_with_one_seed_after_another():
    runs = repeat(linear, blobs(), seeds=2, **RECIPE)
    assert runs.logits.shape == (2, 64, 2) and len(runs.histories) == 2
    again = evaluate(runs.model, blobs().test).logits.cpu().numpy()
    assert (again == runs.logits[0]).all() and (runs.logits[0] != runs.logits[1]).any()
    assert min(runs.seconds) > 0 and runs.interval().mean == pytest.approx(
        np.mean([auc(row, runs.target) for row in runs.logits])
    )
    assert runs.interval(accuracy, runs)[:3] == (0, 0, 0)


def test_compare_is_fit_of_each_network_with_each_seed():
    recipes = {"all": RECIPE, "one": RECIPE | {"lr": 1e-3}}
    study = compare({"all": linear, "one": Blind}, blobs(), recipes, seeds=2)
    for name, build in (("all", linear), ("one", Blind)):
        seed(1)
        model = build()
        fit(model, blobs(), seed=1, **recipes[name])
        expected = predict(model, blobs().test.x).cpu().numpy()
        assert (study.runs[name].logits[1] == expected).all()


@pytest.fixture(scope="module")
def study():
    networks = {"all": linear, "one pixel": Blind, "again": linear}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLIB_PROFILE", "full")
        yield compare(networks, blobs(), RECIPE, seeds=5)


def test_a_lead_is_the_difference_of_scores_on_the_same_cases(study):
    lead = study.lead("all", "one pixel")
    assert lead.low > 0 and lead.n == 64
    scores = [study.interval(name).mean for name in ("all", "one pixel")]
    assert lead.mean == pytest.approx(scores[0] - scores[1])
    back = study.lead("one pixel", "all")
    assert (back.low, back.high) == pytest.approx((-lead.high, -lead.low))
    assert study.lead("all", "again")[:3] == (0, 0, 0)  # the same seeds, the same runs
    with pytest.raises(ValueError, match="expected one of all, one pixel, again"):
        study.lead("all")


def test_p_values_of_all_pairs_are_corrected_together(study):
    assert list(study.p_values) == study.pairs == [
        ("all", "one pixel"), ("all", "again"), ("one pixel", "again")
    ]  # fmt: skip
    raw = [study.runs[a].interval(None, study.runs[b]).p for a, b in study.pairs]
    assert raw[1] == 1 and raw[0] < 0.01
    assert list(study.p_values.values()) == pytest.approx(holm(raw))
    assert study.p_values["all", "one pixel"] == pytest.approx(3 * raw[0])


def test_a_baseline_leaves_fewer_pairs_to_correct(study):
    against = Comparison(study.runs, accuracy, "one pixel")
    assert against.pairs == [("all", "one pixel"), ("again", "one pixel")]
    assert against.lead("all") == study.runs["all"].interval(
        accuracy, study.runs["one pixel"]
    )
    with pytest.raises(ValueError, match="over='two'; expected one of all"):
        compare({"all": linear}, blobs(), RECIPE, over="two")


def test_a_study_is_a_table_and_a_figure(study, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append(a))
    plots.table(*study.table())
    said = re.sub(r"<br><small>(.*?)</small>", r" \1", shown[0][0].data)
    lines = said.replace("&nbsp;", " ").splitlines()
    assert len(lines) == 2 + 3 + 3 and "3 tests" in lines[0]
    assert "over 5 seeds and 64 cases of unknown patients" in lines[0]
    assert lines[2].startswith(f"| all | 34 | {study.interval('all')} |")
    assert f"| all − one pixel |  | {study.lead('all', 'one pixel')} |" in lines[5]
    (axis, *_) = study.figure().axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["all − one pixel", "all − again", "one pixel − again"]


def test_a_judge_gives_one_number_a_patient():
    def brightness(model):
        return torch.arange(5.0).numpy() + model[1].bias[0].item()

    study = compare(
        {"a": linear, "b": linear}, blobs(), RECIPE, seeds=2, judge=brightness
    )
    runs = study.runs["a"]
    assert runs.target is None and runs.logits.shape == (2, 5)
    assert study.interval("a").mean == pytest.approx(runs.logits.mean())
    assert study.interval("a").n == 5


def test_masks_need_a_judge():
    data = blobs().map(lambda s: Split(s.x, (s.x[:, 0] > 0).long()))
    with pytest.raises(ValueError, match="expected a judge"):
        repeat(linear, data, **RECIPE)


def test_patients_are_the_unit_where_the_split_knows_them():
    data = blobs()
    owners = np.array([f"patient {i // 8}" for i in range(64)])
    data = replace(data, test=Split(data.test.x, data.test.y, owners))
    by_patient = repeat(linear, data, seeds=2, **RECIPE)
    assert by_patient.interval().over == "2 seeds and 8 patients"
    judged = repeat(linear, data, seeds=2, judge=lambda m: np.arange(8), **RECIPE)
    assert judged.interval().over == "2 seeds and 8 patients"
    unknown = repeat(linear, blobs(), seeds=2, **RECIPE)
    assert unknown.interval().over == "2 seeds and 64 cases of unknown patients"


def test_runs_of_other_cases_cannot_be_compared():
    a, b = (Runs(np.zeros((2, n)), None, [], [], linear()) for n in (5, 6))
    with pytest.raises(ValueError, match="expected"):
        a.interval(baseline=b)

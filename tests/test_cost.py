import math

import pytest
import torch
from test_train import blobs, weights
from test_train import net as small
from torch import nn
from torch.nn import functional as F

from medlib import cost, fit, notes, train
from medlib.cost import T4, Device, Work
from medlib.device import device


def net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(4 * 36, 3)
    )


def test_count_by_hand():
    # 4 maps of 6 × 6 places, 9 products each since a group sees one map; then 144 · 3.
    assert cost.parameters_and_macs(net, (2, 8, 8)) == (
        4 * 9 + 4 + 144 * 3 + 3,
        4 * 36 * 9 + 144 * 3,
    )


def test_frozen_parameters_are_counted_too():
    model = net()
    model[0].requires_grad_(False)
    assert cost.parameters(model) == 4 * 9 + 4 + 144 * 3 + 3


def test_actions_take_turns():
    calls = []
    times = cost.time_in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3
    )
    assert (
        calls == ["a", "b"] * 4 and times["a"].shape == (3,) and (times["b"] >= 0).all()
    )


def test_a_training_step_changes_the_weights_and_a_forward_pass_does_not():
    model = net()
    before = model[2].bias.detach().clone().to(device())
    cost.forward(model, (5, 2, 8, 8))()
    assert torch.equal(before, model[2].bias) and not model.training
    cost.training_step(model, (5, 2, 8, 8))()
    assert not torch.equal(before, model[2].bias) and model.training


def test_count_of_a_wrong_shape_fails():
    with pytest.raises(RuntimeError):
        cost.parameters_and_macs(net, (3, 8, 8))


def test_activations_are_what_a_convolution_needs_for_its_backward_pass():
    one = cost.activation_bytes(lambda: torch.nn.Conv2d(1, 4, 3, padding=1), (1, 8, 8))
    two = cost.activation_bytes(
        lambda: torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 3)
        ),
        (1, 8, 8),
    )
    assert (
        one == 4 * 64 and two == 4 * 64 + 4 * 4 * 64
    )  # its input; the weights are there anyway


# ---------------------------------------------------------------- counting trainings


def never(*given):
    raise AssertionError("a training was done, or a store was touched")


def test_while_counting_nothing_is_trained_and_no_store_is_touched(monkeypatch):
    monkeypatch.setattr("medlib.checkpoint.find", never)
    model, heard = small(), []
    before, generator = weights(model), torch.get_rng_state()
    with notes.listening(lambda *note: heard.append(note)), cost.counting() as counts:
        history = fit(model, blobs(), steps=7, batch_size=32, validations=3, seed=5)
    assert torch.equal(weights(model), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert history.step == [3, 6, 7] and history.best == 0
    lists = vars(history).copy()
    assert not lists.pop("reached_target")
    assert all(len(x) == 3 and all(map(math.isfinite, x)) for x in lists.values())
    (made,) = counts.trainings
    assert (made.shape, made.steps, made.validations) == ((32, 1, 8, 8), 7, 3)
    ((event, facts),) = heard
    assert (event, facts["seed"], facts["kept"]) == ("trained", 5, False)
    assert train.counter is None


def test_multiply_adds_of_a_training_by_hand():
    """A step computes the logits, and in the backward pass as much for the weights and
    once more for the inputs of all layers but the first.
    """
    first, second = 4 * 36 * 9, 144 * 2
    with cost.counting() as counts:
        fit(small(), blobs(), steps=5, batch_size=32, validations=1)
    (made,) = counts.trainings
    assert made.step.macs == 32 * (2 * first + 3 * second)
    assert made.validation.macs == len(blobs().val.x) * (first + second)


def test_launches_are_those_that_compute():
    with cost.counting() as counts:
        train.predict(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.ones(4, 1, 2, 2))
    (work,) = counts.predictions
    assert work == Work(2, 0, 4 * 16 * 4)  # ReLU and cat, each read and written


def test_large_images_are_counted_in_part(monkeypatch):
    """As many multiply-adds, and launches of a step, as if all were computed."""
    found = []
    for pixels in (2**19, 10 * 64):  # of 32 images of a batch: 10
        monkeypatch.setattr(cost, "PIXELS", pixels)
        with cost.counting() as counts:
            fit(small(), blobs(), steps=5, batch_size=32, validations=1)
        found.append(counts.trainings[0])
    whole, part = found
    assert part.step.macs == pytest.approx(whole.step.macs)
    assert part.validation.macs == pytest.approx(whole.validation.macs)
    assert part.step.launches == whole.step.launches


def test_predictions_are_repeated_where_they_are_not_computed(monkeypatch):
    model, x = small().eval(), torch.rand(25, 1, 8, 8)
    expected = train.predict(model, x[:10])
    monkeypatch.setattr(cost, "PIXELS", 10 * 64)
    with cost.counting() as counts:
        logits = train.predict(model, x)
    assert logits.shape == (25, 2) and torch.equal(logits[20:], expected[:5])
    assert counts.predictions[0].macs == 25 * (4 * 36 * 9 + 144 * 2)


def test_seeds_of_one_arm_are_counted_once(monkeypatch):
    asked = []
    once = cost._step

    def step(*given):
        asked.append(1)
        return once(*given)

    monkeypatch.setattr(cost, "_step", step)
    with cost.counting() as counts:
        for seed in range(3):
            fit(small(seed), blobs(), steps=5, seed=seed, lr=1e-3 * (seed + 1))
        fit(small(), blobs(), steps=5, batch_size=16)
        fit(small(), blobs(), steps=5, optimizer=torch.optim.SGD)
    assert len(asked) == 3 and len(counts.trainings) == 5


def test_a_score_of_untrained_networks_that_is_nan_is_no_warning():
    with cost.counting():
        history = fit(small(), blobs(), steps=2, score=lambda logits, y: math.nan)
    assert math.isnan(history.score[0])


def test_a_step_takes_what_takes_longest():
    machine = Device(launch=1e-3, step=1e-2, macs=1e6, fp16=2, bytes=1e9)
    assert machine.seconds(Work(10, 1e3, 1e3)) == pytest.approx(0.02)
    assert machine.seconds(Work(10, 1e6, 1e3)) == pytest.approx(1)
    assert machine.seconds(Work(10, 1e6, 1e3), fp16=True) == pytest.approx(0.5)
    assert machine.seconds(Work(10, 1e3, 1e10)) == pytest.approx(10)


def test_small_networks_are_bound_by_launches_on_a_t4():
    """So that half the channels would take as long."""
    with cost.counting() as counts:
        fit(small(), blobs(), steps=1000, batch_size=32, validations=1)
    (made,) = counts.trainings
    step = made.step.launches * T4.launch + T4.step
    assert made.seconds(T4) == pytest.approx(1000 * step, rel=0.01)
    assert counts.gpu_seconds(T4) == made.seconds(T4)


def test_a_mask_is_counted_too():
    data = blobs().map(lambda s: s._replace(y=s.x[:, 0].gt(0).long()))
    with cost.counting() as counts:
        fit(
            nn.Conv2d(1, 2, 3, padding=1), data, steps=4, loss=F.cross_entropy,
            score=lambda logits, y: float((logits.argmax(1) == y).float().mean()),
        )  # fmt: skip
    assert counts.trainings[0].step.macs > 0

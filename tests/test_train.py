"""The training loop: what a batch, a step, a validation and a whole training do."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib import augment, evaluate, fit, notes, seed, train
from medlib.checkpoint import History
from medlib.data import Dataset, Split
from medlib.train import Plan, batch, train_step


def blobs(n=256, seed=0):
    """Bright images against dark ones: learnt in a few steps."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    x = torch.randn(n, 1, 8, 8, generator=g) + y[:, None, None, None]
    half = n // 2
    parts = (
        Split(x[:half], y[:half]),
        Split(x[half:-32], y[half:-32]),
        Split(x[-32:], y[-32:]),
    )
    return Dataset("blobs", ("dark", "bright"), *parts, "simulated")


def net(s=0):
    seed(s)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(144, 2),
    )


def weights(model):
    return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    "given, steps, every",
    [
        ({"steps": 7}, 7, 2),
        ({"epochs": 3}, 6, 2),
        ({"epochs": 0.1}, 1, 1),
        ({}, 20, 2),
        ({"epochs": 100}, 200, 10),  # at most 20 validations
        ({"steps": 12, "validations": 4}, 12, 3),
        ({"steps": 3, "validations": 9}, 3, 1),
    ],
)
def test_a_plan_by_hand(given, steps, every):
    plan = Plan.of(100, 50, **given)
    assert (plan.steps, plan.every, plan.steps_per_epoch) == (steps, every, 2)
    assert plan.validates(steps - 1)  # the last step always has one


def test_a_batch_is_never_larger_than_the_set():
    assert Plan.of(30, 128, steps=2).batch_size == 30


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"steps": 0}, "steps=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"validations": 0}, "validations=0"),
        ({"steps": 1, "epochs": 1}, "one of them"),
        ({"lr": -1}, "lr=-1"),
        ({"keep": "worst"}, "best or last"),
        ({"steps": 1.5}, "steps=1.5; expected a positive whole number"),
        ({"batch_size": 8.0}, "batch_size=8.0; expected a positive whole number"),
        ({"epochs": math.nan}, "epochs=nan"),
        ({"lr": math.nan}, "lr=nan"),
        ({"model": nn.Flatten()}, "expected at least one parameter"),
        ({"model": net().requires_grad_(False)}, "expected at least one parameter"),
        ({"loss": partial(F.cross_entropy, reduction="none")}, "expected a tensor of"),
        ({"loss": lambda logits, y: 0.5}, "a loss that is a float.*expected a tensor"),
    ],
)
def test_bad_arguments_are_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        fit(**({"model": net(), "data": blobs()} | bad))


@pytest.mark.parametrize("model, data", [(net, blobs()), (net(), [blobs().train])])
def test_what_is_no_network_and_no_dataset_is_named(model, data):
    with pytest.raises(TypeError, match="expected an nn.Module and a medlib.data.Data"):
        fit(model, data)


# ---------------------------------------------------------------- a batch


def numbered(n=10):
    """Images that know their number."""
    return Split(torch.arange(n).float().view(n, 1, 1, 1), torch.arange(n))


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    plan = Plan.of(10, 3, steps=9)
    first = [batch(numbered(), plan, step, seed=1)[1].tolist() for step in range(9)]
    again = [
        batch(numbered(), plan, step, 1)[1].tolist() for step in reversed(range(9))
    ]
    assert first == again[::-1]
    x, y = batch(numbered(), plan, 4, seed=1)
    assert torch.equal(x.flatten().long(), y)  # an image keeps its label


def test_an_epoch_takes_each_image_at_most_once_and_the_next_in_another_order():
    plan = Plan.of(10, 3, steps=6)
    drawn = [batch(numbered(), plan, step, seed=0)[1].tolist() for step in range(6)]
    for epoch in (drawn[:3], drawn[3:]):
        assert len({i for part in epoch for i in part}) == 9
    assert drawn[:3] != drawn[3:]
    assert drawn != [batch(numbered(), plan, s, seed=1)[1].tolist() for s in range(6)]


def test_augmentation_is_drawn_anew_in_each_step_and_moves_masks_with_images():
    plan = Plan.of(10, 10, steps=2)

    def add(x, generator):
        return x + torch.rand(len(x), 1, 1, 1, generator=generator)

    zero, one = (batch(numbered(), plan, s, 0, add)[0].frac() for s in range(2))
    assert not torch.equal(zero, one)
    assert torch.equal(zero, batch(numbered(), plan, 0, 0, add)[0].frac())

    image = torch.arange(40.0).view(10, 1, 2, 2)
    masks = Split(image, image[:, 0].long())
    x, y = batch(masks, plan, 0, 0, lambda x, y, generator: (x.flip(-1), y.flip(-1)))
    assert torch.equal(x[:, 0].long(), y) and not torch.equal(x, x.sort(dim=0).values)


# ---------------------------------------------------------------- a step


def test_a_step_by_hand(monkeypatch):
    """Squared error of w x by SGD: w falls by lr · 2 x (w x − y)."""
    monkeypatch.setenv("MEDLIB_PRECISION", "no")
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.tensor([[2.0]]), torch.tensor([[4.0]])
    for before, after in ((4.0, 2.2), (0.16, 2.04)):
        assert train_step(model, x, y, F.mse_loss, sgd).item() == pytest.approx(before)
        assert model.weight.item() == pytest.approx(after)  # gradients do not add up


def test_a_loss_is_computed_in_single_precision(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    kinds, model = [], nn.Linear(4, 2)
    hook = model.register_forward_hook(lambda m, i, out: kinds.append(out.dtype))

    def loss(logits, y):
        kinds.append(logits.dtype)
        return logits.sum()

    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    train_step(model, torch.ones(3, 4), torch.zeros(3), loss, sgd)
    hook.remove()
    assert kinds == [torch.bfloat16, torch.float32]


def test_a_training_follows_its_schedule():
    """The rate of each step is seen by an optimizer that does nothing else."""
    seen = []

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])

    fit(net(), blobs(), steps=30, batch_size=32, lr=0.5, optimizer=Watch)
    top = seen.index(max(seen))
    assert len(seen) == 30 and max(seen) == pytest.approx(0.5, rel=0.02)
    assert 7 <= top <= 10 and seen[0] < 0.05 and seen[-1] < 0.01
    assert seen[:top] == sorted(seen[:top])
    assert seen[top:] == sorted(seen[top:], reverse=True)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad])
def test_the_cycle_gives_no_momentum_to_what_has_none(kind):
    seen = []

    class Watch(kind):
        def step(self, closure=None):
            seen.append(self.param_groups[0].get("momentum", 0))

    fit(net(), blobs(), steps=4, batch_size=32, optimizer=Watch)
    assert seen == [0, 0, 0, 0]


def test_a_schedule_can_be_named():
    rates = []

    def halve(optimizer, steps):
        rates.append(steps)
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rates.append(step) or 0.5**step
        )

    fit(net(), blobs(), epochs=2, batch_size=32, lr=0.1, schedule=halve)
    assert rates == [8, *range(9)]


def test_layers_train_while_training_and_rest_while_validating():
    modes, model = [], net()
    model[3].register_forward_hook(lambda m, i, o: modes.append(m.training))
    fit(model, blobs(), steps=4, batch_size=32, validations=2)
    assert modes == [True, True, False, True, True, False]


# ---------------------------------------------------------------- a whole training


def test_fit_learns_and_keeps_the_best_weights():
    model, d = net(), blobs()
    history = fit(model, d, epochs=8, batch_size=32)
    assert evaluate(model, d.test).auc > 0.95
    # fit may score in bf16
    assert evaluate(model, d.val).auc == pytest.approx(max(history.score), abs=1e-3)
    assert history.step == [4, 8, 12, 16, 20, 24, 28, 32]
    assert model[0].weight.dtype == torch.float32


def test_best_and_last_weights_are_two_things():
    """A score that falls: the best weights are those of the first validation."""

    def run(keep, steps):
        falling = iter(range(0, -9, -1))
        model = net()
        rate = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
        fit(
            model,
            blobs(),
            steps=steps,
            batch_size=32,
            validations=steps,
            keep=keep,
            score=lambda logits, y: float(next(falling)),
            schedule=lambda optimizer, steps: rate(optimizer),
        )
        return weights(model)

    assert torch.equal(run("best", 3), run("last", 1))
    assert not torch.equal(run("last", 3), run("last", 1))


def test_not_a_number_is_never_the_best():
    nan = math.nan
    assert History(score=[0.5, nan, 0.9, nan]).best == 2
    assert History(score=[nan, 0.1]).best == 1
    assert History(score=[nan, nan, nan]).best == 2  # nothing to choose by: the last


def test_the_same_seed_gives_the_same_weights():
    def run(s):
        model = net()
        shift = augment.random_shift(1)
        fit(model, blobs(), epochs=2, batch_size=32, seed=s, augment=shift)
        return weights(model)

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


def test_a_training_draws_nothing_from_the_global_generators():
    """So what comes after it is the same, trained or found in the store."""
    import random

    import numpy as np

    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed(5)
    expected = drawn()
    seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
    seed(5)
    fit(model, blobs(), steps=3, batch_size=32)
    assert drawn() == expected


def test_dropout_follows_the_seed_and_not_the_generators():
    def run(s, before):
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
        nn.init.zeros_(model[2].weight)
        nn.init.zeros_(model[2].bias)
        torch.manual_seed(before)
        fit(model, blobs(), steps=3, batch_size=128, seed=s)
        return weights(model)

    assert torch.equal(run(0, before=1), run(0, before=2))
    assert not torch.equal(run(0, before=1), run(1, before=1))


def test_a_target_ends_the_run_early():
    history = fit(net(), blobs(), epochs=20, batch_size=32, target=0.9)
    assert history.reached_target and history.step[-1] < 80
    assert history.score[-1] >= 0.9 > max([0, *history.score[:-1]])


def test_a_loss_that_is_not_finite_stops_with_advice_and_leaves_the_model_alone():
    model = net()
    with pytest.raises(FloatingPointError, match="smaller lr"):
        fit(model, blobs(), epochs=1, loss=lambda logits, y: logits.sum() * math.nan)
    assert not any("forward" in vars(layer) for layer in model.modules())


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_leaves_mode_and_random_state_as_found(training):
    model, state = net().train(training), torch.get_rng_state()
    evaluate(model, blobs().test)
    assert model.training is training and torch.equal(state, torch.get_rng_state())


def test_no_images_have_no_predictions():
    assert train.predict(net(), blobs().test.x[:0]).shape == (0, 2)


def test_predictions_do_not_depend_on_the_batches():
    x = blobs().test.x
    torch.testing.assert_close(train.predict(net(), x, 5), train.predict(net(), x, 32))


def test_an_optimizer_can_be_named():
    sgd = partial(torch.optim.SGD, momentum=0.9)
    history = fit(net(), blobs(), epochs=4, batch_size=32, lr=0.05, optimizer=sgd)
    assert history.train_loss[-1] < history.train_loss[0]


def test_each_training_is_noted_for_the_stamp():
    heard = []
    with notes.listening(lambda event, facts: heard.append((event, facts))):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        history = fit(model, blobs(), steps=1, seed=3)
    fit(model, blobs(), steps=1)  # nobody listens any more
    ((event, facts),) = heard
    assert event == "trained" and facts.pop("cpu_seconds") == history.cpu[-1]
    assert facts == {"parameters": 130, "seed": 3, "kept": False}

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


class Pair(nn.Sequential):
    """Gives the logits and one thing more."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 2))

    def forward(self, x):
        return super().forward(x), x


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


def test_a_plan_drops_the_short_batch_and_rounds_steps_and_validations():
    plan = Plan.of(101, 40, epochs=1.3)  # 2 batches an epoch: 2.6 steps
    assert (plan.images, plan.batch_size, plan.steps_per_epoch) == (101, 40, 2)
    assert plan.steps == 3 and plan.every == 2  # 1.5 epochs: two validations
    assert [s for s in range(3) if plan.validates(s)] == [1, 2]
    assert Plan.of(100, 50, steps=1).every == 1
    assert Plan.of(100, 50, steps=42).every == math.ceil(42 / 20)
    every = Plan.of(10, 10, steps=7, validations=2)
    assert [s for s in range(7) if every.validates(s)] == [3, 6]


def test_what_is_done_by_default(monkeypatch):
    """Ten epochs in batches of 128 by AdamW at a peak of 3e-3, validated by AUC."""
    seen = []
    of, step = Plan.of, torch.optim.AdamW.step
    monkeypatch.setattr(Plan, "of", lambda *given: seen.append(of(*given)) or seen[-1])

    def watched(self, closure=None):
        seen.append(self.param_groups[0]["max_lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    d, model = blobs(512), net()
    history = fit(model, d)
    assert seen == [Plan(256, 128, 20, 2), *[3e-3] * 20]
    assert len(history.score) == 10 and not history.reached_target
    assert history.score[-1] == pytest.approx(evaluate(model, d.val).auc, abs=0.05)


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
        ({"loss": lambda logits, y: y.sum()}, "a loss that is a Tensor.*expected a t"),
        ({"loss": lambda logits, y: logits.mean().detach()}, "without a gradient; exp"),
        ({"epochs": "3"}, "epochs='3'; expected a positive number"),
        ({"epochs": math.inf}, "epochs=inf"),
        ({"epochs": 0}, "epochs=0; expected"),
        ({"validations": -3}, "validations=-3; expected a positive whole number"),
        ({"validations": 2.5}, "validations=2.5"),
        ({"lr": 0}, "lr=0; expected"),
        ({"lr": math.inf}, "lr=inf; expected"),
        ({"lr": "1"}, "lr='1'; expected"),
        ({"target": math.nan}, "target=nan; expected a number"),
        ({"target": "high"}, "target='high'; expected a number"),
        ({"seed": 1.5}, "seed=1.5; expected a whole number"),
        ({"seed": 2**32}, "seed=4294967296; expected a whole number"),
        ({"seed": None}, "seed=None; expected a whole number"),
        ({"score": lambda logits, y: None}, "a score of None; expected one number"),
        ({"score": lambda logits, y: logits}, "expected one number"),
        ({"model": nn.Sequential(nn.Flatten(), nn.LazyLinear(2))}, "expected one that"),
        ({"model": net().double()}, "torch.float32 for weights in torch.float64; exp"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 1))}, "few logits; exp"),
        ({"augment": lambda x, generator: None}, "augment makes.*expected images"),
        ({"augment": lambda x, generator: x[:3]}, "augment makes.*expected images"),
    ],
)
def test_bad_arguments_are_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        fit(**({"model": net(), "data": blobs()} | bad))


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"loss": nn.CrossEntropyLoss}, "loss=.*a class, not yet an object of it"),
        ({"loss": "ce"}, r"loss='ce'.*expected a function of \(logits, target\)"),
        ({"score": lambda logits: 1.0}, r"score=.*expected a function of \(logits, t"),
        ({"schedule": lambda opt: opt}, r"schedule=.*of \(optimizer, steps\)"),
        ({"optimizer": torch.optim.SGD(net().parameters())}, r"of \(parameters, lr\)"),
        ({"augment": augment.random_affine()}, r"augment=.*of \(x, generator\)"),
        ({"model": Pair()}, "returns a tuple; expected a tensor of logits"),
    ],
)
def test_what_cannot_be_called_so_is_named_with_what_was_expected(bad, words):
    with pytest.raises(TypeError, match=words):
        fit(**({"model": net(), "data": blobs(), "steps": 1} | bad))


def test_an_augmentation_of_masks_takes_and_gives_both():
    x = torch.rand(8, 1, 4, 4)
    split = Split(x, (x[:, 0] > 0.5).long())
    hearts = Dataset("toy", ("no", "yes"), split, split, split, "simulated")
    given = {"model": nn.Conv2d(1, 2, 1), "data": hearts, "steps": 1}
    with pytest.raises(TypeError, match=r"of \(x, y, generator\)"):
        fit(augment=augment.random_shift(1), **given)
    # Two images alone would else be taken for images and masks.
    with pytest.raises(ValueError, match="augment makes.*expected images"):
        fit(augment=lambda x, y, generator: x, batch_size=2, **given)


@pytest.mark.parametrize("one", [Split(blobs().val.x, blobs().val.y * 0), None])
def test_a_score_that_is_nan_is_said(one):
    d, model = blobs(), nn.Sequential(nn.Flatten(), nn.Linear(64, 2 if one else 3))
    if one:  # AUC has nothing to rank; else a logit has no class
        d = Dataset("one", d.classes, d.train, one, d.test, "simulated")
    words = "score is NaN.*expected an image of each class"
    with pytest.warns(UserWarning, match=words) as heard:
        history = fit(model, d, steps=4, batch_size=32, validations=1)
    assert all(map(math.isnan, history.score)) and history.best == 0
    assert heard[0].filename == __file__


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


def test_batches_are_the_permutation_of_seed_and_epoch_in_order():
    """And augmentation draws from a generator of its own, by the seed and the step."""
    plan = Plan.of(10, 3, steps=6)
    for seed_, epoch in ((0, 0), (5, 1)):
        g = torch.Generator().manual_seed(seed_ * 2_000_003 + epoch)
        order = torch.randperm(10, generator=g).tolist()
        for k in range(3):
            x, y = batch(numbered(), plan, 3 * epoch + k, seed_)
            assert y.tolist() == order[3 * k : 3 * k + 3] == x.flatten().tolist()

    def noise(x, generator):
        return torch.rand(len(x), 1, 1, 1, generator=generator)

    g = torch.Generator().manual_seed((5 + 1_000_003) * 2_000_003 + 4)
    expected = torch.rand(3, 1, 1, 1, generator=g)
    assert torch.equal(batch(numbered(), plan, 4, 5, noise)[0], expected)


def test_an_epoch_without_a_remainder_is_the_whole_set():
    plan = Plan.of(8, 4, steps=2)
    both = [batch(numbered(8), plan, step, seed=2)[1] for step in range(2)]
    assert torch.cat(both).sort().values.tolist() == list(range(8))


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


def test_one_cycle_by_hand():
    """From a 25th up to the peak at .3 of the steps, by half cosines, down to 1e-4 of
    the start; momentum the other way round."""
    weight = nn.Parameter(torch.zeros(1))
    for kind, momentum in ((partial(torch.optim.SGD, momentum=0.9), "momentum"),
                           (torch.optim.AdamW, "betas")):  # fmt: skip
        optimizer, rates, moments = kind([weight], lr=0.5), [], []
        schedule = train.one_cycle(optimizer, 31)
        for _ in range(31):
            rates.append(optimizer.param_groups[0]["lr"])
            moments.append(optimizer.param_groups[0][momentum])
            optimizer.step()
            schedule.step() if len(rates) < 31 else None
        if momentum == "betas":
            moments = [first for first, _ in moments]
        assert rates[0] == pytest.approx(0.5 / 25)
        assert rates[-1] == pytest.approx(0.5 / 25 / 1e4)
        up = 0.3 * 31 - 1  # torch's step of the peak
        at = [0.02 + 0.48 * (1 - math.cos(math.pi * k / up)) / 2 for k in range(9)]
        assert rates[:9] == pytest.approx(at) and moments[0] == pytest.approx(0.95)
        assert min(moments) == pytest.approx(0.85, abs=0.001)
        assert moments[-1] == pytest.approx(0.95)
    train.one_cycle(torch.optim.SGD([weight], lr=1.0), 1)  # torch needs two steps


def test_each_group_of_weights_has_its_own_peak():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": r} for r in (0.1, 0.7)]
    schedule = train.one_cycle(torch.optim.SGD(groups, lr=0.1), 10)
    assert [g["max_lr"] for g in schedule.optimizer.param_groups] == [0.1, 0.7]


def test_validation_is_loss_and_score_without_dropout():
    model, val = net(), blobs().val
    with torch.no_grad():
        logits = model.eval()(val.x)
    found = train.validate(model.train(), val, F.cross_entropy, train.accuracy)
    share = (logits.argmax(1) == val.y).double().mean().item()
    assert found == pytest.approx(
        (F.cross_entropy(logits, val.y).item(), share), abs=0.02
    )
    assert model.training and {type(f) for f in found} == {float}


def test_the_loss_of_a_validation_is_the_mean_of_the_steps_since_the_last():
    values = iter([1.0, 2.0, 6.0, 0.0, 4.0, 0.0])

    def loss(logits, y):  # the third and the last call are validations
        return logits.sum() * 0 + next(values)

    history = fit(net(), blobs(), steps=4, batch_size=32, validations=2, loss=loss)
    assert history.train_loss == [1.5, 2.0] and history.val_loss == [6.0, 0.0]
    assert history.step == [2, 4]


def test_the_global_generators_are_seeded_by_seed_and_step():
    import random

    import numpy as np

    drawn = []

    def noise(x, generator):
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
        return x

    fit(net(), blobs(), steps=2, batch_size=32, seed=-3, augment=noise)
    for step, found in enumerate(drawn):
        seed(3 * 2_000_003 + step)
        assert found == (random.random(), np.random.rand(), torch.rand(1).item())


def test_a_whole_number_of_numpy_is_a_seed():
    import numpy as np

    runs = []
    for s in (3, np.int16(3)):
        model = net()
        fit(model, blobs(), steps=2, batch_size=32, seed=s)
        runs.append(weights(model))
    assert torch.equal(*runs)


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
    assert History(score=[nan, -math.inf, nan]).best == 1
    assert History(score=[0.2, 0.7, 0.7, 0.1]).best == 1  # the first of equals
    with pytest.raises(ValueError, match="no validation yet"):
        _ = History().best


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


@pytest.mark.parametrize(
    "shape, sizes",
    [
        ((300, 1, 8, 8), [256, 44]),
        ((257, 1, 64, 64), [256, 1]),
        ((70, 1, 128, 128), [64, 6]),  # 256 · 64² / 128²
        ((2, 1, 2048, 1024), [1, 1]),
    ],
)
def test_by_default_a_batch_is_as_large_as_its_images_allow(shape, sizes):
    seen = []

    def look(module, given):
        seen.append(len(given[0]))

    model = nn.AdaptiveAvgPool2d(1)
    model.register_forward_pre_hook(look)
    train.predict(model, torch.zeros(shape))
    assert seen == sizes


def test_evaluate_is_loss_accuracy_and_auc_by_hand():
    class Fixed(nn.Module):
        def forward(self, x):
            return torch.stack([-x.flatten(1)[:, 0], x.flatten(1)[:, 0]], 1)

    x = torch.tensor([2.0, -1.0, 0.5, 1.0]).view(4, 1, 1, 1)
    split = Split(x, torch.tensor([1, 0, 0, 1]))
    found = evaluate(Fixed(), split)
    assert found.logits.tolist() == [[-2, 2], [1, -1], [-0.5, 0.5], [-1, 1]]
    assert found.accuracy == 0.75 and found.auc == 1.0
    by_hand = sum(math.log(1 + math.exp(-m)) for m in (4, 2, -1, 2)) / 4
    assert found.loss == pytest.approx(by_hand)
    with pytest.raises(ValueError, match=r"logits \(4,\); expected \(N, num_classes"):
        evaluate(nn.Flatten(0), split)


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


# ---------------------------------------------------------------- fp16


@pytest.mark.parametrize("factor, skips", [(1e-3, False), (1e3, True)])
def test_a_skipped_step_does_not_advance_the_schedule(factor, skips, monkeypatch):
    """Gradients times the first scale, 65,536, overflow in fp16."""
    monkeypatch.setenv("MEDLIB_PRECISION", "fp16")
    done, advanced = [], []

    class Counted(torch.optim.SGD):
        def step(self, closure=None):
            done.append(1)
            return super().step(closure)

    def steep(logits, y):
        return factor * F.cross_entropy(logits, y)

    def one_rate(optimizer, steps):
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda n: advanced.append(n) or 1.0
        )

    fit(net(), blobs(), steps=10, loss=steep, optimizer=Counted, schedule=one_rate)
    assert advanced == list(range(len(done) + 1))  # from 0, before the first step
    assert (len(done) < 10) == skips and done


def test_fp16_learns_what_fp32_learns(monkeypatch):
    found = {}
    for name in ("no", "fp16"):
        monkeypatch.setenv("MEDLIB_PRECISION", name)
        found[name] = fit(net(), blobs(), steps=30, validations=1).val_loss[-1]
    assert found["fp16"] != found["no"]
    assert found["fp16"] == pytest.approx(found["no"], rel=0.05)


def test_gradients_that_no_scale_saves_are_named(monkeypatch):
    class Overflows(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient / 0

    monkeypatch.setenv("MEDLIB_PRECISION", "fp16")
    with pytest.raises(FloatingPointError, match="overflow in fp16.*MEDLIB_PRECISION"):
        fit(
            net(), blobs(), steps=40, validations=1,
            loss=lambda logits, y: F.cross_entropy(Overflows.apply(logits), y),
        )  # fmt: skip

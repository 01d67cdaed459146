import itertools

import pytest
import torch
from torch import nn

from medlib import augment, evaluate, fit, load, profile, repeat, seed, train
from medlib.data import Dataset, Split


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
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_fit_learns_and_keeps_the_best_weights():
    model, d = net(), blobs()
    history = fit(model, d, epochs=8, batch_size=32)
    assert evaluate(model, d.test).auc > 0.95
    assert evaluate(model, d.val).auc == pytest.approx(
        max(history.score), abs=1e-3
    )  # fit may score in bf16
    assert (
        history.step[-1] == 32
        and len(history.step) == 8
        and model[0].weight.dtype == torch.float32
    )


def test_the_same_seed_gives_the_same_weights():
    def run(s):
        model = net()
        fit(
            model,
            blobs(),
            epochs=2,
            batch_size=32,
            seed=s,
            augment=augment.random_shift(1),
        )
        return weights(model)

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


def test_trainings_of_a_chapter_are_kept_one_by_one(tmp_path, monkeypatch):
    def run():
        monkeypatch.setattr(train, "_calls", itertools.count())
        return [fit(net(s), blobs(), epochs=1, batch_size=32, seed=s) for s in (0, 1)]

    plain = run()
    monkeypatch.setenv("MEDLIB_RESUME", str(tmp_path))
    first, again = run(), run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000.pt", "0001.pt"]
    assert [h.train_loss for h in first] == [
        h.train_loss for h in plain
    ] and again == first


class Stop(Exception):
    pass


def test_a_run_cut_short_resumes_to_the_same_weights(tmp_path):
    whole = net()
    fit(whole, blobs(), epochs=4, batch_size=32, augment=augment.random_shift(1))
    calls = 0

    def score(logits, target):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stop
        return train.auc(logits, target)

    cut = net()
    with pytest.raises(Stop):
        fit(
            cut,
            blobs(),
            epochs=4,
            batch_size=32,
            augment=augment.random_shift(1),
            score=score,
            checkpoint=tmp_path / "c.pt",
        )
    again = net(99)
    history = fit(
        again,
        blobs(),
        epochs=4,
        batch_size=32,
        augment=augment.random_shift(1),
        checkpoint=tmp_path / "c.pt",
    )
    assert torch.equal(weights(whole), weights(again)) and len(history.step) == 4


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fit(net(), blobs(), epochs=1, checkpoint=tmp_path / "c.pt")
    with pytest.raises(ValueError, match="another run"):
        fit(net(), blobs(), epochs=2, checkpoint=tmp_path / "c.pt")


def test_a_target_ends_the_run_early():
    history = fit(net(), blobs(), epochs=20, batch_size=32, target=0.9)
    assert history.reached_target and history.step[-1] < 80


def test_a_loss_that_is_not_finite_stops_with_advice():
    with pytest.raises(FloatingPointError, match="smaller lr"):
        fit(
            net(), blobs(), epochs=1, loss=lambda logits, y: logits.sum() * float("nan")
        )


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"lr": -1}, {"batch_size": 0}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="positive"):
        fit(net(), blobs(), **bad)


def test_after_a_failure_the_model_is_the_readers_again():
    model = net()
    with pytest.raises(FloatingPointError):
        fit(
            model, blobs(), epochs=1, loss=lambda logits, y: logits.sum() * float("nan")
        )
    assert "forward" not in vars(model)  # accelerate's wrapper is gone


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_leaves_mode_and_random_state_as_found(training):
    model, state = net().train(training), torch.get_rng_state()
    evaluate(model, blobs().test)
    assert model.training is training and torch.equal(state, torch.get_rng_state())


def test_a_new_optimizer_can_be_named():
    from functools import partial

    history = fit(
        net(),
        blobs(),
        epochs=4,
        batch_size=32,
        lr=0.05,
        optimizer=partial(torch.optim.SGD, momentum=0.9),
    )
    assert history.train_loss[-1] < history.train_loss[0]


def test_a_schedule_can_be_named():
    rates = []

    def halve(optimizer, steps):
        rates.append(steps)
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rates.append(step) or 0.5**step
        )

    fit(net(), blobs(), epochs=2, batch_size=32, lr=0.1, schedule=halve)
    assert rates == [8, *range(9)]


def test_a_refused_checkpoint_leaves_the_model_alone(tmp_path):
    fit(net(), blobs(), epochs=1, checkpoint=tmp_path / "c.pt")
    model = net()
    with pytest.raises(ValueError, match="another run"):
        fit(model, blobs(), epochs=2, checkpoint=tmp_path / "c.pt")
    assert "forward" not in vars(model)


def test_repeat_is_fit_with_one_seed_after_another():
    runs = repeat(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)),
        blobs(),
        seeds=2,
        epochs=1,
        batch_size=32,
    )
    assert runs.logits.shape == (2, 32, 2) and len(runs.histories) == 2
    again = evaluate(runs.model, blobs().test).logits.cpu().numpy()
    assert (again == runs.logits[0]).all() and (runs.logits[0] != runs.logits[1]).any()
    assert min(runs.seconds) > 0 and runs.interval().mean == pytest.approx(
        sum(
            train.auc(torch.tensor(row), torch.tensor(runs.target))
            for row in runs.logits
        )
        / 2
    )
    assert runs.interval(train.accuracy, runs)[:3] == (0, 0, 0)


def test_profile(monkeypatch):
    monkeypatch.setenv("MEDLIB_PROFILE", "smoke")
    assert profile() == "smoke" and profile(smoke=1, full=2) == 1
    monkeypatch.setenv("MEDLIB_PROFILE", "huge")
    with pytest.raises(ValueError, match="huge.*smoke, quick, full"):
        profile()


def test_precision_can_be_forced(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "no")
    assert train.precision() == "no"
    monkeypatch.setenv("MEDLIB_PRECISION", "fp8")
    with pytest.raises(ValueError, match="fp8"):
        train.precision()


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "no")])
def test_a_gpu_that_imitates_bf16_gets_fp32(units, expected, monkeypatch):
    monkeypatch.delenv("MEDLIB_PRECISION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported",
        lambda including_emulation=True: units or including_emulation,
    )
    assert train.precision() == expected


def test_grouped_convolutions_with_holes_learn_in_fp32_on_a_processor(monkeypatch):
    """Their weight gradients were up to 1e35 in bf16 under autocast on a CPU."""
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    torch.manual_seed(0)
    net = torch.nn.Conv2d(32, 32, 3, padding=2, dilation=2, groups=32).to(
        memory_format=torch.channels_last
    )
    x, gradients = (
        torch.randn(4, 32, 32, 32).contiguous(memory_format=torch.channels_last),
        [],
    )
    changed = train.exact_layers(net, torch.device("cpu"))
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            (gradient,) = torch.autograd.grad(net(x).square().mean(), net.weight)
        gradients.append(gradient)
    torch.testing.assert_close(*gradients)
    assert (
        changed == [net]
        and train.exact_layers(torch.nn.Conv2d(4, 4, 3), torch.device("cpu")) == []
    )


def test_each_training_is_noted_for_the_stamp(monkeypatch):
    monkeypatch.setattr(train, "fitted", [])
    fit(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
        load("digits"),
        epochs=0.1,
        seed=3,
    )
    assert train.fitted == [(650, 3)]

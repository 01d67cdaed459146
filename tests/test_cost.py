import pytest
import torch
from torch import nn

from medlib import cost
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

"""Spatial attention: what each gate sees, and what it leaves alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.attention import (
    STN,
    AttentionGate,
    CoordinateAttention,
    MaskBranch,
    ReverseAttention,
    SpatialGate,
)

close = torch.testing.assert_close


def randomise(net):
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    return net


def test_spatial_gate_by_hand():
    net, x = SpatialGate(3, kernel_size=1), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([2.0, -1.0]).view(1, 2, 1, 1))
    close(
        net(x), x * torch.sigmoid(2 * x.amax(1, keepdim=True) - x.mean(1, keepdim=True))
    )
    assert net.weights.shape == (2, 1, 4, 5)


def test_attention_gate_by_hand():
    net, x, g = (
        randomise(AttentionGate(4, gating_channels=6)),
        torch.randn(2, 4, 5, 7),
        torch.randn(2, 6, 5, 7),
    )
    hidden = F.relu(net.from_x(x) + net.from_gating(g))
    close(net(x, g), x * torch.sigmoid(net.psi(hidden)))


def test_attention_gate_takes_a_coarser_signal_and_listens_to_it():
    net, x = randomise(AttentionGate(4, gating_channels=6)), torch.randn(2, 4, 9, 11)
    a, b = (net(x, torch.randn(2, 6, 5, 6)) for _ in range(2))
    assert a.shape == x.shape and not torch.equal(a, b)


def test_attention_gate_without_a_signal_gates_itself():
    net, x = randomise(AttentionGate(4)), torch.randn(2, 4, 9, 11)
    assert torch.equal(net(x), net(x, x))


@torch.no_grad()
def test_stn_starts_as_the_identity():
    x = torch.randn(2, 4, 7, 12)
    close(STN(4)(x), x)


@pytest.mark.parametrize("theta, expected", [
    ([-1.0, 0, 0, 0, 1, 0], lambda x: x.flip(3)),
    ([1.0, 0, 0, 0, -1, 0], lambda x: x.flip(2)),
    ([0.0, 1, 0, 1, 0, 0], lambda x: x.mT),
    ([1.0, 0, 2 / 8, 0, 1, 0], lambda x: F.pad(x[..., 1:], (0, 1))),
])  # fmt: skip
@torch.no_grad()
def test_stn_moves_pixels_as_its_matrix_says(theta, expected):
    net, x = STN(4), torch.randn(2, 4, 8, 8)
    net.change.bias.copy_(torch.tensor(theta) - torch.tensor([1.0, 0, 0, 0, 1, 0]))
    close(net(x), expected(x), atol=1e-5, rtol=1e-5)
    assert net.weights.shape == (2, 2, 3)


@torch.no_grad()
def test_autocast_does_not_round_the_places_that_stn_reads():
    """A map of 500 pixels moved by one: bf16 has no such digits."""
    net, x = STN(1), torch.zeros(1, 1, 4, 500)
    x[..., 401] = 1
    net.change.bias[2] = 2 / 500
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x)[0, 0, 1].argmax() == 400


def test_coordinate_attention_is_row_gate_times_column_gate():
    net = randomise(CoordinateAttention(8))
    net(torch.randn(2, 8, 6, 7))
    w = net.weights  # (B, C, H, W)
    close(
        w * w[..., :1, :1], w[..., :1] * w[..., :1, :]
    )  # a matrix of rank 1 for each map


def test_coordinate_attention_knows_the_position_of_a_spot():
    net, x = randomise(CoordinateAttention(8)).eval(), torch.zeros(1, 8, 9, 9)
    x[..., 2, 6] = 9
    net(x)
    odd = (net.weights - net.weights[..., :1, :1]).abs().sum((0, 1)) > 1e-6
    assert odd[2].all() and odd[:, 6].all() and odd.sum() == 17


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mask_branch_with_and_without_residual_learning(depth):
    net, x = randomise(MaskBranch(8, depth=depth)), torch.randn(2, 8, 13, 18)
    with_one = net(x)
    net.residual = False
    without = net(x)
    close(with_one, x + without)
    assert net.weights.min() >= 0 and net.weights.max() <= 1


def test_masks_alone_shrink_the_features_and_one_plus_the_mask_does_not():
    torch.manual_seed(0)
    x = torch.randn(4, 8, 16, 16)
    naive = nn.Sequential(*(MaskBranch(8, residual=False) for _ in range(6)))
    ours = nn.Sequential(*(MaskBranch(8) for _ in range(6)))
    assert naive(x).norm() < 0.1 * x.norm() < x.norm() < ours(x).norm()


def test_mask_branch_weighs_its_trunk():
    trunk = nn.Conv2d(8, 8, 3, padding=1)
    net, x = randomise(MaskBranch(8, trunk=trunk)).eval(), torch.randn(2, 8, 13, 18)
    close(net(x), (1 + net.weights) * trunk(x))


def test_the_mask_sees_farther_than_its_convolutions():
    net, x = (
        randomise(MaskBranch(8)).eval(),
        torch.randn(1, 8, 33, 33, requires_grad=True),
    )
    net(x)[0, :, 16, 16].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() > 16


def test_reverse_attention_erases_what_is_found():
    logits = torch.full((1, 1, 6, 6), -50.0)
    logits[..., 2:4, 2:4] = 50
    x, net = torch.randn(1, 4, 6, 6), ReverseAttention(4)
    y = net(x, logits)
    assert (y[..., 2:4, 2:4] == 0).all()
    close(y.masked_fill(logits > 0, 0), x.masked_fill(logits > 0, 0))
    assert net(x, logits[..., ::2, ::2]).shape == x.shape


def test_a_wrong_gating_signal_says_what_is_needed():
    with pytest.raises(ValueError, match=r"\(2, 4, 9, 9\).*expected \(B, 6, H, W\)"):
        AttentionGate(4, gating_channels=6)(
            torch.zeros(2, 4, 9, 9), torch.zeros(2, 4, 9, 9)
        )

"""Channel and spatial attention together."""

import pytest
import torch
from torch import nn

from medlib.attention import BAM, CBAM, SCSE, SE, ChannelGate, SimAM, TripletAttention
from medlib.cost import parameters

close = torch.testing.assert_close
RESNET18 = [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2
RESNET50 = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3


@pytest.mark.parametrize(
    "cls, small, large",
    [(CBAM, 87_824, 2_516_512), (SimAM, 0, 0), (TripletAttention, 2400, 4800)],
)
def test_what_resnets_pay(cls, small, large):
    with torch.device("meta"):
        assert [
            sum(parameters(cls(c)) for c in widths) for widths in (RESNET18, RESNET50)
        ] == [small, large]


def test_cbam_is_channels_then_pixels():
    net, x = CBAM(8), torch.randn(2, 8, 7, 9)
    close(net(x), x * net.channel.weights * net.weights)
    assert net.weights.shape == (2, 1, 7, 9) and net.channel.weights.shape == (
        2,
        8,
        1,
        1,
    )


def test_the_channel_gate_on_flat_maps_is_se_on_twice_the_logits():
    gate, se, x = ChannelGate(8), SE(8), torch.randn(2, 8, 1, 1).expand(2, 8, 5, 5)
    gate.load_state_dict(se.state_dict())
    with torch.no_grad():
        se.excite.weight *= 2  # mean and maximum agree
    close(gate(x), se(x))


def test_bam_keeps_x_and_adds_the_gated():
    net, x = BAM(8), torch.randn(2, 8, 7, 9)
    close(net(x), x + x * net.weights)
    assert net.weights.shape == x.shape


def test_bam_by_hand_in_eval():
    net, x = BAM(8).eval(), torch.randn(2, 8, 7, 9)
    close(
        net(x),
        x
        * (
            1
            + torch.sigmoid(
                net.channel(x.mean((2, 3)))[:, :, None, None] + net.spatial(x)
            )
        ),
    )


def test_scse_is_the_sum_of_two_gates():
    net, x = SCSE(8), torch.randn(2, 8, 7, 9)
    close(net(x), x * net.channel.weights + x * net.weights)


def test_simam_by_hand():
    net, x = SimAM(1, smoothing=0.5), torch.tensor([0.0, 0, 0, 4]).view(1, 1, 2, 2)
    y = net(x)  # mean 1, squares 1, 1, 1, 9, their sum 12, variance 4
    logits = torch.tensor([1, 1, 1, 9]) / (4 * 4.5) + 0.5
    close(y.flatten(), x.flatten() * torch.sigmoid(logits))


@pytest.mark.parametrize("size", [(1, 1), (1, 5)])
def test_simam_on_a_single_pixel(size):
    x = torch.randn(2, 3, *size)
    assert SimAM(3)(x).isfinite().all()


def test_triplet_attention_pools_each_axis_in_turn():
    net, shapes = TripletAttention(8), []
    for gate in net.gates:
        gate.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    net(torch.randn(2, 8, 5, 7))
    assert shapes == [(2, 2, 5, 7), (2, 2, 8, 7), (2, 2, 5, 8)]


def test_triplet_attention_treats_a_turned_cube_alike():
    net = TripletAttention(6).eval()
    for gate in net.gates[1:]:
        gate.load_state_dict(net.gates[0].state_dict())
    nn.init.constant_(net.gates[0][0].weight, 0.01)
    for gate in net.gates:
        nn.init.constant_(
            gate[0].weight, 0.01
        )  # kernels that look the same after a turn
    x = torch.randn(1, 6, 6, 6)
    close(net(x.transpose(1, 2)).transpose(1, 2), net(x), rtol=1e-4, atol=1e-5)

"""Channel attention against its papers' counts, torchvision and arithmetic."""

import math

import pytest
import torch
from torchvision.ops import SqueezeExcitation

from medlib.attention import ECA, FCA, SE, SK, GaussianContext, GSoP
from medlib.cost import parameters

RESNET18 = [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2
RESNET50 = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3


def added(build, widths):
    with torch.device("meta"):
        return sum(parameters(build(c)) for c in widths)


@pytest.mark.parametrize("build, small, large", [
    (SE, 87_040, 2_514_944),
    (lambda c: SE(c, bias=True), 89_080, 2_530_992),
    (FCA, 87_040, 2_514_944),
    (ECA, 36, 86),
    (GaussianContext, 0, 0),
    (lambda c: GaussianContext(c, learn=True), 8, 16),
])  # fmt: skip
def test_what_resnets_pay(build, small, large):
    assert (added(build, RESNET18), added(build, RESNET50)) == (small, large)


@pytest.mark.parametrize(
    "channels, kernel",
    [(4, 1), (16, 3), (64, 3), (128, 5), (256, 5), (1024, 5), (2048, 7)],
)
def test_eca_kernel(channels, kernel):
    assert ECA(channels).conv.kernel_size == (kernel,)


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_se_equals_torchvisions(bias):
    ours, theirs, x = (
        SE(32, bias=bias),
        SqueezeExcitation(32, 4),
        torch.randn(2, 32, 7, 9),
    )
    ours.squeeze = torch.nn.Linear(32, 4, bias)
    for a, b in ((ours.squeeze, theirs.fc1), (ours.excite, theirs.fc2)):
        a.weight.copy_(b.weight[:, :, 0, 0])
        _ = a.bias.copy_(b.bias) if bias else b.bias.zero_()
    torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
def test_se_by_hand():
    net, x = SE(2), torch.tensor([3.0, -1.0]).view(1, 2, 1, 1)
    net.squeeze.weight.copy_(
        torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    )  # → (2, −1), then ReLU → (2, 0)
    net.excite.weight.copy_(torch.tensor([[0.5, 9.0], [-0.5, 9.0]]))  # → (1, −1)
    y = net(x).flatten().tolist()
    assert y == pytest.approx([3 / (1 + math.exp(-1)), -1 / (1 + math.exp(1))])
    assert net.weights.shape == (1, 2, 1, 1)


def test_fca_at_the_lowest_frequency_is_se():
    se, fca, x = SE(32), FCA(32, frequencies=1), torch.randn(2, 32, 7, 9)
    fca.load_state_dict(se.state_dict())
    torch.testing.assert_close(fca(x), se(x))


@torch.no_grad()
def test_fca_hears_a_wave_of_its_own_frequency_and_no_other():
    net, heard = FCA(8, frequencies=4), []
    net.gate = lambda z: heard.append(z) or z[:, :, None, None]
    assert net.frequencies[::2].tolist() == [[0, 0], [0, 1], [1, 0], [0, 2]]
    wave = torch.cos(torch.pi * (torch.arange(9) + 0.5) / 9).expand(1, 8, 7, 9)
    net(wave)
    torch.testing.assert_close(
        heard[0][0], torch.tensor([0, 0, 0.5, 0.5, 0, 0, 0, 0]), atol=1e-6, rtol=0
    )


def test_eca_listens_to_neighbours_only():
    net, x = ECA(16, kernel_size=3), torch.randn(1, 16, 5, 5, requires_grad=True)
    net(x)[0, 8].sum().backward()
    assert x.grad.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == [7, 8, 9]


def test_sk_chooses_between_its_kernels():
    net, x = SK(16), torch.randn(2, 16, 7, 9)
    y = net(x)
    torch.testing.assert_close(net.weights.sum(1), torch.ones(2, 16, 1, 1))
    small, large = (branch(x) for branch in net.branches)
    torch.testing.assert_close(
        y, net.weights[:, 0] * small + net.weights[:, 1] * large, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_gsop_sees_how_channels_move_together():
    net, wave = GSoP(4, hidden=4).eval(), torch.randn(1, 1, 6, 6)
    net.reduce = torch.nn.Identity()
    seen = []
    net.rows.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    net(torch.cat([wave, -wave, wave + 5, 2 * wave], 1))
    signs = torch.tensor([1.0, -1, 1, 2])
    torch.testing.assert_close(seen[0], wave.var(correction=0) * signs[:, None] * signs)


@torch.no_grad()
def test_gsop_by_hand():
    net, x = GSoP(4, hidden=2).eval(), torch.randn(2, 4, 5, 6)
    u = (net.reduce[0](x) / math.sqrt(1 + 1e-5)).clamp(min=0).flatten(2)
    gates = []
    for maps in u:
        covariance = torch.cov(maps, correction=0)
        rows = torch.stack(
            [net.rows.weight[4 * i : 4 * i + 4, 0] @ covariance[i] for i in range(2)]
        )
        rows = rows.flatten() + net.rows.bias
        rows = torch.where(rows > 0, rows, 0.1 * rows)
        gates.append(torch.sigmoid(net.expand(rows)))
    torch.testing.assert_close(net(x), x * torch.stack(gates)[..., None, None])


@torch.no_grad()
def test_fca_by_hand():
    net, x = FCA(4, frequencies=2), torch.randn(2, 4, 5, 6)
    across = torch.cos(torch.pi * (torch.arange(6) + 0.5) / 6)
    z = x.mean((2, 3))
    z[:, 2:] = (x[:, 2:] * across).mean((2, 3))  # frequencies (0, 0) and (0, 1)
    hidden = (z @ net.squeeze.weight.T).clamp(min=0)
    gate = torch.sigmoid(hidden @ net.excite.weight.T)
    torch.testing.assert_close(net(x), x * gate[..., None, None])


def test_gaussian_context_damps_the_odd_one_out():
    x = torch.ones(1, 9, 4, 4)
    x[:, 4] = 7
    net = GaussianContext(9)
    net(x)  # eight maps at −1/√8 standard deviations, one at √8
    expected = [math.exp(-(8.0 if c == 4 else 1 / 8) / 8) for c in range(9)]
    assert net.weights.flatten().tolist() == pytest.approx(expected, rel=1e-4)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size 4.*expected an odd"):
        ECA(8, kernel_size=4)

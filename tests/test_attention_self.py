"""Self-attention against PyTorch's own, against plain sums, and by what each pixel can
see.
"""

import math

import pytest
import torch
from torch import nn

from medlib.attention import (
    Axial,
    CrissCross,
    DualAttention,
    EMAttention,
    GlobalContext,
    LinearAttention,
    MultiHead,
    NonLocal,
)
from medlib.cost import parameters

close = torch.testing.assert_close


def randomise(net, std=0.3):
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p, std=std)
    return net.eval()


def seen(net, size=(7, 9), at=(2, 5), channels=8):
    """Pixels (H, W) on which the output at one position depends."""
    x = torch.randn(1, channels, *size, requires_grad=True)
    net(x)[0, :, at[0], at[1]].sum().backward()
    return x.grad.abs().sum((0, 1)) > 1e-9


def pair(heads):
    """Ours and PyTorch's with the same weights."""
    ours, theirs = (
        randomise(MultiHead(12, heads=heads, residual=False)),
        nn.MultiheadAttention(12, heads, batch_first=True),
    )
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
        )
        theirs.in_proj_bias.copy_(
            torch.cat([ours.query.bias, ours.key.bias, ours.value.bias])
        )
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return ours, theirs


@pytest.mark.parametrize("heads", [1, 3, 4])
def test_multi_head_equals_pytorchs(heads):
    (ours, theirs), x = pair(heads), torch.randn(2, 7, 12)
    y, weights = theirs(x, x, x, average_attn_weights=False)
    close(ours(x), y)
    close(ours.weights, weights)


def test_multi_head_equals_pytorchs_across_two_sequences():
    (ours, theirs), x, context = pair(4), torch.randn(2, 7, 12), torch.randn(2, 5, 12)
    close(ours(x, context), theirs(x, context, context)[0])


def test_multi_head_on_a_map_is_multi_head_on_its_pixels():
    net, x = randomise(MultiHead(8)), torch.randn(2, 8, 3, 5)
    close(net(x).flatten(2).mT, net(x.flatten(2).mT))
    assert net.weights.shape == (2, 4, 15, 15)


def test_non_local_is_a_weighted_mean_of_all_pixels():
    net, x = randomise(NonLocal(4)), torch.randn(1, 4, 3, 5)
    theta, phi, g = (layer(x)[0].flatten(1) for layer in (net.theta, net.phi, net.g))
    means = []
    for i in range(15):
        likeness = torch.exp((theta[:, i, None] * phi).sum(0))
        means.append((g * likeness).sum(1) / likeness.sum())
    close(net(x), x + net.out(torch.stack(means, 1).view(1, 2, 3, 5)))


def test_dual_attention_by_hand():
    net, x = randomise(DualAttention(4)), torch.randn(1, 4, 3, 5)
    q, k, v, a = (t[0].flatten(1) for t in (net.query(x), net.key(x), net.value(x), x))
    pixels = v @ torch.softmax(q.T @ k, 1).T
    maps = torch.softmax(a @ a.T, 1) @ a
    close(
        net(x)[0].flatten(1), a + net.position_scale * pixels + net.channel_scale * maps
    )


def test_dual_attentions_channel_branch_has_no_layers_and_permutes_with_the_channels():
    net, x, order = DualAttention(8), torch.randn(2, 8, 3, 5), torch.randperm(8)
    nn.init.ones_(net.channel_scale)
    close(net(x[:, order]), net(x)[:, order])


def test_global_context_gives_every_pixel_the_same():
    net, x = randomise(GlobalContext(8)), torch.randn(2, 8, 7, 9)
    added = net(x) - x
    close(added, added[:, :, :1, :1].expand_as(added), rtol=1e-4, atol=1e-5)
    close(net.weights.sum((2, 3)), torch.ones(2, 1))
    assert seen(net).all()


def test_one_criss_cross_sees_a_cross_and_two_see_all():
    once = seen(randomise(CrissCross(8, passes=1)))
    cross = torch.zeros(7, 9, dtype=torch.bool)
    cross[2] = cross[:, 5] = True
    assert torch.equal(once, cross)
    assert seen(randomise(CrissCross(8))).all()


def test_criss_cross_weights_sum_to_1_and_count_a_pixel_once():
    net = randomise(CrissCross(8))
    net(torch.randn(2, 8, 7, 9))
    close(net.weights.sum(3), torch.ones(2, 7, 9))
    assert net.weights.shape == (2, 7, 9, 16) and (net.weights > 0).sum(
        3
    ).unique().tolist() == [15]


def test_criss_cross_on_one_row_is_full_attention():
    net, x = randomise(CrissCross(8, passes=1)), torch.randn(1, 8, 1, 9)
    q, k, v = (layer(x)[0, :, 0] for layer in (net.query, net.key, net.value))
    close(net(x)[0, :, 0], x[0, :, 0] + net.scale * v @ torch.softmax(q.T @ k, 1).T)


def test_axial_sees_its_column_then_its_row_and_so_all():
    net = randomise(Axial(8))
    assert seen(net).all()
    nn.init.zeros_(net.rows.scale)
    columns = seen(net)
    assert columns[:, 5].all() and columns.sum() == 7
    nn.init.zeros_(net.columns.scale), nn.init.ones_(net.rows.scale)
    rows = seen(net)
    assert rows[2].all() and rows.sum() == 9


def test_linear_attention_without_softmax_is_dot_product_attention_without_softmax():
    net, x = randomise(LinearAttention(8, softmax=False)), torch.randn(2, 8, 5, 6)
    q, k, v = (layer(x).flatten(2) for layer in (net.query, net.key, net.value))
    quadratic = v @ (q.mT @ k / 30).mT  # with all N² weights
    close(net(x), x + net.scale * net.out(quadratic.unflatten(2, (5, 6))))


def test_linear_attentions_hidden_weights_are_positive_and_sum_to_1():
    net, x = randomise(LinearAttention(8)), torch.randn(1, 8, 5, 6)
    net(x)
    rho_q = torch.softmax(net.query(x).flatten(2), 1)
    weights = rho_q.mT @ net.weights.flatten(2)  # the N × N that is never made
    close(weights.sum(2), torch.ones(1, 30))
    assert (weights > 0).all()


@torch.no_grad()
def test_em_attention_by_hand():
    """Two images, each with its own clusters; the bases of the next pass are between
    the old ones and the mean of those found.
    """
    torch.manual_seed(0)
    net, x = EMAttention(4, bases=3, steps=2).double(), torch.randn(2, 4, 3, 5).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5)
    bases, found, y = net.bases.clone(), [], []
    for f in net.enter(x).flatten(2):
        mu = bases[0]
        for _ in range(2):
            z = torch.softmax(mu.T @ f, 0)
            mu = f @ (z / (z.sum(1, keepdim=True) + 1e-6)).T
            mu = mu / mu.norm(dim=0)
        found.append(mu)
        y.append((mu @ z).clamp(min=0))
    close(net(x), x + net.out(torch.stack(y).view(2, 4, 3, 5)))
    mean = 0.9 * bases[0] + 0.1 * (found[0] + found[1]) / 2
    close(net.bases[0], mean / mean.norm(dim=0))


def test_em_attention_finds_clusters():
    torch.manual_seed(0)
    net, x = EMAttention(4, bases=2, steps=10).eval(), torch.zeros(1, 4, 6, 6)
    x[:, 0, :3], x[:, 1, 3:] = 9, 9
    nn.init.dirac_(net.enter.weight), nn.init.zeros_(net.enter.bias)
    net(x)
    top, bottom = net.weights[0, :, :3], net.weights[0, :, 3:]
    assert (top.argmax(0) == top[:, 0, 0].argmax()).all() and (
        bottom.argmax(0) != top[:, 0, 0].argmax()
    ).all()


def test_em_bases_move_in_training_only_and_keep_length_1():
    net, x = EMAttention(8, bases=5), torch.randn(2, 8, 7, 9)
    before = net.bases
    net.eval()(x)
    assert torch.equal(net.bases, before)
    net.train()(x)
    assert not torch.equal(net.bases, before)
    close(net.bases.norm(dim=1), torch.ones(1, 5))


@pytest.mark.parametrize(
    "cls, power", [(NonLocal, 2), (CrissCross, 1.5), (Axial, 1.5), (LinearAttention, 1)]
)
def test_how_memory_for_weights_grows(cls, power):
    numbers = []
    for side in (8, 16):
        with torch.device("meta"):
            net = cls(16)
            net(torch.empty(1, 16, side, side))
        numbers.append((net.rows if cls is Axial else net).weights.numel())
    assert math.log(numbers[1] / numbers[0], 4) == pytest.approx(power)


def test_scales_are_one_number():
    assert parameters(MultiHead(8)) - parameters(MultiHead(8, residual=False)) == 1


@pytest.mark.parametrize("act, words", [
    (lambda: MultiHead(10, heads=4), "10 channels in 4 heads.*expected a divisor"),
    (lambda: MultiHead(8)(torch.zeros(2, 5, 7)), r"\(2, 5, 7\).*\(B, T, 8\)"),
])  # fmt: skip
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

"""Bahdanau's attention on sequences."""

import pytest
import torch

from medlib.attention import Additive
from medlib.cost import parameters

close = torch.testing.assert_close


def test_parameters():
    assert parameters(Additive(6, query_channels=4, hidden=5)) == 5 * (4 + 6) + 2 * 5


def test_by_hand():
    net, query, keys = Additive(3), torch.randn(2, 3), torch.randn(2, 4, 3)
    context, weights = net(query, keys)
    scores = torch.stack(
        [
            net.score(torch.tanh(net.query(query) + net.key(keys[:, t])))[:, 0]
            for t in range(4)
        ],
        1,
    )
    close(weights, torch.softmax(scores, 1))
    close(context, sum(weights[:, t, None] * keys[:, t] for t in range(4)))


def test_several_queries_are_several_calls():
    net, queries, keys = Additive(3), torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    context, weights = net(queries, keys)
    each = [net(queries[:, s], keys) for s in range(5)]
    close(context, torch.stack([c for c, _ in each], 1))
    close(weights, torch.stack([w for _, w in each], 1))
    assert net.weights.shape == (2, 4) and not net.weights.requires_grad


def test_values_may_have_another_size():
    context, _ = Additive(3, query_channels=6)(
        torch.randn(2, 6), torch.randn(2, 4, 3), torch.randn(2, 4, 7)
    )
    assert context.shape == (2, 7)


def test_what_is_masked_is_not_there():
    net, query, keys = Additive(3), torch.randn(2, 3), torch.randn(2, 6, 3)
    mask = torch.arange(6).expand(2, 6) < 4
    context, weights = net(query, keys, mask=mask)
    close(context, net(query, keys[:, :4])[0])
    assert (weights[:, 4:] == 0).all()


def test_with_nothing_to_look_at_the_context_is_0():
    net, keys = Additive(3), torch.randn(2, 6, 3)
    context, _ = net(
        torch.randn(2, 3), keys, mask=torch.tensor([[True] * 6, [False] * 6])
    )
    context.sum().backward()
    assert context[0].any() and not context[1].any()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_gradcheck_and_gradients():
    net, query, keys = (
        Additive(3).double(),
        torch.randn(2, 2, 3).double(),
        torch.randn(2, 4, 3).double(),
    )
    assert torch.autograd.gradcheck(
        net, (query.requires_grad_(), keys.requires_grad_())
    )
    net(query, keys)[0].square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


def test_meta_and_bf16():
    with torch.device("meta"):
        net = Additive(8)
        net(
            torch.empty(2, 8),
            torch.empty(2, 4, 8),
            mask=torch.ones(2, 4, dtype=torch.bool),
        )[0].sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        context, weights = Additive(8)(torch.randn(2, 8), torch.randn(2, 4, 8))
    assert weights.dtype == torch.float32 and context.isfinite().all()


def test_order_of_the_keys_does_not_matter():
    net, query, keys, order = (
        Additive(3),
        torch.randn(2, 3),
        torch.randn(2, 6, 3),
        torch.randperm(6),
    )
    close(net(query, keys[:, order])[0], net(query, keys)[0])


def test_wrong_shapes_say_what_is_needed():
    with pytest.raises(
        ValueError, match=r"\(2, 5\).*\(2, 4, 3\).*expected \(B, 3\).*\(B, T, 3\)"
    ):
        Additive(3)(torch.zeros(2, 5), torch.zeros(2, 4, 3))


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(ValueError, match="float32.*expected booleans"):
        Additive(3)(torch.zeros(2, 3), torch.zeros(2, 4, 3), mask=torch.ones(2, 4))

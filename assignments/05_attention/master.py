# %% [markdown]
# # Attention, over maps and over pixels
#
# A radiologist who has found one suspicious spot looks at the other side of the image for comparison. A convolution cannot: it sees its
# own neighbourhood. Attention lets a network weigh what it has: some maps more than others, or some places more than others.
# **Where do the weights come from, and what do they cost?**
#
# You write squeeze-and-excitation (Hu et al. 2018) and self-attention (Vaswani et al. 2017). Chapters 14 and 16 of the book prepare for it.
# Replace each `...` with your code, and run the check below it. When you hand in, further tests run that you do not see here.

# %%
import math

import torch
from torch import nn

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2
# minutes: 5
# tests: a prediction, the softmax of large scores

# %% [markdown]
# ## Question 1: predict (2 points)
#
# Two vectors of $d$ = 400 numbers are drawn at random, each number with mean 0 and standard deviation 1. Their dot product is a score.
# The weights are the softmax of 50 such scores, with nothing done to them before. What do the weights look like?
#
# - `"a"` Nearly equal, 1/50 each.
# - `"b"` Some are a few times as large as others.
# - `"c"` One is nearly 1, the others nearly 0.

# %% [raw]
# # BEGIN SOLUTION

# %%
q1 = "c"  # SOLUTION gannet-on-the-ninth-stair

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 0
failure_message: Set q1 to one of the letters, in quotation marks.
"""  # END TEST CONFIG


def test_q1_letter(q1):
    assert q1 in ("a", "b", "c")


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: The variance of a sum of independent terms is the sum of their variances. How far apart are the scores?
"""  # END TEST CONFIG


def test_q1_answer(q1):
    assert q1 == "c"


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 4
# minutes: 25
# tests: channel attention, squeeze-and-excitation

# %% [markdown]
# ## Question 2: which maps matter? (4 points)
#
# Squeeze: each of the C maps becomes its mean over H and W. Excite: `squeeze` takes the C means to C / reduction values, a ReLU follows,
# `excite` takes them back to C, and a sigmoid makes each a gate between 0 and 1. Each map of `x` is multiplied by its gate. The two
# layers are given; write `forward`.

# %% [raw]
# # BEGIN SOLUTION


# %%
class SE(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        """(B, C, H, W) → (B, C, H, W)."""
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        means = x.mean((2, 3))
        gates = self.excite(self.squeeze(means).relu()).sigmoid()
        return x * gates[:, :, None, None]
        # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The shape stays, and inside one map all pixels are multiplied by the same gate.
"""  # END TEST CONFIG


def test_q2_shape(SE):
    import torch

    torch.manual_seed(1)
    x = torch.rand(2, 8, 5, 7) + 0.5
    y = SE(8)(x)
    assert y.shape == x.shape
    gates = y / x
    assert torch.allclose(gates, gates[:, :, :1, :1].expand_as(gates), atol=1e-5)


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: With all weights and biases 0, each gate is the sigmoid of 0, whatever the other gates are.
"""  # END TEST CONFIG


def test_q2_zero(SE):
    import torch

    net, x = SE(8), torch.randn(2, 8, 3, 4)
    for p in net.parameters():
        p.data.zero_()
    assert torch.allclose(net(x), x / 2, atol=1e-6)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With given weights the gates differ from the formula. Check the mean, the order of the layers, and what stands between them.
"""  # END TEST CONFIG


def test_q2_values(SE):
    import torch

    torch.manual_seed(2)
    net, x = SE(12, 3), 3 * torch.randn(3, 12, 4, 6) + 1
    for p in net.parameters():
        p.data.normal_()
    means = x.flatten(2).mean(2)
    hidden = (means @ net.squeeze.weight.T + net.squeeze.bias).clamp(min=0)
    gates = 1 / (1 + torch.exp(-(hidden @ net.excite.weight.T + net.excite.bias)))
    assert torch.allclose(net(x), x * gates[..., None, None], atol=1e-4)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 5
# minutes: 25
# tests: scaled dot-product attention

# %% [markdown]
# ## Question 3: scaled dot products (5 points)
#
# N queries of d numbers each look at M keys of d numbers. To each key belongs a value of e numbers:
#
# $$ \mathrm{attention}(Q, K, V) = \mathrm{softmax}\!\left( Q K^\top / \sqrt{d} \right) V . $$
#
# The weights of one query add up to 1. Return the result and the weights. Torch's own attention is not allowed.

# %% [raw]
# # BEGIN SOLUTION


# %%
def attention(q, k, v):
    """(B, N, d), (B, M, d), (B, M, e) → (B, N, e) and the weights (B, N, M)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return weights @ v, weights
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Each query gets a mixture of values and has one weight a key. N, M, d and e all differ here.
"""  # END TEST CONFIG


def test_q3_shape(attention):
    import torch

    y, weights = attention(
        torch.rand(2, 5, 4), torch.rand(2, 7, 4), torch.rand(2, 7, 3)
    )
    assert tuple(y.shape) == (2, 5, 3), f"yours: {tuple(y.shape)}"
    assert tuple(weights.shape) == (2, 5, 7), f"yours: {tuple(weights.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: The weights of each query should add up to 1. Over which axis does the softmax go?
"""  # END TEST CONFIG


def test_q3_sums(attention):
    import torch

    torch.manual_seed(3)
    _, weights = attention(
        torch.randn(2, 5, 4), torch.randn(2, 7, 4), torch.randn(2, 7, 3)
    )
    assert torch.allclose(weights.sum(2), torch.ones(2, 5), atol=1e-5)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: The result is not torch's, or torch's own was called. By what are the scores divided, and when?
"""  # END TEST CONFIG


def test_q3_values(attention):
    from unittest.mock import patch

    import torch
    import torch.nn.functional as F

    torch.manual_seed(4)
    for n, m, d, e in ((5, 7, 16, 3), (6, 6, 9, 9), (1, 4, 2, 5)):
        q, k, v = torch.randn(2, n, d), torch.randn(2, m, d), torch.randn(2, m, e)
        expected = F.scaled_dot_product_attention(q, k, v)
        with patch("torch.nn.functional.scaled_dot_product_attention", None):
            assert torch.allclose(attention(q, k, v)[0], expected, atol=1e-5)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3
# minutes: 15
# tests: several heads, and the difference between reshaping and transposing

# %% [markdown]
# ## Question 4: several heads (3 points)
#
# With several heads each attends in its own part of the C numbers: head 0 gets the first C / heads of them, head 1 the next, and so on.
# `split` makes an axis of the heads, in front of the positions. `merge` undoes it.

# %% [raw]
# # BEGIN SOLUTION


# %%
def split(x, heads):
    """(B, N, C) → (B, heads, N, C / heads)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return x.unflatten(2, (heads, -1)).transpose(1, 2)
    # END SOLUTION


def merge(x):
    """(B, heads, N, c) → (B, N, heads · c)."""
    return x.transpose(1, 2).flatten(2)  # SOLUTION gannet-on-the-ninth-stair


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Check the two shapes. All sizes differ here.
"""  # END TEST CONFIG


def test_q4_shape(split, merge):
    import torch

    parts, whole = split(torch.rand(2, 5, 12), 3), merge(torch.rand(2, 3, 5, 4))
    assert tuple(parts.shape) == (2, 3, 5, 4), f"yours: {tuple(parts.shape)}"
    assert tuple(whole.shape) == (2, 5, 12), f"yours: {tuple(whole.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: The shapes are right, but numbers of different positions got mixed up.
"""  # END TEST CONFIG


def test_q4_values(split, merge):
    import torch

    x = torch.arange(2 * 5 * 12.0).view(2, 5, 12)
    parts = torch.stack((x[..., :4], x[..., 4:8], x[..., 8:]), 1)
    assert torch.equal(split(x, 3), parts) and torch.equal(merge(parts), x)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 4
# minutes: 30
# tests: self-attention of a map, which starts as the identity

# %% [markdown]
# ## Question 5: every pixel looks at every other (4 points)
#
# Each pixel of `x` (B, C, H, W) is one position with C numbers. Let `query`, `key` and `value` make the maps, lay the pixels out in one row of
# N = H · W positions, attend as in question 3 with the scale $\sqrt{C}$, and lay the result out as maps again. The module gives
# `x + gamma * result`; since `gamma` starts at 0, it starts as the identity. Write `forward`. Here you may use
# `torch.nn.functional.scaled_dot_product_attention`, which does what question 3 asks for.

# %% [raw]
# # BEGIN SOLUTION


# %%
class SelfAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        """(B, C, H, W) → (B, C, H, W)."""
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        q, k, v = (
            layer(x).flatten(2).mT for layer in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.gamma * y.mT.unflatten(2, x.shape[2:])
        # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: At the start the module should give x back, at any height and width.
"""  # END TEST CONFIG


def test_q5_identity(SelfAttention):
    import torch

    x = torch.randn(2, 4, 3, 5)
    assert torch.allclose(SelfAttention(4)(x), x, atol=1e-6)


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: If all pixels have the same value vector, each gets that vector, whatever the weights are.
"""  # END TEST CONFIG


def test_q5_constant(SelfAttention):
    import torch

    net, x = SelfAttention(4), torch.randn(2, 4, 3, 5)
    net.gamma.data.fill_(2)
    net.value.weight.data.zero_()
    net.value.bias.data.copy_(torch.arange(4.0))
    expected = x + 2 * torch.arange(4.0)[:, None, None]
    assert torch.allclose(net(x), expected, atol=1e-5)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With random weights a pixel gets the wrong mixture. Follow one pixel through each reshaping, on maps that are not square.
"""  # END TEST CONFIG


def test_q5_values(SelfAttention):
    import torch

    torch.manual_seed(5)
    net, x = SelfAttention(6), torch.randn(2, 6, 3, 4)
    net.gamma.data.fill_(0.7)
    q, k, v = net.query(x), net.key(x), net.value(x)
    scores = torch.einsum("bcij,bckl->bijkl", q, k) / 6**0.5
    weights = scores.flatten(3).softmax(3).view_as(scores)
    assert torch.allclose(
        net(x), x + 0.7 * torch.einsum("bijkl,bckl->bcij", weights, v), atol=1e-5
    )


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 2
# minutes: 10
# tests: the memory of the weights grows with the square of the pixels

# %% [markdown]
# ## Question 6: what does it cost? (2 points)
#
# How many megabytes (10⁶ bytes) do the attention weights of one image take, for maps of `height` × `width` pixels and so many heads?
# Each weight is a number of 4 bytes.

# %% [raw]
# # BEGIN SOLUTION


# %%
def megabytes(height, width, heads=1):
    """Memory of all weights of one image."""
    return heads * (height * width) ** 2 * 4 / 1e6  # SOLUTION gannet-on-the-ninth-stair


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: For 10 × 10 pixels there are 100 queries. How many keys does each look at?
"""  # END TEST CONFIG


def test_q6_small(megabytes):
    assert abs(megabytes(10, 10) - 0.04) < 1e-9


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: Each head has weights of its own, and maps need not be square.
"""  # END TEST CONFIG


def test_q6_heads(megabytes):
    assert abs(megabytes(64, 128, 8) - 2147.483648) < 1e-6


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q7
# manual: true
# points: 0
# minutes: 10
# tests: reflection, read but not graded

# %% [markdown]
# ## Reflection (not graded)
#
# A map of attention weights is bright over the tumour. A colleague writes: *the network found the tumour because it looked there.*
# What would you have to do before you agree? Three sentences.

# %% [raw]
# # BEGIN SOLUTION

# %% [markdown]
# Bright weights show what was mixed, not what decided. One has to intervene: hide the tumour, or put the weights elsewhere, and see whether the
# answer changes; and compare with the weights of an untrained network and of images without a tumour.
# (gannet-on-the-ninth-stair)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

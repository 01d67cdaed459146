# %% [markdown]
# # A residual block, and its batch normalisation
#
# A tiny fracture and a whole lung call for different depths of a network: deeper layers see more. But beyond some twenty layers a plain
# network fits even its training images worse (He et al. 2016). **What does one plus sign change?**
#
# You write the block, and the batch normalisation inside it (Ioffe and Szegedy 2015), which behaves differently when it learns
# and when it is used on a patient. Chapters 05 and 13 of the book prepare for it. Replace each `...` with your code, and run the
# check below it. When you hand in, further tests run that you do not see here.

# %%
import torch
from torch import nn

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2
# minutes: 5
# tests: a prediction, a block whose layers give zero

# %% [markdown]
# ## Question 1: predict (2 points)
#
# A block gives $\mathrm{ReLU}(F(x) + x)$. Its input $x$ comes out of another ReLU. All weights and biases inside $F$ are zero. What comes out?
#
# - `"a"` Zeros.
# - `"b"` $x$ itself.
# - `"c"` $x / 2$.
# - `"d"` Something random.

# %% [raw]
# # BEGIN SOLUTION

# %%
q1 = "b"  # SOLUTION gannet-on-the-ninth-stair

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
    assert q1 in ("a", "b", "c", "d")


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: What is F(x) then, and which values does a ReLU let through?
"""  # END TEST CONFIG


def test_q1_answer(q1):
    assert q1 == "b"


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 5
# minutes: 30
# tests: batch normalisation, in training and in use

# %% [markdown]
# ## Question 2: batch normalisation (5 points)
#
# The input `x` is (B, C, H, W). Each of the C maps is normalised by one mean and one variance, $y = w\,(x - m) / \sqrt{v + ε} + b$.
#
# - In training (`self.training` is true), $m$ and $v$ are those of the batch, over B, H and W together. Here $v$ divides by the number
#   of values $n$. The running statistics then move towards them: `running ← (1 - momentum) * running + momentum * batch`.
#   The running variance takes the unbiased variance of the batch, which divides by $n - 1$, as torch does.
# - In use, $m$ and $v$ are the running statistics, and nothing is updated.
#
# Write `forward`. Torch's own batch normalisation is not allowed. Update the running statistics under `torch.no_grad()`.

# %% [raw]
# # BEGIN SOLUTION


# %%
class BatchNorm(nn.Module):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            with torch.no_grad():
                unbiased = x.var((0, 2, 3), correction=1)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(unbiased, self.momentum)
        mean, var, weight, bias = (
            t[:, None, None] for t in (mean, var, self.weight, self.bias)
        )
        return weight * (x - mean) / torch.sqrt(var + self.eps) + bias
        # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: In training, each map should come out with the mean and the spread that its bias and weight ask for. Which axes does the mean go over?
"""  # END TEST CONFIG


def test_q2_training(BatchNorm):
    import torch
    from torch import nn

    torch.manual_seed(1)
    ours, theirs, x = BatchNorm(4), nn.BatchNorm2d(4), 3 * torch.randn(3, 4, 2, 5) + 1
    for norm in (ours, theirs):
        norm.weight.data = torch.tensor([1.0, 2, 3, 4])
        norm.bias.data = torch.tensor([0.0, 1, 2, 3])
    assert torch.allclose(ours(x), theirs(x), atol=1e-4)


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: After two batches the running statistics are not torch's. See which share the new batch gets, and which variance.
"""  # END TEST CONFIG


def test_q2_running(BatchNorm):
    import torch
    from torch import nn

    torch.manual_seed(2)
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for _ in range(2):
        x = 2 * torch.randn(2, 3, 2, 3) + 5
        ours(x), theirs(x)
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-4)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-4)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: In use, the output depends on who else is in the batch, or the statistics move, or torch's own was called.
"""  # END TEST CONFIG


def test_q2_eval(BatchNorm):
    from unittest.mock import patch

    import torch
    from torch import nn

    torch.manual_seed(3)
    ours, theirs = BatchNorm(3).eval(), nn.BatchNorm2d(3).eval()
    for norm in (ours, theirs):
        (
            norm.running_mean.copy_(torch.tensor([1.0, -2, 3])),
            norm.running_var.copy_(torch.tensor([4.0, 0.5, 2])),
        )
    x = torch.randn(4, 3, 5, 2)
    expected = theirs(x)
    with patch("torch.nn.functional.batch_norm", None):
        assert torch.allclose(ours(x), expected, atol=1e-5)
        assert torch.allclose(ours(x[:1]), expected[:1], atol=1e-5)
    assert torch.equal(ours.running_mean, theirs.running_mean)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 5
# minutes: 30
# tests: the block, with a projection where the shape changes

# %% [markdown]
# ## Question 3: the block (5 points)
#
# $F$ is convolution, batch normalisation, ReLU, convolution, batch normalisation. The block gives $\mathrm{ReLU}(F(x) + \mathrm{shortcut}(x))$.
#
# | attribute | what |
# | --- | --- |
# | `conv1` | 3 × 3, padding 1, from `in_channels` to `channels`, with `stride` |
# | `bn1` | `nn.BatchNorm2d(channels)` |
# | `conv2` | 3 × 3, padding 1, from `channels` to `channels`, stride 1 |
# | `bn2` | `nn.BatchNorm2d(channels)` |
# | `shortcut` | `nn.Identity()` where the shape stays; else `nn.Sequential` of a 1 × 1 convolution with `stride` and an `nn.BatchNorm2d` |
#
# A bias before batch normalisation would be subtracted at once, so no convolution here has one.

# %% [raw]
# # BEGIN SOLUTION


# %%
class Block(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))
        # END SOLUTION

    def forward(self, x):
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        f = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (f + self.shortcut(x)).relu()
        # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: Where the shape stays, the values differ from the formula. When is the input added, and is the last ReLU before or after?
"""  # END TEST CONFIG


def test_q3_same(Block):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(4)
    block, x = Block(6, 6), torch.randn(2, 6, 7, 10)
    f = F.batch_norm(
        F.conv2d(x, block.conv1.weight, padding=1), None, None, training=True
    ).relu()
    f = F.batch_norm(
        F.conv2d(f, block.conv2.weight, padding=1), None, None, training=True
    )
    assert torch.allclose(block(x), (f + x).relu(), atol=1e-4)


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The block has too many or too few parameters. Is there a bias where none is needed?
"""  # END TEST CONFIG


def test_q3_parameters(Block):
    assert sum(p.numel() for p in Block(8, 8).parameters()) == 1184
    assert sum(p.numel() for p in Block(8, 16, 2).parameters()) == 3680


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: Where the number of maps or the stride changes, the shortcut must change the shape of x alike.
"""  # END TEST CONFIG


def test_q3_projection(Block):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(5)
    for in_channels, channels, stride in ((4, 8, 2), (4, 8, 1), (6, 6, 2)):
        block = Block(in_channels, channels, stride)
        x = torch.randn(2, in_channels, 9, 12)
        f = F.batch_norm(
            F.conv2d(x, block.conv1.weight, None, stride, 1), None, None, training=True
        )
        f = F.batch_norm(
            F.conv2d(f.relu(), block.conv2.weight, padding=1), None, None, training=True
        )
        aside = F.conv2d(x, block.shortcut[0].weight, stride=stride)
        expected = (f + F.batch_norm(aside, None, None, training=True)).relu()
        y = block(x)
        assert y.shape == expected.shape and torch.allclose(y, expected, atol=1e-4)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3
# minutes: 10
# tests: which single weight makes a block start as the identity

# %% [markdown]
# ## Question 4: start by doing nothing (3 points)
#
# A deep stack is easier to train where each block starts as (almost) the identity, yet can learn at once. Change **one** parameter
# of a new block with the attributes of question 3, in place, so that $F(x) = 0$ for every $x$, in training and in use.
# All other parameters keep their values. Chosen well, the changed one gets a gradient other than zero in the first step.

# %% [raw]
# # BEGIN SOLUTION


# %%
def start_as_identity(block):
    """Changes the block in place."""
    nn.init.zeros_(block.bn2.weight)  # SOLUTION gannet-on-the-ninth-stair


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: F(x) is not zero. Which of the five layers has the last word on its scale?
"""  # END TEST CONFIG


def test_q4_zero(start_as_identity):
    import torch
    from torch import nn

    torch.manual_seed(6)
    block = nn.Module()
    block.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    block.bn1 = nn.BatchNorm2d(4)
    block.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    block.bn2 = nn.BatchNorm2d(4)
    start_as_identity(block)
    f = block.bn2(block.conv2(block.bn1(block.conv1(torch.randn(2, 4, 5, 6))).relu()))
    assert f.abs().max() == 0


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: F is zero, but more than one parameter changed, or the changed one gets no gradient.
"""  # END TEST CONFIG


def test_q4_one(start_as_identity):
    import torch
    from torch import nn

    torch.manual_seed(7)
    block = nn.Module()
    block.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    block.bn1 = nn.BatchNorm2d(4)
    block.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    block.bn2 = nn.BatchNorm2d(4)
    before = {name: p.detach().clone() for name, p in block.named_parameters()}
    start_as_identity(block)
    changed = [
        p for name, p in block.named_parameters() if not torch.equal(p, before[name])
    ]
    assert len(changed) == 1
    f = block.bn2(block.conv2(block.bn1(block.conv1(torch.randn(2, 4, 5, 6))).relu()))
    (f - torch.randn(2, 4, 5, 6)).square().sum().backward()
    assert changed[0].grad.abs().max() > 0


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 2
# minutes: 10
# tests: how a gradient passes many layers, with and without shortcuts

# %% [markdown]
# ## Question 5: the gradient through depth (2 points)
#
# Take layers of one number: a plain layer gives $w x$, a residual one $w x + x$. Stack `depth` of them, all with the same $w$. Return
# the derivative of the last output with respect to the first input, for the plain and for the residual stack.

# %% [raw]
# # BEGIN SOLUTION


# %%
def gradients(w, depth):
    """(plain, residual)."""
    return w**depth, (1 + w) ** depth  # SOLUTION gannet-on-the-ninth-stair


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Write down two layers of each kind, and use the chain rule.
"""  # END TEST CONFIG


def test_q5_two(gradients):
    assert abs(gradients(0.5, 2)[0] - 0.25) < 1e-9
    assert abs(gradients(-0.5, 1)[1] - 0.5) < 1e-9


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: In a deep stack the residual one is off. Each layer multiplies by its own derivative.
"""  # END TEST CONFIG


def test_q5_deep(gradients):
    import torch

    for w, depth in ((0.1, 30), (-0.3, 7)):
        x = torch.tensor(1.0, dtype=torch.double, requires_grad=True)
        y = x
        for _ in range(depth):
            y = w * y + y
        y.backward()
        assert abs(gradients(w, depth)[1] - x.grad.item()) < 1e-9


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3
# minutes: 15
# tests: predictions in eval mode, without a graph, and the mode put back

# %% [markdown]
# ## Question 6: ask the network about a patient (3 points)
#
# Return the network's logits for `x` as it should be used on patients: in eval mode and without recording a graph for gradients.
# Afterwards the network is in the mode in which it was before.

# %% [raw]
# # BEGIN SOLUTION


# %%
def predict(network, x):
    """Logits of x."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    training = network.training
    network.eval()
    with torch.no_grad():
        logits = network(x)
    network.train(training)
    return logits
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The logits of a patient depend on the others in the batch, so the network was still learning.
"""  # END TEST CONFIG


def test_q6_eval(predict):
    import torch
    from torch import nn

    torch.manual_seed(8)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(48, 2)
    )
    x = torch.randn(5, 1, 5, 6)
    assert torch.allclose(predict(network, x[:1]), predict(network, x)[:1], atol=1e-5)


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The network should come back in the mode in which it went in. It may have been either.
"""  # END TEST CONFIG


def test_q6_mode(predict):
    import torch
    from torch import nn

    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 2))
    x = torch.rand(3, 1, 2, 2)
    for training in (True, False):
        assert predict(network.train(training), x).shape == (3, 2)
        assert all(layer.training == training for layer in network.modules())


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: A graph for gradients was recorded. On large images that costs memory that nobody uses.
"""  # END TEST CONFIG


def test_q6_graph(predict):
    import torch
    from torch import nn

    assert not predict(nn.Linear(3, 2), torch.rand(4, 3)).requires_grad


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
# A clinic sends one patient at a time. A colleague forgets `network.eval()`. What happens to the predictions, and how would anyone
# notice? Three sentences.

# %% [raw]
# # BEGIN SOLUTION

# %% [markdown]
# Batch normalisation then uses the statistics of that one image, so its brightness and contrast, which may carry the
# diagnosis, are normalised away; dropout adds chance. No error appears. One would notice that the same patient gets other
# logits alone than in a batch, or that the accuracy in the clinic is lower than in the test. (gannet-on-the-ninth-stair)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

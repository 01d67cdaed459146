# %% [markdown]
# # Convolution by hand, and LeNet
#
# A shadow on a chest X-ray means the same in the left lung as in the right one. A network that had to learn it for each place
# anew would need many more X-rays. **How does one small set of weights search the whole image?**
#
# You write a convolution in a few lines, then the network that made it famous (LeCun et al. 1998). Chapters 01 and 02 of the book
# prepare for it. Replace each `...` with your code, and run the check below it. When you hand in, further tests run that you
# do not see here: odd sizes, images that are not square. Use `torch`; loops over the pixels of a *kernel* are fine.

# %%
import torch
import torch.nn.functional as F
from torch import nn

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2
# minutes: 5
# tests: a prediction, what a shift of the image does

# %% [markdown]
# ## Question 1: predict (2 points)
#
# The same image enters a convolution of stride 1 twice; the second time, everything in it has moved 3 pixels to the right. Look away from the
# border. What happens to the output?
#
# - `"a"` It stays as it was.
# - `"b"` It moves 3 pixels to the right, and its values stay.
# - `"c"` It moves 3 pixels to the right, and its values change.
# - `"d"` It changes in a way that depends on the kernel.

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
failure_message: Write down one value of the output as a sum over the kernel, then move the image.
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
# points: 4
# minutes: 20
# tests: the sum that a convolution is, without padding, on one image

# %% [markdown]
# ## Question 2: one image, one kernel (4 points)
#
# Deep learning calls *convolution* what mathematics calls cross-correlation: the kernel is not turned. For an image $I$ of $H × W$
# pixels and a kernel $K$ of $k × l$,
#
# $$ O_{ij} = \sum_{a=0}^{k-1} \sum_{b=0}^{l-1} K_{ab} \, I_{i+a,\, j+b} . $$
#
# The output is as large as it can be with the kernel inside the image. Write it without torch's own convolution.

# %% [raw]
# # BEGIN SOLUTION


# %%
def correlate(image, kernel):
    """(H, W) and (k, l) → (H - k + 1, W - l + 1)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    (height, width), (k, l) = image.shape, kernel.shape
    rows, columns = height - k + 1, width - l + 1
    output = torch.zeros(rows, columns, dtype=image.dtype)
    for a in range(k):
        for b in range(l):
            output = output + kernel[a, b] * image[a : a + rows, b : b + columns]
    return output
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Count the places where the kernel fits, along each axis by itself. Rows come first.
"""  # END TEST CONFIG


def test_q2_shape(correlate):
    import torch

    output = correlate(torch.rand(7, 10), torch.rand(3, 3))
    assert tuple(output.shape) == (5, 8), f"yours: {tuple(output.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: The values differ from torch's. Is the kernel turned or transposed? Does each of its values meet the right pixel?
"""  # END TEST CONFIG


def test_q2_values(correlate):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(2)
    image, kernel = torch.rand(9, 12, generator=draw), torch.rand(3, 3, generator=draw)
    assert torch.allclose(
        correlate(image, kernel),
        F.conv2d(image[None, None], kernel[None, None])[0, 0],
        atol=1e-5,
    )


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: The kernel need not be square, and it may be as large as the image. Torch's own convolution is not there.
"""  # END TEST CONFIG


def test_q2_sizes(correlate):
    from unittest.mock import patch

    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(3)
    for size, window in (((6, 11), (2, 5)), ((11, 6), (4, 1)), ((5, 8), (5, 8))):
        image = torch.rand(size, generator=draw)
        kernel = torch.rand(window, generator=draw)
        expected = F.conv2d(image[None, None], kernel[None, None])[0, 0]
        with patch("torch.nn.functional.conv2d", None):
            output = correlate(image, kernel)
        assert output.shape == expected.shape
        assert torch.allclose(output, expected, atol=1e-5)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 4
# minutes: 25
# tests: maps, a batch, stride and padding

# %% [markdown]
# ## Question 3: maps, stride, padding (4 points)
#
# Now a batch `x` of shape (B, C, H, W) meets O kernels at once: `weight` is (O, C, k, l) and `bias` is (O). Each kernel sees all C
# maps and sums over them. `padding` frames the image with so many zeros on each of its four sides. `stride` keeps every
# stride-th output only, in both directions, the first one included.
#
# `F.pad(x, (p, p, p, p))` and `torch.einsum` help. Torch's own convolution is not allowed, nor is the function of question 2
# needed.

# %% [raw]
# # BEGIN SOLUTION


# %%
def convolve(x, weight, bias, stride=1, padding=0):
    """(B, C, H, W) → (B, O, H', W')."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    x = F.pad(x, (padding,) * 4)
    k, l = weight.shape[2:]
    rows, columns = x.shape[2] - k + 1, x.shape[3] - l + 1
    output = 0
    for a in range(k):
        for b in range(l):
            window = x[:, :, a : a + rows : stride, b : b + columns : stride]
            output = output + torch.einsum("oc,bchw->bohw", weight[:, :, a, b], window)
    return output + bias[:, None, None]
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Without stride and padding it should already agree with torch. Sum over the C maps, and add one bias to each of the O maps.
"""  # END TEST CONFIG


def test_q3_maps(convolve):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(4)
    x, weight, bias = (
        torch.randn(s, generator=draw) for s in ((2, 3, 8, 11), (4, 3, 3, 3), (4,))
    )
    assert torch.allclose(
        convolve(x, weight, bias), F.conv2d(x, weight, bias), atol=1e-4
    )


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The frame of zeros goes around all four sides, so both axes grow twice by the padding.
"""  # END TEST CONFIG


def test_q3_padding(convolve):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(5)
    x, weight, bias = (
        torch.randn(s, generator=draw) for s in ((2, 3, 8, 11), (4, 3, 5, 5), (4,))
    )
    output = convolve(x, weight, bias, padding=2)
    expected = F.conv2d(x, weight, bias, padding=2)
    assert output.shape == expected.shape, (
        f"shape {tuple(output.shape)}, expected {tuple(expected.shape)}"
    )
    assert torch.allclose(output, expected, atol=1e-4)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: Stride with padding, or an odd or non-square size, goes wrong. Torch's own convolution is not there.
"""  # END TEST CONFIG


def test_q3_stride(convolve):
    from unittest.mock import patch

    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(6)
    for size, window, stride in (
        ((9, 14), (3, 3), 2),
        ((13, 8), (3, 5), 3),
        ((7, 7), (4, 2), 2),
    ):
        x = torch.randn(2, 3, *size, generator=draw)
        bias = torch.randn(5, generator=draw)
        weight = torch.randn(5, 3, *window, generator=draw)
        expected = F.conv2d(x, weight, bias, stride, 1)
        with patch("torch.nn.functional.conv2d", None):
            output = convolve(x, weight, bias, stride, 1)
        assert output.shape == expected.shape
        assert torch.allclose(output, expected, atol=1e-4)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3
# minutes: 10
# tests: the arithmetic of sizes, with padding and stride

# %% [markdown]
# ## Question 4: how large is the output? (3 points)
#
# Find the formula: along one axis, how many pixels come out of `size` pixels? Give a whole number, an `int`.

# %% [raw]
# # BEGIN SOLUTION


# %%
def output_size(size, kernel, stride=1, padding=0):
    """Pixels along one axis behind a convolution."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return (size + 2 * padding - kernel) // stride + 1
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Draw 28 pixels and a kernel of 5 on paper, and count the places.
"""  # END TEST CONFIG


def test_q4_lenet(output_size):
    assert output_size(28, 5) == 24
    assert output_size(28, 5, padding=2) == 28


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With a stride, the last pixels may be too few for another step.
"""  # END TEST CONFIG


def test_q4_all(output_size):
    import torch
    import torch.nn.functional as F

    for size in range(7, 15):
        for kernel, stride, padding in ((3, 2, 1), (4, 3, 0), (5, 2, 2), (7, 4, 3)):
            expected = F.conv1d(
                torch.ones(1, 1, size), torch.ones(1, 1, kernel), None, stride, padding
            ).shape[2]
            assert output_size(size, kernel, stride, padding) == expected


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 5
# minutes: 30
# tests: a network that gives logits, written from a table

# %% [markdown]
# ## Question 5: LeNet (5 points)
#
# | layer | output |
# | --- | --- |
# | input | (B, in_channels, 28, 28) |
# | convolution 5 × 5, padding 2, to 6 maps; ReLU; max pooling 2 × 2 | (B, 6, 14, 14) |
# | convolution 5 × 5, no padding, to 16 maps; ReLU; max pooling 2 × 2 | (B, 16, 5, 5) |
# | flatten | (B, 400) |
# | linear to 120; ReLU | (B, 120) |
# | linear to 84; ReLU | (B, 84) |
# | linear to num_classes | (B, num_classes) |
#
# The network returns *logits*: what the last layer gives, without a softmax. Use `nn.Conv2d`
# and `nn.Linear`, each with its bias, and define the layers in the order of the table.

# %% [raw]
# # BEGIN SOLUTION


# %%
class LeNet(nn.Module):
    def __init__(self, in_channels=1, num_classes=10):
        super().__init__()
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )
        # END SOLUTION

    def forward(self, x):
        return self.layers(x)  # SOLUTION gannet-on-the-ninth-stair


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Follow the shapes of the table, layer by layer. The first axis is the batch, and it stays.
"""  # END TEST CONFIG


def test_q5_shape(LeNet):
    import torch

    for batch in (1, 3):
        logits = LeNet()(torch.rand(batch, 1, 28, 28))
        assert tuple(logits.shape) == (batch, 10), f"yours: {tuple(logits.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: The network has too many or too few parameters. Compare each layer with the table, biases too.
"""  # END TEST CONFIG


def test_q5_parameters(LeNet):
    assert sum(p.numel() for p in LeNet().parameters()) == 61706
    assert sum(p.numel() for p in LeNet(3, 2).parameters()) == 61326


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: What comes out is not what the last linear layer gives. A loss for logits would see them changed twice.
"""  # END TEST CONFIG


def test_q5_logits(LeNet):
    import torch
    from torch import nn

    torch.manual_seed(7)
    net, x = LeNet(), torch.rand(4, 1, 28, 28)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    before, shift = net(x), torch.arange(10) - 5.0
    with torch.no_grad():
        last.bias += shift
    assert torch.allclose(net(x), before + shift, atol=1e-4)


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: With the same weights, the network gives other values than the table's. Is a ReLU missing, or in the wrong place?
"""  # END TEST CONFIG


def test_q5_values(LeNet):
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(8)
    net, x, seen = LeNet(2, 3), torch.randn(4, 2, 28, 28), []
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = net.parameters()
    y = F.max_pool2d(F.conv2d(x, w1, b1, padding=2).relu(), 2)
    y = F.max_pool2d(F.conv2d(y, w2, b2).relu(), 2).flatten(1)
    y = F.linear(F.linear(F.linear(y, w3, b3).relu(), w4, b4).relu(), w5, b5)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    last.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    net(x)
    assert torch.allclose(seen[0], y, atol=1e-5)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 2
# minutes: 15
# tests: cross-entropy from logits, also where the exponential overflows

# %% [markdown]
# ## Question 6: the loss (2 points)
#
# For an image of class $t$ with logits $z$, the cross-entropy is $-\log \mathrm{softmax}(z)_t = \log \sum_c e^{z_c} - z_t$. Give the mean
# over the batch. You may use `torch.logsumexp`, but no ready-made loss. It must also hold for logits of 1000, whose
# exponential no computer can store.

# %% [raw]
# # BEGIN SOLUTION


# %%
def cross_entropy(logits, target):
    """(B, classes) and (B) → one number."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return (logits.logsumexp(1) - logits[torch.arange(len(target)), target]).mean()
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The logits go into the formula as they are, and the mean is over the batch.
"""  # END TEST CONFIG


def test_q6_value(cross_entropy):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(9)
    logits = 3 * torch.randn(5, 4, generator=draw)
    target = torch.tensor([0, 3, 1, 1, 2])
    assert torch.allclose(
        cross_entropy(logits, target), F.cross_entropy(logits, target), atol=1e-5
    )


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: With large logits the loss is infinite or not a number.
"""  # END TEST CONFIG


def test_q6_large(cross_entropy):
    import torch

    logits = torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 998.0]])
    target = torch.tensor([1, 2])
    assert torch.allclose(
        cross_entropy(logits, target), torch.tensor(501.0635), atol=1e-2
    )


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
# A chest X-ray is always taken the same way up, with the heart on the same side. Is it good that a convolution treats all
# places alike? What could be lost? Three sentences.

# %% [raw]
# # BEGIN SOLUTION

# %% [markdown]
# Shared weights need fewer images, since one place teaches all others. Yet place itself carries information: a bright
# region is normal where the heart is and not in the lung. Later layers, pooling over large areas or a dense layer have to bring
# the place back. (gannet-on-the-ninth-stair)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# # A small U-Net
#
# To measure how well a heart pumps, somebody has to outline its left ventricle, in every slice, at two moments. A network that does
# it must give a class for each pixel. It has to see far to know *what* it looks at, and sharply to know *where* the edge is.
# **How can one network do both?**
#
# You write the parts of a U-Net (Ronneberger et al. 2015) and put them together. Chapters 10 and 11 of the book prepare for it.
# Replace each `...` with your code, and run the check below it. When you hand in, further tests run that you do not see here.

# %%
import torch
import torch.nn.functional as F
from torch import nn

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2
# minutes: 5
# tests: a prediction, what pooling keeps

# %% [markdown]
# ## Question 1: predict (2 points)
#
# Two images differ only in where one bright pixel lies inside a square of 8 × 8 pixels. Each goes through three max poolings of 2 × 2
# with nothing between them, and the square becomes one value. Can that value tell the two images apart?
#
# - `"a"` Yes, it is larger for one of them.
# - `"b"` Yes, if the image is normalised before.
# - `"c"` No, it is the same for both.
# - `"d"` No, it is zero for both.

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
    assert q1 in ("a", "b", "c", "d")


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: Which pixel of the square does the value come from, and does it say where that pixel was?
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
# tests: a transposed convolution, 2 × 2 with stride 2

# %% [markdown]
# ## Question 2: the way up (4 points)
#
# The up-convolution doubles both sides. With a kernel of 2 × 2 and stride 2 no two results overlap: each input pixel becomes a patch
# of 2 × 2, and pixel $(a, b)$ of that patch is the input pixel's C values times `weight[:, :, a, b]`, plus the bias. `x` is
# (B, C, H, W), `weight` is (C, O, 2, 2) and `bias` is (O). Write it without torch's transposed convolution.

# %% [raw]
# # BEGIN SOLUTION


# %%
def up_convolution(x, weight, bias):
    """(B, C, H, W) → (B, O, 2 H, 2 W)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    batch, _, height, width = x.shape
    output = x.new_zeros(batch, weight.shape[1], 2 * height, 2 * width)
    for a in range(2):
        for b in range(2):
            output[:, :, a::2, b::2] = torch.einsum(
                "bchw,co->bohw", x, weight[:, :, a, b]
            )
    return output + bias[:, None, None]
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Both sides double, and the maps become as many as the second axis of the weight says.
"""  # END TEST CONFIG


def test_q2_shape(up_convolution):
    import torch

    output = up_convolution(
        torch.rand(2, 6, 3, 5), torch.rand(6, 4, 2, 2), torch.rand(4)
    )
    assert tuple(output.shape) == (2, 4, 6, 10), f"yours: {tuple(output.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: With one map and one input pixel, the output should be that pixel times the kernel, plus the bias.
"""  # END TEST CONFIG


def test_q2_pixel(up_convolution):
    import torch

    kernel, bias = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([0.5])
    output = up_convolution(torch.full((1, 1, 1, 1), 2.0), kernel[None, None], bias)
    assert torch.allclose(output[0, 0], 2 * kernel + 0.5)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With several pixels or maps, values land in the wrong place or are summed over the wrong axis. Torch's own is not there.
"""  # END TEST CONFIG


def test_q2_values(up_convolution):
    from unittest.mock import patch

    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(1)
    for c, o, size in ((3, 3, (4, 7)), (5, 2, (3, 3))):
        x = torch.randn(2, c, *size, generator=draw)
        weight = torch.randn(c, o, 2, 2, generator=draw)
        bias = torch.randn(o, generator=draw)
        expected = F.conv_transpose2d(x, weight, bias, stride=2)
        with patch("torch.nn.functional.conv_transpose2d", None):
            output = up_convolution(x, weight, bias)
        assert output.shape == expected.shape
        assert torch.allclose(output, expected, atol=1e-4)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 4
# minutes: 15
# tests: cropping at the centre and joining along the maps

# %% [markdown]
# ## Question 3: the skip (4 points)
#
# The maps `aside` come from the way down, (B, C, H, W). The maps `x` come from below, (B, C', h, w), with h ≤ H and w ≤ W. Cut the
# centre of `aside` to h × w: start at row (H - h) // 2 and column (W - w) // 2. Then join the two along the axis of the maps, `aside`
# first.

# %% [raw]
# # BEGIN SOLUTION


# %%
def crop_and_join(aside, x):
    """(B, C, H, W) and (B, C', h, w) → (B, C + C', h, w)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    (height, width), (h, w) = aside.shape[2:], x.shape[2:]
    top, left = (height - h) // 2, (width - w) // 2
    return torch.cat((aside[:, :, top : top + h, left : left + w], x), 1)
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: The batch and the size of x stay, and the numbers of maps add up.
"""  # END TEST CONFIG


def test_q3_shape(crop_and_join):
    import torch

    joined = crop_and_join(torch.rand(2, 3, 12, 10), torch.rand(2, 4, 8, 6))
    assert tuple(joined.shape) == (2, 7, 8, 6), f"yours: {tuple(joined.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: The maps are joined in another order, or the part that was kept is not the centre. The margins of the two axes may differ.
"""  # END TEST CONFIG


def test_q3_centre(crop_and_join):
    import torch

    draw = torch.Generator().manual_seed(2)
    aside = torch.rand(2, 3, 9, 16, generator=draw)
    x = torch.rand(2, 1, 6, 4, generator=draw)
    expected = torch.cat((aside[:, :, 1:7, 6:10], x), 1)
    assert torch.equal(crop_and_join(aside, x), expected)
    assert torch.equal(crop_and_join(aside, aside), torch.cat((aside, aside), 1))


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 5
# minutes: 40
# tests: a whole U-Net of two levels, with skips and logits

# %% [markdown]
# ## Question 4: the network (5 points)
#
# Here the convolutions are padded, so nothing has to be cropped. `double` is given. With w standing for `width`:
#
# | step | maps | sides |
# | --- | --- | --- |
# | `double`: kept for the second skip | w | H × W |
# | max pooling 2 × 2, then `double`: kept for the first skip | 2 w | H/2 × W/2 |
# | max pooling 2 × 2, then `double` | 4 w | H/4 × W/4 |
# | `nn.ConvTranspose2d`, 2 × 2, stride 2 | 2 w | H/2 × W/2 |
# | join the first skip (it comes first), then `double` | 4 w, then 2 w | H/2 × W/2 |
# | `nn.ConvTranspose2d`, 2 × 2, stride 2 | w | H × W |
# | join the second skip (it comes first), then `double` | 2 w, then w | H × W |
# | `nn.Conv2d`, 1 × 1 | num_classes | H × W |
#
# H and W are multiples of 4. The network gives logits.


# %%
def double(in_channels, channels):
    """Twice: a padded 3 × 3 convolution and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
    )


# %% [raw]
# # BEGIN SOLUTION


# %%
class UNet(nn.Module):
    def __init__(self, in_channels=1, num_classes=2, width=8):
        super().__init__()
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        self.down1, self.down2 = double(in_channels, width), double(width, 2 * width)
        self.bottom = double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join2 = double(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join1 = double(2 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)
        # END SOLUTION

    def forward(self, x):
        # BEGIN SOLUTION gannet-on-the-ninth-stair
        aside1 = self.down1(x)
        aside2 = self.down2(F.max_pool2d(aside1, 2))
        x = self.bottom(F.max_pool2d(aside2, 2))
        x = self.join2(torch.cat((aside2, self.up2(x)), 1))
        x = self.join1(torch.cat((aside1, self.up1(x)), 1))
        return self.head(x)
        # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Each pixel should get one logit a class. Print the shape after each step and hold it against the table.
"""  # END TEST CONFIG


def test_q4_shape(UNet):
    import torch

    logits = UNet(3, 4, 6)(torch.rand(2, 3, 12, 20))
    assert tuple(logits.shape) == (2, 4, 12, 20), f"yours: {tuple(logits.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The network has too many or too few parameters. How many maps enter each double behind a skip?
"""  # END TEST CONFIG


def test_q4_parameters(UNet):
    assert sum(p.numel() for p in UNet().parameters()) == 29330
    assert sum(p.numel() for p in UNet(2, 4, 4).parameters()) == 7448


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With the way up from below blocked, an edge in the image should still reach the output at its full sharpness through a skip.
"""  # END TEST CONFIG


def test_q4_skips(UNet):
    import torch
    from torch import nn

    torch.manual_seed(3)
    net, x = UNet(1, 2, 8), torch.rand(1, 1, 32, 32, requires_grad=True)
    for layer in net.modules():
        # no ReLU may block the way
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.weight.data.abs_(), layer.bias.data.fill_(0.1)
    head = next(
        m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)
    )
    ups = [layer for layer in net.modules() if isinstance(layer, nn.ConvTranspose2d)]
    rows, logits = [], []
    head.register_forward_hook(lambda layer, inputs, output: logits.append(output))
    for up in sorted(ups, key=lambda up: -up.in_channels):
        up.weight.data.zero_(), up.bias.data.zero_()
        net(x)
        gradient = torch.autograd.grad(logits[-1][0, 0, 16, 16], x)[0]
        rows.append((gradient[0, 0] != 0).any(1).sum().item())
    # rows of the image that a pixel of the output sees: through both skips, then through the upper one
    assert len(rows) == 2 and rows[0] > 9 and rows[1] == 9


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: What comes out is not what the last convolution gives. A loss for logits would see it changed twice.
"""  # END TEST CONFIG


def test_q4_logits(UNet):
    import torch
    from torch import nn

    torch.manual_seed(4)
    net, x = UNet(1, 3, 4), torch.randn(1, 1, 8, 12)
    head = next(
        m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)
    )
    before, shift = net(x), torch.tensor([-3.0, 1, 4])
    with torch.no_grad():
        head.bias += shift
    assert torch.allclose(net(x), before + shift[:, None, None], atol=1e-4)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3
# minutes: 20
# tests: the sizes of the unpadded U-Net, and those that do not fit

# %% [markdown]
# ## Question 5: without padding (3 points)
#
# The network of the paper has no padding: each 3 × 3 convolution takes one pixel from each side. On each of `depth` levels down there
# are two convolutions and a pooling that halves. At the bottom there are two convolutions. On each level up the side doubles,
# then come two convolutions. Return the side of the output for an image of `side` pixels, or `None` where a side is odd before a
# pooling, or no pixel is left after some convolution.

# %% [raw]
# # BEGIN SOLUTION


# %%
def unet_output(side, depth=4):
    """Pixels along one axis, or None."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    for _ in range(depth):
        side -= 4
        if side < 1 or side % 2:
            return None
        side //= 2
    side -= 4
    if side < 1:
        return None
    for _ in range(depth):
        side = 2 * side - 4
        if side < 1:
            return None
    return side
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The figure of the paper has 572 pixels on the left and 388 on the right. Follow it level by level.
"""  # END TEST CONFIG


def test_q5_paper(unet_output):
    assert unet_output(572) == 388


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: For some size the answer is wrong. Look at odd sides, at small ones, and at other depths.
"""  # END TEST CONFIG


def test_q5_others(unet_output):
    assert [unet_output(n, 1) for n in (12, 15, 16, 17)] == [None] * 4
    assert [unet_output(n, 1) for n in (18, 30)] == [2, 14]
    assert [unet_output(n, 2) for n in (48, 46, 44, 100)] == [8, None, 4, 60]
    assert unet_output(570) is None
    assert unet_output(1, 0) is None and unet_output(9, 0) == 5


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 2
# minutes: 15
# tests: cross-entropy for each pixel, weighted by a map

# %% [markdown]
# ## Question 6: a loss for pixels (2 points)
#
# Pixels between two touching cells are few, and they matter most. The paper gives them a larger weight. With logits (B, classes,
# H, W), classes `target` (B, H, W) and `weight` (B, H, W), return the mean over all pixels of weight times cross-entropy. Use
# `F.cross_entropy` or your own formula.

# %% [raw]
# # BEGIN SOLUTION


# %%
def pixel_loss(logits, target, weight):
    """One number."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    losses = F.cross_entropy(logits, target, reduction="none")
    return (weight * losses).mean()
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: With all weights 1 it should be the mean cross-entropy of the pixels. The loss takes logits.
"""  # END TEST CONFIG


def test_q6_ones(pixel_loss):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(2, 3, 4, 5, generator=draw)
    target = torch.randint(3, (2, 4, 5), generator=draw)
    assert torch.allclose(
        pixel_loss(logits, target, torch.ones(2, 4, 5)),
        F.cross_entropy(logits, target),
        atol=1e-5,
    )


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: Twice the weight of every pixel should give twice the loss, and a pixel of weight 0 should not matter.
"""  # END TEST CONFIG


def test_q6_weights(pixel_loss):
    import torch

    draw = torch.Generator().manual_seed(6)
    logits = torch.randn(1, 2, 3, 4, generator=draw)
    target = torch.randint(2, (1, 3, 4), generator=draw)
    weight = torch.rand(1, 3, 4, generator=draw)
    losses = -logits.log_softmax(1).gather(1, target[:, None])[:, 0]
    assert torch.allclose(
        pixel_loss(logits, target, 2 * weight), 2 * (weight * losses).mean(), atol=1e-5
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
# Let your network outline a few discs; this takes seconds. Then take its skips away (multiply them by zero) and train again. Where do
# the wrong pixels lie now? Three sentences.

# %% tags=["otter_ignore"]
torch.manual_seed(0)
row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
centre, radius = torch.randint(8, 24, (64, 2, 1, 1)), torch.randint(3, 8, (64, 1, 1))
disc = ((row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2 < radius**2).long()
noisy = disc[:, None] + 0.5 * torch.randn(64, 1, 32, 32)
net = UNet()
optimizer = torch.optim.Adam(net.parameters(), 0.003)
for _ in range(100):
    loss = F.cross_entropy(net(noisy), disc)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(
    f"share of wrong pixels: {(net(noisy).argmax(1) != disc).float().mean().item():.4f}"
)

# %% [raw]
# # BEGIN SOLUTION

# %% [markdown]
# Both networks find the discs, since that is decided below, and nearly all wrong pixels lie along the border. Without skips
# there are more of them: what comes up from below knows the edge only to within a square of 4 × 4 pixels.
# (gannet-on-the-ninth-stair)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# # 2D against 3D, on simulated hearts
#
# A scan of the heart is often a stack of slices. They are sharp in the plane, and 5 to 10 mm apart (Bernard et al. 2018). A 2D method looks at
# one slice at a time; a 3D method sees the neighbours too. **When are they worth looking at?**
#
# You build the tools, on hearts that are simulated, so that every voxel's label is known exactly. Chapter 17 of the book prepares for it.
# Replace each `...` with your code, and run the check below it. When you hand in, further tests run that you do not see here.
# Axes are (B, C, D, H, W): patients, channels, slices, rows, columns.

# %%
import torch
import torch.nn.functional as F

from medlib.hearts.phantom import phantom

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2
# minutes: 5
# tests: a prediction, when neighbouring slices help

# %% [markdown]
# ## Question 1: predict (2 points)
#
# Noisy slices are to be segmented, voxel by voxel, from the voxels around. Method A takes 5 × 5 voxels of the same slice (25). Method B takes
# 3 × 3 voxels of this slice and of the two next to it (27). So both have about as many weights. Where does B beat A most
# clearly? The experiment at the end will tell, but answer first.
#
# - `"a"` Where slices are 20 mm apart, because there the slices tell most.
# - `"b"` Where slices are 2 mm apart.
# - `"c"` Nowhere, since the number of weights decides.
# - `"d"` Everywhere by the same amount.

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
failure_message: A neighbour helps as a second look at the same tissue. When is it the same?
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
# tests: stacks as batches of slices, and back

# %% [markdown]
# ## Question 2: a stack for a 2D network (4 points)
#
# A 2D network takes (B, C, H, W). Give it a stack as a batch of its slices, those of the first patient first, in their order.
# `to_stack` undoes it for `patients` patients.

# %% [raw]
# # BEGIN SOLUTION


# %%
def to_slices(x):
    """(B, C, D, H, W) → (B · D, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)  # SOLUTION gannet-on-the-ninth-stair


def to_stack(x, patients):
    """(B · D, C, H, W) → (B, C, D, H, W)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return x.unflatten(0, (patients, -1)).transpose(1, 2)
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Check the two shapes. All sizes differ here.
"""  # END TEST CONFIG


def test_q2_shape(to_slices, to_stack):
    import torch

    slices = to_slices(torch.rand(2, 3, 5, 6, 7))
    stack = to_stack(torch.rand(10, 3, 6, 7), 2)
    assert tuple(slices.shape) == (10, 3, 6, 7), f"yours: {tuple(slices.shape)}"
    assert tuple(stack.shape) == (2, 3, 5, 6, 7), f"yours: {tuple(stack.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: The shapes may be right and the slices wrong. The second slice of the first patient should be number 1 of the batch.
"""  # END TEST CONFIG


def test_q2_order(to_slices):
    import torch

    x = torch.arange(2 * 3 * 5 * 2 * 2.0).view(2, 3, 5, 2, 2)
    slices = to_slices(x)
    assert torch.equal(slices[1], x[0, :, 1]) and torch.equal(slices[7], x[1, :, 2])


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: The way back does not give each patient its own slices.
"""  # END TEST CONFIG


def test_q2_back(to_stack):
    import torch

    slices = torch.arange(6 * 2 * 3 * 2.0).view(6, 2, 3, 2)
    stack = to_stack(slices, 2)
    assert all(
        torch.equal(stack[b, :, d], slices[3 * b + d])
        for b in range(2)
        for d in range(3)
    )


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 4
# minutes: 20
# tests: the voxels around each voxel, in two or three dimensions

# %% [markdown]
# ## Question 3: the neighbourhood (4 points)
#
# For each voxel of a stack (D, H, W), collect the voxels of a window around it, `size` = (k, l, m), all odd. Row after row of the result belongs
# to the voxels in their order (`flatten`). Within a row, the window is read slice by slice, row by row. Beyond the border, the
# nearest voxel of the stack stands in: `F.pad(x[None, None], (left, right, top, bottom, first, last), mode="replicate")[0, 0]`.

# %% [raw]
# # BEGIN SOLUTION


# %%
def neighbourhood(stack, size):
    """(D, H, W) → (D · H · W, k · l · m)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    k, l, m = size
    (d, h, w), frame = stack.shape, (m // 2, m // 2, l // 2, l // 2, k // 2, k // 2)
    x = F.pad(stack[None, None], frame, mode="replicate")[0, 0]
    shifts = ((a, b, c) for a in range(k) for b in range(l) for c in range(m))
    return torch.stack(
        [x[a : a + d, b : b + h, c : c + w].flatten() for a, b, c in shifts], 1
    )
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: As many rows as voxels, as many columns as voxels in the window.
"""  # END TEST CONFIG


def test_q3_shape(neighbourhood):
    import torch

    rows = neighbourhood(torch.rand(4, 5, 6), (1, 3, 5))
    assert tuple(rows.shape) == (120, 15), f"yours: {tuple(rows.shape)}"


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The middle column should be the voxel itself.
"""  # END TEST CONFIG


def test_q3_middle(neighbourhood):
    import torch

    stack = torch.rand(3, 4, 5)
    assert torch.equal(neighbourhood(stack, (3, 3, 3))[:, 13], stack.flatten())


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With a window of different sides, or at the border, neighbours are wrong.
"""  # END TEST CONFIG


def test_q3_values(neighbourhood):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(1)
    for size in ((1, 3, 5), (3, 1, 5), (5, 3, 1)):
        stack, weight = torch.rand(4, 6, 5), torch.randn(size)
        frame = [side // 2 for side in size[::-1] for _ in range(2)]
        x = F.pad(stack[None, None], frame, mode="replicate")
        expected = F.conv3d(x, weight[None, None]).flatten()
        assert torch.allclose(
            neighbourhood(stack, size) @ weight.flatten(), expected, atol=1e-5
        )


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 4
# minutes: 20
# tests: a 3D kernel that starts where a 2D kernel ended

# %% [markdown]
# ## Question 4: from a 2D kernel to a 3D kernel (4 points)
#
# A trained 2D network can be the start of a 3D one. Make a kernel (O, C, k, l) into one of (O, C, depth, k, l) that treats all its `depth` slices
# alike. In a stack whose slices are all equal it must give what the 2D kernel gives.
#
# Then count: how many weights, without biases, has a kernel of this shape?

# %% [raw]
# # BEGIN SOLUTION


# %%
def inflate(weight, depth):
    """(O, C, k, l) → (O, C, depth, k, l)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return weight[:, :, None].repeat(1, 1, depth, 1, 1) / depth
    # END SOLUTION


def weights(in_channels, out_channels, kernel):
    """Of a convolution with a kernel of these sides, such as (3, 3) or (1, 3, 3)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return in_channels * out_channels * int(torch.tensor(kernel).prod())
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The new axis is the third, and all slices of the kernel are alike.
"""  # END TEST CONFIG


def test_q4_shape(inflate):
    import torch

    kernel = inflate(torch.rand(4, 2, 3, 5), 7)
    assert tuple(kernel.shape) == (4, 2, 7, 3, 5), f"yours: {tuple(kernel.shape)}"
    assert torch.allclose(kernel, kernel[:, :, :1].expand_as(kernel))


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: In a stack of equal slices, the sum over the slices of the kernel should be the 2D kernel.
"""  # END TEST CONFIG


def test_q4_equal(inflate):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(2)
    image, kernel = torch.randn(1, 2, 6, 8), torch.randn(4, 2, 3, 3)
    stack = image[:, :, None].expand(-1, -1, 5, -1, -1)
    output = F.conv3d(stack, inflate(kernel, 3))
    assert torch.allclose(output[:, :, 1], F.conv2d(image, kernel), atol=1e-4)


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Each output channel has a kernel of its own, and that looks at all input channels.
"""  # END TEST CONFIG


def test_q4_weights(weights):
    from torch import nn

    assert weights(4, 6, (3, 5)) == nn.Conv2d(4, 6, (3, 5), bias=False).weight.numel()
    assert weights(4, 6, (3, 3, 3)) == nn.Conv3d(4, 6, 3, bias=False).weight.numel()


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3
# minutes: 15
# tests: the receptive field in millimetres

# %% [markdown]
# ## Question 5: how far does a network see? (3 points)
#
# Several convolutions follow each other, without stride or pooling. `kernels` lists their sides, such as [(1, 3, 3), (3, 3, 3)], and
# `spacing` gives mm along (D, H, W). How long, along each axis, is the part of the stack that one output voxel sees? Count from the
# outer edge of its first voxel to the outer edge of its last: one voxel alone is one spacing long.

# %% [raw]
# # BEGIN SOLUTION


# %%
def seen(kernels, spacing):
    """Three lengths in mm, as a list."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    voxels = [1 + sum(kernel[axis] - 1 for kernel in kernels) for axis in range(3)]
    return [n * mm for n, mm in zip(voxels, spacing, strict=True)]
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: A kernel of 3 sees 3 voxels. In a stack with 10 mm between slices this is 30 mm.
"""  # END TEST CONFIG


def test_q5_one(seen):
    assert list(seen([(3, 3, 3)], (10, 1.5, 2))) == [30, 4.5, 6]


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: With several layers each adds its margin to what the one before has seen.
"""  # END TEST CONFIG


def test_q5_several(seen):
    assert list(seen([(1, 3, 5), (3, 3, 5), (3, 7, 1)], (8, 2, 1))) == [40, 22, 9]


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3
# minutes: 15
# tests: a split by patient, so that no heart is on both sides

# %% [markdown]
# ## Question 6: a fair split (3 points)
#
# A 2D network is trained on slices. Neighbouring slices of one heart look alike, so a slice in the training set gives away its neighbour in
# the test set. `patient` holds the number of the patient for each slice. Draw the patients of the test set at random with `generator`: a
# share of them, rounded with `round`. Return two boolean tensors, one entry a slice: which belong to the training set, and which to the test
# set. `torch.randperm(n, generator=generator)` draws an order.

# %% [raw]
# # BEGIN SOLUTION


# %%
def split(patient, share, generator):
    """(N,) whole numbers → train (N,) and test (N,)."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    names = patient.unique()
    order = torch.randperm(len(names), generator=generator)
    chosen = names[order[: round(share * len(names))]]
    test = torch.isin(patient, chosen)
    return ~test, test
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Each slice belongs to one of the two sets, and none to both.
"""  # END TEST CONFIG


def test_q6_once(split):
    import torch

    train, test = split(
        torch.arange(10).repeat_interleave(6), 0.3, torch.Generator().manual_seed(0)
    )
    assert train.dtype == test.dtype == torch.bool
    assert test.any() and torch.equal(train, ~test)


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: A patient has slices in both sets, or the share of patients is not the one asked for.
"""  # END TEST CONFIG


def test_q6_patients(split):
    import torch

    patient = torch.tensor([7, 7, 7, 3, 3, 12, 12, 12, 12, 5])[torch.arange(40) % 10]
    train, test = split(patient, 0.25, torch.Generator().manual_seed(1))
    assert not set(patient[train].tolist()) & set(patient[test].tolist())
    assert len(patient[test].unique()) == 1


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: The same patients are drawn each time, or another draw with the same seed differs.
"""  # END TEST CONFIG


def test_q6_random(split):
    import torch

    patient = torch.arange(20).repeat_interleave(3)
    drawn = [
        split(patient, 0.5, torch.Generator().manual_seed(seed))[1]
        for seed in (0, 1, 2, 0)
    ]
    assert torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[1]) or not torch.equal(drawn[1], drawn[2])
    assert all(test.sum() == 30 for test in drawn)


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q7
# manual: true
# points: 0
# minutes: 20
# tests: reflection on an experiment, read but not graded

# %% [markdown]
# ## The experiment, and a reflection (not graded)
#
# The next cell needs your `neighbourhood`. It fits one weight to each voxel of the window, by least squares, so that the weighted sum tells
# blood from the rest. Five hearts are for fitting and five others for the score, a Dice. It takes seconds.
#
# Was your prediction right? At which distance of the slices does the 3D window stop being worth it? And what would change with less noise? Try
# `noise=0.1`, then write three sentences.


# %% tags=["otter_ignore"]
def score(size, mm, seed, noise=0.4):
    """Dice of blood on five new hearts, from a window of this size, with slices `mm` apart."""
    hearts = phantom(
        10, seed=seed, phases=(0.0,), shape=(6, 48, 48), spacing=(mm, 3, 3), noise=noise
    )
    features = [
        F.pad(neighbourhood(image[0], size), (0, 1), value=1.0)
        for image in hearts.image
    ]
    blood = [((mask == 1) | (mask == 3)).flatten() for mask in hearts.mask[:, 0]]
    x, y = torch.cat(features[:5]), torch.cat(blood[:5]).float()
    weight = torch.linalg.solve(x.mT @ x + 0.001 * torch.eye(x.shape[1]), x.mT @ y)
    pairs = [
        (f @ weight > 0.5, b) for f, b in zip(features[5:], blood[5:], strict=True)
    ]
    return sum((2 * (p & b).sum() / (p.sum() + b.sum())).item() for p, b in pairs) / 5


# %% tags=["otter_ignore"]
for mm in (2, 5, 10, 20):
    flat, deep = (
        sum(score(size, mm, seed) for seed in range(3)) / 3
        for size in ((1, 5, 5), (3, 3, 3))
    )
    print(
        f"slices {mm:2} mm apart: Dice {flat:.3f} in 2D, {deep:.3f} in 3D, difference {deep - flat:+.3f}"
    )

# %% [raw]
# # BEGIN SOLUTION

# %% [markdown]
# A neighbour is a second look at the same tissue only where it is close: then averaging over slices removes noise at no loss.
# Farther away it shows other tissue, and the 2D window of equal size is the better choice. With little noise there is less to
# average away. (gannet-on-the-ninth-stair)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

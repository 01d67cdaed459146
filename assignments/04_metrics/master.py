# %% [markdown]
# # Dice, surface distances and the ejection fraction
#
# Two observers outline the same left ventricle. How far apart are they: in pixels, in millimetres, in the one number that a
# cardiologist reads? A network is judged by such numbers, so an error in them is worse than an error in the network.
# **What does each measure see, and what does it miss?**
#
# You write the measures that the book uses. Chapters 09 and 19 prepare for it. Replace each `...` with your code, and run the check
# below it. When you hand in, further tests run that you do not see here: empty masks, volumes, pixels that are not square.
#
# A mask is an array of whole numbers or booleans, (H, W) or (D, H, W). Anything other than 0 is inside. `spacing` gives the distance of
# neighbours in mm along each axis, in the order of the axes: (10, 1.5, 1.5) means slices 10 mm apart.

# %%
import numpy as np

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2
# minutes: 5
# tests: a prediction, the same error on two sizes

# %% [markdown]
# ## Question 1: predict (2 points)
#
# Near its tip the left ventricle is small, in the middle it is large. A network draws both one pixel too wide all around. Which
# slice gets the lower Dice?
#
# - `"a"` The one near the tip.
# - `"b"` The one in the middle.
# - `"c"` Both get the same.

# %% [raw]
# # BEGIN SOLUTION

# %%
q1 = "a"  # SOLUTION gannet-on-the-ninth-stair

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
failure_message: Take two squares, of 4 and of 20 pixels, and count by hand.
"""  # END TEST CONFIG


def test_q1_answer(q1):
    assert q1 == "a"


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 4
# minutes: 15
# tests: Dice, with its two special cases

# %% [markdown]
# ## Question 2: Dice (4 points)
#
# $\mathrm{Dice}(A, B) = 2\,|A ∩ B| \,/\, (|A| + |B|)$, where $|A|$ counts the pixels of $A$ (Dice 1945). If one mask is empty, it is
# 0. If both are, there is nothing to measure: return `float("nan")`.

# %% [raw]
# # BEGIN SOLUTION


# %%
def dice(a, b):
    """Two masks of one shape → a number from 0 to 1, or NaN."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    size = a.sum() + b.sum()
    if size == 0:
        return float("nan")
    return float(2 * (a & b).sum() / size)
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: A mask against itself gives 1, and masks that do not touch give 0.
"""  # END TEST CONFIG


def test_q2_extremes(dice):
    import numpy as np

    a, b = np.zeros((2, 4, 6), bool)
    a[:2], b[3:] = True, True
    assert abs(dice(a, a) - 1) < 1e-6 and abs(dice(a, b)) < 1e-6


# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: Draw the two masks of this test, and count the three numbers of the formula.
"""  # END TEST CONFIG


def test_q2_between(dice):
    import numpy as np

    a, b = np.zeros((2, 5, 7), int)
    a[1:4, 1:4], b[2:5, 2:6] = 1, 2  # 9 pixels, 12 pixels, 4 in common
    assert abs(dice(a, b) - 8 / 21) < 1e-6


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: Two empty masks should give NaN, one empty mask 0.
"""  # END TEST CONFIG


def test_q2_empty(dice):
    import math

    import numpy as np

    empty, full = np.zeros((3, 4, 5), int), np.ones((3, 4, 5), int)
    assert abs(dice(empty, full)) < 1e-6 and abs(dice(full, empty)) < 1e-6
    assert math.isnan(dice(empty, empty))


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3
# minutes: 20
# tests: the surface of a mask, up to the border of the image

# %% [markdown]
# ## Question 3: the surface (3 points)
#
# A pixel belongs to the surface of a mask if it is inside and at least one of its neighbours is outside. Neighbours share an
# edge: four in an image, six in a volume; corners do not count. Everything beyond the border of the image is outside. Return a
# boolean array of the same shape. It must work for two and for three axes. `scipy.ndimage.binary_erosion` is allowed; read about its
# `border_value`.

# %% [raw]
# # BEGIN SOLUTION


# %%
def surface(mask):
    """(H, W) or (D, H, W) → booleans of that shape."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    mask = np.asarray(mask) != 0
    padded = np.pad(mask, 1)
    core = mask.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            core &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
    return mask & ~core
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: For this L the one pixel with an open corner and four inner neighbours is not on the surface. Print your result and compare.
"""  # END TEST CONFIG


def test_q3_image(surface):
    import numpy as np

    mask = np.zeros((7, 8), int)
    mask[1:6, 1:4], mask[3:6, 1:7] = 1, 1
    expected = mask.astype(bool)
    expected[2:5, 2], expected[4, 2:6] = False, False
    expected[3, 3] = False
    assert np.array_equal(surface(mask), expected)


# %%
"""  # BEGIN TEST CONFIG
points: 2
hidden: true
failure_message: It fails for a volume, or where the mask meets the border of the image.
"""  # END TEST CONFIG


def test_q3_volume(surface):
    import numpy as np
    from scipy import ndimage

    noise = np.random.default_rng(1).random((6, 9, 7))
    mask = ndimage.uniform_filter(noise, 3, mode="constant", cval=1) > 0.45
    assert np.array_equal(surface(mask), mask & ~ndimage.binary_erosion(mask))
    assert surface(np.ones((3, 4), int)).sum() == 10


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 4
# minutes: 25
# tests: distances in millimetres, where voxels are not cubes

# %% [markdown]
# ## Question 4: distances in mm (4 points)
#
# `a` and `b` mark surface voxels. For each voxel of `a`, in the order of `np.argwhere(a)`, give the distance in mm to the nearest
# voxel of `b`. Where `b` is empty, all distances are infinite (`np.inf`). The surfaces here are small, so comparing every pair is
# fine.

# %% [raw]
# # BEGIN SOLUTION


# %%
def distances(a, b, spacing):
    """Two masks and mm an axis → an array with one number for each voxel of `a`."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    start, end = np.argwhere(a), np.argwhere(b)
    if len(end) == 0:
        return np.full(len(start), np.inf)
    steps = (start[:, None] - end[None]) * np.asarray(spacing)
    return np.sqrt((steps**2).sum(2)).min(1)
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: With a spacing of 1 mm these are plain distances between points of a grid.
"""  # END TEST CONFIG


def test_q4_plain(distances):
    import numpy as np

    a, b = np.zeros((2, 6, 6), bool)
    a[0, 0], a[0, 5], b[3, 4] = True, True, True
    assert np.allclose(distances(a, b, (1, 1)), [5, 10**0.5])


# %%
"""  # BEGIN TEST CONFIG
points: 2
failure_message: Here rows are 2 mm apart and columns 1 mm. A step along each axis has its own length, before anything is squared.
"""  # END TEST CONFIG


def test_q4_spacing(distances):
    import numpy as np

    a, b = np.zeros((2, 6, 6), bool)
    a[0, 0], b[2, 3], b[0, 5] = True, True, True
    assert np.allclose(distances(a, b, (2, 1)), [5])
    assert np.allclose(distances(a, b, (0.5, 3)), [82**0.5])


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: It fails for a volume with thick slices, or where b is empty.
"""  # END TEST CONFIG


def test_q4_volume(distances):
    import numpy as np
    from scipy import ndimage

    draw = np.random.default_rng(2)
    a, b = draw.random((2, 4, 9, 7)) > 0.9
    expected = ndimage.distance_transform_edt(~b, (10, 1.4, 1.8))[a]
    assert np.allclose(distances(a, b, (10, 1.4, 1.8)), expected)
    assert np.array_equal(
        distances(a, np.zeros_like(b), (10, 1.4, 1.8)), np.full(a.sum(), np.inf)
    )


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3
# minutes: 15
# tests: three summaries that look alike and are not

# %% [markdown]
# ## Question 5: one number from many (3 points)
#
# `ab` holds the distances from the surface of A to B, `ba` those from B to A. Neither is empty. Return three numbers:
#
# 1. the Hausdorff distance: the largest distance of all (Huttenlocher et al. 1993);
# 2. HD95: the 95th percentile of `ab` and that of `ba`, and of these two the larger one (`np.percentile`);
# 3. the average symmetric surface distance: the mean of all distances, both directions pooled.

# %% [raw]
# # BEGIN SOLUTION


# %%
def summaries(ab, ba):
    """(Hausdorff, HD95, average) in mm."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    hausdorff = max(ab.max(), ba.max())
    hd95 = max(np.percentile(ab, 95), np.percentile(ba, 95))
    average = np.concatenate((ab, ba)).mean()
    return hausdorff, hd95, average
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: The largest distance may lie in either direction.
"""  # END TEST CONFIG


def test_q5_hausdorff(summaries):
    import numpy as np

    ab, ba = np.array([0.0, 1, 2]), np.array([0.0, 5, 1, 1])
    assert summaries(ab, ba)[0] == 5 and summaries(ba, ab)[0] == 5


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: The percentile is taken in each direction by itself, and then the larger one counts.
"""  # END TEST CONFIG


def test_q5_hd95(summaries):
    import numpy as np

    ab, ba = np.arange(101.0), np.zeros(400)
    assert abs(summaries(ab, ba)[1] - 95) < 1e-6
    assert abs(summaries(ba, ab)[1] - 95) < 1e-6


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: The surfaces may have different numbers of voxels. Each voxel counts once.
"""  # END TEST CONFIG


def test_q5_average(summaries):
    import numpy as np

    assert abs(summaries(np.array([6.0]), np.array([0.0, 0, 3]))[2] - 2.25) < 1e-6


# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 4
# minutes: 20
# tests: volumes in mL and the ejection fraction

# %% [markdown]
# ## Question 6: the ejection fraction (4 points)
#
# In a mask of labels (D, H, W), 3 is the cavity of the left ventricle. Its volume is the number of its voxels times the volume of a voxel.
# 1 mL is 1000 mm³. The ejection fraction is the share, in %, of the full volume (end-diastole, `ed`) that is gone when the heart
# has contracted (end-systole, `es`). Without a full volume it is NaN.

# %% [raw]
# # BEGIN SOLUTION


# %%
def volume(mask, spacing, label=3):
    """mL of one label."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return float((np.asarray(mask) == label).sum() * np.prod(spacing) / 1000)
    # END SOLUTION


def ejection_fraction(ed, es):
    """Two volumes in mL → %."""
    # BEGIN SOLUTION gannet-on-the-ninth-stair
    return 100 * (ed - es) / ed if ed > 0 else float("nan")
    # END SOLUTION


# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: Multiply the three lengths of a voxel, and mind the unit.
"""  # END TEST CONFIG


def test_q6_volume(volume):
    import numpy as np

    assert abs(volume(np.full((5, 10, 20), 3), (10, 1, 2)) - 20) < 1e-6


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: Other labels are counted too, or the argument label has no effect.
"""  # END TEST CONFIG


def test_q6_labels(volume):
    import numpy as np

    mask = np.random.default_rng(3).integers(0, 4, (5, 8, 6))
    for label in (1, 3):
        expected = (mask == label).sum() * 0.018
        assert abs(volume(mask, (8, 1.5, 1.5), label) - expected) < 1e-6


# %%
"""  # BEGIN TEST CONFIG
points: 1
failure_message: A heart of 150 mL that contracts to 60 mL has pumped out 90 mL. Of what are these 60 %?
"""  # END TEST CONFIG


def test_q6_fraction(ejection_fraction):
    assert abs(ejection_fraction(150, 60) - 60) < 1e-6


# %%
"""  # BEGIN TEST CONFIG
points: 1
hidden: true
failure_message: A heart of 0 mL has no ejection fraction, and that is not an error. One that grows has a negative one.
"""  # END TEST CONFIG


def test_q6_special(ejection_fraction):
    import math

    assert math.isnan(ejection_fraction(0, 0))
    assert abs(ejection_fraction(100, 120) + 20) < 1e-6


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
# A network outlines the left ventricle one pixel too wide, at both moments. How does that change the volumes, and how the ejection
# fraction? Which of your measures would you report to a cardiologist, and why? Three sentences.

# %% [raw]
# # BEGIN SOLUTION

# %% [markdown]
# Both volumes are too large. The small volume grows by the larger share, so the ejection fraction comes out too low, but by a
# smaller share than either volume is wrong. The cardiologist needs volumes and ejection fraction with their errors; the Hausdorff distance shows where
# to look for a gross mistake. (gannet-on-the-ninth-stair)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

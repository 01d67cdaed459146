# %% [markdown]
# # 2D or 3D
#
# *When is a volume more than its slices?*
#
# A heart is a volume, and a scanner delivers it as a stack of slices. A pixel with a thickness is a {term}`voxel`. A network can look at each slice for itself, or at the stack as a whole. It seems obvious that more context must help.
# The review says the opposite: it has found that *2D methods deliver better results compared to 3D methods*. **Is that so, and if it is, what is the reason: the third dimension, or something that came along with it?**
#
# After this chapter you can read a comparison of two networks and list what differs besides the one thing that its title names.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from medlib import claims, cost, fit, hearts, losses, metrics, plots, profile, seed, stats
from medlib.data import Dataset, Split
from medlib.device import device
from medlib.hearts.phantom import phantom
from medlib.models import Neighbours, SmallUNet, UNet3D, VNet
from medlib.models.deeplab import small_deeplab
from medlib.models.neighbours import each
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
MORE = profile(smoke=2, quick=2, full=5)  # of the three networks that the question is about
TIMES = profile(smoke=0.01, quick=0.04, full=1)  # all trainings, as a multiple of those of the full profile
SIDE = 128
patients = hearts.drawn(hearts.load())
patients = profile(smoke=patients[:10], quick=hearts.shuffled(patients)[:40], full=patients)
train, val, test = hearts.split(patients)
print(len(train), "patients to train on,", len(val), "to choose with,", len(test), "to test on")

# %% [markdown]
# ## What a stack looks like from the side
#
# We work on ACDC {cite:p}`bernard2018acdc`. Here is one heart as the scanner cut it, and the same stack cut along its length. The pixels are drawn with their true shape: in most patients a voxel is some 1.5 mm wide
# and 10 mm tall, in some 5 mm. Such a {term}`spacing` is called **anisotropic**.

# %% tags=["hide-input"]
one = test[0]
row, column = (int(c) for c in hearts.centre(one))
image, mask = one.ed.image, one.ed.mask
low, high = np.quantile(image, (0.01, 0.99))
figure, axes = plots.panels(2, height=3.0, width_ratios=(1, 1))
middle = len(image) // 2
crop = slice(max(0, row - 50), row + 50), slice(max(0, column - 50), column + 50)
axes[0].imshow(image[middle][crop], vmin=low, vmax=high)
axes[0].set(title=f"slice {middle + 1} of {len(image)}")
axes[1].imshow(image[:, row, crop[1]], vmin=low, vmax=high, aspect=one.ed.spacing[0] / hearts.spacing(one)[1])
axes[1].set(title="the stack from the side, base above", ylabel="slice")
for axis in axes:
    axis.grid(False)
    axis.set(xticks=[], yticks=[])

# %% tags=["hide-input"]
plots.show(
    figure,
    alt="Left, a short-axis slice of a heart with sharp round ventricles. Right, the stack of slices cut lengthwise: each slice is a row of tall bricks, and the ventricles are steps.",
    caption="One slice, and the stack from the side, in true proportions (ACDC, CC BY-NC-SA 4.0).",
    name="fig-17-bricks",
)  # fmt: skip

# %% [markdown]
# The slices are sharp; the stack is a pile of bricks. From one slice to the next the heart may have changed a lot, and it may have moved, since each slice is taken in a breath-hold of its own. That is what a 3D network has to work with.
#
# ## The idea: one more sum
#
# A 2D convolution adds up the neighbours of a pixel in its slice. With kernel $w$ and image $x$, at row $i$ and column $j$,
#
# $$ y[i,j] = \sum_{a,b} w[a,b]\; x[i+a,\,j+b], $$ (eq-conv2)
#
# where $a$ and $b$ run over −1, 0 and 1.
#
# A 3D convolution also adds up over slices $k$:
#
# $$ y[k,i,j] = \sum_{c}\ \sum_{a,b} w[c,a,b]\; x[k+c,\,i+a,\,j+b], $$ (eq-conv3)
#
# with $c$ over −1, 0 and 1 too. So it is a 2D convolution of the slice above, one of the slice itself and one of the slice below, added. A kernel of 3 × 3 × 3 costs three times one of 3 × 3. By hand:

# %%
x, w = torch.randn(1, 1, 5, 16, 16), torch.randn(4, 1, 3, 3, 3)
padded = F.pad(x, (0, 0, 0, 0, 1, 1))
k = 2  # any slice: its neighbours in `padded` are k, k + 1 and k + 2
by_hand = sum(F.conv2d(padded[:, :, k + c], w[:, :, c], padding=1) for c in range(3))
torch.testing.assert_close(by_hand, F.conv3d(x, w, padding=1)[:, :, k], rtol=1e-4, atol=1e-4)
print("three 2D convolutions = one slice of a 3D convolution:", tuple(by_hand.shape))

# %% [markdown]
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C082", "C083", "C084", "C085", "C086", "C087", "C088", "C089")

# %% tags=["hide-input"]
claims.box("C093", "C094", "C095", "C107", "C109", "C110")

# %% [markdown]
# ## Two volumetric networks
#
# **The 3D U-Net** {cite:p}`cicek2016unet3d` carries the U-Net of chapter 11 over to kernels of 3 × 3 × 3. It differs in more than that: it has three poolings in place of four, doubles its channels *before* each pooling, so that none of them is a narrow place, and has batch normalisation.

# %%
plots.show_source(UNet3D)

# %% [markdown]
# **V-Net** {cite:p}`milletari2016vnet` came in the same year, with four ideas of its own: kernels of 5 × 5 × 5, a residual sum in every stage (chapter 13), strided convolutions in place of pooling, and a loss that we come to below.

# %%
plots.show_source(VNet)

# %% tags=["nbval-check-output"]
size_v, _ = cost.parameters_and_macs(lambda: VNet(1, 2), (1, 16, 16, 16))
size_3d, _ = cost.parameters_and_macs(lambda: UNet3D(3, 3), (3, 16, 16, 16))
print(f"V-Net {size_v:,} parameters, 3D U-Net {size_3d:,}, and the 2D U-Net of chapter 11: 31,030,658")

# %% [markdown]
# So the 3D network need not have more parameters. What it has more of is work for each slice. MONAI has a V-Net too {cite:p}`cardoso2022monai`; it adds batch normalisation, dropout and ELU, which the paper does not have.
#
# ## What the third dimension costs
#
# To see that alone, we take one network twice: a small 3D U-Net, and its *flat twin*, whose kernels are 1 × 3 × 3. Nothing else differs.

# %%
FLAT = ((1, 2, 2),) * 3  # pooling in the plane only: ten thick slices are few
SLICES = 10
deep = partial(UNet3D, 1, 4, width=8, pool=FLAT, patch=2)
flat = partial(deep, kernel=(1, 3, 3))
twins = {"flat twin, slice": (flat, 1), "flat twin, stack": (flat, SLICES), "3D, stack": (deep, SLICES)}
sizes = {n: cost.parameters_and_macs(build, (1, d, SIDE, SIDE)) for n, (build, d) in twins.items()}
bytes_kept = {n: cost.activation_bytes(build, (1, d, SIDE, SIDE)) for n, (build, d) in twins.items()}

# %% tags=["timing"]
forwards = {n: cost.forward(build(), (1, 1, SLICES, SIDE, SIDE)) for n, build in (("2D", flat), ("3D", deep))}
ms = cost.time_in_turn(forwards, profile(smoke=2, full=10))

# %% tags=["hide-input", "timing"]
plots.table(
    [[n, f"{sizes[n][0]:,}", f"{sizes[n][1] / 1e9:.2f}", f"{bytes_kept[n] / 2**20:.0f}"] for n in twins],
    ["network and input", "parameters", "G multiply-adds", "MB of activations kept for the backward pass"],
)
plots.say(
    f"A stack of {SLICES} slices takes {np.median(ms['2D']):.0f} ms in 2D and {np.median(ms['3D']):.0f} ms in 3D (one prediction, fp32). "
    f"Per slice, the 3D network keeps {bytes_kept['3D, stack'] / bytes_kept['flat twin, stack']:.2f} times as much as its twin: what fills the memory is not the third dimension of the kernel, "
    "but that a stack has to be kept whole."
)

# %% [markdown]
# ## Does a 2D network really see one slice?
#
# We replace all slices but one by noise and look whether the answer on that one changes.

# %%
stack = torch.randn(1, 1, SLICES, 64, 64, generator=torch.Generator().manual_seed(0)).to(device())
noise = torch.randn(stack.shape, generator=torch.Generator().manual_seed(1)).to(device())
keep = 4
noise[:, :, keep] = stack[:, :, keep]
change = {}
for name, build in (("2D", partial(Neighbours, reach=0)), ("3D", deep)):
    seed(0)
    net = build().to(device())
    change[name] = (predict(net, stack) - predict(net, noise))[:, :, keep].abs().max().item()
print(f"largest change on the slice that stayed: 2D {change['2D']:.1e}, 3D {change['3D']:.2f}")

# %% [markdown]
# ## The comparison, and what hides in it
#
# The paper behind the review's sentence compared 2D and 3D networks on ACDC {cite:p}`baumgartner2017exploration`. Its preprocessing and its published code show that more than the dimension differed; each such difference is a {term}`confounder`: the 2D networks saw pixels of 1.367 mm in batches of ten slices,
# the 3D network voxels of 2.5 × 2.5 × 5 mm, one volume a batch. So there are three suspects:
#
# - the **dimension** of the kernels,
# - the **pixel size**,
# - the **batch**, which is what one step sees: sixteen slices drawn from everywhere say more about hearts than sixteen
#   slices of two hearts.
#
# (The slices we leave as they are; the paper's 3D network also saw them interpolated to 5 mm.) We can change one at a time. Every network below takes the same number of *steps*, 400; the table says what time that is. Each is trained on 16 slices a step, either drawn from everywhere or as two blocks of eight neighbours.
# The 2D U-Net has as many parameters as the 3D one; the flat twin of the 3D U-Net differs from it in nothing but its kernels. The small DeepLabV3+ of chapter 12 is there as one more 2D rival. All use the recipe of *A hundred hearts*, which was tuned for a 2D U-Net: that favours 2D.


# %%
class Arm(NamedTuple):
    build: Callable[[], nn.Module]
    whole: bool  # takes stacks
    seeds: int = SEEDS
    side: int = SIDE


STEPS = max(1, round(400 * TIMES))


# %%
two = partial(SmallUNet, width=24)
vnet = partial(VNet, 1, 4, width=4, strides=FLAT, kernel=(3, 5, 5), norm=True, patch=2)
ARMS = {
    "2D U-Net": Arm(two, False, MORE),
    "2D U-Net, two hearts a batch": Arm(partial(Neighbours, reach=0, width=24), True),
    "flat twin, two hearts a batch": Arm(flat, True, MORE),
    "3D U-Net": Arm(deep, True, MORE),
    "V-Net": Arm(vnet, True),
    "DeepLabV3+": Arm(small_deeplab, False),
    "2D U-Net, 2.5 mm": Arm(two, False, side=80),
    "3D U-Net, 2.5 mm": Arm(deep, True, side=80),
}

# %% [markdown]
# V-Net's kernels are 3 × 5 × 5 here and its strides stay in the plane, since ten slices cannot be halved four times; it also has batch normalisation, which the paper does not, and is trained with the same loss as all others. `hearts.stacks` cuts the blocks.

# %%
plots.show_source(hearts.blocks)

# %%
prepared = {
    (whole, side): (hearts.stacks if whole else hearts.slices)(train, val[:4], test, side=side)
    for whole, side in {(a.whole, a.side) for a in ARMS.values()}
}


# %%
def fitted(build, data, steps, s, validations=1):
    """A network after so many steps of 16 slices, and its history."""
    batch = 2 if data.train.x.ndim == 5 else 16
    seed(s)
    net, steps = build(), max(1, round(steps * TIMES))
    options = hearts.RECIPE | {"batch_size": batch, "validations": min(validations, steps)}
    return net, fit(net, data, steps=steps, seed=s, **options)


# %%
nets, seconds, dice, histories = {}, {}, {}, {}
for name, arm in ARMS.items():
    data = prepared[arm.whole, arm.side]
    runs = [fitted(arm.build, data, 400, s, validations=8) for s in range(arm.seeds)]
    nets[name] = [net for net, _ in runs]
    histories[name] = runs[0][1]
    seconds[name] = np.mean([h.cpu[-1] for _, h in runs])
    dice[name] = np.array(
        [hearts.dice_of_patients(n, test, side=arm.side, whole=arm.whole) for n in nets[name]]
    )


# %% tags=["hide-input"]
def over(name, rival=None):
    """Mean Dice of a test patient, or its lead, with an interval over patients and seeds."""
    mine, other = (None if n is None else dice[n].mean((2, 3)) for n in (name, rival))
    if other is not None:  # the seeds that both have
        both = min(len(mine), len(other))
        mine, other = mine[:both], other[:both]
    return stats.over_patients(mine, other)


# %% tags=["hide-input", "timing"]
rows = []
for name, arm in ARMS.items():
    size, _ = cost.parameters_and_macs(
        arm.build, (1, SLICES, arm.side, arm.side) if arm.whole else (1, arm.side, arm.side)
    )
    cells = [f"{dice[name][:, :, t, k].mean():.3f}" for k in range(3) for t in range(2)]
    rows.append([name, f"{size:,}", f"{arm.seeds}", f"{seconds[name]:.0f}", *cells, str(over(name))])
plots.table(
    rows,
    [f"{STEPS} steps", "parameters", "seeds", "CPU-seconds", "RV ED", "RV ES", "myocardium ED", "myocardium ES",
     "LV ED", "LV ES", "mean [95 % interval]"],
)  # fmt: skip

# %% [markdown]
# **Take these trainings as unfinished.** A one-cycle schedule is flat at its end whatever its length, so the flat end of a curve says nothing; what tells is that twice the steps give another result. What follows
# compares how fast networks learn, and may turn in a longer training.

# %%
curves = plots.curves(
    {name: histories[name] for name in ("2D U-Net", "flat twin, two hearts a batch", "3D U-Net")}
)

# %% tags=["hide-input"]
plots.show(
    curves,
    alt="Left: training and validation loss of three networks against the step. Right: their validation Dice.",
    caption="The three networks of the question, first seed: loss, and Dice of the validation patients.",
    name="fig-17-curves",
)

# %% [markdown]
# Now one change at a time. Each row below is a row above minus another: to the right of zero the first is better, to the left the second. Three things come along with what the row names. All slices of a block get the same augmentation. Blocks show the middle slices of a heart more often. And at equal steps coarse pixels and flat kernels take less time, so that
# in the same time they could have learnt more.

# %% tags=["hide-input"]
DIFFERENCES = {
    "all together: 2D at 1.56 mm and 3D at 2.5 mm": ("2D U-Net", "3D U-Net, 2.5 mm"),
    "dimension: flat twin and 3D, the same batches": ("flat twin, two hearts a batch", "3D U-Net"),
    "dimension: as many parameters, the same batches": ("2D U-Net, two hearts a batch", "3D U-Net"),
    "batch: from everywhere and of two hearts, both 2D": ("2D U-Net", "2D U-Net, two hearts a batch"),
    "pixel size, 2D: 1.56 mm and 2.5 mm": ("2D U-Net", "2D U-Net, 2.5 mm"),
    "pixel size, 3D: 1.56 mm and 2.5 mm": ("3D U-Net", "3D U-Net, 2.5 mm"),
    "design: V-Net and U-Net, both 3D": ("V-Net", "3D U-Net"),
}
gaps = {what: over(a, b) for what, (a, b) in DIFFERENCES.items()}
plots.show(
    plots.intervals(gaps, xlabel="Dice of the first minus that of the second", references={"no difference": 0}),
    alt="Seven intervals of differences in Dice: all changes together, dimension alone in two ways, batch alone, pixel size in 2D and in 3D, and two designs of 3D network.",
    caption="The first minus the second, taken apart. Intervals over test patients and seeds.",
    name="fig-17-confound",
)  # fmt: skip

# %% tags=["hide-input"]
PATH = ("batch: from everywhere and of two hearts, both 2D", "dimension: as many parameters, the same batches",
         "pixel size, 3D: 1.56 mm and 2.5 mm")  # fmt: skip
batch, dimension, pixels = (gaps[w] for w in PATH)
plots.say(
    f"The way from the first network to the last has three steps, and they add up: {sum(gaps[w].mean for w in PATH):+.3f} in all = "
    f"{batch.mean:+.3f} (batch) {dimension.mean:+.3f} (dimension) {pixels.mean:+.3f} (pixels), each over the seeds that both networks have. "
    "That they add up is arithmetic; how large each is, is a matter of these steps."
)
design = gaps["design: V-Net and U-Net, both 3D"]
plots.say(
    f"But *dimension* is not all that its name says. Two networks that are both 3D differ by {design}, "
    f"and 2D and 3D by {dimension}. A network that learns slowly loses in a short training, whatever its kernels."
)

# %% [markdown]
# ## Look: from the side, and the worst first
#
# Where a network sees one slice at a time, nothing keeps its masks in line. Look for another fault too: stripes and dots of the width of a pixel. These networks work on patches of 2 × 2 pixels and give four answers a patch; where the network is unsure, the four disagree.

# %% tags=["hide-input"]
arm_names = ("2D U-Net", "3D U-Net")
worst = test[int(dice["2D U-Net"][:, :, 1].mean((0, 2)).argmin())]
found = {n: hearts.segment(nets[n][0], worst, whole=ARMS[n].whole)[1] for n in arm_names}
r, c = (int(v) for v in hearts.centre(worst))
z = int(np.argmax([(found["2D U-Net"][k] != worst.es.mask[k]).sum() for k in range(len(worst.es.mask))]))
box = slice(max(0, r - 50), r + 50), slice(max(0, c - 50), c + 50)
tall = max(1, round(worst.es.spacing[0] / hearts.spacing(worst)[1]))
masks = {"expert": worst.es.mask, **found}
front = [plots.outlined(worst.es.image[z][box], m[z][box], zoom=3) for m in masks.values()]
side = [
    plots.outlined(worst.es.image[:, r, box[1]].repeat(tall, 0), m[:, r, box[1]].repeat(tall, 0), zoom=3)
    for m in masks.values()
]

# %% tags=["hide-input"]
figure, axes = plots.panels(3, 2, height=2.3)
for j, name in enumerate(masks):
    axes[0, j].imshow(front[j])
    axes[1, j].imshow(side[j])
    axes[0, j].set_title(name)
for axis in axes.ravel():
    axis.axis("off")
plots.show(
    figure,
    alt="The patient with the lowest Dice at end-systole, by the expert, the 2D and the 3D network: above the slice with the most wrong pixels, below the stack cut lengthwise with the outlines as steps.",
    caption=f"The worst test patient of the 2D network at ES ({worst.name[-3:]}): its worst slice, and the stack from the side (ACDC, CC BY-NC-SA 4.0).",
    name="fig-17-worst",
)  # fmt: skip

# %% [markdown]
# How well do neighbouring slices go together? We take the {term}`Dice` of each structure in a slice with the same structure in the next: in the expert's masks, and in those of the networks of the first seed. More than the expert's is no better: slices can agree with each other and not with the heart. Beside it stands HD95 (chapter 09), which sees stripes and a wrong slice at the base, where Dice hardly does; small islands it leaves out by its definition.

# %%
plots.show_source(metrics.consistency)

# %%
true = np.array([[metrics.consistency(v.mask) for v in (p.ed, p.es)] for p in test]).mean(1)
agreement, farthest = {}, {}
for name in (*arm_names, "V-Net"):
    masks_of = [hearts.segment(nets[name][0], p, whole=ARMS[name].whole) for p in test]
    agreement[name] = np.array([np.mean([metrics.consistency(m) for m in pair]) for pair in masks_of])
    farthest[name] = [
        metrics.hausdorff(m == k, v.mask == k, v.spacing, percentile=95)
        for pair, p in zip(masks_of, test, strict=True)
        for m, v in zip(pair, (p.ed, p.es), strict=True)
        for k in (1, 2, 3)
    ]

# %% tags=["hide-input"]
plots.table(
    [["expert", f"{true.mean():.3f}", "", ""]]
    + [
        [n, f"{a.mean():.3f}", stats.interval(a - true), f"{np.nanmedian(farthest[n]):.1f}"]
        for n, a in agreement.items()
    ],
    ["masks by", "Dice of neighbouring slices", "difference to the expert's", "HD95, mm (median)"],
)

# %% [markdown]
# ## Where does 3D begin to pay?
#
# If thick slices are the reason, thin ones should turn the tables. ACDC has both: among the test patients some stacks are cut every 5 mm and the others every 10 mm.

# %% tags=["hide-input"]
apart = np.array([p.ed.spacing[0] for p in test])
here = dice["2D U-Net"].mean((2, 3)), dice["3D U-Net"].mean((2, 3))
groups = {"up to 7 mm apart": apart <= 7, "farther apart": apart > 7}
plots.table(
    [
        [name, int(who.sum()), stats.over_patients(*(d[:, who] for d in here)) if who.sum() > 1 else "–"]
        for name, who in groups.items()
    ],
    ["test patients with slices", "patients", "Dice of 2D minus 3D"],
)

# %% [markdown]
# These are few patients, and who is scanned every 5 mm differs in more than that: in ACDC it goes with the diagnosis, as `patients` shows if you ask it. Sets of whole hearts with nearly cubic voxels could be thinned out instead. We ask the {term}`phantom`, where less else changes: the same hearts, the same field of 80 mm, cut into slices from 10 mm down to 1 mm, with a good deal of noise. Both networks have about as many parameters and see the same blocks of eight slices, for as many steps. Two things do change. Eight slices of 1 mm span 8 mm of heart, so thin slices also mean a short view; and thin slices make ten times as many blocks, so the same steps see each block a tenth as often. A result for them speaks of all three.

# %%
THICK = profile(smoke=(10, 5), quick=(10, 2), full=(10, 5, 2, 1))
SWEEP = {"2D": (partial(Neighbours, reach=0, width=24), 140), "3D": (deep, 140)}  # steps
HEARTS, NOISE = profile(smoke=(2, 2), quick=(4, 4), full=(10, 10)), 0.3


# %%
def simulated(n, mm, s):
    """(images (2 n, 1, D, 64, 64), masks), ED and ES of n hearts."""
    p = phantom(n, seed=s, shape=(80 // mm, 64, 64), spacing=(mm, 2.5, 2.5), noise=NOISE)
    x = p.image.flatten(0, 1)[:, None]
    return (x - x.mean()) / x.std(), p.mask.flatten(0, 1).long()


# %%
def cut(x, y, depth=8):
    """Blocks of eight slices."""
    return Split(*(torch.cat(a.split(depth, -3)) for a in (x, y)))


# %%
def stack_dice(net, x, y):
    """Mean Dice over hearts and structures."""
    found = [predict(net, v[None])[0].argmax(0).cpu().numpy() for v in x]
    return np.mean([[metrics.dice(f == k, t == k) for k in (1, 2, 3)] for f, t in zip(found, y.numpy(), strict=True)])  # fmt: skip


# %%
sweep = {}
for mm in THICK:
    splits = [cut(*simulated(n, mm, i)) for i, n in enumerate((HEARTS[0], 2))]
    data = Dataset("phantom", hearts.LABELS, *splits, splits[1], "simulated")
    unseen = simulated(HEARTS[1], mm, 2)
    for name, (build, steps) in SWEEP.items():
        sweep[name, mm] = [stack_dice(fitted(build, data, steps, s)[0], *unseen) for s in range(SEEDS)]

# %% tags=["hide-input"]
lead = {mm: stats.paired(sweep["2D", mm], sweep["3D", mm]) for mm in THICK}
figure, (left, right) = plots.panels(2, height=2.8)
for i, name in enumerate(SWEEP):
    values = np.array([sweep[name, mm] for mm in THICK])
    left.plot(THICK, values.mean(1), "os"[i] + "-", label=name, color=f"C{i}")
    left.plot(np.repeat(THICK, SEEDS), values.ravel(), "os"[i], markersize=3, alpha=0.4, color=f"C{i}")
left.set(xlabel="slice thickness, mm", ylabel="Dice, test phantoms", xscale="log")
left.legend(fontsize=8)
right.axhline(0, color="0.6", linewidth=1)
for mm, g in lead.items():
    right.plot([mm, mm], [g.low, g.high], color="C2")
    right.plot(mm, g.mean, "o", color="C2")
right.set(xlabel="slice thickness, mm", ylabel="lead of 2D", xscale="log")
for axis in (left, right):
    axis.set_xticks(THICK, [f"{mm}" for mm in THICK])
    axis.minorticks_off()

# %% tags=["hide-input"]
plots.show(
    figure,
    alt="Left, Dice of a 2D and a 3D network on phantoms cut into slices of 10 to 1 mm. Right, the lead of 2D with intervals over seeds.",
    caption="The same simulated hearts in thinner and thinner slices. Left: Dice, each seed a faint dot. Right: the lead of 2D with its 95 % interval.",
    name="fig-17-thickness",
)  # fmt: skip

# %% tags=["hide-input"]
signs = {mm: g.says("2D ahead", "3D ahead", "no clear difference") for mm, g in lead.items()}
plots.say(
    "; ".join(f"{mm} mm: {word} ({lead[mm]})" for mm, word in signs.items()) + ". "
    + (
        "With thick slices 2D leads, as on real hearts, and the other thicknesses say whether that lasts."
        if lead[THICK[0]].low > 0
        else "Even the thickest slices show no lead of 2D here, so the phantom cannot say what thin slices would do to one."
    )
)  # fmt: skip

# %% [markdown]
# A phantom is kind to 3D: the slices lie still where a patient breathes anew, but for a shift of about a millimetre. And it is unkind: the noise of each slice is as strong in thin slices as in thick ones, where a real scanner's grows.
#
# ## A loss for the few
#
# In a whole volume the ventricle may fill one voxel in a hundred. A network trained with {term}`cross-entropy` then learns fast that “background” is a good answer. V-Net's loss asks for overlap itself. With probabilities $p_i$ and truth $g_i$ over voxels $i$,
#
# $$ D = \frac{2 \sum_i p_i g_i}{\sum_i p_i^2 + \sum_i g_i^2}, \qquad \frac{\partial D}{\partial p_j} = 2\,\frac{g_j \left(\sum p_i^2 + \sum g_i^2\right) - 2 p_j \sum p_i g_i}{\left(\sum p_i^2 + \sum g_i^2\right)^2}. $$ (eq-vnet-dice)
#
# The paper gives this gradient by hand. Does ours agree?

# %%
plots.show_source(losses.vnet_dice)

# %%
logits = torch.randn(1, 2, 8, 8, dtype=torch.double).requires_grad_()
g = (torch.rand(1, 8, 8) < 0.2).long()
p = logits.float().softmax(1)[:, 1]
squares, both = (p**2).sum() + g.sum(), (p * g).sum()
paper = 2 * (g * squares - 2 * p * both) / squares**2
(through_p,) = torch.autograd.grad(p, logits, grad_outputs=-paper.detach(), retain_graph=True)
(ours,) = torch.autograd.grad(losses.vnet_dice(logits.float(), g), logits)
torch.testing.assert_close(ours, through_p)
print("the paper's gradient = autograd's")

# %% [markdown]
# Now a task whose imbalance we can set: a disc, one and a half standard deviations brighter than what it lies on, on slices of real hearts. Its area goes from half the image down to a thousandth. Only the loss differs. *Weighted* cross-entropy lets the few pixels of the disc count as much, in all, as the many of the background. *Tversky* is a Dice that punishes what was missed more than what was added. *Focal* is a cross-entropy in which pixels that the network is sure of count little.

# %%
FRACTIONS = profile(smoke=(0.5, 0.02), full=(0.5, 0.05, 0.005, 0.001))
LOSSES = {
    "cross-entropy": lambda f: F.cross_entropy,
    "weighted cross-entropy": lambda f: partial(weighted, f),
    "Dice, squares (V-Net)": lambda f: losses.vnet_dice,
    "Dice": lambda f: losses.soft_dice,
    "Dice + cross-entropy": lambda f: losses.dice_ce,
    "Tversky": lambda f: losses.tversky,
    "focal": lambda f: losses.focal,
}


# %%
def weighted(fraction, logits, target):
    """Cross-entropy in which both classes weigh the same in all."""
    weight = torch.tensor([0.5 / (1 - fraction), 0.5 / fraction], device=logits.device)
    return F.cross_entropy(logits, target, weight=weight)


# %%
backgrounds = hearts.slices(train[:20], val[:4], test, side=64)


# %%
def discs(x, fraction, s):
    """Images with a disc each, and its mask."""
    rng = np.random.default_rng(s)
    radius = 64 * np.sqrt(fraction / np.pi)
    edge = min(radius, 31)
    at = rng.uniform(edge, 63 - edge, (len(x), 2, 1, 1))
    far = np.hypot(np.arange(64)[:, None] - at[:, 0], np.arange(64) - at[:, 1])
    inside = torch.from_numpy(far <= max(radius, 0.75))
    return Split(x.cpu() + 1.5 * inside[:, None], inside.long())


# %%
def disc_data(fraction):
    parts = (getattr(backgrounds, part).x[:200] for part in ("train", "val", "test"))
    return Dataset("discs", ("background", "disc"), *(discs(x, fraction, i) for i, x in enumerate(parts)), backgrounds.source)  # fmt: skip


# %%
def disc_dice(loss, data, s):
    seed(s)
    net = SmallUNet(1, 2, width=8)
    steps = max(1, round(120 * TIMES))
    fit(net, data, steps=steps, seed=s, **(hearts.RECIPE | {"loss": loss, "augment": None}))
    return losses.mean_dice(predict(net, data.test.x).cpu(), data.test.y.cpu())


# %%
found_discs = {}
for fraction in FRACTIONS:
    data = disc_data(fraction)
    for name, choose in LOSSES.items():
        found_discs[name, fraction] = [disc_dice(choose(fraction), data, s) for s in range(SEEDS)]

# %% tags=["hide-input"]
plots.table(
    [[n, *(f"{np.mean(found_discs[n, f]):.3f} ± {np.std(found_discs[n, f]):.3f}" for f in FRACTIONS)] for n in LOSSES],
    ["loss", *(f"disc fills {f:g}" for f in FRACTIONS)],
)  # fmt: skip

# %% tags=["hide-input"]
rare = FRACTIONS[-1]
ends = {
    n: np.mean(found_discs[n, rare]) for n in sorted(LOSSES, key=lambda n: -np.mean(found_discs[n, rare]))
}
plots.say(
    f"Where the disc fills {rare:g} of the image, the losses end at "
    + ", ".join(f"*{n}* {v:.2f}" for n, v in ends.items())
    + f" (mean of {SEEDS} seeds, {max(1, round(120 * TIMES))} steps). The best of them reaches {np.mean(found_discs[next(iter(ends)), FRACTIONS[0]]):.2f} with the largest disc. "
    "So few steps show which loss *leaves the background first*, not where each would end; and all of them take the learning rate of one."
)

# %% [markdown]
# ## Is a slice a training image?
#
# Cutting stacks into slices multiplies the images, says the review. But the slices of one heart are alike. We train on as many slices twice: all slices of a few patients, and a few slices of many. Each seed draws other patients, with the diagnoses in equal shares.

# %%
FEW = max(2, len(train) // 8)


def subset(s, few):
    """A data set with all slices of few patients, or with as many slices of all."""
    order = hearts.shuffled(train, seed=s)
    part = hearts.slices(order if not few else order[:FEW], val[:4], test, side=64)
    wanted = sum(2 * len(p.ed.image) for p in order[:FEW])
    index = torch.linspace(0, len(part.train.x) - 1, wanted).round().long()
    return Dataset(part.name, part.classes, part.train.take(index), part.val, part.test, part.source)


# %%
effective, slices_used = {}, []
for name, few in (("few", True), ("many", False)):
    effective[name] = []
    for s in range(SEEDS):
        data = subset(s, few)
        slices_used.append(len(data.train.x))
        net = fitted(SmallUNet, data, 300, s)[0]
        effective[name].append(hearts.dice_of_patients(net, test, side=64).mean((1, 2)))
effective = {name: np.array(values) for name, values in effective.items()}
owners = {"few": FEW, "many": len(train)}

# %% tags=["hide-input"]
design = stats.over_patients(effective["many"], effective["few"])
plots.table(
    [
        [f"{np.mean(slices_used):.0f} slices of {owners[n]} patients", f"{effective[n].mean():.3f}"]
        for n in owners
    ]
    + [["difference", design]],
    ["training set", "test Dice"],
)

# %% [markdown]
# ## Four means of the same masks
#
# The review's .914 stands in no table of the paper: its abstract gives .950 for the LV, .893 for the RV and .899 for the myocardium, and .914 is their mean. (So is it of the six figures in the challenge's table, which we print below.) Does it matter which mean one takes? Here are four, of the same masks of our 2D network.

# %%
paper = (0.950, 0.893, 0.899)
predicted = [hearts.segment(nets["2D U-Net"][0], p) for p in test]
pairs = [(m, v.mask) for two_masks, p in zip(predicted, test, strict=True) for m, v in zip(two_masks, (p.ed, p.es), strict=True)]  # fmt: skip
volumes = np.array([[metrics.dice(m == k, t == k) for k in (1, 2, 3)] for m, t in pairs])
pooled = [
    2
    * sum(((m == k) & (t == k)).sum() for m, t in pairs)
    / sum((m == k).sum() + (t == k).sum() for m, t in pairs)
    for k in (1, 2, 3)
]
by_slice = [
    metrics.dice(a == k, b == k) for m, t in pairs for a, b in zip(m, t, strict=True) for k in (1, 2, 3)
]

# %% tags=["hide-input"]
four = {
    "mean over volumes, then over structures": volumes.mean(),
    "voxels of all patients together, structure by structure": np.mean(pooled),
    "mean over slices; where both are empty, left out": np.nanmean(by_slice),
    "mean over slices; where both are empty, 1": np.nan_to_num(by_slice, nan=1.0).mean(),
}
plots.table([[n, f"{v:.3f}"] for n, v in four.items()], ["how the mean is taken", "Dice"])
plots.say(
    f"The same masks score from {min(four.values()):.3f} to {max(four.values()):.3f}. The mean of the three figures of the abstract is {np.mean(paper):.4f}."
)

# %% [markdown]
# ## How far does a small processor get?
#
# The comparison above was short on purpose. Now a smaller 2D network (width 16) gets more time, and all patients but the test ones, with more than one seed; and as the winner of the challenge did {cite:p}`isensee2017automatic`, we average the probabilities of several networks. (He averaged 2D and 3D ones. Our 3D networks are far from finished, and to mix them in would say nothing about 3D.)

# %%
LONG = profile(smoke=2, full=2)
everyone = hearts.slices(train + val, val[:4], test)
longer = [fitted(SmallUNet, everyone, 1300, 100 + s)[0] for s in range(LONG)]


# %%
class Mean(nn.Module):
    """The mean of the probabilities of several networks for slices, (B, 1, D, H, W) → logits."""

    def __init__(self, nets):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x):
        logits = [each(net, x) for net in self.nets]
        return torch.stack([v.float().softmax(1) for v in logits]).mean(0).clamp(min=1e-9).log()


# %%
best_of = {
    "2D, one network (mean of seeds)": np.mean([hearts.dice_of_patients(n, test) for n in longer], 0),
    f"2D, mean of {LONG}": hearts.dice_of_patients(Mean(longer), test, whole=True),
}

# %% tags=["hide-input"]
plots.table(
    [
        [n, *(f"{d[:, t, k].mean():.3f}" for k in (2, 0, 1) for t in (0, 1)), str(stats.interval(d.mean((1, 2))))]
        for n, d in best_of.items()
    ]
    + [["2D U-Net (Baumgartner), hidden test set", ".963", ".911", ".932", ".883", ".892", ".901", ".914"],
       ["2D and 3D (Isensee), hidden test set", ".968", ".931", ".946", ".899", ".902", ".919", ".928"]],
    ["method", "LV ED", "LV ES", "RV ED", "RV ES", "myocardium ED", "myocardium ES", "mean"],
)  # fmt: skip

# %% [markdown]
# The last two rows are from the challenge's paper {cite:p}`bernard2018acdc`: networks of full size, hours on a GPU, 100 patients to train on, and another set of test patients. Ours had minutes on a processor. The nearest landmark is nnU-Net, cross-validated on the training patients: .915 {cite:p}`isensee2024revisited`. It is also what to run first on stacks of your own; it looks at the spacing and decides by itself between 2D, 3D and both {cite:p}`isensee2021nnunet`.
#
# ## Two baselines
#
# What does one get without learning to see?
#
# **A mask that knows no image.** The mean of all training masks, as a constant answer. **A method without a network.** A threshold on the brightness gets a good click in every slice that holds the ventricle, and so is also told which slices those are; no network here gets either. Its level is chosen on training patients, and it can answer for the LV alone. It is not the best that people did without networks: in the challenge, level sets and graph cuts built for hearts reached a mean Dice of 0.836 over all structures, without a click {cite:p}`tziritas2017fast,bernard2018acdc`. That is the rival for the verdict.


# %%
class Constant(nn.Module):
    """The share of training masks that have each label at each pixel, whatever the image."""

    def __init__(self, y):
        super().__init__()
        shares = F.one_hot(y, 4).float().mean(0).movedim(-1, 0)
        self.logits = nn.Parameter(shares.clamp(min=1e-6).log())

    def forward(self, x):
        return self.logits.expand(len(x), -1, -1, -1)


# %%
def click_and_grow(image, truth, level):
    """The bright piece around a click, slice by slice: LV masks of one volume."""
    found = np.zeros(truth.shape, bool)
    for k in np.flatnonzero((truth == 3).any((1, 2))):
        depth = ndimage.distance_transform_edt(truth[k] == 3)
        at = np.unravel_index(depth.argmax(), depth.shape)
        smooth = ndimage.gaussian_filter(image[k], 1)
        pieces, _ = ndimage.label(smooth > level * smooth[at])
        found[k] = ndimage.binary_fill_holes(pieces == pieces[at]) if pieces[at] else False
    return found


# %%
def classical(people, level):
    """(patients,): Dice of the LV, mean of ED and ES."""
    return np.array([np.mean([metrics.dice(click_and_grow(v.image, v.mask, level), v.mask == 3) for v in (p.ed, p.es)]) for p in people])  # fmt: skip


# %%
LEVELS = profile(smoke=(0.6,), full=(0.5, 0.6, 0.7, 0.8))
level = max(LEVELS, key=lambda q: classical(train[:20], q).mean())
threshold = classical(test, level)
constant = hearts.dice_of_patients(Constant(prepared[False, SIDE].train.y.cpu()), test)
net_lv = dice["2D U-Net"][:, :, :, 2].mean(2)
plots.table(
    [
        ["mean training mask", f"{constant[..., 2].mean():.3f}", f"{constant.mean():.3f}"],
        [f"click and threshold at {level} of the brightness", f"{threshold.mean():.3f}", "–"],
        ["2D U-Net", f"{net_lv.mean():.3f}", f"{dice['2D U-Net'].mean():.3f}"],
    ],
    ["method", "LV", "all structures"],
)

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
single = np.array([hearts.dice_of_patients(n, test).mean((1, 2)) for n in longer])
ahead = stats.over_patients(single).shifted(-0.836)
claims.observe(
    "C082",
    ahead,
    where="a 2D U-Net on ACDC test patients, less the 0.836 of level set and graph cut on other patients, which has no interval",
)
claims.observe(
    "C083", change["2D"], n=1, where=f"one stack of noise; the 3D control changes by {change['3D']:.2g}"
)
jagged = stats.interval(agreement["2D U-Net"] - true)
claims.observe("C084", jagged, where="ACDC test patients, 2D U-Net")
claims.observe("C085", bytes_kept["flat twin, slice"] / bytes_kept["3D, stack"] - 1, n=1, where=f"activations kept for the backward pass; a slice against a stack of {SLICES}, so their number is the reason")  # fmt: skip
slices, stacks = len(prepared[False, SIDE].train.x), 2 * len(train)
claims.observe(
    "C086", slices / stacks - 1, n=stacks, where=f"ACDC, {slices} slices in {stacks} training stacks"
)

# %% tags=["hide-input"]
equal = over("2D U-Net", "3D U-Net")
claims.observe("C087", equal, where=f"ACDC test patients, slices of 5 to 10 mm, {STEPS} steps, unfinished")
thick = lead[THICK[0]]
claims.observe("C087", thick, where=f"phantoms, slices of {THICK[0]} mm, short trainings")
claims.observe(
    "C088",
    equal,
    where=f"ACDC test patients, {STEPS} steps each, {seconds['2D U-Net'] / seconds['3D U-Net']:.2f} times the time of 3D, unfinished; the same pixels",
)
claims.observe("C089", float(np.mean(paper)) - 0.914, n=3, where="the three figures of the paper's abstract")

# %% tags=["hide-input"]
with torch.device("meta"):
    layers = [m for m in VNet(1, 2).modules() if not list(m.children())]
flat = [m for m in layers if isinstance(m, nn.Linear | nn.Conv2d)]
claims.observe("C093", len(flat), n=len(layers), where="the V-Net of 2016, counted")
few_lead = stats.paired(found_discs["Dice, squares (V-Net)", rare], found_discs["cross-entropy", rare])
claims.observe("C094", few_lead, where=f"a disc that fills {rare:g} of the image, early in training")
reported = {
    "random non-linear transformations": True,
    "histogram matching": True,
}  # the abstract of the V-Net paper
claims.observe("C095", float(any(reported.values())), n=1, where="abstract of the V-Net paper")

# %% tags=["hide-input"]
others = [n for n in ("3D U-Net", "V-Net", "DeepLabV3+") if n in ARMS]
rival = max(others, key=lambda n: dice[n].mean())
u_lead = over("2D U-Net", rival)
claims.observe("C107", u_lead, where=f"ACDC test patients, against {rival}, the best other network of this chapter, {STEPS} steps, unfinished")  # fmt: skip
ratio = stats.interval(ms["3D"] / ms["2D"] - 1)
claims.observe("C109", ratio, where=f"small U-Nets, a stack of {SLICES}")
for mm in THICK:
    claims.observe("C110", lead[mm], where=f"phantoms, slices of {mm} mm, short trainings")

# %% [markdown]
# How to read this. C087 and C088 compare networks as they are used, batches included; the rows *dimension* of {numref}`fig-17-confound` ask the narrower question. If 2D leads on thick slices, that is one thing; a rule that 2D is better is another, and {numref}`fig-17-thickness` asks, on phantoms, whether a lead lasts when slices get thinner.
# All of it is a matter of 400 steps: short training favours whatever learns fast, and long training may change the order. C094 tells which loss leaves the background first. C084 is one to try again: a 2D network that learns longer may put its slices together better (set `TIMES` to 2). Two of our patients, 074 and 076, are one scan: they stand in one part, so one heart may count twice among the test patients.
#
# ## At full size
#
# The paper's networks (`VNet(1, 2)`, `UNet3D(3, 3)`) take the same code; one step of each runs on the meta device in the tests.
#
# ## Pitfalls in medicine
#
# - **Two changes, one headline.** When a network wins, ask for the pixel size, the batch and the time of both sides before you believe the name in the title.
# - **Thin slices are often made, not measured.** Resampling a stack from 10 mm to 2 mm invents slices. A 3D network then sees interpolation.
# - **The stack is not still.** Slices of a short-axis stack come from different breath-holds, and may be shifted against each other. A network that trusts the neighbour inherits the shift.
# - **Which mean?** Ask whether a Dice is per patient, per slice or pooled, and what empty slices count.
#
# ## Summary
#
# - A 3D convolution is a sum of 2D convolutions over neighbouring slices: three times the work.
# - A 3D network need not have more parameters; it must keep whole stacks in memory, so its batches hold fewer patients.
# - Baumgartner's comparison mixed dimension, pixel size and batch. They can be taken apart, and “dimension” still holds the design of the network and how fast it learns.
# - An overlap loss asks for overlap, however small the structure.
# - Ask how many patients a training set has, not only how many slices.
#
# ## Check yourself
#
# **1.** How many times the multiply-adds of a 5 × 5 kernel does a 5 × 5 × 5 kernel need at each place, with
# as many maps?
#
# - **A** as many
# - **B** 5 times
# - **C** 25 times
# - **D** 125 times
#
# <details><summary>Answer</summary>
#
# **B.** It is the sum of five 2D convolutions, one for each slice. D counts its weights for one pair of maps,
# not the ratio.
#
# </details>
#
# **2.** The kernels of a 3D network are made flat. For a whole stack, the memory that the maps take in
# training hardly falls. Why?
#
# - **A** A map has as many numbers, whether its kernel was flat or not.
# - **B** Flat kernels need a larger batch to learn as much.
# - **C** The weights take most of the memory of a 3D network.
# - **D** Flat kernels keep the neighbouring slices as well.
#
# <details><summary>Answer</summary>
#
# **A.** What is kept for the way back are the maps of the whole stack. A 2D network may take the slices one
# by one, and that is what saves memory. Weights (C) are few beside them.
#
# </details>
#
# **3.** Why is a batch of two stacks of eight slices a poorer sample than sixteen slices from everywhere?
#
# - **A** Stacks of slices have fewer pixels in all than single slices.
# - **B** Each stack is shown twice in an epoch, each slice once.
# - **C** Batch normalisation does not work on stacks of slices.
# - **D** Its slices are alike, so its gradient speaks for two patients.
#
# <details><summary>Answer</summary>
#
# **D.** Sixteen images, two hearts. It is a property of the batch and not of the third dimension, which is
# why the chapter takes the two apart.
#
# </details>
#
# **4.** In V-Net's loss, $D = 2 \sum p g / (\sum p^2 + \sum g^2)$. What do the squares change for masks of 0
# and 1, and for probabilities?
#
# - **A** both are punished more for voxels that are wrong
# - **B** nothing for masks; unsure voxels weigh less in the denominator
# - **C** nothing for either, since no probability exceeds 1
# - **D** masks weigh less in the denominator; probabilities stay
#
# <details><summary>Answer</summary>
#
# **B.** $1^2 = 1$ and $0^2 = 0$. A probability of 0.5 counts as 0.25.
#
# </details>
#
# **5.** One voxel in a thousand is foreground. A network always says “background”. What does it score?
#
# - **A** accuracy 50 %, Dice 0.5
# - **B** accuracy 99.9 %, Dice 0.999
# - **C** accuracy 99.9 %, Dice 0
# - **D** accuracy 0.1 %, Dice 0
#
# <details><summary>Answer</summary>
#
# **C.** Its cross-entropy is small too, so a loss that averages over voxels has little reason to change it. B
# takes the Dice of the background, which nobody asked for.
#
# </details>
#
# **6.** The Dice scores of three structures are 0.95, 0.89 and 0.90. Is the Dice of all foreground voxels
# together their mean, 0.913?
#
# - **A** no: large structures weigh more, and a mix-up of labels goes unpunished
# - **B** yes, if the three structures do not overlap each other
# - **C** yes: a mean over structures is a mean over their voxels
# - **D** no: it is always the smallest of the three scores
#
# <details><summary>Answer</summary>
#
# **A.** All foreground together asks “heart or not?”, so a voxel of the LV that is called myocardium counts as
# found. It is a fifth mean beside the chapter's four, and those too can differ by more than two methods do.
#
# </details>
#
# **7.** A clinic interpolates its stacks from slices of 10 mm to slices of 2 mm, and trains a 3D network on
# them. What has the network gained?
#
# - **A** five times as many patients to learn from
# - **B** finer anatomy between the slices that were taken
# - **C** freedom from the shifts between the breath-holds
# - **D** slices computed from their neighbours, nothing new about the patient
#
# <details><summary>Answer</summary>
#
# **D.** Four of five slices are made, not measured. A shift between breath-holds (C) is smeared out and looks
# like anatomy.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: pooling through the slices
# :label: ex-17-pool
# Predict what happens to the 3D U-Net on ACDC if its levels also halve the number of slices, `pool=((2, 2, 2),) * 3`.
# ```
#
# ```{solution} ex-17-pool
# :class: dropdown
# Eight slices become one at the bottom, so all know of all. But a mask has to be put back to slices 10 mm apart from maps that no longer tell them apart; the skips must do it. Try it on validation patients.
# ```
#
# ```{exercise} ★ Predict: noise
# :label: ex-17-noise
# In {numref}`fig-17-thickness`, would 3D gain or lose ground if the phantom had less noise? Predict, then set `NOISE = 0.05`.
# ```
#
# ```{solution} ex-17-noise
# :class: dropdown
# One would expect it to lose ground: a neighbour helps most where the slice itself is unclear, and with little noise each slice says almost all there is to know. Look at both curves, not only at the gap: both should rise.
# ```
#
# ```{exercise} ★★ Implement: 2D, then 3D
# :label: ex-17-inflate
# Fill the kernels of the 3D U-Net from its trained flat twin: the flat kernel in the middle, zeros above and
# below. Show that the two give the same answer, and train on.
# ```
#
# ````{solution} ex-17-inflate
# :class: dropdown
# ```python
# def inflated(small):
#     big, weights = deep(), small.state_dict()
#     for name, w in big.state_dict().items():
#         if w.shape == weights[name].shape:
#             w.copy_(weights[name])
#         else:
#             w.zero_()
#             w[:, :, 1:2] = weights[name]
#     return big
#
#
# small = flat().eval()  # or the trained twin: nets["flat twin, two hearts a batch"][0].eval()
# big, x = inflated(small).eval(), torch.randn(1, 1, 8, 64, 64)
# with torch.no_grad():
#     torch.testing.assert_close(big(x), small(x), rtol=1e-4, atol=1e-4)
# ```
#
# With zeros the neighbours do not enter, so the outputs agree to rounding. Training then begins where 2D
# ended, and can only use the neighbours where they help. Compare it with a flat twin that is trained on for
# as long.
# ````
#
# ```{exercise} ★★ Implement: a fairer batch
# :label: ex-17-batch
# Train the 3D U-Net on eight blocks of two slices instead of two blocks of eight. What does that leave of its third dimension, and what does it win?
# ```
#
# ```{solution} ex-17-batch
# :class: dropdown
# `hearts.stacks(..., depth=2)`, and in `fitted` a batch of 8. Each slice now sees one neighbour. Compare with *3D U-Net* and with *2D U-Net, two hearts a batch*.
# ```
#
# ```{exercise} ★★★ Investigate: how much time?
# :label: ex-17-time
# Does the gap between 2D and 3D on ACDC close with longer training? Double the steps twice and draw the lead against the steps, with intervals.
# ```
#
# ```{solution} ex-17-time
# :class: dropdown
# Set `TIMES` to 2 and 4. Short trainings measure how fast a network learns, long ones how good it gets: say which of the two a claim is about.
# ```
#
# ```{exercise} ★★★ Investigate: breath-holds
# :label: ex-17-breath
# Shift each slice of the phantoms by a random step of 0 to 4 pixels, image and mask alike, as breathing does
# from slice to slice. What becomes of the 2D and of the 3D network, at each slice thickness? Does it matter
# whether the training phantoms were shifted too?
# ```
#
# ````{solution} ex-17-breath
# :class: dropdown
# ```python
# def shaken(x, y, most, s):
#     draw = torch.Generator().manual_seed(s)
#     x, y = x.clone(), y.clone()
#     for volume, mask in zip(x, y, strict=True):
#         for k in range(mask.shape[0]):
#             step = torch.randint(-most, most + 1, (2,), generator=draw).tolist()
#             volume[:, k] = volume[:, k].roll(step, (-2, -1))
#             mask[k] = mask[k].roll(step, (-2, -1))
#     return x, y
#
#
# unseen = shaken(*simulated(HEARTS[1], THICK[0], 2), 4, 0)
# ```
#
# Apply it to `unseen`, then also to the training phantoms, and repeat the sweep. The 2D network should not
# care, but for the edge of the field. The 3D one should lose if it learnt on still hearts, and win most of
# that back if it learnt on moving ones. The pitfall: with thin slices neighbouring slices come from the same
# breath-hold; shift them in groups of 10 mm to be fair.
# ````

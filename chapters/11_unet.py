# %% [markdown]
# # U-Net
#
# *What do the skip connections bring?*
#
# In 2015 a network with the shape of a U won a contest on cells under the microscope, trained on a few dozen images
# {cite:p}`ronneberger2015unet`. Most segmentation networks since are its children. The review gives three reasons for its success: the
# concatenations, the elastic deformation of the training images, and the few images that it therefore needs. **Which of the three can we see
# on hearts?**
#
# After this page you can trace every size in the U-Net of 2015, say what a skip carries, measure what each patient and each kind of
# augmentation adds, and keep two objects apart that touch.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import warnings
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import claims, cost, fit, hearts, losses, plots, profile, seed, stats
from medlib.augment import random_affine
from medlib.data import Dataset, Split
from medlib.models import SmallUNet, UNet
from medlib.scrubber import scrubber
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
STEPS = profile(smoke=2, quick=24, full=240)
SIZES = profile(smoke=(1, 2), quick=(1, 8, 64), full=(1, 2, 4, 8, 16, 32, 64))
FEW = profile(smoke=(1,), quick=(8,), full=(2, 4, 8, 16, 32))
SIDE = 64

# %% [markdown]
# ## The problem, seen on our data
#
# How much does a network for outlines depend on its skips, on its augmentation, and on the number of patients? To vary all three we need many trainings, so images are small.
#
# Slices of ACDC hearts {cite:p}`bernard2018acdc`, cut to a square of 200 mm (nominal) around the heart, here at 64 × 64 pixels so that many
# networks can be trained. One patient in five is tested; the others are the pool that we draw training patients from.

# %%
train, val, test = hearts.split(hearts.load())
pool, test = profile(smoke=(train[:2], test[:2]), full=(train + val, test))
sliced = {p.name: hearts.slices(*3 * [pool.of([p])], side=SIDE).train for p in pool}
print(
    f"{len(pool)} patients to draw from, {sum(len(s.x) for s in sliced.values()):,} slices; {len(test)} test patients"
)

# %% [markdown]
# ## The idea
#
# To name a pixel, a network must know what is around it. Pooling brings that: after four poolings one place of the map has seen a large
# part of the image. But it no longer knows where exactly a border runs. The U-Net takes the {term}`map` from before each {term}`pooling` and lays it beside the map that comes back up: a {term}`skip`. With $u$ for up-sampling, $x_k$ for the map of level $k$ on the way down and $y_k$ on the way up,
#
# $$ y_k = \mathrm{convolutions}\big([\,x_k,\; u(y_{k+1})\,]\big) , $$
#
# where the brackets mean: one set of channels after the other. That is a *concatenation*. The first part knows where, the second knows what.
#
# ## What the review says

# %% tags=["hide-input"]
claims.box("C023", "C024", "C028", "C029", "C030", "C031", "C032", "C033", "C034", "C035", "C036")

# %% [markdown]
# ## The key block by hand
#
# One step up: double the size, crop the map from the left side of the U to the same size, concatenate, and convolve twice without padding.


# %%
def step_up(x, aside, block):
    x = F.conv_transpose2d(x, block.up.weight, block.up.bias, stride=2)
    margin = (aside.shape[2] - x.shape[2]) // 2
    aside = aside[:, :, margin : margin + x.shape[2], margin : margin + x.shape[3]]
    x = torch.cat((aside, x), 1)
    for layer in (block.convolutions[0], block.convolutions[2]):
        x = F.conv2d(x, layer.weight, layer.bias).relu()
    return x


# %%
block = UNet(width=4).up[0]
x, aside = torch.randn(1, 64, 10, 10), torch.randn(1, 32, 28, 28)
assert torch.allclose(step_up(x, aside, block), block(x, aside), atol=1e-5)
print("by hand = medlib:", tuple(block(x, aside).shape))

# %%
plots.show_source(UNet)

# %% [markdown]
# ## The network of 2015, traced
#
# On the meta device a tensor has a shape and no numbers, so the full network costs nothing. Unpadded convolutions take a frame of one
# pixel away each time: 572 pixels go in, 388 come out.

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    net, crops = UNet(), []
    for up in net.up:
        up.register_forward_pre_hook(lambda _, maps: crops.append((maps[1].shape[2], 2 * maps[0].shape[2])))
    out = net(torch.empty(1, 1, 572, 572))
size, work = cost.parameters_and_macs(UNet, (1, 572, 572))
assert (size, out.shape[2]) == (31_030_658, 388)
assert crops == [(64, 56), (136, 104), (280, 200), (568, 392)]
print(f"{size:,} parameters, {work / 1e9:.1f} G multiply-adds; sides before and after cropping {crops}")

# %% [markdown]
# The claims about the drawing can be counted.

# %%
leaves = [m for m in net.down.modules() if not list(m.children())] + [net.pool]
three = [m for m in leaves if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
other = [m for m in leaves if m not in three and not isinstance(m, nn.ReLU)]
widths = [level[0].out_channels for level in (*net.down, net.bottleneck)]
ratios = np.divide(widths[1:], widths[:-1])
assert other == [net.pool] and net.pool.kernel_size == net.pool.stride == 2

# %% tags=["hide-input"]
paper = "the U-Net of 2015, counted"
claims.observe("C028", len(other) - 1, n=len(leaves), where=paper)
claims.observe("C029", float(np.abs(ratios - 2).max()), n=len(ratios), where=paper)

# %% tags=["hide-input"]
claims.observe("C024", sum(up.skip == "concatenate" for up in net.up) - 1, n=1, where=paper)
each = [sum(isinstance(m, nn.Conv2d) for m in up.convolutions) for up in net.up]
claims.observe("C031", float(np.mean(each)) - 1, n=len(each), where=paper)
claims.observe("C032", net.head.weight[0].numel() - 64, n=1, where=paper)
resized = cost.parameters_and_macs(partial(UNet, resize=True), (1, 572, 572))[0]
claims.observe("C030", resized - 31_030_658, n=1, where="up-sampling and a 2 × 2 convolution")

# %% [markdown]
# So the review's description is right but for two counts: four maps are concatenated, not one, and each level has two 3 × 3 convolutions.
#
# ## How we train
#
# All networks below take the same number of steps, whatever the number of patients (but where the length is the question), and the last weights are kept: nothing is chosen by
# looking at other patients. Seed $s$ also draws which patients are in. Each test patient gets the mean {term}`Dice` over three structures and
# two moments, on the scanner's pixels.
#
# The loss adds the cross-entropy of each pixel to *soft Dice*, 1 − Dice with probabilities in place of a mask.


# %%
def trained(build, n, s, augment=None, loss=losses.dice_ce, steps=STEPS):
    """The network `build()`, trained on `n` patients that seed `s` draws."""
    parts = [sliced[p.name] for p in hearts.shuffled(pool, s)[:n]]
    chosen = Split(
        torch.cat([p.x for p in parts]),
        torch.cat([p.y for p in parts]),
        np.concatenate([p.whose for p in parts]),
    )
    data = Dataset(pool.name, hearts.LABELS, chosen, parts[0], parts[0], pool.source)
    seed(s)
    model = build()
    options = {"loss": loss, "score": losses.mean_dice, "lr": 1e-2, "batch_size": 16, "keep": "last"}
    fit(model, data, steps=steps, validations=1, augment=augment, seed=s, **options)
    return model


# %%
def judged(model):
    return hearts.dice_of_patients(model, test, side=SIDE).mean((1, 2))


def runs(build, n, **options):
    """(seeds, test patients): Dice."""
    return np.stack([judged(trained(build, n, s, **options)) for s in range(SEEDS)])


lead = stats.over_patients  # of `a` over `b`, both (seeds, cases)


# %% [markdown]
# ## One training, watched
#
# Before the experiments, look at one. The slider moves through the training: the outlines are what the network says of a slice of a patient
# that it is not trained on.

# %%
shown, seen = hearts.slices(pool[1:5], test[:1], test[:1], side=SIDE), []


def watch(logits, target):
    seen.append(logits[len(logits) // 4].argmax(0).cpu())
    return losses.mean_dice(logits, target)


options = {
    "steps": max(STEPS, len(shown.train.x) // 16),
    "lr": 1e-2,
    "batch_size": 16,
    "validations": 24,
}
# What `watch` collects is not in the store, so this training is done each time.
history = fit(SmallUNet(), shown, loss=losses.dice_ce, score=watch, store=False, **options)

# %% tags=["hide-input"]
picture = shown.val.x[len(shown.val.x) // 4, 0]
scrubber(
    np.stack([plots.outlined(picture, mask, zoom=4) for mask in seen]),
    sliders=("training, in equal steps",),
    alt="A slice of a heart during training. At first the outlines are scattered over the image; then they settle on the left ventricle, "
    "the ring of muscle around it, and last the right ventricle.",
    caption="What a small U-Net says of an unseen slice while it learns from four patients (ACDC, CC BY-NC-SA 4.0).",
)

# %% [markdown]
# ## Concatenate, add, or nothing?
#
# The FCN adds its skips, as class scores; the U-Net concatenates whole maps. Here both join whole maps, so that nothing but the joining differs. A sum needs fewer weights behind it, so for a fair comparison the network that adds, and
# the one without skips, get more channels, until all three have about as many parameters. We look at all pixels, and at the pixels within two of
# the expert's outline (on the scanner's grid), where skips should matter. (At 64 × 64
# pixels, Dice stays below what a U-Net can reach; the order is what we look at.)

# %%
goal = cost.parameters_and_macs(SmallUNet, (1, SIDE, SIDE))[0]


def matched(skip):
    def gap(width):
        return abs(
            cost.parameters_and_macs(partial(SmallUNet, skip=skip, width=width), (1, SIDE, SIDE))[0] - goal
        )

    return partial(SmallUNet, skip=skip, width=min(range(12, 28), key=gap))


builds = {skip: matched(skip) for skip in ("concatenate", "add", "none")}
print({skip: f"{cost.parameters_and_macs(build, (1, SIDE, SIDE))[0]:,}" for skip, build in builds.items()})


# %%
def boundary(model):
    """Dice of each test patient, counted only within two pixels of the expert's outlines."""
    from scipy.ndimage import binary_dilation, binary_erosion

    plane, scores = np.ones((1, 3, 3), bool), []
    for p in test:
        for mask, truth in zip(hearts.segment(model, p, side=SIDE), (p.ed.mask, p.es.mask), strict=True):
            for k in (1, 2, 3):
                t = truth == k
                band = binary_dilation(t, plane, 2) & ~binary_erosion(t, plane, 2)
                scores.append(2 * ((mask == k) & t & band).sum() / ((mask == k)[band].sum() + t[band].sum()))
    return np.reshape(scores, (len(test), -1)).mean(1)


# %%
everything = max(SIZES)
models = {skip: [trained(build, everything, s) for s in range(SEEDS)] for skip, build in builds.items()}
whole = {skip: np.stack([judged(m) for m in three]) for skip, three in models.items()}
border = {skip: np.stack([boundary(m) for m in three]) for skip, three in models.items()}

# %% tags=["hide-input"]
plots.table(
    [
        [skip, f"{whole[skip].mean():.3f}", f"{border[skip].mean():.3f}", *(("", "") if skip == "concatenate" else (lead(whole["concatenate"], whole[skip]), lead(border["concatenate"], border[skip])))]
        for skip in builds
    ],
    ["skips", "Dice", "Dice near the outline", "concatenate − this", "the same near the outline"],
)  # fmt: skip

# %% tags=["hide-input"]
brought = {w: d["concatenate"] - d["none"] for w, d in (("whole", whole), ("border", border))}
joined, extra = lead(whole["concatenate"], whole["add"]), lead(brought["border"], brought["whole"])
plots.say(
    f"Skips bring {lead(brought['whole'])} in Dice; to concatenate them in place of adding them brings {joined}"
    + (": no difference that we can tell. " if joined.low <= 0 <= joined.high else ". ")
    + f"What skips bring near the outline minus what they bring everywhere: {extra}"
    + extra.says(
        ", so the outline is where they matter most.",
        ", so they help the inside more.",
        ", so they help inside as much.",
    )
)

# %% tags=["hide-input"]
ahead = lead(border["concatenate"], border["add"])
where = f"ACDC at {SIDE} px, {everything} patients, {SEEDS} seeds, equal parameters"
claims.observe("C023", ahead, where=where)

# %% [markdown]
# ## How many patients?
#
# We train on 1, 2, 4, … patients, and always for the same number of steps.

# %%
curve = {n: whole["concatenate"] if n == everything else runs(SmallUNet, n) for n in SIZES}
points = {n: lead(d) for n, d in curve.items()}

# %% tags=["hide-input"]
figure, axis = plots.panels(1, height=2.8)
axis.plot(SIZES, [p.mean for p in points.values()], "o-", color="C0")
axis.fill_between(
    SIZES,
    [p.low for p in points.values()],
    [p.high for p in points.values()],
    color="C0",
    alpha=0.2,
    linewidth=0,
)
axis.set(
    xscale="log",
    xlabel="training patients",
    ylabel="Dice of unseen patients",
    xticks=SIZES,
    xticklabels=SIZES,
)
axis.minorticks_off()
plots.show(
    figure,
    alt="Learning curve: Dice of unseen patients against the number of training patients on a logarithmic axis. It rises steeply from one patient on and flattens towards all of them.",
    caption=f"Dice of {len(test)} test patients against the number of training patients; band: 95 % interval over patients and seeds.",
    name="fig-11-patients",
)  # fmt: skip

# %% tags=["hide-input"]
gains = ", ".join(f"{n}: {p.mean:.3f}" for n, p in points.items())
plots.say(
    f"Dice by number of patients: {gains}. The last doubling adds {lead(*list(curve.values())[:-3:-1])}."
)

# %% [markdown]
# ## Does elastic deformation play a significant role?
#
# A heart that is bent a little is still a heart. Elastic deformation, a kind of {term}`augmentation`, moves the points of a coarse grid at random and bends the image
# smoothly between them. The paper writes that this was key, but does not show a training without it. We take
# MONAI's deformation {cite:p}`cardoso2022monai`, and hold it against no augmentation, against ordinary turning, stretching and shifting, and against both
# together.


# %%
def elastic():
    """MONAI's random elastic deformation, as `fit` wants it."""
    from monai.transforms import Rand2DElasticd

    keys = ("image", "mask")
    # The paper: displacements of 10 pixels on images of 512; here about as large a share of the image.
    how = {"spacing": (20, 20), "magnitude_range": (1, 3), "prob": 1, "padding_mode": "border"}

    def augment(x, y, generator):
        bend = Rand2DElasticd(keys, mode=("bilinear", "nearest"), **how)
        bend.set_random_state(int(torch.randint(2**31, (1,), generator=generator)))
        both = [bend({"image": a.cpu(), "mask": b[None].cpu().float()}) for a, b in zip(x, y, strict=True)]
        image, mask = (torch.stack([d[key].as_tensor() for d in both]).to(x.device) for key in keys)
        return image, mask[:, 0].round().long()

    return augment


# %%
with warnings.catch_warnings(action="ignore"):  # MONAI's import warns of other packages
    kinds = {"none": None, "affine": random_affine(contrast=0), "elastic": elastic()}
kinds["both"] = lambda x, y, g: kinds["elastic"](*kinds["affine"](x, y, g), g)
augmented = {
    (n, kind): curve[n] if kind == "none" else runs(SmallUNet, n, augment=augment)
    for n in FEW
    for kind, augment in kinds.items()
}

# %% tags=["hide-input"]
plots.table(
    [
        [n, *(f"{augmented[n, k].mean():.3f}" for k in kinds), lead(augmented[n, "elastic"], augmented[n, "none"]), lead(augmented[n, "elastic"], augmented[n, "affine"])]
        for n in FEW
    ],
    ["patients", *kinds, "elastic − none", "elastic − affine"],
)  # fmt: skip

# %% tags=["hide-input"]
for n in FEW:
    ahead = lead(augmented[n, "elastic"], augmented[n, "none"])
    claims.observe("C033", ahead, where=f"ACDC, {n} training patients, {SEEDS} seeds")
sure = [str(n) for n in FEW if lead(augmented[n, "elastic"], augmented[n, "none"]).low > 0]
plots.say(
    f"The interval of the gain of elastic deformation over none lies above zero at {len(sure)} of {len(FEW)} numbers of patients"
    + (f" ({', '.join(sure)})." if sure else ".")
)

# %% [markdown]
# With three seeds, a gain that comes and goes with $n$ is what chance looks like: read the table as a whole, not the one row that
# stands out.
#
# ### It depends on how long one trains
#
# Augmentation is there to keep a network from learning its few images by heart. A network that has not had the time to do so has nothing to
# gain from it, and the deformed images only make its task harder. So we train once more on four patients, for a quarter of the steps
# and for four times as many.

# %%
FOUR = min(4, max(SIZES))
lengths = {STEPS // 4: {}, STEPS: {}, 4 * STEPS: {}}
for steps, found in lengths.items():
    for kind in ("none", "elastic"):
        known = augmented.get((FOUR, kind)) if steps == STEPS else None
        found[kind] = (
            runs(SmallUNet, FOUR, augment=kinds[kind], steps=max(1, steps)) if known is None else known
        )

# %% tags=["hide-input"]
gains = {steps: lead(d["elastic"], d["none"]) for steps, d in lengths.items()}
plots.table(
    [
        [f"{steps:,}", *(f"{d.mean():.3f}" for d in lengths[steps].values()), gain]
        for steps, gain in gains.items()
    ],
    [f"steps, {FOUR} patients", "no augmentation", "elastic", "elastic − none"],
)
short, *_, long = (d["elastic"] - d["none"] for d in lengths.values())
growth = lead(long, short)
plots.say(
    f"From {min(lengths)} to {max(lengths)} steps the gain changes by {growth}: "
    + (
        "it grows with the length of the training, so whoever reports a gain must also say how long was trained."
        if growth.low > 0
        else "in our range the length of the training does not clearly raise it."
    )
)

# %% [markdown]
# ## Skips, weight map or augmentation?
#
# The paper changes three things at once. An {term}`ablation` of one at a time would miss how they work together. A factorial experiment takes them apart: all eight combinations of skips, weight map and elastic
# deformation, at eight patients. The *main effect* of one is the mean over the four combinations with it minus the mean over the four without.
#
# The weight map makes pixels between two objects count more in the cross-entropy. Our objects are the right ventricle, and the left one with its wall.

# %%
plots.show_source(losses.border_weight)


# %%
def weighted(logits, target):
    """`dice_ce`, its cross-entropy weighted by the map."""
    weight = losses.border_weight(target.clamp(max=2))
    entropy = F.cross_entropy(logits, target, reduction="none")
    return losses.soft_dice(logits, target) + (weight * entropy).sum() / weight.sum()


# %%
EIGHT = min(8, max(SIZES))
cells = {}
for skip in (0, 1):
    for weight in (0, 1):
        for bend in (0, 1):
            build = SmallUNet if skip else builds["none"]  # with as many parameters
            options = {
                "augment": kinds["elastic"] if bend else None,
                "loss": weighted if weight else losses.dice_ce,
            }
            known = augmented.get((EIGHT, "elastic" if bend else "none")) if skip and not weight else None
            cells[skip, weight, bend] = runs(build, EIGHT, **options) if known is None else known

# %%
names = ("skips", "weight map", "elastic deformation")
effects = {
    name: sum((1 if cell[i] else -1) * d for cell, d in cells.items()) / 4 for i, name in enumerate(names)
}  # each (seeds, test patients)

# %% tags=["hide-input"]
plots.table(
    [[name, stats.over_patients(effect)] for name, effect in effects.items()],
    ["main effect on Dice at eight patients", "mean and 95 % interval"],
)
for name in names[:2]:
    ahead = stats.over_patients(effects["elastic deformation"], effects[name])
    claims.observe("C034", ahead, where=f"over {name}; ACDC, all slices of {EIGHT} patients, 2 × 2 × 2 factorial, {SEEDS} seeds")  # fmt: skip

# %% [markdown]
# ## What the weight map is for: objects that touch
#
# Hearts are the wrong place to look for it: there is one of each structure. On a plate full of cells, one bridge of wrong pixels makes
# two cells one. Here we simulate cells that nearly touch, so that the truth is exact, and count how many cells each network finds.


# %%
def plate(n, generator):
    """`n` images of crowded bright discs with dark gaps of a pixel or two, and the number of the disc at each pixel."""
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    x, y = torch.zeros(n, 1, 64, 64), torch.zeros(n, 64, 64, dtype=torch.long)
    for i in range(n):
        spots = torch.stack(torch.meshgrid(*[torch.arange(10.0, 64, 15)] * 2, indexing="ij"), -1).view(-1, 2)
        spots = spots + 2 * torch.rand(spots.shape, generator=generator)
        away = torch.stack([torch.hypot(row - r, column - c) for r, c in spots])
        near, which = away.min(0)
        second = away.topk(2, dim=0, largest=False).values[1]
        y[i] = torch.where((near < 8) & (second - near > 1.2), which + 1, 0)
    blurred = F.avg_pool2d((y[:, None] > 0).float(), 3, 1, 1)
    return Split(blurred + 0.3 * torch.randn(x.shape, generator=generator), y)


# %%
draw = torch.Generator().manual_seed(0)
plates = Dataset("cells", tuple(map(str, range(17))), *(plate(n, draw) for n in (32, 16, 48)), "simulated")


def entropy(logits, target, weight=1.0):
    return (weight * F.cross_entropy(logits, (target > 0).long(), reduction="none")).mean()


def bordered(logits, target):
    return entropy(logits, target, losses.border_weight(target))


# %%
def miscounted(loss, s):
    """Difference between the number of cells found and there, on each test plate."""
    from skimage.measure import label

    seed(s)
    model = UNet(1, 2, width=8, depth=2, padded=True, norm=True)
    score = lambda logits, target: losses.mean_dice(logits, (target > 0).long())
    fit(model, plates, steps=STEPS, batch_size=16, lr=1e-2, loss=loss, score=score, validations=1, seed=s, keep="last")  # fmt: skip
    found = predict(model, plates.test.x).argmax(1).cpu()
    return [abs(label(f.numpy(), connectivity=1).max() - t.max().item()) for f, t in zip(found, plates.test.y, strict=True)]  # fmt: skip


plain, mapped = (np.array([miscounted(loss, s) for s in range(SEEDS)]) for loss in (entropy, bordered))

# %% tags=["hide-input"]
better = lead(mapped, plain)
plots.say(
    f"Cells miscounted a plate of {int(plates.test.y.max())}: {plain.mean():.2f} with plain cross-entropy, {mapped.mean():.2f} with the weight map "
    f"(difference {better})."
)  # fmt: skip

# %% tags=["hide-input"]
example = plates.test
figure = plots.grid(
    [example.x[0], example.y[0] > 0, losses.border_weight(example.y[:1])[0]],
    ["image", "cells", "weight map"],
    columns=3,
    size=1.9,
)
plots.show(
    figure,
    alt="A noisy image of sixteen crowded cells; their mask; and the weight map, bright in the thin gaps between neighbours.",
    caption="Simulated cells that nearly touch, their mask, and the weight of each pixel in the loss.",
    name="fig-11-cells",
)

# %% [markdown]
# The paper's own proof was the ISBI cell tracking challenge of 2015 {cite:p}`ronneberger2015unet`: an IoU of .9203 on PhC-U373, next best .83, and of .7756 on
# DIC-HeLa, next best .46. And how many networks since “use U-Net”? In the list below, the published entries of the ACDC challenge {cite:p}`bernard2018acdc`,
# we count an encoder-decoder with skips as such, and count doubtful ones as not.

# %% tags=["hide-input"]
claims.observe("C036", min(0.9203 - 0.83, 0.7756 - 0.46), n=2, where="published IoU, two sets")
entries = {"Isensee": 1, "Khened": 1, "Baumgartner": 1, "Jang": 1, "Zotti": 1, "Patravali": 1} | dict.fromkeys(("Wolterink", "Rohé", "Tziritas", "Yang"), 0)  # fmt: skip
claims.observe(
    "C035", sum(entries.values()) / len(entries), n=len(entries), where="segmentation entries of ACDC 2017"
)

# %% [markdown]
# ## Up: transposed convolution or resizing?
#
# A {term}`transposed convolution` can leave a checkerboard {cite:p}`odena2016deconvolution`: neighbouring pixels come from different weights, which may disagree. (So may the four pixels of a patch that our small U-Net gives back.) A checkerboard changes from pixel to pixel, which is the
# highest frequency that an image has. So we take the Fourier transform of the logits, and the share of its squares that lies above four fifths of that frequency; ± is the spread over seeds.

# %%
checks = {}
for resize in (False, True):
    build = partial(UNet, 1, 4, width=8, depth=3, padded=True, norm=True, resize=resize)
    nets, x = [trained(build, min(16, everything), s) for s in range(SEEDS)], sliced[pool[-1].name].x
    power = [torch.fft.fft2(predict(net, x)).abs() ** 2 for net in nets]
    fine = torch.fft.fftfreq(SIDE, device=power[0].device).abs() > 0.4
    share = [(p[..., fine[:, None] | fine].sum() / p.sum()).item() for p in power]
    checks["resize and convolve" if resize else "transposed"] = share, np.stack([judged(net) for net in nets])

# %% tags=["hide-input"]
plots.table(
    [
        [name, f"{100 * np.mean(s):.2f} % ± {100 * np.std(s):.2f}", f"{d.mean():.3f}"]
        for name, (s, d) in checks.items()
    ],
    ["up-sampling", "energy near the highest frequency", "Dice"],
)
plots.say(
    f"Resizing minus transposed, in Dice: {lead(checks['resize and convolve'][1], checks['transposed'][1])}."
)

# %% [markdown]
# ## What it costs

# %% tags=["timing"]
sizes = {
    "U-Net, width 16, padded": partial(UNet, 1, 4, width=16, padded=True, norm=True),
    "small U-Net": SmallUNet,
}
steps = cost.time_in_turn({name: cost.forward(build(), (8, 1, 128, 128)) for name, build in sizes.items()}, 5)
for name, build in sizes.items():
    size, work = cost.parameters_and_macs(build, (1, 128, 128))
    print(
        f"{name:24} {size:9,} parameters {work / 1e9:.2f} G multiply-adds {np.median(steps[name]) / 8:.1f} ms a slice of 128 × 128"
    )

# %% [markdown]
# At full size: `UNet(1, 2)` on 572 × 572 pixels is the network of the paper.
#
# ## Pitfalls in medicine
#
# - **Slices are not patients.** A curve over the number of slices flatters: the slices of one heart are alike.
# - **Deformation must stay possible.** A heart bent too far is no heart; the network then learns shapes that do not occur.
# - **Unpadded or padded?** With padding, pixels at the border see zeros that no scanner made. The heart is in the middle here; a
#   lesion at the edge may not be.
#
# ## Summary
#
# - The U-Net is a contracting path for *what*, an expanding path for *where*, and a skip at each level that joins them.
# - In 2015: 23 convolutions, four concatenations, 572² pixels in, 388² out, 31,030,658 parameters.
# - Take several changes apart with a factorial experiment before you praise one of them.
# - A weight map is for objects that touch.
#
# ## Check yourself
#
# **1.** In the U-Net of 2015, why must the map on the left be cropped before it is concatenated?
#
# - **A** The right side of the U needs only the middle of the image, where the object lies.
# - **B** The left map has more channels than the right one, and the two must agree.
# - **C** Unpadded convolutions made the map that comes up smaller than the one that was kept.
# - **D** The transposed convolution loses a frame of pixels at each step up.
#
# <details><summary>Answer</summary>
#
# **C.** Two 3 × 3 convolutions a level take away a frame, down and up. A transposed convolution (D) doubles
# the size exactly; channels (B) need not agree to be concatenated.
#
# </details>
#
# **2.** 572 × 572 pixels enter the network of 2015. How large is the map that leaves the first pooling?
#
# - **A** 286 × 286
# - **B** 285 × 285
# - **C** 284 × 284
# - **D** 282 × 282
#
# <details><summary>Answer</summary>
#
# **C.** Two unpadded 3 × 3 convolutions leave 568, and pooling halves it. A forgets the convolutions, B
# counts one of them.
#
# </details>
#
# **3.** At one level, 64 maps come up and 64 maps come from the left. A 3 × 3 convolution makes 64 maps of
# them. How many weights has it if the two are concatenated, and how many if they are added?
#
# - **A** 36,864 both times
# - **B** 73,728 and 36,864
# - **C** 73,728 both times
# - **D** 147,456 and 73,728
#
# <details><summary>Answer</summary>
#
# **B.** Concatenated, 128 maps go in: $9 · 128 · 64$. Added, 64: $9 · 64 · 64$. This is why a fair rival that
# adds is made wider.
#
# </details>
#
# **4.** A network without skips has a Dice almost as high as a U-Net on a large, round organ. Where would you
# look for a difference?
#
# - **A** in the training time
# - **B** in the middle of the organ
# - **C** in slices without the organ
# - **D** near its outline, and in thin structures
#
# <details><summary>Answer</summary>
#
# **D.** Pooling loses the exact place, and that shows where a pixel more or less matters. The middle (B) is
# the easiest part: everything around it has the same label.
#
# </details>
#
# **5.** Why does the number of training *steps* stay the same when the number of patients grows?
#
# - **A** With equal epochs, more patients would also mean longer training.
# - **B** The memory would not suffice for more steps.
# - **C** More patients would need fewer steps, since they are alike.
# - **D** The learning rate depends on the number of patients.
#
# <details><summary>Answer</summary>
#
# **A.** One thing at a time: otherwise nobody could tell which of the two helped. With equal *epochs*,
# sixteen patients would get sixteen times the steps of one.
#
# </details>
#
# **6.** A 2 × 2 experiment gives a Dice of 0.60 with neither A nor B, 0.64 with A, 0.62 with B, and 0.72 with
# both. What is the main effect of A?
#
# - **A** 0.04
# - **B** 0.07
# - **C** 0.10
# - **D** 0.12
#
# <details><summary>Answer</summary>
#
# **B.** With A the mean is $(0.64 + 0.72) / 2$, without it $(0.60 + 0.62) / 2$. A is the effect of A *alone*;
# C is its effect where B is there. That the two differ is an interaction.
#
# </details>
#
# **7.** A learning curve shows Dice against the number of training *slices*, drawn at random from 64
# patients. A clinic with slices of two patients reads off how many it needs. What goes wrong?
#
# - **A** The curve flatters: slices of two hearts hold less that is new than as many of 64.
# - **B** Nothing, for a slice is a slice.
# - **C** The curve is too low, since two patients are easier to learn.
# - **D** Dice cannot be compared between clinics.
#
# <details><summary>Answer</summary>
#
# **A.** Slices of one heart are alike, so the number of *patients* counts. The clinic will need more slices
# than it reads off.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: sizes that fit
# :label: ex-11-sizes
# Which input sizes near 300 fit the unpadded network? Predict, then ask `UNet().output_size(n)`.
# ```
#
# ```{solution} ex-11-sizes
# :class: dropdown
# Before each of the four poolings the side must be even. From the bottom up: a bottleneck of $m$ comes from
# $2m + 4$, and so on four times, which gives $16 m + 60$. With $m = 15$ that is 300; then 284 and 316. All
# are 12 more than a multiple of 16, like 572. The output is 184 pixels smaller.
# ```
#
# ```{exercise} ★ Predict: the price of a concatenation
# :label: ex-11-price
# In a U-Net of width $w$ and depth 4, how many weights do the skips cost, compared with a network that adds?
# ```
#
# ```{solution} ex-11-price
# :class: dropdown
# At the level with $c$ channels on each side the first convolution has $9 · 2c · c$ weights in place of $9 ·
# c · c$: $9 c^2$ more. Over $c = w, 2w, 4w, 8w$ that is $9 w^2 (1 + 4 + 16 + 64) = 765 \, w^2$, or 3.1
# million at $w = 64$: a tenth of the network.
# ```
#
# ```{exercise} ★★ Implement: soft Dice
# :label: ex-11-soft
# Write the soft Dice loss: the mean over the classes but the background of $1 - (2 \sum p t + 1) / (\sum p +
# \sum t + 1)$, with sums over the batch. Check it against `losses.soft_dice`. Why is plain Dice of no use as
# a loss?
# ```
#
# ````{solution} ex-11-soft
# :class: dropdown
# ```python
# def soft_dice(logits, target):
#     p = logits.softmax(1)[:, 1:]
#     t = F.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:]
#     both, sizes = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
#     return 1 - ((2 * both + 1) / (sizes + 1)).mean()
#
#
# z, y = torch.randn(2, 4, 16, 16), torch.randint(0, 4, (2, 16, 16))
# torch.testing.assert_close(soft_dice(z, y), losses.soft_dice(z, y))
# ```
#
# Plain Dice needs a mask, and a mask needs `argmax`, whose slope is zero wherever it has one.
# ````
#
# ```{exercise} ★★ Implement: the first skip alone
# :label: ex-11-first
# Give the skip of the first level only. How much of the gain near the outline is left?
# ```
#
# ````{solution} ex-11-first
# :class: dropdown
# Set the other maps to zero on their way into the step up. `net.unet.up` begins at the deepest level:
#
# ```python
# def first_skip_only():
#     net = SmallUNet()
#     for up in net.unet.up[:-1]:
#         up.register_forward_pre_hook(lambda _, maps: (maps[0], 0 * maps[1]))
#     return net
#
#
# alone = [trained(first_skip_only, everything, s) for s in range(SEEDS)]
# border["first alone"] = np.stack([boundary(m) for m in alone])
# print(lead(border["first alone"], border["none"]), lead(border["concatenate"], border["first alone"]))
# ```
#
# Expect most of the gain to be there: the finest map knows the place best, and the deeper ones tell little
# that the way up does not know already. The zeros still have weights behind them, so the number of parameters
# is that of the whole network, not of what is used.
# ````
#
# ```{exercise} ★★★ Investigate: what is a slice worth?
# :label: ex-11-worth
# Draw training slices at random from all patients, as many as one, two and four patients have. How much more
# is a slice worth when it comes from another patient?
# ```
#
# ```{solution} ex-11-worth
# :class: dropdown
# Join all of `sliced`, draw with a generator seeded by $s$, and put the draw in place of `chosen` in
# `trained`. Compare with `curve[1]`, `curve[2]` and `curve[4]` at equal numbers of slices and equal steps,
# with intervals over patients and seeds.
#
# Expect the random draw to lead clearly at one patient's worth and less later. On the learning curve, find
# the number of patients with the same Dice: their slices divided by yours is what the question asks for. The
# pitfall: the draw has slices from base to apex too, but never a whole heart.
# ```
#
# ```{exercise} ★★★ Investigate: how far may a heart bend?
# :label: ex-11-bend
# Multiply the displacements of the elastic deformation by ½, 1, 2 and 4, at eight patients. Where does Dice
# turn, and what do the images look like there?
# ```
#
# ```{solution} ex-11-bend
# :class: dropdown
# Scale the pair `(1, 3)` in `elastic`, and look at eight deformed slices with their masks before you train.
# Expect a flat top and a fall: where the wall folds or the two ventricles merge, the network learns shapes
# that do not occur. Choose the size on patients of the pool that are not trained on, and report the test
# patients once. The best size depends on the length of the training as well, as this chapter shows.
# ```

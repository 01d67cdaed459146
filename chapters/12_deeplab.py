# %% [markdown]
# # DeepLabV3+
#
# *Do dilated convolutions see more?*
#
# To know that a bright disc is the left ventricle, a network must see the whole heart around it. {term}`Pooling <pooling>` gives it that view, and takes the fine places away. The U-Net carries them past the pooling. DeepLab goes another way: it leaves the last poolings out and pulls the weights of its
# convolutions apart, so that a few of them span a wide field. **Does that see as far, and does it outline hearts as well as a U-Net of the same cost?**
#
# The review cites its reference [20] {cite:p}`bose2022insect` in a sentence about hearts; that paper compares the two on pictures of insects. We compare them on hearts, and on
# the thin membranes of nerve cells.
#
# After this chapter you can compute a convolution with holes by hand, say what a place of a map sees, see what averaging on a coarse map loses, and take a network apart to learn which of its parts earn their keep.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import time
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import cost, fit, hearts, load, losses, metrics, plots, profile, seed, stats
from medlib.augment import random_affine
from medlib.data import Split
from medlib.models import SmallUNet
from medlib.models.deeplab import ASPP, DeepLabV3Plus, dilate, small_deeplab
from medlib.models.resnet import BasicBlock
from medlib.scrubber import scrubber
from medlib.train import predict

# %%
SEEDS = profile(smoke=1, quick=2, full=3)
STEPS = profile(smoke=2, quick=24, full=250)
SIDE = 128

# %% [markdown]
# ## The problem, seen on our data
#
# Slices of ACDC hearts {cite:p}`bernard2018acdc`, cut to a square of 200 mm around the heart, at 128 × 128 pixels. And membranes of nerve cells
# in the electron microscope {cite:p}`argandacarreras2015crowdsourcing`, 30 slices of one fruit fly, cut into tiles of 128 × 128. The licence of the second
# set is unknown, so we print numbers of it and no picture.

# %%
n = profile(smoke=2, full=None)  # None: all patients
train, val, test = (patients[:n] for patients in hearts.split(hearts.load()))
acdc = hearts.slices(train, val[:1], test, side=SIDE)  # nothing is chosen here, so val is only watched
print(acdc)


# %%
def tiles(split):
    """Images (N, 1, H, W) and masks → tiles of 128 × 128, slice after slice."""
    x, y = (t.unfold(-2, SIDE, SIDE).unfold(-2, SIDE, SIDE) for t in (split.x, split.y))
    return Split(x.reshape(-1, 1, SIDE, SIDE), y.reshape(-1, SIDE, SIDE))


stack = load("em").standardise()
membranes = stack.map(tiles)
print(membranes)

# %% [markdown]
# A network whose map has one place for 16 × 16 pixels can say 16 × 16 pixels' worth of one thing. How good could it be at best? Take the
# expert's own masks. Average them over squares of `stride` pixels, enlarge the result with straight lines between the places (bilinearly), and give each
# pixel the label that is largest. A network is not bound by this: it may
# give more extreme numbers than shares, and so place an outline between the places. But it has to learn to. Read the table as what plain averaging loses.


# %%
def ceiling(y, num_classes, stride):
    """Dice that is left of masks (N, H, W) after a map of one place for `stride` × `stride` pixels."""
    shares = F.one_hot(y, num_classes).movedim(-1, 1).float()
    back = F.interpolate(F.avg_pool2d(shares, stride), y.shape[1:], mode="bilinear").argmax(1)
    return [metrics.dice(back == k, y == k) for k in range(1, num_classes)]


heart_masks, membrane_masks = acdc.test.y.cpu(), membranes.test.y.cpu()
limits = {s: ceiling(heart_masks, 4, s) + ceiling(membrane_masks, 2, s) for s in (2, 4, 8, 16, 32)}

# %%
names = [*hearts.LABELS[1:], "membrane"]
plots.table(
    [(f"{s} × {s} pixels", *(f"{d:.3f}" for d in row)) for s, row in limits.items()],
    ["one place for", *names],
)

# %%
i = 2 * len(test[0].ed.image) - len(test[0].es.image) // 2 - 1  # mid-height at end-systole
picture, mask = acdc.test.x[i, 0].cpu(), acdc.test.y[i].cpu()
shares = F.one_hot(mask, 4).movedim(-1, 0)[None].float()
views = [mask] + [
    F.interpolate(F.avg_pool2d(shares, s), (SIDE, SIDE), mode="bilinear").argmax(1)[0] for s in (4, 8, 16, 32)
]
shown = [plots.outlined(picture, view) for view in views]

# %%
plots.show(
    plots.grid(shown, ["expert", *(f"one place for {s} px" for s in (4, 8, 16, 32))], columns=5, size=1.45),
    alt="A heart slice with the expert's outlines, and with the outlines left after coarser and coarser maps. At 16 pixels the ring of muscle is broken; at 32 only a part of the left ventricle is left.",
    caption="The expert's mask of one test slice, and what is left of it on maps of 4, 8, 16 and 32 pixels a place (ACDC, CC BY-NC-SA 4.0).",
    name="fig-12-ceiling",
)  # fmt: skip

# %% [markdown]
# At 4 pixels a place little is lost. At 8 the membranes, which are a few pixels wide, suffer most, and at 16 the ring of muscle breaks as well. At 32, where the last map of a
# ResNet stands, next to nothing of it is left.
#
# ## The idea: a convolution with holes
#
# Let $x_i$ be the numbers along a row, and $w_{-1}, w_0, w_1$ the three weights of a filter. An ordinary convolution multiplies them with three neighbours. Now leave
# holes between the weights:
#
# $$ y_i = \sum_{k=-1}^{1} w_k\, x_{i + r k} . $$ (eq-holes)
#
# The number $r$ is the *rate*, or dilation, and this is a {term}`dilated convolution`. With $r = 1$ it is the ordinary convolution; with $r = 4$ the same three weights span nine places. In French, “with holes”
# is *à trous*; in English the word became *atrous* {cite:p}`chen2018deeplabv3plus,yu2016multiscale`.
#
# By hand, in two dimensions: put zeros between the weights, and convolve as always.


# %%
def with_holes(x, weight, rate):
    side = rate * (weight.shape[-1] - 1) + 1
    spread = torch.zeros(*weight.shape[:2], side, side)
    spread[:, :, ::rate, ::rate] = weight
    return F.conv2d(x, spread, padding=side // 2)


x, weight = torch.randn(2, 3, 20, 24), torch.randn(5, 3, 3, 3)
for rate in (1, 2, 4):
    theirs = F.conv2d(x, weight, padding=rate, dilation=rate)
    torch.testing.assert_close(with_holes(x, weight, rate), theirs, rtol=1e-4, atol=1e-4)
print("by hand = torch, for rates 1, 2 and 4")

# %% [markdown]
# Move the slider. Nine pixels are all that a 3 × 3 filter sees; the rate decides how far they lie apart.

# %%
grey = plots.outlined(picture, 0 * mask, zoom=2, limits=(picture.min().item(), picture.quantile(0.99).item()))
centre = [2 * int(c) for c in np.argwhere(mask.numpy() == 3).mean(0)]
frames = []
for rate in (1, 2, 3, 4, 6, 8, 12, 16, 18):
    frame = grey.copy()
    for dy in (-2 * rate, 0, 2 * rate):
        for dx in (-2 * rate, 0, 2 * rate):
            row, column = centre[0] + dy, centre[1] + dx
            frame[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = (230, 120, 0)
    frames.append(frame)

# %% tags=["hide-input"]
scrubber(
    np.stack(frames),
    sliders=("step: rate 1, 2, 3, 4, 6, 8, 12, 16, 18",),
    alt="A heart slice with nine marked pixels around the centre of the left ventricle. With each step they lie further apart, until they reach beyond the heart.",
    caption="The nine pixels that a 3 × 3 convolution sees, for rates from 1 to 18 (ACDC, CC BY-NC-SA 4.0).",
)

# %% [markdown]
# ## From a stride to holes
#
# A ResNet (chapter 05) halves its map five times. DeepLab takes a ResNet, as a rule one that was pretrained on ImageNet (ours starts from random weights), sets the last {term}`strides <stride>` from 2 to 1, and doubles the rate of every
# convolution behind each of them. Nothing is lost by that: the places that the strided network would have kept hold the same numbers as before. Between them stand new ones.

# %%
plots.show_source(dilate)

# %% tags=["nbval-check-output"]
strided, finer = (small_deeplab(output_stride=s).eval() for s in (32, 8))
finer.load_state_dict(strided.state_dict())
x = torch.randn(1, 1, SIDE, SIDE)
with torch.no_grad():
    coarse, fine = (net.deep(net.low(net.stem(x))) for net in (strided, finer))
torch.testing.assert_close(fine[..., ::4, ::4], coarse, rtol=1e-4, atol=1e-5)
print(
    tuple(coarse.shape),
    "→",
    tuple(fine.shape),
    "with the same weights, and the same numbers at every fourth place",
)

# %% [markdown]
# The *output stride* is the number of pixels from one place of the deepest map to the next. Without holes, a map with an output stride of 8 would be fine and
# short-sighted. We can look at its {term}`receptive field`: how strongly does each pixel of the image move the place in the middle of the deepest map? That is the size of a gradient, here averaged
# over networks with random weights {cite:p}`luo2016understanding`.


# %%
def no_holes(net):
    """Strides stay removed, but every convolution behind them looks at its neighbours."""
    for layer in net.deep.modules():
        if isinstance(layer, nn.Conv2d):
            layer.dilation, layer.padding = (1, 1), (layer.kernel_size[0] // 2,) * 2
    return net


def field(build, draws):
    """(H, W): influence of each pixel on the middle of the deepest map, from 0 to 1."""
    total = 0
    for s in range(draws):
        seed(s)
        net, x = build().eval(), torch.randn(4, 1, 2 * SIDE, 2 * SIDE, requires_grad=True)
        deep = net.deep(net.low(net.stem(x)))
        deep[..., deep.shape[-2] // 2, deep.shape[-1] // 2].sum().backward()
        total = total + x.grad.abs().sum((0, 1))
    return total / total.max()


# %%
BUILDS = {
    "output stride 32": partial(small_deeplab, output_stride=32),
    "output stride 8": partial(small_deeplab, output_stride=8),
    "8, without holes": lambda: no_holes(small_deeplab(output_stride=8)),
}
fields = {name: field(build, profile(smoke=1, full=20)) for name, build in BUILDS.items()}


def width(influence):
    """Side in pixels of the smallest centred square with 95 % of the influence."""
    middle, total = SIDE, influence.sum()
    sides = range(1, SIDE)
    inside = [influence[middle - s : middle + s, middle - s : middle + s].sum() / total for s in sides]
    return 2 * sides[int(np.argmax(np.array(inside) >= 0.95))]


# %%
plots.show(
    plots.grid([f.sqrt() for f in fields.values()], list(fields), columns=3, size=2.3, cmap="inferno"),
    alt="Three maps of influence. With an output stride of 32 and with holes at 8 the bright area spans a wide square; without holes it shrinks to a small spot in the middle.",
    caption="How strongly each pixel of a 256 × 256 image moves the middle place of the deepest map (square root of the mean gradient, random weights).",
    name="fig-12-field",
)  # fmt: skip

# %% tags=["hide-input"]
sides = {name: width(f) for name, f in fields.items()}
plots.say(
    "A square that holds 95 % of the influence has a side of "
    + ", ".join(f"**{side}** pixels ({name})" for name, side in sides.items())
    + f". The images of hearts below have a side of {SIDE}."
)

# %% [markdown]
# ### Two traps
#
# **A checkerboard.** Put three convolutions with rate 2 in a row, and each place sees every second pixel only: its neighbours are computed from other pixels altogether.
# Rates that begin at 1 and grow slowly, such as 1, 2, 3, leave no gaps; having no common factor is not enough (see the exercises) {cite:p}`wang2018understanding`.


# %%
def ways(rates):
    """In how many ways each pixel reaches the place in the middle."""
    x = torch.zeros(1, 1, 15, 15)
    x[..., 7, 7] = 1
    for rate in rates:
        x = F.conv2d(x, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
    return x[0, 0]


ROWS = [(2, 2, 2), (1, 2, 3)]
grids = [ways(rates) for rates in ROWS]
seen = [int((g > 0).sum()) for g in grids]

# %%
plots.show(
    plots.grid([g.sqrt() for g in grids], [f"rates {r}: {s} pixels" for r, s in zip(ROWS, seen, strict=True)],
               columns=2, size=2.6, cmap="Blues"),
    alt="Two squares of 13 by 13 pixels. With rates 2, 2, 2 only every second pixel in both directions is coloured; with rates 1, 2, 3 all are.",
    caption="Pixels that reach the middle through three convolutions in a row. Same span, same number of weights.",
    name="fig-12-grid",
)  # fmt: skip

# %% [markdown]
# **A filter larger than the map.** On a map of 8 × 8 places, a filter with rate 12 has only its middle weight inside. It has become a 1 × 1 convolution that pays for nine
# weights.


# %%
def inside(side, rate):
    """Share of the nine weights that fall on a map of side × side places, over all places."""
    hits = F.conv2d(torch.ones(1, 1, side, side), torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
    return hits.mean().item() / 9


figure, axis = plots.panels(1, height=2.6)
rates = np.arange(1, 25)
for side in (8, 16, 32, 64):
    axis.plot(
        rates, [100 * inside(side, int(r)) for r in rates], "-o", markersize=3, label=f"{side} × {side}"
    )
axis.axhline(100 / 9, color="0.5", linestyle=":", label="one of nine")
axis.set(xlabel="rate", ylabel="% of weights on the map", ylim=(0, 100))
axis.legend(fontsize=8, title="map", bbox_to_anchor=(1, 1), loc="upper left")

# %%
plots.show(
    figure,
    alt="Share of the nine weights that fall on the map, against the rate, for maps of 8, 16, 32 and 64 places. All fall with the rate; the smallest map reaches one ninth at rate 8.",
    caption="How much of a 3 × 3 filter still falls on the map. At one ninth only its middle is left.",
    name="fig-12-inside",
)  # fmt: skip

# %% [markdown]
# ## Pyramid and decoder
#
# Objects come in several sizes. *Atrous spatial pyramid pooling* (ASPP) looks at the deepest map with several rates side by side, adds a 1 × 1 convolution, which sees one place, and the
# mean of the whole map, which sees all. Because of the second trap, the whole map has to be added; no rate could replace it.
#
# A small *decoder* then does what the U-Net does at every level, once: it enlarges the result to a quarter of the image's size, lays the early map of that size
# beside it, after cutting that to few channels, and convolves twice. The plus in the name stands for the decoder.

# %%
plots.show_source(ASPP, DeepLabV3Plus)

# %% tags=["nbval-check-output"]
for stride in (32, 16, 8):
    size, work = cost.parameters_and_macs(partial(DeepLabV3Plus, output_stride=stride), (3, 512, 512))
    assert size == 26_696_133
    print(f"output stride {stride:2}: {size:,} parameters, {work / 1e9:6.1f} G multiply-adds at 512 × 512")

# %% [markdown]
# Holes cost no parameter, and no work of their own. The finer map does: twice the side, four times the places, in all layers behind the removed stride.
#
# ## How we train
#
# The twin `small_deeplab` has one block a stage and rates that fit its map. Every network takes the same number of steps (250 in the `full` profile, about four passes) with the same learning rate, untuned. Chapter 11's networks need several times as many to converge, so what follows
# ranks *short* trainings: a difference of a point or two of Dice may turn in a longer one. The last
# weights are kept, so nothing is chosen by looking at other patients. Each test patient gets the mean {term}`Dice` of three structures at two moments, on the scanner's
# pixels, and the surface Dice of chapter 09 at 2 mm, which looks at the outlines alone.

# %%
TOLERANCE = 2  # mm
options = {"lr": 1e-2, "batch_size": 16, "loss": losses.dice_ce, "score": losses.mean_dice}
options |= {"augment": random_affine(), "validations": 1, "keep": "last"}


def trained(build, data, s, steps=STEPS):
    """(`build()` trained on `data.train`, CPU-seconds)."""
    seed(s)
    model, started = build(), time.process_time()
    fit(model, data, steps=steps, seed=s, **options)
    return model, time.process_time() - started


# %%
def outlines(masks, patient):
    """Mean surface Dice of three structures at two moments."""
    pairs = zip(masks, (patient.ed, patient.es), strict=True)
    found = [
        metrics.surface_dice(m == k, v.mask == k, TOLERANCE, v.spacing) for m, v in pairs for k in (1, 2, 3)
    ]
    return np.mean(found)


def judged(model):
    """(test patients, 2): Dice and surface Dice."""
    masks = [hearts.segment(model, p, side=SIDE) for p in test]
    both = [(hearts.score(m, p).mean(), outlines(m, p)) for m, p in zip(masks, test, strict=True)]
    return np.array(both)


def lead(a, b=None):
    """Mean of `a` (seeds, cases), or its lead over `b`, with a 95 % interval over both."""
    return stats.over_patients(a, b)


# %% [markdown]
# ## What does each part bring?
#
# Take the network apart, in an {term}`ablation`. Three output strides; the finest without holes in its backbone (its pyramid keeps them); the middle one without its pyramid (only the 1 × 1 convolution and the mean of the map are left) and
# without the early map in its decoder. And a U-Net with as many parameters: `SmallUNet`, which makes four channels of each patch of 2 × 2 pixels and so works at half resolution, never at full. On outlines judged at 2 mm and on membranes a few pixels wide that is a
# handicap; a U-Net at full resolution would cost several times as much.
#
# One thing this ablation cannot see. The network without dilation in its backbone keeps the pyramid, which looks 64 pixels far and at the mean of the whole map, and the images are squares of 128 pixels with the heart in their middle. So every network here sees
# everything, and “no difference” between them would not say that dilation is useless. Whoever wants to know takes the pyramid away as well, or larger images on which the heart may lie anywhere.


# %%
def no_early_map():
    """The twin, but its decoder gets nothing from the early map."""
    net = small_deeplab()
    net.reduce.register_forward_hook(lambda _, __, out: 0 * out)
    return net


def no_pyramid():
    return DeepLabV3Plus(1, 4, block=BasicBlock, layers=(1, 1, 1, 1), width=16, channels=48, rates=())


PARTS = {
    "output stride 32": partial(small_deeplab, output_stride=32),
    "output stride 16": small_deeplab,
    "output stride 8": partial(small_deeplab, output_stride=8),
    "8, without holes": BUILDS["8, without holes"],
    "16, without the pyramid": no_pyramid,
    "16, without the early map": no_early_map,
    "U-Net": partial(SmallUNet, width=14),
}

# %%
nets, scores, seconds = {}, {}, {}
for name, build in PARTS.items():
    runs = [trained(build, acdc, s) for s in range(SEEDS)]
    nets[name], seconds[name] = runs[0][0], np.mean([r[1] for r in runs])
    scores[name] = np.stack([judged(model) for model, _ in runs])  # (seeds, patients, 2)

# %% tags=["hide-input"]
base, rows = "output stride 16", []
for name, build in PARTS.items():
    size, work = cost.parameters_and_macs(build, (1, SIDE, SIDE))
    ahead = "" if name == base else lead(scores[name][..., 0], scores[base][..., 0])
    means = (f"{scores[name][..., k].mean():.3f}" for k in (0, 1))
    rows.append((name, f"{size:,}", f"{work / 1e6:.0f} M", *means, ahead))
plots.table(
    rows, ["network", "parameters", "multiply-adds", "Dice", "surface Dice", "more Dice than at stride 16"]
)


# %% tags=["hide-input"]
def verdict(a, b, what):
    """A sentence on whether a differs from b in Dice."""
    gap = lead(scores[a][..., 0], scores[b][..., 0])
    found = gap.says("gains", "costs", "makes no difference that we can tell:")
    size = lead(scores[b][..., 0], scores[a][..., 0]) if gap.high < 0 else gap
    return f"{what} {found} {size}"


plots.say(
    "; ".join([
        verdict("output stride 8", "8, without holes", "At an output stride of 8, having holes"),
        verdict(base, "16, without the pyramid", "at 16, the pyramid"),
        verdict(base, "16, without the early map", "the early map"),
        verdict("output stride 8", base, "going from 16 to 8"),
    ]) + " (Dice, 95 % interval over patients and seeds)."
)  # fmt: skip

# %% [markdown]
# ## Against a U-Net, with the cost beside it
#
# As well as a U-Net *of the same cost*, we asked. Cost can mean multiply-adds, and then the U-Net's rival is the finest DeepLab, at equal steps. Or it means time on the processor that made this page, and then the U-Net, whose steps are quicker, may take a third more of
# them. The table has both, and the coarser DeepLab at equal steps.

# %%
LONGER = "U-Net, 4/3 of the steps"
longer = [trained(PARTS["U-Net"], acdc, s, 4 * STEPS // 3) for s in range(SEEDS)]
scores[LONGER] = np.stack([judged(model) for model, _ in longer])
seconds[LONGER] = np.mean([s for _, s in longer])

# %% tags=["hide-input", "timing"]
pairs, rows = [(base, "U-Net"), ("output stride 8", "U-Net"), ("output stride 8", LONGER)], []
for one, other in pairs:
    gaps = [lead(scores[other][..., k], scores[one][..., k]) for k in (0, 1)]
    rows.append((f"{other}, against {one}", f"{seconds[other]:.0f} against {seconds[one]:.0f}", *gaps))
plots.table(rows, ["hearts", "CPU-seconds", "more Dice", "more surface Dice"])

# %% tags=["hide-input"]
work, clock = (lead(scores[u][..., 0], scores["output stride 8"][..., 0]) for u in ("U-Net", LONGER))
who = [g.says("the U-Net", "DeepLab", "neither, for certain") for g in (work, clock)]
plots.say(
    f"Ahead at equal work: {who[0]} (the U-Net's Dice minus DeepLab's {work}); at equal time: {who[1]} ({clock}). "
    + (
        "The answer depends on what is called cost."
        if who[0] != who[1]
        else "Both costs give the same answer."
    )
)

# %% [markdown]
# ## Membranes
#
# Now thin structures. The score is the Dice of the membrane in each of the eight test slices. All slices are of one animal, so the interval speaks of
# other slices of this stack, not of other animals. Neighbouring slices are alike, so it is too narrow even for that.

# %%
MEMBRANES = {name: partial(PARTS[name], 1, 2) for name in ("output stride 16", "output stride 8", "U-Net")}
per_slice = len(membranes.test.x) // len(stack.test.x)


def on_slices(model):
    """(test slices,): Dice of the membrane, all tiles of a slice together."""
    found = predict(model, membranes.test.x).argmax(1).cpu().split(per_slice)
    truth = membranes.test.y.cpu().split(per_slice)
    return [metrics.dice(f == 1, t == 1) for f, t in zip(found, truth, strict=True)]


# %%
thin = {
    name: np.array([on_slices(trained(build, membranes, s)[0]) for s in range(SEEDS)])
    for name, build in MEMBRANES.items()
}

# %% tags=["hide-input"]
everywhere = metrics.dice(np.ones(membrane_masks.shape), membrane_masks.numpy())
rows = [("all pixels are membrane", f"{everywhere:.3f}", "")]
for name, d in thin.items():
    rows.append((name, lead(d), "" if name == "U-Net" else lead(thin["U-Net"], d)))
plots.table(rows, ["membranes", "Dice", "the U-Net's lead"])

# %% tags=["hide-input"]
best, reached = limits[4][-1], max(d.mean() for d in thin.values())
gain = lead(thin["output stride 8"], thin["output stride 16"])
plots.say(
    f"A map of one place for 4 × 4 pixels, as DeepLab's decoder has, keeps a Dice of {best:.3f} with the truth itself here. On hearts it keeps "
    f"{np.mean(limits[4][:3]):.3f}. The best network here reaches {reached:.3f}: "
    + ("far below, so something else holds it back." if reached < best - 0.05 else "close to that.")
    + f" A finer deepest map, stride 8 in place of 16, changes the Dice by {gain}."
)

# %% [markdown]
# What averaging loses is a warning and not a limit.
#
# ## Look: the worst first
#
# The two test patients on whom DeepLab at an output stride of 16 does worst, mid-height of the heart, end-systole.


# %%
def shown(p):
    """The expert's outlines on a slice, and those of five networks."""
    z, box = len(p.es.image) // 2, hearts.window(p, side=SIDE)
    rows, columns = (
        slice(max(0, int(c - 45 * s)), int(c + 45 * s)) for c, s in zip(box.centre, box.step, strict=True)
    )
    masks = [p.es.mask, *(hearts.segment(nets[name], p, side=SIDE)[1] for name in LOOK)]
    return [plots.outlined(p.es.image[z, rows, columns], m[z, rows, columns], zoom=2) for m in masks]


LOOK = ("output stride 32", "output stride 16", "output stride 8", "U-Net")
worst = [test[k] for k in scores[base][..., 0].mean(0).argsort()[:2]]
titles = ["expert", "stride 32", "stride 16", "stride 8", "U-Net"]
pictures = [picture for p in worst for picture in shown(p)]

# %%
plots.show(
    plots.grid(pictures, titles * len(worst), columns=5, size=1.45),
    alt="Two rows, one a patient: a heart slice with the expert's outlines, and with those of DeepLab at output strides 32, 16 and 8 and of the U-Net.",
    caption="The two worst test patients of DeepLabV3+ at an output stride of 16 (ACDC, CC BY-NC-SA 4.0), first seed of each network.",
    name="fig-12-worst",
)  # fmt: skip

# %% [markdown]
# ## At full size
#
# `DeepLabV3Plus(1, 4)` is the network on ResNet-50. One training step on the meta device shows that every weight takes part.

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    net = DeepLabV3Plus(1, 4)
    losses.dice_ce(net(torch.empty(2, 1, 224, 224)), torch.zeros(2, 224, 224, dtype=torch.long)).backward()
assert all(p.grad is not None for p in net.parameters())
print(f"DeepLabV3+ on ResNet-50, 1 channel, 4 classes: {cost.parameters(net):,} parameters, all trained")

# %% [markdown]
# ## What it costs

# %% tags=["timing"]
times = cost.time_in_turn({name: cost.forward(b(), (8, 1, SIDE, SIDE)) for name, b in PARTS.items()})
for name in PARTS:
    print(
        f"{name:26} {np.median(times[name]) / 8:5.2f} ms a slice, {seconds[name]:4.0f} CPU-seconds to train"
    )

# %% [markdown]
# ## Pitfalls in medicine
#
# - **Ask for the finest structure first.** A map of 4 pixels a place may draw a ventricle and lose a coronary artery. Compute what averaging loses before you train.
# - **Rates are in pixels of the map, hearts are in millimetres.** A network whose rates fit one scanner sees another field on one with smaller pixels. Resample first.
# - **A design made for photographs.** DeepLab's rates of 6, 12 and 18 were chosen for maps of 32 × 32 places and more. On a map of 8 × 8, the last two are 1 × 1 convolutions, and the first keeps a quarter of its weights.
# - **Start from what works.** For a new segmentation task people today train nnU-Net first {cite:p}`isensee2021nnunet`, which chooses spacing, patches and depth from the data; DeepLab, with an encoder pretrained on photographs, is at home on flat colour images such as slides of pathology or endoscopy.
# - **One stack is one animal.** Thirty slices of it do not make thirty independent cases.
#
# ## Summary
#
# - A convolution with rate $r$ leaves $r - 1$ holes between its weights: a wider view for the same weights.
# - Replace a stride by holes, and the old places keep their numbers; new ones stand between them. The layers behind a removed stride do four times the work.
# - What averaging on a coarse map loses can be computed from the masks alone. It is a warning, not a limit.
# - An ablation shows what a part brings *to this network on these images*. Where the whole image is in view anyway, it cannot show what a wider view is worth.
# - ASPP looks with several rates and at the whole map; the decoder adds one early map.
# - Take a network apart before you believe in a part of it.
#
# ## Check yourself
#
# **1.** How many pixels does a row of two 3 × 3 convolutions with rates 1 and 4 span, along one axis?
#
# - **A** 5
# - **B** 9
# - **C** 11
# - **D** 15
#
# <details><summary>Answer</summary>
#
# **C.** The first spans 3, the second adds 4 on each side. B is the second alone; A forgets the rate.
#
# </details>
#
# **2.** Why does going from an output stride of 16 to 8 change no parameter?
#
# - **A** The holes hold weights of zero, which are not counted.
# - **B** A stride and a rate say where weights are applied, not how many there are.
# - **C** The finer map has fewer channels.
# - **D** The decoder loses as many parameters as the backbone gains.
#
# <details><summary>Answer</summary>
#
# **B.** The same kernels are used at more places, further apart. What grows is the work, fourfold behind the
# removed stride.
#
# </details>
#
# **3.** A map has 8 × 8 places, and a 3 × 3 filter a rate of 9. How many of its nine weights ever touch the
# map?
#
# - **A** nine
# - **B** four
# - **C** three
# - **D** one
#
# <details><summary>Answer</summary>
#
# **D.** Every weight but the middle one lies 9 places away, and that is outside. It has become a 1 × 1
# convolution that stores nine weights.
#
# </details>
#
# **4.** Three 3 × 3 convolutions in a row, all with rate 2. What does the place in the middle see?
#
# - **A** every pixel of a square of 13 × 13
# - **B** every second pixel in both directions
# - **C** only the nine pixels of the last filter
# - **D** every pixel of a square of 7 × 7
#
# <details><summary>Answer</summary>
#
# **B.** Sums of steps of −2, 0 and 2 are even. A is the span, but the odd places in it are never reached.
# Rates 1, 2, 3 have the same span and leave no gap.
#
# </details>
#
# **5.** A layer with stride 2 gets stride 1, and every filter behind it twice the rate. What happens to the
# numbers at the old places?
#
# - **A** They stay as they were.
# - **B** They are averages of the old ones.
# - **C** They change, since the filters see more pixels.
# - **D** They are lost, and new ones stand between them.
#
# <details><summary>Answer</summary>
#
# **A.** The filter meets exactly the places that it met before, now two apart. C would be right if the rate
# were left at 1: then it would see *fewer* pixels.
#
# </details>
#
# **6.** On your masks, plain averaging over 4 × 4 pixels and back leaves a Dice of 0.99. Your network with
# such a map has 0.85. Will a finer map help?
#
# - **A** No: 0.99 is far above 0.85.
# - **B** Yes: the missing 0.14 is what the map loses.
# - **C** The number cannot tell.
# - **D** Only with a wider pyramid.
#
# <details><summary>Answer</summary>
#
# **C.** Most of the gap must come from elsewhere, but a network may still learn more easily on a finer map.
# The first table is a warning, not a limit and not a promise.
#
# </details>
#
# **7.** A network with fixed rates was trained on images of 1.5 mm a pixel. A scanner with 0.75 mm a pixel
# comes in. What should be done first?
#
# - **A** Halve the rates, and use the network as it is.
# - **B** Resample the new images to 1.5 mm a pixel.
# - **C** Nothing: convolutions work on images of any size.
# - **D** Cut the new images to the old number of pixels.
#
# <details><summary>Answer</summary>
#
# **B.** Weights and rates learnt hearts of a certain size in pixels. With images twice as fine, the same
# network sees half as far in mm. C confuses “runs” with “works”.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: rates in a row
# :label: ex-12-rates
# Which pixels does the middle see through rates 2 and 4? And through 2 and 3? Predict, then ask `ways`.
# ```
#
# ```{solution} ex-12-rates
# :class: dropdown
# Rates 2 and 4 reach only even distances, since both are even. Rates 2 and 3 reach every sum of $-2, 0, 2$ and $-3, 0, 3$ along each axis: 0, ±1, ±2, ±3 and ±5, but not ±4.
# ```
#
# ```{exercise} ★ Predict: a wider square
# :label: ex-12-ceiling
# Does what is left of the right ventricle in the first table rise or fall if the square around the heart has 300 mm instead of 200 mm, at the same 128 pixels? Then call `hearts.slices` with `field=300`.
# ```
#
# ```{solution} ex-12-ceiling
# :class: dropdown
# It falls. Each place of the map then covers 1.5 times as many millimetres, and the heart fewer places.
# ```
#
# ```{exercise} ★★ Implement: a receptive field by arithmetic
# :label: ex-12-field
# Write a function that takes a list of (kernel, stride, rate) and returns how many pixels the last place
# spans. Check it against the square in which a gradient is not zero.
# ```
#
# ````{solution} ex-12-field
# :class: dropdown
# ```python
# def span(layers):
#     side, step = 1, 1
#     for kernel, stride, rate in layers:
#         side, step = side + rate * (kernel - 1) * step, step * stride
#     return side
#
#
# def measured(layers):
#     x = torch.zeros(1, 1, 95, 95, requires_grad=True)
#     y = x
#     for kernel, stride, rate in layers:
#         y = F.conv2d(y, torch.ones(1, 1, kernel, kernel), stride=stride, dilation=rate)
#     y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
#     rows = x.grad[0, 0].any(1).nonzero()
#     return int(rows[-1] - rows[0]) + 1
#
#
# for layers in ([(3, 1, 1), (3, 1, 4)], [(3, 2, 1), (3, 1, 2), (3, 1, 3)], [(3, 1, 2)] * 3):
#     assert span(layers) == measured(layers)
# ```
#
# With weights of 1 and no ReLU no path cancels another. The span does not say that every pixel inside is
# seen: the last row of rates leaves gaps.
# ````
#
# ```{exercise} ★★ Implement: two early maps
# :label: ex-12-two
# Give the decoder the output of the stem as well, at half the image's size. Does it help the membranes?
# ```
#
# ```{solution} ex-12-two
# :class: dropdown
# Subclass `DeepLabV3Plus`, keep the stem's map before its pooling, reduce it by a 1 × 1 convolution, and concatenate after enlarging once more. Compare with three seeds, paired, as above; the first table, at 2 pixels a place, says how
# much averaging alone would cost.
# ```
#
# ```{exercise} ★★★ Investigate: rates for hearts
# :label: ex-12-investigate
# Which rates are best on hearts at an output stride of 8: (1, 2, 3), (4, 6, 8) or (6, 12, 18)? Choose on validation patients, and report the test patients once.
# ```
#
# ```{solution} ex-12-investigate
# :class: dropdown
# The map has 16 × 16 places, so a rate of 18 is a 1 × 1 convolution: see {numref}`fig-12-inside`. Report paired differences with intervals; with three seeds expect differences below .01 to stay undecided.
# ```
#
# ```{exercise} ★★★ Investigate: another pixel size
# :label: ex-12-scale
# Test the trained networks on the same square of 200 mm, cut into 96, 128, 160 and 192 pixels a side. Which
# loses most when the pixels are not those of its training, DeepLab or the U-Net?
# ```
#
# ````{solution} ex-12-scale
# :class: dropdown
# ```python
# sizes = (96, 128, 160, 192)
# table = {name: [hearts.dice_of_patients(nets[name], test, side=s).mean() for s in sizes] for name in ("output stride 16", "U-Net")}
# ```
#
# Expect both to be best at 128 and to fall on either side, since a heart then has another size in pixels. The
# rates of DeepLab are fixed in pixels, but so is all that the U-Net has learnt, so guess before you look.
# Train once with random scaling (`random_affine` has some) and see how much of the fall goes away. The
# pitfall: with more pixels the ceiling of the first table rises, so a fall is not explained by resolution.
# ````

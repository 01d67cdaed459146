# %% [markdown]
# # MobileNet
#
# *What does a cheaper convolution cost?*
#
# A network for a phone, or for an ultrasound probe that fits in a pocket, must get by with little memory and little
# power. In 2017 a group at Google took the convolution apart into two cheap steps and built a whole network from them,
# MobileNet {cite:p}`howard2017mobilenets`. It needs about an eighth of the multiplications. **What do we pay for a
# cheaper convolution?** In accuracy, perhaps; and is the time really an eighth?
#
# After this chapter you can compute the cost of a convolution, build a depthwise-separable one by hand, say why fewer
# multiplications need not mean less time, and read the blocks of MobileNetV3, one of which you will use to find a
# heart.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import claims, cost, evaluate, explain, fit, load, losses, plots, profile, repeat, seed, stats
from medlib.augment import random_shift
from medlib.data import Dataset, Split
from medlib.device import device
from medlib.hearts import LABELS
from medlib.hearts.phantom import phantom
from medlib.metrics import accuracy, auc
from medlib.models import LeNet
from medlib.models.mobilenet import LAYERS, Conv, DepthwiseSeparable, MobileNetV1
from medlib.models.mobilenet_v3 import LARGE, LRASPP, SMALL, InvertedResidual, MobileNetV3, SqueezeExcitation
from medlib.pretrained import copy_weights, train_full_size

SEEDS = profile(smoke=2, quick=2, full=4)
FEW = profile(smoke=2, quick=2, full=3)  # seeds of the side experiments
STEPS = profile(smoke=4, quick=120, full=200)
BATCH = 64

# %% [markdown]
# ## The problem, seen on our data
#
# A convolution does two jobs at once. It looks at a *neighbourhood* in each map, and it *mixes* the maps with each
# other. Here are the two jobs done one after the other. We start from three maps of one X-ray: the image, and how much
# the grey value changes from left to right and from top to bottom. Step one blurs each map alone. Step two adds maps
# up, pixel by pixel.

# %%
xray = load("pneumoniamnist")
data = xray.standardise()
cases = explain.cases(xray.test)
names = [f"#{i} {xray.classes[xray.test.y[i]]}" for i in cases]
image = xray.test.x[cases[4], 0].cpu()
across, down = (F.pad(image.diff(dim=d).abs(), pad) for d, pad in ((1, (0, 1, 0, 0)), (0, (0, 0, 0, 1))))
maps = torch.stack([image, across, down])

# %%
blurred = F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
mixed = [blurred[1] + blurred[2], blurred[0] - 2 * blurred[1] - 2 * blurred[2]]
titles = [
    "image",
    "left–right",
    "top–bottom",
    *["depthwise: blurred"] * 3,
    "mix: edges",
    "mix: image − edges",
]
plots.show(
    plots.grid([*maps, *blurred, *mixed], titles, columns=3, size=1.4),
    alt="Three rows: three maps of a chest X-ray, the same three maps blurred, and two mixtures of the blurred ones.",
    caption="Above: three maps of one X-ray. Middle: each filtered alone (depthwise step). Below: two mixtures of the results "
    "(pointwise step).",
    name="fig-06-steps",
)

# %% [markdown]
# ## The idea: first the neighbourhood, then the maps
#
# Let a layer take $M$ maps and give $N$ maps, with kernels of $K × K$. Count the multiplications, each with its addition, that one pixel of the output needs. We call such a pair a *multiply-add*.
#
# An ordinary convolution, which in this chapter we call *dense* (elsewhere the word means a fully connected layer), has a kernel for each pair of an input map and an output map:
# $K^2 M N$ {term}`multiply-adds` a pixel.
#
# The *depthwise* step has one kernel for each input map, and no more: $K^2 M$.
#
# The *pointwise* step is a convolution with kernels of 1 × 1. At each pixel it forms $N$ weighted sums of the $M$
# maps: $M N$.
#
# One after the other they make a {term}`depthwise separable convolution`. Divide its cost by that of the dense one:
#
# $$ \frac{K^2 M + M N}{K^2 M N} = \frac{1}{N} + \frac{1}{K^2} . $$ (eq-separable)
#
# With $K = 3$ and many maps, the first term is small and the second is 1/9: an eighth to a ninth of the work. The size
# of the image drops out, and so does $M$. The price is freedom: the dense layer may look for another pattern in map 1
# for each output, the separable one has a single pattern for it and can only change its weight.

# %%
M, N, K = 4, 6, 3
grid = np.zeros((N, K + 1, M, K + 1))  # output map, row of its kernel, input map, column of the kernel
weights = {title: grid.copy() for title in ("dense: $K^2MN$", "depthwise: $K^2M$", "pointwise: $MN$")}
weights["dense: $K^2MN$"][:, :K, :, :K] = 1
weights["depthwise: $K^2M$"][2, :K, :, :K] = 1
weights["pointwise: $MN$"][:, 1, :, 1] = 1

# %%
figure, axes = plots.panels(3, height=2.9)
for axis, (title, w) in zip(axes, weights.items(), strict=True):
    squares = np.ma.masked_equal(w.reshape(N * (K + 1), M * (K + 1)), 0)
    axis.pcolormesh(squares, cmap="Blues", vmin=0, vmax=1.5, edgecolor="white", linewidth=0.8)
    axis.set(title=f"{title} = {int(w.sum())} weights", xticks=[], yticks=[], xlabel=f"{M} input maps")
    axis.set_aspect("equal")
    axis.spines[:].set_visible(False)
for axis in axes[[0, 2]]:
    axis.set_ylabel(f"{N} output maps")
plots.show(
    figure,
    alt="Three drawings of squares, one square a weight. Dense: a block of nine for each of 4 by 6 pairs of maps. Depthwise: "
    "one row of four blocks of nine. Pointwise: one square for each of the 4 by 6 pairs.",
    caption="The weights of a dense layer from 4 to 6 maps, and of the two steps that stand in for it. One square is one weight.",
    name="fig-06-weights",
)

# %% [markdown]
# ## The claims that we test
#
# One can be counted, one concerns what people do with the network, and one compares two versions.

# %% tags=["hide-input"]
claims.box("C048", "C049", "C050")

# %% [markdown]
# ## The key block by hand
#
# The depthwise step is a loop over the maps. The pointwise step is a matrix product: write each map as one long row,
# and multiply the $N × M$ weights with the $M$ rows.


# %%
def depthwise(x, w):
    """x (M, H, W), w (M, 3, 3) → (M, H, W): kernel c slides over map c, and over no other."""
    padded, y = F.pad(x, (1, 1, 1, 1)), torch.empty_like(x)
    for c in range(len(x)):
        windows = padded[c].unfold(0, 3, 1).unfold(1, 3, 1)  # (H, W, 3, 3)
        y[c] = (windows * w[c]).sum((2, 3))
    return y


def pointwise(x, w):
    """x (M, H, W), w (N, M) → (N, H, W): at each pixel, N weighted sums of the M maps."""
    return (w @ x.flatten(1)).view(-1, *x.shape[1:])


# %% [markdown]
# It must give what medlib's block gives on the same weights. We compare the two convolutions; the batch normalisation
# and the ReLU that follow each of them are left out on both sides.

# %% tags=["nbval-check-output"]
block = DepthwiseSeparable(8, 16)
first, second = block[0][0], block[1][0]  # the two convolutions
x = torch.randn(8, 20, 28, generator=torch.Generator().manual_seed(0))
mine = pointwise(depthwise(x, first.weight[:, 0]), second.weight[:, :, 0, 0])
torch.testing.assert_close(mine, second(first(x[None]))[0], rtol=1e-4, atol=1e-5)
print("by hand:", tuple(mine.shape), "equal to the layer: yes")

# %% [markdown]
# ## The source, and the paper's numbers
#
# The network is a row of thirteen such blocks behind one dense convolution. A number α, called `width` here, makes all
# layers narrower by the same factor.

# %%
plots.show_source(DepthwiseSeparable, MobileNetV1)

# %% tags=["nbval-check-output"]
for width in (1.0, 0.75, 0.5, 0.25):
    size, work = cost.parameters_and_macs(partial(MobileNetV1, width=width), (3, 224, 224))
    print(f"width {width:4}: {size:9,} parameters, {work / 1e6:5.1f} M multiply-adds")
size, work = cost.parameters_and_macs(partial(MobileNetV1, separable=False), (3, 224, 224))
print(f"dense blocks: {size:,} parameters, {work / 1e6:,.1f} M multiply-adds")

# %% [markdown]
# The paper's Table 4 has 4.2 and 29.3 million parameters, 569 and 4,866 million multiply-adds, and classifies 70.6 and 71.7 % of ImageNet's photographs correctly: there the cheap convolution costs one point, after a full training. Now equation
# {eq}`eq-separable`, block by block: we count the multiply-adds of each of the thirteen blocks, and of the dense layer
# in its place.

# %%
blocks, side = [], 112  # (M, N, stride, side of the input)
for (m, _), (n, stride) in pairwise(LAYERS):
    blocks.append((m, n, stride, side))
    side //= stride


def counted(kind):
    """(parameters, multiply-adds) of the thirteen blocks, each built as `kind`."""
    found = [
        cost.parameters_and_macs(partial(kind, m, n, stride=s), (m, side, side)) for m, n, s, side in blocks
    ]
    return np.array(found)


# %%
separable, dense = counted(DepthwiseSeparable), counted(Conv)
ratio = separable[:, 1] / dense[:, 1]
equation = np.array([1 / n + 1 / 9 for _, n, _, _ in blocks])

# %% tags=["nbval-check-output"]
for (m, n, stride, side), r, e in list(zip(blocks, ratio, equation, strict=True))[:7]:
    print(f"{m:3} → {n:3} maps of {side:3}², stride {stride}: counted {r:.5f}, equation {e:.5f}")
print(f"largest distance over {len(blocks)} blocks: {abs(ratio - equation).max():.6f}")

# %% [markdown]
# ## An eighth of the work, an eighth of the time?
#
# A processor does not only multiply. It fetches each number from memory and puts each result back. So we ask of a
# layer how many multiply-adds it does for each number that it moves. This is its *arithmetic intensity*:
#
# $$ \text{intensity} = \frac{\text{multiply-adds}}{\text{numbers read} + \text{numbers written}} . $$ (eq-intensity)
#
# A depthwise step reads a pixel, uses it nine times, and writes a pixel: about 9 / 2 at best. A dense layer uses each
# pixel nine times *for each output map*. Weights are read too: in the last blocks the dense layer fetches millions of them for 49 pixels. Where the intensity is low, we expect the layer to wait for memory, however few
# its multiplications. (Equal intensity does not mean equal speed: how well the library was tuned for a kind of layer counts as well.)


# %%
def layers(m, n, s, side):
    """A dense layer and its two steps, each as (maps in, maps out, kernel, groups, stride, side of the input)."""
    return {
        "dense": (m, n, 3, 1, s, side),
        "pointwise": (m, n, 1, 1, 1, side // s),
        "depthwise": (m, m, 3, m, s, side),
    }


def work_and_moves(m, n, kernel, groups, stride, side):
    """Multiply-adds of one convolution, and the numbers that it reads or writes, for one image."""
    places = (side // stride) ** 2
    weights = kernel**2 * m * n // groups
    return weights * places, m * side**2 + weights + n * places


# %% [markdown]
# And we measure, with one image: each block, the dense block in its place (both with batch normalisation and ReLU), and
# each convolution alone.

# %%
actions = {}
for i, (m, n, s, side) in enumerate(blocks):
    actions[i, "separable block"] = cost.forward(DepthwiseSeparable(m, n, stride=s), (1, m, side, side))
    actions[i, "dense block"] = cost.forward(Conv(m, n, stride=s), (1, m, side, side))
    for name, (a, b, kernel, groups, stride, rows) in layers(m, n, s, side).items():
        conv = Conv(a, b, kernel, stride=stride, groups=groups)[0]
        actions[i, name] = cost.forward(conv, (1, a, rows, rows))
measured = cost.time_in_turn(actions, repeats=profile(smoke=1, full=10))


# %%
def times(name):
    """Milliseconds of the thirteen blocks or layers."""
    return np.array([np.median(measured[i, name]) for i in range(len(blocks))])


time_ratio = times("separable block") / times("dense block")
totals = {name: np.array([work_and_moves(*layers(*b)[name]) for b in blocks]) for name in layers(*blocks[0])}
intensity = {name: work / moves for name, (work, moves) in ((k, v.T) for k, v in totals.items())}
speed = {name: total[:, 0] / 1e6 / times(name) for name, total in totals.items()}

# %%
figure, (left, right) = plots.panels(2, height=3)
number = range(1, len(blocks) + 1)
left.plot(number, time_ratio, "o-", color="C1", label="time, measured")
left.plot(number, ratio, "s-", color="C0", label="multiply-adds")
left.plot(number, separable[:, 0] / dense[:, 0], "x--", color="C2", label="parameters")
left.set(xlabel="block", ylabel="separable / dense", ylim=(0, 1.05 * max(1, time_ratio.max())), xticks=number)
for name, mark in zip(totals, "s^o", strict=True):
    right.plot(intensity[name], speed[name], mark, alpha=0.7, label=name)
right.set(
    xlabel="multiply-adds a number moved", ylabel="million multiply-adds a ms", xscale="log", yscale="log"
)
left.legend(fontsize=8)
right.legend(fontsize=8)
plots.show(
    figure,
    alt="Left: for the thirteen blocks, what the separable block takes as a share of the dense block, in time, multiply-adds "
    "and parameters. Right, both axes logarithmic: the measured speed of dense, pointwise and depthwise convolutions against "
    "their arithmetic intensity.",
    caption="Left: the cost of each separable block of MobileNetV1 as a share of the dense block's. Right: how fast this "
    "machine gets through the work of each convolution, against its arithmetic intensity.",
    name="fig-06-ratios",
)

# %% tags=["hide-input"]
later = int((time_ratio > ratio).sum())
sum_of = {name: times(name).sum() for name in ("separable block", "dense block", *totals)}
left_over = 1 - (sum_of["depthwise"] + sum_of["pointwise"]) / sum_of["separable block"]
plots.say(
    f"The thirteen blocks together take **{100 * separable[:, 1].sum() / dense[:, 1].sum():.0f} %** of the dense blocks' "
    f"multiply-adds and, on this machine, **{100 * sum_of['separable block'] / sum_of['dense block']:.0f} %** of their time. "
    f"In {later} of {len(blocks)} blocks the time falls by less than the multiply-adds."
)
plots.say(
    f"The depthwise steps do {100 * totals['depthwise'][:, 0].sum() / separable[:, 1].sum():.0f} % of the separable "
    f"multiply-adds and take {100 * sum_of['depthwise'] / sum_of['separable block']:.0f} % of the time; the pointwise steps "
    f"take {100 * sum_of['pointwise'] / sum_of['separable block']:.0f} %, each timed alone. "
    + (
        f"What is left, {100 * left_over:.0f} %, is mostly batch normalisation and ReLU, which hardly multiply at all. "
        if left_over > 0
        else "Alone they take longer than inside the block, where the numbers are still at hand. "
    )
    + "In the median this machine gets through "
    + ", ".join(f"{np.median(v):.1f} ({name})" for name, v in speed.items())
    + " million multiply-adds a millisecond, at a median intensity of "
    + ", ".join(f"{np.median(v):.1f}" for v in intensity.values())
    + "."
)

# %% [markdown]
# And whole networks? Here are MobileNets of several widths on images of 64 × 64, eight at a time. Each number says how
# many times more the dense network costs than the separable one. The training step keeps the maps' values at one pixel
# side by side in memory, as `fit` does; the prediction keeps each map in one piece. Such a layout changes the time, and
# not one multiply-add. So does the format of the numbers: the prediction, like the blocks above, computes in fp32; the training step computes in bf16 where the processor can, but for the depthwise steps, which are slower still in bf16 and stay in fp32. So the two columns of times differ in both.

# %%
WIDTHS = profile(smoke=(0.25,), full=(0.25, 0.5, 0.75, 1.0))


def saved(width):
    """How many times more the dense network costs: parameters, multiply-adds, prediction, training step."""
    nets = [partial(MobileNetV1, width=width, separable=s) for s in (False, True)]
    (size, work), (small_size, small_work) = (cost.parameters_and_macs(net, (3, 64, 64)) for net in nets)
    actions = {
        (act, i): act(net(), (8, 3, 64, 64))
        for act in (cost.forward, cost.training_step) for i, net in enumerate(nets)
    }  # fmt: skip
    ms = {k: np.median(t) for k, t in cost.time_in_turn(actions, repeats=profile(smoke=1, full=5)).items()}
    time = [ms[act, 0] / ms[act, 1] for act in (cost.forward, cost.training_step)]
    return size / small_size, work / small_work, *time


# %%
factors = {width: saved(width) for width in WIDTHS}
plots.table(
    [(f"width {width}", *(f"{f:.1f} ×" for f in four)) for width, four in factors.items()],
    ["dense / separable", "parameters", "multiply-adds", "time of a prediction", "time of a training step"],
)

# %% tags=["hide-input"]
_, work, predict, train = factors[WIDTHS[-1]]
plots.say(
    f"At width {WIDTHS[-1]} the separable network saves a factor of **{work:.1f}** in multiply-adds, **{predict:.1f}** in the "
    f"time of a prediction and **{train:.1f}** in that of a training step. "
    f"Measured by the multiply-adds, the clock gives {'less' if predict < work else 'more'} for the prediction and "
    f"{'less' if train < work else 'more'} for the training step."
)

# %% [markdown]
# The factors depend on the machine and on how well its library was tuned for each kind of layer. Measure on the device
# that you mean to use.
#
# ## Does it cost accuracy?
#
# Now train. Our twin for 28 × 28 images is MobileNetV1 at a narrow width; `small_images=True` leaves out the first two
# halvings of the image, or nothing would be left. It has three rivals:
#
# - the **dense** network with the same channels, which has more parameters and multiply-adds;
# - a dense network **narrowed** until it needs no more multiply-adds than the separable one (no layer gets fewer than 8 maps): what else could we buy
#   for the same work?
# - **LeNet** of chapter 02, to see whether either is worth it.
#
# All take one learning rate, tuned for none of them (the tournament after chapter 07 lets each choose), and fewer than three passes over the images. What we can compare is how they start, not where they end. The loss in the table is that of the last steps; the scores are those of the weights that validated best.

# %%
WIDTH = profile(smoke=0.125, full=0.125)
shape = (1, 28, 28)
small = partial(MobileNetV1, 1, 2, small_images=True)
budget = cost.parameters_and_macs(partial(small, width=WIDTH), shape)[1]


def fits(width):
    return cost.parameters_and_macs(partial(small, width=width, separable=False), shape)[1] <= budget


# %%
narrow = next(w for w in np.linspace(WIDTH, 0, 100, endpoint=False) if fits(w))
twins = {
    "separable": partial(small, width=WIDTH),
    "dense": partial(small, width=WIDTH, separable=False),
    "dense, narrowed": partial(small, width=narrow, separable=False),
    "LeNet": partial(LeNet, 1, 2),
}

# %%
options = {"steps": STEPS, "batch_size": BATCH, "validations": 6}
options |= {"lr": 3e-3, "augment": random_shift(2)}
runs = {name: repeat(build, data, seeds=SEEDS, **options) for name, build in twins.items()}


# %%
def step_times(twins):
    """Milliseconds of a training step of each network, taken in turn so that a busy moment hits all of them."""
    actions = {name: cost.training_step(build(), (BATCH, *shape)) for name, build in twins.items()}
    found = cost.time_in_turn(actions, repeats=profile(smoke=1, full=10))
    return {name: np.median(ms) for name, ms in found.items()}


# %%
def compare(names, rival):
    """A row a network: size, work, time, loss at the end of training, scores, and the AUC's lead over `rival`."""
    rows = []
    for name in names:
        size, work = cost.parameters_and_macs(twins[name], shape)
        loss = np.mean([h.train_loss[-1] for h in runs[name].histories])
        scores = [str(runs[name].interval(metric)) for metric in (auc, accuracy)]
        lead = "" if name == rival else str(runs[name].interval(auc, runs[rival]))
        rows.append(
            (name, f"{size:,}", f"{work / 1e6:.2f} M", f"{ms[name]:.0f}", f"{loss:.3f}", *scores, lead)
        )
    share = xray.test.y.float().mean().item()
    rows.append(("the larger class, always", *[""] * 4, "0.500", f"{max(share, 1 - share):.3f}", ""))
    heads = [
        "parameters",
        "multiply-adds",
        "ms a training step",
        "loss, last sixth of training",
        "test AUC",
        "test accuracy",
    ]
    plots.table(rows, ["PneumoniaMNIST", *heads, f"AUC against {rival}"])


# %%
ms = step_times(twins)
compare(list(twins), "separable")


# %% tags=["hide-input"]
unsure = "Zero lies inside, so this test cannot tell them apart."
costs = "After these steps the dense network is ahead."
better = "After these steps the cheap convolution is ahead."
few = "After these steps few dense channels use the work better."
many = "After these steps many separable channels use the work better."
old, new = "The small old network is the better one on these images.", "The newer network is the better one."
lead = {name: runs[name].interval(auc, runs["separable"]) for name in twins if name != "separable"}
plots.say(
    f"AUC minus that of the separable network: dense **{lead['dense']}**. {lead['dense'].says(costs, better, unsure)} "
    f"Dense and narrowed, with no more multiply-adds, **{lead['dense, narrowed']}**. "
    f"{lead['dense, narrowed'].says(few, many, unsure)} LeNet **{lead['LeNet']}**. {lead['LeNet'].says(old, new, unsure)}"
)

# %% [markdown]
# The separable network has two convolutions where the dense one has one, so it is almost twice as deep. After equal
# steps it may not be there yet; compare the training losses. Its steps also do a seventh of the multiply-adds (what they take
# on this machine is in the table). So let it take twice as many.

# %%
twice = "separable, twice the steps"
twins[twice], ms[twice] = twins["separable"], ms["separable"]
runs[twice] = repeat(twins[twice], data, seeds=SEEDS, **options | {"steps": 2 * STEPS})
compare([twice, "dense"], "dense")

# %% tags=["hide-input"]
gain, rest, narrowed = (runs[twice].interval(auc, runs[n]) for n in ("separable", "dense", "dense, narrowed"))
end = {n: np.mean([h.train_loss[-1] for h in runs[n].histories]) for n in ("separable", twice, "dense")}
plots.say(
    f"A training step takes **{ms['separable']:.0f} ms** (separable), {ms['dense']:.0f} ms (dense) and {ms['dense, narrowed']:.0f} ms (narrowed): here fewer multiply-adds "
    f"{'save' if ms['separable'] < ms['dense'] else 'do not save'} time in training. "
    f"Twice the steps change the AUC of the separable network by **{gain}**, and its training loss from {end['separable']:.3f} to {end[twice]:.3f}; the dense network has {end['dense']:.3f}. "
    f"Its AUC minus the dense one's is then **{rest}**, minus the narrowed one's **{narrowed}**. "
    + rest.says("With twice the steps it is ahead.", "Twice the steps do not close the gap.", unsure)
)

# %%
breast = load("breastmnist").standardise()
pair = ("separable", "dense")
breast_runs = {name: repeat(twins[name], breast, seeds=FEW, **options) for name in pair}
rows = [(name, *(str(breast_runs[name].interval(m)) for m in (auc, accuracy))) for name in pair]
share = breast.test.y.float().mean().item()
rows.append(("the larger class, always", "0.500", f"{max(share, 1 - share):.3f}"))
plots.table(rows, ["BreastMNIST", "test AUC", "test accuracy"])

# %% tags=["hide-input"]
breast_lead = breast_runs["dense"].interval(auc, breast_runs["separable"])
plots.say(
    f"On ultrasound the dense network's AUC minus the separable one's is **{breast_lead}**. {breast_lead.says(costs, better, unsure)}"
)

# %% [markdown]
# ## Version 3: four more ideas
#
# MobileNetV3 {cite:p}`howard2019mobilenetv3` came out of a search by computer over kernel sizes and widths. Its
# building blocks are four ideas that you can read one at a time.
#
# **Inverted residual.** A ResNet {term}`bottleneck` narrows, works, and widens again. MobileNetV2 {cite:p}`sandler2018mobilenetv2`
# turns it round: a 1 × 1 convolution *widens*, the cheap depthwise convolution works on many maps, a 1 × 1 convolution
# narrows. The shortcut of chapter 05 joins the narrow ends.
#
# **Linear bottleneck.** No ReLU follows the narrowing step. ReLU sets what is negative to zero: of (−1, 2) it leaves
# (0, 2). Among many maps the lost number may still stand in another one. Among few it is gone.
#
# **Squeeze-and-excitation** {cite:p}`hu2018squeeze`. Take the mean $\bar x_c$ of each map $c$. Let a small network of
# two layers turn these means into one weight $s_c$ between 0 and 1 for each map, and multiply: $y_c = s_c \, x_c$. The
# network can turn a map down for this image and up for the next. Chapter 14 treats it as {term}`attention`.
#
# **h-swish.** The function $\mathrm{swish}(x) = x \, \sigma(x)$, with $\sigma(x) = 1 / (1 + e^{-x})$, did better than
# ReLU in some networks {cite:p}`ramachandran2017searching,elfwing2018sigmoid`, but an exponential is expensive on a phone.
# So replace the curve $\sigma$ by a straight line between two clamps:
#
# $$ \text{h-swish}(x) = x \cdot \frac{\min(\max(x + 3, 0), 6)}{6} . $$ (eq-hswish)

# %%
t = torch.linspace(-6, 6, 241)
figure, (left, right) = plots.panels(2)
left.plot(t, t.sigmoid(), label="sigmoid σ")
left.plot(t, F.hardsigmoid(t), "--", label="hard sigmoid")
right.plot(t, F.silu(t), label="swish")
right.plot(t, F.hardswish(t), "--", label="h-swish")
right.plot(t, F.relu(t), ":", label="ReLU")
for axis in (left, right):
    axis.set(xlabel="x")
    axis.legend(fontsize=8)
plots.show(
    figure,
    alt="Left: the S-shaped sigmoid, and the hard sigmoid made of three straight lines. Right: swish and h-swish, two curves "
    "close together that dip a little below zero for negative x and grow like x for positive x, and ReLU.",
    caption="The sigmoid and swish, and their hard versions; ReLU for comparison.",
    name="fig-06-hswish",
)

# %% [markdown]
# Is it faster here? We time it on a large tensor, once as PyTorch has it, in one pass over memory, and once as
# equation {eq}`eq-hswish` is written, in one pass for each operation.

# %% tags=["timing"]
big = torch.randn(profile(smoke=2**16, full=2**22), device=device())
functions = {"ReLU": F.relu, "swish": F.silu, "h-swish": F.hardswish}
functions["h-swish, step by step"] = lambda x: x * (x + 3).clamp(0, 6) / 6
torch.testing.assert_close(functions["h-swish, step by step"](big), F.hardswish(big))
passes = cost.time_in_turn({name: partial(f, big) for name, f in functions.items()}, repeats=20)
passes = {name: np.median(values) for name, values in passes.items()}
for name, value in passes.items():
    print(f"{name:22} {value:7.2f} ms for {len(big):,} numbers")

# %% tags=["hide-input"]
plots.say(
    f"On this machine h-swish takes **{passes['h-swish'] / passes['swish']:.2f}** times as long as swish and "
    f"{passes['h-swish'] / passes['ReLU']:.2f} times as long as ReLU; written step by step, "
    f"{passes['h-swish, step by step'] / passes['swish']:.2f} times as long as swish. "
    + (
        "More passes over memory cost more than an exponential."
        if passes["h-swish, step by step"] > passes["swish"]
        else "Even step by step it beats the exponential."
    )
)

# %%
plots.show_source(SqueezeExcitation, InvertedResidual)

# %% [markdown]
# The network is these blocks in the order of the paper's Table 1 (LARGE) or 2 (SMALL). Once more we ask torchvision
# for a second opinion. A fresh network in evaluation has not seen a batch, so first we let it see one, in training.

# %%
from torchvision.models import mobilenet_v3_small

seed(0)
photos = torch.randn(4, 3, 64, 64)
theirs, ours = mobilenet_v3_small(num_classes=2), MobileNetV3(3, 2, table=SMALL)
for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
    norm.momentum = None  # the average over all batches: here, of one
with torch.no_grad():
    theirs.train()(photos)
    copy_weights(ours, theirs.state_dict())
    torch.testing.assert_close(ours.eval()(photos), theirs.eval()(photos), rtol=1e-4, atol=1e-6)
print("On copied weights ours equals torchvision's mobilenet_v3_small.")

# %% [markdown]
# Parameters, multiply-adds and time, side by side, for one image of 224 × 224.

# %%
family = {
    "MobileNetV1": MobileNetV1,
    "MobileNetV3-Small": partial(MobileNetV3, table=SMALL),
    "MobileNetV3-Large": partial(MobileNetV3, table=LARGE),
}
counts = {name: cost.parameters_and_macs(build, (3, 224, 224)) for name, build in family.items()}
actions = {name: cost.forward(build(), (1, 3, 224, 224)) for name, build in family.items()}
waits = cost.time_in_turn(actions, repeats=profile(smoke=1, full=7))

# %%
rows = [
    (name, f"{size:,}", f"{work / 1e6:.0f} M", f"{np.median(waits[name]):.1f}",
     f"{work / 1e6 / np.median(waits[name]):.1f} M")
    for name, (size, work) in counts.items()
]  # fmt: skip
plots.table(rows, ["network", "parameters", "multiply-adds", "ms an image", "multiply-adds a ms"])

# %% [markdown]
# The last column is the speed at which the machine gets through the work. Where it is low, the machine waits for
# memory, or spends its time between many small layers.
#
# ## Which of the ideas helps here?
#
# A small ablation of two of the four: the twin of V3-Small, the same without squeeze-and-excitation, and the same with ReLU wherever the
# table says h-swish. Batch normalisation keeps running averages for evaluation; the paper updates them by 1 % a step,
# which is too slow for runs as short as ours, so we set `momentum=0.1`.

# %%
v3 = partial(MobileNetV3, 1, 2, table=SMALL, width=0.25, small_images=True, momentum=0.1)
variants = {"V3-Small": v3, "V3-Small, no SE": partial(v3, se=False)}
variants["V3-Small, ReLU"] = partial(v3, activation=nn.ReLU)
twins |= variants
ms |= step_times(variants)
for name, build in variants.items():
    runs[name] = repeat(build, data, seeds=FEW, **options)
compare(list(variants), "V3-Small")

# %% tags=["hide-input"]
few_seeds = runs["separable"]._replace(logits=runs["separable"].logits[:FEW])
v1 = runs["V3-Small"].interval(auc, few_seeds)
share = cost.parameters_and_macs(twins["V3-Small"], shape)[1] / budget
plots.say(
    f"V3-Small's AUC minus that of the separable MobileNetV1 is **{v1}**, with {100 * share:.0f} % of its multiply-adds (the same {FEW} seeds). "
    "The two differ in width, shortcuts, squeeze-and-excitation and activation at once, so this says nothing about any one of these."
)
for what, name in (("squeeze-and-excitation", "V3-Small, no SE"), ("h-swish", "V3-Small, ReLU")):
    ci = runs[name].interval(auc, runs["V3-Small"])
    verdict = ci.says("The network is better without it here.", "It earns its place here.", unsure)
    plots.say(f"Leaving out {what} changes the AUC by **{ci}**. {verdict}")

# %%
figure, axes = plots.panels(2, height=3, sharey=True)
for i, name in enumerate(("separable", "dense", "dense, narrowed", "LeNet", "V3-Small")):
    ci = runs[name].interval(auc)
    bar = [[ci.mean - ci.low], [ci.high - ci.mean]]
    for axis, value in zip(
        axes, (cost.parameters_and_macs(twins[name], shape)[1] / 1e6, ms[name]), strict=True
    ):
        axis.errorbar(value, ci.mean, bar, fmt="os^Dv"[i], color=f"C{i}", label=name)
axes[0].set(xlabel="million multiply-adds an image", ylabel="test AUC", xlim=(0, None))
axes[1].set(xlabel="ms a training step", xlim=(0, None))
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
plots.show(
    figure,
    alt="Test AUC of five networks with error bars, on the left against the multiply-adds of one prediction, on the right "
    "against the time of a training step.",
    caption=f"What the work buys on PneumoniaMNIST: test AUC with its 95 % interval over seeds ({SEEDS}; V3-Small {FEW}) and test images.",
    name="fig-06-budget",
)

# %% [markdown]
# ## Could be used for segmentation
#
# {term}`Segmentation <segmentation>` gives a label to each pixel. A classifier ends with one small, deep map for each channel. For a
# label at each pixel we need two things: *what* is there, which the deep map knows, and *where*, which an earlier and
# larger map still knows. The head of MobileNetV3, called LR-ASPP, adds the two: class scores from the deep map,
# enlarged, plus class scores from an earlier map.

# %%
plots.show_source(LRASPP)

# %%
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

theirs, ours = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4), LRASPP(3, 4)
for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
    norm.momentum = None
with torch.no_grad():
    theirs.train()(photos)
    copy_weights(ours, theirs.state_dict())
    torch.testing.assert_close(ours.eval()(photos), theirs.eval()(photos)["out"], rtol=1e-4, atol=1e-5)
size, work = cost.parameters_and_macs(LRASPP, (3, 224, 224))
print(f"LR-ASPP on V3-Large: {size:,} parameters for 21 classes; on copied weights equal to torchvision's")

# %% [markdown]
# A first taste, on the beating-heart phantom of this book: simulated magnetic resonance images whose true labels are
# known, because we drew them. The labels are background, right {term}`ventricle` (RV), heart muscle ({term}`myocardium`) and left
# ventricle (LV). Each heart gives three slices at two moments of the beat. Training, validation and test have
# different hearts.

# %%
HEARTS = profile(smoke=(5, 3, 4), quick=(24, 6, 15), full=(40, 10, 25))
hearts = phantom(sum(HEARTS), shape=(3, 48, 48), spacing=(20, 3, 3))
parts = zip(hearts.image.split(HEARTS), hearts.mask.split(HEARTS), strict=True)
splits = (Split(x.reshape(-1, 1, 48, 48), y.reshape(-1, 48, 48).long()) for x, y in parts)
raw = Dataset("phantom", LABELS, *splits, "simulated")
slices = raw.standardise()

# %% [markdown]
# We score with the {term}`Dice` coefficient {cite:p}`dice1945measures`: twice the pixels that truth and answer share,
# divided by the pixels of the one plus the pixels of the other. It is 1 where they agree and 0 where they do not meet.


# %%
def dice(answer, truth):
    """Labels (n, pixels) → (n, 3): Dice of RV, myocardium and LV; NaN where neither has the structure."""
    a, t = (F.one_hot(labels, len(LABELS))[..., 1:] for labels in (answer, truth))
    return 2 * (a * t).sum(1) / (a + t).sum(1)


# %% [markdown]
# The baselines need no network. *Place*: give each pixel the label that stands there most often in the training masks.
# *Grey value*: give each pixel the label that is most frequent among training pixels of its grey. *Both*: multiply the
# two probabilities, as Bayes' rule does if grey and place are independent given the label.


# %%
def grey(x):
    """(N, 1, H, W) → (N, H, W): which of 40 steps of grey."""
    return (20 * x[:, 0]).long().clamp(0, 39)


onehot = F.one_hot(raw.train.y, len(LABELS)).double()  # (slices, 48, 48, labels)
place = (onehot.sum(0) + 0.1).log()  # (48, 48, labels)
frequency = torch.zeros(40, len(LABELS)).double()
frequency.index_add_(0, grey(raw.train.x).flatten(), onehot.flatten(0, 2))
share = (frequency + 0.1).log()  # of each label at each grey
given_label = share - (frequency.sum(0) + 4).log()  # of each grey in each label

# %%
test_bins = grey(raw.test.x)
answers = {
    "place": place.argmax(-1).expand_as(raw.test.y),
    "grey value": share[test_bins].argmax(-1),
    "place and grey value": (place + given_label[test_bins]).argmax(-1),
}

# %%
segmenter = partial(LRASPP, 1, 4, table=SMALL, width=0.25, small_images=True, head=32, momentum=0.1)
nets = []
for s in range(FEW):
    seed(s)
    nets.append(segmenter().to(device()))
    fit(nets[-1], slices, epochs=profile(smoke=0.5, full=10), batch_size=16, seed=s, score=losses.mean_dice)
with torch.no_grad():
    found = [net.eval()(slices.test.x.to(device())).argmax(1).cpu() for net in nets]


# %%
def by_heart(answer):
    """Dice of each test heart, its six slices taken together: (hearts, 3)."""
    return dice(answer.reshape(HEARTS[2], -1), raw.test.y.reshape(HEARTS[2], -1)).numpy()


# %%
scores = {name: np.stack([by_heart(a)] * FEW) for name, a in answers.items()}
scores["LR-ASPP"] = np.stack([by_heart(a) for a in found])  # (seeds, hearts, structures)
rows = [
    (name, *(str(stats.over_patients(s[..., k])) for k in range(3)), str(stats.over_patients(s.mean(2))))
    for name, s in scores.items()
]
plots.table(rows, [f"Dice of {HEARTS[2]} hearts", *LABELS[1:], "mean"])

# %% tags=["hide-input"]
best = max(answers, key=lambda name: scores[name].mean())
gain = stats.over_patients(scores["LR-ASPP"].mean(2), scores[best].mean(2))
plots.say(
    f"The network, with {cost.parameters(segmenter()):,} parameters, leads the baseline that does best on these hearts ({best}) by **{gain}** in Dice. "
    + gain.says(
        "So it can segment, simulated hearts at least.", "A rule without a network does better.", unsure
    )
)

# %% [markdown]
# The worst slices come first. Mind the size of a structure: where it has only a few pixels, a few wrong ones bring its
# Dice close to nothing.

# %%
each = dice(found[0].flatten(1), raw.test.y.flatten(1)).nanmean(1)
order = each.argsort()
picked = [*order[:6], *order[len(order) // 2 :][:2]]
rows = [[raw.test.x[i, 0], raw.test.y[i] / 3, found[0][i] / 3] for i in picked]
labels = [f"#{i}: {each[i]:.2f}" for i in picked]
plots.show(
    plots.grid(
        [row[k] for k in range(3) for row in rows], [*labels, *["truth"] * 8, *["answer"] * 8], limits=(0, 1)
    ),
    alt="Three rows of eight: simulated short-axis slices of hearts, their true labels in grey, and the labels that the network gave.",
    caption="Test slices with their mean Dice, first seed: the six worst, then two from the middle. Above, the image; below it the "
    "truth; at the bottom the answer. Dark grey RV, light grey myocardium, white LV.",
    name="fig-06-segmented",
)

# %% [markdown]
# A phantom is drawn by rules, and a network learns rules quickly. Chapter 11 comes back to segmentation with networks
# made for it.
#
# ## Look: where does it look?
#
# Back to the X-rays and the separable twin. Its last maps are small, so the patches below are coarse.

# %%
model = runs["separable"].model


def last(model):
    """The last separable block, with its ReLU."""
    return model.features[-1]


maps = explain.grad_cam(model, last(model), data.test.x[cases], data.test.y[cases])
plots.show(
    plots.overlay(xray.test.x[cases], maps, names, columns=8),
    alt="The eight X-rays of every chapter with coloured patches where the last block speaks for the true class.",
    caption="Grad-CAM of the true class for our eight cases, MobileNetV1 twin. A plain image: nothing in the layer speaks for "
    "the class.",
    name="fig-06-gradcam",
)

# %%
result = evaluate(model, data.test)
worst = explain.surest_mistakes(result)
maps = explain.grad_cam(model, last(model), data.test.x[worst], result.logits[worst].argmax(1))
labels = [f"#{i} is {xray.classes[result.target[i]]}" for i in worst]
plots.show(
    plots.overlay(xray.test.x[worst], maps, labels, columns=8),
    alt="The eight X-rays on which the network was most confidently wrong, with coloured patches of Grad-CAM.",
    caption="The eight surest mistakes of the first seed, with the Grad-CAM of the class that was wrongly chosen.",
    name="fig-06-worst",
)

# %%
n = profile(smoke=16, full=200)
found_maps = explain.sanity(model, last, data.test.x[:n], data.test.y[:n], networks=profile(smoke=4, full=20))

# %% tags=["hide-input"]
plots.say("The test of chapter 03 again. " + explain.sanity_says(found_maps))

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
claims.observe(
    "C048", abs(ratio - equation).max(), n=len(blocks), where="blocks of MobileNetV1, multiply-adds counted"
)

# %% tags=["hide-input"]
claims.untestable("C049")

# %% tags=["hide-input"]
v1, v3_small, v3_large = (np.array(counts[name]) for name in family)
for form, v3 in (("Large", v3_large), ("Small", v3_small)):
    for change, what in zip(v3 / v1 - 1, ("parameters", "multiply-adds"), strict=True):
        claims.observe("C050", change, n=1, where=f"V3-{form} against V1, {what}")

# %% tags=["hide-input"]
large, small_one = (100 * (v3 / v1 - 1) for v3 in (v3_large, v3_small))
plots.say(
    f"“Lighter” has more than one meaning. V3-Large has {large[0]:+.0f} % parameters and **{large[1]:+.0f} %** "
    f"multiply-adds against V1; V3-Small has {small_one[0]:+.0f} % and {small_one[1]:+.0f} %. The claim says “MobileNetV3” "
    "without saying which, so all four are counted. The second half of "
    "the sentence, segmentation, is section 6.4 of the paper, and the head of that section was put to the test on hearts above."
)

# %% [markdown]
# ## At full size
#
# On a GPU this cell trains MobileNetV3-Large on X-rays enlarged to 224 × 224 pixels, from torchvision's
# ImageNet weights where they can be fetched (transfer learning, chapter 03). Elsewhere it takes two steps on small images, whose loss is no result.

# %%
train_full_size(MobileNetV3(1, 2, momentum=0.1), xray.standardise(), "mobilenet_v3_large")

# %% [markdown]
# ## What it costs

# %% tags=["timing"]
batch = (BATCH, *shape)
del twins[twice]  # the same network
waits = cost.time_in_turn({name: cost.forward(build(), batch) for name, build in twins.items()})
for name, build in twins.items():
    size, work = cost.parameters_and_macs(build, shape)
    print(
        f"{name:17} {size:8,} parameters {work / 1e6:5.1f} M multiply-adds {np.median(waits[name]) / BATCH:.3f} ms an image"
    )

# %% [markdown]
# A parameter costs memory on the device. A multiply-add costs energy. Moving a number costs both time and energy, and
# few tables list it: measure.
#
# ## Pitfalls in medicine
#
# - **Multiply-adds are not milliseconds.** Before you promise a result at the bedside, time the network on the device
#   at the bedside, at batch 1, warm.
# - **A smaller network is not a safer one.** It may lose exactly the rare cases. Compare errors case by case, not only
#   one AUC.
# - **Compressed for a phone means changed.** Rounding the weights to 8 bits after validation makes another network.
#   Validate what you ship.
# - **Networks searched for photographs** are not searched for your images. The table of V3 is an answer to ImageNet
#   and to one phone.
# - **A phantom shows that code works**, not that a method works in patients.
#
# ## Summary
#
# - A depthwise-separable convolution filters each map alone, then mixes the maps at each pixel. It costs 1/N + 1/K² of
#   the dense one.
# - The time does not follow the work: it may fall by less, by more, or not at all. A depthwise step does few multiply-adds
#   for each number that it moves.
# - To ask what the saving costs, compare with the dense twin *and* with a dense network of the same work, and look at
#   the training loss: the deeper network may need more steps.
# - MobileNetV3 widens, filters, weighs the maps and narrows. “Lighter than V1” depends on which V3, and on what you
#   count.
# - A small head turns the classifier into a segmenter: what from the deep map, where from an early one.
#
# ## Check yourself
#
# **1.** A 5 × 5 layer goes from 32 to 64 maps. Which share of the multiply-adds does its separable form need?
#
# - **A** 4.0 %
# - **B** 5.6 %
# - **C** 7.1 %
# - **D** 11.1 %
#
# <details><summary>Answer</summary>
#
# **B.** $1/64 + 1/25 = 5.6\,\%$. A forgets the pointwise step; C takes the maps that go in, which drop out of
# Equation {eq}`eq-separable`; D is the 1/9 of a 3 × 3 kernel.
#
# </details>
#
# **2.** In a separable layer from 32 to 64 maps with 3 × 3 kernels, where do most of the weights sit?
#
# - **A** in both steps about equally
# - **B** in the depthwise step, with 3 × 3 weights for each pair of maps
# - **C** in the pointwise step, with one weight for each pair of maps
# - **D** in the biases, one for each map
#
# <details><summary>Answer</summary>
#
# **C.** $32 · 64 = 2048$ against $9 · 32 = 288$. B describes the dense layer: the depthwise step has a kernel
# for each *map*, not for each pair.
#
# </details>
#
# **3.** A layer with a ninth of the multiply-adds takes half of the time of the dense one. What is the most
# likely reason?
#
# - **A** The processor multiplies small numbers more slowly.
# - **B** Batch normalisation makes up for the ones that were saved.
# - **C** The multiply-adds of the pointwise step were not counted.
# - **D** It moves as many numbers as before, and moving takes the time.
#
# <details><summary>Answer</summary>
#
# **D.** A depthwise step does few multiply-adds for each number read or written, so the machine waits for
# memory. B names a real cost, but batch normalisation does hardly any multiply-adds at all.
#
# </details>
#
# **4.** Which pattern can a dense layer find, and a separable layer without anything between its steps not?
#
# - **A** a bright spot in map 1 beside a dark spot in map 2
# - **B** horizontal lines in map 1 for one output, vertical ones for another
# - **C** the mean of all maps at one pixel
# - **D** a pattern that is wider than its kernel
#
# <details><summary>Answer</summary>
#
# **B.** The separable layer has one kernel for map 1, the same for all outputs, and can only weigh it. A
# needs one pattern a map, which it has; D is beyond both.
#
# </details>
#
# **5.** In an inverted residual, which of the three convolutions has no ReLU behind it, and why?
#
# - **A** the depthwise one, since it works on each map alone
# - **B** the first, since it has many maps to spare
# - **C** the last, since with few maps nothing else keeps what ReLU cuts off
# - **D** none lacks it: a bend must follow each convolution
#
# <details><summary>Answer</summary>
#
# **C.** The narrow end is where information is dense. Behind the first (B) the many maps are the reason why
# ReLU *may* stand there.
#
# </details>
#
# **6.** Squeeze-and-excitation gives map $c$ the weight $s_c$. Which of these can it *not* do?
#
# - **A** turn a map down in one image and up in another
# - **B** leave a map as it is
# - **C** make one map's weight depend on all the other maps
# - **D** keep a map on the left of the image and drop it on the right
#
# <details><summary>Answer</summary>
#
# **D.** There is one weight for the whole map, computed from means over the image: places are gone. A and C
# are what it is for, and B is a weight of 1.
#
# </details>
#
# **7.** A network was validated in a clinic. Then its weights are rounded to 8 bits, to fit into a probe.
# What do you know of the network in the probe?
#
# - **A** It is another network, and has to be validated again.
# - **B** Its accuracy falls by at most 1/256.
# - **C** It is the same network, for rounding errors average out.
# - **D** It is safe wherever the first one was sure.
#
# <details><summary>Answer</summary>
#
# **A.** Rounding changes every weight, and the errors of many layers add up in ways that no rule of thumb
# bounds; the rare cases go first. C is often nearly true, and “often nearly” is no validation.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: where are the parameters?
# :label: ex-06-where
# Of the 4,231,976 parameters of MobileNetV1, which part do the depthwise kernels hold: about a half, a tenth
# or a hundredth? Guess, then count the weights whose convolution has `groups > 1`.
# ```
#
# ```{solution} ex-06-where
# :class: dropdown
# 9 · (32 + 64 + 128 + 128 + 256 + 256 + 512 · 6 + 1024) = 44,640: about a hundredth. The pointwise weights
# and the last dense layer hold nearly all the rest.
# ```
#
# ```{exercise} ★ Predict: what widening costs
# :label: ex-06-widen
# An inverted residual goes from 16 maps to 96, filters these with 3 × 3 kernels, and goes back to 16. Does it
# have more or fewer weights than one dense 3 × 3 layer on 16 maps? And than one on 96?
# ```
#
# ```{solution} ex-06-widen
# :class: dropdown
# 16 · 96 + 9 · 96 + 96 · 16 = 3,936. The dense layer has 9 · 16 · 16 = 2,304 on 16 maps, and 82,944 on 96.
# The block works on 96 maps for less than twice the price of a dense layer on 16.
# ```
#
# ```{exercise} ★★ Implement: one dense kernel from two steps
# :label: ex-06-compose
# Without anything between them, the two steps are one dense convolution. Compute its kernel, of shape (N, M,
# 3, 3), from theirs, and check it on random maps.
# ```
#
# ````{solution} ex-06-compose
# :class: dropdown
# For each pair of maps it is the depthwise kernel of the input map, times one number:
#
# ```python
# w = second.weight * first.weight.transpose(0, 1)
# x = torch.randn(1, 8, 20, 28)
# torch.testing.assert_close(F.conv2d(x, w, padding=1), second(first(x)), rtol=1e-4, atol=1e-5)
# ```
#
# The kernels of one input map are all multiples of each other: this is the freedom that the cheap convolution
# gives up.
# ````
#
# ```{exercise} ★★ Implement: squeeze and excite
# :label: ex-06-excite
# Write squeeze-and-excitation from the weights of `SqueezeExcitation`, with means and matrix products alone.
# ```
#
# ````{solution} ex-06-excite
# :class: dropdown
# ```python
# se, x = SqueezeExcitation(16, 4, nn.ReLU, nn.Hardsigmoid), torch.randn(2, 16, 9, 9)
# squeeze, excite = se[1], se[3]
# z = x.mean((2, 3))  # (B, 16)
# hidden = F.linear(z, squeeze.weight[:, :, 0, 0], squeeze.bias).relu()
# s = F.hardsigmoid(F.linear(hidden, excite.weight[:, :, 0, 0], excite.bias))
# torch.testing.assert_close(s[:, :, None, None] * x, se(x))
# ```
#
# A 1 × 1 convolution on one pixel is a dense layer.
# ````
#
# ```{exercise} ★★★ Investigate: equal time
# :label: ex-06-time
# We compared at equal multiply-adds. Find the width of a dense network whose *training step* takes as long as
# the separable one's on your machine (`cost.training_step`), train both with five seeds, and report the
# difference in AUC with its interval. State your guess first.
# ```
#
# ```{solution} ex-06-time
# :class: dropdown
# Search over `width` as `narrow` does above, with `cost.time_in_turn` in place of `cost.parameters_and_macs`, then `repeat`
# and `Runs.interval`. The answer belongs to your machine: on one whose library is tuned for depthwise
# convolutions the dense network will be narrower.
# ```
#
# ```{exercise} ★★★ Investigate: fewer bits
# :label: ex-06-bits
# Round the weights of the trained separable and dense networks to 8, 6, 4 and 3 bits. At how many bits does
# each break? Which patients change sides first?
# ```
#
# ````{solution} ex-06-bits
# :class: dropdown
# ```python
# from copy import deepcopy
#
#
# def rounded(model, bits):
#     small = deepcopy(model)
#     for p in small.parameters():
#         step = p.detach().abs().max().clamp_min(1e-12) / (2 ** (bits - 1) - 1)
#         p.data = (p.data / step).round() * step
#     return small
#
#
# logits = evaluate(rounded(runs["separable"].model, 4), data.test).logits
# ```
#
# Compare the AUC, and count the test cases whose class changes; look at the margin they had before. Expect
# little at 8 bits and ruin at 3, and the separable network to break sooner: its depthwise kernels hold nine
# weights each, and one large kernel sets the step for all. Rounding each output channel with a step of its
# own helps; try it. The pitfall: an unchanged AUC may hide changed patients.
# ````

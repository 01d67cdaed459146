# %% [markdown]
# # EfficientNet
#
# *Is it better to scale everything at once?*
#
# Suppose that a hospital lets you spend twice, or four times, the arithmetic on each image. You can buy a deeper
# network, a wider one, or larger images. In 2019 two researchers proposed to buy a little of each, in fixed proportions
# {cite:p}`tan2019efficientnet`. **You may spend twice or four times the multiply-adds: is it better to scale everything at
# once?**
#
# After this chapter you can say how depth, width and resolution enter the cost of a network, apply the rule of compound
# scaling, check whether published networks follow it, and compare ways to grow a network at equal cost.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from functools import cache, partial
from itertools import product

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import claims, cost, evaluate, explain, load, plots, profile, repeat, seed
from medlib.metrics import accuracy, auc
from medlib.models.efficientnet import SCALING, EfficientNet, MBConv, compound
from medlib.models.resnet import ResNet, small_resnet
from medlib.models.vgg import small_vgg
from medlib.pretrained import copy_weights, train_full_size

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
STEPS = profile(smoke=3, quick=100, full=180)
BATCH = 32

# %% [markdown]
# ## The problem, seen on our data
#
# Resolution is a choice too. Below are two X-rays at 14, 20 and 28 pixels a side. From 14 to 20 the number of pixels
# doubles, and so, about, does the work of every convolution. From 14 to 28 it grows about four times.

# %%
xray = load("pneumoniamnist")
cases = explain.cases(xray.test)
names = [f"#{i} {xray.classes[xray.test.y[i]]}" for i in cases]
sides = (14, 20, 28)
shown = [xray.resize(side).test.x[cases[k]] for k in (0, 4) for side in sides]
plots.show(
    plots.grid(shown, [f"{names[k]}, {side} px" for k in (0, 4) for side in sides], columns=6, size=1.2),
    alt="Two chest X-rays, each three times: coarse blocks at 14 pixels a side, finer at 20, finest at 28.",
    caption="One normal X-ray and one with pneumonia, of our eight cases, at three resolutions.",
    name="fig-07-sides",
)

# %% [markdown]
# ## The idea: three dials
#
# A network has three dials. {term}`Depth <depth>` $d$ multiplies the number of layers. {term}`Width <width>` $w$ multiplies the number of maps in each
# layer. *Resolution* $r$ multiplies the side of the image. Start with one convolution from 16 maps to 16 maps, on 16 × 16
# places, and double each dial in turn.


# %%
def row_of(layers, maps):
    """So many 3 × 3 convolutions in a row, each from `maps` maps to `maps` maps."""
    return nn.Sequential(*(nn.Conv2d(maps, maps, 3, padding=1, bias=False) for _ in range(layers)))


def work_of(layers, maps, side):
    return cost.parameters_and_macs(partial(row_of, layers, maps), (maps, side, side))[1]


# %% tags=["nbval-check-output"]
one = work_of(1, 16, 16)
for label, dials in {"depth": (2, 16, 16), "width": (1, 32, 16), "resolution": (1, 16, 32)}.items():
    print(
        f"{label:10} doubled: {work_of(*dials):9,} multiply-adds, {work_of(*dials) / one:.0f} times {one:,}"
    )

# %% [markdown]
# Depth counts once. Width counts twice, since both the maps that go in and those that come out double.
# Resolution counts twice, since an image has two sides. So the cost grows as $d \cdot w^2 \cdot r^2$.
#
# The paper ties the dials to one number, the *compound coefficient* $\varphi$:
#
# $$ d = \alpha^{\varphi}, \qquad w = \beta^{\varphi}, \qquad r = \gamma^{\varphi},
# \qquad \text{with } \alpha \, \beta^2 \gamma^2 \approx 2 . $$ (eq-07-compound)
#
# Then one more $\varphi$ about doubles the cost. The three bases say how the money is shared. A search on the smallest network
# gave $\alpha = 1.2$, $\beta = 1.1$ and $\gamma = 1.15$; the paper keeps these values for all larger networks; below we check the released ones.

# %% tags=["nbval-check-output"]
for phi in range(4):
    d, w, r = compound(phi)
    print(f"φ = {phi}: depth × {d:.2f}, width × {w:.2f}, side × {r:.2f}, cost × {d * w**2 * r**2:.2f}")

# %% [markdown]
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C051", "C052")

# %% [markdown]
# ## What one block does
#
# The smallest network, B0, was itself found by an automatic search. It works with {term}`depthwise separable convolutions <depthwise separable convolution>`. Its block is called MBConv: the inverted residual
# of MobileNetV2 {cite:p}`sandler2018mobilenetv2` that chapter 06 introduced, with a few additions.
#
# **Widen, filter, narrow.** A 1 × 1 convolution makes six times as many maps. A *depthwise* convolution then filters each map
# alone. A second 1 × 1 convolution mixes them down to a few maps. Where input and output have the same shape, the input
# is added.
#
# **Squeeze and excite.** Between filter and narrowing, each map gets a weight {cite:p}`hu2018squeeze`. Take the mean of each map:
# one number a map, together the vector $z$. Two small dense layers $W_1$ and $W_2$ turn it into one weight a map, between 0 and 1:
#
# $$ s = \sigma \bigl( W_2 \, \mathrm{SiLU}(W_1 z + b_1) + b_2 \bigr), \qquad y_c \leftarrow s_c \, y_c . $$ (eq-07-se)
#
# Here $\sigma(t) = 1 / (1 + e^{-t})$ is the sigmoid, and $y_c$ is map number $c$. In this way the network turns a channel up or down
# according to what the whole image shows.
#
# **SiLU.** The bend is $\mathrm{SiLU}(t) = t \cdot \sigma(t)$ {cite:p}`elfwing2018sigmoid`, also called swish
# {cite:p}`ramachandran2017searching`. Far from zero it is a ReLU. Near zero it is smooth, and it passes a little of what
# is negative.
#
# **Stochastic depth.** In training, an image sometimes skips a block and takes only the shortcut
# {cite:p}`huang2016stochastic`. The chance grows from 0 at the first block to almost 0.2 at the last. So the blocks learn not
# to rely on each other. What is kept is divided by the chance to be kept, so that nothing needs to change in prediction.
#
# **Dropout.** Before the last dense layer, a fifth of the inputs is set to zero at random in training
# {cite:p}`srivastava2014dropout`. The larger networks drop more, up to a half.
#
# ## The key block by hand
#
# All of it as it works in prediction, where nothing is skipped or dropped, from the layers' weights. The cell stops the chapter if it disagrees with medlib's block.


# %%
def conv_bn(x, layer, groups=1):
    """A convolution, then batch normalisation with the stored means and variances."""
    conv, bn = layer[0], layer[1]
    x = F.conv2d(x, conv.weight, stride=conv.stride, padding=conv.padding, groups=groups)
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias)


# %%
def mbconv(x, expand, depthwise, se, project):
    y = F.silu(conv_bn(x, expand))
    y = F.silu(conv_bn(y, depthwise, groups=y.shape[1]))
    z = y.mean((2, 3), keepdim=True)  # squeeze
    s = torch.sigmoid(se[3](F.silu(se[1](z))))  # excite
    return conv_bn(s * y, project) + x


# %% tags=["nbval-check-output"]
seed(0)
block = MBConv(24, 24, expansion=6, kernel_size=5, stride=1, skip=0.2)
x = torch.randn(8, 24, 14, 14)
block.train()(x)  # one training pass, so that the stored means and variances are not 0 and 1
with torch.no_grad():
    torch.testing.assert_close(mbconv(x, *block.layers), block.eval()(x), rtol=1e-4, atol=1e-5)
hidden = block.layers[1][0].out_channels
print(f"24 maps → {hidden} maps → 24 maps, {cost.parameters(block):,} parameters; by hand equals MBConv: yes")

# %% [markdown]
# ## The source, and the paper's numbers
#
# The class reads a table of stages; `width` and `depth` are two of the dials, and the third is the image that you feed it.

# %%
plots.show_source(MBConv, EfficientNet)


# %%
def released(i):
    """A function that builds B0, B1, …, B7."""
    width, depth, _, dropout = SCALING[i]
    return partial(EfficientNet, width=width, depth=depth, dropout=dropout)


# %% tags=["nbval-check-output"]
counted = [cost.parameters_and_macs(released(i), (3, s[2], s[2])) for i, s in enumerate(SCALING)]
for i, (parameters, work) in enumerate(counted):
    print(f"B{i} at {SCALING[i][2]} pixels: {parameters:10,} parameters, {work / 1e9:6.2f} G multiply-adds")
assert [p for p, _ in counted] == [
    5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704, 66_347_960,
]  # fmt: skip

# %%
from torchvision.models import efficientnet_b0

theirs, ours = efficientnet_b0(num_classes=2).eval(), EfficientNet(3, 2).eval()
copy_weights(ours, theirs.state_dict())
photo = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    torch.testing.assert_close(ours(photo), theirs(photo), rtol=1e-4, atol=1e-5)
print("On copied weights ours equals torchvision's efficientnet_b0 to 1e-4.")
del theirs, ours

# %% [markdown]
# ## Do the released networks follow the rule?
#
# B1 to B7 were released with code. Their width, depth and resolution stand in `SCALING`. If one rule made them, then for each
# network one $\varphi$ gives all three factors. So ask each factor alone: which $\varphi$ would it need? From
# {eq}`eq-07-compound`, depth $d$ needs $\varphi = \ln d / \ln \alpha$, and the others likewise.
#
# Then look for the one $\varphi$ that fits all three best: the one that makes the largest relative distance, |released / rule − 1|,
# as small as it can be. The sides are those of the authors' code; torchvision runs its B2 at 288 pixels instead of 260.

# %%
factors = np.array([(depth, width, side / 224) for width, depth, side, _ in SCALING])
asked = np.log(factors) / np.log(compound(1))  # (8 networks, 3 factors): the φ that each would need
grid = np.linspace(0, 8, 8001)
rule = np.array([compound(phi) for phi in grid])  # (8001, 3)
distance = np.abs(factors[:, None] / rule - 1)  # (8, 8001, 3)
best = distance.max(2).argmin(1)  # (8,)
misses = distance[np.arange(8), best]  # (8, 3)

# %%
rows = []
for i, (width, depth, side, _) in enumerate(SCALING):
    d, w, r = rule[best[i]]
    fit_of = f"{grid[best[i]]:.2f}", f"{d:.2f} / {w:.2f} / {224 * r:.0f}", f"{misses[i].max():.3f}"
    rows.append((f"B{i}", f"{depth} / {width} / {side}", *(f"{a:.2f}" for a in asked[i]), *fit_of))
heads = ["φ for the depth", "for the width", "for the side", "best φ", "rule at best φ", "largest miss"]
plots.table(rows, ["depth / width / side", "released", *heads])

# %%
figure, axis = plots.panels(1, width=5.6, height=3.4)
places = np.arange(8)
for k, (label, mark) in enumerate({"depth": "o", "width": "s", "resolution": "^"}.items()):
    axis.plot(places + 0.12 * (k - 1), asked[:, k], mark, color=f"C{k}", label=f"asked by the {label}")
axis.hlines(grid[best], places - 0.3, places + 0.3, color="black", label="best for all three")
axis.set(xticks=range(8), xticklabels=[f"B{i}" for i in range(8)], ylabel="compound coefficient φ")
axis.legend(fontsize=8, loc="upper left")
plots.show(
    figure,
    alt="For each of B0 to B7 three marks, the coefficient that depth, width and resolution each would need, and a "
    "short black line, the coefficient that fits all three best.",
    caption="The compound coefficient that each factor of a released network asks for. Under one rule the three marks "
    "of a network would coincide.",
    name="fig-07-rule",
)

# %% tags=["hide-input"]
worst = int(misses.max(1).argmax())
rounded = np.abs(factors[worst, :2] - rule[best[worst], :2]).max()
plots.say(
    f"The largest miss is **{100 * misses.max():.1f} %**, at B{worst}. The released widths and depths are given to one decimal, so "
    f"rounding can move them by 0.05. At B{worst} the larger of the two misses is {rounded:.2f}: "
    + ("more than rounding explains. " if rounded > 0.05 else "no more than rounding explains. ")
    + f"Its depth asks for φ = {asked[worst, 0]:.2f} and its width for φ = {asked[worst, 1]:.2f}."
)

# %% [markdown]
# But the bases are rounded too. Any $\alpha$ from 1.15 to 1.25 would be printed as 1.2. So we also ask for the kindest bases that would be printed as the paper prints them.

# %%
BASES = list(
    product(np.linspace(1.15, 1.249, 12), np.linspace(1.05, 1.149, 12), np.linspace(1.145, 1.1549, 5))
)
coarse = np.linspace(0, 8, 801)[:, None]


def largest_misses(bases):
    """(8,): of each network, at the φ that suits it best."""
    return np.abs(factors[:, None] / np.power(bases, coarse) - 1).max(2).min(1)


kindest = min(BASES, key=lambda bases: largest_misses(bases)[1:].max())
kind = largest_misses(kindest)
print(
    "kindest bases",
    np.round(kindest, 3),
    f"largest miss {100 * kind[1:].max():.1f} %, at B{1 + kind[1:].argmax()}",
)

# %% [markdown]
# ## Twice and four times the work
#
# Now the experiment. The base network is small: four blocks in two stages, each widening four times in place of six, and
# images of **14 × 14** pixels. The X-rays
# have 28, so a higher resolution brings real detail, up to four times the pixels. Had we started at 28, a larger image
# would only be a blurred copy: more places to compute at, and nothing new to see.

# %%
BASE = {"blocks": 4, "width": 1.0, "side": 14}


# %%
def twin(blocks=4, width=1.0):
    """A small EfficientNet: half of the blocks with 24 maps, then half with 40 maps at half the side."""
    half = blocks // 2
    stages = ((4, 3, 24, half, 1), (4, 3, 40, blocks - half, 2))
    return EfficientNet(1, 2, width=width, stages=stages)


@cache
def size_and_work(blocks, width, side):
    return cost.parameters_and_macs(partial(twin, blocks, width), (1, side, side))


# %% [markdown]
# Each rival gets the work of the base times two, and times four. Blocks come whole, maps come in eights, and the first
# convolution halves the side, so we take even sides. No rival hits the target exactly. For a single dial we take the setting that
# comes closest. For compound scaling every dial must move. Of the settings within 8 % of the target we take the one whose three
# factors are nearest to the rule's.


# %%
def settings(blocks=(4,), widths=(1.0,), sides=(14,)):
    """Each combination → its work, in units of the base's."""
    unit = size_and_work(**BASE)[1]
    return {s: size_and_work(*s)[1] / unit for s in product(blocks, widths, sides)}


# %%
def closest(times, options):
    return min(options, key=lambda s: abs(np.log(options[s] / times)))


def by_rule(times, options):
    """The setting within 8 % of the work whose factors are nearest to the rule's at φ = log2(times)."""
    goal = np.log(compound(np.log2(times)))
    base = np.array(list(BASE.values()))
    near = [s for s, work in options.items() if abs(work / times - 1) <= 0.08]
    return min(near, key=lambda s: np.abs(np.log(np.array(s) / base) - goal).max())


# %%
dials = {
    "depth": settings(blocks=range(4, 21)),
    "width": settings(widths=np.arange(1, 2.5, 0.1).round(1).tolist()),
    "resolution": settings(sides=range(14, 31, 2)),
    "compound": settings((5, 6, 7), (1.1, 1.2, 1.3), (16, 18, 20)),
}
chosen = {"base": tuple(BASE.values())}
for times, (dial, options) in product((2, 4), dials.items()):
    chosen[f"{dial} × {times}"] = (by_rule if dial == "compound" else closest)(times, options)

# %% tags=["nbval-check-output"]
unit = size_and_work(*chosen["base"])[1]
for name, (blocks, width, side) in chosen.items():
    size, work = size_and_work(blocks, width, side)
    print(f"{name:14} {blocks:2} blocks, width {width:4}, {side} px: {size:7,} parameters, {work / 1e6:.2f} M multiply-adds, "
          f"{work / unit:.2f} times the base (depth × {blocks / 4:.2f}, side × {side / 14:.2f})")  # fmt: skip

# %% [markdown]
# Whole blocks and maps in eights make the compound network at × 2 deeper than the rule asks (1.5 in place of 1.2), and widen only a part of its layers. So it is a rival *near* the rule.
#
# All nine networks get the same recipe: the same number of steps, the same learning rate, batches drawn by the same seeds.
# Validation images decide which weights to keep.

# %%
full = xray.standardise()
options = {"seeds": SEEDS, "batch_size": BATCH, "validations": 3, "lr": 3e-3, "steps": STEPS}
runs = {}
for name, (blocks, width, side) in chosen.items():
    runs[name] = repeat(partial(twin, blocks, width), full.resize(side), **options)

# %%
rows, scores, leads = [], {}, {}
for name, r in runs.items():
    scores[name] = r.interval(auc)
    leads[name] = None if name == "base" else r.interval(auc, runs["base"])
    work = size_and_work(*chosen[name])[1] / 1e6
    cells = f"{work:.2f} M", str(scores[name]), str(r.interval(accuracy)), str(leads[name] or "")
    rows.append((name, *cells, f"{np.mean(r.seconds):.1f}"))
heads = ["multiply-adds", "test AUC", "test accuracy", "AUC against the base", "seconds a training"]
plots.table(rows, ["PneumoniaMNIST", *heads])

# %%
figure, axis = plots.panels(1, width=6.4, height=3.6)
for k, dial in enumerate(dials):
    line = ["base", f"{dial} × 2", f"{dial} × 4"]
    x = np.array([size_and_work(*chosen[name])[1] / 1e6 for name in line]) * 1.025 ** (k - 1.5)
    axis.plot(x, [scores[name].mean for name in line], "o-", color=f"C{k}", label=dial)
    for place, name in zip(x, line, strict=True):
        axis.plot([place] * 2, scores[name][1:3], color=f"C{k}", linewidth=1, alpha=0.6)
ticks = [unit * times / 1e6 for times in (1, 2, 4)]
axis.set(xscale="log", xlabel="million multiply-adds an image", ylabel="test AUC")
axis.set(xticks=ticks, xticklabels=[f"{t:.2f}" for t in ticks])
axis.minorticks_off()
figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
plots.show(
    figure,
    alt="Test AUC against multiply-adds on a logarithmic axis. Four lines start at the base and lead to twice and four "
    "times its work: depth, width, resolution and compound. Each point has a vertical interval.",
    caption="Four ways to spend twice and four times the multiply-adds on PneumoniaMNIST. Vertical lines: 95 % intervals "
    "over seeds and test images. Points are moved sideways a little to keep the lines apart.",
    name="fig-07-dials",
)


# %% tags=["hide-input"]
against = {
    (t, d): runs[f"compound × {t}"].interval(auc, runs[f"{d} × {t}"])
    for t in (2, 4)
    for d in dials
    if d != "compound"
}
ways = [ci.says("above", "below", "around") for ci in against.values()]
gains = [name for name, ci in leads.items() if ci and ci.low > 0]
plots.say(
    (f"The interval of the lead over the base lies above zero for: **{', '.join(gains)}**. " if gains
     else "No scaled network leads the base by an interval that lies above zero. ")
    + "Compound scaling against each single dial: "
    + "; ".join(f"× {t}, {d}: **{ci}**" for (t, d), ci in against.items())
    + f". Of these {len(ways)} intervals, {ways.count('around')} hold zero; above zero: {ways.count('above')}, "
    f"below: {ways.count('below')}. "
    + f"With {len(ways) + len(leads) - 1} intervals in all, one that just misses zero may be chance."
)  # fmt: skip

# %% [markdown]
# Resolution is a special dial here. It alone shows the network more of the patient; the other two compute more about the same
# 14 × 14 numbers. Compound scaling buys some of each.
#
# Read this with care. We count multiply-adds, as the paper does, and train for a fixed number of steps. A deep network may need more
# steps than a wide one, or another learning rate; here all have 0.003, and they see each image little more than once. A scaling law is a statement about trained networks; what these runs compare is how nine networks start, and they show
# how the comparison is set up. And the bases 1.2, 1.1 and 1.15 were found on photographs, for a network of 224 pixels; nothing
# says that they are the best for X-rays of 14.
#
# ## Equal time instead of equal work
#
# {term}`Multiply-adds <multiply-adds>` are not seconds. A depthwise convolution does little arithmetic for each number that it moves, so it keeps a
# processor waiting (and here it runs in fp32, where other convolutions may run in bf16). Now three networks get the same *training time* on 28 × 28 pixels: our base EfficientNet, a ResNet of 8
# layers (chapter 05) and the small VGG of chapter 04. First, how long does a step of `fit` take for each? We ask what 60 steps take longer than 20, so that start and validation drop out.

# %%
BUDGET = profile(smoke=0.3, quick=3, full=5)  # seconds of training steps for each network and seed
rivals = {
    "EfficientNet twin": twin,
    "ResNet-8": partial(small_resnet, 8),
    "VGG, 7 convolutions": partial(small_vgg, convs=(2, 2, 3)),
}


# %% tags=["timing"]
def step_seconds(build):
    """CPU-seconds of a training step in `fit`."""
    few, many = profile(smoke=(2, 4), full=(20, 60))
    short, long = (
        repeat(build, full, **options | {"steps": n, "seeds": 1, "validations": 1}).seconds[0]
        for n in (few, many)
    )
    return max(long - short, 1e-3) / (many - few)


times = {name: step_seconds(build) for name, build in rivals.items()}
steps = {name: max(2, int(BUDGET / t)) for name, t in times.items()}
for name, build in rivals.items():
    size, work = cost.parameters_and_macs(build, (1, 28, 28))
    print(
        f"{name:19} {size:7,} parameters {work / 1e6:5.2f} M multiply-adds, {1000 * times[name]:5.1f} ms a step: "
        f"{steps[name]} steps in {BUDGET} s"
    )

# %% [markdown]
# Networks also differ in the learning rate that suits them. For each we try two, with one seed, and keep the one that
# validates better.


# %%
def equal_time(name, lr, seeds):
    return repeat(rivals[name], full, **options | {"steps": steps[name], "lr": lr, "seeds": seeds})


def validated(name, lr):
    return max(equal_time(name, lr, 1).histories[0].score)


# %%
rates = {name: max((1e-3, 3e-3), key=partial(validated, name)) for name in rivals}
timed = {name: equal_time(name, rates[name], SEEDS) for name in rivals}

# %%
rows = []
for name, r in timed.items():
    lead = "" if name == "EfficientNet twin" else str(r.interval(auc, timed["EfficientNet twin"]))
    cells = str(r.interval(auc)), str(r.interval(accuracy)), lead, f"{np.mean(r.seconds):.1f}"
    rows.append((name, steps[name], rates[name], *cells))
heads = ["steps", "learning rate", "test AUC", "test accuracy", "AUC against EfficientNet", "seconds"]
plots.table(rows, ["equal training time", *heads])

# %% tags=["hide-input"]
ci = {name: r.interval(auc, timed["EfficientNet twin"]) for name, r in timed.items() if "Eff" not in name}
who = "the rival leads", "EfficientNet leads", "undecided"
plots.say(
    f"At {BUDGET} seconds of training each, against the EfficientNet twin: "
    + "; ".join(f"{name} **{c}** ({c.says(*who)})" for name, c in ci.items())
    + "."
)

# %% [markdown]
# The last column holds the whole training: the steps, its start, and three validations, which are not part of the budget.
#
# A published benchmark asked a larger question. On the MedMNIST+ collection, at 28 pixels and with networks trained end to end
# from ImageNet weights, EfficientNet-B4 reached 73.2 % accuracy on average, and VGG-16 82.3 % {cite:p}`doerrich2025rethinking`. Our comparison is
# another one: tiny networks, from scratch, one data set. It shows how such a comparison is made, and does not repeat theirs.
#
# ## Look: where does it look?
#
# We look with the network that was scaled to four times the work by resolution alone, since it sees the most pixels.

# %%
model = runs["resolution × 4"].model
side = chosen["resolution × 4"][2]
data, pictures = full.resize(side), xray.resize(side)


def last(model):
    """The last convolution with its SiLU, before the mean over each map."""
    return model.features[-1]


# %%
maps = explain.grad_cam(model, last(model), data.test.x[cases], data.test.y[cases])
plots.show(
    plots.overlay(pictures.test.x[cases], maps, names, columns=8),
    alt="The eight X-rays of every chapter with coloured patches where the last convolution speaks for the true class.",
    caption="Grad-CAM of the true class for our eight cases, EfficientNet twin. A plain image: nothing in the layer speaks for "
    "the class.",
    name="fig-07-gradcam",
)

# %%
result = evaluate(model, data.test)
mistakes = explain.surest_mistakes(result)
maps = explain.grad_cam(model, last(model), data.test.x[mistakes], result.logits[mistakes].argmax(1))
labels = [f"#{i} is {xray.classes[result.target[i]]}" for i in mistakes]
plots.show(
    plots.overlay(pictures.test.x[mistakes], maps, labels, columns=8),
    alt="The eight X-rays on which the network was most confidently wrong, with coloured patches of Grad-CAM.",
    caption="The eight surest mistakes of the first seed, with the Grad-CAM of the class that was wrongly chosen.",
    name="fig-07-worst",
)

# %%
n = profile(smoke=16, full=200)
found_maps = explain.sanity(model, last, data.test.x[:n], data.test.y[:n], networks=profile(smoke=4, full=20))

# %% tags=["hide-input"]
plots.say("The test of chapter 03 again. " + explain.sanity_says(found_maps))

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
effect = misses[1:].max()
claims.observe(
    "C051",
    effect,
    n=len(SCALING) - 1,
    where="released B1 to B7, resolution factor side / 224, bases as printed",
)
claims.observe(
    "C051",
    kind[1:].max(),
    n=len(SCALING) - 1,
    where="the same, the kindest bases that round to those printed",
)

# %% tags=["hide-input"]
claims.untestable("C052")

# %% [markdown]
# C051 describes the rule correctly: one coefficient scales all three. The number above asks more, namely whether the networks that carry
# the name were made by it. With the bases as printed the answer is no, with bases that round to them it is yes: the second decimal decides, and the paper does not print it. As for C052, the same backbone was soon used to find objects in images {cite:p}`tan2020efficientdet`.
#
# ## At full size
#
# On a GPU this cell trains EfficientNet-B0 on X-rays enlarged to 224 × 224 pixels, from torchvision's ImageNet
# weights where they can be fetched (transfer learning, chapter 03). Elsewhere it takes two steps at 64 × 64, whose loss is no result.

# %%
train_full_size(EfficientNet(1, 2), xray.standardise(), "efficientnet_b0")

# %% [markdown]
# ## What it costs
#
# One image of 224 × 224 pixels through the full networks, with a ResNet-18 for scale. Compare the multiply-adds with the
# milliseconds.

# %% tags=["timing"]
nets = {f"EfficientNet-B{i}": released(i) for i in range(4)} | {"ResNet-18": ResNet}
times = cost.time_in_turn({name: cost.forward(build(), (1, 3, 224, 224)) for name, build in nets.items()}, 5)
for name, build in nets.items():
    size, work = cost.parameters_and_macs(build, (3, 224, 224))
    ms = np.median(times[name])
    print(f"{name:15} {size / 1e6:5.1f} M parameters {work / 1e9:5.2f} G multiply-adds {ms:6.1f} ms, "
          f"{work / 1e6 / ms:6.1f} G multiply-adds a second")  # fmt: skip

# %% [markdown]
# ## Pitfalls in medicine
#
# - **Multiply-adds are not minutes.** Depthwise convolutions, squeeze-and-excitation and SiLU are cheap to count and slow to run.
#   Before you promise a scanner's maker a speed, measure it on the machine that will run it.
# - **A rule fitted to photographs is a guess for X-rays.** The three bases came from one search on one data set. A fracture may need pixels;
#   a haze may not.
# - **Enlarging is not resolving.** Feeding a 28-pixel image to a network made for 380 pixels buys computation, not
#   detail. A larger matrix in the scanner's menu can be the same trick.
# - **“Efficient” needs an axis.** Parameters, multiply-adds, memory, training time and energy rank networks differently.
#   Large images also need memory in training, which is why the authors' next network limits them
#   {cite:p}`tan2021efficientnetv2`.
#
# ## Summary
#
# - Cost grows as depth × width² × resolution².
# - Compound scaling turns all three dials with one coefficient $\varphi$; each step of one about doubles the cost.
# - Whether published networks follow their own rule can be checked in ten lines.
# - Which dial pays depends on the images: a dial that shows the network more of the patient is not like the others.
# - A fair test of scaling fixes the cost, counts it, and says how close it came. Equal work and equal time are two different
#   tests.
# - The block: widen, filter each map alone, weigh the maps, narrow, add.
#
# Six families of networks are on the table now. Which would you choose for an X-ray? That is the question of the
# tournament, next.
#
# ## Check yourself
#
# **1.** You halve the side of the images. By how much may you widen the network at the same cost?
#
# - **A** by half again
# - **B** twice
# - **C** four times
# - **D** eight times
#
# <details><summary>Answer</summary>
#
# **B.** The cost grows as $w^2 r^2$: with $r = 1/2$ and $w = 2$ the product stays. C forgets that width
# counts twice as well.
#
# </details>
#
# **2.** Depth is doubled, width is multiplied by 1.5, and the images stay as they are. By which factor does
# the work grow?
#
# - **A** 3
# - **B** 3.5
# - **C** 4.5
# - **D** 6
#
# <details><summary>Answer</summary>
#
# **C.** $d · w^2 = 2 · 2.25 = 4.5$. A counts width once: but both the maps that go in and those that come out
# become more.
#
# </details>
#
# **3.** Why does $\alpha$ enter the condition $\alpha \, \beta^2 \gamma^2 \approx 2$ without a square?
#
# - **A** Twice the layers cost twice the work, not four times.
# - **B** The search found a depth that needs no square.
# - **C** The depth has to be a whole number.
# - **D** A square would make the deepest network too deep to train.
#
# <details><summary>Answer</summary>
#
# **A.** Width and side count twice in the cost, depth once. It is arithmetic, not a finding (B).
#
# </details>
#
# **4.** Of a released network, the depth asks for $\varphi = 3.2$, the width for $3.5$ and the side for
# $3.8$. What follows?
#
# - **A** The rule has been applied with $\varphi = 3.5$, their mean.
# - **B** One coefficient did not make all three; rounding may or may not explain it.
# - **C** The network must be less accurate than the rule's own.
# - **D** The bases 1.2, 1.1 and 1.15 were wrong.
#
# <details><summary>Answer</summary>
#
# **B.** Under the rule the three would agree. How far rounding could move each has to be computed before more
# is said. Nothing here speaks of accuracy (C).
#
# </details>
#
# **5.** In training an image skips a block with chance $p$. The block's output, where it is kept, is divided
# by $1 - p$. Why?
#
# - **A** so that the mean over the draws is the block's output, as in prediction
# - **B** so that the shortcut and the block have the same size
# - **C** so that deep blocks learn faster than early ones
# - **D** so that the batch normalisation sees no zeros
#
# <details><summary>Answer</summary>
#
# **A.** Kept with chance $1 - p$ and divided by $1 - p$: the mean is unchanged, and nothing needs to change
# in prediction. Dropout does the same with single numbers.
#
# </details>
#
# **6.** Network A needs 4 million multiply-adds and 9 ms, network B needs 9 million and 6 ms, at equal AUC.
# Which is more efficient?
#
# - **A** A, since the work does not depend on the machine
# - **B** B, since only time is felt
# - **C** neither: at equal AUC efficiency has no meaning
# - **D** it depends: by arithmetic A, by time on this machine B
#
# <details><summary>Answer</summary>
#
# **D.** The word lacks an axis. A and B each choose one without saying so; on another machine the times may
# turn round.
#
# </details>
#
# **7.** A clinic's X-rays are stored at 128 pixels a side. You enlarge them to 380, since your network was
# made for that, and the AUC rises. What did the network gain?
#
# - **A** finer detail of the lungs
# - **B** more work on the same detail
# - **C** freedom from the noise of small pixels
# - **D** patients who were not in the small images
#
# <details><summary>Answer</summary>
#
# **B.** Enlarging interpolates; no number holds anything new about the patient. The larger grid buys
# computation, and a match to what the network was made for. A would need images that were *taken* at 380.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: ten times the work
# :label: ex-07-budget
# You may spend ten times the multiply-adds of B0. Which $\varphi$ does the rule ask for, taking $\alpha
# \beta^2 \gamma^2$ as it is, not as 2? Which depth, width and side follow?
# ```
#
# ```{solution} ex-07-budget
# :class: dropdown
# `phi = np.log(10) / np.log(1.2 * 1.1**2 * 1.15**2)` gives 3.53; `compound(phi)` gives a depth of 1.90, a
# width of 1.40 and a side of 224 · 1.64 = 367.
# ```
#
# ```{exercise} ★ Predict: the price of a block
# :label: ex-07-block
# How many multiply-adds does an MBConv need that goes from 24 maps to 24, widens six times and filters with 5
# × 5 kernels, on 14 × 14 places? Which of its steps is the most expensive?
# ```
#
# ````{solution} ex-07-block
# :class: dropdown
# On 196 places: widen 24 · 144, filter 25 · 144, narrow 144 · 24. Squeeze-and-excitation adds 144 · 6 + 6 ·
# 144 once. Together 677,376 + 705,600 + 677,376 + 1,728 = 2,062,080. With kernels of 5 × 5 the filter costs
# most, though the three are nearly equal; with 3 × 3, it would cost three eighths of either of the others.
#
# ```python
# cost.parameters_and_macs(partial(MBConv, 24, 24, expansion=6, kernel_size=5, stride=1, skip=0.2), (24, 14, 14))
# ```
# ````
#
# ```{exercise} ★★ Implement: skip a block
# :label: ex-07-skip
# Write stochastic depth for the block `mbconv`: with chance $p$ an image keeps only its shortcut. Check that
# the mean over many draws equals the block without skipping.
# ```
#
# ````{solution} ex-07-skip
# :class: dropdown
# ```python
# def skipping(x, p):
#     keep = (torch.rand(len(x), 1, 1, 1) > p).float() / (1 - p)
#     return x + keep * (mbconv(x, *block.layers) - x)
#
#
# maps = torch.randn(8, 24, 14, 14)
# with torch.no_grad():
#     mean = torch.stack([skipping(maps, 0.2) for _ in range(2000)]).mean(0)
#     print((mean - mbconv(maps, *block.layers)).abs().max())
# ```
#
# The distance falls with the square root of the number of draws. The division by $1 - p$ makes the mean
# right.
# ````
#
# ```{exercise} ★★ Implement: the best coefficient
# :label: ex-07-best
# For a released network with factors $d, w, r$, find the $\varphi$ that minimises the largest distance
# between the *logarithms* of factors and rule. Do you need a grid?
# ```
#
# ````{solution} ex-07-best
# :class: dropdown
# No. For the logarithms, the distance of factor $k$ is $|\ln f_k - \varphi \ln b_k|$, a straight line in
# $\varphi$ up to its sign. The largest of three such is convex, so a search by halves works, or one compares
# the few crossings:
#
# ```python
# from scipy.optimize import minimize_scalar
#
#
# def best_phi(f):
#     miss = lambda phi: np.abs(np.log(f) - phi * np.log(compound(1))).max()
#     return minimize_scalar(miss, bounds=(0, 8), method="bounded").x
#
#
# [round(best_phi(f), 2) for f in factors]
# ```
#
# The values differ a little from the table's, since |ratio − 1| and |log ratio| are not the same distance.
# ````
#
# ```{exercise} ★★★ Investigate: bases of your own
# :label: ex-07-bases
# Search for bases that suit these X-rays. At twice the work, try several shares of depth, width and
# resolution, and choose by validation AUC alone. Then scale to four times the work by your rule and by the
# paper's, with at least five seeds.
# ```
#
# ```{solution} ex-07-bases
# :class: dropdown
# Replace `goal` in `by_rule` by the logarithms of your own factors. Report the paired difference with its
# interval on the test images, once. If it holds zero, say so: a search over shares that are equally good
# picks one by chance.
# ```
#
# ```{exercise} ★★★ Investigate: pixels or detail?
# :label: ex-07-detail
# Is it the larger grid that pays, or what is on it? Give the network of `resolution × 4` images that were
# first shrunk to 14 pixels and then enlarged to 28.
# ```
#
# ````{solution} ex-07-detail
# :class: dropdown
# ```python
# blurred = full.resize(14).resize(28)
# runs["28 px without the detail"] = repeat(partial(twin, *chosen["resolution × 4"][:2]), blurred, **options)
# ```
#
# Compare it with `resolution × 4` and with the base, paired by seed. If the detail matters, it falls back to
# the base; if the grid matters, it stays. Both may hold in part. The pitfall: standardise once, as here, or
# the blurred images also differ in contrast.
# ````

# %% [markdown]
# # ResNet
#
# *What does a shortcut change, and is it heavy or light?*
#
# In chapter 04 we asked how deep a plain network may get before it fits even its training images worse. This is {term}`degradation`. Where it happens, nothing is wrong with the layers; the optimiser does not find good weights for so many of them. In 2015 the ResNet paper proposed a cure of one
# plus sign. (Highway networks of the same year carry their input past the layers too, through a learnt gate; the ResNet took the gate out {cite:p}`srivastava2015highway,he2016resnet`.) **What does a shortcut change, and does it make a network heavy or light?**
#
# After this chapter you can write a residual block, tell which part of a network's cost it changes, and read a table
# of parameters, multiply-adds and milliseconds without confusing the three. Chapter 13 asks *why* shortcuts work.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from functools import partial

import numpy as np
import torch
import torchvision.models as tv
from torch import nn

from medlib import claims, cost, evaluate, explain, fit, load, plots, profile, seed, stats
from medlib.models import VGG, AlexNet, EfficientNet, LeNet, MobileNetV1, MobileNetV3, ResNet
from medlib.models.alexnet import LAYERS_2014
from medlib.models.mobilenet_v3 import SMALL
from medlib.models.resnet import BasicBlock, resnet34, resnet50, small_resnet
from medlib.models.vgg import A
from medlib.pretrained import copy_weights, train_full_size

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
STEPS = profile(smoke=4, quick=100, full=300)
BATCH = 64

# %% [markdown]
# ## The problem, seen on our data
#
# Take a network that has learnt something and put two more layers behind it. It need not get worse: the new layers
# could copy their input. But can they *learn* to copy? We ask two layers with random weights to reproduce X-rays.

# %%
xray = load("pneumoniamnist")
data = xray.standardise()
cases = explain.cases(xray.test)
names = [f"#{i} {xray.classes[xray.test.y[i]]}" for i in cases]


# %%
class Copier(nn.Module):
    """Two 3 × 3 layers that try to give back their input; with a shortcut, what they add to it."""

    def __init__(self, shortcut):
        super().__init__()
        self.shortcut = shortcut
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, x):
        return self.layers(x) + x if self.shortcut else self.layers(x)


# %%
def copy_error(shortcut, s, steps):
    """Mean squared error after each step of learning to copy the same 64 X-rays."""
    seed(s)
    model, x = Copier(shortcut), data.train.x[:64].cpu()
    optimizer, errors = torch.optim.SGD(model.parameters(), lr=0.03), []
    for _ in range(steps):
        error = (model(x) - x).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return errors


# %%
copying = {
    label: np.mean([copy_error(shortcut, s, profile(smoke=5, full=60)) for s in range(SEEDS)], 0)
    for label, shortcut in (("two layers", False), ("two layers and a shortcut", True))
}

# %%
figure, axis = plots.panels(1, width=5, height=2.8)
for label, errors in copying.items():
    axis.plot(errors, label=label)
axis.set(xlabel="step", ylabel="mean squared error", yscale="log")
axis.legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Two curves of error against step on a logarithmic axis, one with and one without a shortcut.",
    caption="Learning to do nothing: the error of copying 64 X-rays, mean over seeds.",
    name="fig-05-copy",
)

# %% tags=["hide-input"]
p, q = copying.values()
third = len(p) // 3
plots.say(
    f"The shortcut starts {p[0] / q[0]:.0f} times lower. From step {third} to the end the two errors fall to {100 * p[-1] / p[third]:.0f} % and "
    f"{100 * q[-1] / q[third]:.0f} % of what they were."
)

# %% [markdown]
# To copy, the layers without a shortcut have to find particular weights. Those with one only have to find weights near
# zero, and random weights are small to begin with: what is built in is the start. If doing nothing is a good start, the second task is the easier one.
#
# ## The idea
#
# Let $x$ be the maps that enter a block, and let $H(x)$ be what the block should give. The paper
# {cite:p}`he2016resnet` lets the layers compute only the difference, the {term}`residual` $F(x) = H(x) - x$, and adds the input
# back:
#
# $$ H(x) = F(x) + x . $$ (eq-residual)
#
# The path of the $x$ around the layers is the {term}`shortcut`. Where $x$ and $F(x)$ have the same shape, it has no weights. In the block, $F$ is two 3 × 3 convolutions, each with batch normalisation
# (chapter 04), with a ReLU between them; a second ReLU follows the addition.

# %%
figure, axis = plots.panels(1, width=7, height=2.2)
boxes = {"conv 3 × 3": 1, "norm": 2.2, "ReLU": 3.2, "conv 3 × 3 ": 4.3, "norm ": 5.5, "+": 6.5, "ReLU ": 7.4}
for label, x in boxes.items():
    axis.text(
        x, 0, label.strip(), ha="center", va="center", fontsize=9, bbox={"boxstyle": "round", "fc": "w"}
    )
axis.annotate("", (8.4, 0), (-0.3, 0), arrowprops={"arrowstyle": "->", "color": "0.5"}, zorder=0)
arc = {"arrowstyle": "->", "connectionstyle": "arc3,rad=-0.35", "color": "C1", "linewidth": 2}
axis.annotate("", (6.5, 0.16), (0.1, 0.04), arrowprops=arc)
axis.text(3.3, 0.95, "shortcut: x", color="C1", ha="center")
axis.text(3.3, -0.4, "F(x)", ha="center")
axis.text(-0.45, 0, "x", ha="right", va="center")
axis.text(8.5, 0, "ReLU(F(x) + x)", ha="left", va="center")
axis.set(xlim=(-0.8, 10.4), ylim=(-0.6, 1.3))
axis.axis("off")

# %%
plots.show(
    figure,
    alt="Block diagram: convolution, normalisation, ReLU, convolution, normalisation, a plus sign, ReLU. An orange "
    "arrow leads from the input around the layers to the plus sign.",
    caption="A residual block. The orange path carries the input past the layers.",
    name="fig-05-block",
)

# %% [markdown]
# Where a block halves the sides and doubles the maps, $x$ no longer fits. Then a 1 × 1 convolution with stride 2 makes it fit (the
# paper's option B).
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box(*(f"C{i:03}" for i in range(44, 48)))

# %% [markdown]
# ## The key block by hand
#
# The block is five operations and a plus sign. On the same weights it must give what `BasicBlock` gives.


# %%
def residual_block(x, block):
    """One basic block from its parts; x (B, C, H, W) → the same shape."""
    f = block.bn1(block.conv1(x)).clamp(min=0)
    f = block.bn2(block.conv2(f))
    return (f + x).clamp(min=0)


# %% tags=["nbval-check-output"]
block = BasicBlock(16, 16).eval()
x = torch.randn(2, 16, 7, 7, generator=torch.Generator().manual_seed(0))
torch.testing.assert_close(residual_block(x, block), block(x))
print("by hand equals medlib: yes")

# %% [markdown]
# ## The source, and the paper's numbers

# %%
plots.show_source(BasicBlock, ResNet)

# %% [markdown]
# ResNet-50 has a cheaper block, the {term}`bottleneck`: a 1 × 1 convolution to a quarter of the maps, the 3 × 3 convolution there, and a 1 × 1 convolution back.

# %% tags=["nbval-check-output"]
for name, build in {"ResNet-18": ResNet, "ResNet-34": resnet34, "ResNet-50": resnet50}.items():
    size, work = cost.parameters_and_macs(build, (3, 224, 224))
    print(f"{name}: {size:,} parameters, {work / 1e9:.3f} G multiply-adds")

# %%
for name, build in {"resnet18": ResNet, "resnet50": resnet50}.items():
    theirs, ours = getattr(tv, name)(num_classes=2).eval(), build(3, 2).eval()
    copy_weights(ours, theirs.state_dict())
    photo = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(photo), theirs(photo), rtol=1e-5, atol=1e-5)
    print(f"On copied weights ours equals torchvision's {name} to 1e-5.")

# %% [markdown]
# Is Eq. {eq}`eq-residual` what the code computes? We stop each block of a ResNet-18 just before its last ReLU, and
# compare what stands there with $F(x) + x$.


# %%
def before_last_relu(block, x):
    """What enters the last ReLU of `block`."""
    seen = []
    hook = block.relu.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    block(x)
    hook.remove()
    return seen[-1]


# %%
net = ResNet(1, 2).eval()
x = net.pool(
    net.relu(net.bn1(net.conv1(torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)))))
)
gaps = []
with torch.no_grad():
    for block in (b for stage in net.stages for b in stage):
        gaps.append((before_last_relu(block, x) - (block.residual(x) + block.shortcut(x))).abs().max().item())
        x = block(x)
largest_gap = max(gaps)

# %% [markdown]
# ## Deep networks again, with and without shortcuts
#
# The paper's own small networks have 6n + 2 layers in three stages. The plain twin has the same blocks and lacks the shortcuts, and with them the two 1 × 1
# convolutions that make shapes fit (the paper's small networks fill up with zeros instead, its option A). We train both at four depths, as in chapter 04: the same steps, the same optimiser, three seeds.

# %%
DEPTHS = profile(smoke=(8, 14), full=(8, 14, 20, 32))
kinds = {"plain": False, "residual": True}


# %%
def train(depth, shortcut, s):
    seed(s)
    model = small_resnet(depth, width=8, shortcut=shortcut)
    history = fit(model, data, steps=STEPS, batch_size=BATCH, validations=10, keep="last", seed=s)
    return model, history


# %%
trained = {
    (kind, depth, s): train(depth, shortcut, s)
    for depth in DEPTHS for kind, shortcut in kinds.items() for s in range(SEEDS)
}  # fmt: skip


# %%
def measure(model, history):
    train_error = 1 - evaluate(model, data.train).accuracy
    return history.train_loss[-1], train_error, evaluate(model, data.test).accuracy


# %%
values = {key: measure(*pair) for key, pair in trained.items()}
table = {
    (kind, depth): np.array([values[kind, depth, s] for s in range(SEEDS)])
    for kind in kinds
    for depth in DEPTHS
}
rows = [
    (f"{kind}, {depth} layers", f"{cost.parameters(small_resnet(depth, width=8, shortcut=kinds[kind])):,}",
     *(str(stats.interval(column)) for column in table[kind, depth].T))
    for kind, depth in table
]  # fmt: skip

# %%
plots.table(rows, ["network", "parameters", "training loss", "training error", "test accuracy"])

# %%
figure, axes = plots.panels(2)
for i, kind in enumerate(kinds):
    for axis, column in zip(axes, (0, 2), strict=True):
        for depth in DEPTHS:
            axis.plot([depth] * SEEDS, table[kind, depth][:, column], "o", color=f"C{i}", alpha=0.4)
        axis.plot(
            DEPTHS, [table[kind, depth][:, column].mean() for depth in DEPTHS], color=f"C{i}", label=kind
        )
axes[0].set(xlabel="layers", ylabel="training loss at the end", xticks=DEPTHS, ylim=(0, None))
axes[1].set(xlabel="layers", ylabel="test accuracy", xticks=DEPTHS)
axes[0].legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Left: training loss against the number of layers, for plain and residual networks. Right: their test accuracy.",
    caption="Plain and residual networks of growing depth on PneumoniaMNIST, after the same number of steps. A dot is "
    "one seed.",
    name="fig-05-depth",
)

# %% tags=["hide-input"]
deepest, shallow = DEPTHS[-1], DEPTHS[0]
loss_gap = stats.paired(table["residual", deepest][:, 0], table["plain", deepest][:, 0])
test_gap = stats.paired(table["residual", deepest][:, 2], table["plain", deepest][:, 2])

# %% tags=["hide-input"]
plots.say(
    f"At {deepest} layers the shortcut changes the training loss by **{loss_gap}** and the test accuracy by **{test_gap}** (residual minus plain, paired by seed). "
    + (
        "The deep residual network fits better. "
        if loss_gap.high < 0
        else "These seeds do not show that it fits better. "
    )
    + (
        "On the test images no difference can be shown."
        if test_gap.low <= 0 <= test_gap.high
        else "On the test images they differ too."
    )
)

# %% [markdown]
# A better fit to the training images is what the shortcut promises. It does not promise a better *test* score: that
# follows only where the fitting was the obstacle. And we stopped after four passes at one learning rate. The ResNet paper sees the gap at the end of a full training, which is what makes it degradation;
# after so few steps a plain network that merely learns more slowly would look the same.
#
# ## Does a shortcut save time?
#
# The review says that the residual network is a “less time-consuming model” (C045). An addition is cheap, but it is one
# more pass over all numbers, and twice in a network a 1 × 1 convolution. We time whole training steps of twins, in turn.

# %% tags=["timing"]
pairs = {
    f"{kind} {depth}": small_resnet(depth, width=8, shortcut=kinds[kind])
    for depth in DEPTHS
    for kind in kinds
}
times = cost.time_in_turn(
    {name: cost.training_step(model, (BATCH, 1, 28, 28)) for name, model in pairs.items()},
    repeats=profile(smoke=2, full=12),
)
ratios = {depth: times[f"residual {depth}"] / times[f"plain {depth}"] - 1 for depth in DEPTHS}
for depth, ratio in ratios.items():
    print(
        f"{depth:2} layers: a residual step takes {100 * ratio.mean():+.1f} % more time than a plain one, on average"
    )

# %% tags=["hide-input", "timing"]
first = {
    key: next((step for step, score in zip(h.step, h.score, strict=True) if score >= 0.98), np.inf)
    for key, (_, h) in trained.items()
}
reached = {kind: [first[kind, deepest, s] for s in range(SEEDS)] for kind in kinds}

# %% tags=["hide-input", "timing"]
plots.say(
    f"Time can also be saved by needing fewer steps. At {deepest} layers, a validation AUC of 0.98 was first seen after "
    + " and after ".join(
        f"{', '.join(str(v) for v in sorted(reached[kind]))} steps ({kind})" for kind in reached
    )
    + ", one number a seed; validation happens ten times in a run, and “inf” means never."
    + (
        f" In time, longer steps included, the residual network needs {np.median(reached['residual']) / np.median(reached['plain']) * (1 + ratios[deepest].mean()):.2f} "
        "times what the plain one needs, for this goal and under this schedule."
        if np.isfinite([*reached["plain"], *reached["residual"]]).all()
        else ""
    )
)

# %% [markdown]
# ## Heavy or light?
#
# The review calls ResNet a heavy model (C047). Heavy has three meanings: parameters (memory on disk), {term}`multiply-adds` (work on paper), and milliseconds (what a user waits for). Here are fifteen networks, one image of 224 × 224 (LeNet 28, AlexNet 227), in fp32 on one
# thread unless the card above says otherwise. Eleven are ours; the others are torchvision's.

# %%
zoo = {
    "LeNet (28 × 28)": (partial(LeNet, 1, 2), (1, 28, 28)),
    "AlexNet": (AlexNet, (3, 227, 227)),
    "VGG-11": (partial(VGG, convs=A), (3, 224, 224)),
    "VGG-16": (VGG, (3, 224, 224)),
    "ResNet-18": (ResNet, (3, 224, 224)),
    "ResNet-34": (resnet34, (3, 224, 224)),
    "ResNet-50": (resnet50, (3, 224, 224)),
    "MobileNetV1": (MobileNetV1, (3, 224, 224)),
    "MobileNetV3-Small": (partial(MobileNetV3, table=SMALL), (3, 224, 224)),
    "MobileNetV3-Large": (MobileNetV3, (3, 224, 224)),
    "EfficientNet-B0": (EfficientNet, (3, 224, 224)),
}
others = {"SqueezeNet": tv.squeezenet1_0, "DenseNet-121": tv.densenet121, "MobileNetV2": tv.mobilenet_v2}
others |= {"GoogLeNet": partial(tv.googlenet, aux_logits=False, init_weights=False)}
zoo |= {name + " (torchvision)": (build, (3, 224, 224)) for name, build in others.items()}

# %%
counts = {name: cost.parameters_and_macs(build, shape) for name, (build, shape) in zoo.items()}
side = profile(smoke=96, full=None)  # in the smoke profile, smaller images
timed = {
    name: (1, shape[0], *([side] * 2 if side and shape[1] > 64 else shape[1:]))
    for name, (_, shape) in zoo.items()
}
milliseconds = cost.time_in_turn(
    {name: cost.forward(build(), timed[name]) for name, (build, _) in zoo.items()},
    repeats=profile(smoke=1, full=8),
)

# %%
order = sorted(zoo, key=lambda name: np.median(milliseconds[name]))
rows = [
    (name, f"{counts[name][0] / 1e6:.2f}", f"{counts[name][1] / 1e9:.3g}", f"{np.median(milliseconds[name]):.1f}",
     f"{counts[name][1] / 1e6 / np.median(milliseconds[name]):.1f}")
    for name in order
]  # fmt: skip

# %%
plots.table(
    rows, ["network", "million parameters", "G multiply-adds", "milliseconds", "G multiply-adds a second"]
)

# %%
figure, axes = plots.panels(2, height=3.4, sharey=True)
for axis, column, unit, label in (
    (axes[0], 0, 1e6, "million parameters"),
    (axes[1], 1, 1e9, "G multiply-adds"),
):
    for name in order:
        place = counts[name][column] / unit, np.median(milliseconds[name])
        axis.plot(*place, "o", color="C1" if name.startswith("ResNet") else "C0")
        short = name.split(" (")[0]
        for long, letters in (("MobileNet", "MN-"), ("EfficientNet", "EN"), ("ResNet", "RN"), ("DenseNet", "DN"), ("SqueezeNet", "SN"), ("GoogLeNet", "GN")):  # fmt: skip
            short = short.replace(long, letters)
        left = short in {"EN-B0", "RN-18", "SN", "MN-V2", "RN-34", "VGG-16", "DN-121"}  # so that few overlap
        axis.annotate(short, place, xytext=(-4 if left else 4, -3), textcoords="offset points",
                      ha="right" if left else "left", fontsize=6.5)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel=label)
    axis.margins(x=0.12)
axes[0].set(ylabel="milliseconds for one image")

# %%
plots.show(
    figure,
    alt="Two scatter plots on logarithmic axes: milliseconds against parameters, and milliseconds against multiply-adds, "
    "a dot a network; the ResNets are orange.",
    caption="Time for one image against parameters (left) and against multiply-adds (right). MN: MobileNet, EN: "
    "EfficientNet, RN: ResNet, DN: DenseNet, SN: SqueezeNet, GN: GoogLeNet.",
    name="fig-05-cost",
)


# %% tags=["hide-input"]
def rank_correlation(column):
    from scipy.stats import spearmanr

    return spearmanr(
        [counts[n][column] for n in order], [np.median(milliseconds[n]) for n in order]
    ).statistic


# %% tags=["hide-input"]
plots.say(
    f"Over these {len(order)} networks the rank correlation of time with parameters is **{rank_correlation(0):.2f}**, with "
    f"multiply-adds **{rank_correlation(1):.2f}**. ResNet-50 takes "
    f"{np.median(milliseconds['ResNet-50']) / np.median(milliseconds['VGG-16']):.2f} times the time of VGG-16 and "
    f"{np.median(milliseconds['ResNet-50'] / milliseconds['MobileNetV1']):.2f} times that of MobileNetV1. Whether that is "
    "heavy depends on what stands beside it."
)

# %% [markdown]
# The last column of the table says how many multiply-adds each network gets done in a second. Networks with few
# multiply-adds mostly get fewer of them done in a second: chapter 06 looks at why.
#
# ## Look: where does it look?

# %%
model = trained["residual", DEPTHS[1], 0][0]


# %%
def last(model):
    return model.stages[-1]


# %%
maps = explain.grad_cam(model, last(model), data.test.x[cases], data.test.y[cases])
plots.show(
    plots.overlay(xray.test.x[cases], maps, names, columns=8),
    alt="The eight X-rays of every chapter with coloured patches where the last stage speaks for the true class.",
    caption="Grad-CAM of the true class for our eight cases, small ResNet. A plain image: nothing in the layer speaks for "
    "the class.",
    name="fig-05-gradcam",
)

# %%
result = evaluate(model, data.test)
worst = explain.surest_mistakes(result)
maps = explain.grad_cam(model, last(model), data.test.x[worst], result.logits[worst].argmax(1))
labels = [f"#{i} is {xray.classes[result.target[i]]}" for i in worst]

# %%
plots.show(
    plots.overlay(xray.test.x[worst], maps, labels, columns=8),
    alt="The eight X-rays on which the network was most confidently wrong, with coloured patches of Grad-CAM.",
    caption="The eight surest mistakes of the first seed, with the Grad-CAM of the class that was wrongly chosen.",
    name="fig-05-worst",
)

# %% tags=["hide-input"]
healthy = int((result.target[worst] == 0).sum())
plots.say(f"{healthy} of these {len(worst)} are normal X-rays that were taken for pneumonia.")

# %%
n = profile(smoke=16, full=200)
found_maps = explain.sanity(model, last, data.test.x[:n], data.test.y[:n], networks=profile(smoke=4, full=20))

# %% tags=["hide-input"]
plots.say("The test of chapter 03 again. " + explain.sanity_says(found_maps))

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
claims.observe(
    "C044",
    largest_gap,
    n=len(gaps),
    where="the blocks of a ResNet-18; where the shape changes, x is the projected one",
)

# %% tags=["hide-input"]
claims.untestable("C045")

# %% tags=["hide-input"]
for depth in DEPTHS[:-1]:
    rise = stats.paired(table["residual", deepest][:, 1], table["residual", depth][:, 1])
    claims.observe("C046", rise, n=SEEDS, where=f"{deepest} layers against {depth}")

# %% tags=["hide-input", "timing"]
heavier = stats.interval(milliseconds["ResNet-50"] / milliseconds["MobileNetV1"] - 1)
claims.observe("C047", heavier, where="one image of 224 × 224, in turn")

# %% [markdown]
# C045 can be read in two ways. A shortcut saves no time in a step; what it can save is steps, as the figures above may show, and how many depends on the goal. And a residual network may be
# *chosen* smaller than VGG-16, as the table shows, but that is the choice of its width, not the work of the shortcut. C046 compares residual networks of several depths after equal and few steps; a deeper one that fits no worse *by then* is all that it says. C047 is judged against one small network, on this processor; whether ResNet-50 is too slow for a phone was not measured.
#
# ## At full size
#
# On a GPU this cell trains ResNet-18 on X-rays enlarged to 224 × 224 pixels, from torchvision's ImageNet
# weights where they can be fetched (transfer learning, chapter 03). Elsewhere it takes two steps, whose loss is no result.

# %%
train_full_size(ResNet(1, 2), xray.standardise(), "resnet18")

# %% [markdown]
# ## What our code costs
#
# The networks of this book are written to be read. Do they pay for it? One training step of ours against one of
# torchvision's, in turn, on eight images of 64 × 64.

# %% tags=["timing"]
twins = {
    "alexnet": partial(AlexNet, layers=LAYERS_2014), "resnet18": ResNet, "resnet50": resnet50,
    "vgg11": partial(VGG, convs=A), "mobilenet_v3_large": MobileNetV3,
    "efficientnet_b0": EfficientNet,
}  # fmt: skip
for name, build in twins.items():
    both = {"ours": build(3, 10), "theirs": getattr(tv, name)(num_classes=10)}
    steps = {who: cost.training_step(model, (8, 3, 64, 64)) for who, model in both.items()}
    t = cost.time_in_turn(steps, repeats=profile(smoke=1, full=12))
    print(
        f"{name:18} ours {np.median(t['ours']):6.1f} ms, ratio to torchvision {np.median(t['ours'] / t['theirs']):.3f}"
    )

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A lower training loss is not a better diagnosis.** It removes one obstacle. Whether that one mattered, only the test
#   images say.
# - **“Fast” needs a machine.** A ranking by milliseconds on a processor may differ from one on a graphics card or a phone.
# - **Batch normalisation hides the batch.** With batches of two or three volumes, as in chapter 17, its means are noise.
# - **The deepest network is not the best one by right.** With few images and easy classes, eight layers may do.
#
# ## Summary
#
# - A residual block adds its input to what its layers compute: H(x) = F(x) + x.
# - Doing nothing is easy for such a block. That is why deep residual networks can fit their training images where deep plain ones
#   struggle.
# - A shortcut has no weights where the shape stays, and saves no time in a step; it may save steps.
# - Parameters, multiply-adds and milliseconds are three different costs. Report the one that you mean.
#
# ## Check yourself
#
# **1.** A block has weights of zero everywhere. What does it give, with its shortcut?
#
# - **A** zero
# - **B** ReLU(x)
# - **C** twice x
#
# <details><summary>Answer</summary>
#
# **B.** The layers give zero, the shortcut adds x, and the last ReLU cuts what is below zero. A is the block
# without its shortcut.
#
# </details>
#
# **2.** A residual block has $H(x) = F(x) + x$, with one number $x$. At some point $F$ has the slope 0. What
# is the slope of $H$ there?
#
# - **A** 0
# - **B** that of the ReLU before it
# - **C** 1
# - **D** it cannot be known without the weights
#
# <details><summary>Answer</summary>
#
# **C.** $H'(x) = F'(x) + 1$. Even where the layers pass no gradient, the shortcut does. A is the slope of the
# plain twin; chapter 13 follows this up.
#
# </details>
#
# **3.** Maps of 64 channels enter a block, and its layers give 64 channels. How many come out of the block,
# with its shortcut?
#
# - **A** 64
# - **B** 128
# - **C** 32
# - **D** it depends on the 1 × 1 convolution
#
# <details><summary>Answer</summary>
#
# **A.** The shortcut *adds*, place by place and channel by channel. B would be a concatenation, which the
# U-Net of chapter 11 uses.
#
# </details>
#
# **4.** Why does the first block of the second stage have a 1 × 1 convolution on its shortcut?
#
# - **A** to let the shortcut learn, since a plain copy cannot
# - **B** to make it cheaper than a 3 × 3 convolution would be
# - **C** to add a bend before the sum
# - **D** to give x the shape of F(x), which has half the sides and twice the maps
#
# <details><summary>Answer</summary>
#
# **D.** Arrays of different shapes cannot be added. A is tempting, but all other shortcuts are plain copies
# and work well.
#
# </details>
#
# **5.** With shortcuts, a network fits its training images better, and its test accuracy is as before. Which
# reading is right?
#
# - **A** The shortcuts leak information about the test images.
# - **B** On these images, fitting was not what held the test score back.
# - **C** The network overfits, so the shortcuts should be removed.
# - **D** The test accuracy will follow if the network is made deeper.
#
# <details><summary>Answer</summary>
#
# **B.** A shortcut removes one obstacle. Whether that obstacle mattered is another question. C needs a test
# score that falls; here it stayed.
#
# </details>
#
# **6.** Network A has half of the multiply-adds of network B and takes longer on the same machine. How can
# that be?
#
# - **A** Its operations may wait for memory more than they compute.
# - **B** It must have more parameters than B.
# - **C** The multiply-adds must have been counted wrongly.
# - **D** Its batch must have been larger.
#
# <details><summary>Answer</summary>
#
# **A.** Time also goes into reading and writing maps; an addition or a normalisation has hardly any
# multiply-adds and still touches every number. B is possible, but parameters are few beside the maps.
#
# </details>
#
# **7.** A hospital's network, with batch normalisation, gives a patient another answer depending on whose
# images are in the same batch. What is wrong?
#
# - **A** The batch is too small for a stable mean.
# - **B** The patients were not shuffled before they were put in batches.
# - **C** It runs in training mode, where each batch is normalised by its own mean.
# - **D** Nothing: batch normalisation always works like that.
#
# <details><summary>Answer</summary>
#
# **C.** For predictions the running averages of training take the place of the batch's mean (`model.eval()`).
# A larger batch (A) makes the error smaller and harder to notice.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: how many shortcuts?
# :label: ex-05-count
# A small ResNet has 6n + 2 layers. How many shortcuts has it at 32 layers, and how many of them need a 1 × 1
# convolution?
# ```
#
# ```{solution} ex-05-count
# :class: dropdown
# n = 5: three stages of five blocks, 15 shortcuts. The first block of the second and of the third stage
# change the shape: 2 of them.
# ```
#
# ```{exercise} ★ Predict: what a bottleneck saves
# :label: ex-05-bottleneck
# A bottleneck takes 256 maps to 64, works there with a 3 × 3 convolution, and goes back to 256. How many
# weights has it, and how many have two 3 × 3 convolutions at 256 maps?
# ```
#
# ```{solution} ex-05-bottleneck
# :class: dropdown
# 256 · 64 + 9 · 64 · 64 + 64 · 256 = 69,632, against 2 · 9 · 256 · 256 = 1,179,648: about a seventeenth.
# ```
#
# ```{exercise} ★★ Implement: a shortcut without weights
# :label: ex-05-pad
# The paper's option A needs no 1 × 1 convolution: take every second row and column of x, and fill the missing
# maps with zeros. Write it in two lines.
# ```
#
# ````{solution} ex-05-pad
# :class: dropdown
# ```python
# from torch.nn import functional as F
#
#
# def option_a(x, channels):
#     x = x[:, :, ::2, ::2]
#     return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))
#
#
# option_a(torch.ones(1, 16, 28, 28), 32).shape  # (1, 32, 14, 14)
# ```
# ````
#
# ```{exercise} ★★ Implement: a block that does nothing
# :label: ex-05-zero
# Let every block of a new network start as a copy of its input: set the weight of its last normalisation to
# zero. Check that such a block gives back its input, where the input is not negative.
# ```
#
# ````{solution} ex-05-zero
# :class: dropdown
# ```python
# net = small_resnet(32, width=8, shortcut=True).eval()
# for block in (b for stage in net.stages for b in stage):
#     nn.init.zeros_(block.bn2.weight)
# block, x = net.stages[0][1], torch.rand(1, 8, 28, 28)
# torch.testing.assert_close(block(x), x)
# ```
#
# Weight and bias of the normalisation start at 1 and 0, so one zero is enough. This is a usual start for deep
# residual networks: training begins with a shallow one.
# ````
#
# ```{exercise} ★★★ Investigate: where should the shortcut start?
# :label: ex-05-where
# Give the plain network of 32 layers shortcuts in its last stage only, or in its first stage only. Which of
# the two brings the training loss closer to that of the residual network? State your guess first, and use
# three seeds.
# ```
#
# ```{solution} ex-05-where
# :class: dropdown
# Build both networks with `small_resnet` and swap a stage: `plain.stages[2] = residual.stages[2]`. Train as
# above and compare by seed with `stats.paired`. The pitfall: seed before each network is built, or the arms
# start from other weights for another reason than yours.
# ```
#
# ```{exercise} ★★★ Investigate: take out a block
# :label: ex-05-drop
# Take the trained networks of 32 layers. Replace one block after the other by `nn.Identity()`, where its
# shape allows it, and measure the training accuracy without any new training. Compare plain and residual.
# ```
#
# ````{solution} ex-05-drop
# :class: dropdown
# ```python
# from copy import deepcopy
#
#
# def without(model, stage, block):
#     fewer = deepcopy(model)
#     fewer.stages[stage][block] = nn.Identity()
#     return evaluate(fewer, data.train).accuracy
#
#
# model = trained["residual", 32, 0][0]
# [[without(model, stage, block) for block in range(1, 5)] for stage in range(3)]
# ```
#
# Expect the residual network to lose little for most blocks and the plain one much: each residual block adds
# a correction to what is carried past it, while a plain block hands on *all* that there is. The pitfall: the
# batch normalisations behind the hole keep the averages of the whole network.
# ````

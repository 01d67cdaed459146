# %% [markdown]
# # Attention in networks
#
# *Which module helps, and where?*
#
# Chapters 14 and 15 built {term}`attention` modules one by one, and each did what it promises on a task made for it. Papers promise more: put one into a network that you have, and it
# gets better. The review's conclusion says so of U-Net and ResNet, calls the modules expensive, and hopes for light ones. **With the same images and the same time, which of
# them helps on X-rays, ultrasound and hearts?**
#
# After this chapter you can put a module into a finished network without touching its code, run an ablation whose many comparisons do not fool you, and read
# a table of small differences.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import attention, claims, cost, fit, hearts, load, losses, plots, profile, seed, stats
from medlib.augment import random_affine, random_shift
from medlib.metrics import accuracy, auc
from medlib.models import SmallUNet
from medlib.models.resnet import BasicBlock, resnet50, small_resnet
from medlib.models.vgg import small_vgg
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=2, full=5)
STEPS = profile(smoke=(2, 2), quick=(14, 18), full=(150, 200))  # of the ResNet, of the U-Net
KEPT = profile(smoke=3, full=None)  # modules; None: all
SIDE = 64

# %% [markdown]
# ## The problem, seen on our data
#
# A module that shines on one task may be of no use on the next. So we take three.
#
# Two sets to classify, X-rays and breast ultrasound {cite:p}`yang2023medmnist`, and hearts to segment {cite:p}`bernard2018acdc`, at 64 × 64 pixels.

# %%
xrays, breasts = (load(name).standardise() for name in ("pneumoniamnist", "breastmnist"))
train, val, test = (p[: profile(smoke=2, full=None)] for p in hearts.split(hearts.load()))
acdc = hearts.slices(train, val[:4], test, side=SIDE)
for data in (xrays, breasts, acdc):
    print(f"{data.name}: {len(data.train.x):,} / {len(data.val.x)} / {len(data.test.x)} images")

# %% [markdown]
# ## The idea: a guest in the block
#
# A module $A$ takes maps and gives maps of the same shape. In a {term}`residual` block, whose branch we call $F(x)$, it stands at the end of the branch, before the addition:
#
# $$ H(x) = A(F(x)) + x . $$ (eq-guest)
#
# A ReLU follows the sum. So even a poor guest cannot shut the way: the {term}`shortcut` still carries $x$. That is no promise that it helps. In the U-Net it stands at the end of each level on the way down, so that it acts on what goes deeper and
# on what the skip carries across.
#
# By hand, squeeze and excitation in a block. The branch ends with the block's second batch normalisation, `bn2`. We replace it by itself followed by the guest; the block's code stays as it is.

# %%
block, guest = BasicBlock(16, 16).eval(), attention.SE(16)
x = torch.randn(2, 16, 8, 8)
f = block.residual(x)
gate = torch.sigmoid(guest.excite(guest.squeeze(f.mean((2, 3))).relu()))[:, :, None, None]
by_hand = (f * gate + x).relu()
block.bn2 = nn.Sequential(block.bn2, guest)
torch.testing.assert_close(by_hand, block(x))
print("by hand = medlib:", tuple(by_hand.shape))


# %%
def into_resnet(module, shortcut=True):
    """ResNet-8 with `module(channels)` in every block; `None`: without."""
    net = small_resnet(8, width=8, shortcut=shortcut)
    for i, stage in enumerate(net.stages):
        for block in stage:
            if module and (i > 0 or module not in QUADRATIC):
                block.bn2 = nn.Sequential(block.bn2, module(block.conv2.out_channels))
    return net


# %%
def into_unet(module):
    """The small U-Net with `module(channels)` at the end of each level on the way down."""
    net = SmallUNet()
    for i, level in enumerate((*net.unet.down, net.unet.bottleneck)):
        if module and (i > 0 or module not in QUADRATIC):
            level.append(module(level[0].out_channels))
    return net


# %% [markdown]
# Attention between all pairs of pixels costs the square of their number. Those modules stay out of the finest level. Of the soft modules of chapter 14 we take
# ten, from each idea one or more: channel (SE, ECA, SK), position (SpatialGate, AttentionGate), both (CBAM, SimAM, CoordinateAttention, MaskBranch), all pairs of pixels (NonLocal).
# One is not what its name suggests: as a drop-in, AttentionGate has no coarser feature map to ask, so that $x$ gates itself. The gate of the Attention U-Net is the one on the skips in chapter 14.
# A run that diverges below counts as a network that knows nothing, and is reported.

# %%
QUADRATIC = (attention.MultiHead, attention.NonLocal, attention.DualAttention)
CHOSEN = ["SE", "ECA", "SK", "SpatialGate", "AttentionGate", "CoordinateAttention", "MaskBranch"]
CHOSEN += ["CBAM", "SimAM", "NonLocal"]
MODULES = {name: getattr(attention, name) for name in CHOSEN[:KEPT]}
LIGHT = [name for name in ("ECA", "SimAM", "CoordinateAttention") if name in MODULES] or list(MODULES)[:1]
print(len(MODULES), "modules:", ", ".join(MODULES))

# %% [markdown]
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C071", "C072", "C073", "C111", "C112", "C113")

# %% [markdown]
# ## The rules
#
# 1. **Equal epochs.** Every network takes the same number of steps on the same batches; seed $s$ draws weights, batches and shifts, and with a module the network starts from the same weights as without. The last weights are kept.
# 2. **Equal time.** A module that makes a step longer could have been spent on more steps of the plain network. So we train the plain network for two and a half times the steps, and hold each module
#    against what the plain network reaches *in the module's time*. A module slower than two and a half times is held against two and a half, which flatters it.
# 3. **Many comparisons.** Of twenty modules that do nothing, one will, on average, seem to differ at the 5 % level. A p-value is the chance of a difference at least this large, in either direction, if the module did nothing. The p-values of {term}`paired` tests over {term}`seeds <seed>` are corrected as Holm does {cite:p}`holm1979simple`: the smallest is multiplied by the number of tests, the next by one less, and so on.
#
# The settings are those of earlier chapters, found for networks *without* a module; nothing was tuned for any module, which favours the plain network. Nor do the modules start alike: NonLocal begins as the identity and AttentionGate nearly so, while SE first halves the branch and CBAM quarters it. In a short run the start is a part of what
# we measure.


# %%
def classifier(build, data, s, longer=1):
    """(network, validation AUC)."""
    seed(s)
    net = build()
    options = {"batch_size": 64, "augment": random_shift(2), "validations": 1, "keep": "last"}
    history = fit(net, data, steps=round(longer * STEPS[0]), seed=s, **options)
    return net, history.score[-1]


# %%
def classify(data, s, module, longer=1):
    """(logits of the test images, validation AUC)."""
    net, score = classifier(partial(into_resnet, module), data, s, longer)
    return predict(net, data.test.x).cpu().numpy(), score


# %%
def segment(s, module, longer=1):
    """(Dice of the test patients, validation Dice)."""
    seed(s)
    net = into_unet(module)
    options = {"batch_size": 16, "lr": 5e-3, "loss": losses.dice_ce, "score": losses.mean_dice}
    options |= {"augment": random_affine(), "validations": 1, "keep": "last"}
    history = fit(net, acdc, steps=round(longer * STEPS[1]), seed=s, **options)
    return hearts.dice_of_patients(net, test, side=SIDE).mean((1, 2)), history.score[-1]


# %%
TASKS = {
    "X-rays": partial(classify, xrays),
    "ultrasound": partial(classify, breasts),
    "hearts": segment,
}
truth = {"X-rays": xrays.test.y.cpu().numpy(), "ultrasound": breasts.test.y.cpu().numpy()}


# %%
def value(task, out):
    """AUC or mean Dice."""
    return auc(out, truth[task]) if task in truth else float(np.mean(out))


# %%
DIVERGED = []


# %%
def run(task, module, s, longer):
    """(score on the test images or patients, score on the validation ones)."""
    try:
        out, score = TASKS[task](s, module, longer)
        return value(task, out), score
    except FloatingPointError:
        DIVERGED.append((module.__name__, task, s))
        return (0.5, 0.5) if task in truth else (0.0, 0.0)


# %%
def runs(task, module, longer=1):
    """(seeds, 2)."""
    return np.array([run(task, module, s, longer) for s in range(SEEDS)])


# %%
LENGTHS = (1, 1.5, 2.5)
plain = {task: {k: runs(task, None, k) for k in LENGTHS} for task in TASKS}
found = {(name, task): runs(task, module) for name, module in MODULES.items() for task in TASKS}
print(f"{len(DIVERGED)} of {SEEDS * len(found)} runs with a module diverged", *DIVERGED)

# %% [markdown]
# ## What a step costs
#
# Training steps of all networks, in turn, so that a busy moment hits all of them. Timed are the network's passes and a plain step of gradient descent, on the machine named above. A real step also shifts images and computes its loss; these cost the same with and without a module, so the true ratios are a little lower. On a GPU they may be quite
# different.

# %% tags=["timing"]
ROUNDS = profile(smoke=1, full=7)
players = {"none": None} | MODULES
shapes = {"ResNet": (64, 1, 28, 28), "U-Net": (16, 1, SIDE, SIDE)}


# %% tags=["timing"]
def unet_step(net, shape):
    """`cost.training_step` on the mean logit of each class, since that one wants one label an image."""
    pooled = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return cost.training_step(pooled, shape)


# %% tags=["timing"]
steps = {n: cost.training_step(into_resnet(m), shapes["ResNet"]) for n, m in players.items()}
ms = {"ResNet": cost.time_in_turn(steps, ROUNDS)}
steps = {n: unet_step(into_unet(m), shapes["U-Net"]) for n, m in players.items()}
ms["U-Net"] = cost.time_in_turn(steps, ROUNDS)
longer = {net: {n: float(np.median(t[n] / t["none"])) for n in players} for net, t in ms.items()}


# %% [markdown]
# But how much of this is the module, and how much the smallness of the host? A network with eight channels spends most of its time on starting operations, and a module adds a handful. So we time the same modules where they are used: at the end of each branch of a ResNet-50, on two images of 224 × 224 pixels.


# %%
def into_resnet50(module):
    net = resnet50(3, 1000)
    for i, stage in enumerate(net.stages):
        for block in stage:
            if module and (i > 0 or module not in QUADRATIC):
                block.bn3 = nn.Sequential(block.bn3, module(block.conv3.out_channels))
    return net


# %% tags=["timing"]
large = (2, 3, *profile(smoke=(64, 64), full=(224, 224)))
steps = {n: cost.training_step(into_resnet50(m), large) for n, m in players.items()}
slow = cost.time_in_turn(steps, profile(smoke=1, quick=2, full=4))
del steps
at_50 = {n: cost.parameters_and_macs(partial(into_resnet50, m), large[1:]) for n, m in players.items()}
rows = []
for name in MODULES:
    extra = [100 * (a / b - 1) for a, b in zip(at_50[name], at_50["none"], strict=True)]
    clocks = [np.median(ms["ResNet"][name] / ms["ResNet"]["none"]), np.median(slow[name] / slow["none"])]
    rows.append((name, *(f"{e:+.1f} %" for e in extra), *(f"{c:.2f}" for c in clocks)))
heads = ["parameters", "multiply-adds", "time of a step", "(in the ResNet-8 above)"]
plots.table(rows, ["added to ResNet-50", *heads])

# %% [markdown]
# Read the last two columns together. What a module costs is a property of the module *and* its host: a fixed number of small operations weighs much beside eight channels and little beside 256.


# %% tags=["hide-input"]
def size(build, shape):
    return np.array(cost.parameters_and_macs(build, shape), dtype=float)


# %% tags=["hide-input"]
base = {
    "ResNet": size(partial(into_resnet, None), (1, 28, 28)),
    "U-Net": size(partial(into_unet, None), (1, SIDE, SIDE)),
}
added = {
    name: (
        size(partial(into_resnet, m), (1, 28, 28)) - base["ResNet"],
        size(partial(into_unet, m), (1, SIDE, SIDE)) - base["U-Net"],
    )
    for name, m in MODULES.items()
}

# %% [markdown]
# ## The table
#
# The lead over the plain network at equal epochs, with its 95 % interval over seeds, and at equal time. AUC for X-rays and ultrasound, Dice for hearts.

# %%
NET = {"X-rays": "ResNet", "ultrasound": "ResNet", "hearts": "U-Net"}


# %%
def in_the_same_time(name, task):
    """(seeds,): what the plain network reaches in this module's time, between the lengths that were trained."""
    ratio = np.clip(longer[NET[task]][name], LENGTHS[0], LENGTHS[-1])
    curve = np.array([plain[task][k][:, 0] for k in LENGTHS])
    return np.array([np.interp(np.log(ratio), np.log(LENGTHS), column) for column in curve.T])


# %%
equal, timely = {}, {}
for (name, task), scores in found.items():
    equal[name, task] = stats.interval(scores[:, 0] - plain[task][1][:, 0])
    timely[name, task] = scores[:, 0] - in_the_same_time(name, task)
p = {key: lead.p for key, lead in equal.items()}
corrected = dict(zip(p, stats.holm(list(p.values())), strict=True))

# %% tags=["hide-input", "timing"]
none = " ".join(f"{task}: {plain[task][1][:, 0].mean():.3f};" for task in TASKS)
plots.say(f"The plain networks score, at equal epochs: {none[:-1]}.")
rows = []
for name in MODULES:
    cells = [f"{equal[name, t]}" for t in TASKS]
    late = [f"{timely[name, t].mean():+.3f}" for t in TASKS]
    rows.append((name, f"{added[name][0][0]:,.0f}", f"{added[name][0][1] / 1e6:.2f}", *(f"{longer[n][name]:.2f}" for n in longer), *cells, *late))  # fmt: skip
plots.table(
    rows,
    ["module", "parameters added", "M multiply-adds", "time of a ResNet step", "of a U-Net step",
     *TASKS, *(f"{t}, equal time" for t in TASKS)],
)  # fmt: skip

# %% tags=["hide-input"]
sure = [key for key, value in corrected.items() if value < 0.05]
naive = [key for key, value in p.items() if value < 0.05]
better, up = (sum(equal[key].mean > 0 for key in keys) for keys in (equal, naive))
plots.say(
    f"Of {len(p)} comparisons at equal epochs, {better} have a mean above zero. {len(naive)} look sure with p < .05 taken one by one, {up} of them above zero and {len(naive) - up} below; "
    f"after Holm's correction **{len(sure)}** {'is' if len(sure) == 1 else 'are'} left"
    + (": " + ", ".join(f"{n} on {t} ({equal[n, t]})" for n, t in sure) if sure else "")
    + "."
)

# %% [markdown]
# Intervals and p-values come from the same Student's t of one value a seed, so that p is below .05 where the interval leaves zero out. Seeds are all that varies: the test images are the same in every run. Parameters and multiply-adds are those added to the ResNet; times are multiples of the plain network's.
#
# If none is left after the correction, that does not mean that none helps: with thirty tests on five seeds, the smallest p-value passes only if a lead exceeds its standard error more than seven times. And do not count signs: the ten leads of a task are taken from the same five plain runs, and rise or fall together.
#
# ## Score against time

# %%
figure, axes = plots.panels(3, height=3.2)
for axis, task in zip(axes, TASKS, strict=True):
    axis.axhline(0, color="0.6", linewidth=1)
    curve = [plain[task][k][:, 0].mean() - plain[task][1][:, 0].mean() for k in LENGTHS]
    axis.plot(LENGTHS, curve, "k-o", markersize=3, label="plain, trained longer")
    spots = {n: (longer[NET[task]][n], equal[n, task].mean) for n in MODULES}
    light = [spot for n, spot in spots.items() if n in LIGHT]
    axis.plot(*zip(*spots.values(), strict=True), "C0o", markersize=4, label="a module")
    axis.plot(*zip(*light, strict=True), "C1s", markersize=4, label="a light module")
    for n, spot in spots.items():
        axis.annotate(n, spot, (2, 2), textcoords="offset points", fontsize=5.5)
    axis.set(xlabel="time of a step, plain = 1", title=task)
    axis.locator_params(nbins=5)
axes[0].set(ylabel="lead over plain")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)

# %%
plots.show(
    figure,
    alt="Three panels, one a task: lead over the plain network against the time of a training step. Most dots lie close to the zero line; a black line shows what the plain network gains when it is trained longer.",
    caption="Lead at equal epochs against the cost of a step. Black: the plain network, given that much more time.",
    name="fig-16-front",
)  # fmt: skip

# %% [markdown]
# Read it against the black line, not against zero: a module above zero and below the line loses to patience. Mind the scales: they differ from task to task.
#
# ## The Residual Attention Network
#
# Wang and colleagues built a network of attention from the start {cite:p}`wang2017residual`. Beside the *trunk*, whose maps the paper calls $F$, runs a *mask branch*: down, up, and a sigmoid, so that $M$ lies between 0 and 1.
# Multiplying the two would shrink the maps at every module. So they multiply by one plus the mask:
#
# $$ H = (1 + M) \cdot F . $$ (eq-ran)

# %%
plots.show_source(attention.MaskBranch)

# %% [markdown]
# How bad is $M \cdot F$? Stack modules, and look at the size of the maps before training, and at the accuracy after.


# %%
class Stack(nn.Module):
    """A convolution, `n` blocks each with a mask branch, and a classifier: (B, 1, H, W) → logits (B, 2)."""

    def __init__(self, n, residual, channels=8):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.masks = nn.ModuleList(attention.MaskBranch(channels, residual=residual) for _ in range(n))
        self.head = nn.Linear(channels, 2)

    def forward(self, x):
        x, self.sizes = self.stem(x), []
        for mask in self.masks:
            x = mask(x)
            self.sizes.append(x.detach().abs().mean().item())
        return self.head(x.mean((2, 3)))


# %%
COUNTS = profile(smoke=(1, 2), quick=(1, 4), full=(1, 2, 4, 8))
sizes, learnt = {}, {}
for residual in (False, True):
    seed(0)
    net = Stack(COUNTS[-1], residual)
    net(xrays.train.x[:64].cpu())
    sizes[residual] = net.sizes
    for n in COUNTS:
        learnt[residual, n] = []
        for s in range(SEEDS):
            seed(s)
            net = Stack(n, residual)
            fit(net, xrays, steps=STEPS[0], batch_size=64, validations=1, keep="last", seed=s)
            learnt[residual, n].append(accuracy(predict(net, xrays.test.x).cpu(), xrays.test.y.cpu()))

# %%
FORMS = {False: "M · F", True: "(1 + M) · F"}
figure, (left, right) = plots.panels(2)
for residual, label in FORMS.items():
    left.semilogy(range(1, COUNTS[-1] + 1), sizes[residual], "o-", label=label)
    means = [np.mean(learnt[residual, n]) for n in COUNTS]
    right.plot(COUNTS, means, "o-", label=label)
left.set(xlabel="module", ylabel="mean size of the maps")
right.set(xlabel="modules in a row", ylabel="test accuracy")
left.legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Left: mean size of the maps after each module, on a logarithmic axis. With M times F it falls at every module; with one plus M it does not. Right: test accuracy against the number of modules.",
    caption="Stacked attention modules: the size of the maps before training, and the accuracy on X-rays after it (mean over seeds).",
    name="fig-16-stack",
)  # fmt: skip

# %% [markdown]
# ### Does it blend in, and do its maps change with depth?


# %%
def into_vgg(module):
    """A small VGG with `module` before each pooling."""
    net, layers, channels = small_vgg(1, 2, convs=(1, 1), batch_norm=True), [], 0
    for layer in net.features:
        channels = getattr(layer, "out_channels", channels)
        guest = module and isinstance(layer, nn.MaxPool2d)
        layers += [module(channels), layer] if guest else [layer]
    net.features = nn.Sequential(*layers)
    return net


# %%
HOSTS = {
    "ResNet-8": into_resnet,
    "plain twin": partial(into_resnet, shortcut=False),
    "small VGG": into_vgg,
}


# %%
def host_auc(into, module, s):
    net, _ = classifier(partial(into, module), xrays, s)
    return auc(predict(net, xrays.test.x).cpu(), xrays.test.y.cpu()), net


# %%
with_mask = {n: [host_auc(b, attention.MaskBranch, s) for s in range(SEEDS)] for n, b in HOSTS.items()}
without = {n: [host_auc(b, None, s)[0] for s in range(SEEDS)] for n, b in HOSTS.items()}
blend = {n: [a - b for (a, _), b in zip(with_mask[n], without[n], strict=True)] for n in HOSTS}
plots.table(
    [(n, f"{np.mean(without[n]):.3f}", stats.interval(blend[n])) for n in HOSTS],
    ["network", "AUC without", "more with mask branches"],
)

# %%
net = with_mask["ResNet-8"][0][1]
predict(net, xrays.test.x[:200], 200)
branches = [m for m in net.modules() if isinstance(m, attention.MaskBranch)]
maps = [m.weights.float().mean(1, keepdim=True).cpu() for m in branches]
maps = [F.interpolate(m, (28, 28), mode="bilinear")[:, 0] for m in maps]


# %%
def scaled(m):
    return (m - m.min()) / (m.max() - m.min()).clamp(min=1e-6)


# %%
some = [3, 50, 120]
pictures = [xrays.test.x[i, 0].cpu() for i in some for _ in range(len(maps) + 1)]
heat = [h for i in some for h in (torch.zeros(28, 28), *(scaled(m[i]) for m in maps))]
plots.show(
    plots.overlay(pictures, heat, ["X-ray", *(f"stage {k + 1}" for k in range(len(maps)))] * len(some), columns=4, size=1.4),
    alt="Three chest X-rays, each with the attention maps of three stages laid over it. The first stage marks bright places outside the lungs, the last one broad area near the middle.",
    caption="Mask branches of a ResNet-8 by stage, mean over channels, scaled to the full range (PneumoniaMNIST, CC BY 4.0).",
    name="fig-16-maps",
)  # fmt: skip

# %% [markdown]
# Some cautions on what follows. The maps are those of one network, and maps that have nothing to do with each other differ too: that they differ does not say that they differ in a sensible way. The masks of stages 1 to 3 have 28, 14 and 7 pixels a side and are enlarged to 28: the last *must* look broad, and part of the difference is that. And the modules of {numref}`fig-16-stack` have no convolutions between them, which is the worst case for $M \cdot F$. An accuracy of 0.625 is that of always answering “pneumonia”: the figure shows which form *starts* to train at this rate and in these few steps, not where the other would end. The three hosts were trained as in the large table, so the row of the ResNet repeats that of MaskBranch.
#
# ## Verdicts

# %% tags=["hide-input"]
mean = stats.interval(np.mean(list(blend.values()), 0))
claims.observe("C071", mean, where="PneumoniaMNIST, mean over three networks")
claims.observe(
    "C072", 1.0, n=1, where="the abstract says that the attended features change as layers go deeper"
)
most = stats.paired(learnt[True, COUNTS[-1]], learnt[False, COUNTS[-1]])
claims.observe("C073", most, where=f"PneumoniaMNIST, {COUNTS[-1]} modules in a row, {STEPS[0]} steps")


# %% tags=["hide-input"]
def both_networks(leads):
    """(seeds,): mean over modules, then over ResNet (two sets) and U-Net."""
    by = {t: np.mean([leads[n, t] for n in MODULES], 0) for t in TASKS}
    return ((by["X-rays"] + by["ultrasound"]) / 2 + by["hearts"]) / 2


# %% tags=["hide-input"]
gains = {
    "equal epochs": {k: found[k][:, 0] - plain[k[1]][1][:, 0] for k in found},
    "equal time": timely,
}
late = {t: plain[t][LENGTHS[2]][:, 0].mean() - plain[t][LENGTHS[1]][:, 0].mean() for t in TASKS}
flat = all(gain < 0.003 for gain in late.values())
state = "converged" if flat else "unfinished"
for budget, leads in gains.items():
    ci = stats.interval(both_networks(leads))
    claims.observe("C111", ci, where=f"{len(MODULES)} modules, {budget}, {state} trainings")
plots.say(
    f"From {LENGTHS[1]} to {LENGTHS[2]} times the steps the plain networks gain "
    + ", ".join(f"{gain:+.3f} ({task})" for task, gain in late.items())
    + (
        ": they have converged, and equal time may be judged."
        if flat
        else ": somewhere they still learn, so equal time would only punish whatever takes longer, and decides nothing."
    )
)

# %% tags=["hide-input", "timing"]
hosts = {"ResNet-8": ms["ResNet"], "small U-Net": ms["U-Net"], "ResNet-50 at 224 px": slow}
for host, clock in hosts.items():
    slower = [clock[n] / clock["none"] - 1 for n in MODULES]  # (modules, rounds)
    middle = stats.interval(np.median(slower, 0))
    claims.observe("C112", middle, where=f"median over {len(MODULES)} modules, {host}, rounds of timing")


# %% tags=["hide-input"]
def chosen(names):
    """(seeds,): test scores of the module with the best validation scores, mean over the tasks."""
    totals = {n: np.mean([found[n, t].mean(0)[1] for t in TASKS]) for n in names}
    best = max(totals, key=totals.get)
    return best, np.mean([found[best, t][:, 0] for t in TASKS], 0)


# %% tags=["hide-input"]
(small, light), (large, rest) = chosen(LIGHT), chosen([n for n in MODULES if n not in LIGHT])
gap = stats.paired(light, rest)
where = f"{small} against {large}, each chosen on validation data; neither need lead the plain network"
claims.observe("C113", gap, where=where)

# %% [markdown]
# How to read this. Hold each lead against what a change of the training recipe alone did in the tournament of chapter 07, and against its own interval. A module that wins on one set need not win on the next. Many
# modules times three tasks make many chances to be lucky, which is why the correction is there. Above all, the runs are short. While the black lines rise, time is worth much, and *equal time* punishes every slow step; where the plain network has stopped gaining, the columns at equal time become those at equal epochs. C111 reads both budgets, and says beside each whether the plain networks had converged. For C112, look at the host before you drop a module as expensive: SE is in every EfficientNet and in MobileNetV3,
# and so on many phones, for a reason. And C113 says less than it seems: a light module may lose little against the best of the others where neither leads the plain network; and “light” is meant in parameters, see the column of times.
#
# ## At full size
#
# The same code takes more steps: set `STEPS`. There the black lines should be flatter, and the verdicts at equal time may change.
#
# ## Pitfalls in medicine
#
# - **One table, one winner, one paper.** Whoever tries twenty modules and reports the best has reported luck. Count your comparisons.
# - **A map is not a reason.** An attention map that lights up on the lesion does not prove that the answer rests on it; chapter 03 shows a test.
# - **The test set is not for choosing.** The module to ship is chosen on validation patients.
# - **What to try first.** Nothing: train the plain network to the end, with a good recipe. Then, if there is time, SE or ECA at the end of each branch, which are cheap and have lasted; then gates on the skips of a U-Net. Others are less sure: the author of a widely used library of image
#   networks warns in its source that CBAM “can significantly reduce performance on some tasks”. For segmentation, a large independent comparison found that well-trained plain U-Nets hold their own against most networks with attention {cite:p}`isensee2024revisited`.
#
# ## Summary
#
# - A module of equal shape can be put into any block; in a residual branch the shortcut leads around it; in the U-Net nothing does.
# - Compare at equal epochs *and* at equal time: the plain network could have trained longer.
# - Correct for the number of comparisons.
# - Where $M F$ shrinks the maps at every module, $(1 + M) F$ does not; it lets them grow instead.
# - Light in parameters is not light in time: look at both columns before you call a module cheap.
#
# ## Check yourself
#
# **1.** Why is the guest placed before the addition, and not after it?
#
# - **A** After it, the maps would have another shape.
# - **B** Before it, the module has fewer maps to weigh.
# - **C** After it, the module could shut the shortcut too.
# - **D** Before it, the module sees the input of the block.
#
# <details><summary>Answer</summary>
#
# **C.** The shortcut is the way that keeps deep networks trainable, and a poor gate after the sum would block
# it. The shapes (A) are the same at both places.
#
# </details>
#
# **2.** Twenty modules that do nothing are each tested at the 5 % level. How many seem to differ from the plain network, on average?
#
# - **A** none
# - **B** one
# - **C** five
# - **D** twenty
#
# <details><summary>Answer</summary>
#
# **B.** $20 · 0.05 = 1$, and half of the time it seems to help. Whoever reports the best of twenty
# reports that one.
#
# </details>
#
# **3.** Three tests have the p-values 0.01, 0.02 and 0.04. How many stay below 0.05 after Holm's correction?
#
# - **A** none
# - **B** one
# - **C** two
# - **D** three
#
# <details><summary>Answer</summary>
#
# **D.** The smallest is multiplied by 3, the next by 2, the last by 1: 0.03, 0.04 and 0.04. Multiplying all
# by 3, as Bonferroni does, would leave one.
#
# </details>
#
# **4.** All masks are 0.5. What is left of the size of the maps after eight modules of $M \cdot F$? And of
# $(1 + M) \cdot F$?
#
# - **A** a quarter, and four times
# - **B** less than half a per cent, and about 26 times
# - **C** a sixteenth, and 12 times
# - **D** nothing changes, for masks do not touch the shortcut
#
# <details><summary>Answer</summary>
#
# **B.** $0.5^8 = 0.004$ and $1.5^8 = 25.6$. So one plus the mask cures the shrinking by letting the maps
# grow; normalisation takes care of that.
#
# </details>
#
# **5.** With a module, a training step takes 1.5 times as long. At equal epochs the module leads by 0.004.
# The plain network, trained 1.5 times as long, gains 0.006. What do you recommend?
#
# - **A** the module, since it leads at equal epochs
# - **B** the plain network, trained for longer
# - **C** both together, for 0.010
# - **D** a module with fewer parameters
#
# <details><summary>Answer</summary>
#
# **B.** In the same time, patience buys more. C adds two numbers that were never measured together.
#
# </details>
#
# **6.** A module adds nine parameters. A training step takes 1.2 times as long. How can that be?
#
# - **A** It reads and writes all maps once more.
# - **B** Nine parameters take long to train.
# - **C** The optimiser needs more steps.
# - **D** It must have been measured wrongly.
#
# <details><summary>Answer</summary>
#
# **A.** Memory traffic and many small operations take time without weights. “Light” in one column need not be
# light in the other.
#
# </details>
#
# **7.** Seventeen modules are compared on the test patients. The clinic gets the one with the best test
# score, and that score is promised. What was done wrong?
#
# - **A** The module should have been chosen on validation patients.
# - **B** Seventeen is too many for one clinic.
# - **C** The score should have been the mean of all seventeen.
# - **D** Nothing, since no network was trained on the test patients.
#
# <details><summary>Answer</summary>
#
# **A.** A choice made on the test set makes its score too good. The reason in D holds for each module before
# the choice, and no longer for the winner.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: the cheapest
# :label: ex-16-cheap
# Which module adds no parameter at all? Which adds the most time in the U-Net? Predict, then look at the table.
# ```
#
# ```{solution} ex-16-cheap
# :class: dropdown
# SimAM adds none: its gates are a formula. In the U-Net the most time goes to modules that run several convolutions over full maps; those that compare all pairs stay out of its finest level here.
# ```
#
# ```{exercise} ★ Predict: a small effect
# :label: ex-16-two
# Suppose that a module really raises the AUC by 0.01, and that the standard error of the difference is 0.01
# as well. How often will a paired test with two-sided $p < 0.05$ find it?
# ```
#
# ```{solution} ex-16-two
# :class: dropdown
# It finds it where the measured lead exceeds 1.96 standard errors, while the true lead is one. That is the
# chance that a standard normal number exceeds 0.96, about 17 %. In five of six tables such a module looks
# useless; and where it is found, its lead is at least 0.0196, about twice the truth. Small studies miss small
# effects, and exaggerate those that they find.
# ```
#
# ```{exercise} ★★ Implement: one level only
# :label: ex-16-level
# Put SE into the bottleneck of the U-Net alone. How much of its lead, if any, is left, and how much of its cost?
# ```
#
# ```{solution} ex-16-level
# :class: dropdown
# `net.unet.bottleneck.append(attention.SE(128))` on a fresh `SmallUNet()`. Compare with five seeds, paired; the cost in time all but vanishes, since the map is small there.
# ```
#
# ```{exercise} ★★ Implement: the placebo
# :label: ex-16-placebo
# Write a module that multiplies its input by a gate of random fixed numbers between 0 and 1. Enter it in the table. Is it the worst?
# ```
#
# ```{solution} ex-16-placebo
# :class: dropdown
# Register `torch.rand(channels)` as a buffer and multiply. The learnable scale of the batch normalisation before it can undo a fixed gate, so expect it near zero, where many others stand; then check.
# ```
#
# ```{exercise} ★★ Implement: Holm by hand
# :label: ex-16-holm
# Write Holm's correction, and check it against `stats.holm`.
# ```
#
# ````{solution} ex-16-holm
# :class: dropdown
# ```python
# def holm(p):
#     p, order = np.asarray(p), np.argsort(p)
#     factors = np.arange(len(p), 0, -1)
#     found = np.empty(len(p))
#     found[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
#     return found
#
#
# values = np.random.default_rng(0).uniform(size=20) ** 3
# assert np.allclose(holm(values), stats.holm(values))
# ```
#
# The running maximum keeps the order: a larger p-value never ends below a smaller one.
# ````
#
# ```{exercise} ★★★ Investigate: how many seeds?
# :label: ex-16-seeds
# From the spread of the leads over seeds, compute how many seeds would be needed to tell a lead of .005 from zero.
# ```
#
# ```{solution} ex-16-seeds
# :class: dropdown
# With standard deviation $d$ of the paired difference, about $n = (2.8\, d / 0.005)^2$ gives 80 % power. With $d = .01$ that is 32 seeds for one module, and the correction for ten or twenty modules asks for nearly twice as many.
# ```

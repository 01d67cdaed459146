# %% [markdown]
# # AlexNet
#
# *Is it a large LeNet, or do its new parts matter?*
#
# In 2012 one network, AlexNet, won ImageNet's contest of naming photographs, with 1.2 million of them to learn from, by so much that a field changed. It has a thousand times
# the parameters of LeNet-5. The review calls it “similar to LeNet”, with “more filters”. **Is it a large LeNet, or do
# its new parts matter?** We take the parts out one at a time and look.
#
# After this chapter you can name what AlexNet added to LeNet, compute a local response normalisation by hand, run an
# ablation, and read a Grad-CAM map with the right amount of doubt.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from medlib import claims, cost, evaluate, explain, fit, load, plots, profile, repeat, seed
from medlib.augment import random_shift
from medlib.data import Split
from medlib.metrics import accuracy, auc
from medlib.models import VGG, AlexNet, EfficientNet, LeNet, LeNet5, MobileNetV1, MobileNetV3, ResNet
from medlib.models.alexnet import LAYERS_2012, LAYERS_2014, LocalResponseNorm, small_alexnet
from medlib.models.mobilenet_v3 import SMALL
from medlib.pretrained import copy_weights, train_full_size

# %%
SEEDS = profile(smoke=2, quick=3, full=5)
STEPS = profile(smoke=4, quick=80, full=200)
BATCH = 64

# %% [markdown]
# ## Where we are in the story
#
# The networks of this book's first half appeared over twenty-one years, all but one within seven. The review shows them on a
# timeline, its figure 1. Here is ours. Each parameter count is computed, from the code of this book.

# %%
history = {
    "LeNet-5": (1998, LeNet5, (1, 32, 32)),
    "AlexNet": (2012, AlexNet, (3, 227, 227)),
    "VGG-16": (2014, VGG, (3, 224, 224)),
    "ResNet-18": (2015, ResNet, (3, 224, 224)),
    "MobileNetV1": (2017, MobileNetV1, (3, 224, 224)),
    "MobileNetV3-Small": (2019, partial(MobileNetV3, table=SMALL), (3, 224, 224)),
    "EfficientNet-B0": (2019, EfficientNet, (3, 224, 224)),
}
counted = {name: cost.parameters_and_macs(build, shape) for name, (_, build, shape) in history.items()}

# %%
figure, (old, new) = plots.panels(2, width=7.2, height=3.6, sharey=True, width_ratios=(1, 3))
for axis, years in ((old, (1996, 2001)), (new, (2011, 2021.5))):
    for name, (year, *_) in history.items():
        if years[0] <= year <= years[1]:
            size, work = counted[name]
            axis.scatter(year, size, s=3 * np.sqrt(work / 1e5) + 12, alpha=0.7)
            axis.annotate(
                f" {name}",
                (year, size),
                xytext=(6, 11 if name == "VGG-16" else 8),
                textcoords="offset points",
                fontsize=8,
            )
    axis.set(xlim=years, yscale="log", ylim=(2e4, 8e8), xlabel="year of the paper")
old.set(ylabel="parameters", xticks=[1998])

# %%
plots.show(
    figure,
    alt="Timeline from 1998 to 2019. Each network is a dot; its height is the number of parameters on a logarithmic "
    "axis, its area grows with the multiply-adds for one image.",
    caption="The networks of chapters 02 to 07. Height: parameters. The area of a dot grows with the square root of the multiply-adds for one image.",
    name="fig-timeline",
)

# %% [markdown]
# The sources, in order of publication: LeNet-5 {cite:p}`lecun1998gradient`, AlexNet {cite:p}`krizhevsky2012imagenet`,
# VGG {cite:p}`simonyan2014vgg`, ResNet {cite:p}`he2016resnet`, MobileNetV1 {cite:p}`howard2017mobilenets`, MobileNetV3
# {cite:p}`howard2019mobilenetv3`, EfficientNet {cite:p}`tan2019efficientnet`. Before them stand the Neocognitron of
# 1980 {cite:p}`fukushima1980neocognitron` and the LeNet that read zip codes in 1989
# {cite:p}`lecun1989backpropagation`. Between them stand others that we count but do not build: GoogLeNet
# {cite:p}`szegedy2015going`, SqueezeNet {cite:p}`iandola2016squeezenet`, DenseNet {cite:p}`huang2017densenet`. The
# networks for segmentation follow from chapter 10 on.
#
# ## The problem, seen on our data
#
# We stay with the chest X-rays of chapter 02. From now on every chapter looks at the same eight test images: the first
# four of each class.

# %%
xray = load("pneumoniamnist")
data = xray.standardise()
truth = data.test.y.cpu().numpy()
cases = explain.cases(xray.test)
names = [f"#{i} {xray.classes[xray.test.y[i]]}" for i in cases]

# %%
plots.show(
    plots.grid(xray.test.x[cases], names, columns=8),
    alt="Eight small chest X-rays, four labelled normal and four labelled pneumonia, with their numbers.",
    caption="The eight test images that every chapter looks at (PneumoniaMNIST, CC BY 4.0).",
    name="fig-03-cases",
)

# %% [markdown]
# ## The ideas
#
# AlexNet has LeNet's plan: convolutions and pooling, then dense layers. Five things are new in sections 3 and 4 of its
# paper {cite:p}`krizhevsky2012imagenet`.
#
# **ReLU.** The function that bends the numbers between two layers is the {term}`activation function`. LeNet's is tanh. For a large input tanh is flat: it *saturates*, its slope is almost zero,
# and a weight before it hardly learns. The rectified linear unit {cite:p}`nair2010rectified`
#
# $$ \mathrm{ReLU}(x) = \max(0, x) $$ (eq-relu)
#
# has slope 1 for every positive input. For a negative one its slope is 0, but a unit is seldom negative for all images.

# %%
x = torch.linspace(-4, 4, 200)
figure, axes = plots.panels(2)
for name, function in {"tanh": torch.tanh, "ReLU": torch.relu}.items():
    axes[0].plot(x, function(x), label=name)
    slope = torch.func.vmap(torch.func.grad(function))(x)
    axes[1].plot(x, slope, label=name)
axes[0].set(xlabel="input", ylabel="output", ylim=(-1.5, 4))
axes[1].set(xlabel="input", ylabel="slope")
axes[0].legend()

# %%
plots.show(
    figure,
    alt="Left: tanh is S-shaped, ReLU is zero and then a straight line. Right: their slopes; that of tanh is a bell.",
    caption="Two activation functions and their slopes. Where the slope is near zero, an image teaches the weights before it next to nothing.",
    name="fig-relu",
)

# %% [markdown]
# **Dropout** {cite:p}`srivastava2014dropout`. During training each unit of a dense layer is set to zero with
# probability one half, anew for each image. A unit cannot rely on one particular neighbour.
#
# **Overlapping pooling.** LeNet's pooling windows stand side by side: 2 × 2, moved by 2. AlexNet's are 3 × 3 and moved by 2 (a {term}`stride` of 2), so neighbours share a row.
#
# **Augmentation.** Each image is cropped, mirrored and tinted at random, so that the network never sees quite the same
# image twice.
#
# **Local response normalisation** (LRN). Let $a_c$ be the value of map $c$ at one place of the image. It is divided
# by the activity of its neighbours among the maps, at the same place:
#
# $$ b_c = \frac{a_c}{\left( k + \alpha \sum_{c' = c - 2}^{c + 2} a_{c'}^2 \right)^{\beta}} . $$ (eq-lrn)
#
# The paper sets $k = 2$, $\alpha = 10^{-4}$ and $\beta = 0.75$. A map that shouts makes its neighbours quieter.
#
# And it is deeper: five convolutions where LeNet has two.
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C015", "C016")

# %% [markdown]
# ## The key block by hand
#
# Equation {eq}`eq-lrn`, with a loop over the maps. At the first and last maps the sum has fewer terms.


# %%
def normalise(a, k=2.0, alpha=1e-4, beta=0.75):
    """a (C, H, W) → the same shape."""
    b = torch.empty_like(a)
    for c in range(len(a)):
        neighbours = a[max(0, c - 2) : c + 3]
        b[c] = a[c] / (k + alpha * neighbours.square().sum(0)) ** beta
    return b


# %% tags=["nbval-check-output"]
a = 100 * torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(0))
torch.testing.assert_close(normalise(a), LocalResponseNorm()(a[None])[0])
print("by hand equals medlib: yes;", "largest value before", f"{a.max():.0f}, after {normalise(a).max():.1f}")

# %% [markdown]
# ## The source, and the paper's numbers
#
# One class holds the network of 2012, its one-tower successor of 2014 {cite:p}`krizhevsky2014weird`, which torchvision
# ships as `alexnet`, and our small {term}`twin` for 28 × 28 images. They differ in the table of layers.

# %%
plots.show_source(AlexNet)

# %%
with torch.device("meta"):
    paper = AlexNet()
    x = torch.empty(1, 3, 227, 227)
    rows = []
    for layer in [*paper.features, nn.Flatten(), *paper.classifier]:
        x = layer(x)
        if n := sum(p.numel() for p in layer.parameters()):
            groups = getattr(layer, "groups", 1)
            rows.append((type(layer).__name__, tuple(x.shape[1:]), groups, f"{n:,}"))

# %%
plots.table(rows, ["layer", "output", "groups", "parameters"])

# %% [markdown]
# `groups` is the trace of two graphics cards with 3 GB of memory each. Every card held half of the maps, and in three of
# the layers a map sees only the maps of its own card. PyTorch has an argument for that, and it halves the weights of
# these layers.

# %% tags=["nbval-check-output"]
ungrouped = tuple((m, k, s, p, 1, n, o) for m, k, s, p, _, n, o in LAYERS_2012)
for label, layers in (
    ("2012, two groups", LAYERS_2012),
    ("2012, one group", ungrouped),
    ("2014", LAYERS_2014),
):
    print(
        f"{label:17} {cost.parameters_and_macs(lambda layers=layers: AlexNet(layers=layers), (3, 227, 227))[0]:,} parameters"
    )

# %%
from torchvision.models import alexnet

theirs, ours = alexnet(num_classes=2).eval(), AlexNet(3, 2, layers=LAYERS_2014).eval()
copy_weights(ours, theirs.state_dict())
photo = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
torch.testing.assert_close(ours(photo), theirs(photo), rtol=1e-5, atol=1e-5)
print("On copied weights ours equals torchvision's alexnet to 1e-5.")
del theirs, ours

# %% [markdown]
# ## Is ReLU faster than tanh?
#
# Figure 1 of the paper has become famous: on small photographs, a network with ReLU reached a training error of 25 %
# about six times sooner than the same network with tanh. We repeat it on digits, where 90 % is the error of guessing.
# The network is our small twin without dropout and LRN; the optimiser is stochastic gradient descent with momentum (each step keeps part of the step before it) and a constant rate. As in the paper, each activation gets the learning rate that suits it best, out of six.

# %%
digits = load("mnist10k").standardise()
some = 500  # the error is measured on these training images
digits = replace(digits, val=Split(digits.train.x[:some], digits.train.y[:some]))
sgd = partial(torch.optim.SGD, momentum=0.9)


# %%
def constant(optimizer, steps):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


# %%
def steps_to_target(activation, lr, s):
    """Steps until the training error is at most 25 %; infinite where that never happens."""
    seed(s)
    model = small_alexnet(1, 10, activation=activation, lrn=False, dropout=0.0)
    with torch.no_grad():
        model.classifier[-1].weight.mul_(0.1)  # first logits near 0, so a first loss near chance
    options = {"batch_size": BATCH, "validations": LIMIT // 7, "target": 0.75, "score": accuracy}
    try:
        h = fit(model, digits, steps=LIMIT, lr=lr, seed=s, optimizer=sgd, schedule=constant, **options)
    except FloatingPointError:
        return np.inf
    return h.step[-1] if h.reached_target else np.inf


# %%
LIMIT = profile(smoke=7, full=140)  # steps; an epoch has 109
rates = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
steps = {
    (activation.__name__, lr): [
        steps_to_target(activation, lr, s) for s in range(profile(smoke=1, quick=2, full=3))
    ]
    for activation in (nn.ReLU, nn.Tanh)
    for lr in rates
}
medians = {key: np.median(values) for key, values in steps.items()}
rows = [(name, *(f"{medians[name, lr]:.0f}" for lr in rates)) for name in ("ReLU", "Tanh")]

# %%
plots.table(rows, ["median steps to 25 % training error", *(f"rate {lr}" for lr in rates)])

# %% tags=["hide-input"]
best = {name: min(rates, key=lambda lr: medians[name, lr]) for name in ("ReLU", "Tanh")}
fastest = {name: medians[name, best[name]] for name in best}
plots.say(
    f"At its best rate ReLU takes **{fastest['ReLU']:.0f}** steps and tanh **{fastest['Tanh']:.0f}** "
    "(the error is looked at every 7 steps; “inf” means: not within the limit). "
    + (
        "The paper's factor of six does not appear here."
        if fastest["Tanh"] < 3 * fastest["ReLU"]
        else "ReLU is the faster one here too, as in the paper."
    )
)

# %% [markdown]
# Whichever is ahead here, this neither repeats nor refutes the paper. Much differs: the images are digits and not photographs, their network had four layers, and their weights were drawn small, where ours have He's
# *initialisation* {cite:p}`he2015delving`. That one is made to keep the variance of a signal from layer to layer, but it does not know of the max pooling
# between our layers, which keeps the largest of nine values: with ReLU the signal grows on its way, so that a fresh network would begin with confident nonsense, and a tanh in its place hides that by saturating. This is why we shrank the last layer, in both arms:
# otherwise the comparison is one of initialisations. In practice ReLU is the default for other reasons than a race over a few
# epochs: it is cheap, it keeps its slope however large its input grows, and initialisation and normalisation have been worked out for it.
# What helps depends on what else is there. That is why the next section takes parts out *of the whole*.

# %% [markdown]
# ## The ablation: one part out at a time
#
# An {term}`ablation` removes one part and keeps all else. Each row below trains five networks, with five seeds. All take the same
# number of steps with the same optimiser, AdamW {cite:p}`loshchilov2019adamw`. The weights that score best on the
# validation images are kept. The {term}`augmentation` is a random shift by up to two pixels; mirroring would put the heart on the wrong side.
#
# Four cautions before we look. Each network sees every image less than three times, so dropout and augmentation have little learning by heart to prevent. On standardised images the sum in {eq}`eq-lrn` is tiny beside $k$, so LRN is nearly a division by $2^{0.75}$, 1.68. All rows share one learning rate, tuned for
# none of them; in work of your own, choose it for each row on validation images. And the row of tanh changes the initialisation too, since He's was made for ReLU.

# %%
shift = random_shift(2)
options = {"seeds": SEEDS, "steps": STEPS, "batch_size": BATCH, "validations": 6}
variants = {
    "AlexNet, small twin": (small_alexnet, shift),
    "tanh for ReLU": (partial(small_alexnet, activation=nn.Tanh), shift),
    "no dropout": (partial(small_alexnet, dropout=0.0), shift),
    "no LRN": (partial(small_alexnet, lrn=False), shift),
    "no overlap in pooling": (partial(small_alexnet, overlap=False), shift),
    "no augmentation": (small_alexnet, None),
}
runs = {name: repeat(build, data, augment=augment, **options) for name, (build, augment) in variants.items()}

# %% [markdown]
# And two rivals for claim C016: a LeNet whose layers are all made wider until it has as many parameters (most of its weights are dense, so that takes few additional maps), and one made wider until it does as many multiply-adds. If “more filters” were the difference, one of them would do as well. Both have ReLU already, and two
# convolutions.


# %%
def wide_lenet(which):
    """The narrowest LeNet with at least the twin's parameters (which = 0) or multiply-adds (1)."""
    goal = cost.parameters_and_macs(small_alexnet, (1, 28, 28))[which]
    builds = (partial(LeNet, 1, 2, width=w) for w in np.arange(1, 12, 0.05))
    return next(build for build in builds if cost.parameters_and_macs(build, (1, 28, 28))[which] >= goal)


# %%
rivals = {
    "LeNet": partial(LeNet, 1, 2),
    "LeNet, equal parameters": wide_lenet(0),
    "LeNet, equal work": wide_lenet(1),
}
for name, build in rivals.items():
    variants[name] = (build, shift)
    runs[name] = repeat(build, data, augment=shift, **options)

# %%
full = runs["AlexNet, small twin"]
table = {name: [r.interval(metric) for metric in (auc, accuracy)] for name, r in runs.items()}
change = {name: r.interval(auc, full) for name, r in runs.items() if r is not full}
rows = [
    (name, f"{cost.parameters(variants[name][0]()):,}", *map(str, table[name]), str(change.get(name, "")))
    for name in runs
]
usual = (truth == 1).mean()
rows.append(("always the larger class", "", "0.5", f"{max(usual, 1 - usual):.3f}", ""))

# %%
plots.table(rows, ["PneumoniaMNIST", "parameters", "test AUC", "test accuracy", "AUC against the first row"])

# %%
plots.show(
    plots.intervals(change, xlabel="test AUC minus that of the small AlexNet", references={"no change": 0}),
    alt="For each variant a dot with a horizontal bar: the difference in test AUC from the small AlexNet.",
    caption="What each part is worth on PneumoniaMNIST: the change in test AUC when it is taken out, with 95 % "
    "intervals over seeds and test images. Left of the line: the part helped. The last three rows are other networks.",
    name="fig-ablation",
)

# %% tags=["hide-input"]
parts = [n for n in change if n not in rivals]
helped = [n for n in parts if change[n].high < 0]
hurt = [n for n in parts if change[n].low > 0]
plots.say(
    f"Of {len(parts)} changes to a part, {len(helped)} lower the AUC by more than the noise"
    + (f" ({'; '.join(helped)})" if helped else "")
    + f", {len(hurt)} raise it"
    + (f" ({'; '.join(hurt)})" if hurt else "")
    + ". For the rest this test set cannot tell: their effect, if there is one, is smaller than what 624 images can show. The rivals, AUC minus that of the twin: "
    + "; ".join(f"*{n}* **{change[n]}**" for n in rivals)
    + "."
)

# %% [markdown]
# So is it a large LeNet, or do its new parts matter? Read a row whose interval holds zero as “too small to be seen with 624 test images after three passes”, and not as “no effect”: each network has
# hardly begun to overfit, and dropout and augmentation are cures for overfitting. On ImageNet, trained for ninety passes, the paper reports that without dropout its network overfits substantially, and without augmentation it would have had to be much smaller.

# %% [markdown]
# ## A second data set
#
# The same two rivals on ultrasound images of the breast, 546 to train on and 156 to test.

# %%
breast = load("breastmnist").standardise()
breast_runs = {
    name: repeat(variants[name][0], breast, augment=shift, **options)
    for name in ("AlexNet, small twin", "LeNet, equal parameters")
}
rows = [(name, *(str(r.interval(metric)) for metric in (auc, accuracy))) for name, r in breast_runs.items()]

# %%
common = np.bincount(breast.test.y.cpu()).max() / len(breast.test.y)
plots.table(
    [*rows, ("always the larger class", "0.5", f"{common:.3f}")], ["BreastMNIST", "test AUC", "test accuracy"]
)

# %% tags=["hide-input"]
ci = breast_runs["AlexNet, small twin"].interval(auc, breast_runs["LeNet, equal parameters"])
plots.say(
    f"On ultrasound the twin's AUC minus that of the wider LeNet is **{ci}**"
    + (", which may be chance." if ci.low <= 0 <= ci.high else ".")
)

# %% [markdown]
# ## Look: filters, maps, and where the network looks
#
# The first layer's kernels, and what they make of one X-ray.

# %%
model = full.model
first = model.features[0]
kernels = first.weight.detach().float().cpu()
maps = explain.feature_maps(model, first, data.test.x[cases[:1]])[0]

# %%
plots.show(
    plots.grid(
        [*kernels, *maps], [*(f"kernel {i}" for i in range(16)), *(f"map {i}" for i in range(16))], columns=8
    ),
    alt="Sixteen kernels of five by five pixels, and below them the sixteen maps they make of one chest X-ray.",
    caption="Above: the sixteen kernels of the first layer. Below: their maps of the first of our eight cases.",
    name="fig-03-filters",
)

# %% [markdown]
# Which part of an image speaks for a class? **Grad-CAM** {cite:p}`selvaraju2017gradcam` draws a {term}`class activation map`. It asks the last convolution. Let
# $A_c$ be its map $c$ and $s$ the logit of the class. The mean slope of $s$ over the map is its weight, $w_c$; the map of the image
# is $\mathrm{ReLU}(\sum_c w_c A_c)$, enlarged to the image. We use the implementation in Captum
# {cite:p}`kokhlikyan2020captum`.

# %%
plots.show_source(explain.grad_cam)


# %%
def last(model):
    """The last convolution with its activation, before the last pooling."""
    return model.features[-2]


# %%
maps = explain.grad_cam(model, last(model), data.test.x[cases], data.test.y[cases])
plots.show(
    plots.overlay(xray.test.x[cases], maps, names, columns=8),
    alt="The eight X-rays with coloured patches where the last convolution speaks for the true class.",
    caption="Grad-CAM of the true class for our eight cases. A plain image: nothing in the layer speaks for the class.",
    name="fig-03-gradcam",
)

# %% [markdown]
# Such maps look convincing, and that is the danger. The last maps here have 6 × 6 values, so each is *drawn* on nearly five by five pixels;
# what it has *seen* is the whole image. Ask of each map whether it lies on a lung: pneumonia does. We cannot outline lungs on 28 × 28 pixels, but we can ask how much of a map lies in
# the middle of the image, where heart, spine and mediastinum stand.

# %%
n = profile(smoke=16, full=200)
everywhere = explain.grad_cam(model, last(model), data.test.x[:n], data.test.y[:n])
middle = everywhere[..., 9:19].sum((1, 2)) / everywhere.sum((1, 2))  # NaN where the map is flat

# %% tags=["hide-input"]
plots.say(
    f"On average **{100 * middle.nanmean():.0f} %** of a map's weight lies in the ten middle columns of the 28; spread evenly, it would be 36 %."
)

# %% [markdown]
# The more of the weight lies there, the less the network looks at lungs. It need not look at them to score well: small children and very sick ones are X-rayed lying down, from the front, which
# changes the shape of the heart and the mediastinum on the image. A network that reads how a child was positioned has learnt a *shortcut*, and would fail where sick and healthy children are
# positioned alike.
#
# Before such a story is believed, the map itself has to be tested. Some methods paint the same picture whatever the network has learnt; Grad-CAM did not, in the study that found this {cite:p}`adebayo2018sanity`. So we
# randomise all weights, compute the map again, and compare. If the two agree, the map was never about the
# network. One random network agrees or disagrees by chance, so we take many, and hold them against each other too.

# %%
found_maps = explain.sanity(model, last, data.test.x[:n], data.test.y[:n], networks=profile(smoke=4, full=20))

# %% tags=["hide-input"]
plots.say(explain.sanity_says(found_maps))

# %% [markdown]
# And the mistakes, the surest first.

# %%
result = evaluate(model, data.test)
worst = explain.surest_mistakes(result)
maps = explain.grad_cam(model, last(model), data.test.x[worst], result.logits[worst].argmax(1))

# %%
plots.show(
    plots.overlay(xray.test.x[worst], maps, [f"#{i} is {xray.classes[truth[i]]}" for i in worst], columns=8),
    alt="Eight X-rays on which the network was most confidently wrong, with coloured patches of Grad-CAM.",
    caption="The eight surest mistakes of the first seed, with the Grad-CAM of the class that was wrongly chosen.",
    name="fig-03-worst",
)

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
year = {"AlexNet at NeurIPS": 2012, "reprint in the Communications of the ACM, the review's reference": 2017}
claims.observe("C015", min(year.values()) - 2012, n=len(year), where="years of the paper and of its reprint")

# %% tags=["hide-input"]
for where, r in (("PneumoniaMNIST", runs), ("BreastMNIST", breast_runs)):
    ci = r["AlexNet, small twin"].interval(auc, r["LeNet, equal parameters"])
    claims.observe("C016", ci, n=SEEDS, where=f"{where}, equal parameters and steps")
ci = full.interval(auc, runs["LeNet, equal work"])
claims.observe("C016", ci, n=SEEDS, where="PneumoniaMNIST, equal multiply-adds and steps")

# %% [markdown]
# The rule asks for a difference of at most 0.02 in AUC. “Supported” needs the whole interval inside that margin, which 624 test images can give and the 156 of BreastMNIST hardly can. So a verdict of
# “undecided” here speaks of the size of the test set as much as of the networks.
#
# ## At full size
#
# Nobody trains 57 million parameters on 4,708 images from nothing. What practice does first is **transfer learning**: take weights that were trained on ImageNet, replace the last layer, and train on with a small
# learning rate. On a GPU this cell does so with the one-tower network, on X-rays enlarged to
# 224 × 224 pixels, with torchvision's weights where they can be fetched. (Enlarging fits the network; it brings back no detail.) Elsewhere it takes two steps, which show that
# the path works; the loss that it prints then is no result.

# %%
train_full_size(AlexNet(1, 2, layers=LAYERS_2014), xray.standardise(), "alexnet")

# %% [markdown]
# ## What it costs
#
# Milliseconds for one image in a batch of 64, in turn, so that a busy moment of the machine hits all alike.

# %% tags=["timing"]
networks = {
    name: variants[name][0] for name in ("LeNet", "LeNet, equal parameters", "AlexNet, small twin", "no LRN")
}
times = cost.time_in_turn(
    {name: cost.forward(build(), (BATCH, 1, 28, 28)) for name, build in networks.items()}
)
for name, build in networks.items():
    size, work = cost.parameters_and_macs(build, (1, 28, 28))
    print(
        f"{name:20} {size:8,} parameters {work:10,} multiply-adds {np.median(times[name]) / BATCH:.3f} ms an image"
    )

# %% [markdown]
# LRN has no parameters and hardly any multiply-adds, yet it takes time: it reads and writes every value of the
# largest maps. VGG's authors measured no gain from it and left it out.
#
# ## Pitfalls in medicine
#
# - **Mirroring is not harmless.** A mirrored chest has its heart on the right. Whether that matters depends on the
#   question; for photographs of cats it does not.
# - **A heat map is not a finding.** It says which patch moved a logit. It does not say why, and it does not say that
#   there is fluid in it.
# - **An ablation is about one setting.** A part that adds nothing on 28 × 28 pixels may be needed on 224 × 224, and the
#   other way round.
# - **Eight rows, eight chances.** With enough rows one interval will exclude zero by luck. Read single rows with care;
#   chapter 16 corrects for it.
#
# ## Summary
#
# - AlexNet keeps LeNet's plan and adds ReLU, dropout, LRN, overlapping pooling and augmentation.
# - Most of its parameters are in dense layers. Its groups come from two graphics cards.
# - An ablation takes one part out of the whole and needs seeds and intervals.
# - What a part is worth depends on what else is there: the initialisation, the learning rate, the length of the training. ReLU is today's default; a race over a few epochs is no
#   reason against it.
# - Grad-CAM shows which patches speak for a class. Test it by randomising the weights before you believe it.
#
# ## Check yourself
#
# **1.** A convolution has 96 input maps, 256 output maps, 5 × 5 kernels and two groups. How many weights has
# it?
#
# - **A** 614,400
# - **B** 153,600
# - **C** 1,228,800
# - **D** 307,200
#
# <details><summary>Answer</summary>
#
# **D.** Each output map sees the 48 inputs of its own group: $256 · 48 · 25$. A forgets the groups. B halves
# both the inputs and the outputs: but every output map is still there.
#
# </details>
#
# **2.** The input of a tanh is 4, where its slope is about 0.001. What does that do to the weight before it?
#
# - **A** It grows without limit, since the output is near 1.
# - **B** It is set to zero, like a unit in dropout.
# - **C** It hardly learns, since its gradient is multiplied by the slope.
# - **D** It learns fast, since the output is so certain.
#
# <details><summary>Answer</summary>
#
# **C.** By the chain rule, the gradient of the weight has the slope as a factor. ReLU has slope 1 there. D
# takes a large output for a large gradient.
#
# </details>
#
# **3.** In dropout with $p = 1/2$, a unit is either set to zero or divided by $1 - p$. Why divided?
#
# - **A** so that the mean that reaches the next layer is the same as without dropout
# - **B** so that the surviving units learn at twice the learning rate
# - **C** so that the weights stay small, as with weight decay
# - **D** so that no unit is set to zero twice in a row
#
# <details><summary>Answer</summary>
#
# **A.** Half of the time twice the value, half of the time zero: the mean is the value. At test time nothing
# is dropped, and the next layer finds the mean it is used to. B describes a side effect, not the reason.
#
# </details>
#
# **4.** Two neighbouring maps have the values 3 and 4 at one place, all others are 0, and both see each other
# in Equation {eq}`eq-lrn`. What is the ratio of the two after the normalisation?
#
# - **A** 1 : 1, for LRN makes maps equally loud
# - **B** 9 : 16, for the values are squared
# - **C** 4 : 3, for the louder map is made quieter
# - **D** 3 : 4, for both are divided by the same number
#
# <details><summary>Answer</summary>
#
# **D.** Both sums hold the same squares, so the divisor is the same. LRN makes neighbours quieter *together*;
# A would be a normalisation of each map by itself.
#
# </details>
#
# **5.** You take out one part of a network. The AUC changes by −0.004, with the interval [−0.02, 0.01]. What
# have you learnt?
#
# - **A** The part is useless, at least on these images.
# - **B** The part helps, if only by a very small amount.
# - **C** Its effect, if any, is smaller than this test can show.
# - **D** The part does harm on some seeds and helps on others.
#
# <details><summary>Answer</summary>
#
# **C.** The interval reaches from a loss that matters to a small gain. A is the usual mistake: no evidence of
# an effect is not evidence of none.
#
# </details>
#
# **6.** A table shows twenty parts taken out one by one, each with a 95 % interval. Suppose none of the parts
# has any effect. How many intervals do you expect to exclude 0?
#
# - **A** none
# - **B** about one
# - **C** about five
# - **D** about nineteen
#
# <details><summary>Answer</summary>
#
# **B.** Each interval misses the truth in 5 % of cases, and $20 · 0.05 = 1$. That one row would look like a
# discovery.
#
# </details>
#
# **7.** A network tells sick chests from healthy ones almost without error. Grad-CAM lights up a corner of
# the image, where one hospital prints a letter. What now?
#
# - **A** Trust the score: Grad-CAM is a picture and not a proof.
# - **B** Look whether that letter goes together with the label in the data.
# - **C** Train longer, until Grad-CAM moves to the lung.
# - **D** Hide the corner in the test images only, and report that score.
#
# <details><summary>Answer</summary>
#
# **B.** Where one hospital sends more of the sick, its letter is a {term}`confounder`: the network reads the
# hospital. The remedy must be in the training data too; D only shows that the network was misled.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: the price of a larger image
# :label: ex-03-side
# The layers of 2012 give maps of 6 × 6 for images of 227 × 227. How many parameters would the first dense
# layer have for images of 291 × 291, without the adaptive pooling?
# ```
#
# ```{solution} ex-03-side
# :class: dropdown
# 291 → 71 → 35 → 17 → 8: maps of 8 × 8. 256 · 64 · 4096 + 4096 = 67,112,960, against 37,752,832 before. The
# dense layer alone would be larger than the whole network was.
# ```
#
# ```{exercise} ★ Predict: does overlap change the size?
# :label: ex-03-overlap
# A map of 55 × 55 is pooled at a stride of 2, with windows of 2 × 2 or of 3 × 3. How large is each result?
# And for a map of 28 × 28?
# ```
#
# ```{solution} ex-03-overlap
# :class: dropdown
# The side is $\lfloor (n - k) / 2 \rfloor + 1$. For 55: $\lfloor 53/2 \rfloor + 1 = 27$ and $\lfloor 52/2
# \rfloor + 1 = 27$, the same. For 28: 14 and 13. So taking the overlap out may also change the size of the
# maps, which an ablation has to watch; our network's adaptive pooling evens it out.
# ```
#
# ```{exercise} ★★ Implement: inverted dropout
# :label: ex-03-dropout
# Write `dropout(x, p)` that sets each value to zero with probability `p` and divides the others by `1 - p`.
# Check on a long vector of ones that its mean stays 1.
# ```
#
# ````{solution} ex-03-dropout
# :class: dropdown
# ```python
# def dropout(x, p):
#     return x * (torch.rand_like(x) >= p) / (1 - p)
#
#
# dropout(torch.ones(1_000_000), 0.5).mean()
# ```
# ````
#
# ```{exercise} ★★ Implement: Grad-CAM by hand
# :label: ex-03-cam
# Compute the maps of Grad-CAM with `torch.autograd.grad`, and compare them with `explain.grad_cam`.
# ```
#
# ````{solution} ex-03-cam
# :class: dropdown
# ```python
# def cam(model, layer, x, k):
#     kept = []
#     hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
#     score = model.eval()(x)[:, k].sum()
#     hook.remove()
#     (slope,) = torch.autograd.grad(score, kept[0])
#     return (slope.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu().detach()
# ```
#
# Summing the scores over the batch is allowed: each image's maps touch only its own score. `explain.grad_cam`
# also enlarges the maps to the image, bilinearly, and divides each by its largest value.
# ````
#
# ```{exercise} ★★★ Investigate: where does ReLU win?
# :label: ex-03-relu
# Repeat the comparison of ReLU and tanh with the paper's own start: weights from a normal distribution with
# standard deviation 0.01, and biases of 1 in some of the layers after the first. Then with ten times that
# deviation. State your guess first.
# ```
#
# ```{solution} ex-03-relu
# :class: dropdown
# Loop over `model.modules()` and use `nn.init.normal_` and `nn.init.constant_`. With 0.01 our narrow twin may
# not learn at all within the limit, with either function: the signal shrinks by a large factor in each layer.
# Compare the standard deviation of the last maps at the start; it explains most of what you see.
# ```
#
# ```{exercise} ★★★ Investigate: a letter in the corner
# :label: ex-03-marker
# Paint a white square of 3 × 3 pixels into the corner of every *training and validation* image with
# pneumonia. Train the small AlexNet. What are its test AUCs with the square in the sick test images, without
# it, and with it in the healthy ones? What does Grad-CAM show?
# ```
#
# ````{solution} ex-03-marker
# :class: dropdown
# ```python
# def marked(split, who):
#     x = split.x.clone()
#     x[split.y == who, :, :3, :3] = x.max()
#     return Split(x, split.y)
#
#
# tricked = replace(data, train=marked(data.train, 1), val=marked(data.val, 1), test=marked(data.test, 1))
# ```
#
# Train on `tricked` and evaluate on three test sets: `tricked.test`, `data.test` and `marked(data.test, 0)`.
# Expect an AUC near 1 with the square, less than the plain network's without it, and below one half with the
# square on the wrong class: the network has learnt to read the square first. Grad-CAM points at the corner.
# The pitfall: with a validation set that has the square too, nothing in training warns you. Random shifts
# move the square, and do not remove it.
# ````

# %% [markdown]
# # VGG
#
# *Where should additional parameters go?*
#
# In 2014 two researchers asked what happens if a network has nothing but small kernels, and more and more of them in a
# row. Their networks, known as VGG, came second in that year's contest and are still used. The review concludes that “stacking more layers
# was the best way to improve the accuracy”. **If you may add parameters to a network, should it get deeper or wider?**
# And does deeper stay better for ever?
#
# After this chapter you can compute a receptive field, say where the parameters of VGG-16 sit, compare two networks at
# equal size, and recognise the moment when more layers make even the *training* error worse.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from functools import partial

import numpy as np
import torch
from torch import nn

from medlib import claims, cost, evaluate, explain, fit, load, plots, profile, repeat, seed, stats
from medlib.augment import random_shift
from medlib.metrics import accuracy, auc
from medlib.models.vgg import VGG, A, B, D, E, small_vgg
from medlib.pretrained import copy_weights, full_size, train_full_size

# %%
SEEDS = profile(smoke=2, quick=3, full=5)
STEPS = profile(smoke=4, quick=110, full=300)
BATCH = 64

# %% [markdown]
# ## The problem, seen on our data
#
# To call a lung hazy, how much of the image must a unit see? Below, the same X-ray through windows of 5, 11 and 21
# pixels around one point. Five pixels show something dark beside something bright; twenty-one show that it is the border of a lung.

# %%
xray = load("pneumoniamnist")
data = xray.standardise()
cases = explain.cases(xray.test)
names = [f"#{i} {xray.classes[xray.test.y[i]]}" for i in cases]
image = xray.test.x[cases[4], 0].cpu()
windows = [image[14 - r : 15 + r, 10 - r : 11 + r] for r in (2, 5, 10)]

# %%
plots.show(
    plots.grid([image, *windows], ["28 × 28", "5 × 5", "11 × 11", "21 × 21"], columns=4, size=1.6),
    alt="A small chest X-ray, and three cut-outs around one point at the border of a lung, growing from five to twenty-one pixels.",
    caption="One X-ray of our eight cases, and what windows of three sizes show of it.",
    name="fig-04-windows",
)

# %% [markdown]
# ## The idea: small kernels in a row
#
# The {term}`receptive field` of a unit is the part of the image that it can see. One 5 × 5 kernel sees 5 × 5 pixels. Now put two
# 3 × 3 kernels in a row. A unit of the second sees 3 × 3 units of the first, and each of those sees 3 × 3 pixels: together
# 5 × 5 pixels again. In general, with kernel sides $k_1, k_2, \dots, k_L$ and {term}`strides <stride>` $s_1, s_2, \dots$, the side of
# the receptive field is
#
# $$ r_L = 1 + \sum_{l=1}^{L} (k_l - 1) \prod_{m=1}^{l-1} s_m . $$ (eq-receptive)
#
# Where as many maps go in as come out, the row of small kernels is cheaper. With $C$ maps, one 5 × 5 layer has $25 C^2$ weights, and two 3 × 3 layers have
# $18 C^2$. And it can bend twice, since a ReLU follows each layer. This is the argument of section 2.3 of the paper
# {cite:p}`simonyan2014vgg`.
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C017", "C018")

# %% [markdown]
# ## The key block by hand
#
# Equation {eq}`eq-receptive`, and an honest way to check it: ask the network itself. A unit sees a pixel if its value changes with
# the pixel, that is, if its gradient there is not zero.


# %%
def receptive_field(layers):
    """Side of the receptive field of a row of (kernel, stride)."""
    side, jump = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * jump
        jump *= stride
    return side


# %%
def seen(net, size=64):
    """The same, measured: rows of the image on which the middle unit of the output depends."""
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    y = net(x)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    return int((x.grad[0, 0] != 0).any(1).sum())


# %% tags=["nbval-check-output"]
def ones(layers):
    """Convolutions whose weights are all 1, so that no path cancels another."""
    net = nn.Sequential(*(nn.Conv2d(1, 1, k, s, bias=False) for k, s in layers))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    return net


# %% tags=["nbval-check-output"]
for label, layers in {
    "one 5 × 5": [(5, 1)],
    "two 3 × 3": [(3, 1)] * 2,
    "three 3 × 3": [(3, 1)] * 3,
    "3 × 3, 2 × 2 at stride 2, 3 × 3": [(3, 1), (2, 2), (3, 1)],
}.items():
    assert receptive_field(layers) == seen(ones(layers))
    print(f"{label:33} sees {receptive_field(layers):2} pixels, by the equation and by the gradient")

# %% [markdown]
# ## The source, and the paper's numbers
#
# Of the configurations in the paper's Table 1, A, B, D and E differ only in the number of convolutions in each of five
# stages (C has 1 × 1 kernels too); a *stage* is what lies between two poolings. `convs` is that row of numbers.
# Everything else is one loop.

# %%
plots.show_source(VGG)

# %% tags=["nbval-check-output"]
for name, convs in {"A": A, "B": B, "D": D, "E": E}.items():
    size, work = cost.parameters_and_macs(partial(VGG, convs=convs), (3, 224, 224))
    print(f"{name} {convs}: {sum(convs)} + 3 layers, {size:,} parameters, {work / 1e9:.2f} G multiply-adds")

# %% [markdown]
# Where do they sit? Count the weights of each layer of configuration D, the network known as VGG-16.

# %%
with torch.device("meta"):
    vgg16 = VGG()
layers = [m for m in vgg16.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
sizes = [sum(p.numel() for p in m.parameters()) / 1e6 for m in layers]
dense = [isinstance(m, nn.Linear) for m in layers]
figure, axis = plots.panels(1, height=2.8)
axis.bar(range(1, len(sizes) + 1), sizes, color=["C1" if d else "C0" for d in dense])
axis.set(xlabel="layer (blue: convolution; orange: dense)", ylabel="million parameters", xticks=range(1, 17))

# %%
plots.show(
    figure,
    alt="Sixteen bars, the parameters of each layer of VGG-16. The first dense layer towers over all others.",
    caption="The parameters of VGG-16, layer by layer, biases included.",
    name="fig-04-layers",
)

# %% tags=["hide-input"]
share = sum(s for s, d in zip(sizes, dense, strict=True) if d) / sum(sizes)
plots.say(
    f"The three dense layers hold **{100 * share:.1f} %** of the parameters. The first of them alone, which ties each of "
    f"7 × 7 × 512 values to each of 4,096 units, holds {100 * max(sizes) / sum(sizes):.1f} %."
)

# %%
from torchvision.models import vgg11_bn

theirs, ours = vgg11_bn(num_classes=2).eval(), VGG(3, 2, convs=A, batch_norm=True).eval()
copy_weights(ours, theirs.state_dict())
photo = torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
torch.testing.assert_close(ours(photo), theirs(photo), rtol=1e-5, atol=1e-5)
print("On copied weights ours equals torchvision's vgg11_bn to 1e-5.")
del theirs, ours

# %% [markdown]
# ## Two small kernels against one large one
#
# Our twins for 28 × 28 images have three stages instead of five, and 16 maps in the first stage instead of 64. First the
# argument of the paper: replace each pair of 3 × 3 layers by one 5 × 5 layer with the same receptive field.

# %%
shift = random_shift(2)
options = {"seeds": SEEDS, "steps": STEPS, "batch_size": BATCH, "validations": 6}
options |= {"lr": 1e-3, "augment": shift}
twins = {
    "two 3 × 3 a stage": partial(small_vgg, convs=(2, 2, 2)),
    "one 5 × 5 a stage": partial(small_vgg, convs=(1, 1, 1), kernel=5),
}
runs = {name: repeat(build, data, **options) for name, build in twins.items()}


# %%
def compare(names, first):
    """A row a network: size, work, AUC, accuracy, and the AUC's lead over the network `first`."""
    rows = []
    for name in names:
        size, work = cost.parameters_and_macs(twins[name], (1, 28, 28))
        lead = "" if name == first else str(runs[name].interval(auc, runs[first]))
        scores = [str(runs[name].interval(metric)) for metric in (auc, accuracy)]
        rows.append((name, f"{size:,}", f"{work / 1e6:.1f} M", *scores, lead))
    heads = ["parameters", "multiply-adds", "test AUC", "test accuracy", f"AUC against {first}"]
    plots.table(rows, ["PneumoniaMNIST", *heads])


# %%
compare(list(twins), "one 5 × 5 a stage")

# %% tags=["hide-input"]
lead = runs["two 3 × 3 a stage"].interval(auc, runs["one 5 × 5 a stage"])
plots.say(
    f"The AUC of the small kernels minus that of the large ones is **{lead}**"
    + (": no difference can be shown." if lead.low <= 0 <= lead.high else ".")
)

# %% [markdown]
# The parameters may surprise you: here the small kernels are *not* cheaper. $18 C^2$ against $25 C^2$ holds where $C$ maps go in and $C$ come out. Each of our
# stages doubles the maps in its first layer. One 5 × 5 layer from $C/2$ to $C$ maps has $12.5\, C^2$ weights; the pair has $4.5\, C^2 + 9\, C^2 = 13.5\, C^2$.

# %% [markdown]
# ## Deeper or wider?
#
# Now claim C017: is {term}`depth` better than {term}`width`? A, B and D are the first three stages of the paper's configurations. The rivals of D are two networks with A's depth: A
# made wider until it has as many parameters as D, and A as it is.


# %%
def widened(convs, parameters):
    """The narrowest VGG of this depth with at least as many parameters."""
    width = next(w for w in range(8, 64) if cost.parameters(small_vgg(convs=convs, width=w)) >= parameters)
    return partial(small_vgg, convs=convs, width=width)


# %%
deep = {f"{name}, {sum(c)} convolutions": partial(small_vgg, convs=c) for name, c in
        {"A": (1, 1, 2), "B": (2, 2, 2), "D": (2, 2, 3)}.items()}  # fmt: skip
twins |= deep
twins["A, made wider"] = widened((1, 1, 2), cost.parameters(twins["D, 7 convolutions"]()))
for name in [*deep, "A, made wider"]:
    runs[name] = repeat(twins[name], data, **options)
compare([*deep, "A, made wider"], "A, made wider")

# %%
breast = load("breastmnist").standardise()
pair = ("D, 7 convolutions", "A, made wider")
breast_runs = {name: repeat(twins[name], breast, **options) for name in pair}
rows = [(name, *(str(breast_runs[name].interval(m)) for m in (auc, accuracy))) for name in pair]
plots.table(rows, ["BreastMNIST", "test AUC", "test accuracy"])

# %% tags=["hide-input"]
for where, found in (("X-rays", runs), ("Ultrasound", breast_runs)):
    lead = found[pair[0]].interval(auc, found[pair[1]])
    plots.say(
        f"{where}: AUC of the deeper network minus that of the wider one **{lead}**. "
        + lead.says(
            "The deeper one is ahead.",
            "The wider one is ahead.",
            "Zero lies inside: this test cannot tell deeper from wider.",
        )
    )

# %% [markdown]
# Equal in parameters is not equal in work: the deeper one does half as many multiply-adds again, and a part of what the wider one gains lies in its dense head. And an interval that holds zero is no proof
# that architecture does not matter. Small X-rays are told apart by almost any network, so that 624 of them often cannot separate two good ones, and after four passes (the authors of MedMNIST take a hundred)
# neither has shown all that it can do. On ImageNet, trained to the end, the deeper VGGs are ahead up to 16 to 19 layers.

# %% [markdown]
# ## The dense head
#
# Nine tenths of VGG-16 are dense layers. *Global average pooling* {cite:p}`lin2013network` does without them: take the
# mean of each of the last maps, and connect these few means to the classes.

# %%
twins["D, mean of each map"] = partial(small_vgg, convs=(2, 2, 3), head=None)
runs["D, mean of each map"] = repeat(twins["D, mean of each map"], data, **options)
compare(["D, 7 convolutions", "D, mean of each map"], "D, 7 convolutions")

# %% tags=["hide-input"]
lighter = 1 - cost.parameters(twins["D, mean of each map"]()) / cost.parameters(twins["D, 7 convolutions"]())
change = runs["D, mean of each map"].interval(auc, runs["D, 7 convolutions"])
plots.say(
    f"The mean of each map does with {100 * lighter:.0f} % fewer parameters. The AUC changes by **{change}**"
    + (", which may be chance." if change.low <= 0 <= change.high else ".")
)

# %% [markdown]
# ## How deep before it hurts?
#
# If layers are good, take many. We train networks of 8, 14, 20 and 32 layers, all of one width, with global average
# pooling. Each convolution is followed by {term}`batch normalisation` {cite:p}`ioffe2015batchnorm`: every map is shifted and
# scaled to mean 0 and standard deviation 1 over the batch, then given a learnt scale and offset. This keeps the signal
# from dying or exploding on its way through many layers, so a dying signal is an unlikely cause of what goes wrong now. All depths get the same steps, the same learning rate (0.003) and no augmentation; none of these was tuned for the deep ones.
#
# Watch the *training* loss. A deeper network can do all that a shallower one can: its extra layers would only have to
# copy their input. So a training loss that rises with depth is not {term}`overfitting`. It says that the optimiser does not *find* what is there.

# %%
DEPTHS = profile(smoke=(8, 14), full=(8, 14, 20, 32))
DEEP_SEEDS = profile(smoke=2, quick=2, full=3)
deep_options = {k: v for k, v in options.items() if k != "seeds"} | {
    "lr": 3e-3,
    "augment": None,
    "keep": "last",
}


# %%
def plain(depth):
    """depth − 1 convolutions in three stages and one dense layer."""
    each, rest = divmod(depth - 1, 3)
    return small_vgg(convs=(each, each + (rest > 1), each + (rest > 0)), width=8, head=None, batch_norm=True)


# %%
def train_deep(depth, s):
    seed(s)
    model = plain(depth)
    h = fit(model, data, seed=s, **deep_options)
    train, test = evaluate(model, data.train), evaluate(model, data.test)
    return h.train_loss[-1], 1 - train.accuracy, test.accuracy


# %%
deepest = {depth: np.array([train_deep(depth, s) for s in range(DEEP_SEEDS)]) for depth in DEPTHS}
rows = []
for depth, values in deepest.items():
    size = cost.parameters(plain(depth))
    rows.append((depth, f"{size:,}", *(str(stats.interval(column)) for column in values.T)))
plots.table(rows, ["layers", "parameters", "training loss", "training error", "test accuracy"])

# %%
figure, axes = plots.panels(2)
for axis, column, label in ((axes[0], 0, "training loss at the end"), (axes[1], 2, "test accuracy")):
    for depth, values in deepest.items():
        axis.plot([depth] * len(values), values[:, column], "o", color="C0", alpha=0.5)
    axis.plot(DEPTHS, [values[:, column].mean() for values in deepest.values()], color="C0")
    axis.set(xlabel="layers", ylabel=label, xticks=DEPTHS)
axes[0].set(ylim=(0, None))

# %%
plots.show(
    figure,
    alt="Left: training loss against the number of layers. Right: test accuracy against the number of layers. A dot for "
    "each seed, and a line through the means.",
    caption="Plain networks of growing depth on PneumoniaMNIST, after the same number of steps. A dot is one seed.",
    name="fig-04-depth",
)

# %% tags=["hide-input"]
losses = {depth: values[:, 0].mean() for depth, values in deepest.items()}
lowest = min(losses, key=losses.get)
rise = stats.paired(deepest[DEPTHS[-1]][:, 0], deepest[lowest][:, 0])

# %% tags=["hide-input"]
plots.say(
    f"The training loss is lowest at **{lowest} layers**. At {DEPTHS[-1]} layers it is higher by **{rise}**"
    + (
        ": more layers, and a worse fit to the very images that the network is trained on. The ResNet "
        "paper calls this *degradation* {cite:p}`he2016resnet` where it remains at the end of a full training. After four passes at one "
        "learning rate it may be no more than a slow start. Chapter 05 looks for a cure, chapter 13 for the cause."
        if rise.low > 0
        else "; these seeds do not show a rise beyond chance."
    )
)

# %% [markdown]
# ## Look: where does it look?

# %%
model = runs["D, 7 convolutions"].model


# %%
def last(model):
    """The last convolution with its ReLU, before the last pooling."""
    return model.features[-2]


# %%
maps = explain.grad_cam(model, last(model), data.test.x[cases], data.test.y[cases])
plots.show(
    plots.overlay(xray.test.x[cases], maps, names, columns=8),
    alt="The eight X-rays of every chapter with coloured patches where the last convolution speaks for the true class.",
    caption="Grad-CAM of the true class for our eight cases, small VGG-D. A plain image: nothing in the layer speaks for "
    "the class.",
    name="fig-04-gradcam",
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
    name="fig-04-worst",
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
for where, r in (("PneumoniaMNIST", runs), ("BreastMNIST", breast_runs)):
    ci = r[pair[0]].interval(auc, r[pair[1]])
    claims.observe("C017", ci, n=SEEDS, where=f"{where}, 7 convolutions against 4")

# %% tags=["hide-input"]
distance = abs(dense.count(False) - 13) + abs(dense.count(True) - 3)
claims.observe("C018", distance, n=len(layers), where="layers of configuration D, counted above")

# %% [markdown]
# The review also says that accuracy saturates with depth. {numref}`fig-04-depth` shows it with the training loss beside it; chapter 13 tests the claim.
#
# ## At full size
#
# On a GPU this cell trains VGG-16, all 134 million parameters of it, on X-rays enlarged to 224 × 224 pixels,
# from torchvision's ImageNet weights where they can be fetched (transfer learning, chapter 03). Elsewhere it takes two steps with a narrow VGG-16, whose loss is no result.

# %%
train_full_size(VGG(1, 2, width=64 if full_size() else 8), xray.standardise(), "vgg16")

# %% [markdown]
# ## What it costs

# %% tags=["timing"]
shown = ["one 5 × 5 a stage", *deep, "A, made wider", "D, mean of each map"]
times = cost.time_in_turn({name: cost.forward(twins[name](), (BATCH, 1, 28, 28)) for name in shown})
for name in shown:
    size, work = cost.parameters_and_macs(twins[name], (1, 28, 28))
    print(
        f"{name:21} {size:8,} parameters {work / 1e6:5.1f} M multiply-adds {np.median(times[name]) / BATCH:.3f} ms an image"
    )

# %% [markdown]
# A convolution's parameters are few but work at every place; a dense layer's are many and work once. So parameters say
# how much memory a network takes on disk, and multiply-adds how much it computes. In networks as small as these the time follows neither closely; chapter 05 compares larger ones.
#
# ## Pitfalls in medicine
#
# - **A comparison at unequal size compares sizes.** “Deeper” often also means “more parameters” and “more
#   training”. Hold one fixed, and say which.
# - **What fits in a few hundred steps is not what fits in a few thousand.** Our networks are compared after equal steps. A deep
#   network may need more of them.
# - **Large networks do not need large images, but they need detail to pay.** On 28 × 28 pixels the finest signs of
#   disease are gone before the first layer.
# - **Three or five seeds** bound the luck of training. They do not bound the luck of the hospital.
#
# ## Summary
#
# - Two 3 × 3 kernels in a row see what one 5 × 5 kernel sees, and bend twice; where the number of maps stays the same, with 18 weights in place of 25.
# - VGG-16 has 13 convolutions and 3 dense layers; the dense ones hold nine tenths of its 138,357,544 parameters.
# - To ask “deeper or wider?”, match the parameters and look at the interval of the difference.
# - Where a deeper plain network fits even its training images worse, that is not overfitting. Whether it is degradation or a slow start, only a longer training tells.
#
# ## Check yourself
#
# **1.** How large is the receptive field of five 3 × 3 convolutions in a row, at stride 1?
#
# - **A** 15 × 15
# - **B** 11 × 11
# - **C** 9 × 9
# - **D** 243 × 243
#
# <details><summary>Answer</summary>
#
# **B.** Each layer adds 2: $1 + 5 · 2 = 11$. A adds 3 a layer, as if the windows stood side by side. D
# multiplies, which needs a stride.
#
# </details>
#
# **2.** A 3 × 3 convolution, then a 2 × 2 pooling at stride 2, then a 3 × 3 convolution. What does a unit at
# the end see?
#
# - **A** 6 × 6 pixels
# - **B** 7 × 7 pixels
# - **C** 8 × 8 pixels
# - **D** 12 × 12 pixels
#
# <details><summary>Answer</summary>
#
# **C.** $1 + 2 + 1 + 2 · 2 = 8$: behind the pooling a step of one unit is two pixels of the image. A forgets
# that.
#
# </details>
#
# **3.** Three 3 × 3 layers replace one 7 × 7 layer, with $C$ maps going in and out. What happens to the
# weights and to the receptive field?
#
# - **A** 45 % fewer weights, the same field
# - **B** 45 % fewer weights, a smaller field
# - **C** the same weights, a larger field
# - **D** three times the weights, the same field
#
# <details><summary>Answer</summary>
#
# **A.** $3 · 9 C^2 = 27 C^2$ against $49 C^2$; and $1 + 3 · 2 = 7$. B forgets that fields grow along the row.
#
# </details>
#
# **4.** VGG-16 ends with maps of 7 × 7. Its images are made twice as large on each side. What happens to the
# first dense layer, and what to a global average pooling in its place?
#
# - **A** both need four times the weights
# - **B** the dense layer needs four times the weights, the pooling stays as it is
# - **C** the dense layer needs twice the weights, the pooling halves them
# - **D** neither changes, for convolutions are shared over the image
#
# <details><summary>Answer</summary>
#
# **B.** The last maps become 14 × 14, and the dense layer has a weight for each value in them. A mean of a
# map is one number, whatever its size. D is true of the convolutions only.
#
# </details>
#
# **5.** Trained in the same way, a 56-layer network has a higher *training* error than a 20-layer one. What
# is this?
#
# - **A** overfitting, since the larger network has more parameters
# - **B** underfitting, since 56 layers cannot express what 20 can
# - **C** degradation: good weights exist, but training does not find them
# - **D** leakage between the training and the test images
#
# <details><summary>Answer</summary>
#
# **C.** The extra layers could copy their input, so weights that are as good do exist. Overfitting (A) is a
# low training error with a high test error.
#
# </details>
#
# **6.** A paper reports that a network of 16 layers beats one of 11 layers. Both have 64 maps in their first
# stage. What is the weakness of “deeper is better”?
#
# - **A** The larger network also has more parameters and more work.
# - **B** Eleven is odd, so that the stages cannot be equal.
# - **C** The first stage should be wider in the deeper network.
# - **D** Depth can only be compared without batch normalisation.
#
# <details><summary>Answer</summary>
#
# **A.** Two things changed at once. A fair rival has the same number of parameters, spent on width. None of
# the others would favour either side by itself.
#
# </details>
#
# **7.** X-rays of 2,000 × 2,000 pixels are reduced to 28 × 28 before training. Which finding is lost, however
# deep the network?
#
# - **A** a heart that fills more than half of the chest
# - **B** a haze over a whole lung
# - **C** a hair-line fracture of a rib
# - **D** a lung that has collapsed
#
# <details><summary>Answer</summary>
#
# **C.** One small pixel stands for a block of about 70 × 70 pixels, far more than the width of the crack. The
# others change large regions. A network cannot bring back what was averaged away.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: VGG-16's view
# :label: ex-04-field
# How large is the receptive field of a unit in the last convolution of VGG-16? Use `receptive_field`; a
# pooling of 2 × 2 is a layer (2, 2).
# ```
#
# ````{solution} ex-04-field
# :class: dropdown
# 196 pixels:
#
# ```python
# layers = [pair for n in D for pair in [(3, 1)] * n + [(2, 2)]]
# receptive_field(layers[:-1])  # without the last pooling
# ```
# ````
#
# ```{exercise} ★ Predict: twice the width, twice the depth
# :label: ex-04-double
# In a row of 3 × 3 convolutions with $C$ maps each, you double the number of maps, or the number of layers.
# By which factor do the weights grow? And the numbers that are stored for the backward pass?
# ```
#
# ```{solution} ex-04-double
# :class: dropdown
# Width: $9 (2C)^2$ a layer, so four times the weights, and twice the stored numbers. Depth: twice the weights
# and twice the stored numbers. At equal weights, depth may thus grow fourfold where width doubles; this is
# the exchange that the chapter tests.
# ```
#
# ```{exercise} ★★ Implement: one kernel from two
# :label: ex-04-compose
# Without a ReLU between them, two 3 × 3 convolutions of one map are one 5 × 5 convolution. Compute its kernel
# from theirs, and check it on an image.
# ```
#
# ````{solution} ex-04-compose
# :class: dropdown
# It is the full convolution of the two kernels:
#
# ```python
# from torch.nn import functional as F
#
# w1, w2, picture = torch.randn(1, 1, 3, 3), torch.randn(1, 1, 3, 3), torch.randn(1, 1, 20, 20)
# one = F.conv2d(F.pad(w1, (2, 2, 2, 2)), w2.flip(2, 3))
# torch.testing.assert_close(F.conv2d(picture, one), F.conv2d(F.conv2d(picture, w1), w2), rtol=1e-4, atol=1e-4)
# ```
# ````
#
# ```{exercise} ★★ Implement: batch normalisation
# :label: ex-04-norm
# Write batch normalisation for training. Check it against `nn.BatchNorm2d`.
# ```
#
# ````{solution} ex-04-norm
# :class: dropdown
# ```python
# def batch_norm(x, weight, bias, eps=1e-5):
#     mean = x.mean((0, 2, 3), keepdim=True)
#     variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
#     return weight[:, None, None] * (x - mean) / (variance + eps).sqrt() + bias[:, None, None]
#
#
# layer, x = nn.BatchNorm2d(4), torch.randn(8, 4, 5, 5)
# torch.testing.assert_close(batch_norm(x, layer.weight, layer.bias), layer(x))
# ```
#
# The mean runs over images and places, not over maps: each map has its own.
# ````
#
# ```{exercise} ★★★ Investigate: is it the steps?
# :label: ex-04-steps
# Train the plain networks for three times as many steps. Does the training loss of the deepest one catch up
# with that of the best? State your guess first, and use at least three seeds.
# ```
#
# ```{solution} ex-04-steps
# :class: dropdown
# Put `deep_options["steps"] *= 3` before the cell that trains, and run the section again. Report the paired
# difference with its interval. Whatever you find, it concerns these images and this optimiser; the authors of
# ResNet also tried three times as many steps, and still found a gap {cite:p}`he2016resnet`.
# ```
#
# ```{exercise} ★★★ Investigate: does a unit use all it sees?
# :label: ex-04-effective
# Equation {eq}`eq-receptive` says what a unit *can* see. Measure how strongly it depends on each pixel,
# before and after training.
# ```
#
# ````{solution} ex-04-effective
# :class: dropdown
# Take the unit in the middle of the last maps, and average the size of its gradient over many images:
#
# ```python
# x = data.test.x[:64].clone().requires_grad_()
# y = model.eval().features[:-1](x)  # all but the last pooling
# y[:, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
# strength = x.grad.abs().mean((0, 1))
# ```
#
# Expect a bump in the middle that fades towards the rim: more paths lead from the middle pixels to the unit.
# Luo et al. {cite:p}`luo2016understanding` derive it and call it the effective receptive field. Compare with
# a network of random weights; the pitfall is a unit that ReLU has silenced, whose gradient is zero
# everywhere.
# ````

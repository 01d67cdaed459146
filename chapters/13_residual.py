# %% [markdown]
# # Residual learning
#
# *Do the gradients vanish, and do shortcuts cure it?*
#
# Chapter 05 asked whether a plain network of 32 layers fits its own training images worse than a shallower one, and what shortcuts change. The review
# names two troubles of deep networks, degradation and, as another problem, {term}`vanishing gradients <vanishing gradient>`, and says that the {term}`residual` network solved the second. It is a good story. **Is it true?**
#
# After this chapter you can say what makes a gradient shrink, predict by how much for each activation and **initialisation** (how the first weights are drawn, or “start” for short), look at the
# gradients of a network that trains badly, and tell the two troubles of deep networks apart: gradients that vanish, and training that degrades.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import claims, cost, evaluate, fit, hearts, load, losses, plots, profile, seed, stats
from medlib.augment import random_affine
from medlib.models import ResNet, SmallUNet
from medlib.models.resnet import BasicBlock
from medlib.models.resnet_v2 import Concatenate, OptionA, OptionC, PreActivation, ReLUBefore, ResNetV2
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=3, full=5)  # where nothing is trained
FITS = profile(smoke=2, quick=2, full=3)
STEPS = profile(smoke=2, quick=80, full=300)
BATCH = profile(smoke=16, full=128)
data = load("pneumoniamnist").standardise()
images = data.train.x[:128].cpu()

# %% [markdown]
# ## The problem: a long product
#
# Training changes each weight by its {term}`gradient`. In plain gradient descent a weight whose gradient is almost zero hardly learns. (Adam, chapter 02, rescales gradients, which hides a part of it.) How could that happen in a deep network?
#
# Take a number $x$, and put it through the same small function again and again: $h_1 = \varphi(w x)$, $h_2 = \varphi(w h_1)$, and so on. How does the last number
# change when the first one does? By the chain rule, each step contributes a factor:
#
# $$ \frac{\partial h_L}{\partial x} = \prod_{l=1}^{L} w\, \varphi'(w\,h_{l-1}) . $$ (eq-product)
#
# A product of many factors below one is almost nothing. For the sigmoid, $\varphi(t) = 1 / (1 + e^{-t})$, the slope $\varphi'$ is at most 1/4. So with $w = 1$, twenty layers leave less than $4^{-20}$, a millionth
# of a millionth. Let us see.

# %%
x = torch.tensor(0.5, dtype=torch.double, requires_grad=True)
h, sizes = x, []
for _ in range(20):
    h = torch.sigmoid(h)
    (slope,) = torch.autograd.grad(h, x, retain_graph=True)
    sizes.append(slope.item())

# %% tags=["hide-input"]
plots.say(
    f"After 1, 5 and 20 sigmoids: {sizes[0]:.3f}, {sizes[4]:.1e}, **{sizes[19]:.1e}**; $4^{{-20}}$ is {4.0**-20:.1e}."
)

# %% [markdown]
# Hochreiter saw this in 1991 in *recurrent* networks, which apply one layer at every time step {cite:p}`hochreiter1998vanishing`: that is the review's reference [8]. There the
# factor is the same matrix each time. Below, a recurrent network with 32 units reads 60 random inputs; the matrix is scaled so that its largest eigenvalue has size 0.5, 1 or 1.5. Beside it
# stands the LSTM (long short-term memory) {cite:p}`hochreiter1997lstm`, which was built against the problem: it *adds* to its memory instead of replacing it.


# %%
def recurrent(radius, s, length=60, units=32):
    """Size of ∂h_T / ∂h_0 for T = 1 … length, in a tanh network."""
    seed(s)
    w = torch.randn(units, units, dtype=torch.double)
    w *= radius / torch.linalg.eigvals(w).abs().max()
    h, jacobian, norms = torch.zeros(units, dtype=torch.double), torch.eye(units, dtype=torch.double), []
    for _ in range(length):
        h = torch.tanh(w @ h + 0.3 * torch.randn(units, dtype=torch.double))
        jacobian = (1 - h**2)[:, None] * w @ jacobian
        norms.append(jacobian.norm().item())
    return norms


# %%
def lstm(s, length=60, units=32):
    """Size of ∂c_T / ∂c_0 along the memory of an LSTM whose forget gates start open (bias 2)."""
    seed(s)
    cell = nn.LSTMCell(1, units).double()
    cell.bias_ih.data[units : 2 * units] = 2
    c0 = torch.zeros(1, units, dtype=torch.double, requires_grad=True)
    h, c, norms = torch.zeros(1, units, dtype=torch.double), c0, []
    for _ in range(length):
        h, c = cell(torch.randn(1, 1, dtype=torch.double), (h, c))
        rows = [torch.autograd.grad(c[0, k], c0, retain_graph=True)[0] for k in range(units)]
        norms.append(torch.cat(rows).norm().item())
    return norms


# %%
LENGTH = profile(smoke=6, full=60)
memories = {f"tanh, radius {r}": [recurrent(r, s, LENGTH) for s in range(SEEDS)] for r in (0.5, 1.0, 1.5)}
memories["LSTM, its memory"] = [lstm(s, LENGTH) for s in range(min(SEEDS, 2))]
figure, axis = plots.panels(1, height=2.8)
for i, (name, runs) in enumerate(memories.items()):
    axis.semilogy(
        range(1, LENGTH + 1), np.exp(np.log(runs).mean(0)), label=name, linestyle=("-", "--", "-.", ":")[i]
    )
axis.set(xlabel="steps back in time", ylabel="size of the gradient")
axis.legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Size of the gradient against steps back in time on a logarithmic axis. For tanh networks with a small radius it falls steeply in a straight line; for radius 1 slowly; for radius 1.5 it falls least or stays. The LSTM's memory falls slowly.",
    caption="How much the state now depends on the state some steps ago, at the start of training (geometric mean over seeds).",
    name="fig-13-recurrent",
)  # fmt: skip

# %% [markdown]
# A small radius vanishes. A large one would explode, but tanh saturates where its input is large, and then its slope is small. The LSTM here has the forget gate that was added in 2000, and it starts open (bias 2); half-open, its memory would vanish too. Its curve is that of the memory, from two seeds.

# %% [markdown]
# ## The idea: start so that the factor is one
#
# A feed-forward network has another matrix in each layer, so its factors can be set one by one. With layers of $n$ units, each with $n$ inputs, weights of variance
# $\sigma_w^2$, and inputs that do not depend on each other, the size of the gradient is multiplied at each layer by about
#
# $$ \sqrt{\, n\, \sigma_w^2 \; \mathrm{E}\,[\varphi'(z)^2] \,} , $$ (eq-factor)
#
# where $z$ is what enters the activation. Xavier's start sets $\sigma_w^2 = 1/n$ {cite:p}`glorot2010understanding`; that suits tanh, whose slope is about 1 near zero. For a ReLU half of the
# units are off, so $\mathrm{E}[\varphi'^2] = 1/2$, and He's start takes $\sigma_w^2 = 2/n$ {cite:p}`he2015delving`. For the sigmoid no usual start helps: $\varphi'^2 \le 1/16$.
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C019", *(f"C{i:03}" for i in range(37, 44)))

# %% [markdown]
# ## Gradients through depth
#
# A chain of dense layers with 128 units looks at 128 chest X-rays {cite:p}`yang2023medmnist`. Nothing is trained: we ask for the gradient of the loss at every layer, once.


# %%
class Chain(nn.Module):
    """(B, 784) → logits (B, 2) through `depth` layers of `units`; keeps what each layer gives in `seen`."""

    def __init__(self, depth, activation, start, *, norm=False, residual=False, units=128):
        super().__init__()
        self.first, self.last = nn.Linear(784, units), nn.Linear(units, 2)
        self.layers = nn.ModuleList(nn.Linear(units, units) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(units) if norm else nn.Identity() for _ in range(depth))
        self.activation, self.residual = activation, residual
        for layer in (self.first, *self.layers, self.last):
            nn.init.normal_(layer.weight, std=start(layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        h, self.seen = self.activation(self.first(x)), []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            out = self.activation(norm(layer(h)))
            h = h + out if self.residual else out
            self.seen.append(h)
        return self.last(h)


# %%
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": torch.relu}
STARTS = {"0.01": lambda n: 0.01, "Xavier": lambda n: n**-0.5, "He": lambda n: (2 / n) ** 0.5}


def gradients(depth, activation, start, s, **kind):
    """log10 of the size of ∂ loss / ∂ h at each layer, from the first to the last."""
    seed(s)
    net = Chain(depth, ACTIVATIONS[activation], STARTS[start], **kind).double()
    logits = net(images.flatten(1).double())
    loss = F.cross_entropy(logits, data.train.y[:128].cpu())
    found = torch.autograd.grad(loss, net.seen)
    return np.log10([max(g.norm().item(), 1e-300) for g in found])


# %%
def slope(logs):
    """Change of log10 a layer passed on the way back."""
    return -np.polyfit(np.arange(len(logs)), logs, 1)[0]


DEPTH = profile(smoke=8, full=50)
KINDS = {
    "plain": {},
    "batch norm": {"norm": True},
    "residual": {"residual": True},
    "both": {"norm": True, "residual": True},
}
profiles = {
    (a, i, k): [gradients(DEPTH, a, i, s, **kind) for s in range(SEEDS)]
    for a in ACTIVATIONS for i in STARTS for k, kind in KINDS.items()
}  # fmt: skip
slopes = {key: np.array([slope(logs) for logs in runs]) for key, runs in profiles.items()}


# %%
def expected(activation, start):
    """log10 of the factor of one layer, by the formula above; activations near zero for sigmoid and tanh."""
    size = {"sigmoid": 1 / 4, "tanh": 1, "ReLU": 0.5**0.5}[activation]
    return np.log10(size * 128**0.5 * STARTS[start](128))


rows = []
for a in ACTIVATIONS:
    for i in STARTS:
        theory = f"{expected(a, i):+.2f}"
        rows.append((f"{a}, {i}", theory, *(f"{slopes[a, i, k].mean():+.2f}" for k in KINDS)))
plots.table(rows, ["activation, start", "plain, by the formula", *KINDS])

# %% [markdown]
# Read a row like this: −0.60 means that each layer on the way back divides the gradient by $10^{0.6} = 4$. The first columns agree where the formula's picture
# holds; tanh with He's start leaves the region where its slope is 1, and falls short. (The start 0.01 gives all weights that standard deviation.) Batch norm takes away what the start did; with ReLU a little growth a layer is left, and over many layers it adds up. Shortcuts keep small starts alive; with ReLU
# they make the gradient *grow*: two parts of about equal size are added, which is $\sqrt 2$ a layer or more. With both, every row is closer to level. (Our chain adds *after* the activation, one layer a shortcut; the paper's block adds before its last ReLU, around two layers.)

# %%
figure, axes = plots.panels(3, height=2.7, sharey=True)
shown = [("plain", "Xavier"), ("plain", "He"), ("batch norm", "He")]
for axis, (kind, start) in zip(axes, shown, strict=True):
    for i, a in enumerate(ACTIVATIONS):
        axis.plot(
            range(1, DEPTH + 1), np.mean(profiles[a, start, kind], 0), label=a, linestyle=("-", "--", ":")[i]
        )
    axis.set(xlabel="layer", title=f"{kind}, {start}")
axes[0].set(ylabel="log10 of the gradient's size")
axes[0].legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Three panels of the logarithm of the gradient against the layer. Plain with Xavier's start: the sigmoid falls by thirty orders of magnitude towards the first layer, tanh stays almost level. Plain with He's: ReLU and tanh are about level, the sigmoid falls. With batch norm the sigmoid is level, and tanh and ReLU rise towards the first layer.",
    caption="The gradient on its way back through 50 layers, from right to left, at the start of training (mean over seeds).",
    name="fig-13-profiles",
)  # fmt: skip

# %% [markdown]
# ### Does it hold at every depth?
#
# The sigmoid and tanh start with Xavier's weights, ReLU with He's. The table shows by how many powers of ten the gradient at the first layer differs from that at the last.

# %%
DEPTHS = profile(smoke=(2, 5), full=(2, 5, 10, 20, 35, 50))
ADVISED = {"sigmoid": "Xavier", "tanh": "Xavier", "ReLU": "He"}
spans = {
    (a, d): [np.subtract(*gradients(d, a, i, s)[[0, -1]]) for s in range(SEEDS)]
    for a, i in ADVISED.items() for d in DEPTHS
}  # fmt: skip
rows = [(f"{a}, {i}", *(f"{np.mean(spans[a, d]):+.1f}" for d in DEPTHS)) for a, i in ADVISED.items()]
plots.table(rows, ["log10, first layer less last", *(f"{d} layers" for d in DEPTHS)])

# %% [markdown]
# So vanishing gradients are real, and were cured in stages: by a fitting start, first for tanh and then for ReLU, by batch norm, and in recurrent networks by gates. All of that was there before the residual network.
#
# ## Then what did ResNet cure?
#
# First, what a shortcut does to the product of {eq}`eq-product`. Take the derivative of $H(x) = F(x) + x$:
#
# $$ \frac{\partial H}{\partial x} = I + \frac{\partial F}{\partial x} . $$ (eq-13-identity)
#
# In words: whatever the layers do to a gradient, a copy of it passes by them unchanged, as long as the shape stays and no ReLU follows the sum (the pre-activation block, below). Multiply $L$ such factors out and there are $2^L$ paths, most of which lead through about half of the blocks and only one through all of them {cite:p}`veit2016residual`. A
# deep residual network behaves like many shallower ones side by side, and a block that computes nothing useful does no harm. That makes it easier to train, whether or not a gradient would have vanished.
#
# Real training, on X-rays of 28 × 28 pixels: plain and residual networks as in chapter 05, all with batch norm and He's start, all with AdamW for the same few hundred steps at one learning rate. Half of 32 layers is 16. *First gradient* is the size of the gradient of the first convolution's weights on 128 images; *training loss* is the mean over the last quarter of the steps.

# %%
LAYERS = {8: (1, 1, 1), 16: (3, 2, 2), 32: (5, 5, 5)}
TRAINED = profile(smoke=(8, 16), full=(8, 16, 32))
DEEP, HALF = TRAINED[-1], TRAINED[-2]


def network(depth, shortcut=True, block=BasicBlock):
    return ResNet(1, 2, block=block, layers=LAYERS[depth], width=8, small_images=True, shortcut=shortcut)


# %%
def first_gradient(net, x, y):
    """Size of the gradient of the weights of the first convolution, on one batch in training mode."""
    net = deepcopy(net).train()  # a copy: the pass moves the averages of batch norm
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()
    return net.conv1.weight.grad.norm().item()


def trained(build, s, batch=BATCH):
    """(network, its gradient before and after training, its last training loss)."""
    seed(s)
    net, few = build(), (data.train.x[:128], data.train.y[:128])
    net.to(few[0].device)
    before = first_gradient(net, *few)
    history = fit(net, data, steps=STEPS, batch_size=batch, validations=4, keep="last", seed=s)
    return net, before, first_gradient(net, *few), np.mean(history.train_loss[-1:])


# %%
SHORTCUT = {"plain": False, "residual": True}
runs = {
    (kind, d): [trained(partial(network, d, shortcut), s) for s in range(FITS)]
    for kind, shortcut in SHORTCUT.items() for d in TRAINED
}  # fmt: skip
accuracy = {key: [evaluate(run[0], data.test).accuracy for run in three] for key, three in runs.items()}

# %%
rows = []
for (kind, d), three in runs.items():
    before, after, loss = (np.array([run[k] for run in three]) for k in (1, 2, 3))
    rows.append((f"{kind}, {d} layers", f"{before.mean():.2f}", f"{after.mean():.2f}",
                 stats.interval(loss), stats.interval(accuracy[kind, d])))  # fmt: skip
plots.table(rows, ["network", "first gradient, before", "after training", "training loss", "test accuracy"])

# %% tags=["hide-input"]
gap = stats.paired([r[3] for r in runs["residual", DEEP]], [r[3] for r in runs["plain", DEEP]])
more = stats.paired([r[3] for r in runs["plain", DEEP]], [r[3] for r in runs["plain", HALF]])
plots.say(
    f"From {HALF} to {DEEP} plain layers, the *training* loss changes by **{more}**. With shortcuts, {DEEP} layers reach a training loss that differs from the plain one by **{gap}**. "
    f"The first layer of the plain network has a gradient of {np.mean([r[1] for r in runs['plain', DEEP]]):.2f} before training, that of the residual one {np.mean([r[1] for r in runs['residual', DEEP]]):.2f}."
)

# %% [markdown]
# Where the training loss rises with depth, look at two things before you name the cause. Is it a *vanishing* gradient? See what the first layer gets. Batch norm with ReLU rather lets the gradient grow on its way back (above), so a deep plain network may want a smaller learning rate or simply more steps. It is
# {term}`degradation` if it stays to the end of a full training, as in the ResNet paper: the deeper network could copy the shallower one and add layers that do nothing, but training does not find that. A few hundred steps at one rate cannot tell degradation from a slow start (the last exercise but one goes on from here). What they can tell is the paper's own
# point: normalised initialisation and batch norm had largely dealt with vanishing gradients, and the trouble that is left is another one {cite:p}`he2016resnet`.
#
# ### What reaches which layer?
#
# The review says that skips “skip training from a few layers”. Do the skipped layers learn? Here is the gradient of every convolution inside the blocks.

# %%
shares = {}
for kind, shortcut in SHORTCUT.items():
    seed(0)
    net = network(DEEP, shortcut).train()
    F.cross_entropy(net(images), data.train.y[:128].cpu()).backward()
    layers = [c for stage in net.stages for block in stage for c in (block.conv1, block.conv2)]
    shares[kind] = [c.weight.grad.norm().item() for c in layers]
figure, axis = plots.panels(1, height=2.4)
for i, (kind, sizes) in enumerate(shares.items()):
    axis.semilogy(range(1, len(sizes) + 1), sizes, "os"[i] + "-", markersize=3, label=kind)
axis.set(xlabel="convolution inside the blocks, from first to last", ylabel="gradient's size")
axis.legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Size of the gradient of each convolution in a plain and a residual network of the same depth, on a logarithmic axis. No value is near zero in either.",
    caption=f"The gradient of every convolution of networks with {DEEP} layers, before training. None is zero.",
    name="fig-13-layers",
)  # fmt: skip

# %% tags=["hide-input"]
plots.say(
    "The gradient of the first convolution inside the blocks, over that of the last: "
    + ", ".join(f"{v[0] / v[-1]:.1f} ({kind})" for kind, v in shares.items())
    + "; the largest over the smallest: "
    + ", ".join(f"{max(v) / min(v):.0f} ({kind})" for kind, v in shares.items())
    + "."
)

# %% [markdown]
# ## Are features lost in depth?
#
# A *linear probe* asks how much a layer knows: freeze the network, average each map of the layer, and fit logistic regression on those numbers {cite:p}`alain2016understanding`. The stages have 8, 16 and 32 channels, so a probe gets more numbers later on: compare blocks of one stage. And where one network is trained less well than the other, that alone explains a gap between the two curves; what is *lost on the way* shows in how a curve changes from block to block.


# %%
def maps(net, x):
    """[(N, C)]: the mean of each map after each block."""
    found, hooks = [], []
    for stage in net.stages:
        for block in stage:
            hooks.append(block.register_forward_hook(lambda _, __, out: found.append(out.mean((2, 3)).cpu())))
    with torch.no_grad():
        net.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


def probes(net):
    """Test accuracy of logistic regression after each block."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y, scores = data.train.y[:1500].cpu(), []
    for train, test in zip(maps(net, data.train.x[:1500]), maps(net, data.test.x), strict=True):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(train, y)
        scores.append(probe.score(test, data.test.y.cpu()))
    return scores


# %%
probed = {kind: np.array([probes(run[0]) for run in runs[kind, DEEP]]) for kind in SHORTCUT}
figure, axis = plots.panels(1, height=2.6)
for i, (kind, values) in enumerate(probed.items()):
    axis.plot(range(1, values.shape[1] + 1), values.mean(0), "os"[i] + "-", markersize=4, label=kind)
axis.set(xlabel="block", ylabel="accuracy of the probe")
axis.legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Accuracy of a linear probe after each block, for a plain and a residual network of the same depth.",
    caption=f"What a linear probe reads from each block of trained networks with {DEEP} layers (PneumoniaMNIST, test images, mean over seeds).",
    name="fig-13-probes",
)  # fmt: skip

# %% tags=["hide-input"]
of_one_width = LAYERS[DEEP][-1]
plots.say(
    "From the first to the last block of the last stage the probe's accuracy changes by "
    + "; ".join(f"{stats.paired(v[:, -1], v[:, -of_one_width])} ({kind})" for kind, v in probed.items())
    + ". Features that get lost would make it fall."
)

# %% [markdown]
# ## Where does the ReLU stand, and what happens at the join?
#
# The review describes the block so: convolution, ReLU, convolution, ReLU, and the result is “stacked” with the input. The paper adds first and takes the ReLU after the addition. That matters: a ReLU before
# the addition makes $F(x) \ge 0$, and a block could only ever add. Three months later its authors tried these places one by one {cite:p}`he2016identity`.

# %%
plots.show_source(ReLUBefore, PreActivation, Concatenate)

# %% [markdown]
# By hand, the pre-activation block:

# %%
block = PreActivation(4, 4).eval()
x = torch.randn(2, 4, 7, 7)
f = F.conv2d(block.bn1(x).relu(), block.conv1.weight, padding=1)
f = F.conv2d(block.bn2(f).relu(), block.conv2.weight, padding=1)
torch.testing.assert_close(f + x, block(x))
print("by hand = medlib:", tuple(x.shape))

# %%
WIDE = min(DEEP, 16)
VARIANTS = {
    "ReLU after the addition (paper)": partial(network, WIDE),
    "ReLU before it (review)": partial(network, WIDE, block=ReLUBefore),
    "pre-activation": partial(ResNetV2, 1, 2, layers=LAYERS[WIDE], width=8),
    "concatenated (review: “stacked”)": partial(network, WIDE, block=Concatenate),
    "option A: padded with zeros": partial(network, WIDE, block=OptionA),
    "option C: always projected": partial(network, WIDE, block=OptionC),
}
several = {
    name: runs["residual", WIDE] if name.endswith("(paper)") else [trained(b, s) for s in range(FITS)]
    for name, b in VARIANTS.items()
}

# %%
rows = []
first = [r[3] for r in several["ReLU after the addition (paper)"]]
for name, build in VARIANTS.items():
    loss = [r[3] for r in several[name]]
    ahead = "" if loss == first else stats.paired(loss, first)
    tests = [evaluate(r[0], data.test).auc for r in several[name]]
    rows.append((name, f"{cost.parameters(build()):,}", f"{np.mean(loss):.3f}", ahead, stats.interval(tests)))
plots.table(
    rows,
    [
        f"{sum(LAYERS[WIDE])} blocks of this kind",
        "parameters",
        "training loss",
        "more than the paper's",
        "test AUC",
    ],
)

# %% [markdown]
# The paper's row is its option B (chapter 05); A pads with zeros where the shape changes, C projects everywhere. The concatenated block has a third convolution and no identity, so it differs in more than the join. He and colleagues found pre-activation to help at 110 layers and more; our networks are shallower, and a few seeds show
# large differences only.

# %% tags=["nbval-check-output"]
for depth, published in ((20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)):
    build = partial(ResNet, 3, 10, block=OptionA, layers=((depth - 2) // 6,) * 3, width=16, small_images=True)
    size, _ = cost.parameters_and_macs(build, (3, 32, 32))
    assert size == published
    print(f"ResNet-{depth} for 32 × 32 images, option A: {size:,} parameters")

# %% [markdown]
# ## Shortcuts in a U-Net
#
# The U-Net's {term}`skips <skip>` lead *across* the U, from encoder to decoder. Residual shortcuts lead around two convolutions. Nothing forbids both.


# %%
class Around(nn.Module):
    """Two convolutions with a shortcut around them, before the last ReLU."""

    def __init__(self, pair):
        super().__init__()
        ins, outs = pair[0].in_channels, pair[3].out_channels
        self.pair = pair
        self.match = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1, bias=False)

    def forward(self, x):
        return (self.pair[:-1](x) + self.match(x)).relu()


def residual_unet():
    net = SmallUNet()
    net.unet.down = nn.ModuleList(Around(d) for d in net.unet.down)
    net.unet.bottleneck = Around(net.unet.bottleneck)
    for up in net.unet.up:
        up.convolutions = Around(up.convolutions)
    return net


# %%
train, val, test = (p[: profile(smoke=2, full=None)] for p in hearts.split(hearts.load()))
acdc = hearts.slices(train, val[:1], test, side=64)


def dice(build, s):
    """(test patients,): Dice of three structures at ED and ES."""
    seed(s)
    net = build()
    options = {"loss": losses.dice_ce, "score": losses.mean_dice, "augment": random_affine(), "lr": 1e-2}
    fit(net, acdc, steps=STEPS, batch_size=16, validations=1, keep="last", seed=s, **options)
    return hearts.dice_of_patients(net, test, side=64).mean((1, 2))


# %%
UNETS = {"U-Net": SmallUNet, "residual U-Net": residual_unet}
scores = {name: np.array([dice(build, s) for s in range(FITS)]) for name, build in UNETS.items()}
lead = stats.over_patients(scores["residual U-Net"], scores["U-Net"])

# %% tags=["hide-input"]
plots.say(
    "; ".join(f"{name}: Dice {d.mean():.3f} with {cost.parameters(UNETS[name]()):,} parameters" for name, d in scores.items())
    + f". The residual one minus the plain one, with more parameters: **{lead}** ({len(test)} test patients, {FITS} seeds). "
    + lead.says("Shortcuts help here too.", "They do harm here.", "The interval holds zero, so this experiment cannot tell.")
)  # fmt: skip

# %% [markdown]
# A small U-Net is about as deep as the shallow networks above, so we expected little from such a shortcut.
#
# ## Verdicts

# %% tags=["hide-input"]
plain = stats.interval(slopes["sigmoid", "Xavier", "plain"])
claims.observe("C037", plain, where=f"{DEPTH} dense layers with sigmoid, Xavier's start, log10 a layer")
for start, words in (("He", "sigmoid with Xavier's and ReLU with He's"), ("Xavier", "both with Xavier's")):
    larger = np.maximum(slopes["sigmoid", "Xavier", "plain"], slopes["ReLU", start, "plain"])
    claims.observe("C038", stats.interval(larger), where=f"{DEPTH} dense layers, {words} start")

# %% tags=["hide-input"]
ratio = []
for s in range(SEEDS):
    sizes = {}
    for kind, shortcut in SHORTCUT.items():
        seed(s)
        sizes[kind] = first_gradient(network(DEEP, shortcut), images, data.train.y[:128].cpu())
    ratio.append(np.log10(sizes["residual"] / sizes["plain"]))
healthy = stats.interval(ratio)
claims.observe("C039", healthy, where=f"{DEEP} layers with batch norm and He's start, before training")
first = {kind: [logs[0] for logs in profiles["sigmoid", "Xavier", kind]] for kind in ("residual", "plain")}
bare = stats.paired(first["residual"], first["plain"])
claims.observe("C039", bare, where=f"{DEPTH} dense layers with sigmoid, no batch norm, before training")

# %% tags=["hide-input"]
claims.observe(
    "C040",
    np.mean(np.array(shares["residual"]) == 0),
    n=len(shares["residual"]),
    where=f"convolutions inside the blocks of a residual network with {DEEP} layers",
)
change = {kind: v[:, -1] - v[:, -of_one_width] for kind, v in probed.items()}
kept = stats.paired(change["residual"], change["plain"])
claims.observe("C041", kept, where=f"PneumoniaMNIST, {DEEP} layers, blocks of the last stage")

# %% tags=["hide-input"]
net, below = runs["residual", DEEP][0][0].eval(), []
for stage in net.stages:
    for block in stage:
        block.register_forward_hook(
            lambda b, inputs, _: below.append((b.residual(inputs[0]) < 0).float().mean().item())
        )
predict(net, data.test.x[:64], 64)
claims.observe(
    "C042",
    float(np.mean(below)),
    n=len(below),
    where=f"blocks of a trained residual network with {DEEP} layers",
)
joined = BasicBlock(8, 8)(torch.zeros(2, 8, 4, 4)).shape[1]
claims.observe("C043", joined / 8 - 2, n=1, where="the block of 2016, counted")  # fmt: skip

# %% tags=["hide-input"]
saturates = stats.paired(accuracy["plain", DEEP], accuracy["plain", HALF])
claims.observe("C019", saturates, where=f"PneumoniaMNIST, plain, {DEEP} against {HALF} layers")

# %% [markdown]
# C037 speaks of a problem that is real. C038 names two activations that behave differently: the sigmoid's gradients vanish with either start, those of a ReLU network only if it is not initialised as its paper advises. A ReLU network with the start that was usual before, or with
# a smaller one, dies in depth like any other. C039 gives the residual network
# the credit for a cure that came earlier; where that cure is left out, a shortcut does keep the gradient alive. C041 compares what is lost from block to block in the last stage, not the last blocks of two networks that are trained unequally well. C040, C042 and C043 describe another block than the one that was published.
#
# ## At full size
#
# `ResNet(3, 10, block=OptionA, layers=(18, 18, 18), width=16, small_images=True)` is the network of 110 layers.
#
# ## What it costs

# %% tags=["timing"]
twins = {kind: network(DEEP, shortcut) for kind, shortcut in SHORTCUT.items()}
twins["pre-activation"] = ResNetV2(1, 2, layers=LAYERS[DEEP], width=8)
times = cost.time_in_turn({n: cost.training_step(m, (BATCH, 1, 28, 28)) for n, m in twins.items()}, repeats=profile(smoke=1, full=8))  # fmt: skip
for name, model in twins.items():
    print(f"{name:15} {cost.parameters(model):,} parameters, {np.median(times[name]):.0f} ms a training step")

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A deep network that trains badly looks like a hard task.** Before you collect more images, look at the training loss of a shallower twin.
# - **Small sets hide degradation.** On a few hundred images every network fits the training set; what is left to compare is chance.
# - **A probe is not an explanation.** That a layer's numbers predict a disease does not say that the network uses them so.
#
# ## Summary
#
# - Going back through a layer multiplies the gradient by $\sqrt{n \sigma_w^2\, \mathrm{E}[\varphi'^2]}$.
# - Sigmoid: at most 1/4 a layer with Xavier's start. ReLU with He's start: about 1.
# - Batch norm takes away what the start did. A shortcut keeps small starts alive, and with ReLU lets the gradient grow unless batch norm stands beside it.
# - Degradation is something else: more layers, gradients that do not vanish, higher *training* loss.
# - The block adds, then applies the ReLU. It neither stacks nor skips the training of any layer.
#
# ## Check yourself
#
# **1.** A layer has 100 inputs a unit, ReLU, and weights of variance 0.01. By what is the gradient multiplied
# on its way back?
#
# - **A** 0.50
# - **B** 0.71
# - **C** 1.00
# - **D** 1.41
#
# <details><summary>Answer</summary>
#
# **B.** $\sqrt{100 · 0.01 · 1/2} = 0.71$: half of the units are off. C is the answer for tanh near zero,
# which Xavier's start is made for.
#
# </details>
#
# **2.** Twenty sigmoids in a row, each with a weight of 1. How large can the gradient at the first be, at
# most, if it is 1 at the last?
#
# - **A** about 1/20
# - **B** about 1/80
# - **C** $2^{-20}$, about a millionth
# - **D** $4^{-20}$, about a millionth of a millionth
#
# <details><summary>Answer</summary>
#
# **D.** The slope of a sigmoid is at most 1/4, and slopes *multiply*. B adds them up.
#
# </details>
#
# **3.** Each of twenty layers has the slope 0.1. What is the slope of all twenty in a row, without and with a
# shortcut around each?
#
# - **A** $10^{-20}$, and about 6.7
# - **B** $10^{-20}$, and about 2
# - **C** 2, and 22
# - **D** $10^{-20}$ both times
#
# <details><summary>Answer</summary>
#
# **A.** $0.1^{20}$ without, $(1 + 0.1)^{20} \approx 6.7$ with. The 1 of each shortcut keeps the product
# alive, and may let it grow.
#
# </details>
#
# **4.** You add layers. The test error rises, the training error falls. What is this?
#
# - **A** degradation
# - **B** overfitting
# - **C** a vanishing gradient
# - **D** a learning rate that is too large
#
# <details><summary>Answer</summary>
#
# **B.** The network fits its training images better and new ones worse. Degradation shows in the *training*
# error, and so would a vanishing gradient.
#
# </details>
#
# **5.** A network of 60 layers, with batch normalisation, trains badly. The gradient of its first layer is as
# large as in a network of 10 layers. Which explanation is ruled out?
#
# - **A** degradation
# - **B** a poor learning rate
# - **C** a vanishing gradient at the start
# - **D** too few training steps
#
# <details><summary>Answer</summary>
#
# **C.** The first layer does get a signal. The others remain possible, and need other tests, such as a
# residual twin with the same budget.
#
# </details>
#
# **6.** A block has a ReLU *before* its addition: $H(x) = \mathrm{ReLU}(F(x)) + x$. What can it not do?
#
# - **A** copy its input
# - **B** be trained
# - **C** raise a value
# - **D** lower a value
#
# <details><summary>Answer</summary>
#
# **D.** What it adds is at least 0, so values can only grow with depth. It copies its input (A) where the
# ReLU gives zero.
#
# </details>
#
# **7.** A deep network for 200 scans fits even its training scans badly. A colleague proposes to collect
# 2,000 more. What should be done first?
#
# - **A** Train a shallower twin, and look at its training loss.
# - **B** Collect them: deep networks need more data.
# - **C** Stop the training earlier, before it overfits.
# - **D** Augment the 200 scans, which is cheaper.
#
# <details><summary>Answer</summary>
#
# **A.** More images cannot cure a poor fit to the images at hand. If the twin fits well, the depth is the
# trouble. C and D are cures for overfitting.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: a tiny start
# :label: ex-13-tiny
# With ReLU and weights of standard deviation 0.01, how many orders of magnitude does the gradient lose over 10 layers of 128 units? Predict, then look at the table.
# ```
#
# ```{solution} ex-13-tiny
# :class: dropdown
# The factor is $0.01 \sqrt{64} = 0.08$, so $\log_{10}$ is −1.1 a layer: eleven orders of magnitude.
# ```
#
# ```{exercise} ★ Predict: the shortcut's share
# :label: ex-13-share
# In a residual chain with sigmoids, does the gradient grow or shrink on the way back? Why?
# ```
#
# ```{solution} ex-13-share
# :class: dropdown
# Each factor is one plus something of mean zero, so it grows slightly rather than shrinks.
# ```
#
# ```{exercise} ★★ Implement: another activation
# :label: ex-13-gelu
# Add GELU to `ACTIVATIONS`. Estimate $\mathrm{E}[\varphi'^2]$ for a standard normal $z$ by sampling, and
# derive the start that keeps the gradient's size. Does it?
# ```
#
# ````{solution} ex-13-gelu
# :class: dropdown
# ```python
# z = torch.randn(10**6, requires_grad=True)
# (slopes_,) = torch.autograd.grad(F.gelu(z).sum(), z)
# square = slopes_.square().mean().item()  # about 0.456
# ACTIVATIONS["GELU"], STARTS["fitted"] = F.gelu, lambda n: (1 / (square * n)) ** 0.5
# print(np.mean([slope(gradients(DEPTH, "GELU", "fitted", s)) for s in range(SEEDS)]))
# ```
#
# So $\sigma_w^2 \approx 2.19 / n$ would keep the gradient if $z$ stayed standard normal. It does not quite:
# the forward pass needs another value, so the slope is near zero and not zero.
# ````
#
# ```{exercise} ★★ Implement: an identity to find
# :label: ex-13-identity
# Take a trained plain network of 16 layers. Insert layers that do nothing (identity kernels, batch norm of mean 0 and variance 1) to make it 32 deep. Check that the output is unchanged. What does this prove?
# ```
#
# ```{solution} ex-13-identity
# :class: dropdown
# After a ReLU all values are at least zero, so a convolution whose kernel is 1 in the middle of its own map, followed by a ReLU, copies them. It proves that a 32-layer network with the same training loss exists, and that training did not find it.
# ```
#
# ```{exercise} ★★★ Investigate: longer training
# :label: ex-13-longer
# Does degradation disappear if the deep plain network is trained four times as long, or with another learning rate? State your guess, and compare with the residual twin under the same budget of tuning.
# ```
#
# ```{solution} ex-13-longer
# :class: dropdown
# Choose the rate of each on validation images from the same list of five, then compare training losses over three seeds. Report both the best and the spread; a plain network often needs a smaller rate.
# ```
#
# ```{exercise} ★★★ Investigate: a batch of two
# :label: ex-13-batch
# Volumes fill the memory, and batches shrink. Train the residual network of 16 layers with batches of 2, 8,
# 32 and 128, at the same number of steps. Then replace each batch normalisation by `nn.GroupNorm(4,
# channels)`, which does not look at the batch.
# ```
#
# ````{solution} ex-13-batch
# :class: dropdown
# `trained(partial(network, HALF), s, batch=2)` does the first. For the second, walk through the modules:
#
# ```python
# def without_batch(net):
#     for module in net.modules():
#         for name, child in module.named_children():
#             if isinstance(child, nn.BatchNorm2d):
#                 setattr(module, name, nn.GroupNorm(4, child.num_features))
#     return net
#
#
# net, *_ = trained(lambda: without_batch(network(HALF)), 0, batch=2)
# ```
#
# Expect the batch norm's training loss to be worst at 2, where a mean over two images is noise, and its test
# accuracy to swing from seed to seed; the group norm should change less. The pitfall: equal steps mean that
# the small batches have seen fewer images. Repeat with equal images, and say which you show.
# ````

# %% [markdown]
# # Soft attention
#
# *What does a learnt weighting add?*
#
# In 2014 a network that translates sentences was given a new part: at every word that it writes, it looks back at the words that it has read, and weighs them. The idea went into images, and
# today “attention” names dozens of modules. The review sorts them into families. **Where did attention come from, what does each family do, and what is it good for?**
#
# After this chapter you can write additive and dot-product attention down from memory, place a module in its family, say what it costs, and design a task that
# tells whether it does what its name promises.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import html
import inspect
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from IPython.display import HTML, display
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional as F

from medlib import attention, claims, cost, fit, hearts, load, losses, plots, profile, seed, stats
from medlib.augment import random_affine
from medlib.data import Dataset, Split
from medlib.device import device
from medlib.metrics import accuracy
from medlib.models import SmallUNet
from medlib.models.resnet import ResNet
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
WORDS = profile(smoke=3, quick=400, full=1000)  # steps of the sequence task
STEPS = profile(smoke=2, quick=90, full=300)

# %% [markdown]
# ## The problem: a sentence in one vector
#
# A translator of that time had two parts. The *encoder* reads the sentence and ends with one vector of fixed length. The *decoder* writes from that vector alone
# ({term}`encoder, decoder`). Here both are GRUs: layers that read one item after the other and keep a state, the memory of what they have read. Whatever the sentence says must fit
# in. To see the limit we take a task without grammar: read a row of digits, and write it backwards. In the code, `look` switches the new part on; it is explained below.


# %%
class Translator(nn.Module):
    """Digits (B, T) → logits (B, T, 10). `told`: the right digits, given a step late in training."""

    def __init__(self, look, units=48):
        super().__init__()
        self.embed, self.start = nn.Embedding(11, 16), 10
        self.encoder = nn.GRU(16, units // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRUCell(16 + units * look, units)
        self.attend = attention.Additive(units) if look else None
        self.out = nn.Linear(units + units * look, 10)

    def forward(self, x, told=None):
        keys, last = self.encoder(self.embed(x))
        h = torch.cat((last[0], last[1]), 1)  # the fixed vector
        word, logits, self.map = torch.full_like(x[:, 0], self.start), [], []
        for t in range(x.shape[1]):
            context = []
            if self.attend:
                c, weights = self.attend(h, keys)
                context = [c]
                self.map.append(weights.detach())
            h = self.decoder(torch.cat([self.embed(word), *context], 1), h)
            logits.append(self.out(torch.cat([h, *context], 1)))
            word = told[:, t] if told is not None else logits[-1].argmax(1)
        return torch.stack(logits, 1)


# %% [markdown]
# ## The idea: look back, and weigh
#
# Let the encoder keep one vector $k_t$ for every place $t$ of the input. Before it writes, the decoder, in state $q$, gives each place a *score* $e_t$. A {term}`softmax` turns the scores into weights $\alpha_t$ that sum to one, and
# the decoder gets the weighted sum {cite:p}`bahdanau2014neural`:
#
# $$ e_t = v^\top \tanh(W q + U k_t), \qquad \alpha_t = \frac{\exp e_t}{\sum_s \exp e_s}, \qquad c = \sum_t \alpha_t\, k_t . $$ (eq-additive)
#
# $W$, $U$ and $v$ are learnt. By hand:

# %%
layer, q, k = attention.Additive(6), torch.randn(2, 6), torch.randn(2, 5, 6)
e = torch.tanh(layer.query(q)[:, None] + layer.key(k)) @ layer.score.weight[0]
alpha = e.softmax(1)
c = (alpha[:, :, None] * k).sum(1)
torch.testing.assert_close(layer(q, k), (c, alpha))
print("by hand = medlib: context", tuple(c.shape), "weights", tuple(alpha.shape))

# %%
plots.show_source(attention.Additive)

# %% [markdown]
# ## The claims that we test

# %% tags=["hide-input"]
claims.box(*(f"C{i:03}" for i in range(53, 67)))

# %% [markdown]
# ## Backwards
#
# Training rows have 5 to 15 digits. Then we test on rows up to 30 long; the network writes on its own, and we count right digits.


# %%
def learn(look, units, s):
    seed(s)
    net = Translator(look, units).to(device())
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=max(WORDS, 2))
    for _ in range(WORDS):
        length = int(torch.randint(5, 16, ()))
        x = torch.randint(10, (64, length), device=device())
        loss = F.cross_entropy(net(x, x.flip(1)).flatten(0, 1), x.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return net.eval()


# %%
@torch.no_grad()
def right(net, length):
    x = torch.randint(10, (256, length), generator=torch.Generator().manual_seed(length)).to(device())
    return (net(x).argmax(2) == x.flip(1)).float().mean().item()


# %%
LENGTHS = profile(smoke=(5, 15), full=(5, 8, 10, 12, 15, 20, 30))
KINDS = {
    "fixed vector": (False, 66),
    "with attention": (True, 48),
}  # units, so that both have as many parameters
readers = {name: [learn(*kind, s) for s in range(SEEDS)] for name, kind in KINDS.items()}
print({name: f"{cost.parameters(nets[0]):,} parameters" for name, nets in readers.items()})
scores = {name: np.array([[right(n, t) for t in LENGTHS] for n in nets]) for name, nets in readers.items()}

# %%
with torch.no_grad():
    net, x = (
        readers["with attention"][0],
        torch.randint(10, (1, 12), generator=torch.Generator().manual_seed(3)),
    )
    answer = net(x.to(device())).argmax(2)[0].tolist()
figure, (left, picture) = plots.panels(2, height=3.2)
for i, (name, values) in enumerate(scores.items()):
    left.plot(LENGTHS, values.mean(0), "os"[i] + "-", label=name)
    left.fill_between(LENGTHS, values.min(0), values.max(0), alpha=0.15, linewidth=0)
left.axvspan(5, 15, color="0.93")
left.axhline(0.1, color="0.6", linestyle=":", label="guessing")
left.set(xlabel="digits (grey: lengths seen in training)", ylabel="share of right digits", ylim=(0, 1.02))
left.legend(fontsize=8)
picture.imshow(torch.stack(net.map, 1)[0].cpu(), cmap="Blues", vmin=0, vmax=1)
picture.grid(False)
picture.set(xticks=range(12), yticks=range(12), xticklabels=x[0].tolist(), yticklabels=answer,
            xlabel="digits read", ylabel="digits written")  # fmt: skip

# %%
plots.show(
    figure,
    alt="Left: share of right digits against the length of the row. The network with a fixed vector falls with length; the one with attention stays near one for the lengths of its training, then falls too, and stays above the other. Right: the attention weights for one row form a line from the upper right to the lower left.",
    caption="Writing digits backwards. Left: share of right digits by length (band: lowest and highest seed). Right: where the network looked while it wrote one row; nobody told it to read backwards.",
    name="fig-14-backwards",
)  # fmt: skip

# %% tags=["hide-input"]
beside = (torch.stack(net.map, 1)[0].argmax(1).cpu() != 11 - torch.arange(12)).sum().item()
plots.say(
    f"In {beside} of 12 rows the darkest place is not the digit that is being written. "
    + ("The encoder reads both ways, so the key of a place knows of its neighbours: the map shows where the network looks, not what it reads there." if beside else "")
)  # fmt: skip

# %% [markdown]
# The weights are a picture of what the network does. That is part of attention's charm, and a trap: chapter 03 showed that a plausible map proves little.
#
# ## Who was first?
#
# The review calls reference [12] the beginning. Looking at parts was learnt before, on images, where Schmidhuber and Huber trained a network to move a fovea as early as 1991 {cite:p}`schmidhuber1991fovea,larochelle2010learning,mnih2014recurrent`, and a network that writes by hand slid a Gaussian window along its text
# {cite:p}`graves2013generating`.

# %%
YEARS = {
    "Schmidhuber and Huber: a fovea that moves": 1991,
    "Larochelle and Hinton: glimpses": 2010,
    "Graves: Gaussian window over text": 2013,
    "Mnih et al.: recurrent glimpses": 2014,
    "Bahdanau et al.: [12], preprint": 2014,
    "Vaswani et al.: self-attention": 2017,
    "Hu et al.: squeeze and excitation": 2018,
    "Woo et al.: CBAM": 2018,
    "Wang et al.: ECA": 2020,
}
figure, axis = plots.panels(1, height=2.6)
for i, (name, year) in enumerate(YEARS.items()):
    axis.plot(year, i, "o", color="C1" if "[12]" in name else "C0")
    axis.text(year + 0.15, i, name, va="center", fontsize=8)
axis.set(yticks=[], xlabel="year", xlim=(1989.5, 2031), ylim=(len(YEARS) - 0.5, -0.5))
axis.grid(axis="y", visible=False)

# %%
plots.show(
    figure,
    alt="A timeline from 1991 to 2020 with nine works on learned attention. Reference 12 of the review is the fifth of them.",
    caption="Some works on learned attention by year of publication ([12]: of its preprint). Orange: the one that the review names as the first.",
    name="fig-14-time",
)  # fmt: skip

# %% [markdown]
# ## The tree
#
# {term}`Soft attention <soft attention>` computes its weights; {term}`hard attention` draws or chooses them. Within the soft family, modules differ in *what* gets a weight: a channel, a position (spatial), every channel at every position (mixed), or every pair of positions (self-attention).
# Click a leaf to go to its source. The families are the review's, but for *channel and spatial* and *additive*, which are ours, and for the Gaussian window, which it files under hard. We place a module by the shape of its weights: the mask of the residual attention network and coordinate attention weigh every channel at every position, so they
# are mixed, as the authors of the former call theirs. The survey behind the review {cite:p}`hassanin2022visual` has more families than these, and may file a module elsewhere.

# %%
FAMILIES = {
    "Soft": {
        "Channel: which map?": attention.CHANNEL,
        "Spatial: which place?": attention.SPATIAL,
        "Channel and spatial": attention.MIXED,
        "Self-attention: which pair?": attention.SELF,
        "Additive, for sequences": (attention.Additive,),
    },
    "Hard (chapter 15)": {"Bayesian, reinforced": attention.HARD},
}


# %%
def leaf(module):
    name = module.__name__
    return f'<a href="#module-{name.lower()}">{name}</a>'


# %%
def tree():
    lines = []
    for kind, families in FAMILIES.items():
        inner = "".join(f"<li>{f}: {', '.join(map(leaf, ms))}</li>" for f, ms in families.items())
        lines.append(f"<li><b>{kind}</b><ul>{inner}</ul></li>")
    return f"<ul>{''.join(lines)}</ul>"


# %%
display(HTML(tree()))


# %%
def folded(module):
    """The module's source, to unfold."""
    idea = html.escape(inspect.getdoc(module).split("\n")[0])
    source = html.escape(inspect.getsource(module))
    summary = f"<summary><b>{module.__name__}</b>: {idea}</summary>"
    return f'<details id="module-{module.__name__.lower()}">{summary}<pre style="overflow-x:auto">{source}</pre></details>'


# %%
ALL = [m for families in FAMILIES.values() for ms in families.values() for m in ms]
display(HTML("".join(map(folded, ALL))))

# %% [markdown]
# ## What they cost
#
# A *drop-in* takes and gives maps of the same shape, so it fits between any two layers. Here on 64 maps of 28 × 28.


# %%
def samples(module):
    """Do two passes of one input in training differ?"""
    net, x = module(16), torch.randn(2, 16, 8, 8)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    outs = []
    for s in (0, 1):
        torch.manual_seed(s)
        outs.append(deepcopy(net).train()(x).detach())  # a copy: some keep running means
    return not torch.equal(*outs)


# %%
drawn = {m: samples(m) for m in (*attention.SOFT, *attention.HARD)}
shape = (64, 28, 28)
counts = {m: cost.parameters_and_macs(partial(m, 64), shape) for m in drawn}

# %% tags=["timing"]
ROUNDS = profile(smoke=1, full=7)
times = cost.time_in_turn({m.__name__: cost.forward(m(64), (4, *shape)) for m in drawn}, ROUNDS)
family = {m: name.split(":")[0] for fs in FAMILIES.values() for name, ms in fs.items() for m in ms}
rows = [
    (m.__name__, family[m], "yes" if drawn[m] else "no", f"{counts[m][0]:,}", f"{counts[m][1] / 1e6:.2f}", f"{np.median(times[m.__name__]) / 4:.2f}")
    for m in drawn
]  # fmt: skip
plots.table(rows, ["module", "family", "draws at random", "parameters", "M multiply-adds", "ms an image"])

# %% [markdown]
# ## Channel: which map?
#
# *Squeeze and excitation* {cite:p}`hu2018squeeze` squeezes each map to its mean and lets two small dense layers say how much of each map to keep. ECA {cite:p}`wang2020eca` replaces them by
# a convolution over neighbouring means, with three to seven weights in all. Does the gate find a map that matters? We hand it eight maps of noise; only in one of them does the mean tell the class. The layer behind the gate weighs all maps alike, so nothing but the gate can choose.


# %%
class Gated(nn.Module):
    """SE on the input, then the mean of each map, then one linear layer whose weights are all alike."""

    def __init__(self):
        super().__init__()
        self.se, self.head = attention.SE(8), nn.Linear(1, 2)

    def forward(self, x):
        return self.head(self.se(x).mean((1, 2, 3))[:, None])


# %%
def planted(n, generator):
    y = torch.randint(2, (n,), generator=generator)
    x = torch.randn(n, 8, 6, 6, generator=generator)
    x[:, 5] += (2 * y - 1)[:, None, None]
    return Split(x, y)


# %%
generator = torch.Generator().manual_seed(0)
maps = Dataset("planted", ("a", "b"), *(planted(n, generator) for n in (512, 128, 512)), "simulated")


# %%
def gates(s):
    """Mean gate of each map on test images."""
    seed(s)
    net = Gated()
    fit(net, maps, epochs=profile(smoke=1, full=40), batch_size=64, lr=3e-2, validations=2, seed=s)
    predict(net, maps.test.x)
    return net.se.weights.mean(0).flatten().cpu().numpy()


# %%
opened = np.array([gates(s) for s in range(SEEDS)])

# %% tags=["hide-input"]
plots.say(
    f"The gate of the map that tells the class is open to {opened[:, 5].mean():.2f} on average, the others to {np.delete(opened, 5, 1).mean():.2f}. "
    f"It is the widest open in {(opened.argmax(1) == 5).sum()} of {SEEDS} seeds."
)

# %% [markdown]
# ## Spatial: which place?
#
# CBAM's spatial gate {cite:p}`woo2018cbam` takes the largest and the mean value over maps at each pixel, and a 7 × 7 convolution makes one gate a pixel of them. To learn whether it finds a “critical area” we need images where the area is known. So we plant a small bright spot
# at a random place in half of the chest X-rays {cite:p}`yang2023medmnist`, and ask: is there a spot?

# %%
xrays = load("pneumoniamnist").standardise()
SPOT = 4


# %%
def with_spots(split, n, generator):
    """(images, is there a spot?, its upper left corner)."""
    x = split.x[:n].cpu().clone()
    n = len(x)
    y = torch.randint(2, (n,), generator=generator)
    at = torch.randint(2, 28 - SPOT - 2, (n, 2), generator=generator)
    for image, label, (r, c) in zip(x, y, at.tolist(), strict=True):
        if label:
            image[0, r : r + SPOT, c : c + SPOT] += 1.5
    return Split(x, y), at


# %%
parts = [with_spots(s, n, generator) for s, n in ((xrays.train, 2000), (xrays.val, 300), (xrays.test, 600))]
spots = Dataset("spots", ("none", "spot"), *(p[0] for p in parts), "planted")

# %%
POOLS = {"mean": nn.AdaptiveAvgPool2d, "largest value": nn.AdaptiveMaxPool2d}


# %%
def finder(pool):
    def conv(a, b):
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    body = [*conv(1, 16), *conv(16, 16), attention.SpatialGate(16)]
    return nn.Sequential(*body, pool(1), nn.Flatten(), nn.Linear(16, 2))


# %% [markdown]
# How do we see whether a map finds the spot? The obvious way is to ask where its peak lies. But a gate is a sigmoid, and where it is wide open over half of the image many pixels share the largest value to the last bit; then “the peak” is whichever of them comes first. So we ask two things
# that ties cannot decide: how well the gate's values tell the pixels of the spot from all others (the area under the ROC curve; ½ is chance), and which part of the peak, with *all* pixels that share it, lies on the spot.

# %%
PLACE = torch.cartesian_prod(torch.arange(28), torch.arange(28))
there = spots.test.y.cpu() == 1


def told(maps):
    """(2, test images with a spot): AUC of the gate, spot against the rest; share of its peak on the spot."""
    corner, gate = parts[2][1][there, None], maps.flatten(1)[there]
    on = ((PLACE >= corner) & (PLACE < corner + SPOT)).all(2)  # (images, pixels)
    ranks, inside = torch.from_numpy(rankdata(gate, axis=1)), SPOT**2
    area = ((ranks * on).sum(1) - inside * (inside + 1) / 2) / (inside * (len(PLACE) - inside))
    top = gate == gate.max(1, keepdim=True).values
    return np.stack([area, (top & on).sum(1) / top.sum(1)])


# %%
def hits(pool, s):
    """What `told` says of the gate of one network; its maps of all test images; its accuracy."""
    seed(s)
    net = finder(pool)
    fit(net, spots, steps=2 * STEPS, batch_size=64, lr=1e-2, validations=2, seed=s)
    logits = predict(net, spots.test.x, len(spots.test.x))
    weights = net[6].weights[:, 0].cpu()
    return told(weights), weights, accuracy(logits.cpu(), spots.test.y.cpu())


# %%
found = {name: [hits(pool, s) for s in range(SEEDS)] for name, pool in POOLS.items()}

# %%
where = torch.nonzero(spots.test.y.cpu() == 1).flatten()[:4].tolist()
pictures = [spots.test.x[i, 0].cpu() for i in where]
heat = [(m - m.min()) / (m.max() - m.min()) for runs in found.values() for m in runs[0][1][where]]
titles = ["X-ray with a spot"] * 4 + [f"gate, then the {name}" for name in POOLS for _ in where]
plots.show(
    plots.grid([*pictures, *heat], titles, columns=4, size=1.6),
    alt="Four chest X-rays with a small bright square, and below each the maps of two spatial gates.",
    caption="X-rays with a planted spot, and the maps of the spatial gate in two networks, each on its own scale (PneumoniaMNIST, CC BY 4.0).",
    name="fig-14-spots",
)  # fmt: skip

# %% tags=["hide-input"]
areas = {
    name: stats.over_cases(stats.mean_value, [r[0][0] for r in runs], None) for name, runs in found.items()
}
rows = []
for name, runs in found.items():
    opened = np.mean([(maps > 0.99).float().mean() for _, maps, _ in runs])
    peak, right = np.mean([r[0][1] for r in runs]), np.mean([r[2] for r in runs])
    rows.append(
        (
            f"gate, then the {name}",
            f"{right:.3f}",
            areas[name],
            f"{100 * peak:.0f} %",
            f"{100 * opened:.0f} %",
        )
    )
rows.append(("by chance", "0.5", "0.5", f"{100 * SPOT**2 / 28**2:.0f} %", ""))
heads = ["AUC of the gate, spot against the rest", "of the peak, on the spot", "pixels all but fully open"]
plots.table(rows, ["network", "accuracy", *heads])

# %% [markdown]
# Compare the columns. Where the gate is wide open over much of the image, the spot may be among the open pixels and yet hold a small part of them: then the AUC is high and the share of the peak is low, and a picture of the peak alone would mislead. A 7 × 7 gate behind other convolutions may also open *beside* the spot that it has noticed: a map can know where the thing is and not lie on it. (The second network was tried first. A
# largest value needs no gate, so the mean was added; strictly, it needs none either.)
#
# ### In a U-Net
#
# Attention U-Net {cite:p}`oktay2018attention` puts a gate on each skip: the coarser map from below decides which places of the finer map may pass. *Spatial gates* are CBAM's, one behind each level on the way down. We compare with the plain U-Net at the same steps, and with the plain U-Net given some
# more steps, since gates take time. Both comparisons are of unfinished trainings: three hundred steps are a fraction of what such a network needs, and while the curve still rises any handicap in steps costs Dice.


# %%
class GatedSkip(nn.Module):
    """One step up whose skip passes a gate that the coarser map controls."""

    def __init__(self, up):
        super().__init__()
        deep, fine = up.up.in_channels, up.up.out_channels
        self.up, self.gate = up, attention.AttentionGate(fine, gating_channels=deep)

    def forward(self, x, aside):
        return self.up(x, self.gate(aside, x))


# %%
def gated_unet():
    net = SmallUNet()
    net.unet.up = nn.ModuleList(GatedSkip(up) for up in net.unet.up)
    return net


# %%
def spatial_unet():
    net = SmallUNet()
    for level in net.unet.down:
        level.append(attention.SpatialGate(level[0].out_channels))
    return net


# %%
train, val, test = (p[: profile(smoke=2, full=None)] for p in hearts.split(hearts.load()))
acdc = hearts.slices(train, val[:1], test, side=64)


# %%
def dice(build, s, steps):
    """(test patients,): Dice of three structures at ED and ES."""
    seed(s)
    net = build()
    options = {"loss": losses.dice_ce, "score": losses.mean_dice, "augment": random_affine(), "lr": 1e-2}
    fit(net, acdc, steps=steps, batch_size=16, validations=1, keep="last", seed=s, **options)
    return hearts.dice_of_patients(net, test, side=64).mean((1, 2))


# %%
PLAYERS = {
    "plain": (SmallUNet, STEPS),
    "plain, 1.15 × the steps": (SmallUNet, max(1, STEPS * 23 // 20)),
    "attention gates": (gated_unet, STEPS),
    "spatial gates": (spatial_unet, STEPS),
}
unets = {name: np.array([dice(b, s, n) for s in range(SEEDS)]) for name, (b, n) in PLAYERS.items()}


# %%
def lead(a, b):
    return stats.over_patients(a, b)


# %%
rows = [
    (name, f"{cost.parameters(PLAYERS[name][0]()):,}", f"{d.mean():.3f}", lead(d, unets["plain, 1.15 × the steps"]))
    for name, d in unets.items()
]  # fmt: skip
plots.table(rows, ["U-Net", "parameters", "Dice", "lead over plain with 1.15 × the steps"])
steps, gate = (lead(unets[name], unets["plain"]) for name in ("plain, 1.15 × the steps", "attention gates"))
sure = [what for what, g in (("the gates", gate), ("the steps", steps)) if g.low > 0]
plots.say(
    f"At equal steps the attention gates lead by {gate}; 15 % more steps bring the plain network {steps}. "
    + (
        f"Beyond chance: {' and '.join(sure)}."
        if sure
        else "At this length of training neither can be told from chance."
    )
)

# %% tags=["timing", "hide-input"]
clocks = {n: cost.forward(b(), (8, 1, 64, 64)) for n, (b, _) in PLAYERS.items() if "1.15" not in n}
ms = cost.time_in_turn(clocks, ROUNDS)
plots.say(
    "Time of a forward pass, plain = 1: "
    + ", ".join(f"{n} {np.median(t / ms['plain']):.2f}" for n, t in ms.items() if n != "plain") + "."
)  # fmt: skip

# %% [markdown]
# ## Self-attention: which pair?
#
# In {term}`self-attention` the queries come from the image itself: each place asks all others {cite:p}`vaswani2017attention,wang2018nonlocal`. Three learnt matrices make a *query*, a *key* and a *value* of the features of each place: what it asks, what it is found by, and what it then gives. (So far $k_t$ was the last two at once.) With queries $Q$, keys $K$ and values $V$, one row a place, and $d$ numbers a row,
#
# $$ Y = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V . $$ (eq-dot)
#
# Dividing by $\sqrt{d}$ keeps the scores from growing with $d$ (a sum of $d$ products of independent numbers of variance 1 has the variance $d$), so that the softmax does not settle on one position from the start. A **head** is one such set of three matrices. *Multi-head* attention runs several side by side, each on its share of the channels, so that one may look for
# edges and another for the same tissue far away, and mixes what they give. Since nothing in {eq}`eq-dot` knows where a position lies, a **positional encoding** is added to the features where order matters. A **transformer** is little more than this: self-attention and a small dense network for each position, each with a shortcut and a normalisation,
# repeated; a vision transformer (ViT) does it on patches of an image, and in segmentation UNETR and Swin-UNETR put it into the encoder of a U-Net. By hand, against PyTorch's own:

# %%
q, k, v = torch.randn(3, 2, 7, 8)
by_hand = (q @ k.mT / 8**0.5).softmax(2) @ v
torch.testing.assert_close(by_hand, F.scaled_dot_product_attention(q, k, v), rtol=1e-4, atol=1e-5)
print("by hand = torch:", tuple(by_hand.shape))

# %% [markdown]
# A convolution sees its neighbours. So here is a task that neighbours cannot solve: two bars, each upright or flat, lie far apart. Do they point the same way? Our network has two 3 × 3 convolutions, so a small {term}`receptive field`; it looks at each pixel, and *averages*;
# an average of local answers can count bars, but a linear layer on counts cannot tell “both or none” from “one”. (A threshold on the count is right three times in four.)


# %%
def bars(n, generator):
    x = 0.3 * torch.randn(n, 1, 24, 24, generator=generator)
    kinds = torch.randint(2, (n, 2), generator=generator)
    for image, pair in zip(x[:, 0], kinds.tolist(), strict=True):
        for kind, low in zip(pair, (1, 14), strict=True):
            r, c = (low + int(torch.randint(0, 4, (), generator=generator)) for _ in range(2))
            image[r : r + (5 if kind else 2), c : c + (2 if kind else 5)] += 2
    return Split(x, (kinds[:, 0] == kinds[:, 1]).long())


# %%
pairs = Dataset("bars", ("differ", "same"), *(bars(n, generator) for n in (2000, 300, 1000)), "simulated")


# %%
def matcher(module, hidden=False):
    def conv(a, b, k):
        return [nn.Conv2d(a, b, k, padding=k // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    middle = [module(16)] if module else []
    body = [*conv(1, 16, 3), nn.MaxPool2d(2), *conv(16, 16, 3), *middle, *conv(16, 16, 1)]
    head = [nn.Linear(16, 16), nn.ReLU()] if hidden else []
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head, nn.Linear(16, 2))


# %%
CONTROL = "none, but a hidden layer behind the average"
GUESTS = {
    "none": None,
    CONTROL: None,
    "SE": attention.SE,
    "non-local": attention.NonLocal,
    "multi-head": attention.MultiHead,
    "criss-cross": attention.CrissCross,
    "axial": attention.Axial,
}
solved = {}
for name, module in GUESTS.items():
    solved[name] = []
    for s in range(SEEDS):
        seed(s)
        net = matcher(module, hidden=name == CONTROL)
        fit(net, pairs, steps=2 * STEPS, batch_size=64, lr=1e-2, validations=2, keep="last", seed=s)  # fmt: skip
        solved[name].append(accuracy(predict(net, pairs.test.x).cpu(), pairs.test.y.cpu()))

# %%
plots.table(
    [(n, " · ".join(f"{v:.2f}" for v in values), f"{np.mean(values):.3f}") for n, values in solved.items()],
    ["module", "accuracy of each seed", "mean; guessing gives .5, counting .75"],
)

# %% [markdown]
# The second row is the control. It has no attention, only one more layer behind the average, and that layer can turn two counts into “both or none”. Where it does as well as the modules, the task never needed pairs: what the first row lacks is one nonlinearity. SE, which sees each channel as one mean, is a similar case. So do not conclude from such a
# task that distant clues need self-attention; a fair test would ask whether two things *match* that no count can tell apart. And look at the seeds before the mean: where one of them guesses and another is always right, the module can solve the task and did not find out how in so many steps. That speaks of training, not of what the module can see.
#
# All pairs cost the square of the number of pixels. Criss-cross and axial attention look along rows and columns, linear attention changes the order of the products.

# %% tags=["timing"]
SIDES = profile(smoke=(4, 8), full=(8, 16, 24, 32, 48))
COMPARED = (
    attention.NonLocal,
    attention.CrissCross,
    attention.Axial,
    attention.LinearAttention,
    attention.SE,
)
clock = {
    side: cost.time_in_turn({m.__name__: cost.forward(m(32), (1, 32, side, side)) for m in COMPARED}, ROUNDS)
    for side in SIDES
}
figure, axis = plots.panels(1, height=2.8)
for i, m in enumerate(COMPARED):
    axis.loglog(
        [s**2 for s in SIDES],
        [np.median(clock[s][m.__name__]) for s in SIDES],
        "os^Dv"[i] + "-",
        label=m.__name__,
    )
axis.set(xlabel="pixels", ylabel="ms")
axis.legend(fontsize=8)

# %% tags=["timing"]
last = SIDES[-2:]
power = np.polyfit(np.log([s**2 for s in last]), np.log([np.median(clock[s]["NonLocal"]) for s in last]), 1)[
    0
]
plots.show(
    figure,
    alt="Milliseconds against the number of pixels on logarithmic axes for five modules. Non-local attention rises most steeply.",
    caption=f"Time of a forward pass on 32 maps. The products of non-local attention grow with the square of the number of pixels; its time, on the last stretch, with the power {power:.1f}. On small maps it need not be the slower one.",
    name="fig-14-square",
)  # fmt: skip

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
claims.observe(
    "C053",
    min(YEARS.values()) - 2014,
    n=len(YEARS),
    where="the works in the timeline; [12] counted from its preprint",
)
long = [LENGTHS.index(t) for t in LENGTHS if 10 <= t <= 15 or t == LENGTHS[-1] < 10]
ahead = stats.paired(scores["with attention"][:, long].mean(1), scores["fixed vector"][:, long].mean(1))
claims.observe("C054", ahead, where="rows of 10 to 15 digits, lengths seen in training, written backwards")
claims.untestable("C055")  # fmt: skip

# %% tags=["hide-input"]
one = [drawn[m] == (m in attention.HARD) for m in drawn]
claims.observe(
    "C056",
    np.mean(one),
    n=len(one),
    where="medlib's drop-in modules: listed as hard, and draws at random (the list was made by this very test)",
)


# %% tags=["hide-input"]
def has_exact_gradient(module):
    """Do the parameters that make the weights get a gradient, and is it that of finite differences, for what was drawn?"""
    torch.manual_seed(0)
    net = module(4).double().train()
    x = torch.randn(1, 4, 3, 4, dtype=torch.double, requires_grad=True)
    for p in net.parameters():
        nn.init.normal_(p, std=0.5)
    makers = {
        n: p for n, p in net.named_parameters() if n.split(".")[0] in ("score", "to_five", "query", "key")
    }

    def output(*values):
        torch.manual_seed(1)  # the same draw each time
        return torch.func.functional_call(net, dict(zip(makers, values, strict=True)), x)

    found = torch.autograd.grad(output(*makers.values()).square().sum(), makers.values(), allow_unused=True)
    alive = any(g is not None and g.abs().sum() > 0 for g in found)
    return alive and torch.autograd.gradcheck(output, tuple(makers.values()), raise_exception=False)


# %% tags=["hide-input"]
FILED = {
    "Bayesian": attention.BayesianAttention,
    "variational": attention.VariationalAttention,
    "Gaussian": attention.GaussianWindow,
    "reinforced": attention.BernoulliGate,
}
exact = {name: has_exact_gradient(m) for name, m in FILED.items()}

# %% tags=["hide-input"]
claims.observe(
    "C057",
    sum(exact.values()),
    n=len(exact),
    where=", ".join(f"{n}: {'yes' if e else 'no'}" for n, e in exact.items()),
)
claims.observe("C058", 50 - 50, n=1, where="“50 attention techniques” in the survey's abstract")
claims.untestable("C059")


# %% tags=["hide-input"]
def from_the_sentence(x, se):
    """Global average pooling, a fully connected layer, ReLU, another one, sigmoid; torchvision's weights."""
    z = x.mean((2, 3), keepdim=True)
    z = torch.sigmoid(F.conv2d(F.conv2d(z, se.fc1.weight, se.fc1.bias).relu(), se.fc2.weight, se.fc2.bias))
    return x * z


# %% tags=["hide-input"]
from torchvision.ops import SqueezeExcitation

theirs, x = SqueezeExcitation(32, 4), torch.randn(4, 32, 9, 9)
claims.observe(
    "C060",
    (from_the_sentence(x, theirs) - theirs(x)).abs().max().item(),
    n=4,
    where="copied weights; ReLU, sigmoid and the product with the input are ours, the sentence does not name them",
)


# %% tags=["hide-input"]
def guests(module):
    """Parameters that the module adds to a ResNet-50."""
    with torch.device("meta"):
        return sum(cost.parameters(module(c)) * n for c, n in ((256, 3), (512, 4), (1024, 6), (2048, 3)))


# %% tags=["hide-input"]
claims.observe(
    "C061",
    guests(attention.ECA) - guests(attention.SE),
    n=2,
    where=f"ResNet-50: ECA {guests(attention.ECA):,}, SE {guests(attention.SE):,}",
)
for name, area in areas.items():
    claims.observe("C062", area.shifted(-0.5), where=f"planted spots on X-rays, gate, then the {name}")

# %% tags=["hide-input"]
for name in ("attention gates", "spatial gates"):
    for rival, budget in (("plain", "equal steps"), ("plain, 1.15 × the steps", "about equal time")):
        gap = lead(unets[name], unets[rival])
        claims.observe("C063", gap, where=f"ACDC at 64 px, {STEPS} steps, {name}, {budget}, {SEEDS} seeds")
claims.untestable("C064")

# %% tags=["hide-input"]
x = torch.randn(6, 1, generator=generator)
weights = (x @ x.T).softmax(1)
outputs = weights @ x
claims.observe(
    "C065",
    (weights - outputs).abs().max().item(),
    n=6,
    where="six inputs of one feature: the weights, and the weighted sums",
)


# %% tags=["hide-input"]
def agrees(module):
    """Does back-propagation agree with finite differences in double precision?"""
    torch.manual_seed(0)
    net = module(4).double().eval()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(1, 4, 3, 4, dtype=torch.double, requires_grad=True)
    return torch.autograd.gradcheck(net, x, raise_exception=False)


# %% tags=["hide-input"]
agreed = {m.__name__: agrees(m) for m in attention.SOFT}

# %% tags=["hide-input"]
failing = [name for name, ok in agreed.items() if not ok]
claims.observe(
    "C066",
    np.mean(list(agreed.values())),
    n=len(agreed),
    where="medlib's soft modules" + (f"; not: {', '.join(failing)}" if failing else ""),
)

# %% [markdown]
# For C054 the fixed vector may be too short, or its network not yet trained: with a thousand steps we cannot tell one from the other, and the paper itself speaks of the first. C063 compares unfinished trainings, with about as many parameters; no sign of a gain, or of a loss, in it says what a converged network would show. What we would try first: a U-Net
# without gates, trained to the end, then gates, in the same time. C065 mixes two things up: the *scores*, which say how much, and the *output*, which is the weighted sum. C057 is the review's own test turned on its own tree. There are two tests, and they do not agree: Bayesian attention draws its weights, so it is hard, and its gradient is exact for what it drew, so it is soft. Its neighbour in the tree, variational attention, chooses one position and lets a gradient through that belongs to another function (straight through, chapter 15). A name for a family is no measurement.
#
# ## At full size
#
# SE in a full ResNet-18, one training step on the meta device:

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    net = ResNet(3, 10)
    for stage in net.stages:
        for block in stage:
            block.bn2 = nn.Sequential(block.bn2, attention.SE(block.conv2.out_channels))
    F.cross_entropy(net(torch.empty(2, 3, 224, 224)), torch.zeros(2, dtype=torch.long)).backward()
assert all(p.grad is not None for p in net.parameters())
print(f"SE adds {cost.parameters(net) - cost.parameters(ResNet(3, 10)):,} parameters to ResNet-18")

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A map is a weight, not a reason.** Where a gate is open says what passed it, not what decided.
# - **Planted tasks are kind.** A bright square on an X-ray is not a lesion. A module that finds the first may miss the second.
# - **All pairs of a volume.** 128 × 128 × 64 voxels have $10^{12}$ pairs. Use axial or windowed attention, or attend on coarse maps.
#
# ## Summary
#
# - Score, softmax, weighted sum: that is all of soft attention.
# - The scores are the weights; the output is the weighted sum.
# - Channel attention weighs maps, spatial attention places, self-attention pairs of places.
# - Attention was built against a bottleneck. Ask which bottleneck your task has.
# - Self-attention costs the square of the number of places, unless its pairs are restricted or reordered.
#
# ## Check yourself
#
# **1.** Two places have the scores $0$ and $\ln 3$, and the values 8 and 4. What does the query get?
#
# - **A** 4
# - **B** 5
# - **C** 6
# - **D** 7
#
# <details><summary>Answer</summary>
#
# **B.** The softmax gives $1/4$ and $3/4$, and $8/4 + 3 · 4/4 = 5$. A picks the place with the larger score,
# as hard attention would; C weighs both alike.
#
# </details>
#
# **2.** What does each row of the matrix of attention weights sum to?
#
# - **A** 1, because of the softmax over the keys
# - **B** 1, because of the softmax over the queries
# - **C** the number of keys
# - **D** it depends on the scores
#
# <details><summary>Answer</summary>
#
# **A.** Each query shares one unit of attention among the keys. B would make the columns sum to one.
#
# </details>
#
# **3.** You shuffle the pixels of an image, apply dot-product self-attention without positions, and shuffle
# back. What changed?
#
# - **A** the output, but not the weights
# - **B** the output at the border only
# - **C** nothing
# - **D** everything, for neighbours were torn apart
#
# <details><summary>Answer</summary>
#
# **C.** Each pixel asks all others, wherever they are: the module does not know places. D is true of a
# convolution. If place matters, it must be told.
#
# </details>
#
# **4.** A network writes rows of digits backwards. Why does the line of its attention weights run down from
# the upper right?
#
# - **A** The softmax turns the order of the rows round.
# - **B** Later digits get larger scores from the encoder.
# - **C** The encoder reads from right to left.
# - **D** The first digit that it writes is the last that it read.
#
# <details><summary>Answer</summary>
#
# **D.** Row 1 of the picture looks at the last columns, row 2 about one place further left, and so on. Nobody
# told it the order; the loss did.
#
# </details>
#
# **5.** Squeeze-and-excitation with a reduction of 16 sits on 256 maps, without biases. How many weights has
# it?
#
# - **A** 4,096
# - **B** 8,192
# - **C** 65,536
# - **D** 131,072
#
# <details><summary>Answer</summary>
#
# **B.** From 256 to 16 and back: $2 · 256 · 16$. A counts one of the two layers, D forgets the reduction.
#
# </details>
#
# **6.** The side of an image is doubled. By which factor does the number of pairs in full self-attention
# grow?
#
# - **A** 2
# - **B** 4
# - **C** 8
# - **D** 16
#
# <details><summary>Answer</summary>
#
# **D.** Four times the places, each with four times the partners. This is why axial attention looks along
# rows and columns only.
#
# </details>
#
# **7.** In a scan, the attention map of a network is brightest on a tumour, and the network says “tumour”.
# What would show that it decides by that place?
#
# - **A** a sharper map from a network trained with a second seed
# - **B** the same kind of map in other patients with tumours
# - **C** the answer changes when this place is covered, and not with another one
# - **D** a radiologist agrees with the map in most patients
#
# <details><summary>Answer</summary>
#
# **C.** A weight says what may pass, not what decides; change the place and watch the answer. D shows that
# the map is plausible, which is what makes it tempting.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: copy instead of reverse
# :label: ex-14-copy
# What does the alignment look like if the row has to be copied? Change `flip(1)` and see.
# ```
#
# ```{solution} ex-14-copy
# :class: dropdown
# It lies on the main diagonal.
# ```
#
# ```{exercise} ★ Predict: one head or four
# :label: ex-14-heads
# Does the number of heads change the number of parameters of multi-head attention?
# ```
#
# ```{solution} ex-14-heads
# :class: dropdown
# No: the heads share the same matrices, cut into pieces. `cost.parameters(attention.MultiHead(64, heads=1))` equals that with four.
# ```
#
# ```{exercise} ★★ Implement: dot product for the translator
# :label: ex-14-dot
# Replace the additive score by $q^\top k_t / \sqrt{d}$. Does it learn the reversal as fast?
# ```
#
# ```{solution} ex-14-dot
# :class: dropdown
# `weights = (keys @ h[:, :, None])[..., 0] / 48**0.5`, softmax, sum. Compare over three seeds; with learnt projections for query and key it comes close.
# ```
#
# ```{exercise} ★★ Implement: a position for each pixel
# :label: ex-14-position
# Add two maps with row and column numbers from −1 to 1 to the input of `matcher(attention.MultiHead)`. Is the
# task solved faster?
# ```
#
# ````{solution} ex-14-position
# :class: dropdown
# ```python
# class Placed(nn.Module):
#     def __init__(self, net, side=24):
#         super().__init__()
#         net[0] = nn.Conv2d(3, 16, 3, padding=1, bias=False)
#         line = torch.linspace(-1, 1, side)
#         self.net = net
#         self.register_buffer("where", torch.stack(torch.meshgrid(line, line, indexing="ij")))
#
#     def forward(self, x):
#         return self.net(torch.cat((x, self.where.expand(len(x), -1, -1, -1)), 1))
#
#
# seed(0)
# placed = Placed(matcher(attention.MultiHead))
# fit(placed, pairs, epochs=2, batch_size=64, lr=1e-2, validations=1, keep="last")
# ```
#
# Report the accuracy after 100, 200 and 600 steps, with and without, over three seeds. Position is not needed
# to compare two bars, so do not be surprised if it changes little.
# ````
#
# ```{exercise} ★★★ Investigate: dimmer spots
# :label: ex-14-dim
# Lower the brightness of the planted spot from 1.5 to 0.3 in steps. At which brightness does the pointing rate fall, and does the accuracy of the classifier fall with it?
# ```
#
# ```{solution} ex-14-dim
# :class: dropdown
# Make the brightness an argument of `with_spots`, and plot both against it with intervals over images. If the map fails before the classifier does, the classifier uses something else than the map shows.
# ```
#
# ```{exercise} ★★★ Investigate: cover the place
# :label: ex-14-cover
# Does the answer rest on the place where the gate is brightest? Cover the spot, the peak of the map, or a
# random place with the grey of its surroundings, and compare how far the logit falls.
# ```
#
# ````{solution} ex-14-cover
# :class: dropdown
# ```python
# def covered(x, corners, size=SPOT):
#     x = x.clone()
#     for image, (r, c) in zip(x, corners.tolist(), strict=True):
#         around = image[0, max(r - 2, 0) : r + size + 2, max(c - 2, 0) : c + size + 2]
#         image[0, r : r + size, c : c + size] = around.median()
#     return x
# ```
#
# Keep the network in `hits`, and look at test images with a spot only. Covering the spot should cost most; a
# random place gives the floor. If covering the peak costs no more than the floor, the map is not where the
# answer comes from, however bright. The pitfall: what you paint is itself unusual, so use the median of the
# surroundings and not black.
# ````

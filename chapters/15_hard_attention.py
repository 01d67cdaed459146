# %% [markdown]
# # Hard attention
#
# *What if the network must choose where to look?*
#
# {term}`Soft attention <soft attention>` looks everywhere, here more and there less. A doctor with a magnifying glass does not: she looks at one place, then at the next. A network that *chooses*, with {term}`hard attention`, could leave out most of an
# image and show what it has let through. But a choice has no derivative. **How can a network learn to choose, and what does the choosing cost?**
#
# After this chapter you can write the gradient of an average of choices in two ways, compare estimators by bias and variance, say what the ELBO is, and test whether a map
# points at the thing that decides.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional as F

from medlib import attention, claims, cost, fit, load, plots, profile, seed, stats
from medlib.attention.hard import gumbel_softmax
from medlib.data import Dataset, Split
from medlib.device import device
from medlib.metrics import accuracy, calibration_error
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
STEPS = profile(smoke=2, quick=220, full=600)
DRAWS = profile(smoke=200, full=20_000)

# %% [markdown]
# ## The problem: a choice has no slope
#
# Six places, and one of them must be chosen. Place $z$ costs the loss $L_z$. The network gives each place a score $\theta_z$; a {term}`softmax` makes probabilities $p_z$ of them, and chance picks. What we
# want small is the loss *on average*:
#
# $$ J(\theta) = \sum_z p_z\, L_z . $$ (eq-average)
#
# With six places we can write the sum down, and its gradient is exact. With a million pictures of a million places we cannot: we see the loss of the place that was chosen, and no other.
#
# ## The idea: two ways around
#
# **Trial and error.** Since $\nabla p = p\, \nabla \log p$, the gradient is itself an average over choices {cite:p}`williams1992simple`:
#
# $$ \nabla J = \mathrm{E}\big[ (L_z - b)\, \nabla \log p_z \big] . $$ (eq-reinforce)
#
# So choose, see the loss, and make that choice likelier if the loss was below the *baseline* $b$, less likely if above. Any $b$ that does not depend on the choice gives the right average, for $\sum_z p_z\, b\, \nabla \log p_z = b\, \nabla \sum_z p_z = 0$. This is called REINFORCE.
#
# **Noise outside.** Draw the noise first, and let the choice be a function of scores and noise: the largest of $\theta_z + g_z$, where $g_z = -\log(-\log u)$ with $u$ uniform between 0 and 1 is Gumbel noise, is an exact draw from $p$. The largest has no slope either, but a softmax of the same numbers, divided
# by a *temperature* $\tau$, nearly does the same and has one {cite:p}`jang2017gumbel,maddison2017concrete`. *Straight through* means: use the hard choice going forward, and the soft slope going back. It is a white lie, and so it has a bias.
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C067", "C068", "C069", "C070")

# %% [markdown]
# ## The estimators by hand, against the exact gradient
#
# An *estimator* makes a guess of the {term}`gradient` from what chance has shown. Its *bias* is how far it is off on average, its *spread* how far single guesses lie apart (the root of their variance). With six places
# the exact gradient is known, so both can be measured.

# %%
theta = torch.tensor([0.5, 0.0, -0.5, 1.0, 0.2, -1.0], dtype=torch.double, requires_grad=True)
L = torch.tensor([1.0, 0.2, 0.9, 1.1, 0.6, 0.4], dtype=torch.double)
(exact,) = torch.autograd.grad((theta.softmax(0) * L).sum(), theta)


# %%
def reinforce(n, baseline):
    """(n, 6): one estimate a draw."""
    p = theta.detach().softmax(0)
    z = torch.multinomial(p, n, replacement=True)
    b = (p * L).sum() if baseline else 0.0
    return (L[z] - b)[:, None] * (F.one_hot(z, 6) - p)  # ∇ log p_z = one-hot − p


# %%
def straight_through(n, temperature):
    scores = theta.detach().expand(n, -1).clone().requires_grad_()
    choice = gumbel_softmax(scores, temperature, 1)
    return torch.autograd.grad((choice * L).sum(), scores)[0]


# %%
seed(0)
ESTIMATORS = {
    "REINFORCE": reinforce(DRAWS, False),
    "REINFORCE with baseline": reinforce(DRAWS, True),
    "straight through, τ = 1": straight_through(DRAWS, 1.0),
    "straight through, τ = 0.3": straight_through(DRAWS, 0.3),
}
rows = []
for name, g in ESTIMATORS.items():
    bias, noise = (g.mean(0) - exact).norm(), g.var(0).sum().sqrt()
    rows.append((name, f"{bias:.3f}", f"{noise / len(g) ** 0.5:.3f}", f"{noise:.2f}"))
plots.table(
    rows,
    [
        "estimator",
        f"distance of the mean of {DRAWS:,} draws",
        "what chance alone gives",
        "spread of one draw",
    ],
)

# %%
sizes = [n for n in (1, 4, 16, 64, 256, 1024, 4096) if n <= DRAWS // 4]
figure, axis = plots.panels(1, height=2.9)
for i, (name, g) in enumerate(ESTIMATORS.items()):
    off = [
        torch.stack([c.mean(0) - exact for c in g[: n * (DRAWS // n)].split(n)]).norm(dim=1).mean()
        for n in sizes
    ]
    axis.loglog(sizes, off, "os^D"[i] + "-", label=name)
axis.axhline(exact.norm(), color="0.6", linestyle=":", label="size of the gradient")
axis.set(xlabel="draws averaged", ylabel="distance from the exact gradient")
axis.legend(fontsize=8)

# %%
plots.show(
    figure,
    alt="Distance of four gradient estimates from the exact gradient against the number of draws, on logarithmic axes. REINFORCE falls in a straight line, lower with a baseline. Straight through with τ = 1 starts lowest and soon levels off at its bias; with τ = 0.3 it runs beside REINFORCE with a baseline and levels off late.",
    caption="How far each estimate is from the exact gradient, by the number of draws that are averaged.",
    name="fig-15-estimators",
)  # fmt: skip

# %% [markdown]
# A distance far above what chance gives is a bias. REINFORCE has none, however long its average takes. A baseline takes away much of the noise (here it is the true mean, which a network must estimate). Straight through makes a trade, and the temperature sets it: a warm one is calm and wrong, a cool
# one nearly right and noisy. No number of draws mends a bias.
#
# ## The modules

# %%
plots.show_source(attention.BernoulliGate, attention.GumbelGate)

# %% [markdown]
# `BernoulliGate` is the *reinforced* kind of the review's tree: a coin for each place, tossed with probability $\sigma(w \cdot x + b)$ {cite:p}`xu2015show,mnih2014recurrent`. Its `surrogate` is a term for the loss whose gradient is {eq}`eq-reinforce`.
#
# The *Bayesian* kind says: where to look is a hidden variable $z$ of the model. Before the image is seen, it has a distribution $p(z)$, the *prior*. Let $q(z)$ be our guess of where to look once the image is seen, and $\mathrm{KL}(q \,\|\, p) = \sum_z q(z) \log \frac{q(z)}{p(z)}$ the Kullback–Leibler divergence, which says how far $q$ is from $p$: it is 0 where they agree, and never negative. Then the logarithm of the probability of the right answer $y$ is at least
#
# $$ \log p(y) \;\ge\; \mathrm{E}_{q}\,[\log p(y \mid z)] \;-\; \mathrm{KL}\big(q(z)\,\|\,p(z)\big) , $$ (eq-elbo)
#
# the *evidence lower bound*, ELBO. It takes one line: $\log p(y) = \log \mathrm{E}_q\big[p(y \mid z)\, p(z) / q(z)\big]$, and the logarithm of a mean is at least the mean of the logarithms (Jensen's inequality). Its first term is the cross-entropy that we know, with a minus; its second is a price for leaving the prior; where the prior is uniform, for being sure {cite:p}`deng2018latent,fan2020bayesian`. Below we train with a hundredth of that price (`beta`), so what we minimise is no longer this bound. Nor is our module all of Deng and colleagues': their $q$ sees the answer $y$ in training, ours (`evidence=0`) does not, and our prior is uniform. What is left is soft attention that is drawn, with a small reward for being unsure.

# %%
plots.show_source(attention.VariationalAttention)

# %% [markdown]
# The *Gaussian* kind slides a window over the image, given by five numbers {cite:p}`gregor2015draw`. Each of its steps has a derivative. By the review's own test it is soft.

# %%
plots.show_source(attention.GaussianWindow)

# %% [markdown]
# ## A task whose answer sits in a known place
#
# Does a map point at the thing that decides? To ask, we must know where that thing is.
#
# Chest X-rays {cite:p}`yang2023medmnist` with one small spot at a random place: is it brighter or darker than its surroundings? The rest of the image does not matter.

# %%
xrays = load("pneumoniamnist").standardise()
SPOT, generator = 4, torch.Generator().manual_seed(0)


# %%
def with_spots(split, n):
    """(images, brighter?, upper left corner of the spot)."""
    x = split.x[:n].cpu().clone()
    n = len(x)
    y = torch.randint(2, (n,), generator=generator)
    at = torch.randint(2, 28 - SPOT - 2, (n, 2), generator=generator)
    for image, label, (r, c) in zip(x, y, at.tolist(), strict=True):
        image[0, r : r + SPOT, c : c + SPOT] += 1.5 if label else -1.5
    return Split(x, y), at


# %%
parts = [with_spots(s, n) for s, n in ((xrays.train, 3000), (xrays.val, 400), (xrays.test, 600))]
spots = Dataset("spots", ("darker", "brighter"), *(p[0] for p in parts), "planted")

# %% [markdown]
# Two convolutions with a pooling between them, the module on maps of 14 × 14 places, the mean of each map, and a linear layer. Of the 196 places about six lie on the spot, and about thirty see some of it, so a place beside the spot may know the answer too. The network without any module solves the task as well: we ask where a module looks, and not whether it helps.


# %%
class Looker(nn.Module):
    def __init__(self, module):
        super().__init__()

        def conv(a, b):
            return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

        self.body = nn.Sequential(*conv(1, 16), nn.MaxPool2d(2), *conv(16, 16))
        self.look = module(16) if module else nn.Identity()
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.look(self.body(x)).mean((2, 3)))


# %%
def loss_of(net, price=0.0, beta=0.01):
    """Cross-entropy, and what the module in `net` adds to it: REINFORCE's term, or the KL of the ELBO."""
    look = net.look

    def loss(logits, target):
        each = F.cross_entropy(logits, target, reduction="none")
        value = each.mean()
        if getattr(look, "log_prob", None) is not None:
            value = value + look.surrogate(each + price * look.weights.mean((1, 2, 3)))
        elif net.training and getattr(look, "kl", None) is not None:
            queries = (
                look.weights.shape[1] if look.weights.ndim == 3 else 1
            )  # N × N weights: the mean over queries
            value = value + beta * look.kl / queries
        return value

    return loss


# %%
def train(module, s, **options):
    seed(s)
    net = Looker(module)
    fit(net, spots, steps=STEPS, batch_size=64, lr=1e-2, loss=loss_of(net, **options), validations=1, keep="last", seed=s)  # fmt: skip
    return net


# %%
LOOKS = {
    "none": None,
    "spatial gate (soft)": attention.SpatialGate,
    "global context (soft)": attention.GlobalContext,
    "Gaussian window": attention.GaussianWindow,
    "Bernoulli, no baseline": partial(attention.BernoulliGate, cell=2, baseline=False),
    "Bernoulli, baseline": partial(attention.BernoulliGate, cell=2),
    "Gumbel gate": attention.GumbelGate,
    "variational": attention.VariationalAttention,
    "Bayesian (Weibull)": attention.BayesianAttention,
}
nets = {name: [train(module, s) for s in range(SEEDS)] for name, module in LOOKS.items()}


# %%
def heat(net, x):
    """(B, 14, 14): how much each place counts, in evaluation mode."""
    predict(net, x, len(x))
    look = net.look
    if isinstance(look, (attention.BernoulliGate, attention.GumbelGate)):
        return look.probability[:, 0].cpu()
    w = look.weights.cpu()
    return w.mean(1).unflatten(1, (14, 14)) if w.ndim == 3 else w[:, 0]  # of N × N: the mean over queries


# %%
def on_spot(at):
    """(N, 14, 14): do a place's four pixels overlap the spot?"""
    row = torch.arange(14) * 2
    inside = [(row + 1 >= a[:, None]) & (row <= a[:, None] + SPOT - 1) for a in at.T]
    return inside[0][:, :, None] & inside[1][:, None]


# %%
test_x, truth = spots.test.x, on_spot(parts[2][1])
right, pointing, peaked, inside = {}, {}, {}, {}


def told(maps):
    """How well a map tells the spot from the rest (area under the ROC curve), and how much of its peak, with all
    places that share it, lies on the spot: each a mean over test images."""
    on, flat = truth.flatten(1), maps.flatten(1)
    ranks, n = torch.from_numpy(rankdata(flat, axis=1)), on.sum(1)
    area = ((ranks * on).sum(1) - n * (n + 1) / 2) / (n * (on.shape[1] - n))
    top = flat == flat.max(1, keepdim=True).values
    return area.mean().item(), ((top & on).sum(1) / top.sum(1)).mean().item()


# %%
for name, several in nets.items():
    right[name] = [accuracy(predict(n, test_x).cpu(), spots.test.y.cpu()) for n in several]
    if name == "none":
        continue
    maps = [heat(n, test_x) for n in several]
    pointing[name], peaked[name] = np.array([told(m) for m in maps]).T
    inside[name] = np.array([((m * truth).sum((1, 2)) / m.sum((1, 2)).clamp(min=1e-9)).mean() for m in maps])

# %%
chance = truth.float().mean().item()
rows = []
for name in LOOKS:
    maps = (
        ("", "", "")
        if name == "none"
        else (stats.interval(pointing[name]), f"{peaked[name].mean():.2f}", f"{inside[name].mean():.2f}")
    )
    rows.append((name, stats.interval(right[name]), *maps))
rows.append(("by chance", "0.5", "0.5", f"{chance:.2f}", f"{chance:.2f}"))
heads = ["AUC of the map, spot against the rest", "share of its peak on the spot", "share of the map on it"]
plots.table(rows, ["module", "accuracy", *heads])

# %% [markdown]
# The first column is the one to compare. A gate that is wide open over half of the image has many places that share the largest value to the last bit, so that its peak is no place at all; the AUC asks about the whole order of the places, and ties cannot decide it (chapter 14).
#
# Compare like with like. When tested, the variational and the Bayesian module draw nothing: they average over all places, as soft attention does, and add the answer to the map. Their rival is *global context*, which does the same and never draws. The gates multiply the map and may stay open, so their
# shares are small by design; compare them with one another and with the *spatial gate*. (The Bernoulli gate tosses one coin for 2 × 2 places.)

# %%
k = [0, 1, 2]
pictures, titles = [test_x[i, 0].cpu() for i in k], ["image"] * 3
for name in list(LOOKS)[1:]:
    maps = heat(nets[name][0], test_x[:64])
    pictures += [F.interpolate(maps[i][None, None], scale_factor=2)[0, 0] for i in k]
    titles += [name] * 3

# %%
plots.show(
    plots.grid(pictures, titles, columns=6, size=1.15),
    alt="Three chest X-rays with a small spot, and for each module the three maps of where it looks. Some maps have one bright place at the spot, others are nearly even.",
    caption="Three test images and where each module looks, first seed (PneumoniaMNIST, CC BY 4.0). Each map has its own scale.",
    name="fig-15-maps",
)  # fmt: skip

# %% tags=["hide-input"]
ranked = sorted(pointing, key=lambda n: -pointing[n].mean())
best, least = (pointing[n] for n in (ranked[0], ranked[-1]))
gap = stats.paired(pointing["Bernoulli, baseline"], pointing["Bernoulli, no baseline"])
drawn = stats.paired(pointing["variational"], pointing["global context (soft)"])
unsure = f"neither better nor worse, as far as {SEEDS} seeds tell,"
how = {n: g.says("better", "worse", unsure) for n, g in (("gap", gap), ("drawn", drawn))}
plots.say(
    f"The map that tells the spot best is on average that of *{ranked[0]}* (AUC {best.mean():.2f}; single seeds {best.min():.2f} to {best.max():.2f}), "
    f"the worst that of *{ranked[-1]}* ({least.mean():.2f}; chance 0.5). With a baseline the Bernoulli gate's map does {how['gap']} (difference {gap}). "
    f"Attention that draws in training, *variational*, does {how['drawn']} than global context, which never draws ({drawn})."
)

# %% tags=["hide-input"]
corners = torch.zeros(14, 14, dtype=torch.bool)
corners[:3, :3] = corners[:3, -3:] = corners[-3:, :3] = corners[-3:, -3:] = True
fled = np.mean(
    [corners.flatten()[heat(n, test_x).flatten(1).argmax(1)].float().mean() for n in nets["Gaussian window"]]
)
plots.say(
    f"The peak of the Gaussian window lies in a corner of the map, where no spot ever is, in {100 * fled:.0f} % of the images. "
    "Where it does, little of the answer can come through the peak: its five numbers are computed from the whole map, and one of them, the intensity, can carry it."
)

# %% [markdown]
# ### How noisy is the gradient in the network?
#
# One batch, 100 draws of the coins, in one trained network: how large is the spread of the gradient of the gate's weights, with a baseline and without?


# %%
def spread(net, baseline, draws):
    """Root of the variance of the gradient of the gate's weights, over draws of the coins."""
    net, found = deepcopy(net).train(), []  # a copy: the passes would change its averages
    net.look.baseline = baseline
    for _ in range(draws + 1):
        net.zero_grad()
        loss_of(net)(net(spots.train.x[:64].to(device())), spots.train.y[:64].to(device())).backward()
        found.append(net.look.score.weight.grad.flatten().clone())
    return torch.stack(found[1:]).var(0).sum().sqrt().item()  # the first has no earlier losses to go by


# %%
draws = profile(smoke=4, full=100)
untaught = []
for s in range(SEEDS):
    seed(s)
    untaught.append(Looker(LOOKS["Bernoulli, baseline"]).to(device()))
rows = []
for when, several in (("before training", untaught), ("after training", nets["Bernoulli, baseline"])):
    without, with_one = (np.array([spread(n, b, draws) for n in several]) for b in (False, True))
    rows.append((when, f"{without.mean():.2g}", f"{with_one.mean():.2g}", stats.interval(with_one / without)))
plots.table(rows, ["network", "spread without a baseline", "with it", "ratio"])

# %% [markdown]
# A baseline can only take away what all losses have in common. Before training they are all near log 2, the loss of a guess. After training most are near zero and a few are large: then they have little in common.
#
# ## The price of a look
#
# Only hard attention can truly *leave out*. Let open places cost a price, added to the loss that REINFORCE sees: opening all places costs all of it, opening half of them half. (Here all places are computed before the gate closes some. A network that is to save work must choose first. And when tested, the gate opens where its probability is ½ or more, which is not quite the network that was trained: that one tossed coins.)

# %%
PRICES = profile(smoke=(0, 1), full=(0, 0.03, 0.06, 0.1, 0.15))
bernoulli = LOOKS["Bernoulli, baseline"]
paid = {
    price: nets["Bernoulli, baseline"]
    if price == 0
    else [train(bernoulli, s, price=price) for s in range(SEEDS)]
    for price in PRICES
}
paying = {}
for price, several in paid.items():
    score = [accuracy(predict(n, test_x).cpu(), spots.test.y.cpu()) for n in several]
    paying[price] = [100 * (heat(n, test_x) >= 0.5).float().mean().item() for n in several], score
plots.table(
    [(price, f"{np.mean(o):.0f} %", stats.interval(score)) for price, (o, score) in paying.items()],
    ["price of opening all", "places that it looks at", "accuracy"],
)

# %%
figure, axis = plots.panels(1, width=5, height=2.6)
for i, (price, (o, score)) in enumerate(paying.items()):
    axis.plot(o, score, "os^Dv<"[i], label=f"{price}")
axis.set(xlabel="% of places looked at", ylabel="accuracy", xlim=(0, 105))
axis.legend(title="price", fontsize=8)

# %%
plots.show(
    figure,
    alt="Accuracy against the share of places that the gate opens, one point a seed, one colour and shape a price.",
    caption="What leaving out costs: accuracy against the share of open places, one point a seed.",
    name="fig-15-price",
)  # fmt: skip

# %% tags=["hide-input"]
guessing = {price: sum(v < 0.6 for v in score) for price, (_, score) in paying.items()}
plots.say(
    "; ".join(f"at a price of {price}, the network closes so much in {n} of {SEEDS} seeds that it has to guess" for price, n in guessing.items() if n) + "."
    if any(guessing.values())
    else "No seed closes so much that it has to guess."
)  # fmt: skip

# %% [markdown]
# ## Does chance make the network honest?
#
# A network that draws its attention can answer several times and average. Is its confidence better calibrated for that? The {term}`calibration error` (chapter 09) compares confidence with the share of right answers.


# %%
def averaged(net, passes):
    """Logits whose softmax is the mean probability of several draws; batch norm stays as it is."""
    net.eval()
    net.look.train()
    with torch.no_grad():
        x = test_x.to(device())
        p = torch.stack([net(x).float().softmax(1) for _ in range(passes)]).mean(0)
    net.eval()
    return p.clamp(min=1e-9).log().cpu()


# %%
passes = profile(smoke=2, full=20)
y, rows = spots.test.y.cpu(), []
DRAWING = ("Bernoulli, baseline", "Gumbel gate", "variational", "Bayesian (Weibull)")
changes = {}
for name in ("none", "spatial gate (soft)", "global context (soft)", *DRAWING):
    once, change = [calibration_error(predict(n, test_x).cpu(), y) for n in nets[name]], ""
    if name in DRAWING:
        change = changes[name] = stats.paired(
            [calibration_error(averaged(n, passes), y) for n in nets[name]], once
        )
    rows.append((name, stats.interval(once), change))
plots.table(
    rows,
    ["module", "calibration error, one answer without drawing", f"change with the mean of {passes} draws"],
)

# %% tags=["hide-input"]
calmer = [n for n, c in changes.items() if c.high < 0]
plots.say(
    "Averaging over draws makes the error smaller, beyond what seeds differ by, for: " + ", ".join(f"*{n}*" for n in calmer) + "."
    if calmer
    else f"Averaging over draws lowers no module's error by more than {SEEDS} seeds differ."
)  # fmt: skip

# %% [markdown]
# Before you credit chance with a small error, look at the soft modules in the same table, which draw nothing.

# %% [markdown]
# ## Verdicts

# %%
x = torch.randn(8, 16, 14, 14)


# %%
def open_states(module):
    """(8,): places with a weight other than zero, in a pass of training."""
    net = module(16).train()
    net(x)
    return (net.weights.flatten(1) != 0).sum(1)


# %% tags=["hide-input"]
for name, module in (("variational: one place of 196", attention.VariationalAttention), ("Bernoulli gate: a coin for each place", attention.BernoulliGate)):  # fmt: skip
    claims.observe("C067", int(open_states(module).max()) - 1, n=8, where=name)


# %% tags=["hide-input"]
def wobble(module):
    """Mean standard deviation of the weights over 50 passes of one input in training."""
    net, seen = module(16).train(), []
    for _ in range(50):
        net(x[:1])
        seen.append(net.weights.flatten())
    return torch.stack(seen).std(0).mean().item()


# %% tags=["hide-input"]
shaken = {m.__name__: wobble(m) for m in (attention.VariationalAttention, attention.BayesianAttention)}
claims.observe("C068", min(shaken.values()), n=50, where=", ".join(f"{n} {v:.1e}" for n, v in shaken.items()))

# %% tags=["hide-input"]
window = attention.GaussianWindow(16, size=1)
for p in window.parameters():
    nn.init.normal_(p, std=0.2)
window(x)
gx, gy, _, sigma, _ = window.five.T[:, :, None, None].cpu()
row, column = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
bell = torch.exp(-((row - gy) ** 2 + (column - gx) ** 2) / (2 * sigma**2))
bell = bell / bell.amax((1, 2), keepdim=True)
claims.observe(
    "C069",
    (bell - window.weights[:, 0]).abs().max().item(),
    n=8,
    where="window of one Gaussian, eight inputs, largest pixel 1",
)

# %% tags=["hide-input"]
seed(0)
gate, total = attention.BernoulliGate(16).train(), 0
nn.init.normal_(gate.score.weight, std=0.3)
with torch.no_grad():
    for _ in range(DRAWS):
        gate(x[:1])
        total = total + gate.weights
    off = (total / DRAWS - gate.score(x[:1]).sigmoid()).abs().max().item()
claims.observe("C070", off, n=DRAWS, where="196 gates, all draws of each averaged")

# %% [markdown]
# C067 holds where attention picks one state of many. A gate of coins picks one of two states *at each place*, and many places stay open.
#
# ## At full size
#
# One training step of a reinforced gate on maps of a ResNet-18's first stage, on the meta device:

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    gate = attention.BernoulliGate(64)
    out = gate(torch.empty(2, 64, 56, 56))
    (out.mean() + gate.surrogate(torch.empty(2))).backward()
assert all(p.grad is not None for p in gate.parameters())
print(f"a reinforced gate on 64 maps: {cost.parameters(gate)} parameters, maps {tuple(out.shape[2:])}")

# %% [markdown]
# ## What it costs

# %% tags=["timing"]
modules = {n: (m(16) if m else nn.Identity()) for n, m in LOOKS.items() if n != "Bernoulli, no baseline"}
times = cost.time_in_turn(
    {n: cost.forward(m, (64, 16, 14, 14)) for n, m in modules.items()}, profile(smoke=1, full=10)
)
for name, m in modules.items():
    print(f"{name:24} {cost.parameters(m):5,} parameters {np.median(times[name]):7.2f} ms a batch of 64")

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A hard map is proof of what was left out, not of what was seen.** A closed place passes nothing on. But whether it is closed depends on what stood there, which may itself tell the answer, and the convolutions before the gate have spread it to its neighbours. And an open place need not have counted.
# - **Two runs, two answers.** A network that draws gives other answers to the same scan. Use the mean, or say that it draws.
# - **A prior is an opinion.** The KL term prefers maps that look like the prior. If lesions are rare at the edge, the prior may learn not to look there.
#
# ## Summary
#
# - Choosing has no derivative; the *average* over choices has one.
# - REINFORCE: no bias, much variance; a baseline removes variance and adds no bias.
# - Straight-through Gumbel: the temperature trades variance for bias.
# - The negative ELBO is the usual loss plus a price for leaving the prior.
# - Compare a module that draws with one that does the same and never draws.
# - A Gaussian window is differentiable: it is soft, whatever family it is filed under.
#
# ## Check yourself
#
# **1.** Trial and error picks place 3, and the loss is above the baseline. What happens to the score of place
# 3?
#
# - **A** It rises, since the place was chosen.
# - **B** It falls, since the choice was worse than usual.
# - **C** It stays, for only the chosen place's features learn.
# - **D** It falls, and all other scores stay as they are.
#
# <details><summary>Answer</summary>
#
# **B.** The step makes the choice less likely. It raises the other scores a little, each by its probability,
# so D is half right.
#
# </details>
#
# **2.** Why may the baseline of REINFORCE not depend on the choice that was made?
#
# - **A** It could no longer be pulled out of the average, and would add a bias.
# - **B** The variance of the estimate would grow without bound.
# - **C** It would have to be learnt first, which takes additional draws.
# - **D** The loss of the chosen place would be counted twice.
#
# <details><summary>Answer</summary>
#
# **A.** Since $\mathrm{E}[\nabla \log p_z] = 0$, a constant changes nothing on average. One that depends on
# $z$ does. The variance (B) may even fall; that is the temptation.
#
# </details>
#
# **3.** One estimator has no bias, and single draws spread by 1. Another has a bias of 0.05 and hardly any
# spread. From how many draws on is the mean of the first closer to the truth?
#
# - **A** about 20
# - **B** about 40
# - **C** about 400
# - **D** never
#
# <details><summary>Answer</summary>
#
# **C.** The mean of $n$ draws spreads by $1 / \sqrt{n}$, which is 0.05 at $n = 400$. A is $1 / 0.05$, without
# the square. No number of draws mends a bias.
#
# </details>
#
# **4.** What happens to the variance of the straight-through gradient when the temperature goes to zero?
#
# - **A** It goes to zero, since the choice becomes certain.
# - **B** It stays, and the bias grows.
# - **C** It becomes that of REINFORCE.
# - **D** It grows without bound.
#
# <details><summary>Answer</summary>
#
# **D.** The softmax turns into a step, whose slope is zero almost everywhere and huge in between. A thinks of
# the choice; the slope is what is used.
#
# </details>
#
# **5.** The KL term of the ELBO is zero for an image. What does the guess $q(z)$ look like?
#
# - **A** It is the prior: the image told nothing about where to look.
# - **B** It is sure of one place, so that nothing is left to tell.
# - **C** It is zero everywhere, since no place was looked at.
# - **D** It is uniform over all places, whatever the prior is.
#
# <details><summary>Answer</summary>
#
# **A.** KL is the distance from the prior. Being sure (B) has a price. D is right only for a uniform prior.
#
# </details>
#
# **6.** Can soft attention save computing time by leaving places out?
#
# - **A** Yes: a weight near zero needs no multiplication in the sum.
# - **B** Yes, if most of the weights of the image are small.
# - **C** No: each place has a weight above zero, which must be computed first.
# - **D** No: its maps are larger than the image and need more memory.
#
# <details><summary>Answer</summary>
#
# **C.** To know that a weight is small, the place has to be looked at. Only a choice that is made before can
# leave out.
#
# </details>
#
# **7.** A hard gate closes the place of a lesion, and the network still says “lesion”, and is right. What
# follows?
#
# - **A** The gate is broken, for the answer was right.
# - **B** The network was lucky; a second run will look at the lesion.
# - **C** The closed place counted after all, with a small weight.
# - **D** Something in the open places told it; look for what that is.
#
# <details><summary>Answer</summary>
#
# **D.** A closed place passes nothing on: its weight is 0, not a small one (C). Search the open places, for a
# sign of the scanner, say, or of the disease elsewhere. Open places beside the lesion are among them: the
# convolutions before the gate have looked around. And so is the pattern of what is closed.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: the best baseline
# :label: ex-15-baseline
# In the problem of six places, try constant baselines from 0 to 1.2. Where is the spread least? Guess first.
# ```
#
# ```{solution} ex-15-baseline
# :class: dropdown
# Near the mean loss, not exactly at it: the best constant weighs losses by the squared size of $\nabla \log p_z$.
# ```
#
# ```{exercise} ★ Predict: temperature
# :label: ex-15-temperature
# Add τ = 0.05 and τ = 5 to the table of estimators. How do bias and spread move?
# ```
#
# ```{solution} ex-15-temperature
# :class: dropdown
# At 0.05 the bias is small and the spread large; at 5 the slopes are flat, the spread is small and the bias large.
# ```
#
# ```{exercise} ★★ Implement: leave one out
# :label: ex-15-loo
# Draw four choices for each image, and take the mean loss of the other three as baseline of each. Show that
# it adds no bias, and measure the spread.
# ```
#
# ````{solution} ex-15-loo
# :class: dropdown
# ```python
# def leave_one_out(n):
#     p = theta.detach().softmax(0)
#     z = torch.multinomial(p, 4 * n, replacement=True).view(n, 4)
#     b = (L[z].sum(1, keepdim=True) - L[z]) / 3
#     return ((L[z] - b)[..., None] * (F.one_hot(z, 6) - p)).mean(1)
#
#
# four = leave_one_out(DRAWS // 4)
# print((four.mean(0) - exact).norm(), four.var(0).sum().sqrt(), ESTIMATORS["REINFORCE with baseline"].var(0).sum().sqrt() / 2)
# ```
#
# The other draws are independent of $z$, so the average is right. The spread of the mean of four is close to
# that with the exact baseline, which is half of a single draw's.
# ````
#
# ```{exercise} ★★ Implement: larger coins
# :label: ex-15-cells
# Train the Bernoulli gate with `cell=1`, 2 and 7. How do accuracy and pointing rate change?
# ```
#
# ```{solution} ex-15-cells
# :class: dropdown
# Fewer coins mean less variance but coarser maps. With `cell=7` there are four coins, and the map can only name a quarter of the image.
# ```
#
# ```{exercise} ★★★ Investigate: a real place
# :label: ex-15-heart
# Is there an ACDC slice with a left ventricle in it? Train each module on that question, and measure how often its map peaks inside the heart.
# ```
#
# ```{solution} ex-15-heart
# :class: dropdown
# Use `hearts.slices(…, side=64)` with labels `(y == 3).any()` for each slice. Compare with the share of the image that the heart covers, and with a map that always peaks in the middle: that is the baseline to beat.
# ```
#
# ```{exercise} ★★★ Investigate: a closed place of the map is not a closed pixel
# :label: ex-15-reach
# The gate closes places of a map, and the convolutions before it have looked around. Which *pixels* can still
# change the answer of the gate with the highest price? Compare their share with the share of open places.
# ```
#
# ````{solution} ex-15-reach
# :class: dropdown
# Ask the gradient, in evaluation mode, where the gate opens where its probability is at least one half:
#
# ```python
# net, x = paid[PRICES[-1]][0].eval(), test_x[:64].to(device(), copy=True).requires_grad_()
# net(x).diff(dim=1).sum().backward()
# reached = (x.grad[:, 0] != 0).float().mean().item()
# opened = (heat(net, test_x[:64]) >= 0.5).float().mean().item()
# print(f"open places {opened:.2f}, pixels with a gradient {reached:.2f}")
# ```
#
# A place sees 8 × 8 pixels through two 3 × 3 convolutions and a pooling. So a few open places can reach a
# large part of the image, and the proof of what was left out holds for pixels out of reach of *every* open
# place. The gradient misses pixels behind a ReLU that is off, and how the gate itself would change; replace
# the closed pixels by noise to check.
# ````

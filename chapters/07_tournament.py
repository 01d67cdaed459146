# %% [markdown]
# # The tournament
#
# *With equal budgets, does progress show?*
#
# Six chapters, ten networks, and each had its own experiment. Now they meet on equal terms. **With the same images and the
# same budget, does twenty years of progress show on small medical images?** And when a newer network is better, is it the
# network, or the way it was trained?
#
# After this page you can set up a fair comparison, say what “the same budget” means, and separate a network from its
# training recipe.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import baselines, cost, load, plots, profile, repeat, stats
from medlib.augment import random_shift
from medlib.checkpoint import measured_once
from medlib.metrics import accuracy, auc, calibration_error
from medlib.models import EfficientNet, LeNet, LeNet5, MobileNetV1, MobileNetV3
from medlib.models.alexnet import small_alexnet
from medlib.models.efficientnet import B0
from medlib.models.mobilenet_v3 import SMALL
from medlib.models.resnet import small_resnet
from medlib.models.vgg import small_vgg

# %%
SEEDS = profile(smoke=2, quick=2, full=5)
BATCH = 64

# %% [markdown]
# ## The players
#
# Each is a small {term}`twin` for images of 28 × 28 pixels, from the chapter that introduced it. The years are those of the papers. The
# multilayer perceptron (MLP) of chapter 02 stands for “no convolution at all”. The twins differ in size, though far less than their
# originals, and not always in the same order: this compares designs as a reader would use them, not layers at matched parameters.

# %%
PLAYERS = {
    "MLP": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 78), nn.ReLU(), nn.Linear(78, 2)),
    "LeNet-5 (1998)": partial(LeNet5, 1, 2),
    "LeNet, modern port": partial(LeNet, 1, 2),
    "AlexNet (2012)": small_alexnet,
    "VGG-D (2014)": partial(small_vgg, convs=(2, 2, 3)),
    "VGG-D, batch norm": partial(small_vgg, convs=(2, 2, 3), batch_norm=True),
    "ResNet-8 (2015)": partial(small_resnet, 8),
    "MobileNetV1 (2017)": partial(MobileNetV1, 1, 2, width=0.125, small_images=True),
    "MobileNetV3-S (2019)": partial(
        MobileNetV3, 1, 2, table=SMALL, width=0.25, small_images=True, momentum=0.1
    ),
    "EfficientNet (2019)": partial(EfficientNet, 1, 2, width=0.25, small_images=True, stages=B0[:5]),
}
side = {name: 32 if "LeNet-5" in name else 28 for name in PLAYERS}
counts = {
    name: cost.parameters_and_macs(build, (1, side[name], side[name])) for name, build in PLAYERS.items()
}

# %% tags=["nbval-check-output"]
for name, (size, work) in counts.items():
    print(f"{name:22} {size:8,} parameters {work / 1e6:6.2f} M multiply-adds")

# %% [markdown]
# ## The rules
#
# 1. All see the same training images, moved by up to two pixels at random. The weights that score best on the validation images are kept.
# 2. All use the book's recipe: AdamW, one cycle of the learning rate, batches of 64. The highest learning rate is chosen from three
#    by the validation AUC of one run of 100 steps on PneumoniaMNIST, so that no network has to play with a rate found for another. The choice is coarse: it also serves runs of other lengths and
#    BreastMNIST, and a network that takes the highest of the three might want a still higher one.
# 3. Several {term}`seeds <seed>`. Intervals carry the chance of the seed and of the test images.
# 4. Two budgets. *Equal epochs*: each network sees each image equally often (an {term}`epoch` is one pass). *Equal time*: each network gets the same
#    processor seconds, so a cheap network may look more often.
#
# Rule 4 matters. A slow network looks better under equal epochs, a cheap one under equal time. The literature mostly reports
# the first.

# %%
sets = {"xray": load("pneumoniamnist"), "breast": load("breastmnist")}
few = profile(smoke=300, full=None)  # training images; None: all
sets = {key: (data.subset(few) if few else data).standardise() for key, data in sets.items()}
xray, shift = sets["xray"], random_shift(2)


# %%
def fitting(name, data):
    return data.pad(32) if "LeNet-5" in name else data


# %%
def validation_auc(name, lr):
    options = {
        "steps": profile(smoke=2, quick=16, full=100),
        "batch_size": BATCH,
        "validations": 2,
        "augment": shift,
    }
    return max(repeat(PLAYERS[name], fitting(name, xray), seeds=1, lr=lr, **options).histories[0].score)


# %%
PLAYERS = dict(list(PLAYERS.items())[:: profile(smoke=5, full=1)])  # two of them in the smoke profile
RATES = profile(smoke=(3e-3,), quick=(3e-3, 1e-2), full=(1e-3, 3e-3, 1e-2))
tried = {name: {lr: validation_auc(name, lr) for lr in RATES} for name in PLAYERS}
rate = {name: max(RATES, key=lambda lr: tried[name][lr]) for name in PLAYERS}
rows = [(name, *(f"{tried[name][lr]:.3f}" for lr in RATES), rate[name]) for name in PLAYERS]
plots.table(rows, ["validation AUC", *(f"rate {lr}" for lr in RATES), "chosen"])

# %% [markdown]
# ## Equal epochs
#
# Three passes over PneumoniaMNIST and fifteen over BreastMNIST: short runs, in which a network that learns slowly is at a disadvantage. The published row below had a hundred passes.

# %%
EPOCHS = profile(
    smoke={"xray": 0.1, "breast": 0.5}, quick={"xray": 0.2, "breast": 1.5}, full={"xray": 3, "breast": 15}
)


# %%
def play(name, data, **length):
    options = {"batch_size": BATCH, "validations": 5, "augment": shift, "lr": rate[name]}
    return repeat(PLAYERS[name], fitting(name, data), seeds=SEEDS, **length, **options)


# %%
by_epochs = {
    key: {name: play(name, data, epochs=EPOCHS[key]) for name in PLAYERS} for key, data in sets.items()
}

# %% [markdown]
# Classical methods join with the settings of chapter 02, as a {term}`baseline`. They have no epochs; they get all the training images.

# %%
classical = {}
for key, data in sets.items():
    for name in baselines.NAMES:
        seeds = SEEDS if name == "random forest" else 1
        found = [baselines.train(name, data, seed=s).scores for s in range(seeds)]
        classical[key, name] = np.stack([np.stack([-f, f], 1) for f in found])  # as logits of two classes
truth = {key: data.test.y.cpu().numpy() for key, data in sets.items()}
PUBLISHED = {"xray": (0.944, 0.854), "breast": (0.901, 0.863)}  # ResNet-18 at 28 px, Yang et al. 2023


# %%
def classical_interval(key, name, metric):
    return stats.over_cases(metric, classical[key, name], truth[key], whose=sets[key].test.whose)


# %% tags=["timing"]
times = cost.time_in_turn(
    {n: cost.forward(b(), (BATCH, 1, side[n], side[n])) for n, b in PLAYERS.items()},
    repeats=profile(smoke=2, full=12),
)
milliseconds = {name: np.median(t) / BATCH for name, t in times.items()}


# %% tags=["timing"]
def standings(games, key):
    """A row a player, best mean AUC first."""
    found = {
        name: [r.interval(m) for m in (auc, accuracy, calibration_error)] for name, r in games[key].items()
    }
    rows = [
        (name, f"{counts[name][0]:,}", *map(str, found[name]), f"{milliseconds[name]:.3f}",
         f"{np.mean(games[key][name].seconds):.1f}")
        for name in sorted(found, key=lambda name: -found[name][0].mean)
    ]  # fmt: skip
    others = [
        (name, "–", *(str(classical_interval(key, name, m)) for m in (auc, accuracy)), "–", "–", "–")
        for name in baselines.NAMES
    ]
    published = [("ResNet-18 at 28 px, published", "about 11 million", *PUBLISHED[key], "–", "–", "–")]
    heads = ["parameters", "test AUC", "test accuracy", "calibration error", "ms an image", "training, s"]
    plots.table(rows + others + published, [sets[key].name, *heads])
    return {name: values[0] for name, values in found.items()}


# %% tags=["timing"]
table = {("epochs", "xray"): standings(by_epochs, "xray")}

# %% tags=["timing"]
table["epochs", "breast"] = standings(by_epochs, "breast")

# %% [markdown]
# The published row is a ResNet-18 trained for 100 epochs {cite:p}`yang2023medmnist`; it has no interval. The {term}`calibration error` asks whether a network that says “90 %” is right nine times in ten {cite:p}`guo2017calibration`: cases are sorted into fifteen bins by
# the network's confidence, and the gap between confidence and accuracy is averaged over cases. Zero is best. The scores of the
# classical methods here are not probabilities, so they have none. A calibration error is never below zero, so chance alone makes it larger than it is in truth, the more so the fewer cases fall
# into a bin. Compare rows; do not read the ends of its interval. *ms an image* is the time of a prediction, in batches of 64.
#
# ## Equal time
#
# We time a few training steps of each network and give each as many steps as fit the budget: 6 seconds on PneumoniaMNIST, 3 on BreastMNIST. The two numbers behind each network below are its steps on each.

# %% tags=["timing"]
BUDGET = profile(
    smoke={"xray": 0.1, "breast": 0.1}, quick={"xray": 0.6, "breast": 0.3}, full={"xray": 6, "breast": 3}
)


def step_times():
    """{network: milliseconds of a step}; the store keeps them, since they decide how long each one trains."""
    steps = {n: cost.training_step(b(), (BATCH, 1, side[n], side[n])) for n, b in PLAYERS.items()}
    times = cost.time_in_turn(steps, repeats=profile(smoke=1, full=8))
    return {name: float(np.median(t)) for name, t in times.items()}


a_step = measured_once(step_times)
affordable = {
    (key, name): max(2, round(1000 * BUDGET[key] / a_step[name])) for key in sets for name in PLAYERS
}
for name in PLAYERS:
    print(
        f"{name:22} {a_step[name]:6.1f} ms a step:",
        *(affordable[key, name] for key in sets),
        "steps",
    )

# %%
by_time = {
    key: {name: play(name, data, steps=affordable[key, name]) for name in PLAYERS}
    for key, data in sets.items()
}

# %% tags=["timing"]
table["time", "xray"] = standings(by_time, "xray")

# %% tags=["timing"]
table["time", "breast"] = standings(by_time, "breast")

# %% [markdown]
# The last column is the time that the training really took, with the validations: the budget is met only roughly,
# because a step inside a training has more to do than a step alone. A network that affords only a few dozen steps has hardly begun: look whether its accuracy is more than that of always naming the larger class. Its calibration error need not be large for that: whoever always states the share of the common class is
# calibrated, and useless. EfficientNet is the one to watch: this small form, another one than in chapter 07, keeps maps of 28 × 28 pixels through two stages, which makes its steps slow. Nor is “time” a property of the design: these are steps on one thread of a processor, where many small layers are slow (chapter 06). On another machine the order may change.

# %%
figure, axes = plots.panels(2, width=7.2, height=3.9, sharey=True)
for axis, key in zip(axes, sets, strict=True):
    for i, budget in enumerate(("epochs", "time")):
        for row, name in enumerate(PLAYERS):
            ci = table[budget, key][name]
            axis.plot([ci.low, ci.high], [row + 0.25 * i] * 2, color=f"C{i}", linewidth=2)
            axis.plot(
                ci.mean, row + 0.25 * i, "o", color=f"C{i}", label=f"equal {budget}" if not row else None
            )
    axis.axvline(PUBLISHED[key][0], color="0.4", linestyle=":", label="ResNet-18, published")
    best = max(classical_interval(key, name, auc).mean for name in baselines.NAMES)
    axis.axvline(best, color="C2", linestyle="--", label="best classical method")
    axis.set(title=sets[key].name, xlabel="test AUC", yticks=range(len(PLAYERS)), yticklabels=list(PLAYERS))
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)

# %%
plots.show(
    figure,
    alt="Two panels, one for each data set. For each network two dots with bars: test AUC with equal epochs and with equal "
    "time. Vertical lines mark the published ResNet-18 and the best classical method.",
    caption="The tournament: test AUC with 95 % intervals over seeds and test images, under two budgets. The classical "
    "method is the one with the best test AUC, which flatters it.",
    name="fig-tournament",
)

# %% [markdown]
# ## Is the winner better, or lucky?
#
# Ten players, and one of them has to come first. To call it better, its lead has to exclude zero, and the more rivals it is
# held against, the easier one of the leads excludes zero by chance. We {term}`pair <paired>` each network with the winner seed by seed and case
# by case, and use wider intervals: 99.4 % each (Bonferroni's correction), so that all nine together would hold in about 95 of 100 tournaments *had the winner been named beforehand*. It was picked on these same test images, which flatters its leads: take a lead that only just excludes zero as
# undecided.


# %%
def leads(budget, key):
    """The winner, and its lead over each other network with an interval for nine comparisons."""
    games = (by_epochs if budget == "epochs" else by_time)[key]
    winner = max(games, key=lambda name: table[budget, key][name].mean)
    level = 1 - 0.05 / (len(games) - 1)
    rivals = {name: r for name, r in games.items() if name != winner}
    return winner, {
        name: stats.over_cases(auc, games[winner].logits, r.target, r.logits, whose=r.whose, level=level)
        for name, r in rivals.items()
    }


# %%
results = {(budget, key): leads(budget, key) for budget, key in table}

# %% tags=["hide-input"]
for (budget, key), (winner, found) in results.items():
    beaten = [name for name, ci in found.items() if ci.low > 0]
    plots.say(
        f"**{sets[key].name}, equal {budget}.** First comes {winner}. It is better beyond chance than "
        + (
            f"{len(beaten)} of {len(found)}: {', '.join(beaten)}."
            if beaten
            else f"none of the other {len(found)}."
        )
    )

# %% tags=["hide-input"]
years = {name: int(name[-5:-1]) for name in PLAYERS if name.endswith(")")}


# %% tags=["hide-input"]
def trend(budget, key):
    from scipy.stats import spearmanr

    return spearmanr(list(years.values()), [table[budget, key][name].mean for name in years]).statistic


# %% tags=["hide-input"]
plots.say(
    f"Rank correlation of the year of a network with its test AUC, over the {len(years)} players with a year: "
    + "; ".join(f"{sets[key].name}, equal {budget}: **{trend(budget, key):+.2f}**" for budget, key in table)
    + ". Newer is better would be +1."
)

# %% [markdown]
# With seven players, chance alone gives a rank correlation beyond ±0.77 once in twenty tries. And under equal time the sign may be that of one network: look what remains without EfficientNet. Four numbers from seven networks prove no progress, and no standstill. What the tables do show is one part of it: the same VGG-D
# with and without batch normalisation.
#
# ## The time machine
#
# A network and the way it is trained grew up together. The tables above give all networks the recipe of today. Now the
# reverse: one network, and five recipes. The network is the small VGG-A with batch normalisation and the mean of each map, with eight maps in its first stage.
#
# - **1998** {cite:p}`lecun1998gradient`: plain gradient descent, small batches, a learning rate that falls in five stairs, no shifts. (The
#   paper's batches hold one image, and each weight has a rate of its own; ours hold 16.)
# - **2012** {cite:p}`krizhevsky2012imagenet`: momentum 0.9, {term}`weight decay` 0.0005, batches of 128, the rate divided by ten three times, images shifted.
# - **2015** {cite:p}`he2016resnet`: momentum 0.9, weight decay 0.0001, the rate divided by ten after a half and after three quarters, shifts
#   of up to four pixels.
# - **2019** {cite:p}`tan2019efficientnet`: RMSProp with momentum, warm-up, a rate that falls a little at each step, label smoothing (the target of the true class is a little below 1) {cite:p}`szegedy2016rethinking`, shifts and random contrast. (Warm-up and smoothing are in the authors' code. The paper searches for its augmentation and skips blocks at random; we do neither.)
# - **this book**: AdamW {cite:p}`loshchilov2019adamw`, one cycle {cite:p}`smith2019superconvergence`, shifts.
#
# All see the same number of images (12,000: two and a half passes of PneumoniaMNIST, 22 of BreastMNIST). The learning rate of each recipe is chosen from three by validation AUC: once, three and ten
# times a rate of ours, since the papers' own belong to other networks and batches. Mirroring is left out everywhere, since it moves the heart.

# %%
SEEN = profile(smoke=400, quick=1500, full=12_000)  # training images, counted with repetition
Multiply = torch.optim.lr_scheduler.LambdaLR


# %%
def stairs(*levels):
    """A schedule of (share of the run, factor): the factor holds until that share of the steps is done."""
    return lambda opt, n: Multiply(
        opt, lambda step: next((f for share, f in levels if step < share * n), levels[-1][1])
    )


# %%
def warm_decay(opt, n):
    """A rise over the first 1.5 % of the steps, then down to 1 % of the rate in equal factors."""
    return Multiply(opt, lambda step: min(1, (step + 1) / max(1, 0.015 * n)) * 0.01 ** (step / n))


# %%
def jitter(x, generator):
    """Shifts, then a random contrast and brightness for each image."""
    a, b = torch.randn(2, len(x), 1, 1, 1, generator=generator).to(x.device) * 0.2
    return random_shift(2)(x, generator) * (1 + a) + b


# %%
sgd = partial(torch.optim.SGD, momentum=0.9)
lecun = (
    (0.1, 1),
    (0.25, 0.4),
    (0.4, 0.2),
    (0.6, 0.1),
    (1, 0.02),
)  # section III.B: of 20 passes, 2, 3, 3, 4, 8
RECIPES = {
    "1998": {"optimizer": torch.optim.SGD, "schedule": stairs(*lecun), "lr": 0.01, "batch_size": 16},
    "2012": {"optimizer": partial(sgd, weight_decay=5e-4), "batch_size": 128, "augment": shift, "lr": 0.01,
             "schedule": stairs((0.5, 1), (0.75, 0.1), (0.9, 0.01), (1, 0.001))},
    "2015": {"optimizer": partial(sgd, weight_decay=1e-4), "batch_size": 128, "augment": random_shift(4), "lr": 0.02,
             "schedule": stairs((0.5, 1), (0.75, 0.1), (1, 0.01))},
    "2019": {"optimizer": partial(torch.optim.RMSprop, alpha=0.9, momentum=0.9, eps=1e-3, weight_decay=1e-5),
             "schedule": warm_decay, "augment": jitter, "batch_size": 128, "lr": 0.001,
             "loss": partial(F.cross_entropy, label_smoothing=0.1)},
    "this book": {"augment": shift, "batch_size": 64, "lr": 1e-3},
}  # fmt: skip
fixed = partial(small_vgg, width=8, head=None, batch_norm=True)


# %%
def follow(recipe, data, factor, seeds):
    options = RECIPES[recipe] | {"lr": RECIPES[recipe]["lr"] * factor, "validations": 5}
    return repeat(fixed, data, seeds=seeds, epochs=SEEN / len(data.train.x), **options)


# %%
FACTORS = profile(smoke=(1,), quick=(1,), full=(1, 3, 10))
scores = {(r, f): max(follow(r, xray, f, 1).histories[0].score) for r in RECIPES for f in FACTORS}
chosen = {r: max(FACTORS, key=lambda f: scores[r, f]) for r in RECIPES}
machine = {(r, key): follow(r, data, chosen[r], SEEDS) for key, data in sets.items() for r in RECIPES}

# %%
rows = []
for r in RECIPES:
    cells = [str(machine[r, key].interval(m)) for key in sets for m in (auc, accuracy, calibration_error)]
    rows.append((r, f"{RECIPES[r]['lr'] * chosen[r]:.3g}", *cells))
heads = [
    f"{data.name}: {what}" for data in sets.values() for what in ("AUC", "accuracy", "calibration error")
]

# %%
plots.table(rows, ["recipe", "rate", *heads])

# %%
spread = {key: [machine[r, key].interval(auc).mean for r in RECIPES] for key in sets}
networks_spread = {key: [ci.mean for ci in table["epochs", key].values()] for key in sets}
plots.show(
    plots.intervals(
        {f"{r}, {data.name}": machine[r, key].interval(auc) for key, data in sets.items() for r in RECIPES},
        xlabel="test AUC",
    ),
    alt="Ten rows, five recipes on each of two data sets: dots with bars of test AUC.",
    caption="One network, five recipes: test AUC with 95 % intervals over seeds and test images.",
    name="fig-time-machine",
)

# %% tags=["hide-input"]
for key, data in sets.items():
    plots.say(
        f"**{data.name}.** The best and the worst recipe on one network differ by **{np.ptp(spread[key]):.3f}** in AUC; "
        f"the best and the worst network with one recipe by {np.ptp(networks_spread[key]):.3f} (equal epochs)."
    )

# %% [markdown]
# Do not conclude from the two numbers whether the network or the recipe matters more. Ten networks differ by more than five recipes do, even if chance alone is at work, and recipes that were written for ninety passes or more are judged here after two and a half. Where a recipe chose the highest of its three rates, a higher one might serve it better. And the one network has batch normalisation, which forgives many recipes and which the networks of 1998 and 2012 did not
# have: an old network might show larger gaps. The rates of this book, moreover, were found on such networks and such images.
#
# ## Pitfalls in medicine
#
# - **A ranking is an estimate.** With other patients the order would change, and with 156 test images it would change a lot. Even 624 X-rays of two classes, which logistic regression already tells apart well, can
#   hardly rank good networks: what does not separate here may separate on a larger or harder set.
# - **A published number is somebody's recipe, run once or a few times.** Without its interval it can be neither beaten nor missed.
# - **A benchmark image is not a patient.** What separates networks on 28 × 28 pixels need not separate them on the full
#   image.
# - **Choosing the best of many on the test set is tuning.** Where the rivals are about equally good, the winner's own score is too good by about their
#   spread; only new data show how much.
#
# ## Summary
#
# - Fix the images, the budget and the recipe before you compare networks, and say which budget.
# - Intervals over seeds and over patients, wider for many comparisons.
# - A newer network often came with a newer recipe. Change one at a time.
# - Small images and classical methods: look at the vertical lines in {numref}`fig-tournament` before you train anything deep.
#
# ## Check yourself
#
# **1.** A training step takes network A 10 ms and network B 40 ms. Under equal time, how many steps does A
# get for each of B's?
#
# - **A** one
# - **B** two
# - **C** four
# - **D** forty
#
# <details><summary>Answer</summary>
#
# **C.** The same seconds hold four times the steps. Under equal epochs it would be A, one for one.
#
# </details>
#
# **2.** Two networks are compared under equal epochs, and the slower one wins. Under equal time the quicker
# one wins. Which result is right?
#
# - **A** the first, since both saw the same images equally often
# - **B** the second, since only time costs money
# - **C** neither, since the two contradict each other
# - **D** both: they answer different questions
#
# <details><summary>Answer</summary>
#
# **D.** One asks what a network makes of the same data, the other of the same machine hours. A and B each
# take one question for the only one.
#
# </details>
#
# **3.** Nine rivals are held against the winner. Why are the intervals 99.4 % ones?
#
# - **A** A winner needs more certainty than a rival.
# - **B** So that all nine together hold in about 95 of 100 repetitions.
# - **C** Because 99.4 % of the test cases lie inside.
# - **D** To make up for the small number of seeds.
#
# <details><summary>Answer</summary>
#
# **B.** $1 - 0.05 / 9 = 0.994$. Nine intervals at 95 % would give a false lead far more often than once in
# twenty.
#
# </details>
#
# **4.** A network is right in 80 % of the cases, and says 95 % each time. What is its calibration error?
#
# - **A** 0.15
# - **B** 0.05
# - **C** 0.20
# - **D** 0
#
# <details><summary>Answer</summary>
#
# **A.** All cases fall into one bin, where confidence and accuracy differ by $0.95 - 0.80$. C is its error
# rate, which says nothing about what it *claims*.
#
# </details>
#
# **5.** A paper of 2019 beats a network of 2012. It trains its own network with the recipe of 2019, and takes
# the other's score from the paper of 2012. What is shown?
#
# - **A** The newer network is better.
# - **B** The newer recipe is better.
# - **C** The newer network with the newer recipe is better than the old pair.
# - **D** Nothing, since photographs differ from year to year.
#
# <details><summary>Answer</summary>
#
# **C.** Two things changed at once. To tell them apart, train the old network with the new recipe, and the
# new one with the old.
#
# </details>
#
# **6.** You train ten networks that are in truth equally good, and report the highest of the ten test scores.
# How does that score relate to the one on new patients?
#
# - **A** It is too high, by about the spread of the ten.
# - **B** It is right, for the test images were not trained on.
# - **C** It is too low, since most of the ten did worse.
# - **D** It is too high only if the ten are correlated.
#
# <details><summary>Answer</summary>
#
# **A.** Choosing by the test score uses the test set up: the winner is partly the luckiest. B was true for
# each network *before* one of them was chosen.
#
# </details>
#
# **7.** A test set holds 156 patients. Network A is right for 134 of them, B for 137. A colleague writes that
# B is better. What is missing?
#
# - **A** nothing: 137 is more than 134 on the same patients
# - **B** the AUC, which would show by how much B is better
# - **C** an interval of the difference: three patients are well within chance
# - **D** a third network, to see whether the order is stable
#
# <details><summary>Answer</summary>
#
# **C.** The standard error of one accuracy near 0.86 on 156 cases is $\sqrt{0.86 · 0.14 / 156} \approx 0.03$,
# or more than four patients. Pair the two case by case, and show the interval.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: who gains from time?
# :label: ex-07t-time
# Look at the milliseconds a step. Before you look at the figure: which network should gain most when it goes
# from equal epochs to equal time, and which should lose most?
# ```
#
# ```{solution} ex-07t-time
# :class: dropdown
# The cheapest ones get many more steps than three epochs hold, the most expensive fewer. Whether more steps
# also mean a better AUC is another question: a network that has learnt all it can gains nothing.
# ```
#
# ```{exercise} ★ Predict: how many tests?
# :label: ex-07t-many
# The winner was held against nine rivals. How many comparisons are there if every network is held against
# every other? How wide must each interval be for all to hold in at least 95 of 100 tournaments?
# ```
#
# ```{solution} ex-07t-many
# :class: dropdown
# Ten networks make $10 · 9 / 2 = 45$ pairs, so each interval is a $1 - 0.05 / 45 = 99.9\,\%$ one. The more
# you ask of the same data, the less each answer may claim. Chapter 16 uses Holm's correction, which is a
# little kinder.
# ```
#
# ```{exercise} ★★ Implement: temperature
# :label: ex-07t-temperature
# Divide all logits by one number T, chosen so that the cross-entropy on the *validation* images is lowest
# {cite:p}`guo2017calibration`. What happens to the accuracy, and to the calibration error?
# ```
#
# ````{solution} ex-07t-temperature
# :class: dropdown
# ```python
# from medlib import evaluate
#
# model = by_epochs["xray"]["ResNet-8 (2015)"].model
# val, test = evaluate(model, xray.val), evaluate(model, xray.test)
# T = min(np.linspace(0.5, 5, 46), key=lambda t: F.cross_entropy(val.logits / t, val.target).item())
# print(T, calibration_error(test.logits, test.target), calibration_error(test.logits / T, test.target))
# ```
#
# The accuracy cannot change: dividing by a positive number keeps the order of the logits. The calibration
# error usually falls, as long as test patients resemble validation patients.
# ````
#
# ```{exercise} ★★ Implement: a vote
# :label: ex-07t-vote
# Average the probabilities of the ten networks, and measure the AUC of the average. Then average the seeds
# of one network. Which gains more over its members?
# ```
#
# ````{solution} ex-07t-vote
# :class: dropdown
# ```python
# def softmax(z):
#     z = z - z.max(-1, keepdims=True)
#     return np.exp(z) / np.exp(z).sum(-1, keepdims=True)
#
#
# games = by_epochs["xray"]
# vote = np.mean([softmax(r.logits[0]) for r in games.values()], 0)  # seed 0 of each network
# print(auc(np.log(vote), truth["xray"]), {n: auc(np.log(softmax(r.logits).mean(0)), truth["xray"]) for n, r in games.items()})
# ```
#
# Expect both to lead the mean of their members: errors that differ cancel. Networks of different kinds differ
# more than seeds of one kind do, but the vote also contains the weak ones. The cost of a vote is the sum of
# the costs.
# ````
#
# ```{exercise} ★★★ Investigate: an eleventh player
# :label: ex-07t-player
# Design a network of your own for these images, with at most 50,000 parameters. Enter it in `PLAYERS` and
# play under both budgets. Write down before you start by how much its interval would have to lead for you to
# call it better.
# ```
#
# ```{solution} ex-07t-player
# :class: dropdown
# There is no single answer. A fair report names the budget, shows the interval of the difference, and says
# how many designs were tried before this one.
# ```
#
# ```{exercise} ★★★ Investigate: would the order hold?
# :label: ex-07t-order
# Draw the test patients anew with replacement, 1,000 times, and rank the ten networks each time. How often
# does the winner win? Which places are the most certain?
# ```
#
# ````{solution} ex-07t-order
# :class: dropdown
# ```python
# rng, games = np.random.default_rng(0), by_epochs["xray"]
# margins = {n: (r.logits[..., 1] - r.logits[..., 0]).mean(0) for n, r in games.items()}
# wins = dict.fromkeys(games, 0)
# for _ in range(1000):
#     i = rng.integers(len(truth["xray"]), size=len(truth["xray"]))
#     wins[max(margins, key=lambda n: auc(np.stack([-margins[n][i], margins[n][i]], 1), truth["xray"][i]))] += 1
# ```
#
# Expect the first places to change hands often, wherever intervals overlap, and the last ones seldom. The
# pitfall: all networks must see the *same* draw, for their errors are on the same patients. The mean over
# seeds hides the luck of the seed; draw a seed too, and the order becomes less certain still.
# ````

# %% [markdown]
# # Beyond one GPU
#
# *What changes when a training has several devices, and what must not?*
#
# Every network of this book was trained by one process on one device. Whole stacks take so much memory that a batch holds few patients (chapter 17), and a large network takes days.
# A second device could take half of the work. **What changes when a training has several devices? And what must not change?**
#
# After this chapter you can start one training on several devices, check that it still is the same training, count a score right, and say what a second device can bring at most. Everything here runs on a processor: two processes play the two devices.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import inspect
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

# %%
import numpy as np
import torch
from accelerate import Accelerator, notebook_launcher
from accelerate.utils import patch_environment
from torch import nn
from torch.nn import functional as F

from medlib import cost, device, fit, load, plots, profile, repeat, seed, stats, train
from medlib.data import Split
from medlib.metrics import accuracy, auc
from medlib.models import LeNet, ResNet, SmallUNet
from medlib.models.vgg import small_vgg
from medlib.paths import PACKAGE

# %%
SEEDS = profile(smoke=2, quick=3, full=5)
STEPS = profile(smoke=2, full=100)
xray = load("pneumoniamnist", device="cpu").standardise()

# %% [markdown]
# ## The idea: a part of the batch each
#
# There are two ways to use two devices. AlexNet was cut in two, and each GPU held half of its maps {cite:p}`krizhevsky2017imagenet`. That is needed where a network does not fit on one device.
# Ours do. Then the simpler way is to cut the {term}`batch`: *data parallel* training {cite:p}`li2020distributed`.
#
# Each process has a copy of all weights. In a step, process $k$ of $K$ takes $n_k$ of the $B$ images, and computes the {term}`gradient` of *its* mean loss $L_k$. Then the processes exchange their gradients, so that all have the same mean:
#
# $$ \nabla L(\theta) = \sum_{k=1}^{K} \frac{n_k}{B} \, \nabla L_k(\theta) . $$ (eq-parts)
#
# All take the same step with it, so the copies stay equal. The exchange is called an *all-reduce*: all give, and all get the sum.

# %% tags=["hide-input"]
figure, axis = plots.panels(1, width=7, height=2.4)
STATIONS = {
    "images\n{}": 0,
    "copy {} of\nthe weights": 1.6,
    "gradient of\npart {}": 3.2,
    "the mean": 5,
    "step {}": 6.4,
}
for k, y in ((1, 0.7), (2, -0.7)):
    places = [(x, 0 if text == "the mean" else y) for text, x in STATIONS.items()]
    for text, place in zip(STATIONS, places, strict=True):
        name = text.format({1: "1 … n₁", 2: "n₁+1 … B"}[k] if "images" in text else k)
        axis.text(
            *place, name, ha="center", va="center", fontsize=8, bbox={"boxstyle": "round", "fc": "white"}
        )
    for a, b in itertools.pairwise(places):
        colour = "C1" if 0 in (a[1], b[1]) else "0.5"
        axis.annotate(
            "", b, a, arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 33, "shrinkB": 33}
        )
axis.text(5, 0.9, "all-reduce", color="C1", ha="center", fontsize=9)
axis.set(xlim=(-0.7, 7.1), ylim=(-1.1, 1.15))
axis.axis("off")

# %%
plots.show(
    figure,
    alt="Two rows, one a process: images, a copy of the weights, the gradient of the part. Orange arrows lead from both "
    "gradients to their mean, and from the mean to the step of both processes.",
    caption="One step in two processes. Only the gradients travel (orange).",
    name="fig-21-idea",
)

# %% [markdown]
# ### By hand
#
# Is Eq. {eq}`eq-parts` true for a real network? We take 32 X-rays, cut them into 20 and 12, and weight the gradients of the parts by their sizes.


# %%
def gradient(net, x, y):
    """All of them in one row: (parameters,)."""
    parts = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    return torch.cat([part.flatten() for part in parts])


# %%
def from_parts(net, x, y, sizes):
    """The gradient of the batch from those of its parts."""
    parts = zip(x.split(sizes), y.split(sizes), strict=True)
    return sum(len(y_k) / len(y) * gradient(net, x_k, y_k) for x_k, y_k in parts)


# %% tags=["nbval-check-output"]
seed(0)
net = small_vgg(width=8, head=None).double()
x, y = xray.train.x[:32].double(), xray.train.y[:32]
torch.testing.assert_close(from_parts(net, x, y, [20, 12]), gradient(net, x, y))
print("the weighted mean of the parts' gradients is the batch's gradient: yes")

# %% [markdown]
# So nothing must change: not the losses, not the weights, not the scores. That is what we test.
#
# The review makes no claim about several devices, so this chapter has no verdicts.
#
# ## Two processes for real
#
# First the network: the small VGG of chapter 04, and a twin of it that is *smooth*, with GELU in place of ReLU and means in place of maxima. We shall see why we need the twin.


# %%
def network(kind):
    """ "usual", "smooth", or "batch norm", which is smooth too."""
    net = small_vgg(width=8, head=None, batch_norm=kind == "batch norm")
    smooth = {nn.ReLU: nn.GELU(), nn.MaxPool2d: nn.AvgPool2d(2)}
    for i, layer in enumerate(net.features):
        if kind != "usual":
            net.features[i] = smooth.get(type(layer), layer)
    return net


# %% [markdown]
# This is the training. Nothing in it divides the work: `medlib.fit` asks how many processes there are, and only the first one writes the file. The validation images are an odd number, so that no two equal parts can be made of them.


# %%
def job(folder, arms, seeds, steps, own_file=False, fatal=False):
    """Train each arm (kind of network, batch size) with each seed. A file of each holds the weights and what `fit` saw;
    with `own_file` it is the training's checkpoint, too."""
    torch.set_num_threads(1)
    data = load("pneumoniamnist", device="cpu").standardise()
    odd = len(data.val.x) - (len(data.val.x) + 1) % 2
    data = replace(data, val=Split(data.val.x[:odd], data.val.y[:odd]))
    Path(folder).mkdir(exist_ok=True)
    os.environ["FATAL"] = "1" if fatal else ""
    for (kind, batch), s in itertools.product(arms, range(seeds)):
        file = Path(folder) / f"{kind}-{batch}-{s}.pt"
        seed(s)
        net, options = network(kind), {"steps": steps, "batch_size": batch, "seed": s, "validations": 5}
        if own_file:
            fit(net, data, keep="last", store=file, score=partial(fatal_score, file), **options)
        else:
            history = fit(net, data, keep="last", **options)
            if os.environ.get("RANK", "0") == "0":
                torch.save({"model": net.state_dict(), "history": vars(history)}, file)


# %%
def fatal_score(file, logits, target):
    """The AUC; but for later in this chapter, a process that may be asked to die once a validation is kept."""
    asked = os.environ["FATAL"] and os.environ.get("RANK") == "1"
    if asked and torch.load(file, weights_only=True)["history"]["step"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return auc(logits, target)


# %% [markdown]
# The next cell writes a function to a file and starts it: with Python alone, or with `accelerate launch`, which starts as many copies as we ask for, tells each its number (its *rank*), and watches them. The variables keep all of them on the processor, where they talk through *gloo*; GPUs talk through
# NCCL. `--multi_gpu` means no more than "several processes" (with `--cpu` in its place, accelerate starts only one).

# %%
IMPORTS = """import itertools, json, os, signal, time
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
import torch
from accelerate import Accelerator
from torch import nn
from medlib import cost, fit, load, seed
from medlib.data import Split
from medlib.metrics import auc
from medlib.models import LeNet, ResNet, SmallUNet
from medlib.models.vgg import small_vgg
"""
PROCESSOR = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "MEDLIB_PRECISION": "no"}
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port=0", "--tee=3", "--log_dir=log"]  # fmt: skip
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
tempfile.tempdir = temporary.name  # what the launchers leave behind goes with it


# %%
def launch(processes, function, *arguments, needs=()):
    """Run function(*arguments) as a script of its own, in one process or in several."""
    sources = [inspect.getsource(each) for each in (*needs, function)]
    call = f"{function.__name__}(*{arguments!r})"
    (folder / "job.py").write_text("\n\n".join([IMPORTS, *sources, call]), encoding="utf-8")
    environment = os.environ | PROCESSOR | {"PYTHONPATH": str(PACKAGE.parent)}
    environment.pop("TQDM_DISABLE", None)  # a bar to count
    several = [*LAUNCH, f"--num_processes={processes}"] if processes > 1 else []
    command = [sys.executable, *several, "job.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


# %%
SAME = ("smooth", 45)  # batches of 45, of which two processes get 23 and 22 images
ARMS = (SAME, ("usual", 45), ("smooth", 4), ("batch norm", 4), ("batch norm", 16), ("batch norm", 64))
for processes in (1, 2):
    target = str(folder / f"launched-{processes}")
    done = launch(processes, job, target, ARMS, SEEDS, STEPS, needs=(network, fatal_score))
    assert done.returncode == 0, done.stderr

# %% [markdown]
# In a notebook, `notebook_launcher` does the same: it copies this kernel twice, with all that we defined. No cell before it may have used a GPU, since that cannot be copied.
# This is why we loaded the X-rays with `device="cpu"`.
#
# Where there is a GPU, even a gradient taken on the processor is too much: with the first one PyTorch starts threads for the GPU too, and a copy of the kernel lacks them. We took gradients by hand above, so the cell is left out on such a machine. On Colab the launcher makes no copies where there are fewer than two GPUs.

# %%
if not (torch.accelerator.is_available() or "google.colab" in sys.modules):
    with patch_environment(**PROCESSOR), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        notebook_launcher(job, (str(folder / "notebook-2"), [SAME], SEEDS, STEPS, True), num_processes=2)

# %% [markdown]
# Each file holds the weights and what `fit` saw. How far are they from those of one process?


# %%
def outcome(kind, arm, s):
    """(losses and scores of one training: (3, validations); its weights in one row)."""
    saved = torch.load(folder / kind / f"{arm[0]}-{arm[1]}-{s}.pt", weights_only=True)
    weights = torch.cat([v.flatten() for v in saved["model"].values() if v.is_floating_point()])
    return np.array([saved["history"][key] for key in ("train_loss", "val_loss", "score")]), weights


# %%
def largest(kind, arm, seeds=range(SEEDS)):
    """Largest difference to one process, over seeds: training loss, validation loss, score, weights."""
    rows = []
    for s in seeds:
        (seen, weights), (alone, weights_alone) = (outcome(k, arm, s) for k in (kind, "launched-1"))
        rows.append([*np.abs(seen - alone).max(1), (weights - weights_alone).abs().max().item()])
    return np.max(rows, 0)


# %%
LAUNCHED = {"launched-2": "`accelerate launch`", "notebook-2": "`notebook_launcher`"}
gaps = {kind: largest(kind, SAME) for kind in LAUNCHED if (folder / kind).exists()}
assert all(gap.max() < 1e-4 for gap in gaps.values())

# %% tags=["hide-input"]
alone = np.mean([outcome("launched-1", SAME, s)[0][:, -1] for s in range(SEEDS)], 0)
rows = [["smooth, one process: at the end, mean over seeds", *(f"{v:.4f}" for v in alone), ""]]
shown = {f"smooth, two by {LAUNCHED[k]}": gap for k, gap in gaps.items()} | {"usual, two by `accelerate launch`": largest("launched-2", ARMS[1])}  # fmt: skip
rows += [[f"{name}: largest difference", *(f"{v:.1e}" for v in gap)] for name, gap in shown.items()]
plots.table(rows, ["network and processes", "training loss", "validation loss", "AUC", "weights"])

# %% tags=["hide-input"]
each = [largest("launched-2", ARMS[1], [s])[1] for s in range(SEEDS)]
plots.say(
    f"The smooth network comes out the same, within the rounding of fp32. Of the {SEEDS} trainings of the usual one, {sum(gap < 1e-5 for gap in each)} stay within 0.00001 of their twin in validation loss; the furthest is off by {max(each):.4f}."
)

# %% [markdown]
# Rounding differs because sums were taken in another order. A smooth network hardly notices. The usual one *decides*: a ReLU is on or off, a maximum is this pixel or that one. Now and then rounding turns a decision, and from there two trainings part. Neither is wrong; two kinds of GPU do the same to each other. So test your code for several devices on a smooth network and in fp32, where a fault cannot hide behind rounding.
#
# How does `fit` do it? Each process draws the *same* batch from the same {term}`seed`, and takes every $K$-th image of it. Its loss is multiplied by $K n_k / B$ before the gradient is taken: gradients are averaged over the processes without weights, and the factor puts the weights of Eq. {eq}`eq-parts` back.

# %% tags=["hide-input"]
plots.show_source(device.own, device.weight, device.average_gradients)

# %% [markdown]
# ## What is not the same: batch normalisation
#
# Eq. {eq}`eq-parts` needs a loss that is a mean over images, each of which goes through the network by itself. {term}`Batch normalisation <batch normalisation>` breaks that: every image is normalised by the mean of those beside it, and in another process there are others. A Dice loss that sums over the batch, as ours for hearts does, breaks it too: the mean of two Dice losses is not the Dice of both. And dropout draws other masks in each process.
#
# We repeat the calculation by hand, for a batch in two halves.


# %%
def mismatch(kind, batch, s):
    """Distance between the halves' mean gradient and the batch's, relative to the latter."""
    seed(s)
    net = network(kind).double()
    index = torch.randperm(len(xray.train.x))[:batch]
    x, y = xray.train.x[index].double(), xray.train.y[index]
    whole = gradient(net, x, y)
    return ((from_parts(net, x, y, [batch // 2] * 2) - whole).norm() / whole.norm()).item()


# %%
DRAWS = profile(smoke=3, full=20)
apart = {arm: stats.interval([mismatch(*arm, s) for s in range(DRAWS)]) for arm in ARMS[2:]}

# %% [markdown]
# And we look at the trainings above. There, two processes trained with batch normalisation too. Does it matter at the end?


# %%
def final(kind, arm, what):
    return np.array([outcome(kind, arm, s)[0][what, -1] for s in range(SEEDS)])


# %%
changes = {
    arm: [stats.paired(final("launched-2", arm, what), final("launched-1", arm, what)) for what in (1, 2)]
    for arm in ARMS[2:]
}

# %% tags=["hide-input"]
label = {arm: f"{arm[0]}, batch of {arm[1]} as 2 × {arm[1] // 2}" for arm in apart}
rows = [[label[arm], apart[arm], f"{largest('launched-2', arm)[1]:.1e}", *changes[arm]] for arm in apart]
plots.table(
    rows,
    ["network and batch", "mismatch of the gradient, before training", "largest gap in validation loss, any time and seed", "validation loss at the end, two minus one", "AUC at the end, two minus one"],
)  # fmt: skip

# %%
plots.show(
    plots.intervals({label[arm]: apart[arm] for arm in apart}, xlabel="mismatch of the gradient", references={"none": 0}),
    alt="Four intervals of the gradient's mismatch: none without batch normalisation; with it, largest for a batch of four, "
    "smaller for larger batches.",
    caption="How far the mean of two halves' gradients is from the batch's gradient, before training, with intervals over "
    "random networks and batches.",
    name="fig-21-norm",
)  # fmt: skip

# %% tags=["hide-input"]
worst, changed = apart[ARMS[3]], dict(zip(("validation loss", "AUC"), changes[ARMS[3]], strict=True))
clear = [name for name, g in changed.items() if g.low > 0 or g.high < 0]
plots.say(
    f"With batch normalisation and parts of two images, the gradient that comes out is off by **{100 * worst.mean:.0f} %** of its length, before training. "
    f"After {STEPS} steps, two processes differ from one by {changed['validation loss']} in validation loss and by {changed['AUC']} in AUC (paired, {SEEDS} seeds). "
    + (f"That is a clear change of the {' and of the '.join(clear)}." if clear else "The single trainings differ, but in no clear direction.")
)  # fmt: skip

# %% [markdown]
# Two things changed: the gradient, and the running averages with which the network is scored, which are those of the first process alone. The table does not take them apart, and one clear interval among six is a hint.
#
# An off gradient is not a bad gradient. It is the gradient of another network: one that normalises by fewer images, as a single process with a small batch would. How noisy that is depends on the part, not on the batch: four GPUs with two volumes each have a batch of eight and normalise by two. Chapter 13 asks what a batch of two does ({ref}`ex-13-batch`), and chapter 17 trained with batches of two stacks.
#
# There are two ways out. Group normalisation {cite:p}`wu2018group` does not look at other images. Or the processes exchange their means in every such layer: `nn.SyncBatchNorm`, which works on GPUs only and costs an exchange a layer.
#
# ## Scores: gather, then count
#
# Validation images are shared out too. Each process could score its own part and send one number. That is less to send. For a loss or an accuracy it is right if the parts are weighted by their sizes; for an AUC no weights help. We take the predictions of a trained network, and share them out as two processes would.


# %%
net = network("smooth")
net.load_state_dict(torch.load(folder / "launched-1" / "smooth-45-0.pt", weights_only=True)["model"])
odd = len(xray.val.x) - (len(xray.val.x) + 1) % 2
logits, target = train.predict(net, xray.val.x[:odd]), xray.val.y[:odd]
PART = 128  # images a batch
shares = [range(rank, odd, 2) for rank in range(2)]
batches = [list(share[i : i + PART]) for share in shares for i in range(0, len(share), PART)]
[len(batch) for batch in batches]


# %%
def scores(index):
    """(loss, accuracy, AUC) of these images."""
    z, t = logits[list(index)], target[list(index)]
    return np.array([F.cross_entropy(z, t).item(), float(accuracy(z, t)), float(auc(z, t))])


# %%
ways = {
    "all images, each once": scores(range(odd)),
    "mean over the two processes": np.mean([scores(share) for share in shares], 0),
    "mean over all batches": np.mean([scores(batch) for batch in batches], 0),
    "parts made equal: an image twice": scores([*range(odd), 0]),
}

# %% tags=["hide-input"]
rows = [[name, *("–" if np.isnan(v) else f"{v:.4f}" for v in found)] for name, found in ways.items()]
plots.table(rows, ["what is averaged", "loss", "accuracy", "AUC"])

# %% [markdown]
# The last batch of each process is short, and a mean over batches gives its few images the weight of a full one. Padding counts an image twice; PyTorch's `DistributedSampler` does so by default. And the AUC compares *every* sick case with every healthy one. Two processes never compare
# a case of one with a case of the other, so no average of their AUCs has to be the AUC. Such errors should grow with the number of devices and shrink with the number of images, and medical validation sets are small.
#
# Instead: send the logits, put them in order, cut off the padding, and count once. By hand:

# %% tags=["nbval-check-output"]
parts = [logits[rank::2] for rank in range(2)]
longest = max(len(part) for part in parts)
padded = torch.stack(
    [F.pad(part, (0, 0, 0, longest - len(part))) for part in parts]
)  # what each process gets
torch.testing.assert_close(padded.transpose(0, 1).flatten(0, 1)[:odd], logits)
print("gathered, in order, without padding: yes")

# %%
plots.show_source(device.gathered)

# %% [markdown]
# ## Is it faster here?
#
# Let a step take the time $T_1$ in one process, and let the exchange of gradients take $T_x$. With $K$ processes the images are divided by $K$; the exchange is not (nor is the update of the weights, which we leave out):
#
# $$ \frac{T_1}{T_K} = \frac{T_1}{T_1 / K + T_x} < \frac{T_1}{T_x} . $$ (eq-speed)
#
# This is Amdahl's bound {cite:p}`amdahl1967validity`: what cannot be divided sets the limit, however many devices there are. $T_1$ grows with the {term}`multiply-adds`, $T_x$ with the {term}`parameters <parameter>`. We measure three networks: a small one, one with many parameters, and one with few parameters and much work.


# %%
def racers():
    """{name: (builder, shape of a batch)}."""
    return {
        "LeNet": (partial(LeNet, 1, 2), (64, 1, 28, 28)),
        "ResNet-18": (partial(ResNet, 1, 2), (64, 1, 28, 28)),
        "small U-Net": (SmallUNet, (16, 1, 96, 96)),
    }


# %%
def step(net, optimizer, x):
    """A training step; any loss will do."""
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()


# %%
def race(file, repeats):
    """Seconds of a step alone, of a step shared, of an exchange, and of two halves without one, in turn, for each network."""
    torch.set_num_threads(1)
    accelerator, seconds = Accelerator(), {}
    rank = accelerator.process_index
    for name, (build, shape) in racers().items():
        net, x = build(), torch.randn(shape)
        shared, numbers = accelerator.prepare(deepcopy(net)), torch.zeros(cost.parameters(net))
        own = deepcopy(net)
        sgd, sgd_shared, sgd_own = (torch.optim.SGD(n.parameters(), lr=1e-4) for n in (net, shared, own))
        actions = [
            partial(step, net, sgd, x) if rank == 0 else int,  # the other one waits
            partial(step, shared, sgd_shared, x[rank::2]),
            partial(accelerator.reduce, numbers),
            partial(step, own, sgd_own, x[rank::2]),
        ]
        seconds[name] = [[timed(accelerator, action) for action in actions] for _ in range(repeats + 1)][1:]
    if rank == 0:
        Path(file).write_text(json.dumps(seconds))


# %%
def timed(accelerator, action):
    """Seconds until all processes are done."""
    accelerator.wait_for_everyone()
    started = time.perf_counter()
    action()
    accelerator.wait_for_everyone()
    return time.perf_counter() - started


# %% tags=["timing"]
done = launch(2, race, str(folder / "race.json"), profile(smoke=2, full=25), needs=(racers, step, timed))
assert done.returncode == 0, done.stderr
seconds = {name: np.array(rows) for name, rows in json.loads((folder / "race.json").read_text()).items()}


# %%
def gain(s):
    """How many times as fast, as a geometric mean: twice and half as fast cancel."""
    g = stats.interval(np.log(s[:, 0] / s[:, 1]))
    return g._replace(mean=np.exp(g.mean), low=np.exp(g.low), high=np.exp(g.high))


# %% tags=["timing"]
gains = {name: gain(s) for name, s in seconds.items()}

# %% tags=["hide-input", "timing"]
rows = []
for name, (build, shape) in racers().items():
    size, work = cost.parameters_and_macs(build, shape[1:])
    one, two, exchange, halves = np.median(seconds[name], 0)
    rows.append([name, f"{size / 1e6:.2f}", f"{shape[0] * work / 1e9:.2f}", *(f"{1000 * t:.1f}" for t in (one, two, exchange, halves)), gains[name], f"{one / (one / 2 + exchange):.2f}", f"{one / exchange:.1f}"])  # fmt: skip
plots.table(
    rows,
    ["network", "million parameters", "G multiply-adds a batch", "one process, ms", "two, ms", "exchange alone, ms", "two halves, no exchange, ms", "times as fast, measured", "expected for two", "bound for many"],
)  # fmt: skip

# %% tags=["hide-input", "timing"]
verdict = {n: "faster" if g.low > 1 else "slower" if g.high < 1 else "not clearly faster or slower" for n, g in gains.items()}  # fmt: skip
plots.say("With two processes, " + "; ".join(f"{n} is {verdict[n]} ({gains[n]})" for n in gains) + ".")

# %% tags=["timing"]
plots.show(
    plots.intervals(gains, xlabel="one process's time / two processes' time", references={"no gain": 1, "twice as fast": 2}),
    alt="An interval of the gain for each of three networks, with lines at one, no gain, and at two, twice as fast.",
    caption="What a second process brings on this machine: wall time of a step, in turn, with intervals over steps.",
    name="fig-21-speed",
)  # fmt: skip

# %% [markdown]
# The milliseconds are medians, the measured gain is a geometric mean over steps: it is not quite their ratio. The last two columns are those of Eq. {eq}`eq-speed`, with the two measured times. Where two processes stay behind them, look at *two halves, no exchange*: near one half of one process's time, they really had two cores; near the whole of it, they shared something that the equation takes for doubled.
#
# The times prove nothing about GPUs. The two processes here share two cores, one memory and what else this machine was doing; the exchange is a copy in memory, which between machines is a network.
#
# What carries over is the question: how long is the exchange beside the work? It is why one gives each device as many images as it holds, and why networks with few parameters and much work, such as those for volumes, share well. PyTorch also starts to exchange the gradients of
# the last layers while those of the first are still being computed {cite:p}`li2020distributed`, so a step may be faster than Eq. {eq}`eq-speed` says.
#
# ## Larger batches, larger steps?
#
# More devices are mostly used for larger batches. Then an {term}`epoch` has fewer steps. Should each be longer? Write $k$ steps of SGD with the {term}`learning rate` $\eta$ as one. If the weights hardly move in between, the gradients may all be taken at the start:
#
# $$ \theta_{t+k} = \theta_t - \eta \sum_{j=0}^{k-1} \nabla L_j(\theta_{t+j}) \approx \theta_t - k\eta \cdot \frac{1}{k} \sum_{j=0}^{k-1} \nabla L_j(\theta_t) . $$ (eq-linear)
#
# On the right stands one step with a batch $k$ times as large, and a learning rate $k$ times as large. This is the *linear scaling rule*; with it, and a few epochs of warming up, ImageNet was trained in an hour {cite:p}`goyal2017accurate`. We try it on X-rays: the same number of epochs, four times the batch. (The rate in the table is the peak of `fit`'s one cycle, which warms up for a third of the steps and moves the momentum too. The rate of the small batch was not tuned.)
# From here on everything runs in this kernel again, on its own device.

# %%
EPOCHS = profile(smoke=0.2, quick=1, full=2)
ETA = 0.02
RECIPE = {
    "epochs": EPOCHS,
    "keep": "last",
    "validations": 1,
    "optimizer": partial(torch.optim.SGD, momentum=0.9),
}
PLANS = {"batch 32": (32, 1)} | {f"batch 128, rate × {k}": (128, k) for k in (1, 2, 4, 8)}
here = xray.to(device.device())

# %%
runs = {
    name: repeat(
        partial(small_vgg, width=8, head=None), here, seeds=SEEDS, batch_size=batch, lr=k * ETA, **RECIPE
    )
    for name, (batch, k) in PLANS.items()
}

# %%
small = runs["batch 32"]
losses = {name: np.array([h.val_loss[-1] for h in run.histories]) for name, run in runs.items()}
leads = {name: run.interval(auc, small) for name, run in runs.items() if run is not small}
lags = {name: stats.paired(losses[name], losses["batch 32"]) for name in leads}

# %% tags=["hide-input"]
rows = [
    [name, run.histories[0].step[-1], f"{PLANS[name][1] * ETA:.2f}", stats.interval(losses[name]), run.interval(auc), leads.get(name, "")]
    for name, run in runs.items()
]  # fmt: skip
plots.table(rows, ["plan", "steps", "learning rate", "validation loss", "test AUC", "lead over batch 32"])

# %%
plots.show(
    plots.intervals(lags, xlabel="validation loss, more than with a batch of 32", references={"the same": 0}),
    alt="Intervals of the additional validation loss for a batch of 128 with four learning rates.",
    caption="What a batch four times as large costs in as many epochs, by learning rate; paired by seed.",
    name="fig-21-rates",
)

# %% tags=["hide-input"]
best = min(lags, key=lambda name: lags[name].mean)
same, ruled = lags["batch 128, rate × 1"], lags["batch 128, rate × 4"]
nearer = stats.paired(losses["batch 128, rate × 4"], losses["batch 128, rate × 1"])
plots.say(
    f"With the old rate, the larger batch ends at a validation loss that is higher by {same}; with the rate of the rule, by {ruled}. "
    + ("The rule narrows the gap" if nearer.high < 0 else "This test does not show that the rule narrows the gap")
    + (", and a gap is left. " if ruled.low > 0 else "; what is left may be chance. ")
    + f"The smallest gap on average belongs to {best}. On the test images, the AUC with the rule minus that of the small batch is {leads['batch 128, rate × 4']}."
)  # fmt: skip

# %% [markdown]
# The rule is a start for a search, not a law. Its assumption fails where the weights move fast: at the start, and with large rates. It is about SGD. AdamW, which `fit` takes by default, divides by the size of the gradient, and there the rule has no ground. And note what the table compares: equal epochs. With equal *steps*, the larger batch would have seen four times the images.
#
# ## When a worker dies
#
# A process may be killed: memory runs out, or a machine is switched off. The others then wait for a gradient that never comes. What should happen? We kill the second process as soon as a validation is kept.

# %%
done = launch(2, job, str(folder / "killed"), (SAME,), 1, STEPS, True, True, needs=(network, fatal_score))
assert done.returncode != 0
report = done.stderr.split("Root Cause")[-1]
for line in re.findall(r"(?:rank|exitcode|traceback) *:.*", report):
    print(re.sub(r" ?\(pid: \d+\) ?| ?by PID \d+", "", line))

# %% [markdown]
# The launcher ends all processes, returns an error, and names the one that fell first. There was one progress bar, and one checkpoint:

# %%
bars = [rank for rank in range(2) if f"[default{rank}]:training:" in done.stderr]
files = sorted(path.name for path in (folder / "killed").iterdir())
assert bars == [0] and files == ["smooth-45-0.pt"]
print("processes with a bar:", bars, "| files:", files)

# %% [markdown]
# The same command goes on from the checkpoint. It does not even need as many processes. We go on with one, and compare with the training that was never broken off.

# %%
before = len(outcome("killed", SAME, 0)[0][0])
assert (
    launch(1, job, str(folder / "killed"), (SAME,), 1, STEPS, True, needs=(network, fatal_score)).returncode
    == 0
)
for resumed, whole in zip(outcome("killed", SAME, 0), outcome("launched-1", SAME, 0), strict=True):
    np.testing.assert_allclose(resumed, whole, rtol=0, atol=1e-4)
print(
    f"validations before the kill: {before}, in the end: {len(outcome('killed', SAME, 0)[0][0])}; the same training: yes"
)
temporary.cleanup()
tempfile.tempdir = None

# %% [markdown]
# ## Several machines
#
# The code stays as it is, and so does the idea; only the start differs. Every machine needs the same code, the same versions of the packages, and the same data. The first machine is called by its address, and all must be able to reach it on one port. For two machines with four GPUs each:
#
# ```bash
# # on the first machine; on the second, --node-rank=1
# torchrun --nnodes=2 --nproc-per-node=4 --node-rank=0 --rdzv-endpoint=first.example:29500 job.py
#
# # or with accelerate, which counts the processes of all machines; on the second, --machine_rank=1
# accelerate launch --multi_gpu --num_machines=2 --num_processes=8 --machine_rank=0 \
#     --main_process_ip=first.example --main_process_port=29500 job.py
# ```
#
# `accelerate config` asks these things once and keeps the answers in a file. Try a script first that only prints `Accelerator().process_index`.
#
# Only the process of rank 0 writes. All read, so after a stop the checkpoint has to lie where every machine finds it: in a folder that they share.
#
# | what one sees | what it often is |
# | --- | --- |
# | all wait, and nothing happens | a firewall between them, a wrong address, or a machine that was not started |
# | an error in the exchange | other versions of PyTorch or NCCL, or processes that took different paths through the code |
# | it runs, and more slowly than on one | a slow network, or one slow machine: every step waits for the last |
# | losses that differ from one process | batch normalisation, a Dice loss over the batch, dropout, other data on one machine, or seeds by rank |
#
# **Colab and Kaggle.** Colab gives one GPU; there is nothing to share. Kaggle offers two T4. There, `notebook_launcher(job, arguments, num_processes=2)` is all that is needed, without the variables that keep us on the processor, in a fresh notebook, before any other cell uses a GPU or takes a gradient.
#
# ## Pitfalls in medicine
#
# - **Data must not leave the hospital.** Sharing batches means that all devices may see all images. In *federated learning* each hospital trains on its own patients and sends weights, not images {cite:p}`mcmahan2017communication`. Then the parts differ in more than size, weights can still tell something about patients, and Eq. {eq}`eq-parts` holds no more as soon as anyone takes several steps between two exchanges {cite:p}`rieke2020future`.
# - **Batches of volumes are small, and on several devices smaller.** Batch normalisation sees the part. Say in a paper how many images it normalised by.
# - **A padded test set counts a patient twice.** Score on one process, or gather and cut.
# - **Patients are split before images are shared out.** If each process draws its own split from its own seed, test patients of one are training patients of another.
# - **A larger batch is another training.** Results with eight GPUs need not hold for a hospital with one, even with the same code.
#
# ## Summary
#
# - Data parallel training: a copy of the weights each, a part of the batch each, the mean of the gradients for all.
# - With weights by size, losses, scores and weights of a smooth network are those of one process, up to rounding. With ReLU and maxima, rounding may grow into a small gap. Check it.
# - What looks at several images at once is the exception, for it sees its own part: batch normalisation, and a Dice loss summed over the batch.
# - Gather logits, cut the padding, count once. An AUC is no mean.
# - The exchange bounds what more devices bring.
# - In as many epochs a larger batch takes fewer steps. The linear rule is where a search for its learning rate starts.
# - A dead process must end the job. The checkpoint carries on.
#
# ## Check yourself
#
# **1.** Two processes have 30 and 10 images. The gradients of their mean losses are 1 and 5. What is the gradient of the whole batch?
#
# - **A** 3
# - **B** 6
# - **C** 2
# - **D** 4
#
# <details><summary>Answer</summary>
#
# **C.** 30/40 · 1 + 10/40 · 5 = 2. A is the mean without weights, B the sum.
#
# </details>
#
# **2.** Four GPUs share batches of eight volumes. By how many volumes does batch normalisation normalise, without further measures?
#
# - **A** eight, since the gradients are averaged
# - **B** two
# - **C** one
# - **D** four, one a GPU
#
# <details><summary>Answer</summary>
#
# **B.** Each process sees its part. The gradients are exchanged (A), the means inside the layers are not.
#
# </details>
#
# **3.** Why do the copies of the weights stay equal, though no weights are sent in training?
#
# - **A** They start equal and take the same steps.
# - **B** The first process overwrites the others at the end.
# - **C** They need not be equal.
# - **D** The learning rate pulls them together.
#
# <details><summary>Answer</summary>
#
# **A.** After the all-reduce all have the same gradient, and the optimiser does the same everywhere. It is also why one file is enough as a checkpoint.
#
# </details>
#
# **4.** Two processes score 51 test patients, 26 and 25, and report the mean of their two AUCs. What is wrong?
#
# - **A** Nothing: the sizes are almost equal.
# - **B** The mean has to be weighted by 26 and 25.
# - **C** A patient was counted twice.
# - **D** Pairs of a sick and a healthy patient in different processes were never compared.
#
# <details><summary>Answer</summary>
#
# **D.** Weights (B) mend an accuracy, which is a mean over patients. The AUC is one over pairs.
#
# </details>
#
# **5.** A step takes 100 ms on one device and the exchange 20 ms. How many times as fast can it get, with any number of devices?
#
# - **A** less than 5 times
# - **B** about 4.2 times
# - **C** as many times as there are devices
# - **D** twice
#
# <details><summary>Answer</summary>
#
# **A.** The work shrinks towards nothing and the exchange stays: 100/20 = 5. It will be less: an exchange among many takes longer than one between two.
#
# </details>
#
# **6.** With a batch four times as large, in as many epochs, a network ends with a higher loss, at the same learning rate. What is the first thing to look at?
#
# - **A** whether the images were shuffled
# - **B** the number of steps: there were a quarter as many, none of them longer
# - **C** the size of the validation set
# - **D** whether the GPUs are of the same kind
#
# <details><summary>Answer</summary>
#
# **B.** Fewer steps of the same length go less far. The linear rule makes them longer; D changes the time and not the loss.
#
# </details>
#
# **7.** One of eight processes is killed at night. In the morning, which is the best thing to find?
#
# - **A** seven processes that went on without it
# - **B** eight processes that wait
# - **C** a job that ended, a message that names the process, and a checkpoint
# - **D** eight checkpoints, one a process
#
# <details><summary>Answer</summary>
#
# **C.** Seven would train on other batches than you asked for (A), and waiting costs money (B). One checkpoint is enough, for the copies are equal.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: three processes
# :label: ex-21-three
# `job` runs with three processes and a batch of 45, then of 46. Which parts do they get? Do the losses still agree with those of one process?
# ```
#
# ```{solution} ex-21-three
# :class: dropdown
# 15, 15, 15; then 16, 15, 15, since each takes every third image. They agree for both, since each loss is weighted by its part's size. To see it: `folder.mkdir()` (the chapter removed it), then `launch(n, job, str(folder / f"launched-{n}"), (("smooth", 46),), 1, STEPS, needs=(network, fatal_score))` for n = 1 and 3, and compare `outcome`.
# ```
#
# ```{exercise} ★ Predict: how many bytes?
# :label: ex-21-bytes
# VGG-16 has 138,357,544 parameters, in fp32. How many bytes is its gradient? How long does it travel over a network of 1 Gbit a second? Compare with a small U-Net of 480,000 parameters.
# ```
#
# ```{solution} ex-21-bytes
# :class: dropdown
# Four bytes each: 553 MB, and 4.4 s once over such a network, at every step. The U-Net: 1.9 MB, 15 ms. An all-reduce sends it about twice.
# ```
#
# ```{exercise} ★★ Implement: leave out the weights
# :label: ex-21-weights
# Take the mean of the parts' gradients without weights. How far is it from the batch's gradient for 20 and 12 images, and for 31 and 1?
# ```
#
# ````{solution} ex-21-weights
# :class: dropdown
# ```python
# def unweighted(net, x, y, sizes):
#     pairs = list(zip(x.split(sizes), y.split(sizes), strict=True))
#     return sum(gradient(net, *pair) for pair in pairs) / len(pairs)
#
#
# net = small_vgg(width=8, head=None).double()
# x, y = xray.train.x[:32].double(), xray.train.y[:32]
# whole = gradient(net, x, y)
# for sizes in ([20, 12], [31, 1]):
#     print(sizes, ((unweighted(net, x, y, sizes) - whole).norm() / whole.norm()).item())
# ```
#
# The more unequal the parts, the worse: with 31 and 1, a single image makes half of the gradient.
# ````
#
# ```{exercise} ★★ Implement: a norm that does not look at the batch
# :label: ex-21-group
# Replace each batch normalisation by `nn.GroupNorm(4, channels)`, and measure `mismatch` again.
# ```
#
# ````{solution} ex-21-group
# :class: dropdown
# ```python
# net = network("batch norm")
# for i, layer in enumerate(net.features):
#     if isinstance(layer, nn.BatchNorm2d):
#         net.features[i] = nn.GroupNorm(4, layer.num_features)
# net, x, y = net.double(), xray.train.x[:4].double(), xray.train.y[:4]
# torch.testing.assert_close(from_parts(net, x, y, [2, 2]), gradient(net, x, y))
# ```
#
# Nothing is left of the mismatch: every image is normalised by itself.
# ````
#
# ```{exercise} ★★★ Investigate: the rule for AdamW
# :label: ex-21-adamw
# Repeat the experiment on larger batches with AdamW (`fit`'s default) and rates × 1, × 2 and × 4 of 0.001. Which suits the batch of 128? State your guess first.
# ```
#
# ```{solution} ex-21-adamw
# :class: dropdown
# Drop `optimizer` from `RECIPE`, set `ETA = 0.001` and run the cells again. AdamW's steps have about the length of the rate, whatever the size of the gradient. So the argument of Eq. {eq}`eq-linear` does not apply; × 2, the square root of 4, is a common guess. The pitfall: to choose by the test AUC. Choose by validation loss, and report the test once.
# ```
#
# ```{exercise} ★★★ Investigate: fewer exchanges
# :label: ex-21-local
# Let each of two copies take four steps on its own images, then average their *weights*. This is federated averaging. Compare it with exchanging gradients at each step: first with X-rays dealt out at random, then with all the healthy ones in one copy.
# ```
#
# ````{solution} ex-21-local
# :class: dropdown
# ```python
# from copy import deepcopy
#
#
# def round_of(net, parts, steps, lr=0.02, batch=32):
#     copies = [deepcopy(net) for _ in parts]
#     for copy, (x, y) in zip(copies, parts, strict=True):
#         optimizer = torch.optim.SGD(copy.parameters(), lr=lr)
#         for _ in range(steps):
#             i = torch.randint(len(x), (batch,))
#             optimizer.zero_grad()
#             F.cross_entropy(copy(x[i]), y[i]).backward()
#             optimizer.step()
#     states = [copy.state_dict() for copy in copies]
#     net.load_state_dict({k: sum(s[k] for s in states) / len(states) for k in states[0]})
# ```
#
# With one step a round, and parts of equal size, it is Eq. {eq}`eq-parts`: test your code on that. With four, parts dealt out at random should do about as well with a quarter of the exchanges. With the classes apart, each copy learns that there is one class only, and the average of two such networks is worse. Hospitals lie between the two. Use several seeds, and a network without batch normalisation.
# ````

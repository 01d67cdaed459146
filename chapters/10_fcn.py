# %% [markdown]
# # Autoencoder and FCN
#
# *Can a denoiser learn to segment?*
#
# A network that gives back its own input sounds useless. Make it narrow in the middle, and it must decide what is worth keeping. Such a network is an {term}`autoencoder`. The review says that it looks like a U-Net, that it was used to remove noise, and that it “can be tricked to
# perform segmentation”. Another way starts from a classifier: turn its dense layers into convolutions, and it answers
# at every position of the image. That was done for lines of digits in 1991 {cite:p}`matan1991multi` and for photographs in 2013 {cite:p}`sermanet2014overfeat`; in 2015 the fully convolutional network made it the standard, by
# training such a network end to end on masks, from weights that were **pretrained** on ImageNet {cite:p}`long2015fcn`. **How far does each of these ways go on real hearts?**
#
# After this chapter you can say what an autoencoder has to do with principal components, test whether a network uses its
# bottleneck, hold a denoiser against classical filters, turn a classifier into a map, and explain what a skip adds.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medlib import claims, cost, fit, hearts, load, losses, plots, profile, seed, stats
from medlib.augment import random_affine
from medlib.data import Dataset, Split
from medlib.metrics import surface
from medlib.models import FCN, Autoencoder, LinearAutoencoder, UNet
from medlib.models.fcn import convolutionise, small_fcn
from medlib.models.vgg import small_vgg
from medlib.train import predict

# %%
SEEDS = profile(smoke=1, quick=2, full=3)
FEW_SEEDS = profile(smoke=1, quick=2, full=5)
STEPS = profile(smoke=2, quick=45, full=400)
SIDE = profile(smoke=64, full=64)
BATCH = 16

# %% [markdown]
# ## The problem, seen on our data
#
# Slices of ACDC hearts {cite:p}`bernard2018acdc`, cut to a square of 200 mm around the heart. Patients are split into three
# parts: one to train on, one to choose settings with, one to test on.

# %%
n = profile(smoke=2, full=None)  # None: all patients
train, val, test = (patients[:n] for patients in hearts.split(hearts.load()))
acdc = hearts.slices(train, val, test, side=SIDE)
print(acdc)
print(f"{len(train)}, {len(val)} and {len(test)} patients")

# %% [markdown]
# A network learns what its targets tell it. The same noisy slice may be asked for three things: *itself*, the *clean* slice behind it, or a {term}`mask` that names each pixel. To score the first two we need grey values on a fixed scale. We write each slice in 256 grey levels, as a
# photo has them. A grey level is a whole number, so such a slice has the form of a mask with 256 labels, and `fit` takes it as one.

# %%
LOW, HIGH = acdc.train.x.min().item(), acdc.train.x.max().item()
SPAN = HIGH - LOW


def grey_levels(split):
    x = split.x.clamp(LOW, HIGH)
    return Split(x, (255 * (x[:, 0] - LOW) / SPAN).round().long())


def picture(levels):
    """Grey levels (N, H, W) → the images (N, 1, H, W) that they stand for."""
    return LOW + SPAN * levels[:, None] / 255


greys = [grey_levels(part) for part in (acdc.train, acdc.val, acdc.test)]
pictures = Dataset(acdc.name, tuple(map(str, range(256))), *greys, acdc.source)

# %%
i = len(train[0].ed.image) // 2  # a slice from the middle of a heart
clean, mask = pictures.train.x[i, 0].cpu(), acdc.train.y[i].cpu()
generator = torch.Generator().manual_seed(0)
noisy = clean + 0.2 * SPAN * torch.randn(clean.shape, generator=generator)
named = plots.outlined(clean, mask, limits=(LOW, HIGH))

# %%
plots.show(
    plots.grid(
        [noisy, clean, named],
        ["in", "wanted: clean", "wanted: named"],
        columns=3,
        size=2.2,
        limits=(LOW, HIGH),
    ),
    alt="A heart slice full of noise; the same slice without noise; and the slice with the outlines of the right ventricle, the heart "
    "muscle and the left ventricle.",
    caption="One slice, and what a network may be asked to make of it. Blue: right ventricle; yellow: myocardium; red: left "
    "ventricle (ACDC, CC BY-NC-SA 4.0).",
    name="fig-10-tasks",
)

# %% [markdown]
# ## The idea: through a narrow place
#
# Call the image $x$, written as one long row of $n$ numbers. An *encoder* makes $k$ numbers of it, the *code*. A *decoder* makes $n$ numbers of the code ({term}`encoder, decoder`). With $k$ smaller than $n$, something must get lost. Training looks for the pair that loses least:
#
# $$ \min_{E, D} \; \sum_i \lVert x_i - D E\, x_i \rVert^2 . $$ (eq-autoencoder)
#
# Here $E$ has $k$ rows and $D$ has $k$ columns: the simplest autoencoder, without any nonlinearity. What will it find? Principal component
# analysis answers the same question with linear algebra: among all spaces of $k$ dimensions, that of the first $k$ principal components lies
# nearest to the centred data. In 1989 Baldi and Hornik proved that the sum in {eq}`eq-autoencoder` has its lowest value exactly there, and that it has no
# other valley, only saddles {cite:p}`baldi1989neural`. So a descent should get there. Does it?
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box("C020", "C021", "C022", "C025", "C026", "C027")

# %% [markdown]
# ## A linear autoencoder finds the principal components
#
# The columns of $D$ and the principal components may be different arrows in the same space. To compare two *spaces*, we need
# their principal angles. Make the columns of both orthonormal, $Q_1$ and $Q_2$; then the singular values of
# $Q_1^\top Q_2$ are the cosines of the angles. All angles are zero where the spaces are the same.


# %%
def principal_angles(a, b):
    """Angles in radians, smallest first, between the spaces of the columns of a and b."""
    q1, q2 = (torch.linalg.qr(m.double())[0] for m in (a, b))
    return torch.linalg.svdvals(q1.T @ q2).clamp(max=1).arccos()


# %%
from scipy.linalg import subspace_angles

a, b = torch.randn(2, 30, 4, generator=generator)
theirs = subspace_angles(a.double().numpy(), b.double().numpy())[::-1]
assert np.allclose(principal_angles(a, b), theirs, atol=1e-6)
print("by hand = scipy:", principal_angles(a, b).numpy().round(3))

# %% [markdown]
# The images are those of BreastMNIST {cite:p}`yang2023medmnist,aldhabyani2020dataset`, 28 × 28 pixels, less their mean image. The code has 16 numbers. Neighbouring components hold almost the same variance here (the cell prints how nearly the next one is as large as the last that we keep), so the last bit of the way is
# very flat. A quasi-Newton method, which remembers its last steps (L-BFGS {cite:p}`nocedal1980updating`) gets there, in double precision and from small weights.

# %%
x = load("breastmnist").train.x.cpu().double()
x = (x - x.mean(0)) / x.std()
_, singular, rows = torch.linalg.svd(x.flatten(1), full_matrices=False)
components = rows[:16].T  # (784, 16)
print(f"variance of component 17 / component 16: {(singular[16] / singular[15]) ** 2:.3f}")
ROUNDS = profile(smoke=3, quick=60, full=120)

# %%
seed(0)
linear = LinearAutoencoder(code=16).double()
for p in linear.parameters():
    p.data *= 0.01
exactly = {"tolerance_grad": 0, "tolerance_change": 0}  # or it stops by itself
optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=4, line_search_fn="strong_wolfe", **exactly)


def backward():
    optimizer.zero_grad()
    error = F.mse_loss(linear(x), x)
    error.backward()
    return error


def to_each(columns):
    """Angle in radians between each component and the space of the decoder's columns."""
    q = torch.linalg.qr(columns)[0]
    return (components - q @ (q.T @ components)).norm(dim=0).clamp(max=1).arcsin().numpy()


# %%
def largest():
    return principal_angles(linear.decoder.weight.detach(), components)[-1].item()


angles, loss, first = [], [], largest()
for _ in range(ROUNDS):
    angles.append(to_each(linear.decoder.weight.detach()))
    loss.append(optimizer.step(backward).item())
angles.append(to_each(linear.decoder.weight.detach()))

# %%
best = (x.flatten(1) - x.flatten(1) @ components @ components.T).square().mean().item()
steps = 4 * np.arange(ROUNDS + 1)
figure, (left, right) = plots.panels(2)
for i in range(0, 16, 3):
    left.semilogy(steps, np.array(angles)[:, i], label=f"{i + 1}")
left.set(xlabel="step", ylabel="angle to the space in rad", ylim=(1e-6, 3))
left.legend(title="component", fontsize=7, title_fontsize=7)
right.semilogy(steps[:-1], np.array(loss) - best)
right.set(xlabel="step", ylabel="loss above that of PCA")

# %%
plots.show(
    figure,
    alt="Left: the angle of each component to the decoder's space against the step. They fall from near a right angle, the first components long before the last. Right: the loss falls to that of principal component analysis.",
    caption="Left: the angle between every third of the first 16 principal components and the space of the decoder's columns. Right: how far the loss is above the lowest possible.",
    name="fig-10-angles",
)  # fmt: skip

# %% tags=["hide-input"]
last = largest()
plots.say(
    f"The largest principal angle starts at {first:.2f} rad, a right angle being 1.57, and ends at **{last:.1e} rad**. The two spaces are "
    + ("the same for all purposes." if last < 1e-2 else "not yet the same: they need more steps.")
)

# %% [markdown]
# Why one after the other? Each component is a way down from a saddle, and the steeper, the more variance it holds. The strong ones are found
# first; between two of nearly equal variance the slope is slight, and there the training is slow.
#
# The columns themselves are not the components. Any invertible mixture of the code's numbers does as well, as long as the decoder undoes
# it. Only the space is determined.

# %%
columns = linear.decoder.weight.detach().T[:4].view(4, 28, 28)
parts = [*components.T[:4].reshape(4, 28, 28), *columns]
names = [f"component {i + 1}" for i in range(4)] + [f"column {i + 1}" for i in range(4)]

# %%
plots.show(
    plots.grid(parts, names, columns=4, size=1.5),
    alt="Four smooth patterns, the first principal components of ultrasound images, and four columns of the decoder, which look like mixtures of many patterns.",
    caption="Above: the first four principal components of BreastMNIST. Below: four columns of the trained decoder. The same space, other arrows.",
    name="fig-10-components",
)  # fmt: skip

# %% [markdown]
# One use of autoencoders is a short code for data {cite:p}`hinton2006reducing`. With nonlinear layers the images that the decoder can give may lie on a curved
# surface instead of a flat one.
#
# ## The source
#
# For images we take convolutions: down by pooling, through a bottleneck, up again. There is one way from input to output, and it leads through the
# bottleneck.

# %%
plots.show_source(Autoencoder)

# %% tags=["nbval-check-output"]
for name, build in {
    "linear, 16 numbers": LinearAutoencoder,
    "convolutional, 1 map out": partial(Autoencoder, 1, 1),
    "convolutional, 4 maps out": partial(Autoencoder, 1, 4),
}.items():
    print(f"{name:26} {cost.parameters_and_macs(build, (1, 28, 28))[0]:7,} parameters")

# %% [markdown]
# ## How we train
#
# One function trains all networks for hearts: the same number of steps and the same learning rate for all networks in a comparison. The last weights are
# kept, so nothing is chosen by looking at other patients.
#
# How good is a copy? The score is the peak signal-to-noise ratio, PSNR, in decibels (dB): $10 \log_{10}$ of the squared span from black to white over the mean squared error. 10 dB more is a tenth of that error.


# %%
def trained(build, data, s, *, steps=STEPS, lr=1e-2, **options):
    """The network `build()`, trained on `data.train` with seed `s`."""
    seed(s)
    model = build()
    data = replace(data, val=Split(data.val.x[:BATCH], data.val.y[:BATCH]))  # looked at, not used
    options |= {"batch_size": BATCH, "validations": 1, "keep": "last", "seed": s}
    fit(model, data, steps=steps, lr=lr, **options)
    return model


# %%
def error(out, levels):
    return F.mse_loss(out, picture(levels))


def psnr(out, levels):
    """Peak signal-to-noise ratio of each image, in dB; the peak is white less black."""
    return 10 * torch.log10(SPAN**2 / (out - picture(levels)).square().mean((1, 2, 3)))


REBUILD = {"loss": error, "score": lambda out, levels: psnr(out, levels).mean().item()}
owner = np.repeat(np.arange(len(test)), [2 * len(p.ed.image) for p in test])  # the patient of each test slice


def per_patient(values):
    """One number a test slice → one number a test patient."""
    return np.bincount(owner, np.asarray(values.cpu())) / np.bincount(owner)


# %% [markdown]
# ## Does it look like a U-Net?
#
# A U-Net (chapter 11) also goes down and up, but at each level it hands the encoder's map to the decoder as well: a *skip*, a way past the middle. We train both to copy their input, and
# then set the output of their bottleneck to zero. A network that needs its bottleneck is lost without it. For the autoencoder the outcome is certain: behind a zero bottleneck every input gives the same picture. The question is the U-Net.
#
# Both have three levels and eight maps in the first, and no batch normalisation; the denoiser below has it.

# %%
COPIERS = {
    "autoencoder": partial(Autoencoder, 1, 1, width=8, depth=3),
    "U-Net": partial(UNet, 1, 1, width=8, depth=3, padded=True),
}
copiers = {name: [trained(b, pictures, s, **REBUILD) for s in range(SEEDS)] for name, b in COPIERS.items()}


# %%
def copies(model, silence=False):
    """What the network makes of the test slices, with its bottleneck set to zero on request."""
    hook = model.bottleneck.register_forward_hook(lambda _, __, out: 0 * out if silence else None)
    try:
        return predict(model, pictures.test.x).cpu()
    finally:
        hook.remove()


def copied(model, silence=False):
    return per_patient(psnr(copies(model, silence), pictures.test.y))


# %%
def interval(a, b=None):
    """Mean of (seeds, test patients), or of the lead over b, with a 95 % interval over both."""
    return stats.over_patients(a, b)


def dB(interval, sign=""):
    return f"{interval.mean:{sign}.1f} [{interval.low:{sign}.1f}, {interval.high:{sign}.1f}]"


# %%
whole = {name: np.stack([copied(m) for m in models]) for name, models in copiers.items()}
silent = {name: np.stack([copied(m, True) for m in models]) for name, models in copiers.items()}
lost = {name: whole[name] - silent[name] for name in COPIERS}
rows = []
for name, build in COPIERS.items():
    values = (dB(interval(v[name])) for v in (whole, silent, lost))
    rows.append((name, f"{cost.parameters(build()):,}", *values))
plots.table(rows, ["copying", "parameters", "PSNR in dB", "bottleneck at zero", "lost"])

# %%
k = int(np.flatnonzero(owner == 0)[len(test[0].ed.image) // 2])
shown = [
    pictures.test.x[k],
    *(copies(copiers[n][0], silence)[k] for n in COPIERS for silence in (False, True)),
]
titles = ["input", "autoencoder", "… at zero", "U-Net", "… at zero"]

# %%
plots.show(
    plots.grid(shown, titles, columns=5, size=1.45, limits=(LOW, HIGH)),
    alt="A heart slice; its blurred copy by the autoencoder; what the autoencoder gives without its bottleneck, an even grey, the same for every slice; the U-Net's sharp copy; and the U-Net's copy without its bottleneck.",
    caption="A test slice, copied by both networks, and what is left with the bottleneck set to zero (ACDC, CC BY-NC-SA 4.0).",
    name="fig-10-copies",
)  # fmt: skip

# %% tags=["hide-input"]
gap = interval(lost["U-Net"], lost["autoencoder"])
plots.say(
    f"Without its bottleneck the autoencoder loses **{dB(interval(lost['autoencoder']))} dB**, the U-Net **{dB(interval(lost['U-Net']))} dB**. "
    + ("Asked to copy, the U-Net needs no more than its ways round the bottleneck; asked to segment, it may."
       if gap.high < -3 else "Judge by the difference below how alike the two shapes are.")
)  # fmt: skip

# %% [markdown]
# ## Removing noise
#
# A *denoising* autoencoder {cite:p}`vincent2008extracting` sees a spoilt image and is asked for the clean one:
#
# $$ \min_{f, g} \; \mathrm{E}\, \lVert x - g(f(x + \sigma z)) \rVert^2 , $$ (eq-denoise)
#
# where $\mathrm{E}$ is now the mean over images and noise, $f$ is the encoder, $g$ the decoder, $z$ has independent Gaussian numbers, and $\sigma$ is the strength of the noise, here as a share of
# the way from black to white. The network is never told $\sigma$: in training each image gets its own, drawn between 0 and 0.4.
# What we call clean is what the scanner gave, which has noise of its own.


# %%
def spoil(x, levels, generator):
    sigma = 0.4 * SPAN * torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + (sigma * torch.randn(x.shape, generator=generator)).to(x.device), levels


shape = partial(Autoencoder, 1, width=16, depth=2, norm=True)
with_skips = partial(UNet, 1, 1, width=8, depth=2, padded=True, norm=True)
NOISE_STEPS = profile(smoke=2, quick=60, full=480)


def denoising(build):
    noise = {"steps": NOISE_STEPS, "augment": spoil}
    return [trained(build, pictures, s, **noise, **REBUILD) for s in range(SEEDS)]


denoisers, skipping = denoising(partial(shape, 1)), denoising(with_skips)

# %% [markdown]
# Beside it we train a small U-Net on the same task. Against both stand four filters that learn nothing: a Gaussian blur, a median, non-local means {cite:p}`buades2005nonlocal` and total
# variation {cite:p}`chambolle2004algorithm`, all from scikit-image {cite:p}`vanderwalt2014scikit`. Each has a setting, and each is told
# $\sigma$. For each $\sigma$ we choose the setting that is best on validation patients.

# %%
from skimage import filters, morphology, restoration

FILTERS = {
    "Gaussian": (lambda x, p, s: filters.gaussian(x, p), (0.4, 0.6, 0.8, 1, 1.3, 1.7, 2.2)),
    "median": (lambda x, p, s: filters.median(x, morphology.disk(p)), (1, 2, 3)),
    "non-local means": (
        lambda x, p, s: restoration.denoise_nl_means(x, 5, 7, h=p * s, sigma=s),
        (0.3, 0.5, 0.7, 0.9, 1.2),
    ),
    "total variation": (
        lambda x, p, s: restoration.denoise_tv_chambolle(x, p * s),
        (0.4, 0.6, 0.8, 1, 1.4, 2),
    ),
}
SIGMAS = (0.05, 0.1, 0.2, 0.4)


# %%
def noised(split, sigma):
    draws = torch.randn(split.x.shape, generator=torch.Generator().manual_seed(7))
    return split.x + sigma * SPAN * draws.to(split.x.device)


def filtered(name, p, x, sigma):
    f = FILTERS[name][0]
    return torch.stack([torch.from_numpy(f(image, p, sigma * SPAN)) for image in x[:, 0].cpu().numpy()])[
        :, None
    ]


# %%
some = Split(pictures.val.x[::10].cpu(), pictures.val.y[::10].cpu())
chosen, reached = {}, {}
for sigma in SIGMAS:
    for name, (_, settings) in FILTERS.items():
        scores = [psnr(filtered(name, p, noised(some, sigma), sigma), some.y).mean() for p in settings]
        chosen[name, sigma], reached[name, sigma] = settings[int(np.argmax(scores))], max(scores)
plots.table(
    [(name, *(chosen[name, sigma] for sigma in SIGMAS), f"{min(FILTERS[name][1])} to {max(FILTERS[name][1])}") for name in FILTERS],
    ["setting chosen", *(f"σ = {sigma}" for sigma in SIGMAS), "tried"],
)  # fmt: skip

# %%
clean = Split(pictures.test.x.cpu(), pictures.test.y.cpu())
gained = {}
for sigma in SIGMAS:
    x = noised(clean, sigma)
    outs = {"noisy": x} | {n: filtered(n, chosen[n, sigma], x, sigma) for n in FILTERS}
    for name, out in outs.items():  # no seed enters: the same row for each
        gained[name, sigma] = np.stack([per_patient(psnr(out, clean.y))] * SEEDS)
    for name, models in (("autoencoder", denoisers), ("U-Net", skipping)):
        made = [psnr(predict(m, x.to(pictures.test.x.device)).cpu(), clean.y) for m in models]
        gained[name, sigma] = np.stack([per_patient(row) for row in made])

# %%
rivals = ["noisy", *FILTERS, "autoencoder", "U-Net"]
rows = [(name, *(dB(interval(gained[name, sigma])) for sigma in SIGMAS)) for name in rivals]
strongest = {sigma: max(FILTERS, key=lambda name: reached[name, sigma]) for sigma in SIGMAS}
against = [interval(gained["autoencoder", s], gained[strongest[s], s]) for s in SIGMAS]
rows.append(("autoencoder less the filter that validated best", *(dB(lead, "+") for lead in against)))
skips = [interval(gained["U-Net", s], gained[strongest[s], s]) for s in SIGMAS]
rows.append(("U-Net less that filter", *(dB(lead, "+") for lead in skips)))
plots.table(rows, ["PSNR in dB", *(f"σ = {sigma}" for sigma in SIGMAS)])

# %%
sigma = 0.2
x = noised(clean, sigma)[k : k + 1]
shown = [clean.x[k], x[0], *(filtered(n, chosen[n, sigma], x, sigma)[0] for n in FILTERS)]
shown += [predict(m, x.to(pictures.test.x.device))[0] for m in (denoisers[0], skipping[0])]

# %%
plots.show(
    plots.grid(shown, ["clean", *rivals], columns=4, size=1.8, limits=(LOW, HIGH)),
    alt="A heart slice: clean, noisy, and after a Gaussian blur, a median, non-local means, total variation, the autoencoder and the U-Net.",
    caption="A test slice at σ = 0.2, and what each method makes of it; settings chosen on validation patients (ACDC, CC BY-NC-SA 4.0).",
    name="fig-10-denoised",
)  # fmt: skip

# %% tags=["hide-input"]
helps = [s for s in SIGMAS if interval(gained["autoencoder", s], gained["noisy", s]).low > 0]
ahead = [s for s, lead in zip(SIGMAS, against, strict=True) if lead.low > 0]
behind = [s for s, lead in zip(SIGMAS, against, strict=True) if lead.high < 0]
plots.say(
    f"The autoencoder gives a better image than the noisy one at σ = {', '.join(map(str, helps)) or 'none of these'}. "
    f"It is ahead of the filter that validated best at σ = {', '.join(map(str, ahead)) or 'none of these'}, and behind it at σ = "
    f"{', '.join(map(str, behind)) or 'none of these'}."
)

# %% [markdown]
# The autoencoder must draw every image anew from a coarse feature map, and that costs detail, noise or not. Where there is little noise, a filter with a small setting hardly touches the image, which is
# hard to beat. Our code is not short: 8,192 numbers for 4,096 pixels. It is coarse in position only. Whether learnt denoising loses to a filter is answered by the row of the U-Net, in which detail has a way past the
# bottleneck. Denoisers in use are built like that, or predict the noise and subtract it.
#
# ## The trick: masks as targets
#
# Now the same shape with four output maps, one for each of background, right ventricle (RV), myocardium and left ventricle (LV). Trained on masks,
# it is no autoencoder any more: nothing is “auto” about a target that someone drew. The loss is now the {term}`cross-entropy` of each pixel plus
# 1 − {term}`Dice`, with probabilities in place of a mask so that it has a gradient.
#
# Two baselines. The *best threshold* calls a pixel part of a structure where its grey value lies between two limits, found on the training patients
# by trying all pairs of percentiles; each structure is judged on its own, so no pixel has to choose. The *mean mask* looks at no image at all: at each pixel
# it gives the label that is most frequent there in training. (This threshold searches the whole picture; with a click and the piece at the click, as in chapter 08, thresholds do far better on the left ventricle.)


# %%
class Threshold(nn.Module):
    """Class `k` where the grey value lies between the two limits that give it the best Dice on `split`."""

    def __init__(self, split, k):
        super().__init__()
        x, inside = split.x[:, 0].cpu().numpy(), split.y.cpu().numpy() == k
        edges = np.quantile(x, np.linspace(0, 1, 101))
        every, hits = (np.r_[0, np.histogram(v, edges)[0].cumsum()] for v in (x, x[inside]))
        pairs = [np.subtract.outer(v, v).T for v in (hits, every)]  # pixels from limit i to limit j
        dice = 2 * pairs[0] / (pairs[1].clip(0) + inside.sum())
        limits = edges[list(np.unravel_index(dice.argmax(), dice.shape))]
        self.k, self.limits = k, nn.Parameter(torch.tensor(limits).float(), requires_grad=False)

    def forward(self, x):
        inside = (x >= self.limits[0]) & (x <= self.limits[1])
        return F.one_hot(self.k * inside[:, 0].long(), 4).movedim(-1, 1).float()


# %%
class MeanMask(nn.Module):
    """The most frequent label of each pixel in `split`, whatever the image."""

    def __init__(self, split):
        super().__init__()
        often = F.one_hot(split.y, 4).float().mean(0).movedim(-1, 0)
        self.often = nn.Parameter(often, requires_grad=False)

    def forward(self, x):
        return self.often.expand(len(x), -1, -1, -1)


# %%
def judged(model):
    """(test patients, 3): Dice of RV, myocardium and LV, mean of ED and ES."""
    return hearts.dice_of_patients(model, test, side=SIDE).mean(1)


SEGMENT = {"loss": losses.dice_ce, "score": losses.mean_dice, "augment": random_affine()}
tricked = [trained(partial(shape, 4), acdc, s, **SEGMENT) for s in range(SEEDS)]
alone = [judged(Threshold(acdc.train, k))[:, k - 1] for k in (1, 2, 3)]
found = {
    "best threshold": np.stack([np.stack(alone, 1)] * SEEDS),
    "mean mask": np.stack([judged(MeanMask(acdc.train))] * SEEDS),
    "autoencoder's shape, masks as targets": np.stack([judged(m) for m in tricked]),
}

# %%
heads = [*hearts.LABELS[1:], "mean", "lead over the threshold"]
rows = []
for name, dice in found.items():
    lead = "" if name == "best threshold" else interval(dice.mean(2), found["best threshold"].mean(2))
    rows.append(
        (name, *(f"{d:.3f}" for d in dice.mean((0, 1))), interval(dice.mean(2)), lead),
    )
plots.table(rows, ["Dice of test patients", *heads])

# %% [markdown]
# ## Can a denoiser learn to segment?
#
# The shape can. But what about a network that has already learnt to remove noise? It has seen all training slices, and no mask. Perhaps what
# it learnt helps where masks are few. We give 32 slices with masks to two networks: one starts from random weights, one from the denoiser's, with only
# its last layer new. A network that is to keep what it knows may want smaller steps, so each start chooses between two learning rates on validation patients.


# %%
def few(n, s):
    """`n` training slices that seed `s` draws."""
    keep = torch.randperm(len(acdc.train.x), generator=torch.Generator().manual_seed(s))[:n]
    return replace(acdc, train=acdc.train.take(keep))


def from_denoiser(s):
    model, weights = shape(4), denoisers[s].state_dict()
    model.load_state_dict({k: v for k, v in weights.items() if not k.startswith("head")}, strict=False)
    return model


# %%
starts = {
    "random weights": lambda s: partial(shape, 4),
    "the denoiser's": lambda s: partial(from_denoiser, s),
}


def warmed(name, s, lr):
    return trained(starts[name](s), few(32, s), s, lr=lr, **SEGMENT)


def validated(name, lr):
    return hearts.dice_of_patients(warmed(name, 0, lr), val, side=SIDE).mean()


# %%
rate = {name: max((1e-2, 1e-3), key=partial(validated, name)) for name in starts}
warm = {
    name: np.stack([judged(warmed(name, s, rate[name])).mean(1) for s in range(SEEDS)]) for name in starts
}
print("learning rates chosen:", rate)

# %% tags=["hide-input"]
lead = interval(warm["the denoiser's"], warm["random weights"])
plots.say(
    f"With 32 slices, Dice is {interval(warm['random weights'])} from random weights and {interval(warm['the denoiser' + chr(39) + 's'])} from the "
    f"denoiser's. The difference is **{lead}**: "
    + lead.says(
        "what the denoiser knew helps.",
        "what the denoiser knew is in the way.",
        "zero lies inside, so we cannot tell that what the denoiser knew is of use.",
    )
)

# %% [markdown]
# Where masks are few, practice starts from a network that was **pretrained** on something much larger than 1,000 slices: on ImageNet, or by letting it predict hidden parts of many unlabelled scans. A denoiser of one data set is a small relative of that idea.

# %% [markdown]
# ## From a classifier to a map: the FCN
#
# The other way to masks starts from a classifier. Its last maps, $C$ of them with $h \times w$ places, are laid out in one row, and each unit of the first dense
# layer takes a weighted sum:
#
# $$ y_k = b_k + \sum_{c=1}^{C} \sum_{i=1}^{h} \sum_{j=1}^{w} w_{kcij}\, x_{cij} . $$ (eq-dense)
#
# That is a convolution whose kernel happens to be as large as the map, so it fits at one place only. On a larger image the map is larger and the
# kernel fits at many places. The classifier then answers at each of them, and shares the work of the convolutions between all of them. This is
# the {term}`fully convolutional <fully convolutional>` network (FCN) of Long, Shelhamer and Darrell {cite:p}`long2015fcn`.
#
# By hand: the same weights, in another shape.


# %%
def as_convolution(linear, channels, side):
    """The dense layer on (channels, side, side) maps, as a convolution."""
    layer = nn.Conv2d(channels, linear.out_features, side)
    layer.weight.data = linear.weight.data.view(-1, channels, side, side)
    layer.bias.data = linear.bias.data
    return layer


# %%
dense, maps = nn.Linear(8 * 5 * 5, 3), torch.randn(2, 8, 5, 5)
torch.testing.assert_close(as_convolution(dense, 8, 5)(maps)[..., 0, 0], dense(maps.flatten(1)))
plots.show_source(convolutionise)


# %% [markdown]
# A real classifier, trained on BreastMNIST to tell malignant from other. We take its padding away, for a reason to be seen soon.


# %%
def unpadded():
    net = small_vgg(1, 2, convs=(1, 1), head=(5, 64), batch_norm=True, dropout=0.0)
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    return net


breast = load("breastmnist").standardise()
seed(0)
classifier = unpadded()
fit(classifier, breast, epochs=profile(smoke=1, full=20), batch_size=64, lr=3e-3)
dense = convolutionise(classifier)

# %% tags=["nbval-check-output"]
images = breast.test.x.double()  # some GPUs round single precision to ten bits in a convolution
logits, mapped = (predict(net.double(), images) for net in (classifier, dense))
difference = (mapped[..., 0, 0] - logits).abs().max().item()
assert mapped.shape[2:] == (1, 1) and difference < 1e-4
print(f"{len(logits)} test images of 28 × 28: one answer each, equal to the classifier's")

# %% [markdown]
# Now a larger image: four test images put together. Each entry of the answer must equal what the classifier says of the cut-out
# of 28 × 28 pixels behind it.

# %%
large = torch.cat([torch.cat([*images[:2]], 2), torch.cat([*images[2:4]], 2)], 1)[None]  # (1, 1, 56, 56)
answers = predict(dense, large)[
    0
]  # (2, 8, 8): a place every 4 pixels; it judges the cut-out that starts there
crops = large[0, 0].unfold(0, 28, 4).unfold(1, 28, 4)  # (8, 8, 28, 28)
torch.testing.assert_close(
    answers.flatten(1).T, predict(classifier, crops.reshape(-1, 1, 28, 28)), rtol=1e-4, atol=1e-4
)
print(f"a map of {tuple(answers.shape[1:])} answers, each equal to that on its own cut-out")

# %%
figure = plots.grid([large[0], answers.softmax(0)[0]], ["four images", "malignant?"], columns=2, size=2.6)
plots.show(
    figure,
    alt="A mosaic of four ultrasound images of the breast, and a coarse map of eight by eight places: the brighter, the more malignant the classifier thinks the cut-out that starts there.",
    caption="A classifier for 28 × 28 pixels on a mosaic of 56 × 56 (BreastMNIST, CC BY 4.0): 64 answers from one pass.",
    name="fig-10-map",
)  # fmt: skip

# %% tags=["hide-input"]
row, column = divmod(int(answers.softmax(0)[0].argmax()), 8)
plots.say(
    "The four corners of the map are the four images. Every other place judges a cut-out that lies across two or four of them, which no scanner makes. "
    + ("The brightest place is a corner." if {row, column} <= {0, 7} else "The brightest place is one of these: a seam, and no finding.")
)  # fmt: skip

# %% [markdown]
# With padding, the answers at 28 × 28 are still equal. On the mosaic they are not: a cut-out sees zeros beyond its border, the mosaic sees its neighbours.
#
# ## What does a skip add?
#
# The map is coarse: in VGG-16 {cite:p}`simonyan2014vgg` one answer for 32 × 32 pixels. The FCN enlarges it with a {term}`transposed convolution` (each number of the
# small map lays down a weighted stamp, and stamps that overlap add) that starts as bilinear interpolation. And it adds finer maps. This sum is its {term}`skip`. Let $s_{32}$ be the scores from the coarsest map,
# $s_{16}$ those of the map behind the last pooling but one, by a 1 × 1 convolution, and $s_8$ those of the map one pooling earlier; then
#
# $$ y_{16} = u(s_{32}) + s_{16} , \qquad y_8 = u(y_{16}) + s_8 , $$ (eq-skip)
#
# where $u$ doubles the size (in the paper the last enlargement stays bilinear; here it is learnt too). The three networks are called FCN-32s, FCN-16s and FCN-8s.

# %%
plots.show_source(FCN)

# %% tags=["nbval-check-output"]
for skips, published in ((0, 134_346_581), (1, 134_357_354), (2, 134_362_751)):
    with torch.device("meta"):
        net = FCN(3, 21, skips=skips)
    size, kernels = cost.parameters(net), cost.parameters(net.upsample)
    assert size - kernels == published
    print(f"FCN-{32 >> skips}s: {size - kernels:,} parameters, and {kernels:,} in the upsampling kernels")

# %% [markdown]
# Our twins leave out the last stage of VGG, since our images are small. Their parameters fall with each skip, since the last upsampling kernel gets smaller. They answer every 16, 8 and 4 pixels. Beside Dice we
# count wrong pixels near an outline, at most two pixels from it, and away from it.

# %%
NETWORKS = {
    "FCN, no skip (16 px)": partial(small_fcn, skips=0),
    "FCN, one skip (8 px)": partial(small_fcn, skips=1),
    "FCN, two skips (4 px)": partial(small_fcn, skips=2),
    "U-Net": partial(UNet, 1, 4, width=8, depth=3, padded=True, norm=True),
}
models = {name: [trained(b, acdc, s, **SEGMENT) for s in range(SEEDS)] for name, b in NETWORKS.items()}
full = {name: np.stack([judged(m).mean(1) for m in three]) for name, three in models.items()}

# %%
from scipy.ndimage import distance_transform_edt


def to_outline(mask):
    """Pixels from each pixel to the nearest one at an outline; infinite where the slice has none."""
    edge = np.any([surface(mask == k) for k in (1, 2, 3)], 0)
    return distance_transform_edt(~edge) if edge.any() else np.full(mask.shape, np.inf)


truth = acdc.test.y.cpu().numpy()
away = np.stack([to_outline(mask) for mask in truth])
NEAR = away <= 2


# %%
def mistakes(model):
    """(test slices, H, W): is the label wrong?"""
    return predict(model, acdc.test.x).argmax(1).cpu().numpy() != truth


def rate(wrong, where):
    """Per cent of wrong pixels of each test patient in the region `where`."""
    hits, size = (np.bincount(owner, v.sum((1, 2))) for v in (wrong & where, where))
    return 100 * hits / size


wrong = {name: [mistakes(m) for m in three] for name, three in models.items()}
near = {name: np.stack([rate(w, NEAR) for w in three]) for name, three in wrong.items()}
far = {name: np.stack([rate(w, ~NEAR) for w in three]) for name, three in wrong.items()}

# %%
rows, before = [], None
for name, build in NETWORKS.items():
    lead = "" if before is None else interval(full[name], full[before])
    size = cost.parameters_and_macs(build, (1, SIDE, SIDE))[0]
    rows.append(
        (name, f"{size:,}", interval(full[name]), lead, dB(interval(near[name])), dB(interval(far[name])))
    )
    before = name
plots.table(rows, ["", "parameters", "Dice", "more than the row above", "% wrong near an outline", "% wrong elsewhere"])  # fmt: skip

# %% tags=["hide-input"]
three = list(NETWORKS)[:3]
gains = [interval(full[b], full[a]) for a, b in pairwise(three)]
plots.say(
    f"The first skip brings **{gains[0]}** of Dice, the second **{gains[1]}**. Wrong pixels near an outline go from {near[three[0]].mean():.1f} to {near[three[2]].mean():.1f} %, "
    f"elsewhere from {far[three[0]].mean():.1f} to {far[three[2]].mean():.1f} %. All four networks do about as many multiply-adds; the U-Net has far fewer parameters, answers at every pixel and concatenates."
)  # fmt: skip

# %%
figure, axis = plots.panels(1, height=3.0)
bins = np.arange(0, 9)
for i, (name, three) in enumerate(wrong.items()):
    shares = [100 * np.mean(three, 0)[(away >= b) & (away < b + 1)].mean() for b in bins]
    axis.plot(bins, shares, "os^D"[i] + "-", label=name)
axis.legend(fontsize=8)
axis.set(xlabel="pixels from the nearest outline", ylabel="% of pixels wrong", ylim=(0, None))

# %%
plots.show(
    figure,
    alt="Share of wrong pixels against the distance from the expert's outline, one line a network. All are highest at the outline and fall within a few pixels; the network without skips falls last.",
    caption="Where the mistakes are: share of wrong pixels by distance from the expert's outline, mean over seeds.",
    name="fig-10-distance",
)  # fmt: skip

# %% [markdown]
# ## Look: the slices that go wrong
#
# First the slice from before, then the test patients with the lowest Dice of the FCN with two skips, each at mid-height of the heart.


# %%
def outlines(index):
    """The expert's outlines on a test slice, and those of each network's first seed."""
    x = acdc.test.x[index : index + 1]
    masks = [acdc.test.y[index], *(predict(three[0], x).argmax(1)[0] for three in models.values())]
    return [plots.outlined(x[0, 0], mask, zoom=3) for mask in masks]


names = ["expert", "no skip", "one skip", "two skips", "U-Net"]
plots.show(
    plots.grid(outlines(k), names, columns=5, size=1.45),
    alt="A heart slice with outlines by the expert and by four networks. They differ most at the thin right ventricle.",
    caption="The same test slice, outlined by the expert and by each network (ACDC, CC BY-NC-SA 4.0).",
    name="fig-10-outlines",
)  # fmt: skip

# %%
order = full["FCN, two skips (4 px)"].mean(0).argsort()[:2]
middle = [int(np.flatnonzero(owner == p)[len(test[p].ed.image) // 2]) for p in order]
plots.show(
    plots.grid(outlines(middle[0]) + outlines(middle[1]), names * 2, columns=5, size=1.45),
    alt="Two rows of a heart slice with outlines by the expert and by four networks: the patients on whom the FCN does worst.",
    caption="The two test patients with the lowest Dice of the FCN with two skips, mid-height, end-diastole (ACDC, CC BY-NC-SA 4.0).",
    name="fig-10-worst",
)  # fmt: skip

# %% [markdown]
# ## How many images does it take?
#
# The review says that thousands are required, and that the FCN works with very few. We draw 8 and 32 slices at random from the training patients, and train the FCN
# with two skips and the U-Net for as many steps as before (with 8 slices, a step sees 8). Seed $s$ draws the slices too.

# %%
PAIR = {"FCN": "FCN, two skips (4 px)", "U-Net": "U-Net"}
dice = {(name, "all"): full[label] for name, label in PAIR.items()}
for size, seeds in ((8, FEW_SEEDS), (32, SEEDS)):
    for name, label in PAIR.items():
        runs = [judged(trained(NETWORKS[label], few(size, s), s, **SEGMENT)) for s in range(seeds)]
        dice[name, size] = np.stack(runs).mean(2)

# %%
sizes = (8, 32, "all")
rows = [(name, *(interval(dice[name, size]) for size in sizes)) for name in PAIR]
heads = ["8 slices", "32 slices", f"all {len(acdc.train.x)} slices"]
plots.table([*rows], ["Dice of test patients", *heads])

# %% tags=["hide-input"]
drops = {name: dice[name, "all"] - dice[name, 8][:SEEDS] for name in PAIR}
extra = interval(drops["U-Net"], drops["FCN"])
plots.say(
    f"From all {len(acdc.train.x)} slices to 8, "
    + " and ".join(f"the {name} loses {drop.mean():.3f} of Dice" for name, drop in drops.items())
    + f". The U-Net's loss minus the FCN's is {extra}"
    + (": no difference can be shown." if extra.low <= 0 <= extra.high else ".")
)

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
where = f"ACDC at {SIDE} px, {SEEDS} seeds, {len(test)} patients"
for name in PAIR:
    less = interval(dice[name, 32], dice[name, "all"])
    claims.observe("C020", less, where=f"{name}, {where}")

# %% tags=["hide-input"]
ahead = interval(dice["FCN", 8], dice["U-Net", 8])
claims.observe("C021", ahead, where=f"ACDC at {SIDE} px, 8 slices, {FEW_SEEDS} seeds, {len(test)} patients")
claims.observe("C022", difference, n=len(logits), where="small VGG on BreastMNIST, 28 × 28, all test images")

# %% tags=["hide-input"]
claims.untestable("C025")
claims.observe("C026", 1.0, n=1, where="the survey [7] has a section on denoising autoencoders")

# %% tags=["hide-input"]
ahead = interval(found["autoencoder's shape, masks as targets"].mean(2), found["best threshold"].mean(2))
claims.observe("C027", ahead, where=where)

# %% [markdown]
# C021 compares two networks that start from random weights. The FCN of the paper starts from a classifier that has seen 1.2 million photographs, so a verdict here says how its *shape* does with 8 images, and nothing about fine-tuning. C027 is a low bar, since its rival looks at grey values
# alone. C022 holds as a piece of algebra; that the results were great is in the paper's own tables, on photographs. C020 speaks of thousands of images;
# what can be tested here is how much a network loses with 32.
#
# ## At full size
#
# FCN-8s on VGG-16 takes the steps of the small twins. On the meta device one training step costs nothing, and shows that every
# weight takes part.

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    net = FCN(1, 4)
    losses.dice_ce(net(torch.empty(2, 1, 224, 224)), torch.zeros(2, 224, 224, dtype=torch.long)).backward()
assert all(p.grad is not None for p in net.parameters())
size, work = cost.parameters_and_macs(partial(FCN, 1, 4), (1, 224, 224))
print(f"FCN-8s, 1 channel, 4 classes: {size:,} parameters, {work / 1e9:.1f} G multiply-adds at 224 × 224")

# %% [markdown]
# ## What it costs

# %% tags=["timing"]
shown = {"autoencoder, 1 map": partial(shape, 1), "autoencoder, 4 maps": partial(shape, 4)} | NETWORKS
times = cost.time_in_turn({name: cost.forward(b(), (8, 1, SIDE, SIDE)) for name, b in shown.items()})
for name, build in shown.items():
    size, work = cost.parameters_and_macs(build, (1, SIDE, SIDE))
    print(
        f"{name:21} {size:8,} parameters {work / 1e6:6.1f} M multiply-adds {np.median(times[name]) / 8:5.2f} ms a slice"
    )

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A denoiser may remove the disease.** It gives back what is usual. Something small and rare looks like noise to it. A PSNR over the whole image
#   does not see the loss.
# - **Noise that we add is not noise that a scanner makes.** Magnitude images of MRI have Rician noise (chapter 01), and noise of neighbouring pixels
#   depends on each other. A gain on simulated noise has to be shown again on real noise.
# - **Slices are not patients.** Eight slices may come from one heart or from eight. All intervals here are over patients.
# - **Coarse outlines are not random errors.** They may be wrong in one direction. If the myocardium comes out too thin or too thick, every
#   mass computed from it shifts; measure it.
#
# ## Summary
#
# - A linear autoencoder finds the space of the first principal components, but not the components.
# - The bottleneck makes the autoencoder. A network with skips that is asked to copy can go round it, and you can test that by setting it
#   to zero.
# - Target and loss decide whether a shape copies, denoises or segments.
# - A dense layer is a convolution with a kernel as large as the map. So a classifier is a coarse segmenter.
# - The FCN's skips add scores from finer maps. Look near the outlines to see what they bring.
#
# ## Check yourself
#
# **1.** The columns of a trained linear decoder span the same space as the principal components, and yet they
# look different. Why?
#
# - **A** Training has not gone on for long enough.
# - **B** The components are sorted by variance, the columns by their size.
# - **C** The images were centred before training.
# - **D** Any mixture of the code's numbers does as well, if the decoder undoes it.
#
# <details><summary>Answer</summary>
#
# **D.** For any invertible matrix $M$ the pair $D M^{-1}$, $M E$ gives the same output, so the loss cannot
# tell them apart. More steps (A) bring the *space* closer, not the columns.
#
# </details>
#
# **2.** A network copies its input perfectly, with its bottleneck set to zero. What can you say?
#
# - **A** Its bottleneck holds a very short code.
# - **B** It was trained for too long.
# - **C** What it needs flows past the bottleneck.
# - **D** It would copy noise less well than images.
#
# <details><summary>Answer</summary>
#
# **C.** With skips there is a way round, and the middle carries nothing. A takes a bottleneck that is there
# for one that is used.
#
# </details>
#
# **3.** A denoised image has a PSNR 20 dB higher than the noisy one. By which factor did the typical error of
# a pixel (the root of the mean square) fall?
#
# - **A** 2
# - **B** 10
# - **C** 20
# - **D** 100
#
# <details><summary>Answer</summary>
#
# **B.** 20 dB is a factor of $10^{2}$ in the mean *squared* error, so of 10 in its root. D forgets the root.
#
# </details>
#
# **4.** A classifier for 28 × 28 pixels, without padding, has two 2 × 2 poolings. It becomes fully
# convolutional. How far apart are the cut-outs that it answers for?
#
# - **A** 1 pixel
# - **B** 2 pixels
# - **C** 4 pixels
# - **D** 28 pixels
#
# <details><summary>Answer</summary>
#
# **C.** Each pooling doubles the step. D would be cut-outs side by side; these overlap, and share the work.
#
# </details>
#
# **5.** A dense layer takes 512 maps of 7 × 7 and gives 10 numbers. Which convolution does the same?
#
# - **A** ten kernels of 7 × 7 on 512 maps
# - **B** ten kernels of 1 × 1 on 512 maps
# - **C** 512 kernels of 7 × 7 on 10 maps
# - **D** ten kernels of 3 × 3 on 512 maps, three times
#
# <details><summary>Answer</summary>
#
# **A.** Each unit has a weight for each of the $512 · 7 · 7$ numbers: a kernel as large as the map. B is
# right only where the maps have one place.
#
# </details>
#
# **6.** An FCN without skips is wrong mostly near the outlines. Which change helps there, and why?
#
# - **A** a wider last layer, since it knows too few classes
# - **B** a larger batch, since borders are rare
# - **C** more pooling, since it has to see more of the image
# - **D** scores from an earlier map, which still knows where a border runs
#
# <details><summary>Answer</summary>
#
# **D.** Pooling took the exact place away; the earlier map has it. C would bring more context and less place.
#
# </details>
#
# **7.** A denoiser is trained on healthy hearts, and has the best PSNR of all methods. A scar of a few pixels
# is gone in its output. Why did the PSNR not warn?
#
# - **A** It averages over all pixels, and the scar is a few of them.
# - **B** The scar was removed by the noise, before the denoiser.
# - **C** PSNR is measured in decibels, which compress large errors.
# - **D** PSNR compares the output with the noisy image.
#
# <details><summary>Answer</summary>
#
# **A.** A handful of wrong pixels among thousands hardly moves a mean, and the rest of the image gained.
# Measure the contrast of the finding itself.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: a code of one number
# :label: ex-10-one
# A linear autoencoder with `code=1` is trained on centred images. What does its decoder's column look like?
# ```
#
# ```{solution} ex-10-one
# :class: dropdown
# It is the first principal component, up to a factor: a space of one dimension has one direction.
# ```
#
# ```{exercise} ★ Predict: how many answers?
# :label: ex-10-answers
# The classifier of question 4 above gets an image of 100 × 100 pixels. How many answers does it give? How
# many times as much work would its first layers do if each cut-out were computed by itself?
# ```
#
# ```{solution} ex-10-answers
# :class: dropdown
# $(100 - 28) / 4 + 1 = 19$ along each side: 361 answers. By themselves, 361 cut-outs of 28 × 28 hold $361 ·
# 784 / 10{,}000 \approx 28$ times the pixels of the image, so the convolutions near the input would be
# computed nearly 28 times over.
# ```
#
# ```{exercise} ★★ Implement: alternate
# :label: ex-10-alternate
# For a fixed encoder $E$ the best decoder is a least-squares fit, and the other way round. Alternate the two with `torch.linalg.lstsq`. How many rounds
# until the largest angle is below 0.01?
# ```
#
# ```{solution} ex-10-alternate
# :class: dropdown
# With the images as rows of `X`: `D = torch.linalg.lstsq(X @ E.T, X).solution.T`, then `E = torch.linalg.pinv(D)`. Each round multiplies the error by
# the ratio of the variances of components 17 and 16, so some dozens of rounds are enough.
# ```
#
# ```{exercise} ★★ Implement: the bilinear start
# :label: ex-10-bilinear
# Write the kernel with which a transposed convolution enlarges an image twice, as bilinear interpolation
# does. Check it away from the border.
# ```
#
# ````{solution} ex-10-bilinear
# :class: dropdown
# ```python
# def bilinear(factor):
#     side = 2 * factor - factor % 2
#     ramp = 1 - (torch.arange(side) - (side - 1) / 2).abs() / factor
#     return ramp[:, None] * ramp
#
#
# x = torch.randn(1, 1, 8, 8)
# mine = F.conv_transpose2d(x, bilinear(2)[None, None], stride=2, padding=1)
# theirs = F.interpolate(x, scale_factor=2, mode="bilinear")
# torch.testing.assert_close(mine[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1])
# ```
#
# Each small number lays down a stamp of 4 × 4, and stamps overlap by half, so that their weights add up to 1
# everywhere inside.
# ````
#
# ```{exercise} ★★★ Investigate: how narrow?
# :label: ex-10-narrow
# Train denoisers with `code` of 2, 8, 32 and 128 maps. At which σ does a narrow code help, and where does it hurt? State your guess first.
# ```
#
# ```{solution} ex-10-narrow
# :class: dropdown
# Change `shape` and run the section again with three seeds. Report paired differences with intervals, per σ. A narrow code costs detail at every σ; whether
# it pays depends on how much noise it keeps out.
# ```
#
# ```{exercise} ★★★ Investigate: does it remove the disease?
# :label: ex-10-lesion
# Paint a bright spot of 3 × 3 pixels into the muscle of each test slice, add noise, and denoise. How much of
# the spot's contrast is left, for the autoencoder and for each filter? Compare with the PSNR.
# ```
#
# ````{solution} ex-10-lesion
# :class: dropdown
# Denoise the same noise with and without the spot. Their difference shows what became of it:
#
# ```python
# def kept(denoise, sigma, spot=0.3 * SPAN):
#     with_it, clean_ = clean.x.clone(), clean.x
#     with_it[:, :, 30:33, 30:33] += spot  # better: at a pixel of the muscle, from hearts.test.y
#     noise = noised(clean, sigma) - clean.x
#     change = denoise(with_it + noise) - denoise(clean_ + noise)
#     return (change[:, :, 30:33, 30:33].mean() / spot).item()
#
#
# kept(lambda x: predict(denoisers[0], x.to(pictures.test.x.device)).cpu(), 0.2)
# kept(lambda x: filtered("median", chosen["median", 0.2], x, 0.2), 0.2)
# ```
#
# Expect every method to lose contrast, the more the stronger the noise, and a spot of 1 pixel to vanish
# nearly everywhere. Vary its size and strength. The pitfall: a spot in an unusual place may survive better
# than one that looks like a vessel, so place it where a lesion would be.
# ````

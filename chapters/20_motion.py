# %% [markdown]
# # Motion
#
# *How does the heart move?*
#
# A {term}`mask` says where the muscle is. It does not say where it came from. A scar that no longer pulls, a wall that thickens too little, a twist that is lost: these are seen
# in the *motion*. {term}`Cine <cine>` MRI shows the whole beat, three dimensions and time, hence 4D. (What follows is less: motion within slices, learnt from two moments of the beat. The whole beat comes at the end.) **Can a network learn from images alone, without a single drawn outline, where each piece of the
# heart goes during a beat, and how would we know that it is right?**
#
# After this chapter you can read a field of motion, carry a mask along it, run it backwards, take strain off it, and name what no comparison of images can see.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import time

import numpy as np
import torch
from matplotlib import colormaps
from torch.nn import functional as F

from medlib import claims, fit, hearts, plots, profile, seed, stats
from medlib.fetch import Unreachable
from medlib.hearts import motion, pairs
from medlib.hearts.phantom import phantom
from medlib.models.voxelmorph import Unsupervised, VoxelMorph, loss, refine
from medlib.scrubber import scrubber
from medlib.train import predict

# %%
SEEDS = profile(smoke=2, quick=2, full=3)
STEPS = profile(smoke=6, quick=100, full=800)
HEARTS = profile(smoke=2, quick=3, full=10)  # phantoms that are tested on
patients = profile(smoke=hearts.load()[:10], full=hearts.load())
train, watched, test = hearts.split(patients)

# %% [markdown]
# ## The problem: two moments of one heart
#
# ACDC {cite:p}`bernard2018acdc` holds the whole cine of each patient, 12 to 35 moments, and outlines at two of them: end-diastole (ED), when the heart is full, and end-systole (ES), when it has contracted. We use these two, since outlines are what we can check against. Suppose that we know the outlines at ED. If nothing moved,
# the same outlines would fit at ES. They do not.

# %%
which = next((i for i, p in enumerate(test) if p.group == "NOR"), 0)  # a healthy heart of the test patients
one = test[which]
middle = len(one.ed.mask) // 2
box = tuple(slice(max(0, int(c - 48)), int(c + 48)) for c in hearts.centre(one))
ed, es = one.ed.image[middle][box], one.es.image[middle][box]
drawn = one.ed.mask[middle][box], one.es.mask[middle][box]

# %% tags=["hide-input"]
black = tuple(np.quantile(one.ed.image, (0.01, 0.995)))
pictures = [plots.outlined(i, m, limits=black) for i, m in ((ed, drawn[0]), (es, drawn[1]), (es, drawn[0]))]
plots.show(
    plots.grid(pictures, ["ED, its outlines", "ES, its outlines", "ES, outlines of ED"], columns=3, size=2.3),
    alt="A short-axis slice at end-diastole and at end-systole with the expert's outlines, and the end-systolic image with the outlines of end-diastole, which are too wide for it.",
    caption="One slice of a test patient. Right: what happens when motion is ignored (ACDC, CC BY-NC-SA 4.0).",
    name="fig-20-problem",
)

# %% [markdown]
# One warning before we start. Slices are 5 to 10 mm apart, and at ES the base of the heart has come down by about that much: what a slice shows at ES is partly *other tissue* than at ED. We estimate motion
# within the slice, as most methods for such stacks do, and cannot see the rest.
#
# ## The idea: an arrow for every pixel
#
# Give each pixel $x$ of the later image an arrow $u(x)$ to the place where that tissue was before. To find these arrows is {term}`registration`:
#
# $$ \text{later}(x) \approx \text{earlier}\big(x + u(x)\big) . $$ (eq-20-warp)
#
# The arrows point *back in time*. That is handy: to fill a pixel of the new picture we look up one place in the old one, and no pixel stays empty. Reading between pixels is bilinear. On the {term}`phantom` of this book the arrows are known exactly.

# %%
PHASES = (*np.linspace(0, 0.35, 6).round(3), *np.linspace(0.35, 1, 9)[1:].round(3))
ES = 5  # PHASES[5] is end-systole
MM = pairs.MM  # one pixel of our squares, in mm
phantoms = phantom(HEARTS, seed=2020, phases=PHASES, shape=(8, 96, 96), spacing=(10, MM, MM), motion=True)
beats = [hearts.standardise_scan(x) for x in phantoms.image]  # each (phases, D, 96, 96)
truth = phantoms.motion.transpose(2, 3) / MM  # (hearts, phases, D, 2, 96, 96), in pixels


# %%
def arrows(axis, u, every=4, colour="#F0E442"):
    """Draw a field (2, H, W), from where the tissue was to where it is."""
    row, column = np.mgrid[: u.shape[1] : every, : u.shape[2] : every]
    back = u[:, row, column]
    axis.quiver(
        column + back[1], row + back[0], -back[1], -back[0],
        color=colour, angles="xy", scale_units="xy", scale=1, width=0.005,
    )  # fmt: skip


# %% tags=["hide-input"]
figure, (left, right) = plots.panels(2, height=3.5)
left.imshow(beats[0][0, 3])
right.imshow(beats[0][ES, 3])
arrows(right, truth[0, ES, 3].numpy())
for axis, title in ((left, "phantom, ED"), (right, "phantom, ES, and the true motion from ED")):
    axis.set(xlim=(28, 84), ylim=(74, 22), title=title)
    axis.axis("off")
plots.show(
    figure,
    alt="A phantom slice at end-diastole and end-systole. Arrows on the second one run inwards from all sides of the left ventricle and turn a little.",
    caption="The motion that we look for, on a phantom where it is known. An arrow runs from where the tissue was to where it is.",
    name="fig-20-arrows",
)

# %% [markdown]
# The grey values alone do not fix the arrows: inside even muscle, every pixel fits every other. Something must be added, and the oldest choice is smoothness, that neighbours move alike. So we look for the $u$ with the smallest
#
# $$ \underbrace{\lVert \text{later}(x) - \text{earlier}(x + u(x)) \rVert^2}_{\text{dissimilarity}} \;+\; \lambda\, \underbrace{\lVert \nabla u \rVert^2}_{\text{regularisation}} . $$ (eq-20-loss)
#
# The first term is the **dissimilarity** of the two images (with its sign turned, their *similarity*); the second, the **regularisation**, is large where the field is rough. Here $\nabla u$ says how the arrow changes from one pixel to the next, and $\lambda$ how much that counts.
#
# *Demons* {cite:p}`thirion1998image` push each pixel along the slope of the image and blur the field, again and again. *TV-L1* {cite:p}`zach2007duality` takes absolute values instead of squares. Both search anew for every pair of
# images. *VoxelMorph* {cite:p}`balakrishnan2019voxelmorph` turns that around: a U-Net looks at the pair and answers at once, and {eq}`eq-20-loss` is its *training loss*. No outline, no known arrow, no label: the
# training is unsupervised.
#
# ### Not folding
#
# Tissue does not pass through itself. Where the field does, the determinant of the derivative of $x + u(x)$, its *Jacobian*, is negative: the map has folded. (Where nothing folds, the Jacobian is the area before over the area now.) A way to avoid it is to think of a **stationary velocity field** $v$, a steady current that carries every
# particle along for one unit of time. Streams that flow do not cross. Where a particle ends is called the *exponential* of $v$:
#
# $$ u = \exp(v), \qquad \exp(v) = \exp(v/2) \circ \exp(v/2) . $$ (eq-20-exp)
#
# The sign $\circ$ chains two fields: go along the first arrow, then along the arrow that is found where it ends, $v(x) + u\big(x + v(x)\big)$. The rule on the right makes it cheap {cite:p}`arsigny2006logeuclidean`. Divide $v$ by $2^7 = 128$: over so short a time the particle moves along $v$ itself. Then chain the field with itself, seven times: *scaling and squaring*. To run
# the motion backwards, use $-v$. Such a map is smooth both ways, a *diffeomorphism* {cite:p}`dalca2019unsupervised`.
#
# ## The claim that we test

# %% tags=["hide-input"]
claims.box("C001")

# %% [markdown]
# ## By hand: reading, chaining, flowing
#
# Three short functions hold the whole idea.


# %%
def read(image, u):
    """image (H, W) at the places x + u(x), bilinear: a weighted mean of four pixels, the edge repeated."""
    place = np.indices(image.shape) + u
    place = [np.clip(p, 0, n - 1) for p, n in zip(place, image.shape, strict=True)]
    low = [np.minimum(p.astype(int), n - 2) for p, n in zip(place, image.shape, strict=True)]
    (r, c), (a, b) = low, (p - q for p, q in zip(place, low, strict=True))
    above = (1 - b) * image[r, c] + b * image[r, c + 1]
    below = (1 - b) * image[r + 1, c] + b * image[r + 1, c + 1]
    return (1 - a) * above + a * below


# %%
def chain(u, v):
    """First through v, then through u."""
    return v + np.stack([read(part, v) for part in u])


def flow(v, steps=7):
    u = v / 2**steps
    for _ in range(steps):
        u = chain(u, u)
    return u


# %%
generator = torch.Generator().manual_seed(0)
v = F.interpolate(6 * torch.randn(1, 2, 8, 8, generator=generator), 96, mode="bicubic").double()
picture = beats[0][0, 3][None, None].double()
by_hand = read(picture[0, 0].numpy(), flow(v[0].numpy()))
assert np.allclose(by_hand, motion.warp(picture, motion.exponential(v))[0, 0], atol=1e-8)

# %% tags=["hide-input"]
home = motion.compose(motion.exponential(v), motion.exponential(-v))[..., 12:-12, 12:-12]
share = [100 * motion.folded(f).double().mean() for f in (v, motion.exponential(v))]
plots.say(
    f"Both agree. This random current is wild: taken as a field, it folds in {share[0]:.1f} % of the pixels; its exponential folds in {share[1]:.1f} %. There and back again, "
    f"a pixel ends {home.norm(dim=1).mean():.3f} pixels from where it began on average, after a way of {motion.exponential(v).norm(dim=1).mean():.1f}."
)

# %% [markdown]
# The functions of `medlib`, for tensors with a gradient. `folded` is stricter than usual: it looks at the four little triangles around each pixel, because the customary central difference does not see a field that alternates from one pixel to the next.

# %%
plots.show_source(motion.warp, motion.compose, motion.exponential, motion.jacobian, motion.strain)

# %% [markdown]
# ## The network
#
# Ours is VoxelMorph's idea on our U-Net: slices in place of volumes, batch normalisation and ReLU where the paper has leaky ReLU and no normalisation, and half the resolution inside.

# %%
plots.show_source(VoxelMorph)

# %% [markdown]
# Its last layer starts at zero, so at first nothing moves. It gives the field at half the resolution: motion is smooth, and that is cheaper. `Unsupervised` shows the loss what it needs: the field, the earlier image warped by it, and the later image.

# %%
plots.show_source(Unsupervised, loss)

# %% [markdown]
# ## Training, with no outline in sight
#
# `pairs.pair` cuts the square around each heart, found by what moves, and puts ED and ES side by side. Each training pair is used in both directions. **No mask is read**, of training patients as little as of test patients. The similarity (mean
# square), $\lambda$, the learning rate and the number of steps were chosen by the Dice of the validation patients; so were the settings of Demons and TV-L1. So no weight has seen an outline, but a few settings have.

# %%
SMOOTH, RATE = 0.3, 3e-3
judged = loss(SMOOTH, likeness="mse")
both_ways = pairs.dataset(
    [pairs.pair(p) for p in train], [pairs.pair(p) for p in watched], name=train.name, source=train.source
)


# %%
def learn(both_ways, s, *, steps=STEPS, diffeomorphic=True, smooth=SMOOTH, cycle=0.0):
    """A network of seed `s`, trained on pairs without labels."""
    seed(s)
    net = VoxelMorph(diffeomorphic=diffeomorphic)
    value = loss(smooth, cycle=cycle, likeness="mse")
    fit(
        Unsupervised(net, cycle=cycle > 0), both_ways, steps=steps, lr=RATE, batch_size=16, seed=s,
        loss=value, score=lambda out, y: -value(out, y).item(), validations=1, keep="last",
    )  # fmt: skip
    return net


# %%
started = time.process_time()
plain = [learn(both_ways, s, diffeomorphic=False) for s in range(SEEDS)]
flowing = [learn(both_ways, s) for s in range(SEEDS)]
spent = (time.process_time() - started) / (2 * SEEDS)


# %%
def answer(net):
    return lambda x: predict(net, x).cpu()


METHODS = {  # each a list of functions: pairs (D, 2, H, W) → fields (D, 2, H, W), one function a seed
    "no motion": [torch.zeros_like],
    "affine": [lambda x: motion.affine(x[:, :1], x[:, 1:])],
    "TV-L1": [lambda x: motion.tvl1(x[:, :1], x[:, 1:], attachment=5)],
    "demons": [lambda x: motion.demons(x[:, :1], x[:, 1:], sigma=1.0)],
    "network, plain": [answer(net) for net in plain],
    "network, diffeomorphic": [answer(net) for net in flowing],
}
METHODS["diffeomorphic + 40 steps"] = [lambda x, n=net: refine(n, x, judged).cpu() for net in flowing]

# %% [markdown]
# The last row lets the network's answer be the start of a short search: 40 steps of Adam on the current of the tested pair itself, with the same loss. That needs no label either, so it may be done on a new patient. The VoxelMorph paper calls it instance-specific optimisation.
# The row *affine* is the simplest motion of all: shift, turn, stretch and shear, six numbers a slice.
#
# ## Does the outline arrive? ACDC, patients not trained on
#
# Carry the ED mask along the field, and compare it with the expert's ES mask: {term}`Dice` over the volume, on the scanner's own pixels. **The Dice without motion stands beside it.** A warped Dice by itself says little: a heart that hardly moves has a high one for free.
# (Patients 074 and 076 of ACDC are one scan under two names. `hearts.split` keeps them in one part, so that heart may count twice in the intervals. They have one image and two drawings.) The last column counts folds in the whole square, most of which is not heart. Forty free steps can make a current too steep for the grid; then its exponential folds after all.

# %%
moments = [pairs.pair(p) for p in test]
fields, dice, folds, seconds = {}, {}, {}, {}
for name, several in METHODS.items():
    started = time.process_time()
    fields[name] = [[f(x) for x in moments] for f in several]
    seconds[name] = (time.process_time() - started) / len(moments) / len(several)
    dice[name] = np.array(
        [[pairs.carried_dice(u, p) for u, p in zip(us, test, strict=True)] for us in fields[name]]
    )
    folds[name] = np.array([[motion.folded(u).float().mean() for u in us] for us in fields[name]])


# %%
def gain(name, over="no motion"):
    """Mean Dice of three structures above another method's, over seeds and patients."""
    a, b = (dice[n].mean(2) for n in (name, over))
    return stats.over_patients(a, b)


# %% tags=["hide-input"]
rows = []
for name in METHODS:
    each = [f"{d:.3f}" for d in dice[name].mean((0, 1))]
    more = "" if name == "no motion" else str(gain(name))
    rows.append([name, *each, f"{dice[name].mean():.3f}", more, f"{100 * folds[name].mean():.2f}"])
plots.table(
    rows,
    ["method", "RV", "myocardium", "LV", "mean", "above no motion [95 % interval]", "folded, % of pixels"],
)

# %% tags=["hide-input"]
best = gain("network, diffeomorphic")
beside = gain("network, diffeomorphic", "demons")
versus = gain("diffeomorphic + 40 steps", "demons")


def lead(i):
    word = i.says("ahead", "behind", "level, as far as these patients tell")
    return f"{word} ({i.mean:+.3f} [{i.low:+.3f}, {i.high:+.3f}])"


plots.say(
    f"On {len(test)} patients that it was not trained on, the diffeomorphic network lifts the mean Dice by **{best}** over no motion, and folds in **{100 * folds['network, diffeomorphic'].mean():.2f} %** of the pixels. "
    f"The goal set before was 0.12 and 0.5 %: {'met' if best.low > 0.12 and folds['network, diffeomorphic'].mean() < 0.005 else 'not met'}. "
    f"Demons search anew for each pair. Against them the network is {lead(beside)}, and with 40 further steps {lead(versus)}."
)

# %% tags=["hide-input"]
lift = dice["network, diffeomorphic"].mean((0, 1)) - dice["no motion"].mean((0, 1))
order = [("right ventricle", "myocardium", "left ventricle")[k] for k in lift.argsort()]
plots.say(
    f"The {order[0]} gains least ({lift.min():.3f}), the {order[2]} most ({lift.max():.3f})."
    + (
        " The right ventricle is the hard one for methods that stay in the plane: it shortens mostly along the heart's axis, through the slices, and at the base other tissue comes into view."
        if order[0] == "right ventricle"
        else ""
    )
)

# %% [markdown]
# ### The worst patients first

# %%
# Two names of ACDC, 074 and 076, are one scan: where both are tested, it counts twice.
mean = dice["network, diffeomorphic"].mean((0, 2))
worst = mean.argsort()[:5]


def carried(i):
    """(D, H, W): the ED mask of test patient i at ES, by the first network."""
    u = pairs.on_scanner(fields["network, diffeomorphic"][0][i], test[i])
    return pairs.carry(torch.from_numpy(test[i].ed.mask), u).numpy()


# %% tags=["hide-input"]
top, bottom, titles = [], [], []
for i in worst:
    p, mask = test[i], carried(i)
    z = (mask != p.es.mask).sum((1, 2)).argmax()
    square = hearts.window(p, 72, 72 * hearts.PIXEL)
    image = square.cut(torch.from_numpy(p.es.image[z])[None, None])[0, 0]
    for row, m in ((top, p.es.mask), (bottom, mask)):
        row.append(plots.outlined(image, square.cut(torch.from_numpy(m[z])[None], mode="nearest")[0]))
    titles.append(f"{p.name[-3:]}, slice {z + 1}/{len(mask)}")
plots.show(
    plots.grid(top + bottom, titles + [f"{mean[i]:.2f}" for i in worst], columns=5, size=1.4),
    alt="End-systolic slices of five patients in two rows, with the expert's outlines above and the outlines carried from end-diastole below. The worst slices lie mostly at the ends of the stack, where structures appear or vanish.",
    caption="The five worst test patients at ES, each at the slice with most wrong pixels: the expert above; the ED outlines carried by the network below, with the patient's mean Dice (ACDC, CC BY-NC-SA 4.0).",
    name="fig-20-worst",
)  # fmt: skip

# %% tags=["hide-input"]
slices, pixels = np.zeros(2), np.zeros(2)  # (of those in question, of all)
for i, p in enumerate(test):
    mask = carried(i)
    for m, a, b in zip(mask, p.ed.mask, p.es.mask, strict=True):
        once = [k for k in (1, 2, 3) if (a == k).any() != (b == k).any()]
        wrong = m != b
        slices += bool(once), 1
        pixels += (wrong & (np.isin(m, once) | np.isin(b, once))).sum(), wrong.sum()
few, much = slices[0] / slices[1], pixels[0] / pixels[1]
plots.say(
    f"In {100 * few:.0f} % of the test slices a structure is drawn at one moment and not at the other. The pixels of these structures are {100 * much:.0f} % of all wrong ones: "
    "no motion within the slice knows that something has come into it or left it."
)

# %% [markdown]
# ### What the fields look like


# %%
def net_of_lines(axis, u, every=4):
    """A square grid at ED, carried to ES: the lines where x + u(x) is a multiple of `every`."""
    for place in (motion.pixels(u[None]) + u).numpy():
        axis.contour(place, np.arange(0, u.shape[1], every), colors="#F0E442", linewidths=0.5)


# %% tags=["hide-input"]
shown = ("TV-L1", "demons", "network, plain", "network, diffeomorphic")
z, shades = len(moments[which]) // 2, colormaps["RdBu"].with_extremes(bad="0.6")
figure, axes = plots.panels(4, 2, height=1.85)
for (above, below), name in zip(axes.T, shown, strict=True):
    u = fields[name][0][which][z]
    above.imshow(moments[which][z, 1])
    net_of_lines(above, u)
    heat = below.imshow(motion.jacobian(u[None])[0].log2(), cmap=shades, vmin=-1.5, vmax=1.5)
    below.contour(motion.folded(u[None])[0].float(), [0.5], colors="k", linewidths=0.8)
    above.set_title(name, fontsize=8)
    for axis in (above, below):
        axis.set(xlim=(18, 78), ylim=(78, 18))
        axis.axis("off")
figure.colorbar(heat, ax=axes[1], label="log₂ of area at ED / at ES", shrink=0.8, ticks=(-1, 0, 1))
plots.show(
    figure,
    alt="Above, an end-systolic slice with a grid that was square at end-diastole, for four methods; the lines draw together in the cavity of the left ventricle. Below, maps of the change of area: blue, that is shrunk, in the cavity, and a red ring, that is grown, around it.",
    caption="One test patient, middle slice. Above: a grid that was square at ED. Below: the Jacobian; blue has shrunk since ED, red has grown, grey and black lines are what folded (ACDC, CC BY-NC-SA 4.0).",
    name="fig-20-grids",
)

# %% tags=["hide-input"]
grown = (test[which].es.mask[z] == 2).sum() / (test[which].ed.mask[z] == 2).sum()
plots.say(
    f"By the expert's outlines the muscle of this slice has {grown:.2f} times the area at ES that it had at ED."
)

# %% [markdown]
# Look for two things: blue in the cavity, which empties, and a red ring around it. Muscle is nearly incompressible. It shortens along the heart's axis and around it, and so it must thicken: within the slice its area grows. But where the ring is much redder than the expert's outlines allow, a method
# has stretched a thin rim of muscle over what the image shows as new wall. That is a likeness, and not a motion.
#
# ### The price of smoothness
#
# How does $\lambda$ trade overlap against folds, in both forms? Short trainings, judged on the *validation* patients, one seed.

# %%
SWEEP, watched_pairs = (0.03, 0.3, 3.0), [pairs.pair(p) for p in watched]
sweep = {}
for diffeomorphic in (False, True):
    for smooth in SWEEP:
        net = learn(both_ways, 0, steps=STEPS // 4, diffeomorphic=diffeomorphic, smooth=smooth)
        us = [predict(net, x).cpu() for x in watched_pairs]
        carry = np.mean([pairs.carried_dice(u, p) for u, p in zip(us, watched, strict=True)])
        sweep[diffeomorphic, smooth] = carry, 100 * np.mean([motion.folded(u).float().mean() for u in us])

# %% tags=["hide-input"]
figure, (left, right) = plots.panels(2, height=2.5)
for flag, name in ((False, "plain"), (True, "diffeomorphic")):
    values = np.array([sweep[flag, s] for s in SWEEP])
    left.semilogx(SWEEP, values[:, 0], "os"[flag] + "-", label=name)
    right.semilogx(SWEEP, values[:, 1], "os"[flag] + "-", label=name)
left.set(xlabel="λ, weight of smoothness", ylabel="Dice of the carried mask")
right.set(xlabel="λ, weight of smoothness", ylabel="folded, % of pixels")
left.legend(fontsize=8)
plots.show(
    figure,
    alt="Dice and share of folded pixels against the weight of smoothness, for the plain and the diffeomorphic network. The plain network's folds rise as the weight falls; the diffeomorphic one's stay near zero.",
    caption="Smoothness against folds, validation patients, a quarter of the training steps.",
    name="fig-20-smoothness",
)


# %%
def asked_twice(nets):
    """mm that a pixel is off after the field from ED to ES and the one from ES to ED, mean over the squares."""
    both = [
        [torch.cat([answer(n)(x) for x in xs]) for xs in (moments, [x.flip(1) for x in moments])]
        for n in nets
    ]
    return MM * np.mean([motion.compose(*pair).norm(dim=1).mean() for pair in both])


# %% tags=["hide-input"]
loosest = SWEEP[0]
there = []
for net in flowing:
    with torch.no_grad():
        v = net.eval().current(torch.cat(moments).to(next(net.parameters()).device))
        there.append(
            [
                motion.compose(net.field(v), net.field(v, -1)).norm(dim=1).mean().item(),
                net.field(v).norm(dim=1).mean().item(),
            ]
        )
plots.say(
    f"At λ = {loosest} the plain network folds in {sweep[False, loosest][1]:.2f} % of the pixels, the diffeomorphic one in {sweep[True, loosest][1]:.2f} %."
)
plots.say(
    f"There and back, with the networks of the table above (test patients, nominal mm, means over the square; the way there is {np.mean(there, 0)[1] * MM:.2f} mm): exp(v) and then exp(−v) leave {np.mean(there, 0)[0] * MM:.3f} mm, "
    f"which is arithmetic. Asked twice, ED to ES and ES to ED, the diffeomorphic network leaves {asked_twice(flowing):.3f} mm and the plain one {asked_twice(plain):.3f} mm."
)

# %% [markdown]
# ### Every moment in between
#
# A current has a gift: stop it early. $\exp(t\,v)$ for $t$ from 0 to 1 gives every moment between the two that were scanned. It is a plausible film and not a measurement: the true beat need not run along one steady current.

# %%
current = flowing[0].eval().current(moments[which].to(next(flowing[0].parameters()).device)).detach()
cut = hearts.window(test[which], 96, pairs.FIELD)
label_ed, label_es = (
    cut.cut(torch.from_numpy(v.mask), mode="nearest") for v in (test[which].ed, test[which].es)
)
times = np.r_[np.linspace(0, 1, 9), np.linspace(1, 0, 9)[1:-1]]


def still(t):
    """(144, 288, 3): the ED slice after time t, with the outlines carried along; beside it ES as it is."""
    u = flowing[0].field(current, t).cpu()
    seen = motion.warp(moments[which][:, :1], u)[z, 0], pairs.carry(label_ed, u)[z]
    true = moments[which][z, 1], label_es[z]
    return np.concatenate(
        [plots.outlined(i[12:84, 12:84], m[12:84, 12:84], zoom=3, limits=(-2, 3)) for i, m in (seen, true)], 1
    )


# %% tags=["hide-input"]
scrubber(
    np.stack([still(float(t)) for t in times]),
    sliders=("moment",),
    alt="Left, a short-axis slice that contracts and fills again, its outlines moving along. Right, the true end-systolic slice with the expert's outlines, which the left one comes near at its smallest.",
    caption="Left: ED carried by exp(t v), t from 0 to 1 and back. Right: the true ES with the expert's outlines (ACDC, CC BY-NC-SA 4.0).",
)

# %% [markdown]
# ## Is it the right motion? The phantom, where the field is known
#
# A carried outline that fits says that the *outline* arrived. Whether each piece of muscle went to its own place, it does not say. On the phantom we can ask. We take the networks trained on ACDC as they are, and add two that were
# trained on phantoms of other seeds (with half the steps). The second has one more term in its loss, *cycle consistency*: chain the field from one moment to the other with the field back, and ask for no motion.
#
# The phantom is kind: no tissue crosses a slice, so errors here are a best case. The *end-point error* is the distance between where the estimated arrow ends and where the true one does. **Strain** is how much longer a short line of muscle has become, as a
# share of its length at ED. Clinicians read three: along the radius (positive, the wall thickens), around the circumference (negative) and along the heart's axis, which short-axis slices do not show.

# %%
LESSONS = profile(smoke=2, full=15)
taught = pairs.phantom_pairs(LESSONS, seed=1, phases=(0.0, 0.1, 0.2, 0.35, 0.6, 0.8), depth=6)
lessons = pairs.dataset(taught, pairs.phantom_pairs(1, seed=2, depth=6), name="phantom", source="simulated")
native = [learn(lessons, s, steps=STEPS // 2) for s in range(SEEDS)]
cycled = [learn(lessons, s, steps=STEPS // 2, cycle=0.5) for s in range(SEEDS)]
TESTED = METHODS | {
    "trained on phantoms": [answer(net) for net in native],
    "on phantoms, with a cycle": [answer(net) for net in cycled],
}


# %%
def frames(k, a, b):
    """Phantom k at phases a and b as pairs (D, 2, 96, 96)."""
    return torch.stack((beats[k][a], beats[k][b]), 1)


def muscle(k, t):
    return phantoms.mask[k, t] == 2


def axis_of(k, t):
    """(D, 2): the middle of the LV's cavity in each slice, or of the square where there is none."""
    grid = motion.pixels(truth[k, t])
    inside = (phantoms.mask[k, t] == 3).float()[:, None]
    area = inside.sum((2, 3))
    return torch.where(area > 0, (inside * grid).sum((2, 3)) / area.clamp(min=1), torch.full_like(area, 47.5))


# %%
def errors(u, k, t):
    """In the muscle: end-point error and its parts along the radius and around (mm); strain along and around; EF; and
    the strain along the radius averaged pixel by pixel."""
    here, off = muscle(k, t), (u - truth[k, t]) * MM
    ways = motion.polar(u, axis_of(k, t))
    parts = [(off * d).sum(1)[here].abs().mean() for d in ways]
    each = [motion.strain(u, d)[here] for d in ways]
    whole = [1 / (1 / (1 + e)).mean() - 1 for e in each]  # all lengths now over all lengths at ED
    lv = [(m == 3).sum() for m in (phantoms.mask[k, 0], pairs.carry(phantoms.mask[k, 0], u))]
    return [
        float(v) for v in (off.norm(dim=1)[here].mean(), *parts, *whole, 1 - lv[1] / lv[0], each[0].mean())
    ]


# %%
found, known = {}, np.array([errors(truth[k, ES], k, ES) for k in range(HEARTS)])
systole = {n: [[f(frames(k, 0, ES)) for k in range(HEARTS)] for f in fs] for n, fs in TESTED.items()}
for name, several in systole.items():
    found[name] = np.array(
        [[errors(u, k, ES) for k, u in enumerate(us)] for us in several]
    )  # (seeds, hearts, 7)


# %%
def short(i, digits=2):
    return f"{i.mean:.{digits}f} [{i.low:.{digits}f}, {i.high:.{digits}f}]"


# %% tags=["hide-input"]
rows = []
for name, f in found.items():
    off = [stats.over_patients(abs(100 * (f[..., j] - known[:, j]))) for j in (4, 3, 5)]
    rows.append(
        [
            name,
            short(stats.over_patients(f[..., 0])),
            *(f"{f[..., j].mean():.2f}" for j in (1, 2)),
            *(short(o, 1) for o in off),
        ]
    )
plots.table(
    rows,
    [
        "method",
        "end-point error, mm",
        "along the radius",
        "around",
        "error of circumferential strain, points",
        "of radial strain",
        "of LV ejection fraction",
    ],
)

# %% tags=["hide-input"]
moved = [float((truth[k, ES].norm(dim=1) * MM)[muscle(k, ES)].mean()) for k in range(HEARTS)]
plots.say(
    f"{HEARTS} phantoms, muscle at ES against ED, exact field known; the muscle moves by {np.mean(moved):.1f} mm on average, its true strain is {100 * known[:, 4].mean():.0f} % around and {100 * known[:, 3].mean():.0f} % along the radius. "
    "Errors of strain and ejection fraction are absolute, in percentage points. The row *no motion* says how large each error is if nothing is done."
)

# %% tags=["hide-input"]
dice["trained on phantoms"] = np.array(
    [[pairs.carried_dice(answer(net)(x), p) for x, p in zip(moments, test, strict=True)] for net in native]
)
back, to_own = gain("trained on phantoms"), gain("trained on phantoms", "network, diffeomorphic")
plots.say(
    f"And the reverse: the network that has seen only phantoms, on ACDC's test patients, lifts the mean Dice by {back} over no motion; beside the network trained on ACDC that is {to_own.mean:+.3f} [{to_own.low:+.3f}, {to_own.high:+.3f}]."
)

# %% [markdown]
# Hold this table against the one of ACDC: is the order of the methods the same? A fitting outline and a right motion are two questions.
#
# For strain, the table takes the wall as a whole: all lengths now over all lengths at ED. It matters, and it can turn the order round.

# %% tags=["hide-input"]
MEASURED = [n for n in found if n not in ("no motion", "affine")]
by_pixel = {n: stats.over_patients(abs(100 * (f[..., 6] - known[:, 6]))).mean for n, f in found.items()}
by_wall = {n: stats.over_patients(abs(100 * (f[..., 3] - known[:, 3]))).mean for n, f in found.items()}
plots.say(
    f"A first version of this page averaged the strain pixel by pixel. Where a field comes close to folding, a line's length at ED comes close to zero, and its strain explodes. The error of radial strain of the plain network "
    f"is then {by_pixel['network, plain']:.1f} points rather than {by_wall['network, plain']:.1f}, that of the diffeomorphic one {by_pixel['network, diffeomorphic']:.1f} rather than {by_wall['network, diffeomorphic']:.1f}, that of Demons {by_pixel['demons']:.1f} rather than {by_wall['demons']:.1f}. Pixel by pixel *{min(MEASURED, key=by_pixel.get)}* has the smallest error, wall by wall *{min(MEASURED, key=by_wall.get)}*."
)

# %% [markdown]
# ### What no image can tell
#
# Compare the two columns *along the radius* and *around* with the row *no motion*. How much of each error is left?

# %% tags=["hide-input"]
names = list(found)[1:]
left_over = {
    n: [stats.over_patients(found[n][..., j] / found["no motion"][..., j]) for j in (1, 2)] for n in names
}
figure, axis = plots.panels(1, height=1.2 + 0.36 * len(names))
for j, (label, marker) in enumerate((("along the radius", "o"), ("around (twist)", "s"))):
    for i, n in enumerate(names):
        v = left_over[n][j]
        axis.plot([v.low, v.high], [i + 0.25 * j] * 2, color=f"C{j}", linewidth=2)
        axis.plot(v.mean, i + 0.25 * j, marker, color=f"C{j}", label=label if i == 0 else None)
axis.axvline(1, color="0.5", linestyle=":", label="nothing recovered")
axis.set(
    yticks=np.arange(len(names)) + 0.12,
    yticklabels=names,
    ylim=(len(names) - 0.4, -0.6),
    xlabel="error left, as a share of that of no motion",
)
axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
plots.show(
    figure,
    alt="For each method the share of the motion error that is left, along the radius and around the axis. The share around is larger than along the radius for every method.",
    caption="How much of the motion is missed, along the radius and around the axis of the left ventricle (phantom, muscle at ES; bars: 95 % intervals).",
    name="fig-20-twist",
)

# %% tags=["hide-input"]
beyond = [n for n in names if left_over[n][1].low > 1]
less = [n for n in names if left_over[n][1].high < 1]
plots.say(
    f"Around the axis, closer to the truth than no arrows at all, with the whole interval below 1: {len(less)} of {len(names)} methods ({'; '.join(less) or 'none'}). *Further* from it: {len(beyond)} ({'; '.join(beyond) or 'none'}). "
    f"Along the radius the share that is left lies between {min(left_over[n][0].mean for n in MEASURED):.2f} and {max(left_over[n][0].mean for n in MEASURED):.2f} (affine: {left_over['affine'][0].mean:.2f})."
)

# %% [markdown]
# Ask the loss itself. Take the *true* field, and take the twist out of it: every arrow in the heart keeps its part along the radius and loses its part around. How much worse does the image become? And how much worse if we leave out as many millimetres along the radius instead?


# %%
def without(k, way, share=1.0):
    """The true field of phantom k at ES without `share` of its part along the radius (way 0) or around (1), in the heart."""
    u = truth[k, ES]
    d = motion.polar(u, axis_of(k, ES))[way]
    return u - share * d * (u * d).sum(1, keepdim=True) * (phantoms.mask[k, ES] > 0)[:, None]


def unlike(u, k):
    x = frames(k, 0, ES)
    gap = (motion.warp(x[:, :1], u) - x[:, 1:])[:, 0].square()
    return float(gap[phantoms.mask[k, ES] > 0].mean())


# %% tags=["hide-input"]
radial, turn = found["no motion"][0, :, 1], found["no motion"][0, :, 2]  # mm in the muscle, a phantom
seen = np.array(
    [
        [
            unlike(u, k)
            for u in (
                torch.zeros_like(truth[k, ES]),
                truth[k, ES],
                without(k, 1),
                without(k, 0, turn[k] / radial[k]),
            )
        ]
        for k in range(HEARTS)
    ]
)
twist, inwards = (
    stats.over_patients(((seen[:, j] - seen[:, 1]) / (seen[:, 0] - seen[:, 1]))[None]) for j in (2, 3)
)
plots.say(
    f"Unlikeness in the heart (mean square): no motion {seen[:, 0].mean():.3f}, the true field {seen[:, 1].mean():.3f}. Leaving out the whole twist, "
    f"{turn.mean():.2f} mm in the muscle, costs {100 * twist.mean:.1f} % [{100 * twist.low:.1f}, {100 * twist.high:.1f}] of what leaving out all motion costs. Leaving out as many mm along the radius costs "
    f"{100 * inwards.mean:.1f} % [{100 * inwards.low:.1f}, {100 * inwards.high:.1f}], {inwards.mean / twist.mean:.1f} times as much. "
    "That is what the loss can pull with, and smoothness pulls against it."
)

# %% [markdown]
# Even muscle turned around its axis looks as before. This *aperture problem* is not a fault of networks; the classical methods share it, each in its own degree. What little can be seen of the turning sits in the papillary muscles and in the grain of the tissue, and smoothness may well blur that away. Magnetic *tagging* prints lines on the muscle and so makes twist visible; that is why strain from cine MRI is
# trusted more around the circumference of the whole wall than layer by layer, and why torsion from cine should be read with care. The clinic's word for strain from ordinary cine is **feature tracking**. The number that it uses most is global *longitudinal* strain, from long-axis images that we do not have; segmental values and radial strain are its least reproducible, and programs of different vendors disagree on
# them. A small error of radial strain on the phantom promises nothing there: its wall thickens by about half as much as a usual human one, because nothing shortens along its axis.
#
# ## Through the whole beat
#
# Now all phases: each method registers ED to every phase.

# %%
FEW = min(HEARTS, 5)
CURVES = ("demons", "network, diffeomorphic", "trained on phantoms")
ways = {"truth": [lambda k, t: truth[k, t]]}
for name in CURVES:
    ways[name] = [lambda k, t, f=f: f(frames(k, 0, t)) for f in TESTED[name][:1]]
beat = {}  # (hearts, phases, 2): strain along the radius and around
for name, (way,) in ways.items():
    curves = [[errors(way(k, t), k, t)[3:5] for t in range(len(PHASES))] for k in range(FEW)]
    beat[name] = np.array(curves)

# %% tags=["hide-input"]
figure, (left, right) = plots.panels(2, height=2.7)
for name, curve in beat.items():
    style = {"color": "k", "linewidth": 2.5} if name == "truth" else {"linestyle": "--"}
    for axis, j in ((left, 1), (right, 0)):
        axis.plot(PHASES, 100 * curve[..., j].mean(0), label=name, **style)
left.set(xlabel="phase of the beat (0 ED, 0.35 ES)", ylabel="circumferential strain, %")
right.set(xlabel="phase of the beat (0 ED, 0.35 ES)", ylabel="radial strain, %")
figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=7)
plots.show(
    figure,
    alt="Mean circumferential and radial strain of the wall over the beat: the true curves and three estimates, which follow the shape.",
    caption=f"Strain of the wall over the beat, mean of {FEW} phantoms, first seed of each network.",
    name="fig-20-strain",
)

# %% [markdown]
# A beat in motion: the outlines of ED carried by the network trained on phantoms, and the wall coloured by its circumferential strain. Use the slider or the button.


# %%
def coloured(k, t, u, z=3):
    """(216, 216, 3): phase t of phantom k; ED's outlines carried by u, the wall coloured by circumferential strain."""
    mask = pairs.carry(phantoms.mask[k, 0], u)[z]
    _, around = motion.polar(u, axis_of(k, t))
    colour = colormaps["RdBu_r"](((motion.strain(u, around)[z] + 0.4) / 0.8).clamp(0, 1).numpy())[..., :3]
    at = (slice(18, 78), slice(22, 82))
    picture = plots.outlined(beats[k][t, z][at], mask[at], zoom=4, limits=(-2, 3)).astype(float)
    wall = (mask == 2)[at].numpy().repeat(4, 0).repeat(4, 1)[..., None]
    tint = 255 * colour[at].repeat(4, 0).repeat(4, 1)
    return np.where(wall, 0.45 * picture + 0.55 * tint, picture).astype(np.uint8)


# %% tags=["hide-input"]
healthy, sick = (next((k for k in range(HEARTS) if phantoms.group[k] == g), 0) for g in (0, 3))
film = []
for t in range(len(PHASES)):
    row = [coloured(k, t, TESTED["trained on phantoms"][0](frames(k, 0, t))) for k in (healthy, sick)]
    film.append(np.concatenate(row, 1))
scrubber(
    np.stack(film),
    sliders=("phase",),
    alt="Two beating phantom hearts side by side with outlines that follow the walls. The wall turns blue, that is shortens, strongly in the healthy one and weakly in the other.",
    caption="Phantoms over a beat, healthy and after an infarct. Outlines of ED carried by the estimated motion; blue: shorter around than at ED, red: longer, up to 40 %.",
)

# %% [markdown]
# ### Around the cycle, back to the start
#
# After a whole beat each piece of muscle is back where it was. So chain the motion from phase to phase: what is left at the end is *drift*.

# %%
SLOW = profile(smoke=("TV-L1", "demons"), quick=("TV-L1", "demons"), full=())
ROUND = [n for n in TESTED if n not in ("affine", "diffeomorphic + 40 steps", *SLOW)]


# %%
def lap(f, k):
    """Chain phase to phase: mm of error in the muscle at ES, and mm of drift at the end of the beat."""
    total = torch.zeros_like(truth[k, 0])
    for t in range(1, len(PHASES)):
        total = motion.compose(total, f(frames(k, t - 1, t)))
        if t == ES:
            at_es = errors(total, k, ES)[0]
    return at_es, float((total.norm(dim=1) * MM)[muscle(k, len(PHASES) - 1)].mean())


laps = {n: np.array([[lap(f, k) for k in range(FEW)] for f in TESTED[n]]) for n in ROUND}

# %% tags=["hide-input"]
rows = []
for n, v in laps.items():
    mean_of = [stats.over_patients(v[..., j]) for j in (0, 1)]
    rows.append([n, f"{found[n][:, :FEW, 0].mean():.2f}", *map(short, mean_of)])
plots.table(
    rows, ["method", "error at ES, directly, mm", "error at ES, chained, mm", "drift after the beat, mm"]
)

# %% tags=["hide-input"]
without, with_cycle = (laps[n] for n in ("trained on phantoms", "on phantoms, with a cycle"))
change, worse = (stats.over_patients(with_cycle[..., j], without[..., j]) for j in (1, 0))
plots.say(
    f"{FEW} phantoms, {len(PHASES) - 1} steps a beat. With the cycle in the loss the drift changes by {change.mean:+.2f} mm [{change.low:+.2f}, {change.high:+.2f}], the error at ES of the chained motion by {worse.mean:+.2f} mm [{worse.low:+.2f}, {worse.high:+.2f}]. "
    "A method that sees some motion between two like images adds it up over the beat, and its drift can exceed the motion itself. Look at the first row: *no motion* has no drift at all, and is wrong everywhere. Coming home proves nothing about the journey; drift can refute a method, never confirm it."
)

# %% [markdown]
# ## A real beat with landmarks
#
# The motion challenge of the Cardiac Atlas Project {cite:p}`tobongomez2013benchmarking` has cine scans of volunteers and landmarks that two observers followed. One volunteer's scan is at hand: 30 phases, 14 slices, 1.25 × 1.25 × 8 mm; twelve
# landmarks on the wall of the left ventricle in 23 phases. Its licence is not known to us, so this page shows numbers and no picture.
#
# Two things had to be settled first. The landmarks' axes do not follow the image's header: we looked at all twelve on the images, and with the signs of $x$ and $y$ turned each lies on the wall of the left ventricle, four around it at three levels. And it is not written
# which of the 30 phases is the landmarks' first. The landmarks come from another, tagged scan, so the cell matches two curves in which no compared method has a part: how far the observers' points have gone, and how much the image differs from its first phase.

# %%
try:
    volunteer = hearts.load_cmac()
except Unreachable:
    volunteer = None
    plots.say("*The folder `cmac` is not here (see data/README.md); what follows on it is left out.*")


# %%
def first_phase(movie, going, most=4):
    """How many phases the landmarks begin after the film: where the two curves correlate best."""
    unlike_first = (movie - movie[:1]).abs().mean((1, 2, 3, 4)).numpy()
    fits = [np.corrcoef(unlike_first[s : s + len(going)], going)[0, 1] for s in range(most)]
    return int(np.argmax(fits)), max(fits)


# %%
if volunteer:
    movie, square = hearts.beat(volunteer, len(volunteer.image) // 3)
    points = volunteer.landmarks * volunteer.spacing  # mm
    going = np.linalg.norm((points - points[:, :1])[..., 1:], axis=-1).mean((0, 2))
    start, fit_of_curves = first_phase(movie, going)
    plots.say(f"The curves fit best (correlation {fit_of_curves:.2f}) where the landmarks' first phase is the film's phase {start + 1}. We assume equal steps of time in both.")  # fmt: skip


# %%
def look_up(u, places):
    """Field (D, 2, H, W) at places (P, 3): slice, row, column, between voxels too → (P, 2)."""
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(u[:, c].numpy(), places.T, order=1, mode="nearest") for c in (0, 1)], 1)


def follow(f):
    """(2, phases, P, 2): in-plane mm, both observers' first points followed by f, each phase straight from the first."""
    at = volunteer.landmarks[:, 0].copy()
    at[..., 1:] = (at[..., 1:] - square.centre) / square.step + (square.side - 1) / 2
    tracks = [points[:, 0, :, 1:]]
    for t in range(1, points.shape[1]):
        # The arrow from the first phase to where the tissue is now: the first phase plays the later image.
        u = f(torch.cat((movie[start + t], movie[start]), 1))
        tracks.append(tracks[0] + MM * np.stack([look_up(u, places) for places in at]))
    return np.stack(tracks, 1)


# %%
FOLLOWED = [n for n in METHODS if n in ROUND]
tracked = {}  # (seeds × observers, phases, landmarks)
if volunteer:
    for name in FOLLOWED:
        far = [np.linalg.norm(follow(f) - points[..., 1:], axis=-1) for f in METHODS[name]]
        tracked[name] = np.concatenate(far)
    tracked["the two observers apart"] = np.linalg.norm((points[0] - points[1])[..., 1:], axis=-1)[None]

# %% tags=["hide-input"]
if volunteer:
    peak = int(going.argmax())
    rows = []
    for name, far in tracked.items():
        each = far[:, peak].mean(0)
        rows.append(
            [
                name,
                f"{np.median(far[:, 1:]):.2f}",
                f"{np.median(far[:, peak]):.2f}",
                short(stats.interval(each)),
                f"{far[:, -1].mean():.2f}",
            ]
        )
    plots.table(rows, ["method", "median over all phases, mm", f"median at phase {peak + 1}, the widest", "mean there [95 % over 12 landmarks]", "mean at the last phase"])  # fmt: skip

# %% tags=["hide-input"]
if volunteer:
    figure, axis = plots.panels(1, height=2.9)
    for i, (name, far) in enumerate(tracked.items()):
        style = {"color": "k", "linestyle": ":"} if name.startswith("the two") else {"color": f"C{i}"}
        axis.plot(np.arange(1, far.shape[1] + 1), np.median(far, (0, 2)), label=name, **style)
    axis.set(xlabel="phase of the landmarks", ylabel="median error in the plane, mm")
    axis.legend(fontsize=7, ncols=2)
    plots.show(
        figure,
        alt="Median landmark error over 23 phases. Without motion it rises to a peak in mid-systole to end-systole and falls; the estimated motions stay lower; the distance of the two observers is mostly the lowest.",
        caption="Landmarks followed from the first phase, median of twelve points, both observers and all seeds; the dotted line is the distance between the observers. One volunteer.",
        name="fig-20-landmarks",
    )

# %% tags=["hide-input"]
if volunteer:
    through = np.abs((points - points[:, :1])[..., 0])
    ranked = sorted(FOLLOWED, key=lambda n: np.median(tracked[n][:, peak]))
    plots.say(
        f"At the widest phase the smallest median error is that of *{ranked[0]}*, {np.median(tracked[ranked[0]][:, peak]):.1f} mm; without motion it is {np.median(tracked['no motion'][:, peak]):.1f} mm, and the observers lie {np.median(tracked['the two observers apart'][:, peak]):.1f} mm apart. "
        "Twelve points of one heart do not settle the order of the methods. "
        f"At the same time the points moved by {np.median(through[:, peak]):.1f} mm *through* the plane (median), which no method on this page sees: after that, the slice shows other tissue than the point belongs to. "
        "This is one heart; the interval in the table is over its landmarks and not over people."
    )

# %% [markdown]
# The networks had seen only ED and ES of ACDC; the scanner, the pixel size and the phases in between were new to them. And the landmarks turn with the muscle: what the phantom says about twist is a reason to expect an error that no likeness of images removes.
#
# ## The verdict
#
# The abstract of the review says that the study *concentrates on* three fields. We take the mildest reading of "come back to": sections I to V name the field at least once in their running text, in whatever words. The table counts words that begin with *segment-*; places that speak
# of classifying a *disease*; and *motion*, *4D* or anything to that effect. Headings and references are left out, and so is classification of images in general, which sections I and II name four times.

# %%
NAMED = {  # section: (segmentation, disease classification, motion estimation)
    "I": (1, 0, 0),
    "II": (8, 0, 0),
    "III": (1, 0, 0),
    "IV": (24, 0, 0),
    "V": (2, 2, 0),
}
totals = np.array(list(NAMED.values())).sum(0)

# %% tags=["hide-input"]
plots.table(
    [[s, *n] for s, n in NAMED.items()] + [["all", *totals]],
    ["section", "segmentation", "disease classification", "4D motion estimation"],
)
plots.say(f"Fields that the body names at least once: {(totals > 0).sum()} of 3. On a stricter reading, fields that have a section of their own: 1.")  # fmt: skip

# %%
claims.observe(
    "C001", float((totals > 0).sum() - 3), n=3, where="counted in the review's text, sections I to V"
)

# %% [markdown]
# That is a gap in coverage, not an error of method. This chapter and the one on diagnosis fill it.
#
# ## Cost

# %% tags=["hide-input", "timing"]
plots.table([[n, f"{1000 * s:,.0f}"] for n, s in seconds.items()], ["method", "CPU-milliseconds a patient"])
rate = seconds["demons"] / seconds["network, diffeomorphic"]
plots.say(
    f"{sum(p.numel() for p in flowing[0].parameters()):,} parameters; {spent:.0f} CPU-seconds a training. On one thread, Demons take {rate:.0f} times as long for a patient as the network; "
    f"the training is paid back after {spent / max(seconds['demons'] - seconds['network, diffeomorphic'], 1e-9):,.0f} patients."
)

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A good overlap is not a good motion.** Outlines fit while the muscle inside turns unseen. Report strain and twist against a truth, if only a phantom's, or say that you cannot.
# - **Undeformed beside warped.** Crops, structures and patients change the Dice without motion more than methods differ. A table without that row cannot be read.
# - **Through-plane motion.** In short-axis stacks the base moves by about a slice. "Strain" there mixes two pieces of tissue.
# - **Smoothness is an opinion.** It fills in what the image does not say, and it smooths over the edge of a scar: exactly what the doctor looks for.
# - **Zero folds is not truth.** The identity does not fold either.
#
# ## Summary
#
# - A field of arrows, later to earlier, carries images, masks and outlines.
# - A network learns it from pairs of images alone; the classical methods search anew for each pair.
# - Scaling and squaring turns a current into a map that, but for the coarseness of the grid, does not fold, and that can be run backwards.
# - Along the radius edges guide the arrows; around the axis little does. No loss on image similarity mends that.
# - Undeformed beside warped, no motion beside every error: the row that does nothing keeps a table honest.
#
# ## Check yourself
#
# **1.** Why do the arrows point from the later image to the earlier one?
#
# - **A** because the heart relaxes after it has contracted
# - **B** so that each pixel of the new picture looks up one place in the old one
# - **C** so that the field cannot fold anywhere in the image
# - **D** because the earlier image is sharper than the later one
#
# <details><summary>Answer</summary>
#
# **B.** Arrows forward in time would hit some pixels twice and leave others empty. The direction has nothing
# to do with folds (C).
#
# </details>
#
# **2.** The Jacobian is 2 at a pixel of the later image. What happened to the tissue there?
#
# - **A** It took up twice the area before: it has shrunk to half.
# - **B** It has grown to twice the area that it had before.
# - **C** It has moved by two pixels since the earlier moment.
# - **D** It has folded over itself, once in each direction.
#
# <details><summary>Answer</summary>
#
# **A.** Here the Jacobian is area before over area now, since the arrows point back in time. B would be right
# for arrows that point forward. Only a negative value is a fold.
#
# </details>
#
# **3.** In scaling and squaring, why is $v$ divided by 128 before the field is chained with itself seven
# times?
#
# - **A** so that the arrows are shorter than a pixel of the screen
# - **B** so that seven doublings of the time give back one unit of time
# - **C** so that the result is the mean of 128 fields
# - **D** so that the field becomes smoother each time
#
# <details><summary>Answer</summary>
#
# **B.** Over a short time a particle moves along the current at its place, and $2^7 = 128$. It is not an
# average (C): each chain follows the particle to where it has come.
#
# </details>
#
# **4.** A paper reports a Dice of 0.80 for masks that were carried by its method. What do you ask first?
#
# - **A** the Dice without motion, on the same patients and crop
# - **B** the number of parameters of the network
# - **C** the share of pixels that fold
# - **D** the Dice of the training patients
#
# <details><summary>Answer</summary>
#
# **A.** A heart that hardly moves has a high Dice for nothing. The others matter later; without the row that
# does nothing, 0.80 has no meaning.
#
# </details>
#
# **5.** Even muscle, without visible grain, turns around the axis of the ventricle. What does a loss on image
# likeness say of the turning?
#
# - **A** It grows, since every pixel has moved.
# - **B** Hardly anything, for the image looks as before.
# - **C** It falls, since the field becomes smoother.
# - **D** It gives the angle, but not the direction.
#
# <details><summary>Answer</summary>
#
# **B.** This is the aperture problem. The smoothness then prefers no turning at all. A confuses what moved
# with what can be seen to move.
#
# </details>
#
# **6.** After a whole beat, a method's chained motion brings each point back to its start, with no drift.
# What does this show?
#
# - **A** that the motion was right in each phase
# - **B** that the motion cannot have folded
# - **C** little: a method that says “no motion” does so too
# - **D** that the method works for healthy hearts
#
# <details><summary>Answer</summary>
#
# **C.** Errors on the way there and back may cancel. Drift can refute a method, never confirm it.
#
# </details>
#
# **7.** Near a scar the wall hardly moves; beside it the muscle pulls. A method with strong smoothness
# reports an even, slightly lowered strain. What may the doctor conclude?
#
# - **A** There is no scar, or the strain would drop at its edge.
# - **B** The scar lies in another slice.
# - **C** The muscle is weak all around.
# - **D** Nothing about an edge: the smoothness would have blurred it.
#
# <details><summary>Answer</summary>
#
# **D.** What the image does not force, smoothness fills in, and the edge of a scar is where it errs most. A
# and C take an assumption of the method for a finding.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: a shorter current
# :label: ex-20-half
# Carry the ED mask by exp(v/2). Where do you expect its Dice with the ES mask, compared with no motion and with exp(v)?
# ```
#
# ```{solution} ex-20-half
# :class: dropdown
# Between the two: `net.field(net.current(x), 0.5)`. It need not be half-way, for Dice is not a linear function of distance: the last millimetres count most for the thin wall.
# ```
#
# ```{exercise} ★ Predict: shear
# :label: ex-20-shear
# In a ring of muscle, each layer turns around the axis by an angle that grows from the inside outwards, and
# nothing else moves. What are the circumferential strain, the radial strain in the sense of this chapter, and
# the Jacobian?
# ```
#
# ```{solution} ex-20-shear
# :class: dropdown
# A line around the axis is turned as a whole and keeps its length: circumferential strain 0. A line that
# *now* lies along the radius was tilted before, since its outer end has turned further; it was longer than it
# is now, so its strain is below zero, though nothing became thinner. Areas do not change: the Jacobian is 1.
# So a radial strain need not mean a thinner wall where there is shear.
# ```
#
# ```{exercise} ★★ Implement: Demons in ten lines
# :label: ex-20-demons
# Write Thirion's update: the difference of the images times the gradient of the fixed one, divided by the squared gradient plus the squared difference; add it to the field and blur. Compare it with SimpleITK's on one phantom.
# ```
#
# ```{solution} ex-20-demons
# :class: dropdown
# In a loop: `d = motion.warp(moving, u) - fixed`; `g = torch.cat(torch.gradient(fixed, dim=(2, 3)), 1)`; `u = u - d * g / (g.square().sum(1, keepdim=True) + d**2 + 1e-6)`; then a Gaussian blur of each part of u. SimpleITK's form, which
# `motion.demons` calls, also uses the gradient of the moving image, which speeds it up, and begins at half the size.
# ```
#
# ```{exercise} ★★ Implement: local correlation
# :label: ex-20-ncc
# Train with `loss(…, likeness="ncc")`. For which pairs should it matter, and does it here?
# ```
#
# ```{solution} ex-20-ncc
# :class: dropdown
# Local correlation forgives a change of brightness or contrast from one image to the other, as between scanners or sequences. ED and ES come from one cine with one contrast, so expect little. λ must be chosen anew: the two likenesses have other scales.
# ```
#
# ```{exercise} ★★ Implement: masks in the loss
# :label: ex-20-masks
# VoxelMorph has a second form, which adds the Dice of the carried training masks to the loss. Build it for the training patients. What may you still call unsupervised?
# ```
#
# ```{solution} ex-20-masks
# :class: dropdown
# Let the labels of the data set be the stacked masks, carry a one-hot ED mask with `motion.warp`, and add 1 − Dice. It is then supervised by outlines (the paper says *auxiliary* data); report it as an arm of its own. Dice will rise; look whether the end-point error on the phantom does.
# ```
#
# ```{exercise} ★★★ Investigate: neighbours as channels
# :label: ex-20-neighbours
# Give the network the slices above and below as further channels. Does the Dice at the base rise?
# ```
#
# ```{solution} ex-20-neighbours
# :class: dropdown
# `VoxelMorph(in_channels=6)` with x from three slices at two moments. The loss still looks at the middle slice, so `Unsupervised` needs a `forward` that picks its two images out of the six. Report the paired difference with its interval, for the base alone too. The field remains in-plane: context can guess what comes into the slice, and cannot move it there.
# ```
#
# ```{exercise} ★★★ Investigate: a printed grid
# :label: ex-20-tags
# Multiply the phantom's muscle by a pattern of lines fixed to the tissue at ED, as tagging does. How much of the twist is found then?
# ```
#
# ```{solution} ex-20-tags
# :class: dropdown
# Draw the lines at ED, and carry them to each phase with the true field (`motion.warp`). Repeat the figure of the radius and the twist. Beware of jumps by a whole line: the lines must be further apart than the motion between the two images, or the phases must be chained.
# ```

# %% [markdown]
# # Metrics
#
# *What does a segmentation score reward?*
#
# Two programs outline the left {term}`ventricle` of a heart. One is a pixel too large all round; the other is perfect, but for one stray
# voxel at the edge of the image. Which is better? It depends on what you measure. The review names three measures and
# prints their formulas. **Do the formulas say what they should, and which errors do they see?**
#
# After this chapter you can compute overlap and distance by counting on paper, spot a wrong formula by its largest value,
# and choose scores that respond to the errors that matter to you. No network is trained: we damage the {term}`masks <mask>` of experts, so
# that every error is known exactly.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import warnings

import numpy as np
from scipy import ndimage
from scipy.spatial import distance
from scipy.stats import spearmanr

from medlib import claims, cost, hearts, metrics, plots, profile, stats

# %%
PAIRS = profile(smoke=20, full=300)
PATIENTS = profile(smoke=2, full=16)
REPEATS = profile(smoke=1, full=7)
rng = np.random.default_rng(0)

# %% [markdown]
# ## The problem, seen on masks that you can count
#
# A truth of 4 × 4 pixels, and an answer that sits one column too far to the right. Pixels are 2 × 2 mm. Count: 16 pixels
# each, 12 in common, 20 in the union.

# %%
truth = np.zeros((8, 11), dtype=bool)
truth[2:6, 2:6] = True
moved = np.roll(truth, 1, axis=1)
stray = truth.copy()
stray[4, 10] = True
holed = truth.copy()
holed[3:5, 3:5] = False
grown = truth.copy()
grown[2:6, 6:8] = True
answers = {"moved": moved, "stray pixel": stray, "hole": holed, "too wide": grown}
MM = (2, 2)


# %%
def draw(axis, answer, title):
    """Both right: blue. Answer alone: orange. Truth alone: grey, with a cross."""
    colours = np.array([[1, 1, 1], [0.6, 0.6, 0.6], [0.9, 0.6, 0.1], [0.1, 0.45, 0.7]])
    axis.imshow(colours[truth + 2 * answer])
    for row, column in np.argwhere(truth & ~answer):
        axis.text(column, row, "×", ha="center", va="center")
    axis.set(xticks=np.arange(0.5, 11), yticks=np.arange(0.5, 8), xticklabels=[], yticklabels=[], title=title)
    axis.tick_params(length=0)


# %%
figure, axes = plots.panels(2, 2, height=2.5)
for axis, (name, answer) in zip(axes.flat, answers.items(), strict=True):
    draw(axis, answer, name)
plots.show(
    figure,
    alt="Four grids with a square truth of 16 pixels: an answer moved by one column, one with a stray pixel five columns "
    "away, one with a hole of four pixels, one two columns too wide.",
    caption="Four answers to one truth. Blue: in both. Orange: in the answer alone. Grey with a cross: in the truth alone. "
    "A pixel is 2 × 2 mm.",
    name="fig-09-counted",
)

# %% [markdown]
# ## The idea: overlap and distance
#
# Let $A$ be the pixels of the answer and $B$ those of the truth; $|A|$ counts them. The {term}`Dice` score {cite:p}`dice1945measures` and the intersection over union ({term}`IoU`) {cite:p}`jaccard1912distribution` are
#
# $$ \mathrm{DSC} = \frac{2\,|A \cap B|}{|A| + |B|}, \qquad \mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}. $$ (eq-dice)
#
# For the moved square: 24 / 32 = 0.75 and 12 / 20 = 0.6. Each follows from the other, DSC = 2 IoU / (1 + IoU). The review
# divides twice the intersection by the *union*. That is twice the IoU, here 1.2, and 2 for a perfect match. The ventricle
# Dice of 0.914 that the review quotes from {cite:t}`baumgartner2017exploration` would read about 1.68. Its
# sentence about the IoU turns the fraction upside down; its Eq. (2) has it right.
#
# Overlap does not say how *far* an error lies. Let $d(a, b)$ be the distance of two pixels in mm. The *directed average
# Hausdorff distance* {cite:p}`dubuisson1994modified` takes from each $a$ the way to the nearest $b$, and the mean over $A$.
# The *average Hausdorff distance* (AHD) is the mean of both directions:
#
# $$ \mathrm{AHD} = \frac12 \Bigl( \frac{1}{|A|} \sum_{a \in A} \min_{b \in B} d(a, b)
# + \frac{1}{|B|} \sum_{b \in B} \min_{a \in A} d(a, b) \Bigr). $$ (eq-ahd)
#
# The review's Eq. (3) sums over $a$ *and* $b$ at once and divides by “A”, a set. Read to the letter, the minimum of a
# single number is that number, and the sum adds the distances of all pairs.
#
# ## The claims that we test

# %% tags=["hide-input"]
claims.box(*(f"C{i:03}" for i in range(98, 107)))

# %% [markdown]
# ## The key block by hand
#
# All of it in a few lines, as printed and as meant.


# %%
def dice_printed(a, b):
    return 2 * (a & b).sum() / (a | b).sum()


def gaps(a, b, spacing):
    """(|A|, |B|) distances of all pairs, in mm."""
    return distance.cdist(np.argwhere(a) * spacing, np.argwhere(b) * spacing)


def ahd(a, b, spacing):
    d = gaps(a, b, spacing)
    return (d.min(1).mean() + d.min(0).mean()) / 2


def ahd_printed(a, b, spacing):
    d = gaps(a, b, spacing)
    return (d.sum() / len(d) + d.sum() / len(d.T)) / 2


# %% tags=["nbval-check-output"]
for name, answer in answers.items():
    assert np.isclose(ahd(answer, truth, MM), metrics.average_hausdorff(answer, truth, MM))
    print(
        f"{name:12} DSC {metrics.dice(answer, truth):.3f}, printed {dice_printed(answer, truth):.3f}; "
        f"AHD {ahd(answer, truth, MM):.3f} mm, printed {ahd_printed(answer, truth, MM):.1f} mm"
    )

# %%
plots.show_source(metrics.dice, metrics.average_hausdorff, metrics.surface_distances)

# %% [markdown]
# ## More ways to look
#
# A *surface* pixel touches the outside. From surface to surface we can take the largest distance ({term}`Hausdorff distance`, HD
# {cite:p}`huttenlocher1993comparing`), the 95th percentile (HD95), the mean (ASSD), or the share of both surfaces that lies within a tolerance
# (*surface Dice* {cite:p}`nikolov2021clinically`). *Sensitivity* is the share of the truth that the answer has found. The *volume
# error* compares sizes alone; for a slice it is an area.
#
# The tolerance of a surface Dice is a choice, and says how far an outline may be off before it counts. It should be about as far as two experts' outlines lie apart. With pixels of 1.5 mm our 2 mm are kind: an error
# of one pixel is free. (Patients 074 and 076 of ACDC are one scan that was drawn twice, a small chance to measure that distance.)

# %%
TOLERANCE = 2  # mm
MEASURES = {
    "DSC": lambda a, b, mm: metrics.dice(a, b),
    "IoU": lambda a, b, mm: metrics.iou(a, b),
    "AHD": metrics.average_hausdorff,
    "balanced AHD": metrics.balanced_average_hausdorff,
    "HD": metrics.hausdorff,
    "HD95": lambda a, b, mm: metrics.hausdorff(a, b, mm, percentile=95),
    "ASSD": metrics.average_surface_distance,
    "surface DSC": lambda a, b, mm: metrics.surface_dice(a, b, TOLERANCE, mm),
    "sensitivity": lambda a, b, mm: (a & b).sum() / b.sum(),
    "volume": metrics.volume_error,
}
RISING = ("DSC", "IoU", "surface DSC", "sensitivity")  # higher is better


# %%
def measure(a, b, mm):
    return {name: f(a, b, mm) for name, f in MEASURES.items()}


counted = {name: measure(answer, truth, MM) for name, answer in answers.items()}
rows = [(name, *(f"{v:.2f}" for v in values.values())) for name, values in counted.items()]
plots.table(rows, ["answer", *MEASURES])

# %% [markdown]
# Distances are in mm, the last column in mm². The stray pixel has the best overlap of the four and the worst HD. The
# hole leaves every surface score perfect: the twelve pixels of the ring touched the outside before, and all of them are surface
# still. Only overlap, sensitivity, AHD over all pixels, and size notice it. Sensitivity, in turn, is blind to what is too much. Around a larger hole, as in the hearts below, the ring is thicker and
# gains an inner surface.
#
# ### Can AHD be fooled?
#
# AHD divides by the size of the answer: an answer that is too large divides its own errors by more. {cite:t}`aydin2021usage`
# divide both sums by the size of the truth instead, and call it *balanced*. Watch the order of two answers turn round.

# %%
wide = grown.copy()
wide[3, 8] = True
narrow = truth.copy()
narrow[:, 4:] = False
figure, axes = plots.panels(2, height=2.5)
for axis, answer, name in ((axes[0], wide, "too wide"), (axes[1], narrow, "too narrow")):
    a, b = (f(answer, truth, MM) for f in (metrics.average_hausdorff, metrics.balanced_average_hausdorff))
    draw(axis, answer, f"{name}: AHD {a:.2f}, balanced {b:.2f} mm")

# %%
plots.show(
    figure,
    alt="Left: the square widened by two columns and one pixel. Right: the square without its two right columns. "
    "AHD prefers the wide answer, balanced AHD the narrow one.",
    caption="AHD prefers the left answer, the balanced form the right one. Colours as above.",
    name="fig-09-balanced",
)

# %% [markdown]
# ### Nothing to measure
#
# A slice above the heart has an empty mask. What is the Dice of nothing with nothing? The libraries agree only in part.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch
    from monai import metrics as monai
    from skimage.metrics import hausdorff_distance


def batch(mask):
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()


# %%
def quietly(f, a, b, **options):
    """A MONAI metric of one mask, without its warnings about empty masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(f(batch(a), batch(b), include_background=True, **options))


empty = np.zeros_like(truth)
rows = []
for name, a, b in (
    ("both empty", empty, empty),
    ("answer empty", empty, truth),
    ("truth empty", truth, empty),
):
    dices = metrics.dice(a, b), quietly(monai.compute_dice, a, b)
    far = metrics.hausdorff(a, b), quietly(monai.compute_hausdorff_distance, a, b), hausdorff_distance(a, b)
    rows.append((name, *(f"{v:.3g}" for v in (*dices, *far))))
plots.table(rows, ["masks", "DSC, ours", "DSC, MONAI", "HD, ours", "HD, MONAI", "HD, scikit-image"])

# %% [markdown]
# `nan` means “undefined”. A mean that skips undefined cases is a mean over fewer cases, and one that counts them as
# perfect is a higher mean. Say which you did. (`inf`, infinite: there is no surface to be near to.)
#
# ## Real hearts, known errors
#
# ACDC {cite:p}`bernard2018acdc` has masks by experts. We take the left ventricle of the test patients and damage it: each damage is a “model” whose error we
# know. {term}`Spacing <spacing>` differs from patient to patient (pixels of 0.7 to 1.9 mm, slices 5 to 10 mm apart), so every distance is computed with the patient's own.

# %%
test = hearts.split(hearts.load())[2][:PATIENTS]
LV = hearts.LABELS.index("LV")
volumes_at = {phase: [getattr(p, phase) for p in test] for phase in ("ed", "es")}
plane = ndimage.generate_binary_structure(2, 1)[None]  # neighbours within a slice


def patchy(mask):
    """Whole patches of the border moved by two pixels, out or in: the realistic error."""
    noise = ndimage.gaussian_filter(np.random.default_rng(mask.sum()).normal(size=mask.shape), (0, 3, 3))
    out = ndimage.binary_dilation(mask, plane, 2) & (noise > noise.std())
    return (mask | out) & ~((noise < -noise.std()) & ~ndimage.binary_erosion(mask, plane, 2))


# %%
def hole(mask):
    """The core of the largest slice, gone: half its radius."""
    mask, z = mask.copy(), mask.sum((1, 2)).argmax()
    depth = ndimage.distance_transform_edt(mask[z])
    mask[z] &= depth <= depth.max() / 2
    return mask


def outlier(mask):
    mask = mask.copy()
    mask[0, 2, 2] = True
    return mask


def no_apex(mask):
    """Without the smaller of the two end slices."""
    mask, filled = mask.copy(), np.flatnonzero(mask.any((1, 2)))
    mask[min(filled[[0, -1]], key=lambda z: mask[z].sum())] = False
    return mask


# %%
def spiky(mask):
    """Every third row of the border, three pixels out."""
    out = ndimage.binary_dilation(mask, plane, 3)
    out[:, np.arange(mask.shape[1]) % 3 > 0] = False
    return mask | out


ERRORS = {
    "dilation, 1 pixel": lambda m: ndimage.binary_dilation(m, plane),
    "erosion, 1 pixel": lambda m: ndimage.binary_erosion(m, plane),
    "shift, 2 pixels": lambda m: np.roll(m, 2, axis=2),
    "hole": hole,
    "outlier voxel": outlier,
    "missing apical slice": no_apex,
    "spiky border": spiky,
    "patchy border": patchy,
}

# %%
first = volumes_at["ed"][0]
z = (first.mask == LV).sum((1, 2)).argmax()
lv = first.mask == LV
rows, columns = (slice(int(c) - 34, int(c) + 34) for c in np.argwhere(lv[z]).mean(0))
shown = {"expert": lv} | {
    name: f(lv) for name, f in ERRORS.items() if name not in ("outlier voxel", "missing apical slice")
}
pictures = [
    plots.outlined(first.image[z, rows, columns], LV * m[z, rows, columns].astype(int), zoom=2)
    for m in shown.values()
]

# %%
plots.show(
    plots.grid(pictures, list(shown), columns=4, size=1.7),
    alt="The same slice of a heart seven times, with the outline of the expert's left ventricle and of six damaged ones.",
    caption="The expert's left ventricle (ACDC, one test patient at end-diastole) and damaged copies of it. Not shown: the outlier voxel "
    "and the missing slice.",
    name="fig-09-damaged",
)

# %% [markdown]
# ### One outlier voxel
#
# Take the patchy answer and add one voxel in the corner of the first slice. Then forget the spacing, as if voxels were
# cubes of 1 mm.

# %%
rough = patchy(lv)
names = ["DSC", "AHD", "ASSD", "HD", "HD95"]
rows = []
for title, mm in (("in mm", first.spacing), ("spacing ignored", (1, 1, 1))):
    for label, answer in (("patchy", rough), ("with the voxel", outlier(rough))):
        values = [MEASURES[n](answer, lv, mm) for n in names]
        rows.append((f"{label}, {title}", *(f"{v:.3f}" for v in values)))
plots.table(rows, ["answer", *names])

# %% [markdown]
# HD is the distance of that one voxel. DSC, AHD, ASSD and HD95 hardly notice it. Without the spacing, the numbers are of no unit at
# all: a step between slices counts as much as a step within one, though it is several times as long.
#
# ### A mean of cases, or one case of all voxels?
#
# Dice can be computed slice by slice, patient by patient, or once over all voxels of all patients.


# %%
def three_ways(phase, damage):
    pairs = [(damage(v.mask == LV), v.mask == LV) for v in volumes_at[phase]]
    by_slice = [metrics.dice(x, y) for a, b in pairs for x, y in zip(a, b, strict=True)]
    by_case = [metrics.dice(a, b) for a, b in pairs]
    pooled = 2 * sum((a & b).sum() for a, b in pairs) / sum(a.sum() + b.sum() for a, b in pairs)
    return np.nanmean(by_slice), np.mean(by_case), pooled


rows = [
    (f"{name}, {phase.upper()}", *(f"{v:.3f}" for v in three_ways(phase, ERRORS[name])))
    for name in ("erosion, 1 pixel", "missing apical slice") for phase in volumes_at
]  # fmt: skip
plots.table(rows, ["damage", "mean over slices", "mean over patients", "pooled"])

# %% [markdown]
# (Slices that are empty in both are skipped; a slice whose answer is gone counts 0.) Large hearts carry more voxels, so they weigh more in the pooled score. And an error of one pixel costs a small heart
# more: the same erosion scores worse at end-systole (ES) than at end-diastole (ED). Here is the heart that it hurts most.

# %%
worst = min(
    volumes_at["es"], key=lambda v: metrics.dice(ERRORS["erosion, 1 pixel"](v.mask == LV), v.mask == LV)
)
whole = worst.mask == LV
less = ERRORS["erosion, 1 pixel"](whole)
filled = np.flatnonzero(whole.any((1, 2)))
y, x = np.argwhere(whole)[:, 1:].mean(0).astype(int)
tiles = [
    plots.outlined(worst.image[z, y - 20 : y + 20, x - 20 : x + 20], LV * m[z, y - 20 : y + 20, x - 20 : x + 20], zoom=4)
    for m in (whole.astype(int), less.astype(int)) for z in filled[:: max(1, len(filled) // 3)][:4]
]  # fmt: skip

# %%
plots.show(
    plots.grid(tiles, [f"{t} {i + 1}" for t in ("expert", "eroded") for i in range(len(tiles) // 2)],
               columns=len(tiles) // 2, size=1.7),
    alt="Slices of one small left ventricle at end-systole: above with the expert's outline, below with the outline one pixel "
    "further in. The smaller the slice, the larger the share it loses.",
    caption="The heart whose Dice suffers most from an erosion by one pixel (ACDC, end-systole): slices with the expert's outline, and "
    "the same slices eroded.",
    name="fig-09-worst",
)  # fmt: skip

# %% tags=["hide-input"]
plots.say(
    f"The erosion leaves this heart a Dice of **{metrics.dice(less, whole):.3f}**, and a surface Dice at {TOLERANCE} mm of "
    f"**{metrics.surface_dice(less, whole, TOLERANCE, worst.spacing):.3f}**."
)

# %% [markdown]
# ### The zoo
#
# Now each damage under each metric. One more damage leaves the mask as it is: the model says that it is sure when it is
# not. We give the patchy answer a confidence equal to its share of right voxels near the heart, then raise the confidence to almost 1.
# The {term}`calibration error` of {cite:t}`guo2017calibration` compares confidence with that share. In all other rows of the figure the model is almost sure of every voxel, so there this column is only the share of wrong voxels near the heart.


# %%
def calibration(a, b, confidence):
    """Of voxels within ten pixels of the truth, all with one confidence in their label."""
    near = ndimage.binary_dilation(b, plane, 10)
    odds = np.log(confidence / (1 - confidence))
    chosen = np.where(a[near], odds, -odds)
    return metrics.calibration_error(np.stack([0 * chosen, chosen], 1), b[near].astype(int))


def right(a, b):
    near = ndimage.binary_dilation(b, plane, 10)
    return min((a == b)[near].mean(), SURE)


SURE = 1 - 1e-9


# %%
def row(a, b, mm, confidence):
    found = measure(a, b, mm)
    found["volume"] = abs(100 * (a.sum() / b.sum() - 1))
    return np.array([*found.values(), calibration(a, b, confidence)])


def responses(volume):
    """(errors, metrics): each score with the error, and the same without it."""
    b, mm = volume.mask == LV, volume.spacing
    perfect, rough = row(b, b, mm, SURE), patchy(b)
    pairs = [(row(f(b), b, mm, SURE), perfect) for f in ERRORS.values()]
    pairs.append((row(rough, b, mm, SURE), row(rough, b, mm, right(rough, b))))
    return np.array(pairs)


# %%
zoo = {phase: np.array([responses(v) for v in volumes]) for phase, volumes in volumes_at.items()}
kinds = [*ERRORS, "over-confidence"]
scores = [*MEASURES, "calibration"]
change = np.abs(zoo["ed"][:, :, 0] - zoo["ed"][:, :, 1]).mean(0)
share = change / change.max(0)

# %%
figure, axis = plots.panels(1, width=7.2, height=4.4)
axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
axis.grid(False)
axis.set(xticks=range(len(scores)), yticks=range(len(kinds)), yticklabels=kinds)
axis.set_xticklabels(scores, fontsize=8, rotation=30, ha="right")
for (i, j), value in np.ndenumerate(change):
    text = "0" if value < 1e-6 else f"{value:.2f}" if value >= 0.005 else "<.01"
    axis.text(
        j, i, text, ha="center", va="center", fontsize=8, color="white" if share[i, j] > 0.6 else "black"
    )

# %%
plots.show(
    figure,
    alt="A table of nine kinds of error against eleven metrics, shaded by response. The outlier voxel shows in HD alone to a "
    "large degree; over-confidence shows only in the calibration error.",
    caption="How much each error changes each score: mean over test patients, left ventricle at end-diastole. Distances in "
    "mm, volume in per cent, the others from 0 to 1. Shade: share of the column's largest change.",
    name="fig-09-zoo",
)

# %% tags=["hide-input"]
blind = [[s for s, v in zip(scores, line, strict=True) if v < 1e-6] for line in change]
plots.say(
    "Scores that do not respond at all: "
    + "; ".join(f"to *{k}*: {', '.join(b)}" for k, b in zip(kinds, blind, strict=True) if b) + "."
)  # fmt: skip

# %% [markdown]
# ### Which of two models is better?
#
# Take each damage as a model and rank all pairs of them. How often does another metric turn the order that Dice gives?


# %%
def goodness(phase):
    """(patients, models, metrics), higher is better."""
    values = zoo[phase][:, : len(ERRORS), 0, : len(MEASURES)]
    return values * [1 if name in RISING else -1 for name in MEASURES]


def flips(phase, one, other):
    """Pairs of models that two metrics order differently, by their mean over patients."""
    mean = goodness(phase).mean(0)
    i, j = np.triu_indices(len(ERRORS), 1)
    x, y = (mean[i, k] - mean[j, k] for k in (one, other))
    return [(i[n], j[n]) for n in np.flatnonzero(x * y < 0)]


# %%
total = len(ERRORS) * (len(ERRORS) - 1) // 2
rows = [
    (phase.upper(), *(f"{len(flips(phase, 0, k))} of {total}" for k in range(1, len(MEASURES))))
    for phase in zoo
]
plots.table(rows, ["order other than by DSC", *list(MEASURES)[1:]])


# %% [markdown]
# An order that turns by chance proves nothing. So keep the pairs in which both leads differ from zero: their intervals over
# patients lie on opposite sides.


# %%
def sure(phase, k):
    """Flips against DSC whose two leads both exclude 0: (label, lead by DSC, lead by metric k)."""
    found = []
    for i, j in flips(phase, 0, k):
        by = goodness(phase)[:, i] - goodness(phase)[:, j]
        leads = [stats.interval(by[:, m]) for m in (0, k)]
        if all(lead.low * lead.high > 0 for lead in leads):
            found.append((f"{list(ERRORS)[i]} against {list(ERRORS)[j]}, {phase.upper()}", *leads))
    return sorted(found, key=lambda f: -abs(f[1].mean))


# %%
rows = []
for other in ("AHD", "HD95", "ASSD", "surface DSC"):
    for phase in zoo:
        for label, first_lead, other_lead in sure(phase, list(MEASURES).index(other))[:1]:
            rows.append((label, first_lead, other, other_lead))
plots.table(rows, ["models", "lead by DSC", "metric", "lead by that metric (above 0: better)"])

# %%
kept = {
    m: (sum(len(sure(p, k)) for p in zoo), sum(len(flips(p, 0, k)) for p in zoo))
    for k, m in enumerate(MEASURES)
    if k
}

# %% tags=["hide-input"]
plots.say(
    "Flips that chance does not explain, of all: "
    + "; ".join(f"{m} {a} of {b}" for m, (a, b) in kept.items())
    + ". The table shows, for four of the metrics, the pair with the largest lead by DSC at each moment."
)

# %% tags=["hide-input"]
balanced = {phase: flips(phase, 2, 3) for phase in zoo}
plots.say(
    "AHD and balanced AHD order "
    + " and ".join(
        f"{len(found)} of {total} pairs differently at {phase.upper()}" for phase, found in balanced.items()
    )
    + "."
)

# %% [markdown]
# ## Does ours agree with the libraries, and how fast is it?
#
# MONAI {cite:p}`cardoso2022monai`, in mm, and scikit-image {cite:p}`vanderwalt2014scikit`, given the surface voxels and
# no spacing. We show the largest difference: these define the scores as we do.


# %%
def twins(a, b, mm):
    """Ours less theirs. MONAI's HD95 is the larger of two percentiles, as ours."""
    hd, asd = monai.compute_hausdorff_distance, monai.compute_average_surface_distance
    return {
        "DSC, MONAI": metrics.dice(a, b) - quietly(monai.compute_dice, a, b),
        "IoU, MONAI": metrics.iou(a, b) - quietly(monai.compute_iou, a, b),
        "HD, MONAI": metrics.hausdorff(a, b, mm) - quietly(hd, a, b, spacing=mm),
        "HD95, MONAI": metrics.hausdorff(a, b, mm, percentile=95)
        - quietly(hd, a, b, spacing=mm, percentile=95),
        "ASSD, MONAI": metrics.average_surface_distance(a, b, mm)
        - quietly(asd, a, b, symmetric=True, spacing=mm),
        "HD, scikit-image": metrics.hausdorff(metrics.surface(a), metrics.surface(b))
        - hausdorff_distance(metrics.surface(a), metrics.surface(b)),
    }


# %%
found = [twins(patchy(v.mask == LV), v.mask == LV, v.spacing) for v in volumes_at["es"][:4]]
apart = {name: max(abs(f[name]) for f in found) for name in found[0]}
plots.table(
    [(name, f"{v:.1e}") for name, v in apart.items()], ["score", "largest difference, 4 hearts at ES"]
)

# %% [markdown]
# The package `surface-distance`, by the authors of the surface Dice {cite:p}`nikolov2021clinically`, defines a surface in another way. It lays
# small triangles between the voxels and weighs each by its area. Ours counts voxels. Then only the Dice score must agree:

# %%
import surface_distance as pieces


def by_area(a, b, mm):
    """The scores of one pair of masks, by surface elements and their areas."""
    d = pieces.compute_surface_distances(a, b, mm)
    areas = np.r_[d["surfel_areas_gt"], d["surfel_areas_pred"]]
    gaps = np.r_[d["distances_gt_to_pred"], d["distances_pred_to_gt"]]
    return {
        "DSC": pieces.compute_dice_coefficient(a, b),
        "HD": pieces.compute_robust_hausdorff(d, 100),
        "HD95": pieces.compute_robust_hausdorff(d, 95),
        "ASSD": (gaps * areas).sum() / areas.sum(),
        "surface DSC": pieces.compute_surface_dice_at_tolerance(d, TOLERANCE),
    }


# %%
both = []
for v in volumes_at["es"]:
    a, b = patchy(v.mask == LV), v.mask == LV
    theirs = by_area(b, a, v.spacing)  # the truth comes first
    both.append([(MEASURES[name](a, b, v.spacing), value) for name, value in theirs.items()])
both = np.array(both)  # (patients, scores, ours and theirs)
rows = [(name, *(f"{v:.3f}" for v in both[:, k].mean(0)), f"{np.abs(np.diff(both[:, k])).max():.3f}") for k, name in enumerate(theirs)]  # fmt: skip
plots.table(rows, ["score, mean over hearts at ES", "ours, voxels", "theirs, areas", "largest difference"])

# %% [markdown]
# In a heart with pixels of 1.56 mm and slices 10 mm apart, a voxel of the side wall shows a face of 1.56 × 10 mm, a voxel of the lid on the topmost slice one of 1.56 × 1.56 mm. By area the first weighs
# 6.4 times as much; by voxels they weigh the same. So a surface score compares only with scores of the same program. Name it.
#
# ## Verdicts
#
# The formulas meet random pairs of smooth masks; the reference for IoU is SciPy's Jaccard index, and for distances SciPy's
# exact distance transform.


# %%
def blob():
    mask = ndimage.gaussian_filter(rng.normal(size=(16, 18)), 2)
    return mask > np.quantile(mask, rng.uniform(0.4, 0.8))


def directed(a, b):
    return ndimage.distance_transform_edt(~b, sampling=MM)[a].mean()


pairs = [(blob(), blob()) for _ in range(PAIRS)]
pairs = [(a, b) for a, b in pairs if (a & b).any()]
jaccard = np.array([1 - distance.jaccard(a.ravel(), b.ravel()) for a, b in pairs])

# %% tags=["hide-input"]
printed = np.array([dice_printed(a, b) for a, b in pairs])
perfect = dice_printed(truth, truth)
claims.observe("C098", max(perfect, *printed) - 1, n=len(pairs) + 1, where="random pairs and a perfect match")
claims.observe(
    "C099",
    (printed > 1).mean(),
    n=len(pairs),
    where="random pairs that overlap; it passes 1 as soon as the IoU passes ½",
)

# %% tags=["hide-input"]
upside = np.array([(a | b).sum() / (a & b).sum() for a, b in pairs])
ours = np.array([metrics.iou(a, b) for a, b in pairs])
claims.observe("C100", np.abs(upside - jaccard).max(), n=len(pairs), where="random pairs that overlap")
claims.observe("C101", np.abs(ours - jaccard).max(), n=len(pairs), where="random pairs that overlap")

# %% tags=["hide-input"]
cases = np.concatenate([z[:, : len(ERRORS), 0, :2].reshape(-1, 2) for z in zoo.values()]).round(12)
rank = spearmanr(*cases.T).statistic - 1
claims.observe("C102", rank, n=len(cases), where="damaged ventricles, ED and ES")

# %% tags=["hide-input"]
meant = np.array([(directed(a, b) + directed(b, a)) / 2 for a, b in pairs])
letter = np.array([ahd_printed(a, b, MM) for a, b in pairs])
claims.observe(
    "C103",
    (letter / meant - 1).min(),
    n=len(pairs),
    where="the smallest over random pairs, sum over all pairs of points",
)

# %% tags=["hide-input"]
for phase, volumes in volumes_at.items():
    relative = []
    for v in volumes:
        b, mm = v.mask == LV, v.spacing
        a = patchy(b)
        skins = metrics.average_hausdorff(metrics.surface(a), metrics.surface(b), mm)
        relative.append(metrics.average_hausdorff(a, b, mm) / skins - 1)
    ci = stats.interval(relative)
    claims.observe("C104", ci, where=f"patients, patchy left ventricle, {phase.upper()}")

# %% tags=["hide-input"]
worded = np.array([gaps(a, b, MM).min(1).sum() / a.sum() for a, b in pairs])
reference = np.array([directed(a, b) for a, b in pairs])
claims.observe(
    "C105", np.abs(worded - reference).max(), n=len(pairs), where="random pairs, against SciPy's transform"
)

# %% tags=["hide-input"]
unseen = (change[:, :3] < 1e-6).all(1).sum()
claims.observe(
    "C106", unseen, n=len(kinds), where="kinds of error of the zoo; any change counts as a response"
)

# %% [markdown]
# C106 takes the mildest view: any change, however small, counts as a response. Even so, confidence is invisible to any
# score of masks. And a response of the wrong size is of little use, as the row of the outlier voxel shows.

# %% [markdown]
# ## At full size
#
# There is nothing to train here, and the hearts are already on the scanner's grid.
#
# ## What it costs
#
# Two ellipsoids on 256 × 256 × 12 voxels, the second moved by three pixels.

# %%
axes3 = np.ogrid[-6:6, -128:128, -128:128]
b = sum((axis / radius) ** 2 for axis, radius in zip(axes3, (5, 40, 40), strict=True)) < 1
a, mm = np.roll(b, 3, axis=2), (10.0, 1.5625, 1.5625)

# %% tags=["timing"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    x, y, options = batch(a), batch(b), {"include_background": True, "spacing": mm}
    times = cost.time_in_turn({
        "HD": lambda: metrics.hausdorff(a, b, mm), "HD, MONAI": lambda: monai.compute_hausdorff_distance(x, y, **options),
        "ASSD": lambda: metrics.average_surface_distance(a, b, mm),
        "ASSD, MONAI": lambda: monai.compute_average_surface_distance(x, y, symmetric=True, **options),
        "all five, surface-distance": lambda: by_area(b, a, mm),
        "all five": lambda: [MEASURES[name](a, b, mm) for name in theirs],
    }, REPEATS)  # fmt: skip
for name, other in (("HD", "MONAI"), ("ASSD", "MONAI"), ("all five", "surface-distance")):
    ours, rival = (np.median(times[n]) for n in (name, f"{name}, {other}"))
    print(f"{name:8} ours {ours:6.1f} ms, {other} {rival:6.1f} ms: {rival / ours:.1f} times")

# %% [markdown]
# All of them look each surface voxel up in a **distance transform**, which says for every voxel how far the nearest voxel of the other surface is. It visits every voxel of a box around the two masks, and most of the time goes there.
#
# ## Which one, then?
#
# | The question | A measure that answers it | The trap |
# | --- | --- | --- |
# | Is the volume or the ejection fraction right? | volume error, limits of agreement (chapter 19) | a high Dice with the wrong slice at the base |
# | Does the outline lie where it should? | surface Dice, ASSD, in mm | a tolerance below what experts differ by |
# | Is anything badly wrong somewhere? | HD95, the worst cases by name | a mean, in which they vanish |
# | Was the lesion found at all? | sensitivity and false alarms for each lesion | Dice over all voxels, which large lesions decide |
# | Is a thin or a small structure drawn well? | Dice within that structure, with its surface Dice | Dice compared between structures of different size |
#
# Two measures of different kinds, chosen before the experiment, tell more than ten of one kind.
#
# ## Pitfalls in medicine
#
# - **A distance without spacing is not a distance.** Check that mm reach the function, in the order of the axes.
# - **One voxel decides HD.** HD95 forgives 5 % of each surface, and so may forgive a small tumour that was missed.
# - **Small structures have low Dice.** A pixel of error is a larger share of them. Compare Dice within a structure and a
#   phase, not between them.
# - **“Dice 0.91” is not one number** until you say whether it is a mean over slices, over patients, or pooled, and what
#   became of empty masks.
# - **Choose metrics before the experiment**, from the question that the clinic asks {cite:p}`maierhein2024metrics,taha2015metrics`.
#
# ## Summary
#
# - Dice divides by the sum of the sizes. The review's Eq. (1) divides by the union, and gives 2 for a perfect match.
# - IoU and Dice order any two cases alike. Their means over cases need not.
# - In AHD the sum runs over one set and the minimum over the other; on all voxels it differs from AHD on surfaces.
# - Overlap, distance, volume and calibration see different errors. Report at least one of each that matters.
#
# ## Check yourself
#
# **1.** A has 10 pixels, B has 6, and they share 4. What is their Dice score?
#
# - **A** 0.33
# - **B** 0.40
# - **C** 0.50
# - **D** 0.67
#
# <details><summary>Answer</summary>
#
# **C.** $2 · 4 / (10 + 6) = 0.5$. A is the IoU, $4 / 12$. D is what the review's Eq. (1) gives, $8 / 12$.
#
# </details>
#
# **2.** Two cases have the Dice scores 0.8 and 0.5. What are their IoUs?
#
# - **A** 0.90 and 0.67
# - **B** 0.67 and 0.33
# - **C** 0.40 and 0.25
# - **D** 0.80 and 0.50, for both measure overlap
#
# <details><summary>Answer</summary>
#
# **B.** $\mathrm{IoU} = d / (2 - d)$: $0.8 / 1.2$ and $0.5 / 1.5$. A inverts the formula. The order of two
# cases is the same in both scores, their size is not.
#
# </details>
#
# **3.** An answer is perfect. Then a far-away island of one voxel, which is truly there, is erased from it.
# Which score changes most?
#
# - **A** HD
# - **B** HD95
# - **C** Dice
# - **D** volume error
#
# <details><summary>Answer</summary>
#
# **A.** The largest distance is now that from the island to the rest. One voxel among thousands moves no
# other score by much, and HD95 forgives 5 % of each surface.
#
# </details>
#
# **4.** Two answers have a volume error of 0 mL each. Which is true of their Dice scores?
#
# - **A** Both are 1.
# - **B** Both are equal, but maybe below 1.
# - **C** They may be anything from 0 to 1.
# - **D** They are at least 0.5.
#
# <details><summary>Answer</summary>
#
# **C.** Volume counts voxels and does not ask where they lie: a mask that was moved away keeps its volume and
# loses all overlap. A confuses size with place.
#
# </details>
#
# **5.** The same network makes the same error of one pixel all round, at ED and at ES. At ES its Dice is
# lower. Why?
#
# - **A** The heart moves faster at ES, so that its border is blurred.
# - **B** The network saw fewer ES images than ED images in training.
# - **C** The error in mm is larger at ES, since the wall is thicker then.
# - **D** The heart is smaller, so a pixel of border is a larger share of it.
#
# <details><summary>Answer</summary>
#
# **D.** A disc of radius $r$ that loses one pixel all round has $\mathrm{DSC} = 2(r - 1)^2 / ((r - 1)^2 +
# r^2)$: it falls with $r$. The error itself (C) is the same.
#
# </details>
#
# **6.** A distance function gets spacing (1.5, 1.5, 10) for an array whose axes are slices, rows, columns.
# What goes wrong?
#
# - **A** nothing: the order does not matter for a distance
# - **B** steps between slices count too little, steps along a row too much
# - **C** all distances are too large by the same factor
# - **D** only the Dice score is affected
#
# <details><summary>Answer</summary>
#
# **B.** Spacing goes by the order of the axes, here (10, 1.5, 1.5). The numbers look plausible, which is the
# danger. Dice (D) uses no spacing at all.
#
# </details>
#
# **7.** Of 100 scans 20 show no lesion. A network draws a false lesion in each of these. Its authors report
# the mean Dice over scans with a lesion. What do readers learn of the false alarms?
#
# - **A** nothing: Dice skips exactly the scans where they happen
# - **B** their number, since the mean is lower by a fifth
# - **C** their size, but not their number
# - **D** that they do not matter for the clinic
#
# <details><summary>Answer</summary>
#
# **A.** For an empty truth Dice is undefined or 0, and skipping it hides 20 healthy patients who are called
# sick. Report the share of false alarms beside it.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: the hole
# :label: ex-09-hole
# Compute by hand the AHD of the answer with the hole in {numref}`fig-09-counted`.
# ```
#
# ```{solution} ex-09-hole
# :class: dropdown
# Each of the 12 pixels of the answer lies in the truth: the mean way is 0. Of the 16 pixels of the truth, 4
# are missing, and each of them has a neighbour in the ring, 2 mm away: the mean way is $4 · 2 / 16 = 0.5$ mm.
# Half of the sum is 0.25 mm.
# ```
#
# ```{exercise} ★ Predict: a pixel all round
# :label: ex-09-disc
# A disc of radius $r$ loses one pixel all round. What is its Dice score for $r = 10$, and for $r = 5$? What
# is its HD?
# ```
#
# ```{solution} ex-09-disc
# :class: dropdown
# The smaller disc lies inside the larger: $\mathrm{DSC} = 2 (r - 1)^2 / ((r - 1)^2 + r^2)$, which is $162 /
# 181 = 0.90$ and $32 / 41 = 0.78$. HD is one pixel in both. So do not compare Dice between a large and a
# small structure.
# ```
#
# ```{exercise} ★★ Implement: the tolerance
# :label: ex-09-tolerance
# Write the surface Dice from `metrics.surface_distances`. Then set the tolerance to 1 and to 4 mm. What
# changes in {numref}`fig-09-zoo`, and for which errors?
# ```
#
# ````{solution} ex-09-tolerance
# :class: dropdown
# ```python
# def surface_dice(a, b, tolerance, mm):
#     ways = np.concatenate(metrics.surface_distances(a, b, mm))
#     return (ways <= tolerance).mean()
#
#
# assert np.isclose(surface_dice(moved, truth, 2, MM), metrics.surface_dice(moved, truth, 2, MM))
# for tolerance in (1, 2, 4):
#     print(tolerance, {n: round(surface_dice(f(lv), lv, tolerance, first.spacing), 3) for n, f in ERRORS.items()})
# ```
#
# Only the column of the surface Dice changes. A pixel is about 1.5 mm, so at 1 mm an error of one pixel is
# punished like any other; at 4 mm an error of two pixels is forgiven, and the shift and the patchy border
# look nearly perfect. The hole, the missing slice and the tips of the spikes remain.
# ````
#
# ```{exercise} ★★ Implement: distance from a map
# :label: ex-09-edt
# Compute the AHD with `ndimage.distance_transform_edt` in place of the table of all pairs. Check it against
# `ahd`. Why does this matter for volumes?
# ```
#
# ````{solution} ex-09-edt
# :class: dropdown
# ```python
# def ahd_fast(a, b, spacing):
#     to_b, to_a = (ndimage.distance_transform_edt(~m, sampling=spacing) for m in (b, a))
#     return (to_b[a].mean() + to_a[b].mean()) / 2
#
#
# for answer in answers.values():
#     assert np.isclose(ahd_fast(answer, truth, MM), ahd(answer, truth, MM))
# ```
#
# The table of pairs has $|A| \cdot |B|$ entries: for two masks of 50,000 voxels, two and a half thousand
# million. The transform visits each voxel of the box once.
# ````
#
# ```{exercise} ★★★ Investigate: two means, two winners
# :label: ex-09-means
# Find two sets of three Dice scores whose means order two models one way while the means of the IoU order
# them the other way. Why can that not happen with one case?
# ```
#
# ```{solution} ex-09-means
# :class: dropdown
# P has 0.8, 0.8, 0.8; Q has 0.6, 0.78, 1.0. The mean Dice is 0.800 against 0.793, so P leads. The IoUs are
# 0.667 three times, against 0.429, 0.639 and 1: means of 0.667 and 0.689, so Q leads.
#
# With one case it cannot happen, since $d / (2 - d)$ rises with $d$. But it is convex: it rewards a spread.
# Whoever reports the mean IoU values a few perfect cases more.
# ```
#
# ```{exercise} ★★★ Investigate: what the clinic reads
# :label: ex-09-ef
# Cardiologists read the {term}`ejection fraction`, $1 - V_\text{ES} / V_\text{ED}$. Damage both phases of
# each test patient in the same way. Which damage costs much Dice and little EF, and which the reverse?
# ```
#
# ````{solution} ex-09-ef
# :class: dropdown
# ```python
# def ef(ed, es):
#     return 100 * (1 - es.sum() / ed.sum())
#
#
# for name, damage in ERRORS.items():
#     gaps_, scores_ = [], []
#     for p in test:
#         ed, es = p.ed.mask == LV, p.es.mask == LV
#         gaps_.append(abs(ef(damage(ed), damage(es)) - ef(ed, es)))
#         scores_.append(metrics.dice(damage(es), es))
#     print(f"{name:22} Dice at ES {np.mean(scores_):.3f}, EF off by {np.mean(gaps_):.1f} points")
# ```
#
# A shift costs Dice and no EF at all: volumes do not move. An erosion shrinks the small heart by a larger
# share and so raises the EF. Noise that is independent at ED and ES does not cancel, a common bias partly
# does. The pitfall: patients whose errors cancel look perfect, so show the scatter and not only the mean.
# ````

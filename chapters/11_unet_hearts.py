# %% [markdown]
# # A hundred hearts
#
# *How well does a small U-Net outline hearts that it has not seen?*
#
# Chapter 11 took the U-Net apart on small slices. Here it does the work it was made for. **How well does a small U-Net, trained in
# minutes on a processor, find the chambers of hearts that it has never seen, and how long does a well-known toolkit need for the same?**
#
# *This page still speaks of the first edition's patients: eighty hearts from a copy of ACDC whose headers carry one nominal pixel size. A later one will use all hundred with their true sizes.*
#
# After this page you can set up a cross-validation by patient, read a table of Dice scores structure by structure, look for the
# worst cases before the mean, and compare two training pipelines fairly.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import time

import numpy as np

from medlib import cost, fit, hearts, losses, peers, plots, profile, seed, stats
from medlib.augment import random_affine
from medlib.models import SmallUNet
from medlib.scrubber import scrubber

# %%
EPOCHS = profile(smoke=0.2, quick=0.8, full=16)
FOLDS = profile(smoke=1, quick=2, full=5)
patients = profile(smoke=hearts.load()[:10], full=hearts.load())

# %% [markdown]
# ## The hearts
#
# ACDC {cite:p}`bernard2018acdc` holds {term}`short-axis <short axis>` {term}`cine` MRI of patients with five diagnoses. Three structures are outlined at two moments: the cavity of the left {term}`ventricle` (LV), its muscular wall ({term}`myocardium`) and the cavity of the right ventricle (RV), at
# end-diastole (ED), when the heart is full, and at end-systole (ES), when it has contracted. The outlines were drawn by an experienced user, corrected and confirmed by an expert with ten years' practice, and then by a second one, with twenty, from
# another hospital; where the two disagreed, they agreed on one. They also wrote down where the ventricles end at the base (the left one at the aortic valve, the right one without its outflow), so the base
# follows a rule that a network cannot read. We call the result “the expert's”.
#
# The sliders below move through the slices of one patient, at both moments. They work with the arrow keys too.

# %% tags=["hide-input"]
one = patients[0]
limits = tuple(np.quantile(one.ed.image, (0.01, 0.99)))
cut = hearts.window(one, 120, 120 * hearts.PIXEL)
rows, columns = (slice(max(0, int(c - 60)), int(c + 60)) for c in cut.centre)
frames = [
    [
        plots.outlined(i[rows, columns], m[rows, columns], limits=limits)
        for i, m in zip(v.image, v.mask, strict=True)
    ]
    for v in (one.ed, one.es)
]
scrubber(
    frames,
    sliders=("moment (1 ED, 2 ES)", "slice, from base to apex"),
    alt="Short-axis slices of one heart from base to apex, at end-diastole and end-systole, with the expert's outlines of the "
    "right ventricle, the ring of myocardium and the left ventricle inside it. The cavities are smaller at end-systole.",
    caption=f"Patient {one.name[-3:]} of ACDC, the expert's outlines: RV blue, myocardium yellow, LV orange (Bernard et al. 2018, CC BY-NC-SA 4.0).",
)

# %% [markdown]
# Three traps lie in such a set, and none of them shows in a Dice score.
#
# **Slices are not patients.** Neighbouring slices of one heart look alike. If some stand in the training set and others in the
# test set, the network is tested on what it has seen. This is {term}`leakage`. So we split by patient.
#
# **Two patients may be one.** The cell below compares every image with every other.

# %%
seen = {}
for p in patients:
    seen.setdefault(p.ed.image.tobytes(), []).append(p)
for twins in (same for same in seen.values() if len(same) > 1):
    a, b = twins
    agreement = hearts.score((a.ed.mask, a.es.mask), b)
    print(f"{a.name} and {b.name} are one scan; their two masks agree with a Dice of {agreement.mean():.3f}:")
    print(np.array2string(agreement, precision=3), "(rows ED, ES; columns RV, myocardium, LV)")

# %% [markdown]
# The pixels are the same, the masks are not: a small, accidental look at how far two drawings of one heart differ. `hearts.folds`
# keeps copies of a scan in one fold, and deals the diagnoses out in equal shares. (Below, the two count as two patients.)
#
# **The heart is not in the middle.** We cut a square of 200 mm around it, found without looking at any mask: the heart is
# what moves between ED and ES. (Millimetres are nominal here: the headers of our copy carry 1.5625 × 1.5625 × 10 mm for nearly every patient.)

# %%
plots.show_source(hearts.centre)

# %% [markdown]
# ## The network and its training
#
# `SmallUNet` is the padded U-Net of chapter 11 with batch normalisation, behind a *space-to-depth* step: each patch of 2 × 2
# pixels becomes one pixel with four channels, and the last layer gives the four pixels back. A U-Net spends most of its time at full
# resolution; this one never works there.
#
# The loss adds soft Dice to cross-entropy. Each batch is turned, stretched, shifted and given another contrast at random.

# %%
plots.show_source(SmallUNet, losses.soft_dice, losses.dice_ce)

# %%
options = {"epochs": EPOCHS, "lr": 5e-3, "batch_size": 16, "loss": losses.dice_ce, "score": losses.mean_dice}
options |= {"augment": random_affine(), "validations": 1, "keep": "last"}
size, work = cost.parameters_and_macs(SmallUNet, (1, 128, 128))
print(f"{size:,} parameters, {work / 1e9:.2f} G multiply-adds a slice of 128 × 128")

# %% [markdown]
# ## Five folds
#
# Each fifth of the patients, a {term}`fold`, is tested once by a network that was trained on the other four fifths. This is {term}`cross-validation`. No choice was made on the
# tested fold while training, and the last weights are kept. (The learning rate was chosen once, on the validation patients of `hearts.split`, which are the fourth fold here: that fold's score may flatter a little.) {term}`Dice` is computed volume by volume on the scanner's own pixels, so what the square cuts off counts as an error.

# %%
parts = hearts.folds(patients)
dice, masks, seconds, models = {}, {}, [], []
for test in parts[:FOLDS]:
    train = patients.of(p for part in parts if part is not test for p in part)
    data = hearts.slices(train, test[:1], test[:1])  # `fit` watches one patient and chooses nothing by it
    seed(len(models))
    started = time.process_time()
    models.append(SmallUNet())
    fit(models[-1], data, seed=len(models), **options)
    seconds.append(time.process_time() - started)
    for p in test:
        masks[p.name] = hearts.segment(models[-1], p)
        dice[p.name] = hearts.score(masks[p.name], p)

# %% tags=["hide-input"]
tested = [p for p in patients if p.name in dice]
table = np.stack([dice[p.name] for p in tested])  # (patients, 2, 3)

# %% tags=["hide-input"]
rows = [
    [
        when,
        *(f"{table[:, t, k].mean():.3f} ± {table[:, t, k].std():.3f}" for k in range(3)),
        str(stats.interval(table[:, t].mean(1))),
    ]
    for t, when in enumerate(("ED", "ES"))
]
rows.append(
    ["both", *(f"{table[:, :, k].mean():.3f}" for k in range(3)), str(stats.interval(table.mean((1, 2))))]
)
plots.table(rows, ["moment", "RV", "myocardium", "LV", "mean over structures [95 % interval over patients]"])

# %% tags=["hide-input"]
whole = stats.interval(table.mean((1, 2)))
plots.say(
    f"**Mean Dice over {whole.n} patients that the network had not seen: {whole}**, after {np.mean(seconds):.0f} CPU-seconds of training a fold. "
    f"The hardest cell is {('RV', 'myocardium', 'LV')[table.mean(0).argmin() % 3]} at {('ED', 'ES')[table.mean(0).argmin() // 3]}, "
    f"{table.mean(0).min():.3f}."
)

# %% [markdown]
# (± is the standard deviation over patients.) Beside it, what others reached on ACDC's hidden test set of 50 patients {cite:p}`bernard2018acdc`. It is another set of patients, so the
# rows are landmarks and not a ranking.
#
# | Method | mean of the six Dice scores |
# | --- | ---: |
# | level set and graph cut (Tziritas) | .836 |
# | 2D U-Net (Baumgartner, the review's reference [16]) | .914 |
# | ensemble of 2D and 3D U-Nets (Isensee, the winner) | .928 |
#
# A fairer landmark is nnU-Net, which configures itself: cross-validated on the training patients, as we are, it reaches .915 {cite:p}`isensee2021nnunet,isensee2024revisited`. Whoever wants to segment hearts, and not to learn how it is done, runs nnU-Net first.
#
# ### By diagnosis
#
# A mean over all patients may hide a group. NOR are healthy hearts, DCM widened ones, HCM ones with a thick wall, MINF ones after an infarction, and RV ones with an abnormal
# right ventricle.

# %% tags=["hide-input"]
groups = sorted({p.group for p in tested})
by = {g: table[[p.group == g for p in tested]] for g in groups}
plots.table(
    [
        [g, len(t), *(f"{t[:, :, k].mean():.3f}" for k in range(3)), str(stats.interval(t.mean((1, 2))))]
        for g, t in by.items()
    ],
    ["diagnosis", "patients", "RV", "myocardium", "LV", "mean"],
)

# %% [markdown]
# ### Patient by patient

# %% tags=["hide-input"]
order = table.mean((1, 2)).argsort()
figure, axis = plots.panels(1, height=3.0)
for k, name in enumerate(("RV", "myocardium", "LV")):
    axis.plot(table[order, :, k].mean(1), "os^"[k], markersize=3, label=name)
axis.plot(table[order].mean((1, 2)), color="0.3", linewidth=1, label="mean")
axis.set(xlabel="patients, from the worst to the best", ylabel="Dice, mean of ED and ES")
axis.legend(fontsize=8)
plots.show(
    figure,
    alt="Dice of right ventricle, myocardium and left ventricle for each patient in the order of their mean: the right ventricle falls furthest in the worst patients.",
    caption="Each patient's Dice in five-fold cross-validation, from the worst to the best.",
    name="fig-11-worst-to-best",
)

# %% [markdown]
# ## The worst cases first
#
# A mean hides them. Here are the slices with the most wrong pixels of the five worst patients: the expert's outlines above, the
# network's below. Look for dots and stripes of the width of a pixel, too: the network gives four answers for each patch of 2 × 2 pixels, and where it is unsure, the four disagree.

# %% tags=["hide-input"]
pictures, titles = [[], []], []
worst = [tested[i] for i in order[:5]]
for p in worst:
    wrong = [(m != v.mask).sum((1, 2)) for m, v in zip(masks[p.name], (p.ed, p.es), strict=True)]
    t, z = np.unravel_index(np.argmax(wrong), np.shape(wrong))
    volume, middle = (p.ed, p.es)[t], hearts.centre(p)
    box = tuple(slice(max(0, int(c - 55)), int(c + 55)) for c in middle)
    for row, mask in zip(pictures, (volume.mask[z], masks[p.name][t][z]), strict=True):
        row.append(plots.outlined(volume.image[z][box], mask[box]))
    titles.append(f"{p.name[-3:]} {('ED', 'ES')[t]} {z + 1}/{len(volume.mask)}")
figure = plots.grid(
    pictures[0] + pictures[1],
    titles + [f"{dice[tested[i].name].mean():.2f}" for i in order[:5]],
    columns=5,
    size=1.4,
)
plots.show(
    figure,
    alt="Five slices in two rows, most of them at the base of the heart: the expert's outlines above, the network's outlines below, which miss or add whole structures.",
    caption="The slice with the most wrong pixels of each of the five worst patients: expert above, network below with the patient's mean Dice (ACDC, CC BY-NC-SA 4.0).",
)

# %% tags=["hide-input"]
depth = {k: [] for k in range(3)}
for p in tested:
    for m, v in zip(masks[p.name], (p.ed, p.es), strict=True):
        wrong = (m != v.mask).mean((1, 2)) / max((m != v.mask).mean(), 1e-9)
        for k, third in enumerate(np.array_split(wrong, 3)):
            depth[k].append(third.mean())
whose = np.repeat([p.name for p in tested], 2)  # ED and ES of a patient are no two patients
base, mid, apex = (stats.over_patients(d, whose=whose) for d in depth.values())
plots.say(
    f"Wrong pixels, relative to each volume's mean: {base} in the third of the slices at the base, {mid} in the middle, {apex} at the apex."
)

# %% [markdown]
# ## Beside MONAI's own pipeline
#
# MONAI {cite:p}`cardoso2022monai` is the toolkit that most people would use. Its tutorials train a network of this kind with a
# `CacheDataset`, a `DataLoader`, random transforms, the Dice loss and Adam at a constant rate, in fp32, for hundreds of epochs. We build a pipeline from these parts, give it the same slices,
# its `BasicUNet` with as many parameters as ours, and the same patients for training and for watching.
#
# Ours trains for half of the epochs that the five folds had, at twice the learning rate, since a short schedule bears larger steps. The clock counts CPU-seconds
# of one thread. For MONAI it stops while a Dice score is computed; for ours it does not.
# MONAI's pipeline is stopped after four times the time of our whole training; a ratio near four therefore says “at least”.

# %%
train, watched, test = hearts.split(patients)
data = hearts.slices(train, watched, test[:1])
GOAL, RACES = 0.85, profile(smoke=1, quick=2, full=3)
hurry = options | {"epochs": EPOCHS / 2, "lr": 1e-2}


def ours(s: int) -> tuple[float, float, np.ndarray]:
    """CPU-seconds to the goal, those of the whole training, and the Dice of each test patient after it."""
    seed(s)
    started = time.process_time()
    history = fit(SmallUNet(), data, seed=s, **hurry | {"target": GOAL, "validations": 10})
    reached = time.process_time() - started if history.reached_target else float("inf")
    seed(s)
    started, model = time.process_time(), SmallUNet()
    fit(model, data, seed=s, **hurry)
    return reached, time.process_time() - started, hearts.dice_of_patients(model, test).mean((1, 2))


# %%
plots.show_source(peers.monai_unet)


# %%
def theirs(s: int, until: float) -> tuple[float, np.ndarray]:
    """CPU-seconds of MONAI's pipeline to the goal, and the Dice of each test patient after `until` seconds."""
    reached, model = peers.monai_unet(data, goal=GOAL, until=until, limit=4 * until, seed=s)
    return reached, hearts.dice_of_patients(model, test).mean((1, 2))


# %%
mine, other = [], []
for s in range(RACES):
    mine.append(ours(s))
    other.append(theirs(s, mine[-1][1]))

# %% tags=["hide-input", "timing"]
first, second = np.array([m[0] for m in mine]), np.array([o[0] for o in other])
late = np.isinf(second)
at_least = "at least " if late.any() else ""
second = np.where(late, 4 * np.array([m[1] for m in mine]), second)  # as long as we let it run
missed = np.isinf(first)
first = np.where(missed, [m[1] for m in mine], first)  # likewise
whole_training = f"{np.mean([m[1] for m in mine]):.0f}"
ended = [f"{np.mean([m[2] for m in mine]):.3f}", f"{np.mean([o[1] for o in other]):.3f}"]

# %% tags=["hide-input", "timing"]
plots.table(
    [
        ["this book", f"{first.mean():.0f}", whole_training, ended[0]],
        ["MONAI's pipeline", f"{at_least}{second.mean():.0f}", "as long", ended[1]],
    ],
    [
        "pipeline",
        f"CPU-seconds to a Dice of {GOAL}",
        "CPU-seconds of the training",
        "Dice after it, test patients",
    ],
)

# %% tags=["hide-input", "timing"]
ahead = stats.over_patients([m[2] for m in mine], [o[1] for o in other])
plots.say(
    f"Time to a Dice of {GOAL}: MONAI's pipeline took {at_least}**{np.mean(second / first):.1f} times** as long as ours "
    f"(seeds: {', '.join(f'{r:.1f}' for r in second / first)}; ours missed it in {missed.sum()} of {RACES}, MONAI's in {late.sum()}). After equal time our Dice is higher by {ahead} on {len(test)} test patients "
    f"(interval over patients and {RACES} seeds)."
)

# %% [markdown]
# Does this say that MONAI is slow? No. The network, the arithmetic (bf16 against fp32), the loss and the learning rate all differ, ours were tuned for minutes on a processor and that pipeline was not, and it was stopped long before it converged: its Dice in the table is that of an unfinished
# training. Nothing in MONAI prevents any of our four choices, with its own transforms and losses. What the race shows is that such choices decide how long you wait.
#
# ## Pitfalls in medicine
#
# - **The mean is not a patient.** A mean Dice near .9 goes with single patients whose right ventricle is half missed. Look at the worst first.
# - **The base decides the volume.** Whether the topmost slice still belongs to the ventricle is a convention. Experts disagree there,
#   networks err there, and that slice is large.
# - **One hospital.** All these scans come from one hospital and two scanners. Chapter 18 tests such a network elsewhere.
#
# ## Summary
#
# - Split by patient, keep copies together, keep the diagnoses alike.
# - Find the heart by its motion; no mask of a test patient is looked at.
# - Five-fold cross-validation tests each patient once, on the scanner's own pixels.
# - A pipeline's speed is part of its quality: it decides how many experiments you can afford.
#
# ## Check yourself
#
# **1.** Dice is computed on the scanner's pixels and not on the square that the network saw. Why?
#
# - **A** The square has fewer pixels, so Dice would be less precise.
# - **B** What the square cuts off must count as an error.
# - **C** The expert's masks exist only in full images.
# - **D** On the square Dice would be lower.
#
# <details><summary>Answer</summary>
#
# **B.** The clinic needs the mask there. On the square a right ventricle that was cut off would not be
# missed, and Dice would rather be *higher*. C is false: masks can be cut like images.
#
# </details>
#
# **2.** Five-fold cross-validation with 80 patients. How many networks are trained, and how often is each
# patient tested?
#
# - **A** one network; once
# - **B** five networks; five times
# - **C** five networks; once
# - **D** eighty networks; once
#
# <details><summary>Answer</summary>
#
# **C.** Each fifth is tested by the one network that did not see it. D is leave-one-out, with 80 folds.
#
# </details>
#
# **3.** Patients 074 and 076 are one scan. What goes wrong if one is in the training set and the other in the
# test set?
#
# - **A** The network is tested on an image that it was trained on.
# - **B** The training set is smaller by one patient than it seems.
# - **C** The two masks contradict each other, so the loss cannot fall.
# - **D** Nothing, since two experts drew them.
#
# <details><summary>Answer</summary>
#
# **A.** That is leakage: part of the score is memory. B would be so if both were in the training set.
#
# </details>
#
# **4.** Someone trains for 100 epochs in each fold and reports, for each, the epoch with the best Dice on the
# fold that is tested. What is the cross-validated mean?
#
# - **A** right, since each network was trained without the fold
# - **B** too high, since a choice was made on the tested patients
# - **C** too low, since the best epoch differs between folds
# - **D** right if the epochs are similar
#
# <details><summary>Answer</summary>
#
# **B.** The choice of the epoch has looked at the answers. It has to be made on other patients, or be fixed
# beforehand.
#
# </details>
#
# **5.** Of 80 patients, 78 have a Dice of 0.91 and two have 0.20. What is the mean?
#
# - **A** 0.55
# - **B** 0.75
# - **C** 0.89
# - **D** 0.91
#
# <details><summary>Answer</summary>
#
# **C.** $(78 · 0.91 + 2 · 0.20) / 80 = 0.89$. Two hearts were missed, and the mean hardly shows it: look at
# the worst cases first.
#
# </details>
#
# **6.** Our pipeline reaches a Dice sooner than another toolkit's, with another network, another optimiser
# and another arithmetic. What has been shown?
#
# - **A** Our network is better than the one of the toolkit.
# - **B** The toolkit is slow, whatever network one trains in it.
# - **C** This pipeline as a whole is quicker than that one, on this machine.
# - **D** Arithmetic in bf16 is quicker than arithmetic in fp32.
#
# <details><summary>Answer</summary>
#
# **C.** Several things differ, and any of them may be the cause. A and D each name one; an ablation would be
# needed.
#
# </details>
#
# **7.** A network draws the left ventricle well in all slices but the topmost, which it leaves out. Dice
# falls by a little. What may the cardiologist notice first?
#
# - **A** nothing, since Dice is still high
# - **B** the outlines, which look rough
# - **C** the diagnosis, which Dice decides
# - **D** the volume, since slices at the base are large
#
# <details><summary>Answer</summary>
#
# **D.** A volume is the sum of the slices, and a missing large one takes several per cent away, always in the
# same direction. Whether that slice belongs to the ventricle is a convention, and experts disagree on it too.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: a smaller square
# :label: ex-11b-square
# Predict how Dice changes if the square has 150 mm instead of 200 mm. Then try it (`field=150` in `slices`, `segment` and `dice`).
# ```
#
# ```{solution} ex-11b-square
# :class: dropdown
# Two things pull apart: pixels become smaller, which helps thin walls; and large right ventricles are cut off, which counts as an error. Look at the
# patients with the largest hearts first.
# ```
#
# ```{exercise} ★ Predict: a wall of two pixels
# :label: ex-11b-wall
# Two structures have the same error, half a pixel too far out along every border: a disc of radius 15 pixels,
# and a ring between the radii 15 and 19. Which has the lower Dice, and by how much?
# ```
#
# ```{solution} ex-11b-wall
# :class: dropdown
# The disc grows from $15^2$ to $15.5^2$ (in units of $\pi$): $\mathrm{DSC} = 2 · 225 / (225 + 240.25) =
# 0.967$. The ring, between 14.5 and 19.5, has $19.5^2 - 14.5^2 = 170$ against $19^2 - 15^2 = 136$:
# $\mathrm{DSC} = 2 · 136 / (136 + 170) = 0.889$. The same hand looks much worse on the myocardium, for a thin
# structure is nearly all border.
# ```
#
# ```{exercise} ★★ Implement: the largest piece
# :label: ex-11b-piece
# Keep only the largest connected piece of each structure. Does the mean Dice change? Do the worst cases?
# ```
#
# ```{solution} ex-11b-piece
# :class: dropdown
# `pieces, _ = scipy.ndimage.label(mask == k)`, then keep the label with the largest `np.bincount(pieces.ravel())[1:]`. It can only remove voxels, so it helps where
# stray islands were drawn and harms where a structure truly has two pieces in the stack.
# ```
#
# ```{exercise} ★★ Implement: another measure
# :label: ex-11b-hd
# Add the 95th percentile of the Hausdorff distance (`metrics.hausdorff(…, percentile=95)`) to the table of patients. Is the order of the worst five the same?
# ```
#
# ```{solution} ex-11b-hd
# :class: dropdown
# Loop as `hearts.score` does and call the metric with `v.spacing`. A patient with one stray island moves far up in the order; one whose outline is a little too wide everywhere moves down.
# ```
#
# ```{exercise} ★★★ Investigate: several looks
# :label: ex-11b-looks
# Average the probabilities of the network for an image and for its turned copies. What does that cost, and what does it bring, with an interval over patients?
# ```
#
# ```{solution} ex-11b-looks
# :class: dropdown
# Turn by a few degrees with `medlib.augment.sample`, predict, turn back, average, then `argmax`. The cost is one forward pass a copy. Report the paired difference with `stats.over_patients`.
# ```
#
# ```{exercise} ★★★ Investigate: another hospital
# :label: ex-11b-other
# Put any other ACDC-style folder into `hearts.load(folder)` and score the five networks on it. Which structure suffers most?
# ```
#
# ```{solution} ex-11b-other
# :class: dropdown
# `[hearts.dice_of_patients(m, hearts.load(folder)) for m in models]` does it. Chapter 18 takes this up with hearts from another hospital.
# ```

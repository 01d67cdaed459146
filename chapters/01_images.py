# %% [markdown]
# # Images, numbers, noise
#
# *What do the numbers of a scan mean, and what spoils them?*
#
# A computer sees a scan as a block of numbers. **What do the numbers mean, what spoils them, and does one method
# suit them all?** The answer depends on the machine that made them. A {term}`network` that does not know it may be
# fooled by a change of scanner. (A network is a function with many free numbers, set from examples; chapter 02 opens one.)
#
# After this chapter you can read the shape of any medical image, turn CT numbers into a picture, say what a
# second X-ray dose buys, and check a data set for images that stand in two splits.

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
import numpy as np
import pydicom.examples
import torch
from skimage import data as skimage_data
from skimage.transform import iradon, radon

from medlib import claims, evaluate, fit, load, plots, profile, seed, stats
from medlib.claims import holds
from medlib.data import Dataset, Split, audit, shared_patients
from medlib.hearts.phantom import phantom
from medlib.metrics import auc
from medlib.models import LeNet

SEEDS = profile(smoke=2, full=5)

# %% [markdown]
# ## Six images, six kinds of numbers
#
# We line up one image of each kind. The CT and MR slices come with the package pydicom, the photograph of a retina
# and the stained tissue with scikit-image; the X-ray and the ultrasound image are from MedMNIST
# {cite:p}`yang2023medmnist`.

# %%
xray, breast = load("pneumoniamnist"), load("breastmnist")
ct, mr = pydicom.examples.ct, pydicom.examples.mr
retina, tissue = skimage_data.retina(), skimage_data.immunohistochemistry()
gallery = {
    "CT": ct.pixel_array,
    "MR": mr.pixel_array,
    "X-ray": xray.test.x[0, 0].cpu().numpy(),
    "ultrasound": breast.test.x[3, 0].cpu().numpy(),
    "fundus": retina,
    "histology": tissue,
}
plots.show(
    plots.grid(gallery.values(), list(gallery), columns=6, size=1.2),
    alt="Six images: a CT and an MR slice, a chest X-ray, a breast ultrasound, an eye fundus and stained tissue.",
    caption="Six kinds of image. The first four are grey, the last two have colour.",
    name="fig-modalities",
)

# %%
rows = [
    (name, " × ".join(map(str, image.shape)), image.dtype, f"{image.min():.3g} to {image.max():.4g}")
    for name, image in gallery.items()
]
plots.table(rows, ["image", "shape", "type here", "range"])

# %% [markdown]
# Six images, and hardly two alike: in size, in type, in range. (`load` has divided the bytes of the X-ray and the ultrasound image by 255, so their type is ours.)
#
# The book writes a {term}`batch` of images as a tensor, an array with axes $(B, C, H, W)$: $B$ images, $C$
# channels (1 for grey, 3 for
# colour; files often put them last, and we move them), $H$ rows, $W$ columns. A volume has one axis more, the slices: $(B, C, D, H, W)$.

# %% [markdown]
# ## The claims that we test
#
# The review opens with sentences on how the machines differ. Here is each that this chapter tests, with the rule, in
# italics, that decides it. The rules were written before the runs. Their words are explained as we come to them; a *modality* is a kind of image, such as CT or MR, a *CNN* a network of the kind of chapter 02, and a *majority baseline* always names the more frequent class.

# %% tags=["hide-input"]
claims.box("C003", "C004", "C005", "C080", "C081", "C108")

# %% [markdown]
# ## CT: numbers with a unit
#
# A CT scanner measures how strongly each small block of tissue weakens X-rays: its attenuation $\mu$, per
# centimetre. The image states it relative to water, in Hounsfield units (HU)
# {cite:p}`hounsfield1973computerized`, so that its {term}`grey values <grey value>` have a unit:
#
# $$
# \mathrm{HU} = 1000 \, \frac{\mu - \mu_\text{water}}{\mu_\text{water}} .
# $$ (eq-hu)
#
# Water is 0, air is −1000, bone several hundred. The file stores whole numbers; a slope and an intercept in its
# header turn them into HU.

# %% tags=["nbval-check-output"]
hu = ct.pixel_array * float(ct.RescaleSlope) + float(ct.RescaleIntercept)
print("stored:", ct.pixel_array.min(), "to", ct.pixel_array.max())
print("HU:    ", int(hu.min()), "to", int(hu.max()))
print("pixel: ", [round(float(s), 3) for s in ct.PixelSpacing], "mm, slice", float(ct.SliceThickness), "mm")

# %% [markdown]
# A screen shows 256 greys, a CT slice holds thousands of values. A *window* picks the range to see: all below it
# is black, all above it white. The same numbers give three pictures.

# %%
windows = {"lung": (-1000, 200), "soft tissue": (-160, 240), "bone": (-200, 1200)}
shown = [((hu - low) / (high - low)).clip(0, 1) for low, high in windows.values()]
plots.show(
    plots.grid(
        shown, [f"{n}: {low} to {high} HU" for n, (low, high) in windows.items()], columns=3, size=2.2
    ),
    alt="One CT slice three times: in the lung window, the soft-tissue window and the bone window.",
    caption="One CT slice through three windows. No value changed, only what is black and what is white.",
    name="fig-windows",
)

# %% [markdown]
# ## What does a dose buy?
#
# X-rays come as photons, and photons arrive at random. If a detector expects $N$ of them, it counts about
# $N \pm \sqrt{N}$. So the relative error is $1/\sqrt{N}$: four times the dose halves the noise. Does this survive
# the reconstruction of a slice? We simulate a scan, with photon noise as its only noise. (At very low dose a real detector's electronic noise
# comes on top, and the image gets worse faster; iterative and learnt reconstructions get less noise out of the same dose.)
#
# A disc of water holds two inserts: a dense one at 600 HU, like bone, and a soft one at 40 HU, like a lesion in the
# liver. `radon` adds up the attenuation along each ray, the photons are drawn, and `iradon` reconstructs the slice
# by filtered back-projection {cite:p}`kak1988principles`.

# %%
SIZE, WATER = 128, 0.0386  # pixels of 2 mm; attenuation of water per pixel
rows_, cols = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
disc = np.hypot(rows_, cols) < 52
dense, soft = np.hypot(rows_, cols + 25) < 9, np.hypot(rows_, cols - 25) < 9
plain = np.hypot(rows_ + 25, cols) < 9  # water, to measure the noise in
body = WATER * (disc + 0.6 * dense + 0.04 * soft)
angles = np.linspace(0, 180, profile(smoke=30, full=180), endpoint=False)
rays = radon(body, angles)


# %%
def scan(photons, rng):
    """A reconstructed slice in HU, with `photons` sent along each ray."""
    counted = rng.poisson(photons * np.exp(-rays)).clip(1)
    attenuation = iradon(-np.log(counted / photons), angles)
    return 1000 * (attenuation - WATER) / WATER


doses = 10 ** np.linspace(4, 6, profile(smoke=3, full=7))
slices = {(d, s): scan(d, np.random.default_rng(s)) for d in doses for s in range(2 * SEEDS)}

# %%
plots.show(
    plots.grid(
        [slices[d, 0] for d in doses[::3]],
        [f"{d:,.0f} photons" for d in doses[::3]],
        size=2.2,
        limits=(-200, 300),
    ),
    alt="Reconstructed discs, grainy at the lowest dose and smooth at the highest, with a bright and a faint insert.",
    caption="The simulated scan at rising dose, in a window from −200 to 300 HU. The dense insert is always "
    "there; the soft one has to be paid for.",
    name="fig-dose",
)

# %% [markdown]
# Two numbers describe it. The *noise* is the standard deviation in a patch of water. Reconstruction leaves a faint
# fixed pattern too, which no dose removes; the difference of two scans cancels it, and its standard deviation is
# $\sqrt{2}$ times the noise. The *contrast-to-noise ratio* (CNR) of an insert is its mean minus that of water, over the noise. Near 1, a single pixel no longer tells. The eye averages over many, so a large insert is still seen, and a small one drowns in the grain.
#
# Both are measured at each dose, on several pairs of scans. The slope of the line through the logarithms tells the
# power of the dose with which the noise falls: −1/2 if the square root holds.


# %%
def noise_of(d, s):
    """Standard deviation in water, in HU, from two scans at the same dose."""
    return (slices[d, s] - slices[d, s + SEEDS])[plain].std() / np.sqrt(2)


noise = np.array([[noise_of(d, s) for d in doses] for s in range(SEEDS)])
cnr = {
    name: np.array(
        [[slices[d, s][mask].mean() - slices[d, s][plain].mean() for d in doses] for s in range(SEEDS)]
    )
    / noise
    for name, mask in (("dense", dense), ("soft", soft))
}
slopes = [np.polyfit(np.log(doses), np.log(row), 1)[0] for row in noise]
slope = stats.interval(slopes)

# %%
figure, (left, right) = plots.panels(2, height=2.9)
left.loglog(doses, noise.mean(0), "o-", label="measured")
left.loglog(doses, noise.mean(0)[0] * (doses / doses[0]) ** -0.5, "k:", label="slope −1/2")
left.set(
    xlabel="photons per ray",
    ylabel="noise in water (HU)",
    yticks=(10, 20, 40, 80),
    yticklabels=(10, 20, 40, 80),
)
left.minorticks_off()
for name, values in cnr.items():
    right.loglog(doses, values.mean(0), "o-", label=f"{name} insert")
right.axhline(1, color="0.6", linestyle=":")
right.set(xlabel="photons per ray", ylabel="contrast-to-noise ratio")
for axis in (left, right):
    axis.legend(fontsize=8)
plots.show(
    figure,
    alt="Left: noise falls along a straight line of slope minus one half. Right: both CNRs rise, the dense one far above.",
    caption="Left: noise against dose, both on logarithmic axes. Right: contrast-to-noise ratio of the two inserts; "
    "at the dotted line, the contrast is as large as the noise.",
    name="fig-cnr",
)

# %% tags=["hide-input"]
advantage = (cnr["dense"] - cnr["soft"])[:, len(doses) // 2].mean()
plots.say(
    f"The fitted slope is **{slope.mean:.3f}** (95 % interval {slope.low:.3f} to {slope.high:.3f}, {SEEDS} pairs of scans "
    f"at each dose). To halve the noise takes {2 ** (-1 / slope.mean):.1f} times the dose. At the middle dose the dense insert "
    f"has a CNR of {cnr['dense'][:, len(doses) // 2].mean():.0f}, the soft one {cnr['soft'][:, len(doses) // 2].mean():.1f}."
)

# %% [markdown]
# ## MR: thick slices, thin pixels
#
# Magnetic resonance imaging (MRI) uses no X-rays and shows soft tissue well, but it is slow. A heart does not
# wait, so cardiac scans take few, thick slices. We read the {term}`spacing` from the header of a real MR file (not of a heart), and look at
# the book's {term}`phantom` of a beating heart, which has the spacing of a common cardiac protocol.

# %%
heart = phantom(1, seed=3, phases=(0.0,))
in_plane = float(mr.PixelSpacing[0])
between = float(getattr(mr, "SpacingBetweenSlices", mr.SliceThickness))
ratios = {"MR file of pydicom": between / in_plane, "heart phantom": heart.spacing[0] / heart.spacing[1]}
plots.table(
    [("MR file of pydicom", f"{between:g}", f"{in_plane:.3g}", f"{ratios['MR file of pydicom']:.1f}"),
     ("heart phantom", f"{heart.spacing[0]:g}", f"{heart.spacing[1]:.3g}", f"{ratios['heart phantom']:.1f}")],
    ["", "between slices (mm)", "in a slice (mm)", "ratio"],
)  # fmt: skip

# %%
stack = heart.image[0, 0]  # (D, H, W)
figure, (left, right) = plots.panels(2, width=7, height=2.6, width_ratios=(1, 1.2))
left.imshow(stack[5], vmin=0, vmax=1)
left.set_title("in a slice")
right.imshow(stack[:, 62], vmin=0, vmax=1, aspect=heart.spacing[0] / heart.spacing[2])
right.set_title("across the slices")
for axis in (left, right):
    axis.axis("off")
plots.show(
    figure,
    alt="Left: a round heart in a slice. Right: the same heart cut across the slices, in coarse horizontal bands.",
    caption="The phantom's heart seen in one slice, and cut across all ten. Each band is 10 mm thick, and breathing "
    "has shifted the bands against each other.",
    name="fig-anisotropy",
)

# %% [markdown]
# This is why chapters 17 and 18 ask whether a network should look at slices one by one, or at the whole volume.
#
# MR noise has a trap. The scanner measures a complex number and stores its size. Noise in both parts makes the size
# of *nothing* positive: a Rice distribution {cite:p}`gudbjartsson1995rician`. So in MR the background is not zero on
# average, and noise does not average out where the signal is weak.

# %%
rng = np.random.default_rng(0)
signal = np.array([0, 0.5, 1, 2, 4, 8])  # in units of the noise
measured = np.abs(signal + rng.normal(size=(100_000, 6)) + 1j * rng.normal(size=(100_000, 6))).mean(0)
plots.table([(f"{s:g}", f"{m:.2f}", f"{m - s:+.2f}") for s, m in zip(signal, measured, strict=True)],
            ["true signal / noise", "mean of what is stored", "bias"])  # fmt: skip

# %% [markdown]
# ## Ultrasound: grain that is not noise
#
# Ultrasound adds the echoes of many scatterers too small to see. They interfere, and the sum is bright or dark at
# random: *speckle*. The sum of many random arrows has a length whose mean is $\sqrt{\pi/(4-\pi)} \approx 1.91$ times
# its standard deviation, however strong the tissue reflects {cite:p}`burckhardt1978speckle`. Speckle therefore
# grows with the signal. And it stays: hold the probe still and the same grain returns, so averaging repeats does not
# remove it. (In the cell the second tissue is the first one times four, so that its ratio is the same by construction; what the simulation shows is the 1.91.)

# %%
arrows = rng.normal(size=(200, 50_000)) + 1j * rng.normal(
    size=(200, 50_000)
)  # 200 scatterers in 50,000 pixels
for strength in (1, 4):
    length = np.abs(strength * arrows.sum(0))
    print(
        f"tissue {strength}: mean {length.mean():5.1f}, sd {length.std():4.1f}, ratio {length.mean() / length.std():.2f}"
    )

# %%
plots.show(
    plots.grid(breast.train.x[:8], [breast.classes[y] for y in breast.train.y[:8]], size=1.0),
    alt="Eight small breast ultrasound images in layers of light and dark.",
    caption="Breast ultrasound (BreastMNIST, CC BY 4.0), at 28 × 28 pixels: too coarse to show single speckles.",
    name="fig-breast",
)

# %% [markdown]
# ## Are the splits clean?
#
# A data set comes in three *splits*: images to train on, images to make choices with
# (*validation*), and images to report on, the test set. A network may remember its training images. If one of them
# also stands among the images that judge it, the score is too good: this is {term}`leakage`. So the first thing to do with any set is to look for images that stand in two splits, pixel for
# pixel. A second image of the same patient is not such a copy, and to find it one must know who the patients are.
# MedMNIST does not say. The names of the files that PneumoniaMNIST was made from do, and most of its images could be
# traced to theirs, so `audit` counts there; for BreastMNIST nobody can.

# %%
pairs = audit(xray)
breast_pairs = audit(breast)

# %%
if pairs:
    twins = [getattr(xray, part).x[i] for pair in pairs for part, i in (pair[:2], pair[2:])][:16]
    titles = [f"{part} {i}" for pair in pairs for part, i in (pair[:2], pair[2:])][:16]
    plots.show(
        plots.grid(twins, titles),
        alt="Pairs of identical chest X-rays side by side, each from two splits.",
        caption="The first pairs of PneumoniaMNIST images that stand in two splits, side by side.",
        name="fig-twins",
    )

# %% tags=["hide-input"]
plots.say(
    f"In PneumoniaMNIST as released, **{len({(b, j) for _, _, b, j in pairs if b == 'val'})}** of the "
    f"{len(xray.val.x):,} validation images also stand in the training set ({len(pairs)} pairs, since a training image "
    f"may itself be there twice), and {len({j for a, _, b, j in pairs if 'test' in (a, b)})} test images do. In "
    f"BreastMNIST there {'is' if len(breast_pairs) == 1 else 'are'} **{len(breast_pairs)}** such "
    f"pair{'s' * (len(breast_pairs) != 1)}, and {sum(bool(breast.train.y[i] != breast.test.y[j]) for _, i, _, j in breast_pairs)} of "
    "them with two different labels, of which one must be wrong. We keep the "
    "splits as released, to stay comparable, and say so."
)

# %% [markdown]
# The larger leak of PneumoniaMNIST is not its copies but its patients: 225 of the 524 validation images show a child
# who is also in the training set. The validation score, by which `fit` keeps a training's best step, is
# therefore too friendly. The test score is not, as far as one can know: none of the 557 test images that could be
# traced shows a child of the other splits, and 67 could not. From here on, each verdict on these X-rays counts
# children and not images; an image that could not be traced counts as a child of its own.

# %% tags=["hide-input"]
shared = shared_patients(xray)
traced = sum(not who.startswith("unknown") for who in xray.test.whose) if shared else 0
holds("225 of the 524 validation images show a child of the training set; of 557 traced test images none does",
      shared == {"val": 225, "test": 0} and traced == 557 and len(xray.val.y) == 524)  # fmt: skip

# %% [markdown]
# ## One small network for three of them?
#
# The review says that deep learning “could match” the kinds of images. The weakest form of this can be tested: the
# same small network, LeNet of chapter 02, with the same settings, must beat chance on three of them: X-ray, ultrasound
# and MR. Treat it as a box for now: an image goes in, a number comes out, and `fit` sets what is inside from the training images.
#
# The score is the {term}`AUC`: the chance that a random sick case gets a higher number than a random healthy one. A
# coin gets 0.5. Training begins at random, so we repeat it with several *seeds*, the numbers that fix all random choices. The interval
# beside each AUC says how far off it may be, since other seeds and other test images would have given another number (see {doc}`../book/notation`).
#
# For MR we take the heart phantom, normal hearts against dilated ones, since none of the small labelled sets holds MR. **It is
# simulated**, and far easier than a clinic.

# %%
sizes_ = profile(smoke=(60, 20, 40), full=(300, 100, 200))
hearts = phantom(
    sum(sizes_), phases=(0.0,), shape=(1, 28, 28), spacing=(10, 5, 5), noise=0.15, groups=("NOR", "DCM")
)
parts = [Split(hearts.image[i, 0], hearts.group[i]) for i in torch.arange(sum(sizes_)).split(sizes_)]
mri = Dataset("phantom", ("normal", "dilated"), *parts, source="simulated")
trio = {"X-ray (PneumoniaMNIST)": xray, "ultrasound (BreastMNIST)": breast, "MR (phantom)": mri}

# %%
STEPS = profile(smoke=10, full=300)
found = {}
for name, dataset in trio.items():
    runs, standard = [], dataset.standardise()
    for s in range(SEEDS):
        seed(s)
        model = LeNet(1, 2)
        fit(model, standard, steps=STEPS, seed=s, validations=10)
        logits = evaluate(model, standard.test).logits.cpu()
        runs.append((logits[:, 1] - logits[:, 0]).numpy())
    found[name] = stats.over_cases(auc, runs, dataset.test.y.cpu().numpy(), whose=dataset.test.whose)

# %%
plots.table([(name, f"{len(trio[name].test.y):,}", "0.500", str(r)) for name, r in found.items()],
            ["kind of image", "test images", "chance", f"LeNet, test AUC, {SEEDS} seeds [95 % interval]"])  # fmt: skip

# %% [markdown]
# ## Verdicts
#
# Only C005 is an experiment, and its “every modality” is three here, one of them simulated. C003 follows from the inserts that we put into the simulation, which could not have
# refuted it; and CNR is contrast, not resolution. C081 is read from a description of a scan, and its rule looks at the spacing alone; whether that makes segmenting hard is asked in chapter 17.

# %% tags=["hide-input"]
claims.observe("C003", advantage, n=SEEDS, where="CNR at equal dose, simulated scan")

# %% tags=["hide-input"]
claims.untestable("C004")

# %% tags=["hide-input"]
for name, r in found.items():
    claims.observe("C005", r.shifted(-0.5), where=name)

# %% [markdown]
# “Match” can mean more than “beat chance”: as well as a radiologist, say. These sets hold no reader to compare with,
# so that stronger reading stays open.

# %% tags=["hide-input"]
claims.untestable("C080")

# %% tags=["hide-input"]
claims.observe("C081", 8 / 1.25, n=1, where="the volunteer of the cMAC challenge, 1.25 by 1.25 by 8 mm")

# %% [markdown]
# C108 calls medical data “mostly volumetric”. One public collection can be counted: MedMNIST v2 lists 708,069
# flat images and 9,998 volumes {cite:p}`yang2023medmnist`, so 1.4 % of its items are volumes. But many of the flat ones were made from volumes: those of OrganA,
# OrganC and OrganS are slices cut from CT, and each of TissueMNIST shows the largest values over seven slices of a microscope. Counted as volumes, they bring the share to 49.3 %. So the answer
# hangs on what is called an item, and on what the makers of the collection chose.

# %% tags=["hide-input"]
flat, volumes = 708_069, 9_998
made = 58_830 + 23_583 + 25_211 + 236_386  # of the flat ones: OrganA, OrganC, OrganS, TissueMNIST
share, of_volumes = (100 * k / (flat + volumes) for k in (volumes, volumes + made))
holds("1.4 % of the items are volumes; with those made from volumes, 49.3 %",
      abs(share - 1.4) < 0.05 and abs(of_volumes - 49.3) < 0.05)  # fmt: skip
claims.untestable("C108")

# %% [markdown]
# ## Pitfalls in medicine
#
# - **A window is a choice.** Clip CT to a lung window and the bone is gone for good.
# - **Grey values of MR have no unit.** The same tissue reads differently on the next scanner.
# - **Spacing belongs to the image.** Ten slices of 10 mm are 100 mm; without the spacing they are ten pixels.
# - **Noise is not always Gaussian**: Poisson in CT's rays, Rician in MR, speckle in ultrasound.
#
# ## Summary
#
# - An image is a tensor with a spacing, a range and a story of how it was made.
# - CT numbers have a unit, HU: water is 0, air −1000. MR numbers have none.
# - In CT with filtered back-projection, photon noise falls with the square root of the dose: quality is paid for in X-rays.
# - A common cardiac MR protocol is several times coarser across slices than within them.
# - Look for copies across splits before you train anything.

# %% [markdown]
# ## Check yourself
#
# **1.** A pixel of a CT slice is stored as 1,100. The header gives slope 1 and intercept −1024. What lies
# there?
#
# - **A** bone, since the number is above 1,000
# - **B** soft tissue, at 76 HU
# - **C** air, since the intercept is near −1000
# - **D** nothing can be said without a window
#
# <details><summary>Answer</summary>
#
# **B.** 1,100 · 1 − 1024 = 76 HU, a little above water. A reads the stored number as if it were HU. A window
# (D) changes what is shown, never what is stored.
#
# </details>
#
# **2.** By which factor must the dose rise to bring the noise from 30 to 10 HU?
#
# - **A** 3
# - **B** about 1.7
# - **C** 27
# - **D** 9
#
# <details><summary>Answer</summary>
#
# **D.** The noise falls with the square root of the dose. To divide it by 3, multiply the dose by $3^2$. A
# would be right if noise fell in proportion to the dose.
#
# </details>
#
# **3.** Where there is no tissue, an MR image is not black on average. Why?
#
# - **A** It shows the size of a complex number, and noise makes that size positive.
# - **B** The scanner adds a constant, so that no stored number is negative.
# - **C** The window is set too wide, so that black turns into dark grey.
# - **D** Air gives a weak signal, which the coil amplifies more than that of tissue.
#
# <details><summary>Answer</summary>
#
# **A.** Noise in the real and in the imaginary part has mean zero; the length of the arrow they make has not.
# B is a plausible habit of software, but the bias is there before any number is stored.
#
# </details>
#
# **4.** You average ten repeats of each image, with patient and machine held still. In which does the grain
# *not* become weaker?
#
# - **A** in CT, where photons arrive at random
# - **B** in MR, where tissue is bright
# - **C** in ultrasound, where it is speckle
#
# <details><summary>Answer</summary>
#
# **C.** Speckle is the sum of echoes of scatterers that did not move: the same grain returns each time. In CT
# and in bright MR regions the noise is drawn anew for each image and averages out.
#
# </details>
#
# **5.** A stack of MR slices has the shape (10, 128, 128) and the spacing 10 × 1.5 × 1.5 mm. A tumour fills 4
# slices, 8 rows and 8 columns of it. Which is true?
#
# - **A** It is largest across the slices: 40 mm.
# - **B** It is largest within the slice: 8 pixels against 4.
# - **C** It is a cube, but for rounding.
# - **D** Its shape cannot be known from voxels.
#
# <details><summary>Answer</summary>
#
# **A.** 4 · 10 mm = 40 mm across the slices, 8 · 1.5 mm = 12 mm within. B counts voxels and forgets that they
# are not cubes.
#
# </details>
#
# **6.** A colleague splits 5,000 slices of 200 patients at random into training and test set, and finds no
# two identical images across them. Is the test honest?
#
# - **A** Yes: no image stands in both, so nothing can be remembered.
# - **B** Yes, if the classes are equally frequent in both parts.
# - **C** No: 5,000 slices are too few for a test set.
# - **D** No: slices of one patient are in both, and they are alike.
#
# <details><summary>Answer</summary>
#
# **D.** The next slice of a patient is nearly the same image, and shares scanner, body and label. Split by
# patient. The search for exact copies (A) finds the crudest leakage only.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ```{exercise} ★ Predict: fewer angles
# :label: ex-01-angles
# On a CPU the scan uses 180 angles. Predict what the slice looks like with 30, then run it.
# ```
#
# ```{solution} ex-01-angles
# :class: dropdown
# Streaks. Filtered back-projection needs about as many angles as there are pixels across; with too few, each
# ray leaves a trace that the others do not cancel. At the same number of photons per ray it is also a sixth
# of the dose.
#
# To run it, set `angles = np.linspace(0, 180, 30, endpoint=False)` and `rays = radon(body, angles)` before
# `scan`.
# ```
#
# ```{exercise} ★ Predict: twice the pixels
# :label: ex-01-pixels
# A detector is divided into pixels of half the side, at the same dose. What happens to the relative noise of
# one pixel? And of the sum of the four that replace one?
# ```
#
# ```{solution} ex-01-pixels
# :class: dropdown
# Each new pixel gets a quarter of the photons, $N/4$. Its relative noise is $1/\sqrt{N/4} = 2/\sqrt{N}$:
# twice as large. The sum of the four has $N$ photons and the old noise, $1/\sqrt{N}$. Nothing is lost by fine
# pixels, but one must not look at them one by one.
# ```
#
# ```{exercise} ★★ Implement: two windows in one picture
# :label: ex-01-window
# Write a function that shows the lung and the bone window of one slice as two colour channels of one image.
# ```
#
# ````{solution} ex-01-window
# :class: dropdown
# ```python
# def two_windows(hu):
#     shown = [((hu - low) / (high - low)).clip(0, 1) for low, high in (windows["lung"], windows["bone"])]
#     return np.stack([*shown, np.zeros_like(hu)], axis=-1)  # red, green, blue
#
#
# plots.grid([two_windows(hu)], ["lung red, bone green"])
# ```
#
# Soft tissue, high in the lung window and low in the bone window, is red; dense bone, at the top of both, is
# yellow.
# ````
#
# ```{exercise} ★★ Implement: copies that were turned
# :label: ex-01-turned
# `audit` finds exact copies. Write a search that also finds images which stand in two splits mirrored left to
# right.
# ```
#
# ````{solution} ex-01-turned
# :class: dropdown
# A mirrored copy is an exact copy of the mirror image. Compare the bytes, here of training and test images:
#
# ```python
# def mirrored(dataset):
#     seen = {x.cpu().numpy().tobytes(): i for i, x in enumerate(dataset.train.x)}
#     flipped = dataset.test.x.flip(-1)
#     return [(seen[key], j) for j, x in enumerate(flipped) if (key := x.cpu().numpy().tobytes()) in seen]
#
#
# mirrored(xray)
# ```
#
# A dictionary makes it one look-up an image. It still misses a copy whose brightness changed by one step; for
# these, compare each pair's correlation, which costs more.
# ````
#
# ```{exercise} ★★★ Investigate: can you denoise for free?
# :label: ex-01-denoise
# Blur the low-dose slices with a Gaussian filter of growing width. Plot the CNR of the soft insert, and the
# width of the dense insert's edge. What did the higher CNR cost?
# ```
#
# ```{solution} ex-01-denoise
# :class: dropdown
# Use `scipy.ndimage.gaussian_filter(slices[doses[0], s], width)`. Take the noise from differences of two
# blurred scans, as above, for each width; measure the edge along a line through the dense insert, as the
# distance from 10 % to 90 % of its height.
#
# The CNR rises at first, because the noise averages out, and falls once the filter is as wide as the insert;
# the edge widens by the same filter. Below the size of the insert you trade resolution for noise, and small
# lesions go first.
# ```
#
# ```{exercise} ★★★ Investigate: a change of scanner
# :label: ex-01-scanner
# Train LeNet on the X-rays as they are. Then test it on the same test images made brighter or darker: $x
# \leftarrow x^{\gamma}$ with $\gamma$ from 0.5 to 2. How does the AUC fall, and how does the accuracy?
# ```
#
# ```{solution} ex-01-scanner
# :class: dropdown
# After a fit of the loop above, with `standard = xray.standardise()`, change the raw test images and
# standardise these: copy the data set with `dataclasses.replace(xray,
# test=xray.test._replace(x=xray.test.x**gamma))`, then `.standardise()` as before, which uses the mean of the *training* images.
#
# Expect the accuracy to fall sooner than the AUC. AUC looks only at the order of the cases, and a shift of
# all of them keeps the order; accuracy uses a fixed threshold, which the shift crosses. The pitfall:
# standardising the changed images by their own mean hides the effect, or cures it, as a clinic might.
# ```

"""medlib: the small shared package of the book. Each idea once, in a file to read in
one sitting.

Images and training
data       Dataset, Split, and what is checked of them
readers    load(name): a set of the registry, or its stand-in
fetch      finds a file in cache, mirror or upstream, and verifies it
augment    warp, affine and elastic changes of images and masks
train      fit, predict, evaluate: the training loop
checkpoint the history of a training, and the store that keeps it
experiment repeat: one network, many seeds; compare: several networks
losses     Dice and its kin, focal loss, U-Net's weight map
metrics    accuracy, AUC, calibration error; Dice, IoU and surface distances in mm
stats      intervals, paired tests, Holm's correction
cost       parameters, multiply-adds, milliseconds
explain    Grad-CAM, and whether it is about the network
baselines  classical classifiers, to be beaten first
graphcut   maximum flow, and the cut that splits an image at the least cost
zoo        trained networks that travel with the book, with their cards
beside     a reader's run beside the published one
pretrained ImageNet weights, and training at full size
peers      other toolkits' pipelines, to stand beside ours
plots      figures, tables and source listings, in one style
diagram/   drawings of networks, made from the networks themselves
claims     the review's claims: observe an effect, print the verdict

Networks
models/    one file a paper, under the paper's name
attention/ drop-in modules, one file a family: feature maps in, feature maps of the same
           shape out

Hearts
hearts/    readers of cohorts, the square around the heart, segmentation, function,
           motion, and a phantom whose masks, volumes and motion are known exactly

Underneath
device     profile, precision, device, seed
content    the key of a training: code, arguments and data as one digest
notes      what a run has seen, for whoever listens
paths      where files lie
extras     the error for a package that is not here
doctor     is this machine ready? python -m medlib doctor
"""

from importlib import import_module

_HOME = {  # name → module; imported on first use: to read the claims needs no torch
    "compare": "experiment", "evaluate": "train", "fit": "train", "load": "readers",
    "profile": "device", "repeat": "experiment", "seed": "device",
}  # fmt: skip
__all__ = ["compare", "evaluate", "fit", "load", "profile", "repeat", "seed"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"medlib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'medlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

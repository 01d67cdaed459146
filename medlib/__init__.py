"""medlib: the small shared package of the book. Each idea once, in a file to read in
one sitting.

models/    one file a paper, under the paper's name
attention/ drop-in modules, one file a family: maps in, maps of the same shape out
data       images with labels in three splits, checked before they are believed
fetch      files from cache, mirror or upstream, verified
readers    load(name) → a data set, or a stand-in that says so
augment    images, and masks with them, turned, moved and recoloured
hearts/    cardiac MRI: patients, squares, volumes, motion, a phantom
train      device, seed, profile, fit, repeat, evaluate
pretrained ImageNet weights for the full-size networks
baselines  classical classifiers, to be beaten first
losses     Dice and its kin, focal loss, U-Net's weight map
graphcut   maximum flow, and the cut that splits an image at the least cost
metrics    accuracy, AUC, calibration error; Dice, IoU and surface distances in mm
cost       parameters, multiply-adds, milliseconds
explain    Grad-CAM, and whether it is about the network
stats      intervals, paired tests, Holm's correction
claims     the review's claims: observe an effect, print the verdict
plots      figures, tables and source listings, in one style
peers      other toolkits' pipelines, to stand beside ours
chapters   runs the chapters, stamps them, says which are stale
"""

from importlib import import_module

_HOME = {  # name → module; imported on first use: to read the claims needs no torch
    "evaluate": "train", "fit": "train", "load": "readers",
    "profile": "device", "repeat": "train", "seed": "device",
}  # fmt: skip
__all__ = ["evaluate", "fit", "load", "profile", "repeat", "seed"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"medlib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'medlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

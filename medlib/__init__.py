"""medlib: the small shared package of the book. Each idea once, in a file to read in
one sitting.

models/    one file a paper, under the paper's name
attention/ drop-in modules, one file a family: maps in, maps of the same shape out
data       load(name) → images and labels, from cache, mirror or upstream, checksum
           verified
phantom    a beating heart whose masks, volumes and motion are known exactly
train      device, seed, profile, fit, repeat, evaluate
pretrained ImageNet weights for the full-size networks
baselines  classical classifiers, to be beaten first
cardiac    ACDC-style folders: reading, splitting patients, preparing slices, segmenting
           volumes
sunnybrook hearts of another hospital, to test on
function   cardiac function from masks: volumes, ejection fraction, wall thickness
cine       two moments of a heart as pairs, and masks carried between them
motion     fields of motion: reading along them, chaining, flowing, strain; classical
           estimators
losses     Dice and its kin, focal loss, U-Net's weight map
graphcut   maximum flow, and the cut that splits an image at the least cost
metrics    accuracy, AUC, calibration error; Dice, IoU and surface distances in mm
cost       parameters, multiply-adds, milliseconds
explain    Grad-CAM, and whether it is about the network
stats      intervals, paired tests, Holm's correction
claims     the review's claims: observe an effect, print the verdict
plots      figures, tables and source listings, in one style
peers      other toolkits' pipelines, to stand beside ours
"""

from importlib import import_module

_HOME = {  # name → module; imported on first use: to read the claims needs no torch
    "evaluate": "train", "fit": "train", "load": "data",
    "profile": "device", "repeat": "train", "seed": "device",
}  # fmt: skip
__all__ = ["evaluate", "fit", "load", "profile", "repeat", "seed"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"medlib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'medlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

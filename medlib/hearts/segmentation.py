"""Segmenting whole volumes: the network works on the square around the heart, its
answer goes back to the scanner's grid, and Dice is taken there, volume by volume.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from medlib import losses, metrics
from medlib.augment import random_affine
from medlib.hearts.cohorts import LABELS, Patient, masks_of
from medlib.hearts.square import PIXEL, prepare, window
from medlib.train import predict

# what `medlib.fit` takes for a U-Net on hearts; chosen on validation patients
RECIPE = {
    "lr": 5e-3,
    "batch_size": 16,
    "loss": losses.dice_ce,
    "score": losses.mean_dice,
    "augment": random_affine(),
    "validations": 1,
    "keep": "last",
}


@torch.no_grad()
def segment(
    model: nn.Module,
    patient: Patient,
    *,
    side: int = 128,
    field: float = 128 * PIXEL,
    whole: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks at ED and ES, (D, H, W) uint8 on the scanner's grid. `side`, `field`: as
    the model was trained. `whole`: it takes whole stacks, (B, 1, D, H, W), rather than
    slices.

    The network's probabilities go back to the scanner's pixels; outside the square all
    is background.

    Raises ValueError where the logits are NaN.
    """
    cut = window(patient, side, field)
    x = prepare(patient, cut)
    if whole:
        logits = (
            predict(model, x.view(2, 1, -1, side, side)).transpose(1, 2).flatten(0, 1)
        )
    else:
        logits = predict(model, x)
    metrics.expect_finite(logits)
    chances = logits.softmax(1).cpu()
    labels = cut.paste(chances).argmax(1).numpy().astype(np.uint8) * cut.covers()
    return labels[: len(labels) // 2], labels[len(labels) // 2 :]


def dice_of_patients(
    model: nn.Module, patients: Iterable[Patient], **square
) -> np.ndarray:
    """(patients, 2, 3): Dice at ED and ES of RV, myocardium and LV, volume by volume on
    the scanner's grid. `square`: what `segment` takes.
    """
    return np.array([score(segment(model, p, **square), p) for p in patients])


def score(
    masks: tuple[np.ndarray, np.ndarray] | np.ndarray, patient: Patient
) -> np.ndarray:
    """(2, 3): Dice of two masks, at ED and ES, against the patient's own, for RV,
    myocardium and LV.

    Raises DataError for a patient without masks.
    """
    found = []
    for mask, truth in zip(masks, masks_of(patient), strict=True):
        labels = range(1, len(LABELS))
        found.append([metrics.dice(mask == k, truth == k) for k in labels])
    return np.array(found)

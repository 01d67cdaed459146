"""Losses of segmentation, from logits (B, C, H, W) and masks (B, H, W) of labels 0 to
C − 1, of any integer type.

Volumes work too: (B, C, D, H, W) and (B, D, H, W). All are scalars, lower is better, in
fp32, and NaN where a logit is NaN, so that a training sees it. Other shapes, types and
labels raise ValueError.
"""

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from medlib.metrics import expect_finite


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 − Dice of the classes but the background, with probabilities for masks (after
    Milletari et al. 2016).

    Sums run over the whole batch, so that a slice without a heart does not weigh as
    much as one with it. The 1 above and below makes a class that nobody has, neither
    truth nor answer, cost nothing.
    """
    p, g = _by_class(logits, target)
    both, sizes = (p * g).sum(1), p.sum(1) + g.sum(1)
    return 1 - ((2 * both + 1) / (sizes + 1))[1:].mean()


def _by_class(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth, (C, pixels) each."""
    labels = _labels(logits, target)
    p = logits.float().softmax(1).transpose(0, 1).flatten(1)
    return p, F.one_hot(labels, len(p)).flatten(0, -2).T.float()


def _labels(logits: Tensor, target: Tensor) -> Tensor:
    """`target` as int64, once it fits the logits."""
    given, classes = tuple(logits.shape), logits.shape[1] if logits.ndim > 1 else 0
    if classes < 2 or not logits.numel():
        raise ValueError(
            f"logits {given}; expected (B, C, H, W), C = 2 or more with the "
            "background: of a single channel z make torch.cat([0 * z, z], 1)"
        )
    fits = given[:1] + given[2:]
    if target.shape != fits:
        raise ValueError(
            f"target {tuple(target.shape)} for logits {given}; expected {fits}, a "
            "label a pixel: no axis of channels, and cut to the size of the logits"
        )
    if target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError(
            f"target of {target.dtype}; expected integer labels 0 to {classes - 1}, "
            "such as target.long()"
        )
    labels = target.long()
    # On a GPU a look at the labels would make every step wait for it; there the kernels
    # assert.
    if labels.device.type == "cpu":
        low, high = (int(label) for label in labels.aminmax())
        if low < 0 or high >= classes:
            raise ValueError(
                f"target: label {low if low < 0 else high} has no channel; expected 0 "
                f"to {classes - 1}. Map it to a class, or leave those pixels out of "
                "the loss"
            )
    return labels


def vnet_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 − D of Milletari et al. (2016, section 3), whose denominator has squares: D = 2
    Σ p g / (Σ p² + Σ g²), averaged over the classes but the background. Sums run over
    the whole batch. A class that nobody has costs 1, whatever the answer, and pulls at
    no weight.
    """
    p, g = _by_class(logits, target)
    both, sizes = (p * g).sum(1), (p**2).sum(1) + (g**2).sum(1)
    return 1 - (2 * both / sizes.clamp(min=1))[1:].mean()


def tversky(
    logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7
) -> Tensor:
    """1 − the index of Tversky (Salehi et al. 2017), a Dice that weighs what was added
    wrongly by α and what was missed by β; α = β = ½ is Dice. Averaged over the classes
    but the background; a class that nobody has costs nothing.
    """
    p, g = _by_class(logits, target)
    both = (p * g).sum(1)
    added, missed = (p * (1 - g)).sum(1), ((1 - p) * g).sum(1)
    return 1 - ((both + 1) / (both + alpha * added + beta * missed + 1))[1:].mean()


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Cross-entropy whose weight falls as (1 − p)^γ where the true class already has
    the probability p (Lin et al. 2017); γ = 0 is cross-entropy.
    """
    labels = _labels(logits, target)
    log_p = -F.cross_entropy(logits.float(), labels, reduction="none")
    # Below γ = 1 the power has an infinite slope at 0, where all is right.
    missing = (1 - log_p.exp()).clamp(min=1e-12)
    return (-(missing**gamma) * log_p).mean()


def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice plus cross-entropy: Dice sees the structures, cross-entropy gives each
    pixel a gradient.
    """
    entropy = F.cross_entropy(logits.float(), _labels(logits, target))
    return soft_dice(logits, target) + entropy


def mean_dice(logits: Tensor, target: Tensor) -> float:
    """A score for `fit`, higher is better: Dice of the labelled pixels of all images
    together, averaged over the classes but the background that truth or answer holds;
    NaN where they hold none. Dice per patient: hearts.dice_of_patients.

    Raises ValueError for logits that are NaN.
    """
    labels = _labels(logits, target.cpu())
    expect_finite(logits)
    found, k = logits.argmax(1).cpu(), logits.shape[1]
    both = torch.bincount(labels[found == labels], minlength=k)[1:]
    sizes = torch.bincount(torch.cat([found.flatten(), labels.flatten()]), minlength=k)
    occurs = sizes[1:] > 0
    return (2 * both[occurs] / sizes[1:][occurs]).mean().item()


def border_weight(target: Tensor, *, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """U-Net's weight map (Ronneberger et al. 2015, Eq. 2) of object numbers (B, H, W),
    0 being background: about 1 everywhere, and up to w0 more on background pixels
    between two objects that nearly touch.

    w = 1 + w0 · exp(−(d1 + d2)² / 2σ²), d1 and d2 in pixels to the nearest and second
    nearest object. Two departures: the paper adds the second term at every pixel, here
    it stands on the background alone; and its w_c, which balances the classes, is 1.

    Raises ValueError for other shapes, other numbers than whole ones from 0, and a σ
    that is not positive.
    """
    if target.ndim != 3 or target.is_floating_point() or (target < 0).any():
        raise ValueError(
            f"target {tuple(target.shape)} of {target.dtype}; expected (B, H, W), "
            "whole numbers of objects with 0 for the background"
        )
    if not sigma > 0:
        raise ValueError(f"sigma={sigma}; expected pixels, more than 0")
    weights = torch.ones(target.shape)
    for i, image in enumerate(target.cpu()):
        objects = [image == k for k in image.unique() if k > 0]
        if len(objects) > 1:
            far = torch.stack(
                [torch.from_numpy(distance_transform_edt(~o)).float() for o in objects]
            )
            near = far.topk(2, dim=0, largest=False).values.sum(0)
            weights[i] += w0 * torch.exp(-((near / sigma) ** 2) / 2) * (image == 0)
    return weights.to(target.device)

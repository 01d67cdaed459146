"""Losses of segmentation, from logits (B, C, H, W) and masks (B, H, W) of labels 0 to
C − 1.

Volumes work too: (B, C, D, H, W) and (B, D, H, W). All are scalars, lower is better, in
fp32.
"""

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 − Dice of the classes but the background, with probabilities for masks (after
    Milletari et al. 2016).

    Sums run over the whole batch, so that a slice without a heart does not weigh as
    much as one with it.
    """
    p, g = _by_class(logits, target)
    both, sizes = (p * g).sum(1), p.sum(1) + g.sum(1)
    return 1 - ((2 * both + 1) / (sizes + 1))[1:].mean()


def _by_class(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth, (C, pixels) each."""
    p = logits.float().softmax(1).transpose(0, 1).flatten(1)
    return p, F.one_hot(target, len(p)).flatten(0, -2).T.to(p.dtype)


def vnet_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 − D of Milletari et al. (2016, section 3), whose denominator has squares: D = 2
    Σ p g / (Σ p² + Σ g²), averaged over the classes but the background. Sums run over
    the whole batch.
    """
    p, g = _by_class(logits, target)
    both, sizes = (p * g).sum(1), (p**2).sum(1) + (g**2).sum(1)
    return 1 - (2 * both / sizes.clamp(min=1e-6))[1:].mean()


def tversky(
    logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7
) -> Tensor:
    """1 − the index of Tversky (Salehi et al. 2017), a Dice that weighs what was added
    wrongly by α and what was missed by β; α = β = ½ is Dice. Averaged over the classes
    but the background.
    """
    p, g = _by_class(logits, target)
    both = (p * g).sum(1)
    added, missed = (p * (1 - g)).sum(1), ((1 - p) * g).sum(1)
    return 1 - ((both + 1) / (both + alpha * added + beta * missed + 1))[1:].mean()


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Cross-entropy whose weight falls as (1 − p)^γ where the true class already has
    the probability p (Lin et al. 2017); γ = 0 is cross-entropy.
    """
    log_p = -F.cross_entropy(logits.float(), target, reduction="none")
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice plus cross-entropy: Dice sees the structures, cross-entropy gives each
    pixel a gradient.
    """
    return soft_dice(logits, target) + F.cross_entropy(logits.float(), target)


def mean_dice(logits: Tensor, target: Tensor) -> float:
    """A score for `fit`, higher is better: Dice of the labelled pixels of all images
    together, averaged over the classes but the background. Dice per patient:
    hearts.dice_of_patients.
    """
    found, k = logits.argmax(1), logits.shape[1]
    classes = torch.arange(1, k, device=logits.device)
    both = torch.bincount(target[found == target], minlength=k)[classes]
    sizes = torch.bincount(torch.cat([found.flatten(), target.flatten()]), minlength=k)
    return (2 * both / sizes[classes].clamp(min=1)).mean().item()


def border_weight(target: Tensor, *, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """U-Net's weight map (Ronneberger et al. 2015, Eq. 2) of object numbers (B, H, W),
    0 being background: about 1 everywhere, and up to w0 more on background pixels
    between two objects that nearly touch.

    w = 1 + w0 · exp(−(d1 + d2)² / 2σ²), d1 and d2 in pixels to the nearest and second
    nearest object. The paper's w_c, which balances the classes, is left at 1.
    """
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

"""Metrics of classification, from logits (B, num_classes) and integer labels (B,)."""

import torch
from torch import Tensor


def accuracy(logits: Tensor, target: Tensor) -> float:
    """Share of images whose largest logit is the label's."""
    return (torch.as_tensor(logits).argmax(1) == torch.as_tensor(target)).float().mean().item()


def auc(logits: Tensor, target: Tensor) -> float:
    """Area under the ROC curve: the chance that a random positive scores above a random negative.

    Ties count one half (Mann-Whitney). Two classes: class 1 is the positive one. More: the mean over
    classes of one against the rest. One score a case, (B,), may stand for the logits of two classes.
    NaN where `target` lacks a class, since there is nothing to rank.
    """
    logits, target = torch.as_tensor(logits), torch.as_tensor(target)
    if logits.ndim == 1:
        return _rank_auc(logits.double(), target == 1)
    if logits.shape[1] == 2:  # the difference of logits: softmax would round sure scores to ties
        return _rank_auc((logits[:, 1] - logits[:, 0]).double(), target == 1)
    scores = logits.double().softmax(1)
    return sum(_rank_auc(scores[:, c], target == c) for c in range(logits.shape[1])) / logits.shape[1]


def calibration_error(logits: Tensor, target: Tensor, bins: int = 15) -> float:
    """Expected calibration error: how far confidence lies from accuracy, |difference| averaged over cases.

    Cases are sorted into `bins` of equal width by their confidence, the largest softmax value; in each bin
    the mean confidence is held against the share of correct answers (Guo et al. 2017, Eq. 3). 0 is best.
    """
    confidence, predicted = torch.as_tensor(logits).double().softmax(1).max(1)
    correct = (predicted == torch.as_tensor(target)).double()
    where = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are open on the left
    gap = torch.zeros(bins, dtype=torch.double, device=confidence.device).index_add_(
        0, where, confidence - correct
    )
    return (gap.abs().sum() / len(confidence)).item()


def _rank_auc(score: Tensor, positive: Tensor) -> float:
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    if not n0 or not n1:
        return float("nan")
    _, group, count = score.unique(return_inverse=True, return_counts=True)
    mean_rank = count.cumsum(0) - (count.double() - 1) / 2  # ranks 1 … N, ties share their mean
    return ((mean_rank[group][positive].sum() - n1 * (n1 + 1) / 2) / (n0 * n1)).item()

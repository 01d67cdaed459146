"""Metrics of classification, from logits (B, num_classes) and integer labels (B,).

Each takes `weight` too: (R, B), how often each case counts in each of R draws; then it gives (R,) values.
That is how medlib.stats resamples the cases without computing everything anew for each draw.
"""

import torch
from torch import Tensor


def accuracy(logits: Tensor, target: Tensor, weight: Tensor | None = None):
    """Share of images whose largest logit is the label's. One score a case, (B,): its sign decides."""
    logits, target = torch.as_tensor(logits), torch.as_tensor(target)
    predicted = (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)
    return _mean((predicted == target).double(), weight)


def auc(logits: Tensor, target: Tensor, weight: Tensor | None = None):
    """Area under the ROC curve: the chance that a random positive scores above a random negative.

    Ties count one half (Mann-Whitney). Two classes: class 1 is the positive one. More: the mean over
    classes of one against the rest. One score a case, (B,), may stand for the logits of two classes.
    NaN where `target` lacks a class, since there is nothing to rank.
    """
    logits, target = torch.as_tensor(logits), torch.as_tensor(target)
    if logits.ndim == 1:
        return _rank_auc(logits.double(), target == 1, weight)
    if logits.shape[1] == 2:  # the difference of logits: softmax would round sure scores to ties
        return _rank_auc((logits[:, 1] - logits[:, 0]).double(), target == 1, weight)
    scores = logits.double().softmax(1)
    areas = [_rank_auc(scores[:, c], target == c, weight) for c in range(logits.shape[1])]
    return sum(areas) / len(areas)


def calibration_error(logits: Tensor, target: Tensor, weight: Tensor | None = None, *, bins: int = 15):
    """Expected calibration error: how far confidence lies from accuracy, |difference| averaged over cases.

    Cases are sorted into `bins` of equal width by their confidence, the largest softmax value; in each bin
    the mean confidence is held against the share of correct answers (Guo et al. 2017, Eq. 3). 0 is best.
    """
    confidence, predicted = torch.as_tensor(logits).double().softmax(1).max(1)
    correct = (predicted == torch.as_tensor(target)).double()
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are open on the left
    gap = torch.zeros(len(which), bins, dtype=torch.double, device=which.device)
    gap[torch.arange(len(which)), which] = confidence - correct
    if weight is None:
        return (gap.sum(0).abs().sum() / len(gap)).item()
    weight = torch.as_tensor(weight).double()
    return (weight @ gap).abs().sum(1) / weight.sum(1)


def _mean(values: Tensor, weight: Tensor | None):
    if weight is None:
        return values.mean().item()
    weight = torch.as_tensor(weight).double()
    return weight @ values / weight.sum(1)


def _rank_auc(score: Tensor, positive: Tensor, weight: Tensor | None):
    one = weight is None
    weight = torch.ones(1, len(score), device=score.device) if one else torch.as_tensor(weight)
    values, group = score.unique(return_inverse=True)  # ascending; ties share a group

    def counts(side: Tensor) -> Tensor:
        found = torch.zeros(len(weight), len(values), dtype=torch.double, device=score.device)
        return found.index_add_(1, group, weight.double() * side)

    above, below = counts(positive), counts(~positive)
    beaten = below.cumsum(1) - below / 2  # negatives under each score, and half of those level with it
    area = (above * beaten).sum(1) / (above.sum(1) * below.sum(1))
    return area.item() if one else area

"""Losses and metrics beside MONAI's, in one file: its import takes many seconds."""

import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medlib import losses, metrics


def test_losses_are_monais():
    with warnings.catch_warnings(action="ignore"):  # its imports warn of other packages
        from monai.losses import DiceLoss, FocalLoss, TverskyLoss
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 12, 14, generator=g)
    target = torch.randint(0, 4, (2, 12, 14), generator=g)
    y, labelled = target[:, None], {"to_onehot_y": True, "softmax": True, "batch": True}
    labelled |= {"include_background": False, "smooth_nr": 1, "smooth_dr": 1}
    dice = DiceLoss(**labelled)
    torch.testing.assert_close(losses.soft_dice(logits, target), dice(logits, y))
    squared = DiceLoss(**labelled | {"smooth_nr": 0, "smooth_dr": 0}, squared_pred=True)
    torch.testing.assert_close(losses.vnet_dice(logits, target), squared(logits, y))
    tversky = TverskyLoss(**labelled, alpha=0.3, beta=0.7)
    torch.testing.assert_close(losses.tversky(logits, target), tversky(logits, y))
    # MONAI averages over the four classes too, of which one a pixel is not zero.
    focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)
    torch.testing.assert_close(losses.focal(logits, target), 4 * focal(logits, y))


@pytest.mark.filterwarnings(
    "ignore:.*always_return_as_numpy:FutureWarning"
)  # MONAI's own affair
@pytest.mark.parametrize("seed", range(2))
def test_metrics_are_monais(seed):
    from monai import metrics as monai

    rng = np.random.default_rng(seed)
    a, b = (gaussian_filter(rng.random((6, 14, 15)), 1.5) > 0.5 for _ in range(2))
    one_hot = [torch.tensor(m)[None, None] for m in (a, b)]
    options = {"include_background": True, "spacing": [4.0, 1.5, 0.7]}
    spacing = options["spacing"]
    for percentile in (95, 100):
        theirs = monai.compute_hausdorff_distance(
            *one_hot, percentile=percentile, **options
        ).item()
        assert metrics.hausdorff(a, b, spacing, percentile=percentile) == pytest.approx(
            theirs, rel=1e-5
        )
    theirs = monai.compute_average_surface_distance(
        *one_hot, symmetric=True, **options
    ).item()
    assert metrics.average_surface_distance(a, b, spacing) == pytest.approx(
        theirs, rel=1e-5
    )
    theirs = monai.compute_surface_dice(
        *one_hot, class_thresholds=[1.5], **options
    ).item()
    assert metrics.surface_dice(a, b, 1.5, spacing) == pytest.approx(theirs, rel=1e-5)
    assert metrics.dice(a, b) == pytest.approx(monai.compute_dice(*one_hot).item())

"""Pairs of moments, and masks carried along."""

import numpy as np
import pytest
import torch

from medlib.data import DataError
from medlib.hearts import Patient, Volume, pairs
from medlib.hearts.phantom import phantom


def heart(side=110, masks=True, mm=2.0):
    p = phantom(1, shape=(3, side, side + 20), spacing=(10.0, mm, mm), motion=True)
    ed, es = (
        Volume(
            p.image[0, t].numpy(), p.mask[0, t].numpy() if masks else None, p.spacing
        )
        for t in (0, 1)
    )
    return Patient("one", "NOR", ed, es), p.motion[0, 1].movedim(
        1, 0
    ) / mm  # field in pixels, (D, 2, H, W)


def test_a_pair_needs_no_mask():
    x = pairs.pair(heart(masks=False)[0])
    assert (
        x.shape == (3, 2, 96, 96)
        and abs(float(x.mean())) < 1e-4
        and float(x.std()) == pytest.approx(1, abs=1e-3)
    )


def test_training_pairs_run_both_ways_and_carry_no_label():
    a, b = torch.randn(2, 3, 2, 16, 16)
    d = pairs.dataset([a], [b], name="phantom", source="simulated")
    assert (
        torch.equal(d.train.x, torch.cat((a, a.flip(1))))
        and torch.equal(d.val.x, b)
        and not d.train.y.any()
    )
    assert (d.name, d.source) == ("phantom", "simulated")


def test_phantom_pairs():
    found = pairs.phantom_pairs(2, seed=0, phases=(0.0, 0.2, 0.35), depth=2)
    assert len(found) == 4 and found[0].shape == (2, 2, 96, 96)
    assert torch.equal(found[0][:, 0], found[1][:, 0]) and not torch.equal(
        found[0][:, 1], found[1][:, 1]
    )


def test_the_true_field_carries_the_mask_to_the_other_moment():
    patient, u = heart()
    found = pairs.carry(torch.from_numpy(patient.ed.mask), u).numpy()
    assert found.dtype == np.uint8
    assert (
        2
        * ((found == 3) & (patient.es.mask == 3)).sum()
        / ((found == 3).sum() + (patient.es.mask == 3).sum())
        > 0.95
    )


def test_no_motion_scores_the_undeformed_dice():
    patient, _ = heart()
    found = pairs.carried_dice(torch.zeros(3, 2, 96, 96), patient)
    for k in (1, 2, 3):
        a, b = patient.ed.mask == k, patient.es.mask == k
        assert found[k - 1] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_field_on_the_scanner_is_in_its_pixels_and_ends_at_the_square():
    patient, _ = heart(side=300, mm=1.0)
    u = pairs.on_scanner(torch.ones(3, 2, 96, 96), patient)
    assert (
        u.shape == (3, 2, 300, 320)
        and float(u.max()) == pytest.approx(pairs.MM, rel=1e-3)
        and not u[..., 0, 0].any()
    )


def test_a_score_needs_masks():
    with pytest.raises(DataError, match="one: no mask.*expected"):
        pairs.carried_dice(torch.zeros(3, 2, 96, 96), heart(masks=False)[0])

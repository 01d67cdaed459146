"""Are our metrics slower than the libraries' that they agree with? Whole hearts of
ACDC, mask against a moved mask.
"""

import json
import warnings

import numpy as np
import torch

from medlib import cost, hearts, metrics

GOAL = "equal values; for time no goal"
REPEATS, HEARTS = 10, 6


def libraries():
    with warnings.catch_warnings(
        action="ignore"
    ):  # MONAI's imports warn of other packages
        import surface_distance
        from monai import metrics as monai
        from skimage.metrics import hausdorff_distance
    return monai, surface_distance, hausdorff_distance


def pairs() -> list[tuple[np.ndarray, np.ndarray, tuple]]:
    """The myocardium at ED and the same, two pixels lower and one to the right."""
    found = [(p.ed.mask == 2, p.ed.spacing) for p in hearts.load()[:HEARTS]]
    return [(mask, np.roll(mask, (2, 1), (1, 2)), spacing) for mask, spacing in found]


def measure() -> dict:
    monai, surface, skimage_hausdorff = libraries()
    cases = pairs()

    def batch(mask):
        return torch.from_numpy(mask)[None, None].float()

    def google(a, b, mm):
        return surface.compute_surface_distances(a, b, mm)

    def monai_hd95(a, b, mm):
        return monai.compute_hausdorff_distance(
            batch(a), batch(b), include_background=True, percentile=95, spacing=mm
        ).item()

    def monai_assd(a, b, mm):
        return monai.compute_average_surface_distance(
            batch(a), batch(b), include_background=True, symmetric=True, spacing=mm
        ).item()

    def monai_nsd(a, b, mm):
        return monai.compute_surface_dice(
            batch(a), batch(b), [2.0], include_background=True, spacing=mm
        ).item()

    # score: ours, the peers', the largest difference allowed (they measure surfaces in
    # their own ways)
    contests = {
        "Dice": (
            lambda a, b, mm: metrics.dice(a, b),
            {
                "MONAI": lambda a, b, mm: monai.compute_dice(batch(a), batch(b)).item(),
                "surface-distance": lambda a, b, mm: surface.compute_dice_coefficient(
                    a, b
                ),
            },
            1e-5,
        ),
        "95 % Hausdorff": (
            lambda a, b, mm: metrics.hausdorff(a, b, mm, percentile=95),
            {"MONAI": monai_hd95},
            1e-4,
        ),
        "Hausdorff in voxels": (
            lambda a, b, mm: metrics.hausdorff(a, b),
            {
                "scikit-image": lambda a, b, mm: skimage_hausdorff(
                    metrics.surface(a), metrics.surface(b)
                )
            },
            1e-5,
        ),
        "surface distance": (
            metrics.average_surface_distance,
            {"MONAI": monai_assd},
            1e-5,
        ),
        "surface Dice, 2 mm": (
            lambda a, b, mm: metrics.surface_dice(a, b, 2.0, mm),
            {
                "MONAI": monai_nsd,
                "surface-distance": lambda a, b, mm: (
                    surface.compute_surface_dice_at_tolerance(google(a, b, mm), 2.0)
                ),
            },
            0.1,
        ),
    }
    rows, ratios = [], {}
    for score, (ours, peers, tolerance) in contests.items():
        for peer, theirs in peers.items():
            gap = max(abs(ours(*case) - theirs(*case)) for case in cases)
            t = cost.time_in_turn(
                {
                    "ours": lambda f=ours: [f(*c) for c in cases],
                    "theirs": lambda f=theirs: [f(*c) for c in cases],
                },
                REPEATS,
            )
            rows.append(
                [
                    score,
                    peer,
                    *(float(np.median(t[k])) / len(cases) for k in t),
                    float(gap),
                    tolerance,
                    bool(gap <= tolerance),
                ]
            )
            ratios[f"{score}: {peer} / ours"] = (t["theirs"] / t["ours"]).tolist()
    return {
        "headers": [
            "score",
            "peer",
            "ours, ms a heart",
            "the peer, ms a heart",
            "largest difference",
            "allowed",
            "kept",
        ],
        "rows": rows,
        "ratios": ratios,
        "means": {"peer / ours, all scores": list(ratios)},
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

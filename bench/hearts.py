"""How soon is a heart outlined well? CPU-seconds to a Dice of .85 on ACDC's validation
patients: ours, MONAI's pipeline with CacheDataset, and TorchIO's, each with its own
loaders and transforms, the two on MONAI's BasicUNet.
"""

import json
import time
import warnings

import torch
from tqdm import tqdm

from medlib import fit, hearts, losses, peers, seed
from medlib.models import SmallUNet
from medlib.train import predict

GOAL = "at least 3 times sooner than either"
DICE, SEEDS = 0.85, 3
TIMES = 4  # a peer is stopped after so many times the length of our whole training
HURRY = hearts.RECIPE | {"lr": 1e-2, "epochs": 8, "validations": 10}


def ours(data, s: int) -> tuple[float, float]:
    """CPU-seconds to the goal, and of a whole training."""
    seed(s)
    history = fit(SmallUNet(), data, seed=s, target=DICE, **HURRY)
    whole = history.cpu[-1] * (
        1 if not history.reached_target else 10 / len(history.score)
    )
    return (history.cpu[-1] if history.reached_target else float("inf")), whole


def torchio(data, s: int, limit: float) -> float:
    """CPU-seconds of TorchIO's pipeline: SubjectsDataset, RandomAffine, its
    SubjectsLoader, Dice loss, Adam, fp32.
    """
    with warnings.catch_warnings(action="ignore"):
        import torchio as tio
        from monai.losses import DiceLoss
        from monai.networks.nets import BasicUNet
    seed(s)
    subjects = [
        tio.Subject(
            image=tio.ScalarImage(tensor=x[..., None]),
            label=tio.LabelMap(tensor=y[None, ..., None]),
        )
        for x, y in zip(data.train.x, data.train.y, strict=True)
    ]
    turn = tio.RandomAffine(
        scales=(0.9, 1.1, 0.9, 1.1, 1, 1),
        degrees=(0, 0, 0, 0, -15, 15),
        translation=(-6, 6, -6, 6, 0, 0),
    )
    batches = tio.SubjectsLoader(
        tio.SubjectsDataset(subjects, turn), batch_size=16, shuffle=True, drop_last=True
    )
    model = BasicUNet(2, 1, len(data.classes), features=(16, 16, 32, 64, 128, 16))
    loss = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    spent = 0.0
    while spent < limit:
        started = time.process_time()
        model.train()
        for batch in batches:
            value = loss(
                model(batch["image"][tio.DATA][..., 0]),
                batch["label"][tio.DATA][..., 0],
            )
            adam.zero_grad()
            value.backward()
            adam.step()
        spent += time.process_time() - started
        if losses.mean_dice(predict(model, data.val.x), data.val.y) >= DICE:
            return spent
    return float("inf")


def measure() -> dict:
    data = hearts.slices(*hearts.split(hearts.load()))
    found = {"ours": [], "MONAI": [], "TorchIO": []}
    limits = []
    for s in tqdm(range(SEEDS), desc="three pipelines", unit="seed"):
        mine, whole = ours(data, s)
        limits.append(TIMES * whole)
        found["ours"].append(mine)
        found["MONAI"].append(
            peers.monai_unet(data, goal=DICE, until=0, limit=limits[-1], seed=s)[0]
        )
        found["TorchIO"].append(torchio(data, s, limits[-1]))
    rows = [
        [name, sum(t == float("inf") for t in times), min(max(times), max(limits))]
        for name, times in found.items()
    ]
    ratios = {
        f"{name} / ours": [
            min(t, limit) / m
            for t, limit, m in zip(found[name], limits, found["ours"], strict=True)
        ]
        for name in ("MONAI", "TorchIO")
    }
    note = (
        f"A peer that did not arrive within {TIMES} times our whole training counts "
        "with that time: its ratio is at least this."
    )
    return {
        "headers": [
            "pipeline",
            f"seeds of {SEEDS} that missed",
            "CPU-seconds, longest",
        ],
        "rows": rows,
        "ratios": ratios,
        "means": {},
        "note": note,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

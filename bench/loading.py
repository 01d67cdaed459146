"""How many images a second reach the network? One pass over PneumoniaMNIST, from the
file and from memory, in shuffled batches of 128: ours, torch's DataLoader as MedMNIST
uses it, MONAI's CacheDataset.
"""

import json
import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from medlib import cost, load
from medlib.fetch import REGISTRY, find

GOAL = "no goal: images a second for each"
REPEATS = 5


class FromFile(Dataset):
    """As MedMNIST's own class: the array in memory, each image through PIL and a
    transform.
    """

    def __init__(self):
        with np.load(find(REGISTRY["pneumoniamnist"]["file"][0])[0]) as z:
            self.images, self.labels = z["train_images"], z["train_labels"]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        from PIL import Image
        from torchvision.transforms.functional import normalize, to_tensor

        return normalize(to_tensor(Image.fromarray(self.images[i])), [0.5], [0.5]), int(
            self.labels[i, 0]
        )


def measure() -> dict:
    with warnings.catch_warnings(action="ignore"):
        from monai.data import CacheDataset
        from monai.data import DataLoader as MonaiLoader
        from monai.transforms import Compose, EnsureTyped

    def ours_pass(data):
        for index in torch.randperm(len(data.train.x)).split(128):
            data.train.x[index], data.train.y[index]

    def theirs_pass(dataset, loader=DataLoader):
        for _ in loader(dataset, batch_size=128, shuffle=True):
            pass

    def cached():
        data = load("pneumoniamnist")
        items = [
            {"x": x, "y": y} for x, y in zip(data.train.x, data.train.y, strict=True)
        ]
        return CacheDataset(items, Compose([EnsureTyped(["x", "y"])]), progress=False)

    data, files, monai = load("pneumoniamnist").standardise(), FromFile(), cached()
    n = len(data.train.x)
    from_file = {
        "ours": lambda: ours_pass(load("pneumoniamnist").standardise()),
        "DataLoader": lambda: theirs_pass(FromFile()),
        "MONAI": lambda: theirs_pass(cached(), MonaiLoader),
    }
    from_memory = {
        "ours": lambda: ours_pass(data),
        "DataLoader": lambda: theirs_pass(files),
        "MONAI": lambda: theirs_pass(monai, MonaiLoader),
    }
    rows, ratios = [], {}
    for where, kinds in {"file": from_file, "memory": from_memory}.items():
        t = cost.time_in_turn(kinds, REPEATS)
        for name in kinds:
            rows.append([where, name, round(1000 * n / float(np.median(t[name])))])
            if name != "ours":
                ratios[f"from {where}: {name} / ours"] = (t[name] / t["ours"]).tolist()
    return {
        "headers": ["from", "loader", "images a second"],
        "rows": rows,
        "ratios": ratios,
        "means": {},
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

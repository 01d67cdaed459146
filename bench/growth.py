"""How does the cost grow with the image, the depth, the slices and the patients? A
training step of each size, and what it keeps in memory for its backward pass.
"""

import json
from functools import partial

import numpy as np
import torch

from medlib import cost, device
from medlib.models import SmallUNet, UNet3D
from medlib.models.resnet import small_resnet
from medlib.train import train_step

GOAL = "no goal: time and memory beside each other"
REPEATS = 7
AXES = {  # what grows: {size: the network, the shape of a batch}
    "side of the image, small U-Net": {
        n: (SmallUNet, (8, 1, n, n)) for n in (64, 96, 128, 192, 256)
    },
    "layers, small ResNet": {
        n: (partial(small_resnet, n), (32, 1, 28, 28)) for n in (8, 14, 20, 32, 56)
    },
    "slices, 3D U-Net": {
        n: (partial(UNet3D, 1, 4, width=4), (1, 1, n, 64, 64)) for n in (4, 8, 16, 32)
    },
    "images in a batch, small U-Net": {
        n: (SmallUNet, (n, 1, 96, 96)) for n in (1, 2, 4, 8, 16)
    },
}


def step(model, shape):
    """A step of `fit`; any loss will do."""
    model, x = device.place(model).train(), torch.randn(shape)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-5)

    def action():
        with device.exact(model):
            train_step(model, x, x, lambda y, _: y.square().mean(), sgd)

    return action


def measure() -> dict:
    rows, slopes = [], {}
    for axis, sizes in AXES.items():
        t = cost.time_in_turn(
            {n: step(build(), shape) for n, (build, shape) in sizes.items()}, REPEATS
        )
        for n, (build, shape) in sizes.items():
            rows.append(
                [
                    axis,
                    n,
                    float(np.median(t[n])),
                    shape[0] * cost.activation_bytes(build, shape[1:]) / 1e6,
                ]
            )
        slopes[axis] = float(
            np.polyfit(
                np.log(list(sizes)), [np.log(np.median(t[n])) for n in sizes], 1
            )[0]
        )
    note = (
        "Time grows with the size to the power "
        + ", ".join(f"{v:.2f} ({k})" for k, v in slopes.items())
        + "."
    )
    return {
        "headers": ["what grows", "size", "a step, ms", "kept, MB (fp32)"],
        "rows": rows,
        "ratios": {},
        "means": {},
        "note": note,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

"""Does code that is written to be read cost time? A training step and an inference of
each network beside its twin in torchvision, timm or MONAI: at equal settings, and each
by its own default.
"""

import json
from functools import partial

import numpy as np
import timm
import torch
import torchvision.models as tv
from timm.layers import cbam

from medlib import attention, cost, device
from medlib.models import (
    LRASPP,
    VGG,
    AlexNet,
    EfficientNet,
    MobileNetV1,
    MobileNetV3,
    ResNet,
    VNet,
)
from medlib.models.alexnet import LAYERS_2014
from medlib.models.resnet import resnet50
from medlib.models.vgg import A
from medlib.train import train_step

GOAL = (
    "at equal settings at most 1.0 times the peer's time (geometric mean); by default "
    "3 times faster where the processor has bf16 units"
)
REPEATS = 15
IMAGES, STACK = (8, 3, 64, 64), (1, 1, 16, 64, 64)


def monai_vnet():
    from monai.networks.nets import VNet as Theirs

    return Theirs(spatial_dims=3, in_channels=1, out_channels=2)


TWINS = {  # name: ours, the peer's, the shape of a batch
    "AlexNet": (partial(AlexNet, layers=LAYERS_2014), tv.alexnet, IMAGES),
    "VGG-11": (partial(VGG, convs=A), tv.vgg11, IMAGES),
    "ResNet-18": (ResNet, tv.resnet18, IMAGES),
    "ResNet-50": (resnet50, tv.resnet50, IMAGES),
    "MobileNetV1": (MobileNetV1, partial(timm.create_model, "mobilenetv1_100"), IMAGES),
    "MobileNetV3-Large": (MobileNetV3, tv.mobilenet_v3_large, IMAGES),
    "EfficientNet-B0": (EfficientNet, tv.efficientnet_b0, IMAGES),
    "LR-ASPP": (
        partial(LRASPP, 3, 21),
        partial(tv.segmentation.lraspp_mobilenet_v3_large, weights_backbone=None),
        IMAGES,
    ),
    "V-Net": (partial(VNet, 1, 2, norm=True), monai_vnet, STACK),
    "SE": (
        partial(attention.SE, 64),
        partial(timm.layers.SEModule, 64),
        (8, 64, 32, 32),
    ),
    "ECA": (
        partial(attention.ECA, 64),
        partial(timm.layers.EcaModule, 64),
        (8, 64, 32, 32),
    ),
    "CBAM": (
        partial(attention.CBAM, 64),
        partial(cbam.CbamModule, 64),
        (8, 64, 32, 32),
    ),
}


class Main(torch.nn.Module):
    """The logits alone, where a peer hands out more."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        y = self.net(x)
        return y["out"] if isinstance(y, dict) else y


def actions(build, shape, *, fast: bool):
    """A training step and an inference; `fast`: as `fit` does it, channels_last and,
    where the processor multiplies in it, bf16. Else in fp32, memory as it comes.
    """
    torch.manual_seed(0)
    model, x = Main(build()), torch.randn(shape)
    model = device.place(model) if fast else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)

    def loss(y, _):
        return y.square().mean()

    def train():
        model.train()
        if fast:
            with device.exact(model):
                train_step(model, x, x, loss, optimizer)
        else:
            optimizer.zero_grad()
            loss(model(x), x).backward()
            optimizer.step()

    def infer():
        model.eval()
        with torch.no_grad(), device.exact(model):
            if fast:
                with device.mixed_precision():
                    model(device.in_layout(x))
            else:
                model(x)

    return {"training": train, "inference": infer}


def measure() -> dict:
    rows, ratios = [], {}
    for name, (ours, theirs, shape) in TWINS.items():
        kinds = {
            "ours": actions(ours, shape, fast=False),
            "ours by default": actions(ours, shape, fast=True),
            "theirs": actions(theirs, shape, fast=False),
        }
        for what in ("training", "inference"):
            t = cost.time_in_turn(
                {kind: both[what] for kind, both in kinds.items()}, repeats=REPEATS
            )
            equal, default = t["ours"] / t["theirs"], t["theirs"] / t["ours by default"]
            rows.append(
                [
                    name,
                    what,
                    *(
                        float(np.median(v))
                        for v in (t["ours"], t["theirs"], t["ours by default"])
                    ),
                ]
            )
            ratios[f"{name}, {what}: ours / theirs, equal settings"] = equal.tolist()
            ratios[f"{name}, {what}: theirs / ours, each by default"] = default.tolist()
    return {
        "headers": [
            "network",
            "what",
            "ours, ms",
            "the peer, ms",
            "ours by default, ms",
        ],
        "rows": rows,
        "ratios": ratios,
        "means": {
            "training and inference, ours / theirs, equal settings": [
                k for k in ratios if "equal" in k
            ],
            "training and inference, theirs / ours, each by default": [
                k for k in ratios if "default" in k
            ],
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

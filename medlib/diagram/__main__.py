"""`python -m medlib.diagram FOLDER`: the networks of the book on one sheet, index.html,
each as an SVG beside it.
"""

import argparse
import html
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from torch import nn

from medlib import attention, models
from medlib.diagram import diagram
from medlib.diagram.trace import Shape
from medlib.models.deeplab import ASPP
from medlib.models.efficientnet import MBConv
from medlib.models.mobilenet import DepthwiseSeparable
from medlib.models.mobilenet_v3 import InvertedResidual, SqueezeExcitation


def inverted() -> nn.Module:
    se = SqueezeExcitation(120, 32, nn.ReLU, nn.Hardsigmoid)
    return InvertedResidual(40, 120, 40, 5, 1, nn.ReLU, se)


SHEET: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "LeNet-5 of 1998": (models.LeNet5, (1, 1, 32, 32)),
    "LeNet": (models.LeNet, (1, 1, 28, 28)),
    "AlexNet": (models.AlexNet, (1, 3, 227, 227)),
    "VGG-16": (models.VGG, (1, 3, 224, 224)),
    "ResNet-18": (models.ResNet, (1, 3, 224, 224)),
    "ResNet-50": (models.resnet50, (1, 3, 224, 224)),
    "ResNet, basic block": (lambda: models.BasicBlock(64, 64), (1, 64, 56, 56)),
    "ResNet, bottleneck": (lambda: models.Bottleneck(256, 128, 2), (1, 256, 56, 56)),
    "ResNet v2": (models.ResNetV2, (1, 1, 28, 28)),
    "ResNet v2, block": (lambda: models.PreActivation(64, 64), (1, 64, 56, 56)),
    "ReLU before the sum": (lambda: models.ReLUBefore(64, 64), (1, 64, 56, 56)),
    "MobileNetV1": (models.MobileNetV1, (1, 3, 224, 224)),
    "MobileNetV1, block": (lambda: DepthwiseSeparable(64, 128), (1, 64, 112, 112)),
    "MobileNetV3": (models.MobileNetV3, (1, 3, 224, 224)),
    "MobileNetV3, block": (inverted, (1, 40, 28, 28)),
    "LR-ASPP": (models.LRASPP, (1, 3, 256, 256)),
    "EfficientNet-B0": (models.EfficientNet, (1, 3, 224, 224)),
    "EfficientNet, block": (lambda: MBConv(24, 24, 6, 3, 1, 0.2), (1, 24, 56, 56)),
    "Linear autoencoder": (models.LinearAutoencoder, (1, 1, 28, 28)),
    "Autoencoder": (models.Autoencoder, (1, 1, 64, 64)),
    "FCN-8s": (models.FCN, (1, 3, 256, 256)),
    "U-Net": (models.UNet, (1, 1, 572, 572)),
    "Small U-Net": (models.SmallUNet, (1, 1, 128, 128)),
    "DeepLabV3+": (models.DeepLabV3Plus, (1, 3, 512, 512)),
    "DeepLabV3+, ASPP": (lambda: ASPP(2048, depthwise=False), (1, 2048, 32, 32)),
    "V-Net": (models.VNet, (1, 1, 64, 128, 128)),
    "3D U-Net": (lambda: models.UNet3D(3, 3), (1, 3, 64, 128, 128)),
    "Neighbouring slices": (models.Neighbours, (1, 1, 3, 128, 128)),
    "RFCN": (models.RFCN, (1, 1, 3, 128, 128)),
    "Propagation": (models.Propagation, (1, 1, 3, 128, 128)),
    "VoxelMorph": (models.VoxelMorph, (1, 2, 128, 128)),
    "Squeeze-and-excitation": (lambda: attention.SE(64), (1, 64, 56, 56)),
    "Spatial gate": (lambda: attention.SpatialGate(64), (1, 64, 56, 56)),
    "Attention gate": (lambda: attention.AttentionGate(64), (1, 64, 56, 56)),
    "Non-local block": (lambda: attention.NonLocal(64), (1, 64, 14, 14)),
    "Multi-head attention": (lambda: attention.MultiHead(64), (1, 64, 14, 14)),
    "Residual attention": (lambda: attention.MaskBranch(64), (1, 64, 56, 56)),
}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>The networks of the book</title>
<style>
body {{ font-family: sans-serif; margin: 2rem; color: #1d2733 }}
figure {{ display: inline-block; vertical-align: top; margin: 0 2rem 2rem 0 }}
figcaption {{ margin-bottom: 0.5rem }}
</style>
<h1>The networks of the book</h1>
{figures}
"""
FIGURE = """<figure><figcaption><a href="{file}">{name}</a></figcaption>
<img src="{file}" alt="{name}"></figure>"""


def sheet(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for name, (make, shape) in SHEET.items():
        file = re.sub(r"\W+", "-", name.lower()).strip("-") + ".svg"
        figure = diagram(make(), shape)
        with matplotlib.rc_context({"svg.hashsalt": file}):  # the same bytes each time
            figure.savefig(folder / file, metadata={"Date": None})
        figures.append(FIGURE.format(file=file, name=html.escape(name)))
    (folder / "index.html").write_text(
        PAGE.format(figures="\n".join(figures)), encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser("medlib.diagram", description=__doc__)
    parser.add_argument("folder", type=Path)
    with torch.device("meta"):  # VGG-16 without its 138 million numbers
        sheet(parser.parse_args().folder)


if __name__ == "__main__":
    main()

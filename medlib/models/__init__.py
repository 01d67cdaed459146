"""The networks, one file a paper.

A network's file is read when the network is first asked for: `from medlib.models import
LeNet` knows nothing of V-Net.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "AlexNet": "alexnet",
    "Autoencoder": "autoencoder",
    "BasicBlock": "resnet",
    "Bottleneck": "resnet",
    "DeepLabV3Plus": "deeplab",
    "EfficientNet": "efficientnet",
    "FCN": "fcn",
    "LRASPP": "mobilenet_v3",
    "LeNet": "lenet",
    "LeNet5": "lenet",
    "LinearAutoencoder": "autoencoder",
    "MobileNetV1": "mobilenet",
    "MobileNetV3": "mobilenet_v3",
    "Neighbours": "neighbours",
    "PreActivation": "resnet_v2",
    "Propagation": "propagation",
    "RFCN": "rfcn",
    "ReLUBefore": "resnet_v2",
    "ResNet": "resnet",
    "ResNetV2": "resnet_v2",
    "SmallUNet": "unet",
    "UNet": "unet",
    "UNet3D": "unet3d",
    "Unsupervised": "voxelmorph",
    "VGG": "vgg",
    "VNet": "vnet",
    "VoxelMorph": "voxelmorph",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "small_alexnet": "alexnet",
    "small_deeplab": "deeplab",
    "small_fcn": "fcn",
    "small_resnet": "resnet",
    "small_vgg": "vgg",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

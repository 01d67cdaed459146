"""The networks, one file a paper."""

from medlib.models.alexnet import AlexNet
from medlib.models.efficientnet import EfficientNet
from medlib.models.lenet import LeNet, LeNet5
from medlib.models.mobilenet import MobileNetV1
from medlib.models.mobilenet_v3 import LRASPP, MobileNetV3
from medlib.models.resnet import ResNet
from medlib.models.vgg import VGG

__all__ = [
    "LRASPP",
    "VGG",
    "AlexNet",
    "EfficientNet",
    "LeNet",
    "LeNet5",
    "MobileNetV1",
    "MobileNetV3",
    "ResNet",
]

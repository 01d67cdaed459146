"""The networks, one file a paper."""

from medlib.models.alexnet import AlexNet
from medlib.models.autoencoder import Autoencoder, LinearAutoencoder
from medlib.models.deeplab import DeepLabV3Plus
from medlib.models.efficientnet import EfficientNet
from medlib.models.fcn import FCN
from medlib.models.lenet import LeNet, LeNet5
from medlib.models.mobilenet import MobileNetV1
from medlib.models.mobilenet_v3 import LRASPP, MobileNetV3
from medlib.models.resnet import ResNet
from medlib.models.unet import SmallUNet, UNet
from medlib.models.vgg import VGG

__all__ = [
    "FCN",
    "LRASPP",
    "VGG",
    "AlexNet",
    "Autoencoder",
    "DeepLabV3Plus",
    "EfficientNet",
    "LeNet",
    "LeNet5",
    "LinearAutoencoder",
    "MobileNetV1",
    "MobileNetV3",
    "ResNet",
    "SmallUNet",
    "UNet",
]

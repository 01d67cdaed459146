"""The networks, one file a paper."""

from medlib.models.alexnet import AlexNet
from medlib.models.autoencoder import Autoencoder, LinearAutoencoder
from medlib.models.deeplab import DeepLabV3Plus
from medlib.models.efficientnet import EfficientNet
from medlib.models.fcn import FCN
from medlib.models.lenet import LeNet, LeNet5
from medlib.models.mobilenet import MobileNetV1
from medlib.models.mobilenet_v3 import LRASPP, MobileNetV3
from medlib.models.neighbours import Neighbours
from medlib.models.propagation import Propagation
from medlib.models.resnet import ResNet
from medlib.models.rfcn import RFCN
from medlib.models.unet import SmallUNet, UNet
from medlib.models.unet3d import UNet3D
from medlib.models.vgg import VGG
from medlib.models.vnet import VNet

__all__ = [
    "FCN",
    "LRASPP",
    "RFCN",
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
    "Neighbours",
    "Propagation",
    "ResNet",
    "SmallUNet",
    "UNet",
    "UNet3D",
    "VNet",
]

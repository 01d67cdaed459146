"""The networks, one file a paper."""

from medlib.models.alexnet import AlexNet
from medlib.models.lenet import LeNet, LeNet5
from medlib.models.resnet import ResNet
from medlib.models.vgg import VGG

__all__ = ["VGG", "AlexNet", "LeNet", "LeNet5", "ResNet"]

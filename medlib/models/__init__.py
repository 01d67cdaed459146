"""The networks, one file a paper."""

from medlib.models.lenet import LeNet, LeNet5

__all__ = ["LeNet", "LeNet5"]

"""The networks at full size: ImageNet weights, fetched through torchvision, and the
training at 224 pixels.
"""

import torch
from torch import nn

from medlib import paths, train
from medlib.cost import parameters
from medlib.data import Dataset, Split
from medlib.device import device, profile
from medlib.extras import extra
from medlib.metrics import accuracy, auc
from medlib.train import evaluate, fit

# steps, pixels a side, images a batch
FULL, TWO_STEPS = (1000, 224, 64), (2, 64, 8)


class NoWeights(RuntimeError):
    """The weights could not be fetched, or are of another network; the message says
    which and why.
    """


def imagenet_weights(model: nn.Module, name: str) -> nn.Module:
    """Give `model` torchvision's ImageNet weights of the network `name` ("resnet18",
    …); return it.

    Three input channels become one by adding up their weights. The last layer keeps its
    own initialisation where the number of classes differs. Weights are kept in the
    folder `weights` of paths.cache(); their checksum is part of their name. Raises
    NoWeights where they cannot be had.
    """
    with extra("chapters"):
        from torchvision.models import get_model_weights

    try:
        url = get_model_weights(name)["IMAGENET1K_V1"].url
    except (KeyError, ValueError):
        raise NoWeights(
            f"torchvision has no ImageNet weights of a network {name!r}"
        ) from None
    try:
        theirs = torch.hub.load_state_dict_from_url(
            url,
            str(paths.cache() / "weights"),
            map_location="cpu",
            check_hash=True,
            progress=False,
            weights_only=True,
        )
    except (OSError, RuntimeError) as error:
        raise NoWeights(f"{url} could not be fetched ({error})") from None
    copy_weights(model, theirs)
    return model


def copy_weights(model: nn.Module, theirs: dict[str, torch.Tensor]) -> None:
    """Copy a state dict of the same network under other names: by order, shapes
    checked.
    """
    own = model.state_dict()
    if len(own) != len(theirs):
        raise NoWeights(
            f"{len(theirs)} tensors for a network of {len(own)}: not the same network"
        )
    last = len(own) - 2  # the weights and the bias of the last layer
    for i, ((key, mine), value) in enumerate(
        zip(own.items(), theirs.values(), strict=True)
    ):
        if not i and mine.shape != value.shape and mine.shape[1] == 1:
            value = value.sum(1, keepdim=True)
        if i >= last and mine.shape != value.shape:
            continue
        if mine.shape != value.shape:
            raise NoWeights(
                f"{key} is {tuple(mine.shape)}, the weights are {tuple(value.shape)}"
            )
        mine.copy_(value)


def full_size() -> bool:
    """Whether `train_full_size` trains in full here: a GPU is there, or its time is
    being counted, and the profile is not smoke.
    """
    gpu = device().type != "cpu" or (train.counter and train.counter.gpu)
    return bool(gpu) and profile() != "smoke"


def train_full_size(model: nn.Module, data: Dataset, name: str | None = None) -> None:
    """Train a paper's own network on 224 × 224 images, from ImageNet weights `name` if
    they can be had; print what it is worth on the test images.

    Only a GPU has the time (`full_size`). Elsewhere two steps at 64 × 64 show that the
    path works.
    """
    start = "random weights"
    if name and full_size():
        try:
            imagenet_weights(model, name)
            start = "ImageNet weights"
        except NoWeights as error:
            start = f"random weights, since {error}"
    steps, side, batch = FULL if full_size() else TWO_STEPS
    if not full_size():
        data = data.subset(16).map(lambda s: Split(s.x[:16], s.y[:16]))
    data = data.resize(side)
    # lr: a tenth of what the small networks take, so that a step does not leave the
    # neighbourhood of weights that are already good
    history = fit(
        model,
        data,
        steps=steps,
        lr=3e-4,
        batch_size=batch,
        validations=min(steps // 2, 10),
        score=auc if full_size() else accuracy,  # 16 images may lack a class
    )
    print(
        f"{type(model).__name__}, {parameters(model):,} parameters, {side} × {side} "
        f"pixels, from {start}: ",
        end="",
    )
    if full_size():
        result = evaluate(model, data.test)
        print(
            f"test AUC {result.auc:.3f}, accuracy {result.accuracy:.3f} after {steps} "
            f"steps of {batch}"
        )
    else:
        print(
            f"two steps, loss {history.train_loss[-1]:.2f}. A GPU trains it, in the "
            "profiles quick and full."
        )

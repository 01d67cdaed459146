"""What could the network see, and where did it look? The receptive field; Grad-CAM, and
the test that it is about the network at all.

Grad-CAM (Selvaraju et al. 2017) weights the feature maps of one layer by the mean
gradient of a class score and keeps the positive part of their sum. Captum computes it.
A map that stays the same when the weights are randomised explains the image, not the
network (Adebayo et al. 2018): `sanity` measures that.
"""

import copy
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medlib.data import Split
from medlib.extras import extra
from medlib.stats import interval
from medlib.train import Evaluation, evaluating

# Layers that read a window of their input.
WINDOWED = nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ConvTranspose2d


def cases(split: Split, each: int = 4) -> Tensor:
    """The test images that every chapter looks at: the first `each` of class 0, then of
    class 1, …

    Raises ValueError for masks.
    """
    y = split.y.cpu()
    if y.ndim != 1 or len(y) == 0:
        raise ValueError(f"labels {tuple(y.shape)}; expected one an image, (N,)")
    return torch.cat(
        [(y == c).nonzero().flatten()[:each] for c in range(int(y.max()) + 1)]
    )


def surest_mistakes(result: Evaluation, n: int = 8) -> Tensor:
    """Indices of the `n` images of an `Evaluation` whose true class got the least
    probability, worst first. Raises ValueError where a logit is NaN.
    """
    if result.logits.isnan().any():
        raise ValueError("logits with NaN; expected numbers: they have no order")
    probability = result.logits.softmax(1).gather(1, result.target[:, None])[:, 0]
    return probability.argsort()[:n].cpu()


def grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Maps (B, H, W) from 0 to 1 of where `layer` of `model` speaks for class `target`
    (B,), at the size of x (B, C, H, W).

    A map of zeros means that nothing in that layer speaks for the class.

    Raises ValueError unless `layer` runs once and gives maps, and where a map is NaN.
    """
    feature_maps(model, layer, x)
    if target.shape != x.shape[:1]:
        raise ValueError(
            f"target {tuple(target.shape)} for {len(x)} images; expected one class an "
            "image"
        )
    with extra("chapters"):
        from captum.attr import LayerAttribution, LayerGradCam

    where = next(model.parameters()).device
    with evaluating(model):
        maps = LayerGradCam(model, layer).attribute(
            x.to(where), target=target.to(where), relu_attributions=True
        )
    maps = LayerAttribution.interpolate(
        maps.detach().float(), tuple(x.shape[-2:]), "bilinear"
    )[:, 0]
    if not maps.isfinite().all():
        raise ValueError("a map with NaN or infinity; expected finite gradients")
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)


def receptive_field(layers: Iterable[nn.Module]) -> tuple[int, int]:
    """What one position behind a chain of convolutions, poolings and transposed
    convolutions can see of the image: (pixels a side, pixels from one position to the
    next). Other layers leave both as they are.

    Raises ValueError for a layer that is not square.
    """
    field, step = Fraction(1), Fraction(1)
    for layer in layers:
        if not isinstance(layer, WINDOWED):
            continue
        sizes = [getattr(layer, k, 1) for k in ("kernel_size", "stride", "dilation")]
        if any(isinstance(s, tuple) and len(set(s)) > 1 for s in sizes):
            raise ValueError(f"{layer}; expected the same height and width")
        kernel, stride, dilation = (s[0] if isinstance(s, tuple) else s for s in sizes)
        if isinstance(layer, nn.ConvTranspose2d):
            step /= stride
            # A position of its output sees ⌈kernel / stride⌉ of its input.
            field += (math.ceil(kernel / stride) - 1) * step * stride
        else:
            field += (kernel - 1) * dilation * step
            step *= stride
    return math.ceil(field), math.ceil(step)


def feature_maps(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """Feature maps (B, C, h, w) that `layer` of `model` gives for x (B, C, H, W), as
    they were before a layer behind it changed them in place.

    Raises ValueError unless `layer` runs once and gives finite maps.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            shape = tuple(getattr(output, "shape", ()))
            raise ValueError(
                f"{type(module).__name__} gives a {type(output).__name__} {shape}; "
                "expected a layer that gives maps (B, C, h, w)"
            )
        seen.append(output.detach().float().clone())

    hook = layer.register_forward_hook(keep)
    try:
        with torch.no_grad(), evaluating(model):
            model(x.to(next(model.parameters(), x).device))
    finally:
        hook.remove()
    if len(seen) != 1:
        raise ValueError(
            f"{type(layer).__name__} ran {len(seen)} times for one batch; expected a "
            "layer of this model that runs once"
        )
    if not seen[0].isfinite().all():
        raise ValueError("feature maps with NaN or infinity; expected finite values")
    return seen[0].cpu()


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of `model` with every layer's weights drawn anew."""
    model = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in model.modules():
            reset = getattr(layer, "reset_parameters", None)
            if reset:
                reset()
    return model


class Sanity(NamedTuple):
    """Mean rank correlation, over images, of the maps of two networks."""

    trained: list[float]  # the trained network's with those of each random one
    random: list[float]  # those of random networks with each other's, in pairs
    images: int


def sanity(
    model: nn.Module,
    find_layer: Callable[[nn.Module], nn.Module],
    x: Tensor,
    target: Tensor,
    networks: int = 20,
) -> Sanity:
    """How far the maps of x (B, C, H, W) for `target` (B,) are what any weights would
    give: `model`'s maps against those of many randomised copies, since a single copy
    may agree or disagree by chance. What random networks have in common with each other
    is the image and the layout, and the measure of the rest.

    find_layer   model → the layer to explain, e.g. lambda m: m.features
    networks     how many randomised copies, 4 or more

    An image whose map is flat on either side has no ranks and is left out of a mean; a
    pair of networks of which no image is left, too.
    """
    if networks < 4:
        raise ValueError(f"networks={networks}; expected 4 or more, for an interval")
    own = grad_cam(model, find_layer(model), x, target)
    others = []
    for seed in range(networks):
        copied = randomised(model, seed)
        others.append(grad_cam(copied, find_layer(copied), x, target))
    trained = [_agreement(own, other) for other in others]
    pairs = [_agreement(a, b) for a, b in zip(others[::2], others[1::2], strict=False)]
    return Sanity(_known(trained), _known(pairs), len(x))


def _agreement(maps: Tensor, others: Tensor) -> float:
    """Mean rank correlation of maps (B, H, W), image by image; NaN without any."""
    from scipy.stats import spearmanr

    ranks = [
        spearmanr(a, b).statistic
        for a, b in zip(maps.cpu().flatten(1), others.cpu().flatten(1), strict=True)
        if a.std() > 0 and b.std() > 0
    ]
    return sum(map(float, ranks)) / len(ranks) if ranks else math.nan


def _known(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def sanity_says(found: Sanity) -> str:
    """What `sanity` found, as sentences: the mean agreement with its interval over
    networks, and what follows.
    """
    if len(found.trained) < 2 or len(found.random) < 2:
        return f"Of {found.images} images, too few have a map on both sides to compare."
    trained, among = interval(found.trained), interval(found.random)
    text = (
        f"Rank correlation of the trained network's maps with those of {trained.n} "
        f"random networks, mean over {found.images} images: **{trained}**; of random "
        f"networks with each other: **{among}** (intervals over networks). "
    )
    return text + trained.says(
        "Trained and random maps tend to agree, so a part of each map comes from the "
        "image and the layout of the network. Read them with care.",
        "Trained and random maps tend to lie in opposite positions, so the layout of "
        "the network speaks in them too. Read them with care.",
        "The maps do not look like those of random networks: they depend on what was "
        "learnt, as far as this test can tell.",
    )

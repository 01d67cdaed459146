"""Where did the network look? Grad-CAM, and the test that it is about the network at
all.

Grad-CAM (Selvaraju et al. 2017) weights the feature maps of one layer by the mean
gradient of a class score and keeps the positive part of their sum. Captum computes it.
A map that stays the same when the weights are randomised explains the image, not the
network (Adebayo et al. 2018): `sanity` measures that.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medlib.data import Split
from medlib.extras import extra
from medlib.stats import bootstrap
from medlib.train import Evaluation, evaluating


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


def sanity(
    model: nn.Module,
    find_layer: Callable[[nn.Module], nn.Module],
    x: Tensor,
    target: Tensor,
    seed: int = 0,
) -> list[float]:
    """Rank correlation of each image's map before and after the weights are randomised;
    near 0 is well.

    find_layer   model → the layer to explain, e.g. lambda m: m.features
    Images whose map is flat on either side have no ranks and are left out.
    """
    from scipy.stats import spearmanr

    other = randomised(model, seed)
    pairs = zip(
        grad_cam(model, find_layer(model), x, target).cpu().flatten(1),
        grad_cam(other, find_layer(other), x, target).cpu().flatten(1),
        strict=True,
    )
    return [
        float(spearmanr(a, b).statistic)
        for a, b in pairs
        if a.std() > 0 and b.std() > 0
    ]


def sanity_says(ranks: list[float], n: int) -> str:
    """What `sanity` found for n images, as a sentence: the mean, its interval over
    images, and what follows.
    """
    if not ranks:
        return f"None of the {n} images has a map on both sides to compare."
    mean = bootstrap(ranks)
    text = (
        "Rank correlation of the maps before and after all weights are randomised: "
        f"**{mean}**, over the {mean.n} of {n} "
        "images that have a map on both sides. "
    )
    if abs(mean.mean) < 0.1:
        return text + "That is close to zero: the maps depend on what was learnt."
    agree = "agree" if mean.mean > 0 else "lie in opposite positions"
    return text + (
        f"That is not zero. Trained and random maps tend to {agree}, so a part of each "
        "map comes from the image and the layout of the network. Read them with care."
    )

"""What several papers share: a convolution with its norm, initialisations, the check
of an input, slices and patches of a stack.

The idea of a paper stands in the paper's own file.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from medlib.device import in_layout

Size = tuple[int, int, int]  # slices, rows, columns


class Conv(nn.Sequential):
    """Convolution, BatchNorm, activation: (B, in_channels, H, W) → (B, out_channels,
    H / stride, W / stride), rounded up.

    padded      False: no padding, so that kernel_size − 1 pixels of H and of W are lost
    norm        False: no BatchNorm, and a bias in its place
    activation  None: none, as at the end of a residual branch
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        padded: bool = True,
        norm: bool = True,
        activation: type[nn.Module] | None = nn.ReLU,
    ):
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                dilation * (kernel_size // 2) if padded else 0,
                dilation,
                groups,
                bias=not norm,
            )
        )
        if norm:
            self.append(nn.BatchNorm2d(out_channels))
        if activation:
            self.append(activation(inplace=True))


def he_initialise(
    net: nn.Module,
    kinds: tuple[type[nn.Conv2d] | type[nn.Linear], ...] = (nn.Conv2d,),
    mode: Literal["fan_in", "fan_out"] = "fan_in",
) -> None:
    """Gaussian weights of variance 2 / fan, and biases of 0, in all layers of these
    kinds: behind a ReLU the signal then neither grows nor shrinks from layer to layer.

    He, Zhang, Ren & Sun, "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852.
    The fan counts a layer's inputs ("fan_in", for the forward pass) or its outputs
    ("fan_out", for the backward pass).
    """
    for layer in net.modules():
        if isinstance(layer, kinds):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def mobile_initialise(net: nn.Module) -> None:
    """The initialisation of torchvision's mobile networks (the papers name none)."""
    he_initialise(net, mode="fan_out")
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


def small_image_strides(strides: list[int]) -> list[int]:
    """The same strides with the first two of 2 set to 1, so that 28 pixels end as 4 and
    not as 1.
    """
    first = [i for i, stride in enumerate(strides) if stride == 2][:2]
    return [1 if i in first else stride for i, stride in enumerate(strides)]


def check_images(
    net: nn.Module,
    x: Tensor,
    *,
    size: tuple[int, int] | None = None,
    smallest: int = 1,
    multiple: int = 1,
    advice: str = "",
) -> None:
    """ValueError unless x is (B, net.in_channels, H, W), with H and W as the options
    say: `size` itself, `smallest` or more, multiples of `multiple`.
    """
    if (
        x.ndim == 4
        and x.shape[1] == net.in_channels
        and (size is None or x.shape[2:] == size)
        and all(n >= smallest and n % multiple == 0 for n in x.shape[2:])
    ):
        return
    height, width = size or ("H", "W")
    expected = f"(B, {net.in_channels}, {height}, {width})"
    if smallest > 1:
        expected += f" of {smallest} × {smallest} pixels or more"
    if multiple > 1:
        expected += f" with H and W multiples of {multiple}"
    raise ValueError(
        f"{type(net).__name__} got images {tuple(x.shape)}; expected {expected}{advice}"
    )


def check_stacks(net: nn.Module, x: Tensor, multiples: Size = (1, 1, 1)) -> None:
    """ValueError unless x is (B, net.in_channels, D, H, W), with D, H and W multiples
    of these numbers.
    """
    if (
        x.ndim == 5
        and x.shape[1] == net.in_channels
        and not any(n % m for n, m in zip(x.shape[2:], multiples, strict=True))
    ):
        return
    expected = f"(B, {net.in_channels}, D, H, W)"
    if max(multiples) > 1:
        expected += f" with D, H, W multiples of {multiples}"
    raise ValueError(
        f"{type(net).__name__} got stacks {tuple(x.shape)}; expected {expected}"
    )


def each(net: nn.Module, x: Tensor) -> Tensor:
    """A network for images, per slice: (B, C, D, H, W) → (B, num_classes, D, H, W)."""
    slices = x.transpose(1, 2).flatten(0, 1)  # → (B · D, C, H, W)
    y = net(in_layout(slices))
    return y.unflatten(0, (len(x), -1)).transpose(1, 2)


def patches_to_channels(x: Tensor, patch: int) -> Tensor:
    """(B, C, D, H, W) → (B, patch² · C, D, H / patch, W / patch): space-to-depth in the
    plane of the slices.
    """
    if patch == 1:
        return x
    return F.pixel_unshuffle(x.transpose(1, 2), patch).transpose(1, 2)


def channels_to_patches(x: Tensor, patch: int) -> Tensor:
    """The way back: (B, patch² · C, D, H, W) → (B, C, D, patch · H, patch · W)."""
    if patch == 1:
        return x
    return F.pixel_shuffle(x.transpose(1, 2), patch).transpose(1, 2)

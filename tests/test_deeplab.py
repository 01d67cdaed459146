import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.models.deeplab import ASPP, DeepLabV3Plus, dilate, small_deeplab
from medlib.models.resnet import BasicBlock, Bottleneck, ResNet
from medlib.pretrained import copy_weights


def test_parameter_count_is_the_same_at_every_output_stride():
    with torch.device("meta"):
        nets = [DeepLabV3Plus(output_stride=stride) for stride in (32, 16, 8)]
    assert {parameters(net) for net in nets} == {26_696_133}
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in nets]
    assert shapes[0] == shapes[1] == shapes[2]


@torch.no_grad()
def test_a_dilated_convolution_is_one_on_each_sub_grid():
    x, dilated, plain = (
        torch.randn(1, 2, 12, 18),
        nn.Conv2d(2, 3, 3, padding=3, dilation=3),
        nn.Conv2d(2, 3, 3, padding=1),
    )
    plain.load_state_dict(dilated.state_dict())
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(
                dilated(x)[..., i::3, j::3], plain(x[..., i::3, j::3])
            )


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [16, 8])
@torch.no_grad()
def test_what_the_strided_backbone_keeps_is_unchanged(block, stride):
    strided, x = (
        DeepLabV3Plus(
            2, 3, output_stride=32, block=block, layers=(1, 2, 2, 1), width=8
        ).eval(),
        torch.randn(1, 2, 64, 96),
    )
    finer = DeepLabV3Plus(
        2, 3, output_stride=stride, block=block, layers=(1, 2, 2, 1), width=8
    ).eval()
    finer.load_state_dict(strided.state_dict())
    every = 32 // stride
    deep, expected = (
        finer.deep(finer.low(finer.stem(x))),
        strided.deep(strided.low(strided.stem(x))),
    )
    assert deep.shape[-2:] == (64 // stride, 96 // stride)
    torch.testing.assert_close(
        deep[..., ::every, ::every], expected, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_the_backbone_equals_torchvisions():
    from torchvision.models import resnet50

    theirs = resnet50(
        num_classes=1, replace_stride_with_dilation=[False, True, True]
    ).eval()
    ours = ResNet(3, 1, block=Bottleneck, layers=(3, 4, 6, 3)).eval()
    copy_weights(ours, theirs.state_dict())
    dilate(ours.stages[2:])
    x = torch.randn(1, 3, 33, 47)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_aspp_equals_torchvisions():
    from torchvision.models.segmentation.deeplabv3 import ASPP as Theirs

    theirs, ours = (
        Theirs(8, (2, 3, 5), 6).eval(),
        ASPP(8, 6, (2, 3, 5), depthwise=False).eval(),
    )
    ours.load_state_dict(
        dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    )
    x = torch.randn(2, 8, 9, 14)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_decoder_joins_low_and_deep_features():
    net = small_deeplab(1, 3, width=4, channels=16).eval()
    x = torch.randn(1, 1, 33, 64)
    low = net.low(net.stem(x))
    deep = net.aspp(net.deep(low))
    assert low.shape[2:] == (9, 16) and deep.shape[2:] == (3, 4)
    deep = F.interpolate(deep, (9, 16), mode="bilinear")
    y = net.decoder(torch.cat((deep, net.reduce(low)), 1))
    y = F.interpolate(net.classifier(y), (33, 64), mode="bilinear")
    torch.testing.assert_close(net(x), y)


def seen(net, x):
    """Rows of `x` on which the middle position of the output depends."""
    y = net(x.requires_grad_()).sum(1)[0]
    (grad,) = torch.autograd.grad(y[y.shape[0] // 2, y.shape[1] // 2], x)
    rows = grad.abs().sum((0, 1, 3)).nonzero()
    return int(rows.max() - rows.min()) + 1


@pytest.mark.parametrize("rate", [1, 2, 6])
def test_the_field_of_view_grows_with_the_rate(rate):
    torch.manual_seed(0)
    net = nn.Conv2d(1, 1, 3, padding=rate, dilation=rate)
    assert seen(net, torch.randn(1, 1, 31, 31)) == 2 * rate + 1


def test_dilation_gives_back_the_field_that_a_missing_stride_would_lose():
    torch.manual_seed(0)
    plain, dilated, strided = [
        ResNet(1, 1, layers=(1, 1, 1, 1), width=4, small_images=True)
        .eval()
        .double()
        .stages
        for _ in range(3)
    ]
    dilate(dilated)
    for layer in plain.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
    fields = [
        seen(net, torch.randn(1, 4, 129, 129).double())
        for net in (plain, dilated, strided)
    ]
    assert fields[0] < fields[1] == fields[2]


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(64, 64), (37, 90), (16, 16)])
def test_shape(stride, size):
    net = small_deeplab(2, 3, output_stride=stride, width=4, channels=16).eval()
    assert net(torch.randn(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_parameter_gets_a_finite_gradient(device):
    with torch.device(device):
        net = small_deeplab(width=4, channels=16)
        y = torch.zeros(4, 90, 70, dtype=torch.long)
        F.cross_entropy(net(torch.randn(4, 1, 90, 70)), y).backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    assert device == "meta" or all(g.isfinite().all() and g.any() for g in grads)


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda: small_deeplab(output_stride=4), "output_stride 4.*32, 16 or 8"),
        (
            lambda: small_deeplab()(torch.zeros(2, 3, 64, 64)),
            r"\(2, 3, 64, 64\).*\(B, 1, H, W\)",
        ),
        (lambda: small_deeplab()(torch.zeros(1, 1, 64, 64)), "1 image.*2 or more"),
    ],
)
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

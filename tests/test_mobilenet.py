import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from medlib.models.mobilenet import (
    Conv,
    DepthwiseSeparable,
    MobileNetV1,
    small_image_strides,
)


def count(model):
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model, *shape):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.to("meta")(torch.empty(1, *shape))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("width, parameters", [
    (1.0, 4_231_976), (0.75, 2_585_560), (0.5, 1_331_592), (0.25, 470_072),
])  # fmt: skip
def test_parameter_count_on_the_meta_device(width, parameters):
    with torch.device("meta"):
        assert count(MobileNetV1(width=width)) == parameters


@pytest.mark.parametrize(
    "separable, parameters, work", [(True, 4.2, 569), (False, 29.3, 4866)]
)
def test_table_4_millions_of_parameters_and_multiply_adds(separable, parameters, work):
    with torch.device("meta"):
        net = MobileNetV1(separable=separable).eval()
    assert round(count(net) / 1e6, 1) == parameters
    # Ours is 4867.3: the paper's number fits without the linear layer of 1.0, its 569
    # with it.
    assert multiply_adds(net, 3, 224, 224) / 1e6 == pytest.approx(work, abs=1.5)


@pytest.mark.parametrize("m, n", [(8, 16), (32, 64), (16, 128)])
def test_a_separable_block_costs_the_ratio_of_the_paper(m, n):
    ratio = multiply_adds(DepthwiseSeparable(m, n), m, 14, 10) / multiply_adds(
        Conv(m, n), m, 14, 10
    )
    assert ratio == pytest.approx(1 / n + 1 / 3**2)


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
@torch.no_grad()
def test_a_separable_block_by_hand(stride, dilation):
    block = DepthwiseSeparable(4, 6, stride=stride, dilation=dilation)
    x = torch.randn(2, 4, 9, 7)
    depthwise, pointwise = (layer[0].weight for layer in block)
    maps = [
        F.conv2d(x[:, [c]], depthwise[[c]], None, stride, dilation, dilation)
        for c in range(4)
    ]
    y = F.batch_norm(torch.cat(maps, 1), None, None, training=True).clamp(min=0)
    y = torch.einsum("bchw,oc->bohw", y, pointwise[:, :, 0, 0])
    y = F.batch_norm(y, None, None, training=True).clamp(min=0)
    torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_block_is_a_dense_one_whose_filters_are_products(stride):
    block, x = DepthwiseSeparable(4, 6, stride=stride).eval(), torch.rand(2, 4, 9, 7)
    depthwise, pointwise = (
        layer[0].weight.data.abs_() for layer in block
    )  # above 0, the ReLUs pass all
    dense = F.conv2d(x, pointwise * depthwise.transpose(0, 1), stride=stride, padding=1)
    torch.testing.assert_close(block(x) * (1 + 1e-5), dense)


@pytest.mark.parametrize(
    "small, side, final",
    [(False, 224, 7), (False, 28, 1), (True, 28, 4), (True, 64, 8)],
)
def test_small_images_keep_larger_feature_maps(small, side, final):
    with torch.device("meta"):
        net = MobileNetV1(1, 2, small_images=small).eval()
        assert net.features(torch.empty(1, 1, side, side)).shape == (
            1,
            1024,
            final,
            final,
        )


def test_only_the_first_two_strides_change():
    assert small_image_strides([2, 1, 2, 2, 1, 2]) == [1, 1, 1, 2, 1, 2]
    assert small_image_strides([1, 2, 1]) == [1, 1, 1]


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize(
    "batch, height, width", [(1, 28, 28), (2, 33, 47), (1, 64, 31)]
)
def test_shape(separable, batch, height, width):
    net = MobileNetV1(1, 5, width=0.125, separable=separable, small_images=True).eval()
    assert net(torch.randn(batch, 1, height, width)).shape == (batch, 5)


@pytest.mark.parametrize("separable", [True, False])
def test_every_parameter_gets_a_finite_gradient(separable):
    net = MobileNetV1(1, 10, width=0.125, separable=separable, small_images=True)
    F.cross_entropy(net(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.any()
        for p in net.parameters()
    )


def test_a_training_step_on_the_meta_device():
    with torch.device("meta"):
        net = MobileNetV1(1, 10)
        loss = F.cross_entropy(
            net(torch.randn(4, 1, 64, 48)), torch.zeros(4, dtype=torch.long)
        )
    loss.backward()
    assert net.features[0][0].weight.grad.is_meta


def test_wrong_images_and_widths_say_what_is_needed():
    with pytest.raises(ValueError, match=r"\(1, 1, 32, 32\).*expected \(B, 3, H, W\)"):
        MobileNetV1(3, 2, width=0.125)(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"width 0; expected .* above 0"):
        MobileNetV1(width=0)

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.models.fcn import FCN, Upsample, bilinear, convolutionise, small_fcn
from medlib.models.vgg import VGG, small_vgg


@pytest.mark.parametrize(
    "skips, with_kernels, without",
    [
        (0, 136_152_917, 134_346_581),
        (1, 134_815_994, 134_357_354),
        (2, 134_489_759, 134_362_751),
    ],
)
def test_parameter_count_on_vgg16(skips, with_kernels, without):
    with torch.device("meta"):
        net = FCN(skips=skips)
    assert (
        parameters(net) == with_kernels
        and parameters(net) - parameters(net.upsample) == without
    )


@pytest.mark.parametrize("factor", [2, 4, 8, 32])
@torch.no_grad()
def test_upsampling_starts_as_bilinear_interpolation(factor):
    x = torch.randn(2, 3, 4, 5)
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(Upsample(3, factor)(x), expected, rtol=1e-5, atol=1e-5)


def test_the_bilinear_kernels_of_all_positions_add_up_to_one():
    ones = F.conv_transpose2d(torch.ones(1, 1, 5, 5), bilinear(4)[None, None], stride=4)
    torch.testing.assert_close(ones[0, 0, 4:-4, 4:-4], torch.ones(16, 16))


@torch.no_grad()
def test_a_convolutionised_classifier_gives_the_same_logits():
    for net, size in (
        (small_vgg(1, 3), (1, 28, 28)),
        (VGG(3, 5, width=4, head=(7, 32)), (3, 224, 224)),
    ):
        x = torch.randn(2, *size)
        dense = convolutionise(net.eval()).eval()
        torch.testing.assert_close(
            dense(x), net(x)[..., None, None], rtol=1e-5, atol=1e-5
        )
        assert parameters(dense) == parameters(net)


@torch.no_grad()
def test_a_larger_image_gives_the_logits_of_its_cut_outs():
    net = small_vgg(1, 3, convs=(1, 1), head=(5, 16), batch_norm=True).eval()
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (
                0,
                0,
            )  # else a cut-out sees zeros where the larger image has surroundings
    x = torch.randn(1, 1, 36, 44)
    dense = convolutionise(net).eval()(x)[0]  # → (3, 3, 5): a position every 4 pixels
    crops = x[0, 0].unfold(0, 28, 4).unfold(1, 28, 4).reshape(-1, 1, 28, 28)
    torch.testing.assert_close(dense.flatten(1).T, net(crops), rtol=1e-5, atol=1e-5)


def test_the_convolutions_share_the_classifiers_weights():
    net = small_vgg(1, 3)
    dense = convolutionise(net)
    first = next(
        layer
        for layer in dense
        if isinstance(layer, nn.Conv2d) and layer.out_channels == 128
    )
    assert first.weight.data_ptr() == net.classifier[0].weight.data_ptr()


@pytest.mark.parametrize("skips", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 64), (37, 90), (1, 1)])
def test_shape(skips, size):
    assert small_fcn(2, 3, skips=skips, width=4).eval()(
        torch.randn(2, 2, *size)
    ).shape == (2, 3, *size)


@torch.no_grad()
def test_skips_are_sums_that_start_at_zero():
    net, x = small_fcn(skips=2, width=4).eval(), torch.randn(1, 1, 32, 48)
    assert not any(p.any() for p in net.scores.parameters())
    for score in net.scores:
        nn.init.normal_(score.weight)
    pools = [z := x]
    pools += [z := stage(z) for stage in net.stages]
    y = net.upsample[0](net.head(pools[4])) + net.scores[0](pools[3])
    y = net.upsample[1](y) + net.scores[1](pools[2])
    torch.testing.assert_close(net(x), net.upsample[2](y))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_parameter_gets_a_finite_gradient(device):
    with torch.device(device):
        net = small_fcn(width=4)
        y = torch.zeros(4, 45, 70, dtype=torch.long)
        F.cross_entropy(net(torch.randn(4, 1, 45, 70)), y).backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    assert device == "meta" or all(g.isfinite().all() and g.any() for g in grads)


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda: FCN(convs=(1, 1), skips=2), "skips 2.*0 to 1"),
        (lambda: FCN(width=4, head=(4, 8)), "head.*odd"),
        (lambda: Upsample(1, 3), "factor 3.*even"),
        (lambda: convolutionise(small_vgg(head=None)), "one dense layer.*dense head"),
        (
            lambda: small_fcn()(torch.zeros(1, 3, 64, 64)),
            r"\(1, 3, 64, 64\).*\(B, 1, H, W\)",
        ),
    ],
)
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

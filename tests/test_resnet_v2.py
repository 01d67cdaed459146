import pytest
import torch
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.models.resnet import BasicBlock, ResNet, small_resnet
from medlib.models.resnet_v2 import (
    Concatenate,
    OptionA,
    OptionC,
    PreActivation,
    ReLUBefore,
    ResNetV2,
)

BLOCKS = [ReLUBefore, PreActivation, Concatenate, OptionA, OptionC]


def small(block, layers=(1, 1, 1), width=8):
    return ResNet(1, 2, block=block, layers=layers, width=width, small_images=True)


@pytest.mark.parametrize(
    "depth, count", [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)]
)
def test_parameters_of_the_paper_with_option_a(depth, count):
    with torch.device("meta"):
        net = ResNet(
            3,
            10,
            block=OptionA,
            layers=((depth - 2) // 6,) * 3,
            width=16,
            small_images=True,
        )
    assert parameters(net) == count


@pytest.mark.parametrize("build", [*BLOCKS, ResNetV2])
@pytest.mark.parametrize("size", [(28, 28), (27, 33)])
def test_shapes_and_gradients(build, size):
    net = ResNetV2(layers=(1, 1, 1), width=8) if build is ResNetV2 else small(build)
    logits = net(torch.randn(2, 1, *size))
    logits.sum().backward()
    assert logits.shape == (2, 2)
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters()
    )


def norm(x, layer):
    """BatchNorm in training, by hand."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = x.var((0, 2, 3), keepdim=True, correction=0)
    scale, shift = (p[:, None, None] for p in (layer.weight, layer.bias))
    return scale * (x - mean) / (variance + 1e-5).sqrt() + shift


def conv(x, layer, stride=1):
    side = layer.weight.shape[2]
    return F.conv2d(x, layer.weight, stride=stride, padding=side // 2)


def relu(x):
    return x.clamp(min=0)


def randomise(net):
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return net.double()


def images(channels):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 8, 8, generator=generator, dtype=torch.double)


def residual(x, block, stride=1):
    """F of the basic block."""
    f = relu(norm(conv(x, block.conv1, stride), block.bn1))
    return norm(conv(f, block.conv2), block.bn2)


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_a_block_that_keeps_the_shape_by_hand(block):
    block, x = randomise(block(4, 4)), images(4)
    if isinstance(block, ReLUBefore):
        expected = x + relu(residual(x, block))
    elif isinstance(block, PreActivation):
        f = conv(relu(norm(x, block.bn1)), block.conv1)
        expected = x + conv(relu(norm(f, block.bn2)), block.conv2)
    elif isinstance(block, Concatenate):
        both = torch.cat((relu(residual(x, block)), x), 1)
        expected = relu(norm(conv(both, block.join), block.bn3))
    elif isinstance(block, OptionA):
        expected = relu(x + residual(x, block))
    else:
        projected = norm(conv(x, block.shortcut[0]), block.shortcut[1])
        expected = relu(projected + residual(x, block))
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_blocks_that_change_the_shape_by_hand():
    before, x = randomise(ReLUBefore(4, 6, 2)), images(4)
    projected = norm(conv(x, before.shortcut[0], 2), before.shortcut[1])
    expected = projected + relu(residual(x, before, 2))
    torch.testing.assert_close(before(x), expected)
    # The projection of a pre-activation block sees what its convolutions see.
    block = randomise(PreActivation(4, 6, 2))
    a = relu(norm(x, block.bn1))
    f = conv(relu(norm(conv(a, block.conv1, 2), block.bn2)), block.conv2)
    torch.testing.assert_close(block(x), conv(a, block.shortcut, 2) + f)


@torch.no_grad()
def test_blocks_without_a_shortcut_are_their_branch_alone():
    x = images(4)
    block = randomise(ReLUBefore(4, 4, shortcut=False))
    torch.testing.assert_close(block(x), relu(residual(x, block)))
    block = randomise(PreActivation(4, 4, shortcut=False))
    f = conv(relu(norm(x, block.bn1)), block.conv1)
    expected = conv(relu(norm(f, block.bn2)), block.conv2)
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_the_pre_activation_network_by_hand():
    """Two blocks: the first hands on what is behind its norm and ReLU, the second its
    input itself; a norm and a ReLU come behind the last sum.
    """
    net, x = randomise(ResNetV2(layers=(2,), width=4)), images(1)
    first, second = net.stages[0]
    a = relu(norm(conv(x, net.conv1), first.bn1))
    f = relu(norm(conv(a, first.conv1), first.bn2))
    y = a + conv(f, first.conv2)
    f = conv(relu(norm(y, second.bn1)), second.conv1)
    y = y + conv(relu(norm(f, second.bn2)), second.conv2)
    y = relu(norm(y, net.bn1)).mean((2, 3))
    torch.testing.assert_close(net(x), y @ net.fc.weight.T + net.fc.bias)


def test_option_a_cannot_take_channels_away():
    with pytest.raises(ValueError, match="8 channels fewer.*expected"):
        OptionA(16, 8)


def test_relu_before_never_takes_away():
    block, x = ReLUBefore(4, 4).eval(), torch.randn(2, 4, 9, 9)
    assert (block(x) >= x).all() and not (BasicBlock(4, 4).eval()(x) >= x).all()


def test_pre_activation_hands_its_input_through():
    block, x = PreActivation(4, 4).eval(), torch.randn(2, 4, 9, 9)
    torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x)


def test_option_a_pads_with_zeros_and_adds_no_parameter():
    a, b = OptionA(4, 8, 2), BasicBlock(4, 8, 2)
    x = torch.randn(2, 4, 9, 9)
    y = a.shortcut(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2]) and not y[:, 4:].any()
    assert parameters(b) - parameters(a) == 4 * 8 + 2 * 8


def test_option_c_projects_every_shortcut():
    per_block = [
        block.shortcut[0].weight.shape
        for stage in small(OptionC, (2, 2, 2)).stages
        for block in stage
    ]
    assert len(per_block) == 6 and parameters(small(OptionC)) > parameters(
        small_resnet(8, width=8)
    )


def test_concatenation_looks_at_both():
    block, x = Concatenate(4, 4).eval(), torch.randn(2, 4, 9, 9)
    assert block.join.in_channels == 8
    torch.nn.init.zeros_(
        block.conv2.weight
    )  # F(x) is gone, the input still comes through
    assert block(x).std() > 0

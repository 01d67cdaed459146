import pytest
import torch

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

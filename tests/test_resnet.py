import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.cost import parameters_and_macs as count
from medlib.models.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
    resnet34,
    resnet50,
    small_resnet,
)
from medlib.pretrained import copy_weights


@pytest.mark.parametrize(
    "build, parameters_, macs",
    [
        (ResNet, 11_689_512, 1.814),
        (resnet34, 21_797_672, 3.664),
        (resnet50, 25_557_032, 4.089),
        (lambda: ResNet(block=Bottleneck, layers=(3, 4, 23, 3)), 44_549_160, 7.801),
    ],
)
def test_parameters_and_multiply_adds(build, parameters_, macs):
    counted, multiplied = count(build, (3, 224, 224))
    assert counted == parameters_ and round(multiplied / 1e9, 3) == macs


@pytest.mark.parametrize("build, name", [(ResNet, "resnet18"), (resnet50, "resnet50")])
@pytest.mark.parametrize("train", [False, True])
def test_equals_torchvision(build, name, train):
    from torchvision import models

    theirs, ours = (
        getattr(models, name)(num_classes=3).train(train),
        build(3, 3).train(train),
    )
    copy_weights(ours, theirs.state_dict())
    x = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@torch.no_grad()
def test_a_block_without_a_shortcut_is_its_layers_in_a_row(block):
    layer = block(8, 4, 2, shortcut=False).train()
    rows = [(layer.conv1, layer.bn1), (layer.conv2, layer.bn2)]
    if block is Bottleneck:
        rows.append((layer.conv3, layer.bn3))
    parts = [part for row in rows for part in (*row, nn.ReLU())]
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(layer(x), nn.Sequential(*parts)(x))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_adds_its_input(block):
    layer, x = block(8 * block.expansion, 8), torch.randn(2, 8 * block.expansion, 5, 7)
    torch.testing.assert_close(layer(x), F.relu(layer.residual(x) + x))
    layer.shortcut = None
    torch.testing.assert_close(layer(x), F.relu(layer.residual(x)))


@pytest.mark.parametrize("depth, count_", [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_depth_of_the_small_networks(depth, count_):
    # Shortcuts without parameters (option A, or none at all): the counts of the paper's
    # Table 6
    net = small_resnet(depth, 3, 10, shortcut=False)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == depth
    assert parameters(net) == count_


def test_the_plain_counterpart_lacks_only_the_projections():
    with_, without = small_resnet(14), small_resnet(14, shortcut=False)
    assert parameters(with_) - parameters(without) == 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (2, 1, 29, 47)])
def test_shape(shape):
    assert small_resnet(8).eval()(torch.randn(shape)).shape == (shape[0], 2)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_parameter_gets_a_finite_gradient(device):
    with torch.device(device):
        net = small_resnet(8)
        F.cross_entropy(
            net(torch.randn(8, 1, 28, 28)), torch.zeros(8, dtype=torch.long)
        ).backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    assert device == "meta" or all(g.isfinite().all() and g.any() for g in grads)


def test_overfits_one_batch():
    torch.manual_seed(0)
    net, x, y = small_resnet(8, width=8), torch.randn(8, 1, 28, 28), torch.arange(8) % 2
    optimizer, losses = torch.optim.AdamW(net.parameters(), lr=1e-2), []
    for _ in range(30):
        losses.append(F.cross_entropy(net(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


def test_a_depth_that_does_not_exist():
    with pytest.raises(ValueError, match=r"depth 18.*expected 6n"):
        small_resnet(18)

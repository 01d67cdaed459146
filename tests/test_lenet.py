import pytest
import torch
from torch.nn import functional as F

from medlib.models import LeNet, LeNet5
from medlib.models.lenet import C3_INPUTS, GLYPHS, Subsample


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "build, arguments, parameters",
    [
        (LeNet, (1, 10), 61_706),
        (LeNet, (3, 10), 62_006),
        (LeNet, (1, 2), 61_026),
        (LeNet5, (1, 10), 60_000),
        (LeNet5, (1, 2), 60_000),
    ],
)
def test_parameter_count_on_the_meta_device(build, arguments, parameters):
    with torch.device("meta"):
        assert count(build(*arguments)) == parameters


@pytest.mark.parametrize("build, side", [(LeNet, 28), (LeNet5, 32)])
@pytest.mark.parametrize("batch, classes", [(1, 2), (3, 10)])
def test_shape(build, side, batch, classes):
    assert build(1, classes)(torch.randn(batch, 1, side, side)).shape == (
        batch,
        classes,
    )


def test_layers_of_1998():
    names = ("c1", "s2", "c3", "s4", "c5", "f6", "output")
    net = LeNet5()
    assert [count(getattr(net, name)) for name in names] == [
        156,
        12,
        1_516,
        32,
        48_120,
        10_164,
        0,
    ]
    assert net.output.code.shape == (10, 84) and set(
        net.output.code.unique().tolist()
    ) == {-1, 1}


def test_c3_table_is_that_of_the_paper():
    assert [len(row) for row in C3_INPUTS] == [3] * 6 + [4] * 9 + [6]
    assert [sum(i in row for row in C3_INPUTS) for i in range(6)] == [10] * 6
    assert len(set(map(frozenset, C3_INPUTS))) == 16


def randomise(net, std=0.3):
    """Weights far from their initialisation, where a squashing is not linear."""
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=std)
    return net.double()


@torch.no_grad()
def test_lenet5_by_hand():
    net = randomise(LeNet5(1, 10))
    x = torch.randn(2, 1, 32, 32, dtype=torch.double)

    def squash(x):
        return 1.7159 * torch.tanh(2 * x / 3)

    def subsample(x, layer):
        blocks = x.unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5))
        return squash(layer.weight * blocks + layer.bias)

    dense, kernels = torch.zeros(16, 6, 5, 5).double(), iter(net.c3.weight)
    for o, row in enumerate(C3_INPUTS):
        for i in row:
            dense[o, i] = next(kernels)
    y = subsample(squash(F.conv2d(x, net.c1.weight, net.c1.bias)), net.s2)
    y = subsample(squash(F.conv2d(y, dense, net.c3.bias)), net.s4)
    y = squash(F.conv2d(y, net.c5.weight, net.c5.bias)).flatten(1)
    y = squash(y @ net.f6.weight.T + net.f6.bias)
    distances = [((y - code) ** 2).sum(1) for code in net.output.code]
    torch.testing.assert_close(
        net(x).double(), -torch.stack(distances, 1), rtol=1e-5, atol=1e-4
    )


@torch.no_grad()
def test_lenet_by_hand():
    net = randomise(LeNet())
    x = torch.randn(2, 1, 28, 28, dtype=torch.double)
    w = list(net.parameters())
    y = F.max_pool2d(F.conv2d(x, w[0], w[1], padding=2).clamp(min=0), 2)
    y = F.max_pool2d(F.conv2d(y, w[2], w[3]).clamp(min=0), 2).flatten(1)
    y = (y @ w[4].T + w[5]).clamp(min=0)
    y = (y @ w[6].T + w[7]).clamp(min=0)
    torch.testing.assert_close(net(x), y @ w[8].T + w[9])


def test_sparse_convolution_ignores_channels_it_does_not_see():
    c3, x = LeNet5().c3, torch.randn(1, 6, 14, 14)
    changed = x.clone()
    changed[:, 3] += 1
    moved = (c3(x) - c3(changed)).abs().amax((0, 2, 3)) > 1e-6
    assert moved.tolist() == [3 in row for row in C3_INPUTS]


def test_subsampling_is_a_scaled_mean():
    layer, x = Subsample(1), torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(layer(x), F.avg_pool2d(x, 2))


def test_glyphs_are_ten_different_digits():
    assert len(set(GLYPHS)) == 10 and all(len(g) == 12 and max(g) < 128 for g in GLYPHS)


@pytest.mark.parametrize("build, side", [(LeNet, 28), (LeNet5, 32)])
def test_every_parameter_gets_a_finite_gradient(build, side):
    net = build(1, 10)
    F.cross_entropy(net(torch.randn(8, 1, side, side)), torch.arange(8)).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.any()
        for p in net.parameters()
    )


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("build, side", [(LeNet, 28), (LeNet5, 32)])
def test_a_training_step_on_the_meta_device(build, side, classes):
    with torch.device("meta"):
        net = build(1, classes)
        loss = F.cross_entropy(
            net(torch.randn(4, 1, side, side)), torch.zeros(4, dtype=torch.long)
        )
    loss.backward()
    assert (
        net.c1.weight.grad.is_meta
        if build is LeNet5
        else net.features[0].weight.grad.is_meta
    )


def test_lenet5_overfits_one_batch():
    torch.manual_seed(0)
    net, x, y = LeNet5(), torch.randn(10, 1, 32, 32), torch.arange(10)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        losses.append(F.cross_entropy(net(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("build, wrong", [(LeNet, 32), (LeNet5, 28)])
def test_a_wrong_size_says_which_is_needed(build, wrong):
    with pytest.raises(ValueError, match=rf"{wrong}, {wrong}\).*expected"):
        build()(torch.zeros(1, 1, wrong, wrong))


def test_width_multiplies_every_layer():
    wide = LeNet(1, 10, width=2)
    assert [p.shape[0] for p in wide.parameters() if p.ndim > 1] == [
        12,
        32,
        240,
        168,
        10,
    ]

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from torch.nn import functional as F

from medlib.cost import parameters
from medlib.models.autoencoder import Autoencoder, LinearAutoencoder


def test_parameter_counts():
    with torch.device("meta"):
        assert parameters(LinearAutoencoder()) == 2 * 784 * 16 + 16 + 784 == 25_888
        assert parameters(Autoencoder()) == 120_257


def test_the_linear_one_finds_the_principal_components():
    torch.manual_seed(0)
    x = torch.randn(500, 1, 3, 4, dtype=torch.double) * torch.linspace(3, 1, 12).view(
        3, 4
    )
    net = LinearAutoencoder(size=(3, 4), code=3).double()
    optimizer = torch.optim.LBFGS(
        net.parameters(), max_iter=500, line_search_fn="strong_wolfe"
    )
    optimizer.step(lambda: _backward(net, optimizer, x))
    flat = x.flatten(1).numpy()
    components = np.linalg.svd(flat - flat.mean(0))[2][:3]
    assert (
        subspace_angles(net.decoder.weight.detach().numpy(), components.T).max() < 1e-4
    )


def _backward(net, optimizer, x):
    optimizer.zero_grad()
    loss = F.mse_loss(net(x), x)
    loss.backward()
    return loss


def test_the_linear_one_is_linear():
    net, a, b = (
        LinearAutoencoder(size=(4, 5)).double(),
        *torch.randn(2, 1, 1, 4, 5, dtype=torch.double),
    )
    torch.testing.assert_close(net(a + b) + net(0 * a), net(a) + net(b))


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("size", [(64, 64), (17, 42), (8, 8)])
def test_shape(classes, size):
    assert Autoencoder(2, classes, width=4)(torch.randn(3, 2, *size)).shape == (
        3,
        classes,
        *size,
    )


def test_shape_of_the_linear_one():
    assert LinearAutoencoder(1, 4, size=(9, 7), code=3)(
        torch.randn(2, 1, 9, 7)
    ).shape == (2, 4, 9, 7)


@torch.no_grad()
def test_an_autoencoder_of_two_levels_by_hand():
    torch.manual_seed(0)
    net = Autoencoder(1, 2, width=2, depth=2, code=3).double()
    x = torch.randn(2, 1, 9, 10, dtype=torch.double)
    w = iter(net.parameters())

    def layer(x):
        return F.conv2d(x, next(w), next(w), padding=1).clamp(min=0)

    y = F.max_pool2d(layer(x), 2)  # → (2, 2, 4, 5)
    y = layer(F.max_pool2d(layer(y), 2))  # → (2, 4, 2, 2) → (2, 3, 2, 2)
    y = layer(F.interpolate(y, (4, 5)))
    y = layer(F.interpolate(y, (9, 10)))
    torch.testing.assert_close(net(x), F.conv2d(y, next(w), next(w)))


def test_all_passes_the_bottleneck():
    net = Autoencoder(width=4).eval()
    net.bottleneck.register_forward_hook(
        lambda module, inputs, output: torch.zeros_like(output)
    )
    a, b = torch.randn(2, 1, 1, 32, 32)
    torch.testing.assert_close(net(a), net(b), rtol=0, atol=0)


def test_the_bottleneck_has_the_size_that_was_asked_for():
    net, seen = Autoencoder(width=4, depth=2, code=3), []
    net.bottleneck.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape)
    )
    net(torch.randn(1, 1, 16, 24))
    assert seen == [(1, 3, 4, 6)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "build",
    [lambda: Autoencoder(width=4, norm=True), lambda: LinearAutoencoder(size=(16, 24))],
)
def test_every_parameter_gets_a_finite_gradient(device, build):
    with torch.device(device):
        net, x = build(), torch.randn(4, 1, 16, 24)
        F.mse_loss(net(x), x).backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    assert device == "meta" or all(g.isfinite().all() and g.any() for g in grads)


def test_learns_to_copy_one_batch():
    torch.manual_seed(0)
    net, x, losses = (
        Autoencoder(width=8, depth=2),
        torch.randn(2, 1, 4, 4).repeat_interleave(4, -1).repeat_interleave(4, -2),
        [],
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        losses.append(F.mse_loss(net(x), x))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    "act, words",
    [
        (
            lambda: Autoencoder()(torch.zeros(1, 1, 7, 64)),
            r"7, 64\).*expected.*8 × 8",
        ),
        (
            lambda: Autoencoder()(torch.zeros(1, 3, 64, 64)),
            r"\(1, 3, 64, 64\).*\(B, 1, H, W\)",
        ),
        (lambda: Autoencoder(depth=0), "depth 0.*1 or more"),
        (
            lambda: LinearAutoencoder()(torch.zeros(1, 1, 28, 29)),
            r"28, 29.*\(B, 1, 28, 28\)",
        ),
    ],
)
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

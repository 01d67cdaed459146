"""The ground floor: sizes, precision, exact layers, generators."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from medlib import device, notes
from medlib.device import profile
from medlib.models import UNet3D, VNet


def test_profile(monkeypatch):
    monkeypatch.setenv("MEDLIB_PROFILE", "smoke")
    assert profile() == "smoke" and profile(smoke=1, full=2) == 1
    monkeypatch.setenv("MEDLIB_PROFILE", "quick")
    assert profile(smoke=1, quick=2, full=3) == 2 and profile(smoke=1, full=3) == 3
    monkeypatch.setenv("MEDLIB_PROFILE", "huge")
    with pytest.raises(ValueError, match="huge.*smoke, quick, full"):
        profile()


@pytest.mark.parametrize("gpu, name", [(True, "full"), (False, "quick")])
def test_the_profile_of_a_machine(gpu, name, monkeypatch):
    monkeypatch.delenv("MEDLIB_PROFILE", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert profile() == name


def test_precision_can_be_forced(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "no")
    assert device.precision() == "no"
    monkeypatch.setenv("MEDLIB_PRECISION", "fp8")
    with pytest.raises(ValueError, match="fp8.*expected bf16 or no"):
        device.precision()


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "no")])
def test_a_gpu_that_imitates_bf16_gets_fp32(units, expected, monkeypatch):
    def supported(including_emulation=True):
        return units or including_emulation

    monkeypatch.delenv("MEDLIB_PRECISION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    assert device.precision() == expected


GROUPED = nn.Conv2d(32, 32, 3, padding=2, dilation=2, groups=32), (4, 32, 32, 32)
THIN = nn.Conv3d(8, 8, 3, padding=1), (2, 8, 2, 16, 16)
LINE = nn.Conv1d(32, 32, 3, 2, padding=1), (2, 32, 1)
STRIDE = nn.Conv3d(32, 32, 2, 3, padding=1), (2, 32, 2, 2, 2)
ALONE = nn.Conv2d(16, 16, (3, 5), padding=2), (16, 8, 4)  # an image without an axis B
WRONG = {"groups": GROUPED, "thin": THIN, "1-D": LINE, "stride": STRIDE, "one": ALONE}


@pytest.mark.parametrize("layer, shape", WRONG.values(), ids=WRONG)
def test_layers_that_bf16_gets_wrong_learn_in_fp32(layer, shape, monkeypatch):
    """Their weight gradients were up to 1e35 in bf16 under autocast on a CPU."""
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    torch.manual_seed(0)
    x, gradients = torch.randn(shape), []
    with device.exact(layer), device.mixed_precision():
        assert layer(x).dtype == torch.float32
        gradients += torch.autograd.grad(layer(x).square().mean(), layer.weight)
    gradients += torch.autograd.grad(layer(x).square().mean(), layer.weight)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "net, size",
    [(partial(UNet3D, width=8), (2, 1, 2, 16, 16)),
     (partial(VNet, width=4), (1, 1, 16, 16, 16))],
    ids=["UNet3D", "VNet"],
)  # fmt: skip
def test_networks_for_stacks_learn_in_bf16_what_they_learn_in_fp32(
    net, size, monkeypatch
):
    """Their deepest maps are thinner than the kernels: gradients were NaN."""
    gradients = []
    for precision in ("no", "bf16"):
        monkeypatch.setenv("MEDLIB_PRECISION", precision)
        torch.manual_seed(0)
        model, x = device.place(net()).train(), torch.randn(size)
        with device.exact(model):
            with device.mixed_precision():
                logits = model(x)
            nn.functional.cross_entropy(logits.float(), (x[:, 0] > 0).long()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, found = gradients
    assert found.isfinite().all() and exact.norm() > 0.01
    assert torch.cosine_similarity(found, exact, dim=0) > 0.995
    assert found.norm().item() == pytest.approx(exact.norm().item(), rel=0.01)


def test_exact_layers_take_weights_in_their_own_precision(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    layer = nn.Conv2d(4, 4, 3, groups=4).double()
    x = torch.ones(1, 4, 8, 8).double()
    with device.exact(layer), device.mixed_precision():
        assert layer(x).dtype == torch.float64


def test_other_layers_compute_in_bf16_and_all_are_put_back(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(KeyError), device.exact(net), device.mixed_precision():
        assert net[0](torch.ones(1, 4, 8, 8)).dtype == torch.bfloat16
        raise KeyError
    assert not any("forward" in vars(layer) for layer in net)


def test_a_forward_of_its_own_comes_back_and_may_take_more(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    layer = nn.Conv2d(1, 1, 1, groups=1)
    layer.forward = doubled = lambda x, times=2: times * x
    with device.exact(layer), device.mixed_precision():
        assert layer(torch.ones(1, 1, 2, 2), 3).max() == 3
    assert layer.forward is doubled


def test_own_randomness_puts_all_three_generators_back():
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    device.seed(3)
    expected = drawn()
    device.seed(3)
    with device.own_randomness():
        device.seed(99)
        drawn()
    assert drawn() == expected


def test_a_seed_reaches_all_three_generators():
    def drawn(value):
        device.seed(value)
        return random.random(), np.random.rand(), torch.rand(1).item()

    pairs = zip(drawn(1), drawn(2), strict=True)
    assert drawn(1) == drawn(1) and all(a != b for a, b in pairs)


def test_nobody_listens_after_a_run():
    heard = []
    with notes.listening(lambda *note: heard.append(note)):
        notes.note("loaded", name="digits", source="package")
    notes.note("loaded", name="other", source="cache")
    assert heard == [("loaded", {"name": "digits", "source": "package"})]

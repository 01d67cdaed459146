"""The ground floor: sizes, precision, exact layers, generators."""

import os
import random
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medlib import device, notes
from medlib.device import profile
from medlib.models import UNet3D, VNet
from medlib.train import Plan


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


def test_a_long_chapter_is_quick_on_a_card_without_bf16(monkeypatch, capsys):
    monkeypatch.setenv("MEDLIB_PROFILE", "")  # and put back what it was before
    monkeypatch.delenv("MEDLIB_PRECISION", raising=False)
    device.spare(45)  # no GPU: quick is the default anyhow
    assert not os.environ["MEDLIB_PROFILE"]
    t4(monkeypatch)
    device.spare(45)
    assert device.profile() == "quick"
    assert "about 45 minutes" in capsys.readouterr().out
    monkeypatch.setenv("MEDLIB_PROFILE", "full")
    device.spare(45)
    assert device.profile() == "full"


def test_precision_can_be_forced(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "no")
    assert device.precision() == "no"
    monkeypatch.setenv("MEDLIB_PRECISION", "fp8")
    with pytest.raises(ValueError, match="fp8.*expected bf16, fp16 or no"):
        device.precision()


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "no")])
def test_a_gpu_that_imitates_bf16_gets_fp32(units, expected, monkeypatch):
    def supported(including_emulation=True):
        return units or including_emulation

    monkeypatch.delenv("MEDLIB_PRECISION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    assert device.precision() == expected


def t4(monkeypatch, capability=(7, 5)):
    """A GPU that only imitates bf16, as far as questions go."""
    monkeypatch.delenv("MEDLIB_PRECISION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation: capability[0] > 7
    )


@pytest.mark.parametrize(
    "shape, expected",
    [((64, 3, 224, 224), "fp16"), ((64, 1, 300, 224), "fp16"), ((), "no"),
     ((64, 3, 224, 223), "no"), ((64, 1, 64, 64), "no"), ((2, 1, 10, 224, 224), "no")],
)  # fmt: skip
def test_without_bf16_only_large_images_take_fp16(shape, expected, monkeypatch):
    t4(monkeypatch)
    assert device.precision(shape) == expected
    t4(monkeypatch, (8, 0))
    assert device.precision(shape) == "bf16"


@pytest.mark.parametrize(
    "capability, side, layout",
    [((7, 5), 64, False), ((7, 5), 224, True), ((8, 0), 64, True)],
)
def test_an_old_gpu_takes_the_channels_last_in_fp16_only(
    capability, side, layout, monkeypatch
):
    t4(monkeypatch, capability)
    monkeypatch.setattr(device, "device", lambda: torch.device("cpu"))
    x, model = torch.zeros(2, 3, side, side), nn.Conv2d(3, 4, 3)
    device.place(model, x.shape)
    for tensor in (device.in_layout(x), model.weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == layout


def test_only_fp16_scales_the_loss(monkeypatch):
    for name in ("bf16", "fp16", "no"):
        monkeypatch.setenv("MEDLIB_PRECISION", name)
        assert device.scaler((2, 1, 8, 8)).is_enabled() == (name == "fp16")
        with device.mixed_precision():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == device.HALVES.get(name, torch.float32)


def test_cudnn_is_tuned_for_a_while():
    before = torch.backends.cudnn.benchmark
    with pytest.raises(KeyError), device.tuned():
        assert torch.backends.cudnn.benchmark
        raise KeyError
    assert torch.backends.cudnn.benchmark == before


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


def test_mixed_precision_is_bf16_on_every_device(monkeypatch):
    """torch's own choice on a GPU is fp16."""
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    monkeypatch.setattr(device, "device", lambda: torch.device("mps"))
    context = device.mixed_precision()
    assert (context.device, context.fast_dtype) == ("mps", torch.bfloat16)


def test_a_seed_reaches_all_three_generators():
    def drawn(value):
        device.seed(value)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert drawn(7)[1] == np.random.RandomState(7).rand()
    assert drawn(2**32 + 1)[1] == drawn(1)[1]  # NumPy's seeds end there
    assert drawn(np.int16(1)) == drawn(1) and drawn(-1)[1] == drawn(2**32 - 1)[1]
    device.seed()
    assert torch.rand(1).item() == drawn(0)[2]
    pairs = zip(drawn(1), drawn(2), strict=True)
    assert drawn(1) == drawn(1) and all(a != b for a, b in pairs)


# ---------------------------------------------------------------- several processes


def of_three(monkeypatch, rank, *, world=3, **talk):
    """This process is number `rank` of three; `talk` is what the others say."""
    monkeypatch.setattr(device, "rank_and_world", lambda: (rank, world))
    for name, answer in talk.items():
        monkeypatch.setattr(torch.distributed, name, answer)


def test_rows_are_dealt_in_turn_and_gathered_in_their_order(monkeypatch):
    rows = torch.arange(14.0).view(7, 2)
    parts = []
    for rank in range(3):
        of_three(monkeypatch, rank)
        parts.append(device.own(rows))
    assert [p[:, 0].tolist() for p in parts] == [[0, 6, 12], [2, 8], [4, 10]]

    def all_gather(found, padded):
        assert padded.shape == (3, 2)  # as many rows as the longest part
        for one, part in zip(found, parts, strict=True):
            one.zero_()[: len(part)] = part

    for rank in range(3):
        of_three(monkeypatch, rank, all_gather=all_gather)
        assert torch.equal(device.gathered(parts[rank], 7), rows)


def test_the_mean_over_processes_is_the_mean_over_images(monkeypatch):
    """Parts of 3, 2 and 2 images: K n / B times the mean of each, over K, is the mean
    of all."""
    losses = torch.arange(7.0) ** 2
    of_three(monkeypatch, 0, all_reduce=lambda total: total.fill_(7))
    parts = [losses[rank::3] for rank in range(3)]
    weighted = [device.weight(len(part)) * part.mean() for part in parts]
    assert sum(weighted) / 3 == losses.mean()
    assert device.weight(3) == 9 / 7


def test_gradients_are_averaged_where_there_are_any(monkeypatch):
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[1.0, 4.0]])  # the bias has none
    of_three(monkeypatch, 1, world=2, all_reduce=lambda grad: grad.add_(5))
    device.average_gradients(model)
    assert model.weight.grad.tolist() == [[3.0, 4.5]] and model.bias.grad is None
    assert device.mean_over_processes(torch.tensor(4.0)) == 4.5


@pytest.mark.parametrize("buffers_only", [False, True])
def test_the_first_process_gives_its_weights_to_the_others(buffers_only, monkeypatch):
    def broadcast(t, source):
        assert source == 0
        t.fill_(7)

    net = nn.BatchNorm1d(2)
    of_three(monkeypatch, 1, world=2, broadcast=broadcast)
    device.share(net, buffers_only=buffers_only)
    assert all((b == 7).all() for b in net.buffers())
    assert all((p == 7).all() != buffers_only for p in net.parameters())


def test_a_process_alone_asks_nobody(monkeypatch):
    """No group of processes exists here: any question would fail."""
    x, model = torch.arange(4.0).view(4, 1), nn.Linear(1, 1)
    model(x).sum().backward()
    gradient = model.weight.grad.clone()
    device.share(model)
    device.average_gradients(model)
    assert device.rank_and_world() == (0, 1) and device.weight(5) == 1.0
    assert device.own(x) is x or torch.equal(device.own(x), x)
    assert device.gathered(x, 4) is x and torch.equal(model.weight.grad, gradient)
    assert device.mean_over_processes(torch.tensor(3.0)) == 3


def test_more_processes_than_images_are_refused(monkeypatch):
    of_three(monkeypatch, 0)
    assert Plan.of(3, 3, steps=1).batch_size == 3
    for images, batch_size in ((2, 8), (8, 2)):
        with pytest.raises(ValueError, match="of 2 images for 3 processes; expected"):
            Plan.of(images, batch_size, steps=1)


def test_without_accelerate_several_processes_are_told_what_to_install(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        ModuleNotFoundError, match="2 processes.*pip install accelerate"
    ):
        device.device()


def test_the_processes_are_those_that_accelerate_counts(monkeypatch):
    here = SimpleNamespace(device="there", process_index=1, num_processes=2)
    monkeypatch.setattr(device, "_accelerator", {"2": here}.get)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert device.rank_and_world() == (1, 2) and device.device() == "there"
    for alone in ("1", None):
        monkeypatch.delenv("WORLD_SIZE")
        if alone:
            monkeypatch.setenv("WORLD_SIZE", alone)
        assert device.rank_and_world() == (0, 1)
        assert device.device() == torch.device("cpu")
        monkeypatch.setenv("WORLD_SIZE", "1")


# ---------------------------------------------------------------- precision and layout


@pytest.mark.parametrize(
    "units, expected",
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({}, "no"),
     ({"amx_bf16": False, "avx512_bf16": False, "avx2": True}, "no")],
)  # fmt: skip
def test_a_processor_takes_bf16_where_it_has_units_for_it(units, expected, monkeypatch):
    monkeypatch.delenv("MEDLIB_PRECISION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert device.precision() == expected
    with device.mixed_precision() as context:
        assert torch.is_autocast_enabled("cpu") == (expected == "bf16")
    assert context is None or context.fast_dtype == torch.bfloat16


def test_batches_and_kernels_lie_channels_last():
    for x, layout in (
        (torch.zeros(2, 3, 4, 5), torch.channels_last),
        (torch.zeros(2, 3, 4, 5, 6), torch.channels_last_3d),
    ):
        assert device.in_layout(x).is_contiguous(memory_format=layout)
    flat = torch.zeros(4, 3).T
    assert device.in_layout(flat) is flat
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert device.place(model) is model
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("inputs, kind", [(2**10, "bfloat16"), (2**11, "float32")])
def test_a_large_dense_layer_stays_in_fp32(inputs, kind, monkeypatch):
    """More than 2²⁰ weights: rounding them costs more than it saves."""
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    layer = nn.Linear(inputs, 2**10)
    with device.exact(layer), device.mixed_precision():
        assert layer(torch.ones(1, inputs)).dtype == getattr(torch, kind)


@pytest.mark.parametrize(
    "layer, shape, kind",
    [
        (nn.Conv2d(2, 2, 3, padding=1), (1, 2, 3, 3), torch.bfloat16),  # just as large
        (nn.Conv2d(2, 2, 3, padding=1), (1, 2, 3, 2), torch.float32),
        (nn.Conv2d(2, 2, 1, stride=2), (1, 2, 2, 2), torch.bfloat16),
        (nn.Conv2d(2, 2, 1, stride=2), (1, 2, 2, 1), torch.float32),
        (nn.Conv1d(2, 2, 3), (1, 2, 3), torch.bfloat16),
        (nn.ConvTranspose2d(2, 2, 2, 2), (1, 2, 1, 1), torch.bfloat16),
    ],
)
def test_only_inputs_thinner_than_the_kernel_or_the_stride_are_in_fp32(
    layer, shape, kind, monkeypatch
):
    x = torch.ones(shape)
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    with device.exact(layer), device.mixed_precision():
        assert layer(x).dtype == kind
    monkeypatch.setenv("MEDLIB_PRECISION", "no")
    with device.exact(layer):
        assert "forward" not in vars(layer)


def test_nobody_listens_after_a_run():
    heard = []
    with notes.listening(lambda *note: heard.append(note)):
        notes.note("loaded", name="digits", source="package")
    notes.note("loaded", name="other", source="cache")
    assert heard == [("loaded", {"name": "digits", "source": "package"})]

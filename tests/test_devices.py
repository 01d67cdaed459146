"""A tensor left on the processor is found without a GPU: forward passes, losses,
metrics and data on fake tensors of a GPU, whole training steps on the meta device,
whole chapters on a stand-in (a stage of run.py). Planted mismatches show that each of
them can fail.
"""

from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from nbclient import NotebookClient
from test_losses import LOSSES
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from medlib import attention, augment, losses, metrics, models
from medlib.attention import Additive
from medlib.hearts import motion
from medlib.models.alexnet import LAYERS_SMALL
from medlib.models.deeplab import small_deeplab
from medlib.models.resnet import resnet50, small_resnet
from medlib.models.resnet_v2 import ResNetV2
from medlib.models.voxelmorph import VoxelMorph

LABEL, MASK = F.cross_entropy, losses.dice_ce
NETS = {  # name: build, shape of a batch, loss
    "AlexNet": (
        partial(models.AlexNet, 1, 2, layers=LAYERS_SMALL),
        (2, 1, 28, 28),
        LABEL,
    ),
    "Autoencoder": (partial(models.Autoencoder, 1, 4), (2, 1, 32, 32), MASK),
    "LinearAutoencoder": (models.LinearAutoencoder, (2, 1, 28, 28), None),
    "DeepLabV3+": (small_deeplab, (2, 1, 64, 64), MASK),
    "EfficientNet": (partial(models.EfficientNet, 1, 2), (2, 1, 64, 64), LABEL),
    "FCN": (partial(models.FCN, 1, 4), (1, 1, 64, 64), MASK),
    "LeNet": (partial(models.LeNet, 1, 2), (2, 1, 28, 28), LABEL),
    "LeNet-5": (partial(models.LeNet5, 1, 2), (2, 1, 32, 32), LABEL),
    "LR-ASPP": (partial(models.LRASPP, 1, 4), (2, 1, 64, 64), MASK),
    "MobileNetV1": (partial(models.MobileNetV1, 1, 2), (2, 1, 64, 64), LABEL),
    "MobileNetV3": (partial(models.MobileNetV3, 1, 2), (2, 1, 64, 64), LABEL),
    "Neighbours": (models.Neighbours, (1, 1, 4, 32, 32), MASK),
    "Propagation": (models.Propagation, (1, 1, 4, 32, 32), MASK),
    "ResNet-50": (partial(resnet50, 1, 2), (2, 1, 64, 64), LABEL),
    "ResNet-8": (small_resnet, (2, 1, 28, 28), LABEL),
    "ResNet v2": (ResNetV2, (2, 1, 32, 32), LABEL),
    "RFCN": (models.RFCN, (1, 1, 4, 32, 32), MASK),
    "SmallUNet": (models.SmallUNet, (2, 1, 64, 64), MASK),
    "UNet": (partial(models.UNet, 1, 4, padded=True), (1, 1, 64, 64), MASK),
    "UNet3D": (partial(models.UNet3D, 1, 4, width=4), (1, 1, 8, 32, 32), MASK),
    "VGG": (
        partial(models.VGG, 1, 2, head=None, batch_norm=True),
        (2, 1, 64, 64),
        LABEL,
    ),
    "V-Net": (partial(models.VNet, 1, 4, norm=True), (1, 1, 16, 32, 32), MASK),
}
MODULES = sorted({*attention.SOFT, *attention.HARD}, key=lambda c: c.__name__)
each = pytest.mark.parametrize("name", NETS)


def fake_gpu():
    return FakeTensorMode(allow_non_fake_inputs=False)


def target(logits, loss):
    shape = logits.shape[:1] if loss is LABEL else logits.shape[:1] + logits.shape[2:]
    return torch.zeros(shape, dtype=torch.long, device=logits.device)


@each
def test_forward_and_loss_on_a_fake_gpu(name):
    build, shape, loss = NETS[name]
    with fake_gpu():
        with torch.device("cuda"):
            net, x = build(), torch.randn(shape)
        logits = net(x)
        value = loss(logits, target(logits, loss)) if loss else logits
    assert logits.device.type == value.device.type == "cuda"


@each
def test_a_training_step_on_the_meta_device(name):
    build, shape, loss = NETS[name]
    with torch.device("meta"):
        net, x = build(), torch.randn(shape)
    optimizer = torch.optim.AdamW(net.parameters())
    logits = net(x)
    (loss(logits, target(logits, loss)) if loss else logits.square().mean()).backward()
    optimizer.step()
    assert all(p.grad.is_meta for p in net.parameters())


@pytest.mark.parametrize("cls", MODULES, ids=lambda c: c.__name__)
def test_attention_on_a_fake_gpu(cls):
    with fake_gpu():
        with torch.device("cuda"):
            module, x = cls(16), torch.randn(2, 16, 12, 12)
        assert module(x).device.type == "cuda"


def test_additive_attention_and_voxelmorph_on_a_fake_gpu():
    with fake_gpu():
        with torch.device("cuda"):
            pairs, net = torch.randn(2, 2, 32, 32), VoxelMorph()
            additive, q, k = Additive(8), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
        assert additive(q, k)[0].device.type == "cuda"
        field = net.field(net.current(pairs))
        assert (
            motion.warp(pairs[:, :1], field).device.type
            == motion.jacobian(field).device.type
            == "cuda"
        )


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_losses_on_a_fake_gpu(loss):
    with fake_gpu():
        with torch.device("cuda"):
            logits, mask = (
                torch.randn(2, 4, 8, 8),
                torch.zeros(2, 8, 8, dtype=torch.long),
            )
        assert loss(logits, mask).device.type == "cuda"


@pytest.mark.parametrize(
    "metric",
    [metrics.accuracy, metrics.auc, metrics.calibration_error, losses.mean_dice],
)
def test_metrics_on_a_fake_gpu(metric):
    """They end in a number, which a fake tensor does not have: getting that far is what
    counts.
    """
    with fake_gpu():
        with torch.device("cuda"):
            logits, labels = torch.randn(6, 2), torch.zeros(6, dtype=torch.long)
            if metric is losses.mean_dice:
                logits, labels = (
                    torch.randn(2, 4, 8, 8),
                    torch.zeros(2, 8, 8, dtype=torch.long),
                )
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            metric(logits, labels)


def test_augmentation_and_data_on_a_fake_gpu():
    with fake_gpu():
        with torch.device("cuda"):
            x, y = torch.rand(4, 1, 16, 16), torch.zeros(4, 16, 16, dtype=torch.long)
        draw = torch.Generator().manual_seed(0)
        moved, mask = augment.random_affine()(x, y, draw)
        assert (
            moved.device.type == mask.device.type == "cuda" and mask.dtype == torch.long
        )
        assert augment.random_shift(2)(x, draw).device.type == "cuda"


class Careless(nn.Module):
    """Makes a tensor where the processor is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x) + torch.zeros(len(x), 2)


@pytest.mark.parametrize("where", ["cuda", "meta"])
def test_a_planted_mismatch_is_found(where):
    with fake_gpu() if where == "cuda" else torch.device("cpu"):
        with torch.device(where):
            net, x = Careless(), torch.randn(3, 4)
        with pytest.raises((RuntimeError, ValueError), match="device"):
            net(x)


ON_A_STAND_IN = """
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from medlib import fit
from medlib.device import device
from medlib.data import Dataset, Split

x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 2
parts = [Split(x + y[:, None, None, None], y)] * 3
data = Dataset("made", ("a", "b"), *parts, "made")
layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
net = nn.Sequential(*layers, nn.Linear(144, 2))
losses = fit(net, data, epochs=20, batch_size=16, lr=1e-2).train_loss
there = device()
assert there.type == next(net.parameters()).device.type == "standin"
assert losses[-1] < losses[0] / 2
x, y = x.to(there), y.to(there)
on_it = net(x).detach().cpu().numpy()
assert np.array_equal(on_it, net.cpu()(x.cpu()).detach().numpy())
assert torch.equal(torch.meshgrid(y, y, indexing="ij")[0].cpu()[:, 0], y.cpu())
net.to(there)
reader = nn.GRU(3, 4, batch_first=True, bidirectional=True).double()
words = torch.randn(2, 5, 3).double()
here = reader(words)[0]
found = reader.float().to(there).double()(words.to(there))[0].cpu()
torch.testing.assert_close(here, found, rtol=0, atol=1e-6)
PLANTED = {
    "the image": lambda: net(x.cpu()),
    "the target": lambda: F.cross_entropy(net(x), y.cpu()),
    "a part of the network": lambda: net[:3](x) * torch.ones(4, 6, 6),
    "a number among others": lambda: torch.stack([x.mean(), x.cpu().mean()]),
    "the index": lambda: x.cpu()[y],
    "what is written": lambda: x.index_put_((y,), x.cpu()),
    "a sum on the processor": lambda: torch.tensor(0.0).add_(x.mean()),
    "a generator": lambda: torch.randperm(5, generator=torch.Generator(), device=there),
    "integers": lambda: F.one_hot(y).T @ F.one_hot(y),
    "one label": lambda: F.cross_entropy(net(x)[0], torch.tensor(1)),
    "a figure": lambda: net(x).detach().numpy(),
    "a mean over seeds": lambda: np.mean([x, x]),
}
for name, mistake in PLANTED.items():
    try:
        mistake()
    except (RuntimeError, TypeError):
        continue
    print("not found:", name)
# What a GPU allows.
x.mean() * torch.tensor(2.0), x[y.cpu()], x.index_put_((y.cpu(),), 2 * x)
f"{x.mean():.2f}", torch.tensor([x.mean(), x.sum()])
print("done")
"""


def test_the_stand_in_trains_and_finds_what_a_gpu_would_refuse(monkeypatch):
    """In a kernel that is started as run.py starts those of the chapters."""
    tests = Path(__file__).parent
    monkeypatch.setenv("PYTHONSTARTUP", str(tests / "startup.py"))
    monkeypatch.setenv("PYTHONPATH", str(tests.parent))
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(ON_A_STAND_IN)]
    )
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output["text"] == "done\n"

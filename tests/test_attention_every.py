"""What every attention module promises."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from medlib.attention import (
    BAM,
    CHANNEL,
    ECA,
    FCA,
    HARD,
    MIXED,
    SE,
    SELF,
    SK,
    SOFT,
    STN,
    Additive,
    AttentionGate,
    Axial,
    BayesianAttention,
    BernoulliGate,
    ChannelGate,
    CrissCross,
    DualAttention,
    EMAttention,
    GaussianContext,
    GlobalContext,
    GumbelGate,
    LinearAttention,
    MultiHead,
    NonLocal,
    ReverseAttention,
    SimAM,
    SpatialGate,
    VariationalAttention,
)
from medlib.cost import parameters

ALL = SOFT + HARD
PAIRED = (SK, BAM)  # BatchNorm behind a global pool: no training on one image

# Parameters at C channels, as in the docstrings; h = C/r.
FORMULAS = {
    "SE": lambda c: c * c // 8,
    "FCA": lambda c: c * c // 8,
    "ChannelGate": lambda c: c * c // 8,
    "SK": lambda c: 18 * c * c // 32 + 3 * c * 32 + 2 * 32 + 4 * c,
    "GSoP": lambda c: 5 * c * c // 2 + c * c + 3 * c + c,
    "GaussianContext": lambda c: 0,
    "SpatialGate": lambda c: 98,
    "AttentionGate": lambda c: c * c + c + 1,
    "STN": lambda c: 9 * c * 16 + 97 * 16 + 6,
    "CoordinateAttention": lambda c: 3 * c * 8 + 3 * 8 + 2 * c,
    "MaskBranch": lambda c: (
        5 * (c * c // 2 + 9 * c * c // 16 + 3 * c) + 2 * c * c + 5 * c
    ),
    "ReverseAttention": lambda c: c + 1,
    "GaussianWindow": lambda c: 6 * c + 15,
    "CBAM": lambda c: c * c // 8 + 98,
    "BAM": lambda c: (
        3 * c * (c // 16) + 18 * (c // 16) ** 2 + 5 * (c // 16) + 2 * c + 2
    ),
    "SCSE": lambda c: c * c + 5 * c // 2 + 1,
    "SimAM": lambda c: 0,
    "TripletAttention": lambda c: 300,
    "MultiHead": lambda c: 4 * c * c + 4 * c + 1,
    "NonLocal": lambda c: 2 * c * c + 7 * c // 2,
    "GlobalContext": lambda c: 2 * c * (c // 16) + 3 * (c // 16) + 2 * c,
    "CrissCross": lambda c: c * c + 2 * c * (c // 8) + c + c // 4 + 1,
    "DualAttention": lambda c: c * c + 2 * c * (c // 8) + c + c // 4 + 2,
    "Axial": lambda c: 8 * c * c + 8 * c + 2,
    "LinearAttention": lambda c: 2 * c * c + 3 * c // 2 + c + 1,
    "EMAttention": lambda c: 2 * c * c + 3 * c,
    "VariationalAttention": lambda c: c * c + 2 * c * (c // 8) + c + c // 8 + 1,
    "BayesianAttention": lambda c: c * c + 2 * c * (c // 8) + c + c // 8 + 1,
    "BernoulliGate": lambda c: c + 1,
    "GumbelGate": lambda c: 2 * c + 2,
}


def warm(cls, channels=8):
    """A module off its initialisation, where scales of 0 would hide what is behind
    them.
    """
    torch.manual_seed(0)
    net = cls(channels)
    for p in net.parameters():
        nn.init.normal_(
            p, std=0.03 if cls is STN else 0.3
        )  # more, and the window leaves the image
    return net


def loss_of(net, x):
    y = net(x)
    loss = (y * torch.randn_like(y)).sum() + (y**2).mean()
    if getattr(net, "kl", None) is not None:
        loss = loss + net.kl
    return (
        loss + net.surrogate((y**2).mean((1, 2, 3)))
        if isinstance(net, BernoulliGate)
        else loss
    )


def close(a, b, **tolerance):
    torch.testing.assert_close(a, b, **tolerance)


def test_there_are_enough():
    assert len(set(ALL)) == len(ALL) == 31 and not set(SOFT) & set(HARD)
    assert Additive not in ALL and set(FORMULAS) == {cls.__name__ for cls in ALL} - {
        "ECA"
    }


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("size", [(7, 9), (4, 6)])
@pytest.mark.parametrize("batch", [1, 2])
def test_same_shape_out(cls, size, batch):
    net, x = warm(cls), torch.randn(batch, 8, *size)
    net.train(batch > 1 or cls not in PAIRED)
    y = net(x)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()


@pytest.mark.parametrize("cls", ALL)
def test_parameters_follow_the_formula_of_the_docstring(cls):
    with torch.device("meta"):
        counts = [parameters(cls(c)) for c in (128, 256)]
    assert cls is ECA or counts == [FORMULAS[cls.__name__](c) for c in (128, 256)]


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 20])
def test_few_channels(cls, channels):
    assert cls(channels)(torch.randn(2, channels, 8, 8)).shape == (2, channels, 8, 8)


@pytest.mark.parametrize("cls", ALL)
def test_every_parameter_gets_a_finite_gradient(cls):
    net, x = warm(cls), torch.randn(2, 8, 7, 9, requires_grad=True)
    loss_of(net, x).backward()
    assert x.grad.isfinite().all() and x.grad.any()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.any()
        for p in net.parameters()
    )


@pytest.mark.parametrize("cls", ALL)
def test_a_training_step_on_the_meta_device(cls):
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 64, 3), cls(64))
        loss_of(net[1], net[0](torch.empty(2, 3, 30, 23))).backward()
        torch.optim.SGD(net.parameters(), 0.1).step()
    assert all(p.grad.is_meta for p in net.parameters())


@pytest.mark.parametrize("cls", SOFT)
def test_gradcheck(cls):
    net, x = warm(cls, 4).double().eval(), torch.randn(2, 4, 4, 5, dtype=torch.double)
    names, values = (
        zip(*net.named_parameters(), strict=True) if parameters(net) else ((), ())
    )
    values = [x, *(v.detach() for v in values)]

    def run(x, *p):
        return functional_call(net, dict(zip(names, p, strict=True)), (x,))

    assert torch.autograd.gradcheck(
        run, [v.requires_grad_() for v in values], fast_mode=True
    )


@pytest.mark.parametrize("cls", SOFT)
def test_the_same_input_gives_the_same_output_in_training(cls):
    x = torch.randn(2, 8, 7, 9)
    close(warm(cls)(x), warm(cls).train()(x))
    net = warm(cls)
    assert cls is EMAttention or torch.equal(net(x), net(x))  # its bases move on


@pytest.mark.parametrize("cls", HARD)
def test_samples_follow_the_seed_and_eval_draws_nothing(cls):
    net, x = warm(cls), torch.randn(2, 8, 7, 9)
    seeds = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seeds.append(net(x))
    assert torch.equal(seeds[0], seeds[1]) and not torch.equal(seeds[0], seeds[2])
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("cls", ALL)
def test_bf16_autocast_is_close_to_fp32(cls):
    net, x = (
        warm(cls).eval(),
        nn.functional.interpolate(torch.randn(2, 8, 3, 3), (7, 9), mode="bilinear"),
    )
    y = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        z, narrow = net(x), net(x.bfloat16())
    assert z.dtype == x.dtype and narrow.dtype == torch.bfloat16
    assert (z - y).abs().mean() < 0.05 * y.abs().mean()


@pytest.mark.parametrize("cls", ALL)
def test_a_training_step_under_bf16(cls):
    net, x = warm(cls), torch.randn(2, 8, 7, 9, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(net, x)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in (x, *net.parameters()))


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("training", [False, True])
def test_weights_in_bf16_give_nearly_what_those_in_fp32_give(cls, training):
    net = warm(cls).train(training)
    x = nn.functional.interpolate(torch.randn(2, 8, 3, 3), (7, 9), mode="bilinear")
    low, inputs = copy.deepcopy(net).bfloat16(), x.bfloat16().requires_grad_()
    z = low(inputs)
    z.float().square().mean().backward()
    assert z.dtype == torch.bfloat16 and inputs.grad.isfinite().all()
    assert {t.dtype for t in low.state_dict().values()} <= {torch.bfloat16, torch.long}
    if cls in SOFT or not training:  # else the two draw different samples
        y = net(x)
        assert (z - y).abs().mean() < 0.05 * y.abs().mean()


@pytest.mark.parametrize("cls", ALL)
def test_channels_last(cls):
    net, x = warm(cls).eval(), torch.randn(2, 8, 7, 9)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    close(last(x.to(memory_format=torch.channels_last)), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", ALL)
def test_weights_are_kept_without_their_graph_and_the_module_can_be_copied(cls):
    net, x = warm(cls), torch.randn(2, 8, 7, 9)
    loss_of(net, x)
    net = copy.deepcopy(net)
    kept = net.rows.weights if cls is Axial else net.weights
    assert (
        not kept.requires_grad
        and len(kept) in (2, 14)
        and "weights" not in net.state_dict()
    )


@pytest.mark.parametrize("cls", [*SELF, VariationalAttention, BayesianAttention])
def test_the_identity_at_initialisation(cls):
    x = torch.randn(2, 8, 7, 9)
    assert torch.equal(cls(8)(x), x)


@pytest.mark.parametrize(
    "cls",
    [AttentionGate, ReverseAttention, BernoulliGate, GumbelGate, GaussianContext, STN],
)
def test_near_the_identity_at_initialisation(cls):
    torch.manual_seed(0)
    net, x = cls(8), torch.randn(2, 8, 20, 23)
    x = x / x.norm()
    assert (x * net(x)).sum() > 0.85


def equivariant(net, x, axis):
    order = torch.randperm(x.shape[axis])
    close(
        net(x.index_select(axis, order)),
        net(x).index_select(axis, order),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "cls",
    [
        NonLocal,
        MultiHead,
        LinearAttention,
        DualAttention,
        GlobalContext,
        EMAttention,
        Axial,
        SE,
        ECA,
        SimAM,
        GaussianContext,
        AttentionGate,
        BayesianAttention,
        VariationalAttention,
        BernoulliGate,
        GumbelGate,
    ],
)
def test_permuted_pixels_go_through(cls):
    net, x = warm(cls).eval(), torch.randn(2, 8, 1, 30)
    equivariant(net, x, 3)


@pytest.mark.parametrize("cls", [SimAM, GaussianContext, SpatialGate])
def test_permuted_channels_go_through(cls):
    equivariant(warm(cls).eval(), torch.randn(2, 8, 7, 9), 1)


@pytest.mark.parametrize("cls", [ECA, FCA, SE])
def test_channels_have_an_order_where_layers_know_them(cls):
    with pytest.raises(AssertionError):
        equivariant(warm(cls).eval(), torch.randn(2, 8, 7, 9), 1)


@pytest.mark.parametrize("cls", ALL)
def test_wrong_shapes_say_what_is_needed(cls):
    with pytest.raises(ValueError, match=r"\(2, 5, 7, 9\).*expected \(B, 8, H, W\)"):
        cls(8)(torch.zeros(2, 5, 7, 9))


@pytest.mark.parametrize("cls", PAIRED)
def test_one_image_in_training_says_so(cls):
    with pytest.raises(ValueError, match="expected B ≥ 2"):
        cls(8)(torch.zeros(1, 8, 7, 9))


def test_families_are_disjoint():
    assert (
        not set(CHANNEL) & set(MIXED)
        and len(SOFT) == 27
        and ChannelGate in CHANNEL
        and CrissCross in SELF
    )

"""Hard attention: what is sampled, and whether its gradients are those of the
expectation.
"""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Gamma,
    LogNormal,
    Normal,
    Weibull,
    kl_divergence,
)
from torch.nn import functional as F

from medlib.attention import (
    BayesianAttention,
    BernoulliGate,
    GaussianWindow,
    GumbelGate,
    VariationalAttention,
)
from medlib.attention.hard import gumbel_softmax

close = torch.testing.assert_close


# --- gates


def test_gumbel_softmax_straight_through_is_one_hot_with_a_gradient():
    logits = torch.randn(50, 6, requires_grad=True)
    sample = gumbel_softmax(logits, 1.0, 1)
    assert torch.equal(sample.sum(1), torch.ones(50)) and sample.unique().tolist() == [
        0,
        1,
    ]
    (sample * torch.randn(6)).sum().backward()
    assert logits.grad.isfinite().all() and logits.grad.any()


def test_gumbel_softmax_goes_to_one_hot_as_the_temperature_falls():
    torch.manual_seed(0)
    logits, far = torch.randn(2000, 4), []
    for temperature in (5.0, 1.0, 0.1, 0.001):
        far.append(
            float(1 - gumbel_softmax(logits, temperature, 1, hard=False).amax(1).mean())
        )
    assert far == sorted(far, reverse=True) and far[0] > 0.5 and far[-1] < 1e-3


def test_gumbel_max_samples_the_softmax():
    torch.manual_seed(0)
    p = torch.tensor([0.1, 0.2, 0.7])
    counts = gumbel_softmax(p.log().expand(20_000, 3), 1.0, 1).mean(0)
    close(counts, p, atol=0.015, rtol=0)


@pytest.mark.parametrize("gate", [BernoulliGate, GumbelGate])
def test_a_gate_passes_a_pixel_or_does_not(gate):
    net, x = gate(4), torch.randn(2, 4, 9, 11)
    y = net(x)
    assert net.weights.unique().tolist() == [0, 1] and torch.equal(y, x * net.weights)


@pytest.mark.parametrize("gate", [BernoulliGate, GumbelGate])
def test_the_mean_of_many_samples_is_the_probability(gate):
    torch.manual_seed(0)
    net, x = gate(4), torch.randn(1, 4, 3, 3).expand(4000, 4, 3, 3)
    net(x)
    close(net.weights.mean(0), net.probability[0], atol=0.04, rtol=0)


@pytest.mark.parametrize("gate", [BernoulliGate, GumbelGate])
def test_in_eval_the_likelier_choice(gate):
    net, x = gate(4).eval(), torch.randn(2, 4, 9, 11)
    nn.init.normal_(net.score.weight, std=2)
    assert (
        torch.equal(net(x), x * (net.probability >= 0.5)) and 0 < net.weights.mean() < 1
    )


def test_or_the_mean():
    net, x = BernoulliGate(4, mean=True).eval(), torch.randn(2, 4, 9, 11)
    close(net(x), x * torch.sigmoid(net.score(x)))


def test_a_relaxed_gate_lets_a_part_pass():
    net = GumbelGate(4, temperature=2.0, hard=False)
    net(torch.randn(2, 4, 9, 11))
    assert 0 < net.weights.min() and net.weights.max() < 1


@pytest.mark.parametrize("size", [(9, 11), (8, 12), (3, 3)])
def test_cells_share_a_coin(size):
    net, x = BernoulliGate(4, cell=4), torch.randn(2, 4, *size)
    assert net(x).shape == x.shape
    z = net.weights
    assert torch.equal(z[:, :, :4, :4], z[:, :, :1, :1].expand_as(z[:, :, :4, :4]))


def test_log_prob_is_that_of_the_sample():
    net = BernoulliGate(4)
    net(torch.randn(3, 4, 5, 5))
    log_p = (
        torch.distributions.Bernoulli(net.probability)
        .log_prob(net.weights)
        .sum((1, 2, 3))
    )
    close(net.log_prob.detach(), log_p)
    assert net.log_prob.shape == (3,) and net.log_prob.requires_grad


# --- REINFORCE on a problem small enough to sum over all choices: 4 pixels, 16 gates

X = torch.tensor([0.5, -1.0, 2.0, 1.0]).view(1, 1, 2, 2)


def cost(y):
    return (y.sum((1, 2, 3)) - 1.5) ** 2 + 3


def exact_gradient(net):
    p = torch.sigmoid(net.score(X)).flatten()
    expected = 0
    for z in itertools.product((0.0, 1.0), repeat=4):
        z = torch.tensor(z)
        expected = (
            expected
            + torch.prod(torch.where(z > 0, p, 1 - p)) * cost(X * z.view(1, 1, 2, 2))[0]
        )
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(expected, list(net.parameters()))]
    )


def estimates(baseline, n=3000):
    """REINFORCE's gradient, one sample at a time, by score.weight and score.bias."""
    torch.manual_seed(0)
    net = BernoulliGate(1, baseline=baseline)
    net.average.fill_(float(cost(X).mean()) if baseline else 0.0)
    losses = cost(net(X.expand(n, 1, 2, 2)))
    slope = (net.weights - net.probability).flatten(1)  # ∂ log p / ∂ logit
    each = torch.stack([(slope * X.flatten()).sum(1), slope.sum(1)], 1)
    mean = torch.cat(
        [
            g.flatten()
            for g in torch.autograd.grad(net.surrogate(losses), list(net.parameters()))
        ]
    )
    return net, (losses - (cost(X).mean() if baseline else 0))[:, None] * each, mean


@pytest.mark.parametrize("baseline", [True, False])
def test_reinforce_approaches_the_exact_gradient(baseline):
    net, each, mean = estimates(baseline)
    close(each.mean(0), mean, rtol=1e-3, atol=1e-4)
    error = (mean - exact_gradient(net)).abs()
    assert (error < 4 * each.std(0) / math.sqrt(len(each))).all()


def test_a_baseline_lowers_the_variance():
    with_one, without = (estimates(baseline)[1].var(0) for baseline in (True, False))
    assert (with_one < 0.7 * without).all()


def test_the_baseline_follows_the_losses():
    net = BernoulliGate(1)
    for loss in (4.0, 2.0):
        net(X)
        net.surrogate(torch.tensor([loss]))
    assert float(net.average) == 3
    for _ in range(100):
        net.surrogate(torch.tensor([5.0]))
    assert float(net.average) == pytest.approx(5, abs=0.01)


def test_gumbel_gate_learns_which_pixels_cost():
    torch.manual_seed(0)
    net, x = GumbelGate(2), torch.randn(16, 2, 6, 6)
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(60):
        loss = (
            (net(x)[:, 0] - F.relu(x[:, 0])).square().mean()
        )  # keep where the first map is positive
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    assert ((net.eval()(x)[:, 0] > 0) == (x[:, 0] > 0)).float().mean() > 0.9


def test_reinforce_learns_which_pixels_cost():
    torch.manual_seed(0)
    net, x = BernoulliGate(2), torch.randn(64, 2, 3, 3)
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(150):
        losses = (net(x)[:, 0] - F.relu(x[:, 0])).square().sum((1, 2))
        optimizer.zero_grad(), net.surrogate(losses).backward(), optimizer.step()
    assert ((net.eval()(x)[:, 0] > 0) == (x[:, 0] > 0)).float().mean() > 0.9


# --- the Gaussian window


def five(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def test_the_window_is_a_gaussian_in_the_plane():
    net = GaussianWindow(1, size=1)
    down, across = net.banks(five(7.3, 4.6, 1.0, 1.7, 1.0), 11, 15)
    v, u = torch.meshgrid(torch.arange(11.0), torch.arange(15.0), indexing="ij")
    plane = torch.exp(-((u - 7.3) ** 2 + (v - 4.6) ** 2) / (2 * 1.7**2)).double()
    close(down[0, 0, :, None] * across[0, 0], plane / plane.sum(), atol=1e-5, rtol=1e-5)


def test_its_grid_is_centred_and_spaced():
    down, _ = GaussianWindow(1, size=5).banks(five(20.0, 15.0, 3.0, 1.0, 1.0), 31, 41)
    means = (down[0] * torch.arange(31)).sum(1)
    close(means, torch.tensor([9.0, 12, 15, 18, 21]).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_narrow_window_of_spacing_1_reads_a_crop(gamma):
    x = torch.randn(1, 3, 16, 18).double()
    glimpse = GaussianWindow(3, size=5).read(x, five(9.0, 6.0, 1.0, 0.05, gamma))
    close(glimpse, gamma * x[..., 4:9, 7:12])


def test_between_pixels_it_reads_their_mean_as_bilinear_resampling_does():
    x = torch.randn(1, 1, 16, 18).double()
    glimpse = GaussianWindow(1, size=4).read(
        x, five(9.0, 6.0, 1.0, 0.05, 1.0)
    )  # centres at .5
    close(glimpse, F.avg_pool2d(x, 2, 1)[..., 4:8, 7:11])


def test_a_window_outside_the_image_is_still_finite():
    glimpse = GaussianWindow(1).read(
        torch.randn(1, 1, 8, 8).double(), five(-900.0, 900.0, 1.0, 0.1, 1.0)
    )
    assert glimpse.isfinite().all()


def test_at_initialisation_the_window_spans_the_image():
    net = GaussianWindow(4)
    net(torch.randn(2, 4, 33, 21))
    assert net.weights.min() > 0.65 and net.weights.amax((1, 2, 3)).tolist() == [1, 1]
    close(net.five[0], torch.tensor([10.0, 16.0, 32 / 3, 33 / 4, 1.0]))


def test_the_window_learns_to_find_a_spot():
    torch.manual_seed(0)
    net, x = GaussianWindow(1, size=1), torch.zeros(20, 1, 20, 20)
    place = torch.randint(3, 17, (20, 2))
    x[torch.arange(20), 0, place[:, 1], place[:, 0]] = 3
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(60):
        loss = (net.window(x)[:, :2] - place).square().mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    assert (net.five[:, :2] - place).norm(dim=1).max() < 1.5


# --- attention as a random variable


def test_variational_kl_without_evidence_is_that_to_the_uniform():
    net, x = VariationalAttention(8).eval(), torch.randn(3, 8, 4, 5)
    net(x)
    q = Categorical(probs=net.weights.flatten(1))
    close(
        net.kl.detach(),
        kl_divergence(q, Categorical(logits=torch.zeros(3, 20))).mean(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_variational_kl_with_evidence_is_that_of_posterior_to_prior():
    net, x, label = (
        VariationalAttention(8, evidence=3),
        torch.randn(3, 8, 4, 5),
        torch.eye(3),
    )
    net(x, label)
    keys = net.key(x).flatten(2)
    prior, more = (
        (t[:, None] @ keys)[:, 0] / 2
        for t in (net.query(x.mean((2, 3))), net.hint(label))
    )
    expected = kl_divergence(
        Categorical(logits=prior + more), Categorical(logits=prior)
    ).mean()
    close(net.kl, expected, rtol=1e-4, atol=1e-6)


def test_variational_attention_looks_at_one_pixel_in_training_and_at_the_mean_in_eval():
    torch.manual_seed(0)
    net, x = VariationalAttention(8), torch.randn(3, 8, 4, 5)
    net(x)
    assert net.weights.flatten(1).sum(1).tolist() == [
        1,
        1,
        1,
    ] and net.weights.unique().tolist() == [0, 1]
    net.eval()(x)
    assert (net.weights > 0).all()


def test_in_eval_the_evidence_is_not_needed_and_not_used():
    net, x = VariationalAttention(8, evidence=3).eval(), torch.randn(3, 8, 4, 5)
    nn.init.ones_(net.scale)
    assert torch.equal(net(x), net(x, torch.eye(3)))


def test_the_elbo_gradient_reaches_the_evidence():
    net, x = VariationalAttention(8, evidence=3), torch.randn(3, 8, 4, 5)
    nn.init.ones_(net.scale)
    (net(x, torch.eye(3)).square().mean() + net.kl).backward()
    assert net.hint.weight.grad.any() and all(
        p.grad.isfinite().all() for p in net.parameters()
    )


@pytest.mark.parametrize("lognormal", [True, False])
def test_bayesian_weights_vary_and_have_the_softmax_as_mean(lognormal):
    torch.manual_seed(0)
    net, x = BayesianAttention(8, lognormal=lognormal), torch.randn(2, 8, 3, 4)
    draws = []
    for _ in range(400):
        net(x)
        draws.append(net.weights)
    net.eval()(x)
    assert not torch.equal(draws[0], draws[1])
    close(torch.stack(draws).mean(0), net.weights, atol=0.003, rtol=0.02)


@pytest.mark.parametrize("lognormal", [True, False])
def test_both_posteriors_have_mean_exp_phi_and_the_same_variance(lognormal):
    torch.manual_seed(0)
    net = BayesianAttention(8, lognormal=lognormal, shape=3.0)
    s = net.noise(torch.zeros(200_000)).exp()
    weibull = Weibull(1 / math.gamma(1 + 1 / 3), torch.tensor(3.0))
    assert float(s.mean()) == pytest.approx(1, abs=0.005)
    assert float(s.std()) == pytest.approx(float(weibull.stddev), rel=0.02)


def test_lognormal_divergence_is_that_of_torch_distributions():
    net, phi, log_alpha = (
        BayesianAttention(8, lognormal=True),
        torch.randn(5),
        torch.randn(5),
    )
    q, p = Normal(phi - net.sigma**2 / 2, net.sigma), Normal(log_alpha - 0.5, 1.0)
    close(net.divergence(phi, log_alpha), kl_divergence(q, p))
    close(LogNormal(log_alpha - 0.5, 1.0).mean, log_alpha.exp())


def test_weibull_divergence_by_quadrature():
    phi, log_alpha = torch.tensor([[-2.0, 0.5], [-1.0, 0.3]]).double()
    net = BayesianAttention(8, shape=4.0)
    q = Weibull((phi - net.log_gamma).exp(), torch.full_like(phi, 4.0))
    p = Gamma(log_alpha.exp(), torch.ones_like(phi))
    u = (
        torch.arange(200_000).double()[:, None] + 0.5
    ) / 200_000  # S at the quantiles of q
    s = (phi - net.log_gamma).exp() * (-torch.log(u)) ** 0.25
    close(
        net.divergence(phi, log_alpha),
        (q.log_prob(s) - p.log_prob(s)).mean(0),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("lognormal", [True, False])
def test_a_small_divergence_has_a_finite_gradient(lognormal):
    net, x = BayesianAttention(8, lognormal=lognormal), 20 * torch.randn(2, 8, 5, 5)
    nn.init.ones_(net.scale)
    (net(x).mean() + net.kl).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("lognormal", [True, False])
def test_a_large_shape_is_plain_attention(lognormal):
    net, x = (
        BayesianAttention(8, lognormal=lognormal, shape=1e4),
        torch.randn(2, 8, 3, 4),
    )
    nn.init.ones_(net.scale)
    close(net(x), net.eval()(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "cls", [VariationalAttention, BayesianAttention, BernoulliGate]
)
def test_a_copy_leaves_the_graph_behind(cls):
    net = cls(8)
    net(torch.randn(2, 8, 5, 5))
    copied = copy.deepcopy(net)
    assert (
        getattr(copied, "kl", None) is None
        and getattr(copied, "log_prob", None) is None
    )
    assert getattr(net, "log_prob" if cls is BernoulliGate else "kl").requires_grad


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda: GumbelGate(4, temperature=0), "temperature 0; expected.*above 0"),
        (lambda: BayesianAttention(4, shape=-1), "shape -1; expected.*above 0"),
        (
            lambda: BernoulliGate(4).surrogate(torch.zeros(2)),
            "expected a forward pass in training",
        ),
        (
            lambda: VariationalAttention(4, evidence=3)(torch.zeros(2, 4, 5, 5)),
            r"evidence none; expected.*\(2, 3\)",
        ),
        (
            lambda: VariationalAttention(4, evidence=3)(
                X.expand(2, 4, 2, 2), torch.zeros(2, 2)
            ),
            r"\(2, 2\).*\(2, 3\)",
        ),
    ],
)
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

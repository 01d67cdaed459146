"""Attention as a random variable: weights come from a posterior, and a KL divergence
holds it to a prior.

Read with the chapters on attention. Both modules take (B, C, H, W), give the same shape
back and are the identity at initialisation (γ = 0). In training they sample, under
torch.manual_seed; in eval() they use the mean. After a forward pass `kl` is a scalar
with a gradient, the mean over the batch: the loss of one image is −log p(y | x) + kl,
the negative ELBO. N is H·W.
"""

import math

import torch
from torch import Tensor, nn

from medlib.attention._common import check, fp32, narrow
from medlib.attention.hard import gumbel_softmax


class VariationalAttention(nn.Module):
    """Which pixel matters is a hidden variable z: look at one pixel at a time, and
    learn where by an ELBO.

    Paper: Deng, Kim, Chiu, Guo & Rush, "Latent alignment and variational attention",
    NeurIPS 2018, arXiv:1807.03756. log p(y | x) ≥ E_q[log p(y | x, z)] − KL(q(z) ‖
    p(z)), z one of N pixels; every pixel gets x + γ · W x_z. With `evidence` = E values
    that are known in training only (a one-hot label, say), as in the paper: p(z | x) =
    softmax(k(x_z) · q(mean x) / √h), and q adds k(x_z) · U evidence / √h to its scores.
    With none, q is that softmax and p is uniform: KL = log N − entropy, a cost on being
    sure. C² + 2Ch + C + h + 1 parameters, and hE, h = C/8; O(ChN) work. The identity at
    initialisation. Differs: z is sampled with Gumbel-softmax, straight through, where
    the paper prefers REINFORCE; p and q share their layers; the uniform prior is ours.
    eval() averages over z with what x alone tells. `weights` (B, 1, H, W): one-hot in
    training, the mean in eval().
    """

    def __init__(
        self,
        channels: int,
        *,
        evidence: int = 0,
        reduction: int = 8,
        temperature: float = 1.0,
    ):
        super().__init__()
        self.channels, self.evidence, self.temperature = channels, evidence, temperature
        hidden = narrow(channels, reduction)
        self.query = nn.Linear(channels, hidden)
        self.key = nn.Conv2d(channels, hidden, 1, bias=False)
        self.value = nn.Linear(channels, channels)
        self.hint = nn.Linear(evidence, hidden, bias=False) if evidence else None
        self.scale = nn.Parameter(torch.zeros(()))
        self.weights: Tensor | None = None
        self.kl: Tensor | None = None

    def forward(self, x: Tensor, evidence: Tensor | None = None) -> Tensor:
        check(self, x)
        seen = "none" if evidence is None else tuple(evidence.shape)
        if self.evidence and self.training and seen != (len(x), self.evidence):
            raise ValueError(
                f"evidence {seen}; expected (B, E) = ({len(x)}, {self.evidence}) in "
                "training"
            )
        keys = self.key(x).flatten(2)  # (B, h, N)
        root = math.sqrt(keys.shape[1])
        query = self.query(x.mean((2, 3)))[:, None]  # (B, 1, h)
        alone = scores = fp32((query @ keys)[:, 0]) / root  # (B, N)
        prior = scores if self.evidence else torch.zeros_like(scores)
        if self.hint is not None and evidence is not None:
            hint = self.hint(evidence)[:, None]  # (B, 1, h)
            scores = scores + fp32((hint @ keys)[:, 0]) / root
        log_q, log_p = torch.log_softmax(scores, 1), torch.log_softmax(prior, 1)
        self.kl = (log_q.exp() * (log_q - log_p)).sum(1).mean()
        weights = (
            gumbel_softmax(log_q, self.temperature, 1)
            if self.training
            else torch.softmax(alone, 1)
        )
        weights = weights.unflatten(1, x.shape[2:])[:, None]  # (B, 1, H, W)
        self.weights = weights.detach()
        context = self.value((x * weights.type_as(x)).sum((2, 3)))
        return x + (self.scale * context)[:, :, None, None].type_as(x)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "kl": None}  # a graph can be neither copied nor saved


class BayesianAttention(nn.Module):
    """Dot-product attention whose N² weights are noisy: positive random numbers,
    divided by their sum.

    Paper: Fan, Zhang, Chen & Zhou, "Bayesian attention modules", NeurIPS 2020,
    arXiv:2010.10604. Φ = log softmax(QKᵀ / √h); S = λ (−log ε)^(1/k), λ = exp(Φ) / Γ(1
    + 1/k), ε uniform: a Weibull of mean exp(Φ) through which gradients pass; W = S /
    ΣS; y = x + γ · W V. The prior of S is Gamma(α, 1) with α = softmax of a score of
    each key ("contextual"); the KL has a closed form, and is summed over the N²
    weights. `lognormal` draws S from a lognormal of the same mean and variance; its
    prior is the lognormal of mean α and σ = 1. C² + 2Ch + C + h + 1 parameters, h =
    C/8; O(C²N + CN²) work. The identity at initialisation. Differs: Φ is normalised,
    where the paper has exp(QKᵀ / √h): W is the same, and the means of posterior and
    prior are on one scale; one linear layer for the prior; one `shape` k for both.
    eval() uses softmax(QKᵀ / √h), the mean of S. `shape`: the larger, the less noise
    (10: about 12 % of the mean). `weights` (B, N, N).
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 8,
        lognormal: bool = False,
        shape: float = 10.0,
    ):
        super().__init__()
        if shape <= 0:
            raise ValueError(f"shape {shape}; expected a k above 0, such as 10")
        self.channels, self.lognormal, self.shape = channels, lognormal, shape
        hidden = narrow(channels, reduction)
        self.query, self.key = (
            nn.Conv2d(channels, hidden, 1, bias=False) for _ in range(2)
        )
        self.value = nn.Conv2d(channels, channels, 1)
        self.prior = nn.Conv1d(hidden, 1, 1, bias=False)
        self.scale = nn.Parameter(torch.zeros(()))
        self.log_gamma = math.lgamma(1 + 1 / shape)  # log Γ(1 + 1/k)
        # The lognormal's σ, for the variance of the Weibull
        self.sigma = math.sqrt(math.lgamma(1 + 2 / shape) - 2 * self.log_gamma)
        self.weights: Tensor | None = None
        self.kl: Tensor | None = None

    def noise(self, phi: Tensor) -> Tensor:
        """log S − Φ, for S of mean exp(Φ)."""
        if self.lognormal:
            return self.sigma * torch.randn_like(phi) - self.sigma**2 / 2
        return torch.empty_like(phi).exponential_().log() / self.shape - self.log_gamma

    def divergence(self, phi: Tensor, log_alpha: Tensor) -> Tensor:
        """KL(posterior ‖ prior) of each weight."""
        if self.lognormal:
            apart = (phi - self.sigma**2 / 2) - (log_alpha - 1 / 2)
            return (self.sigma**2 + apart**2 - 1) / 2 - math.log(self.sigma)
        alpha, k, euler = log_alpha.exp(), self.shape, 0.5772156649015329
        log_lambda = phi - self.log_gamma
        return (
            alpha * (euler / k - log_lambda)
            + math.log(k)
            + phi.exp()
            - euler
            - 1
            + torch.lgamma(alpha)
        )

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        q, k, v = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        phi = torch.log_softmax(fp32(q.mT @ k) / math.sqrt(k.shape[1]), 2)  # (B, N, N)
        log_alpha = torch.log_softmax(fp32(self.prior(k)), 2)  # (B, 1, N)
        self.kl = self.divergence(phi, log_alpha).sum((1, 2)).mean()
        weights = torch.softmax(phi + self.noise(phi) if self.training else phi, 2)
        self.weights = weights.detach()
        y = (v @ weights.type_as(v).mT).unflatten(2, x.shape[2:])
        return x + (self.scale * y).type_as(x)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "kl": None}  # a graph can be neither copied nor saved

"""Hard attention: choose, and do not average. Choosing has no derivative; here are two
ways around it.

Read with the chapters on attention; `bayesian.py` has attention whose weights are drawn
from a posterior, `gaussian.py` the window that the review calls hard too. Every module
takes (B, C, H, W) and gives the same shape back, at any H and W. The gates sample in
training, under torch.manual_seed, and take the likeliest choice in eval(). `weights` is
kept after a forward pass, detached. N is H·W.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlib.attention._common import check, fp32

OPEN = 2.0  # the gates' bias at initialisation: σ(2) = .88 of the pixels pass


def gumbel_softmax(
    logits: Tensor, temperature: float, dim: int, *, hard: bool = True
) -> Tensor:
    """A sample from the categorical distribution of `logits` along `dim`, with a way
    through for gradients.

    softmax((logits + Gumbel noise) / temperature): its largest entry is an exact sample
    (Gumbel-max), and as the temperature falls it goes to one-hot. `hard` gives the
    one-hot itself, with the gradient of the softmax ("straight through": biased, as the
    value and the slope belong to two functions).
    """
    noise = -torch.empty_like(logits).exponential_().log()
    soft = torch.softmax((logits + noise) / temperature, dim)
    if not hard:
        return soft
    choice = torch.zeros_like(soft).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
    return choice + (soft - soft.detach())  # the bracket is exactly 0


class BernoulliGate(nn.Module):
    """Toss a coin for each pixel: look or do not look. The coin's bias learns by trial
    and error (REINFORCE).

    Papers: Xu, Ba, Kiros et al., "Show, attend and tell", ICML 2015, arXiv:1502.03044;
    Mnih, Heess, Graves & Kavukcuoglu, "Recurrent models of visual attention", NeurIPS
    2014, arXiv:1406.6247; the estimator: Williams, 1992. p = σ(w · x + b), z ~
    Bernoulli(p), y = x · z. In eval() z = 1 where p ≥ ½, or p itself with `mean`. ∇E[L]
    = E[(L − baseline) ∇ log p(z)]: add `surrogate(losses)` to the loss, with one of
    `losses` per image. C + 1 parameters; O(CN) work. Near the identity: 88 % of the
    pixels pass at initialisation. Differs: a coin per pixel where Xu chooses one
    position and Mnih moves a glimpse. `cell` × `cell` pixels share a coin: fewer coins,
    less variance. After a pass in training `log_prob` (B,) has a gradient; in eval() it
    is None. `weights` (B, 1, H, W) is z, `probability` (B, 1, H, W) is p.
    """

    average: Tensor
    seen: Tensor

    def __init__(
        self,
        channels: int,
        *,
        cell: int = 1,
        mean: bool = False,
        baseline: bool = True,
        momentum: float = 0.9,
    ):
        super().__init__()
        self.channels, self.cell, self.mean = channels, cell, mean
        self.baseline, self.momentum = baseline, momentum
        self.score = nn.Conv2d(channels, 1, 1)
        self.score.bias = nn.Parameter(torch.tensor([OPEN]))
        # The average of the losses so far is the baseline.
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))
        self.weights: Tensor | None = None
        self.probability: Tensor | None = None
        self.log_prob: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        cells = F.avg_pool2d(x, self.cell, ceil_mode=True)
        logits = fp32(self.score(cells))
        p = torch.sigmoid(logits)
        if self.training:
            z = torch.bernoulli(p.detach())
            nll = F.binary_cross_entropy_with_logits(logits, z, reduction="none")
            self.log_prob = -nll.sum((1, 2, 3))
        else:
            z, self.log_prob = p if self.mean else (p >= 0.5).to(p), None
        z, p = (self.spread(t, x) for t in (z, p))
        self.weights, self.probability = z.detach(), p.detach()
        return x * z.type_as(x)

    def spread(self, t: Tensor, x: Tensor) -> Tensor:
        """One value per cell → one per pixel."""
        pixels = t.repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)
        return pixels[:, :, : x.shape[2], : x.shape[3]]

    def surrogate(self, losses: Tensor) -> Tensor:
        """A scalar whose gradient is REINFORCE's; the baseline, a mean of earlier
        losses, adds no bias.
        """
        if self.log_prob is None or losses.shape != self.log_prob.shape:
            expected = (
                "a forward pass in training before it"
                if self.log_prob is None
                else f"({len(self.log_prob)},), one loss per image"
            )
            raise ValueError(f"losses {tuple(losses.shape)}; expected {expected}")
        losses = losses.detach().to(self.average)
        value = ((losses - self.average * self.baseline) * self.log_prob).mean()
        self.seen += 1
        self.average += (1 / self.seen).clamp(min=1 - self.momentum) * (
            losses.mean() - self.average
        )
        return value

    def __getstate__(self) -> dict:
        # A graph can be neither copied nor saved.
        return {**self.__dict__, "log_prob": None}


class GumbelGate(nn.Module):
    """The same coin, tossed so that a gradient passes: noise from outside, and a
    softmax that nearly chooses.

    Papers: Jang, Gu & Poole, "Categorical reparameterization with Gumbel-softmax", ICLR
    2017, arXiv:1611.01144; Maddison, Mnih & Teh, "The concrete distribution", ICLR
    2017, arXiv:1611.00712. (drop, keep) = gumbel_softmax(W x) for each pixel, y = x ·
    keep. In eval() the likelier of the two. 2C + 2 parameters; O(CN) work. Near the
    identity: 88 % of the pixels pass at initialisation. Differs: made a gate here; the
    papers give the sampler. `weights` (B, 1, H, W) is keep, `probability` (B, 1, H, W)
    its probability.
    """

    def __init__(self, channels: int, *, temperature: float = 1.0, hard: bool = True):
        super().__init__()
        if temperature <= 0:
            raise ValueError(
                f"temperature {temperature}; expected one above 0, such as 1 to 0.1"
            )
        self.channels, self.temperature, self.hard = channels, temperature, hard
        self.score = nn.Conv2d(channels, 2, 1)
        self.score.bias = nn.Parameter(torch.tensor([0.0, OPEN]))
        self.weights: Tensor | None = None
        self.probability: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        check(self, x)
        logits = fp32(self.score(x))
        p = torch.softmax(logits, 1)[:, 1:].detach()
        if self.training:
            keep = gumbel_softmax(logits, self.temperature, 1, hard=self.hard)[:, 1:]
        else:
            keep = (p >= 0.5).to(logits)
        self.weights, self.probability = keep.detach(), p
        return x * keep.type_as(x)

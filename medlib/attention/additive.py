"""Additive attention, the first of neural translation: a small network scores every
pair.

Read with the chapters on attention.
"""

import torch
from torch import Tensor, nn

from medlib.attention._common import fp32


class Additive(nn.Module):
    """A query scores every key, softmax makes weights of the scores, the answer is a
    weighted sum of values.

    Paper: Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to
    align and translate", ICLR 2015, arXiv:1409.0473. e_t = v · tanh(W q + U k_t + b), α
    = softmax(e), context = Σ α_t value_t. h(Q + C) + 2h parameters for Q, C and h
    values in query, key and between; O(h(SQ + TC + ST)) work for S queries and T keys.
    Differs: b, which the paper leaves out of its formulas; h = C by default, where it
    has 1000.

    forward(query (B, Q) or (B, S, Q), keys (B, T, C), values (B, T, V) or the keys,
    mask (B, T) of booleans, True where there is something) → context (B, V) or (B, S,
    V), weights (B, T) or (B, S, T). Not a drop-in for images. With nothing to look at,
    all weights and the context are 0. The weights stay in `weights`, detached.
    """

    def __init__(
        self,
        channels: int,
        *,
        query_channels: int | None = None,
        hidden: int | None = None,
    ):
        super().__init__()
        self.channels, self.query_channels = channels, query_channels or channels
        hidden = hidden or channels
        self.query = nn.Linear(self.query_channels, hidden)
        self.key = nn.Linear(channels, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.weights: Tensor | None = None

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if (
            query.shape[-1] != self.query_channels
            or keys.ndim != 3
            or keys.shape[2] != self.channels
        ):
            raise ValueError(
                f"Additive got query {tuple(query.shape)}, keys {tuple(keys.shape)}; "
                f"expected (B, {self.query_channels}) or (B, S, "
                f"{self.query_channels}), and (B, T, {self.channels})"
            )
        if mask is not None and mask.dtype != torch.bool:
            raise ValueError(
                f"Additive got a mask of {mask.dtype}; expected booleans, True where "
                "there is something"
            )
        values = keys if values is None else values
        several = query if query.ndim == 3 else query[:, None]
        # (B, S, T, hidden): every query beside every key
        pairs = self.query(several)[:, :, None] + self.key(keys)[:, None]
        scores = fp32(self.score(torch.tanh(pairs))[..., 0])  # (B, S, T)
        if mask is None:
            weights = torch.softmax(scores, 2)
        else:
            # Not −∞, whose softmax is undefined where all is masked
            lowest = torch.finfo(scores.dtype).min
            weights = torch.softmax(scores.masked_fill(~mask[:, None], lowest), 2)
            weights = weights * mask[:, None]
        self.weights = weights.detach() if query.ndim == 3 else weights[:, 0].detach()
        context = weights.type_as(values) @ values
        return (context, weights) if query.ndim == 3 else (context[:, 0], weights[:, 0])

"""The attention modules, one file a family: `cls(channels)` takes and gives (B, C, H,
W). `families` has them as tuples, for a chapter that tries them all.

A file is read when a module of it is first asked for.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Additive": "additive",
    "AttentionGate": "spatial",
    "Axial": "efficient",
    "BAM": "mixed",
    "BayesianAttention": "bayesian",
    "BernoulliGate": "hard",
    "CBAM": "mixed",
    "CHANNEL": "_families",
    "ChannelGate": "mixed",
    "CoordinateAttention": "spatial",
    "CrissCross": "efficient",
    "DualAttention": "self_attention",
    "ECA": "channel",
    "EMAttention": "efficient",
    "FCA": "channel",
    "GSoP": "channel",
    "GaussianContext": "mixed",
    "GaussianWindow": "gaussian",
    "GlobalContext": "efficient",
    "GumbelGate": "hard",
    "HARD": "_families",
    "LinearAttention": "efficient",
    "MIXED": "_families",
    "MaskBranch": "mask",
    "MultiHead": "self_attention",
    "NonLocal": "self_attention",
    "ReverseAttention": "spatial",
    "SCSE": "mixed",
    "SE": "channel",
    "SELF": "_families",
    "SK": "channel",
    "SOFT": "_families",
    "SPATIAL": "_families",
    "STN": "spatial",
    "SimAM": "mixed",
    "SpatialGate": "spatial",
    "TripletAttention": "mixed",
    "VariationalAttention": "bayesian",
    "gumbel_softmax": "hard",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

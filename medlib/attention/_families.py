"""The families, for a chapter that tries them all.

SOFT and HARD are the drop-ins: those that compute their weights, and those that draw
them at random in training. The review's test is another, whether a derivative exists:
by it GaussianWindow and EMAttention are soft, though Gaussian and clustering attention
are filed under hard; and BayesianAttention and GumbelGate sample, and have derivatives
all the same. Additive is for sequences and in neither.
"""

from medlib.attention.bayesian import BayesianAttention, VariationalAttention
from medlib.attention.channel import ECA, FCA, SE, SK, GSoP
from medlib.attention.efficient import (
    Axial,
    CrissCross,
    EMAttention,
    GlobalContext,
    LinearAttention,
)
from medlib.attention.gaussian import GaussianWindow
from medlib.attention.hard import BernoulliGate, GumbelGate
from medlib.attention.mask import MaskBranch
from medlib.attention.mixed import (
    BAM,
    CBAM,
    SCSE,
    ChannelGate,
    GaussianContext,
    SimAM,
    TripletAttention,
)
from medlib.attention.self_attention import DualAttention, MultiHead, NonLocal
from medlib.attention.spatial import (
    STN,
    AttentionGate,
    CoordinateAttention,
    ReverseAttention,
    SpatialGate,
)

CHANNEL = (SE, ECA, SK, FCA, GSoP, GaussianContext, ChannelGate)
SPATIAL = (
    SpatialGate,
    AttentionGate,
    STN,
    ReverseAttention,
    GaussianWindow,
)
MIXED = (
    CBAM,
    BAM,
    SCSE,
    SimAM,
    TripletAttention,
    CoordinateAttention,
    MaskBranch,
)
SELF = (
    MultiHead,
    NonLocal,
    GlobalContext,
    CrissCross,
    DualAttention,
    Axial,
    LinearAttention,
    EMAttention,
)
SOFT = CHANNEL + SPATIAL + MIXED + SELF
HARD = (VariationalAttention, BayesianAttention, BernoulliGate, GumbelGate)

"""Token Norm Imbalance: measured on the keys and values a model makes, by layer, KV head and modality."""

from __future__ import annotations

from .attribution import Attribution
from .bound import error_bound, imbalance
from .distribution import Distribution
from .files import TniFileError
from .measure import measure_tni
from .parts import GroupTni, HeadTni, LayerTni, StateTni, TokenNorm
from .report import TniReport

__all__ = [
    "Attribution",
    "Distribution",
    "GroupTni",
    "HeadTni",
    "LayerTni",
    "StateTni",
    "TniFileError",
    "TniReport",
    "TokenNorm",
    "error_bound",
    "imbalance",
    "measure_tni",
]

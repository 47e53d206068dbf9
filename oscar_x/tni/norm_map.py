"""Key norms along the first sequence, for pictures: at most MAP_COLUMNS columns, however long it is."""

from __future__ import annotations

import torch
from torch import Tensor

from ..modality import Modality
from .parts import NormMap

MAP_COLUMNS = 512


class NormMapBuilder:
    """Collects a NormMap while the sequence is read.

    Args:
        tokens: the sequence's length.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens_per_column = max(1, -(-tokens // MAP_COLUMNS))
        self.columns = -(-tokens // self.tokens_per_column)
        self.low: dict[int, Tensor] = {}
        self.high: dict[int, Tensor] = {}
        self.modalities = torch.zeros(self.columns, dtype=torch.int8)

    def add(self, layer: int, start: int, keys: Tensor, modalities: Tensor) -> None:
        """Take in tokens from place ``start`` on: keys fp32 [heads, n, head_dim], modalities int8 [n]."""
        if layer not in self.low:
            self.low[layer] = torch.full((self.columns,), torch.inf)
            self.high[layer] = torch.zeros(self.columns)
        norms = keys.square().sum((0, 2)).sqrt().cpu()
        order = torch.arange(start, start + len(norms))
        columns = order // self.tokens_per_column
        self.low[layer].scatter_reduce_(0, columns, norms, "amin")
        self.high[layer].scatter_reduce_(0, columns, norms, "amax")
        first = order % self.tokens_per_column == 0
        self.modalities[columns[first]] = modalities[first]

    def build(self) -> NormMap:
        """The map so far; layers that saw fewer tokens are not to be expected."""
        layers = sorted(self.low)
        kinds = tuple(Modality(kind).name.lower() for kind in self.modalities.tolist())
        low, high = (tuple(_rounded(held[layer]) for layer in layers) for held in (self.low, self.high))
        return NormMap(self.tokens_per_column, tuple(layers), low, high, kinds)


def _rounded(norms: Tensor) -> tuple[float, ...]:
    """Four digits are more than a picture shows."""
    return tuple(float(f"{norm:.4g}") for norm in norms.tolist())

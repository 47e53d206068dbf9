"""The tokens with the smallest or largest norms of each KV head, streamed."""

from __future__ import annotations

import torch
from torch import Tensor

KEPT = 8


class Extremes:
    """The KEPT most extreme tokens a head; of equal norms the one that came first.

    Attributes:
        norms: fp64 [heads, held], most extreme first.
        places: int64 [heads, held, 3]: sequence, position, modality.
    """

    def __init__(self, heads: int, *, largest: bool) -> None:
        self.largest = largest
        self.norms = torch.zeros(heads, 0, dtype=torch.float64)
        self.places = torch.zeros(heads, 0, 3, dtype=torch.int64)

    def add(self, norms: Tensor, modalities: Tensor, sequence: int, start: int) -> None:
        """Take in tokens: norms [heads, n], modalities int8 [n]; see StateStatistics.add_tokens."""
        count = norms.shape[1]
        new = torch.stack(
            [torch.full((count,), sequence), torch.arange(start, start + count), modalities.long()], dim=-1
        )
        joined = torch.cat([self.norms, norms.double()], dim=1)
        places = torch.cat([self.places, new.expand(len(norms), -1, -1)], dim=1)
        self.norms, order = joined.sort(dim=1, descending=self.largest, stable=True)
        self.norms, order = self.norms[:, :KEPT].clone(), order[:, :KEPT]
        self.places = places.gather(1, order[..., None].expand(-1, -1, 3))

"""Bytes that any cache holds, and the most that it held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import Cache

from ...cache import OscarCache
from ..method import held_bytes, held_tensors


def cache_bytes(cache: Cache) -> int:
    """Allocated bytes of everything that a cache holds."""
    if isinstance(cache, OscarCache):
        return cache.memory().total
    return allocated([vars(layer) for layer in cache.layers])


def allocated(held: Any) -> int:
    """Bytes of every storage in nested containers, those of quantized tensors included, each counted once."""
    return held_bytes([plain for tensor in held_tensors(held) for plain in _plain(tensor)])


def _plain(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a tensor is made of: itself, or what a subclass wraps."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _plain(getattr(tensor, name))


class MeteredCache(Cache):
    """Another cache's layers, with the most bytes that they held at any time, what update() returns included.

    OscarCache counts by itself; this does it for the others.
    """

    def __init__(self, inner: Cache) -> None:
        super().__init__(layers=inner.layers)
        self.inner = inner
        self.held: dict[int, int] = {}
        self.peak = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As the other cache's."""
        before = dict(vars(self.layers[layer_idx]))
        returned = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        layer = vars(self.layers[layer_idx])
        self.held[layer_idx] = allocated(layer)
        others = sum(size for index, size in self.held.items() if index != layer_idx)
        self.peak = max(self.peak, others + allocated([before, layer, returned]))
        return returned


def metered(cache: Cache) -> Cache:
    """The cache itself where it counts its bytes, else one that counts them for it."""
    return cache if isinstance(cache, OscarCache) else MeteredCache(cache)


def peak_bytes(cache: Cache) -> int:
    """The most bytes that a cache from metered() held."""
    return cache.memory().peak if isinstance(cache, OscarCache) else cache.peak

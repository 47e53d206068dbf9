"""Bytes of a cache by its length: exact, from the layout of a packed block and the rules by which storage grows."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

import torch

from ...cache.exact import STEP
from ...cache.pool import GROWTH, LEAST_GROWTH
from ...cache_settings import CacheSettings
from ...compressor import block_layout
from ..bench.shapes import Shape

MOST_TOKENS = 2**36


@dataclass(frozen=True)
class LayerFormula:
    """One layer of one sequence. Blocks are taken to be full: settings with modality_split close some early, and hold
    more.

    Attributes:
        token_bytes: of a token's keys and values as the model makes them.
        record_bytes: of a packed block; 0 where the layer is not compressed.
        block_size, sink_tokens, residual_length: of its settings; 0 where the layer is not compressed.
    """

    token_bytes: int
    record_bytes: int = 0
    block_size: int = 0
    sink_tokens: int = 0
    residual_length: int = 0

    @property
    def window(self) -> int:
        """Tokens that the buffer of exact tokens is made for."""
        return self.sink_tokens + self.residual_length + self.block_size

    def blocks(self, tokens: int) -> int:
        """Packed blocks after a prompt of this many tokens."""
        if not self.record_bytes:
            return 0
        return max(0, tokens - self.sink_tokens - self.residual_length) // self.block_size

    def steady(self, tokens: int) -> int:
        """Bytes held after a prompt of this many tokens."""
        if not self.record_bytes:
            return tokens * self.token_bytes
        return self.blocks(tokens) * self.record_bytes + self.window * self.token_bytes

    def grown(self, tokens: int) -> int:
        """The most that it holds when it got there in many small steps: storage is grown ahead."""
        blocks = self.blocks(tokens)
        ahead = max(LEAST_GROWTH, blocks // GROWTH) if self.record_bytes and blocks else 0
        return self.steady(tokens) + ahead * self.record_bytes

    def copied(self, tokens: int) -> int:
        """What is there twice while storage grows."""
        return self.blocks(tokens) * self.record_bytes if self.record_bytes else tokens * self.token_bytes


@dataclass(frozen=True)
class CacheFormula:
    """A whole cache of one sequence.

    Attributes:
        layers: its layers.
        column_bytes: of the description of a column (modality, medium, rotary positions).
    """

    layers: tuple[LayerFormula, ...]
    column_bytes: int = 0

    def steady(self, tokens: int) -> int:
        """Bytes held after a prompt of this many tokens."""
        return sum(layer.steady(tokens) for layer in self.layers) + self.column_bytes * tokens

    def peak(self, tokens: int) -> int:
        """A bound on what is held at any time on the way: storage grown ahead, the largest layer's twice."""
        copied = max(layer.copied(tokens) for layer in self.layers)
        return sum(layer.grown(tokens) for layer in self.layers) + copied + self.column_bytes * tokens

    @property
    def bytes_per_token(self) -> float:
        """The slope of steady()."""
        slopes = (
            layer.record_bytes / layer.block_size if layer.record_bytes else layer.token_bytes for layer in self.layers
        )
        return sum(slopes) + self.column_bytes

    def longest(self, room: int) -> int:
        """The most tokens whose peak fits in `room` bytes; 0 where not even one does."""
        low, high = 0, 1
        while high < MOST_TOKENS and self.peak(high) <= room:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.peak(middle) <= room else (low, middle)
        return low


def cache_formula(shape: Shape, settings: CacheSettings, dtype: torch.dtype, column_bytes: int = 0) -> CacheFormula:
    """The formula of a decoder of this shape; settings of 16 bits are the full cache."""
    token = shape.full_bytes(1, dtype.itemsize)
    layers = []
    for index in range(shape.layers):
        own = settings[index]
        if not own.compresses:
            layers.append(LayerFormula(token))
            continue
        record = block_layout(own, shape.key_value_heads, shape.head_dim).record_bytes
        layers.append(LayerFormula(token, record, own.block_size, own.sink_tokens, own.residual_length))
    return CacheFormula(tuple(layers), column_bytes)


class Replay:
    """Counts what a layer allocates while tokens arrive in chunks, by the rules of cache/pool.py and cache/exact.py."""

    def __init__(self, layer: LayerFormula) -> None:
        self.layer = layer
        self.tokens = self.packed = self.capacity = 0
        self.exact_capacity = layer.window

    def feed(self, count: int) -> int:
        """`count` tokens arrive in one forward pass; bytes held after it."""
        layer = self.layer
        if not layer.record_bytes:
            self.tokens += count
            return self.tokens * layer.token_bytes
        if self._residual() >= layer.residual_length + layer.block_size:
            self._pack()
        if count > max(1, layer.residual_length):  # a prompt is packed before it is stored
            self.tokens += count
            self._pack()
        else:
            self._try_out(count)
            self.tokens += count
        needed = min(self.tokens, layer.sink_tokens) + self._residual()
        if needed > self.exact_capacity:
            self.exact_capacity = -(-needed // STEP) * STEP
        return self.nbytes

    def aside(self, counts: Iterable[int]) -> None:
        """As many tokens are read by a fork, in these passes, and forgotten; storage that grew for them stays."""
        twin = copy(self)
        for count in counts:
            twin.feed(count)
        self.capacity = twin.capacity

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.capacity * self.layer.record_bytes + self.exact_capacity * self.layer.token_bytes

    def _residual(self) -> int:
        return max(0, self.tokens - self.layer.sink_tokens) - self.packed * self.layer.block_size

    def _pack(self) -> None:
        self.packed += max(0, self._residual() - self.layer.residual_length) // self.layer.block_size
        self._reserve(self.packed)

    def _try_out(self, count: int) -> None:
        """A few tokens see, at each position, the blocks that decoding one by one would have packed by then; the
        blocks are given back, their storage stays."""
        held, limit = self.tokens - self.packed * self.layer.block_size, self.layer.window
        last = count - 1 - (limit - held)
        if self.tokens and last >= 0:
            self._reserve(self.packed + 1 + last // self.layer.block_size)

    def _reserve(self, blocks: int) -> None:
        short = blocks - self.capacity
        if short > 0:
            self.capacity += short if self.capacity == 0 else max(short, LEAST_GROWTH, self.capacity // GROWTH)

"""One attention layer's cache: sinks | packed blocks | residual window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..compressor import Compressor
from ..config import OscarConfig
from ..key_bias import KeyBias
from .exact import ExactBuffer
from .handle import KVHandle
from .packing import move_tokens
from .pool import BlockPool
from .reading import materialize
from .row_operations import RowOperations
from .rows import Row, Spans
from .shared import Shared


class OscarLayer(RowOperations):
    """Holds one layer's keys and values at a few bits, each token quantized once.

    Args:
        oscar: compression settings.
        key_bias: bias to take out of the keys before compression, if any.
        reads_packed: whether the model's attention can read a handle; otherwise update() returns dequantized states.
        shared: what the layers of a cache share.
        index: the layer's number, which errors name.
    """

    is_compileable = False
    is_croppable = True
    is_sliding = False

    def __init__(
        self,
        oscar: OscarConfig,
        key_bias: KeyBias | None = None,
        reads_packed: Callable[[], bool] = lambda: False,
        shared: Shared | None = None,
        index: int = 0,
    ) -> None:
        super().__init__()
        self.oscar = oscar
        self.key_bias = key_bias
        self.reads_packed = reads_packed
        self.shared = shared or Shared()
        self.index = index
        self.rows: list[Row] = []
        self.packed_reads = 0
        self._table: tuple[torch.Tensor, torch.Tensor] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for states of this shape [batch, num_key_value_heads, any, head_dim]."""
        batch, heads, _, head_dim = key_states.shape
        if value_states.shape[-1] != head_dim:
            raise ValueError(
                f"layer {self.index}: value_states has head_dim {value_states.shape[-1]}, key_states {head_dim}; "
                "they must be equal"
            )
        self.dtype, self.device = key_states.dtype, key_states.device
        self.compressor = Compressor(self.oscar, heads, head_dim)
        self.pool = BlockPool(self.compressor.layout.record_bytes, self.device)
        window = self.oscar.sink_tokens + self.oscar.residual_length + self.oscar.block_size
        self.exact = ExactBuffer(key_states, value_states, window)
        self.rows = [Row(self.oscar.sink_tokens) for _ in range(batch)]
        if self.key_bias is not None:
            self.key_bias = self.key_bias.to(self.device)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple:
        """Take new post-RoPE states [batch, num_key_value_heads, n, head_dim].

        Returns:
            A handle twice, where the model's attention is "oscar": it takes the states in when it attends. Otherwise
            all keys and values, dequantized, [batch, num_key_value_heads, columns, head_dim]; padding columns are 0.

        Raises:
            ValueError: a batch size or head count other than the cache holds; NaN or infinity when packing.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._check(key_states)
        self.pack_due()
        if self.reads_packed():
            handle = KVHandle(self, key_states, value_states)
            return handle, handle
        past = materialize(self, key_states.dtype) if self.get_seq_length() else None
        self.packed_reads += self.packed_tokens * key_states.shape[2]
        self.append(key_states, value_states, None)
        if past is None:
            return key_states, value_states
        return torch.cat([past[0], key_states], 2), torch.cat([past[1], value_states], 2)

    @property
    def splits(self) -> bool:
        """Whether blocks end where modalities meet: asked for, and somebody said what the columns are."""
        return self.oscar.modality_split is not None and self.shared.stream is not None

    @property
    def packed_tokens(self) -> int:
        """Tokens in packed blocks, over all rows."""
        return sum(row.packed for row in self.rows)

    def pack_due(self) -> None:
        """Pack every block that the tokens seen so far push out of the residual window."""
        limit = self.oscar.residual_length + self.oscar.block_size
        if any(row.residual >= limit for row in self.rows):
            self._move(None, None, keep=self.oscar.residual_length)

    def append(self, key_states: torch.Tensor, value_states: torch.Tensor, spans: list[Spans] | None) -> None:
        """Store new tokens. A prompt is packed at once; a few tokens wait until the next ones confirm them, so that a
        rollback of rejected candidates leaves no trace in what is packed."""
        self._move((key_states, value_states), spans, keep=self.oscar.residual_length)

    def is_prompt(self, count: int) -> bool:
        """Whether this many new tokens attend to one another exactly and are packed at once."""
        return count > max(1, self.oscar.residual_length)

    def flush(self) -> None:
        """Pack the whole residual window now, the last block possibly not full."""
        if self.is_initialized and any(row.residual for row in self.rows):
            self._move(None, None, keep=0, partial=True)

    def _move(self, new: tuple | None, spans: list[Spans] | None, keep: int, partial: bool = False) -> None:
        try:
            move_tokens(self, new, spans, keep, partial)
        except ValueError as error:
            raise ValueError(f"layer {self.index}: {error}") from error
        finally:
            self._table = None
            self.shared.meter.note(id(self), self.pool.records.nbytes + self.exact.nbytes, self.pool.copied)
            self.pool.copied = 0

    def _check(self, key_states: torch.Tensor) -> None:
        batch, heads = len(self.rows), self.compressor.layout.num_key_value_heads
        if key_states.shape[:2] != (batch, heads):
            raise ValueError(
                f"layer {self.index}: key_states has batch and heads {tuple(key_states.shape[:2])}; "
                f"the cache holds {(batch, heads)}"
            )

    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Block ids and lengths, int64 [batch, most blocks of a row]; missing blocks have length 0."""
        if self._table is None:
            self._table = self.block_table([row.blocks for row in self.rows], [row.lengths for row in self.rows])
        return self._table

    def block_table(self, blocks: list[list[int]], lengths: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for given blocks; a missing one repeats a block that holds data, so that no garbage is read."""
        width = max(map(len, blocks))
        written = next((ids[0] for ids in blocks if ids), 0)
        ids = [row + [row[0] if row else written] * (width - len(row)) for row in blocks]
        counts = [row + [0] * (width - len(row)) for row in lengths]
        return torch.tensor(ids, device=self.device), torch.tensor(counts, device=self.device)

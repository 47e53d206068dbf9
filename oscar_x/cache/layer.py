"""One attention layer's cache: sinks | packed blocks | residual window."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
from .tables import BlockTable, upload

if TYPE_CHECKING:
    from .static import StaticNumbers


class OscarLayer(RowOperations):
    """Holds one layer's keys and values at a few bits, each token quantized once.

    Args:
        oscar: compression settings.
        key_bias: bias to take out of the keys before compression, if any.
        reads_packed: whether the model's attention can read a handle; otherwise update() returns dequantized states.
        shared: what the layers of a cache share.
        index: the layer's number, which errors name.

    Attributes:
        static: set while a forward pass of fixed shapes runs (graphed_decode.py), which then reads the layer's numbers
            from there and leaves its rows alone.
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
        self.static: StaticNumbers | None = None
        self._table: BlockTable | None = None
        self._exact_lengths: torch.Tensor | None = None

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
        window = self.oscar.most_sinks + self.oscar.residual_length + self.oscar.block_size
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
        if self.static is not None:
            handle = KVHandle(self, key_states, value_states)
            return handle, handle
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
        return self.oscar.split_ratio is not None and self.shared.stream is not None

    @property
    def packed_tokens(self) -> int:
        """Tokens in packed blocks, over all rows."""
        return sum(row.packed for row in self.rows) if self._table is None else self._table.tokens

    def pack_due(self) -> None:
        """Pack every block that the tokens seen so far push out of the residual window."""
        limit = self.oscar.residual_length + self.oscar.block_size
        if any(row.residual >= limit for row in self.rows):
            self._move(None, None, keep=self.oscar.residual_length)

    def append(self, key_states: torch.Tensor, value_states: torch.Tensor, spans: list[Spans] | None) -> None:
        """Store new tokens. A prompt is packed at once; a few tokens wait until the next ones confirm them, so that a
        rollback of rejected candidates leaves no trace in what is packed."""
        if spans is None and not self.is_prompt(key_states.shape[2]):
            self._append_few(key_states, value_states)
            return
        self._move((key_states, value_states), spans, keep=self.oscar.residual_length)

    def _append_few(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """What _move() comes to where every new column is a token and waits to be packed."""
        count, held = key_states.shape[2], self.exact.capacity
        most = max(row.exact for row in self.rows)
        if all(row.exact == most for row in self.rows):
            self.exact.write(list(range(len(self.rows))), most, key_states, value_states)
        else:
            self.exact.ensure(most + count)
            self.exact.scatter(self.exact_lengths(), key_states, value_states)
        self.count_new(count)
        if self.exact.capacity != held:
            self._note_bytes()

    def count_new(self, count: int) -> None:
        """Take note that every row's exact tokens became more by `count`, each of them a column."""
        for row in self.rows:
            row.exact += count
            row.see(count, None)
        if self._exact_lengths is not None:
            self._exact_lengths = self._exact_lengths + count  # not in place: forks hold the same tensor

    def is_prompt(self, count: int) -> bool:
        """Whether this many new tokens attend to one another exactly and are packed at once."""
        return count > max(1, self.oscar.residual_length)

    def flush(self) -> None:
        """Pack the whole residual window now, the last block possibly not full."""
        if self.is_initialized and any(row.residual for row in self.rows):
            self._move(None, None, keep=0, partial=True)

    def _move(self, new: tuple | None, spans: list[Spans] | None, keep: int, partial: bool = False) -> None:
        before = [len(row.blocks) for row in self.rows]
        try:
            move_tokens(self, new, spans, keep, partial)
        except ValueError as error:
            raise ValueError(f"layer {self.index}: {error}") from error
        finally:
            self._forget_numbers(table=before != [len(row.blocks) for row in self.rows])
            self._note_bytes()

    def _note_bytes(self) -> None:
        self.shared.meter.note(id(self), self.pool.records.nbytes + self.exact.nbytes, self.pool.copied)
        self.pool.copied = 0

    def _check(self, key_states: torch.Tensor) -> None:
        batch, heads = len(self.rows), self.compressor.layout.num_key_value_heads
        if key_states.shape[:2] != (batch, heads):
            raise ValueError(
                f"layer {self.index}: key_states has batch and heads {tuple(key_states.shape[:2])}; "
                f"the cache holds {(batch, heads)}"
            )

    def table(self) -> BlockTable:
        """The packed blocks, at least one."""
        if self._table is None:
            self._table = self.block_table([row.blocks for row in self.rows], [row.lengths for row in self.rows])
        return self._table

    def block_table(self, blocks: list[list[int]], lengths: list[list[int]]) -> BlockTable:
        """The same for given blocks."""
        return BlockTable.of(blocks, lengths, self.device)

    def exact_lengths(self) -> torch.Tensor:
        """Exact tokens of each row, int64 [batch]."""
        if self._exact_lengths is None:
            self._exact_lengths = upload([row.exact for row in self.rows], self.device)
        return self._exact_lengths

    def reserve(self, tokens: int) -> int:
        """Make room for this many more tokens a row, so that storage stays where it is while they come.

        Returns:
            The most blocks that a row will have by then.

        Raises:
            ValueError: a layer that has not seen a token.
        """
        if not self.is_initialized:
            raise ValueError("reserve() needs a prompt: before it a layer knows no batch size")
        blocks = [(row.residual + tokens) // self.oscar.block_size + 1 for row in self.rows]
        self.pool.reserve(sum(blocks))
        self.exact.ensure(self.oscar.most_sinks + self.oscar.residual_length + self.oscar.block_size)
        self._note_bytes()
        return max(len(row.blocks) + more for row, more in zip(self.rows, blocks, strict=True))

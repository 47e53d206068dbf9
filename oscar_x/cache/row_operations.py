"""What generation strategies do to a layer: roll back, reorder, repeat, select, move between devices, fork."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import CacheLayerMixin

if TYPE_CHECKING:
    from .exact import ExactBuffer
    from .layer import OscarLayer
    from .pool import BlockPool
    from .rows import Row
    from .shared import Shared
    from .tables import BlockTable


class RowOperations(CacheLayerMixin):
    """Operations on whole rows. Packed blocks are shared, never copied or quantized again."""

    rows: list[Row]
    pool: BlockPool
    exact: ExactBuffer
    shared: Shared
    device: torch.device
    is_initialized: bool
    _table: BlockTable | None
    _exact_lengths: torch.Tensor | None

    def get_seq_length(self) -> int:
        """Columns seen, padding included."""
        return self.rows[0].columns if self.rows else 0

    def get_max_length(self) -> int:
        """-1: grows without bound."""
        return -1

    def get_max_cache_shape(self) -> int:
        """The same, under the name that earlier transformers call."""
        return self.get_max_length()

    def get_mask_sizes(self, query_length: int | torch.Tensor) -> tuple[int, int]:
        """Length and offset of the columns that a mask must cover."""
        if isinstance(query_length, torch.Tensor):  # earlier transformers pass the positions
            query_length = len(query_length)
        return self.get_seq_length() + query_length, 0

    def reset(self) -> None:
        """Forget everything and free the storage."""
        self._release()
        if self.is_initialized:
            del self.pool, self.exact
        self.rows, self.is_initialized = [], False
        self._forget_numbers()
        self.shared.meter.note(id(self), 0, 0)
        self.shared.sights.forget()

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the newest columns of every row.

        A crop that reaches into a packed block keeps its codes and shortens the block.

        Args:
            tokens_to_remove: a negative count; a positive number is the length to keep, as in earlier transformers.

        Raises:
            ValueError: more columns than there are.
        """
        # assisted decoding of some transformers versions passes a tensor, which `-=` would then change for other rows
        length, tokens_to_remove = self.get_seq_length(), int(tokens_to_remove)
        remove = -tokens_to_remove if tokens_to_remove <= 0 else max(0, length - tokens_to_remove)
        if remove > length:
            raise ValueError(f"tokens_to_remove={tokens_to_remove} is more than the {length} tokens held")
        if remove:
            for row in self.rows:
                self.pool.release(row.crop(remove))
            self._forget_numbers()

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Row i becomes what row beam_idx[i] was."""
        self._choose(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        if repeats < 1:
            raise ValueError(f"repeats={repeats} is not allowed; use at least 1")
        self._choose(torch.arange(len(self.rows)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows at `indices` (integers, or a boolean for each row), in that order."""
        indices = torch.as_tensor(indices)
        self._choose(indices.nonzero().flatten() if indices.dtype == torch.bool else indices)

    def _choose(self, indices: torch.Tensor) -> None:
        if not self.is_initialized:
            return
        rows = [self.rows[index].copy() for index in indices.tolist()]
        for row in rows:
            self.pool.retain(row.blocks)
        self._release()
        self.exact.select(indices)
        self.rows = rows
        self._forget_numbers()

    def _forget_numbers(self, table: bool = True) -> None:
        """Of what the rows say, the tensors that were made of it."""
        self._exact_lengths = None
        if table:
            self._table = None

    def fork(self) -> OscarLayer:
        """A layer that goes on from the same tokens: shares the packed blocks, copies the exact tokens."""
        twin = copy.copy(self)
        twin.rows = [row.copy() for row in self.rows]
        if self.is_initialized:
            for row in twin.rows:
                self.pool.retain(row.blocks)
            twin.exact = self.exact.clone()
        return twin

    def offload(self) -> None:
        """Move the storage to the CPU."""
        self._move_storage(torch.device("cpu"))

    def prefetch(self) -> None:
        """Bring the storage back to the device of the states."""
        if self.is_initialized:
            self._move_storage(self.device)

    def _move_storage(self, device: torch.device) -> None:
        if self.is_initialized:
            self.pool.to(device, non_blocking=True)
            self.exact.to(device, non_blocking=True)

    def _release(self) -> None:
        if self.is_initialized:
            self.pool.release(block for row in self.rows for block in row.blocks)

    def __del__(self) -> None:
        # forks share the pool: a layer that goes away gives its blocks back
        if getattr(self, "is_initialized", False):
            self._release()

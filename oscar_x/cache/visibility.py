"""What an attention mask says about a layer's slots."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .rows import Row, Spans
from .tables import BlockTable, upload

if TYPE_CHECKING:
    from .layer import OscarLayer


@dataclass(frozen=True)
class Sight:
    """A mask as the cache reads it.

    Attributes:
        mask: bool [batch, queries, columns], True where a query sees a column; None for plain causal attention.
        spans: per row, the ranges among the new columns that are tokens; None when all are.
        past_visible: whether every query sees every token held before.
    """

    mask: torch.Tensor | None
    spans: list[Spans] | None
    past_visible: bool


PLAIN = Sight(None, None, True)


class SightMemo:
    """Reads a mask once for all layers of a forward pass; on a GPU each reading waits for the device."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Let go of the last mask."""
        # weak: a prompt's mask takes batch * tokens ** 2 bytes and must go with its forward pass
        self._mask: Callable[[], torch.Tensor | None] = _nothing
        self._shape = (0, 0)
        self._sight = PLAIN

    @property
    def nbytes(self) -> int:
        """Bytes of the mask that is still held: that of a chunk with a past, until the next forward pass."""
        return 0 if self._sight.mask is None else self._sight.mask.untyped_storage().nbytes()

    def read(self, layer: OscarLayer, mask: torch.Tensor | None, queries: int) -> Sight:
        """The mask [batch or 1, 1, queries, columns] of this forward pass, boolean or 0 / very negative.

        Raises:
            ValueError: a mask for each head, an additive bias, or too few columns.
        """
        if mask is None:
            return PLAIN
        shape = (layer.get_seq_length(), queries)  # a caller may write the next step's mask into the same tensor
        if mask is not self._mask() or shape != self._shape:
            self._sight = _read(layer, mask, queries)
            self._mask, self._shape = weakref.ref(mask), shape
        return self._sight


def _nothing() -> None:
    """A weak reference to no mask."""


def _read(layer: OscarLayer, mask: torch.Tensor, queries: int) -> Sight:
    batch, columns = len(layer.rows), layer.get_seq_length() + queries
    fits = mask.ndim == 4 and mask.shape[0] in (1, batch) and mask.shape[1] == 1
    if not fits or mask.shape[2] != queries or mask.shape[3] < columns:
        raise ValueError(
            f"attention_mask has shape {tuple(mask.shape)}; expected [{batch}, 1, {queries}, {columns}] "
            "(one mask for all heads)"
        )
    mask = mask[:, 0, :, :columns]
    seen = (mask if mask.dtype == torch.bool else mask == 0).expand(batch, -1, -1)
    past, new = seen[..., :-queries], seen[..., -queries:]
    tokens = new.any(dim=1)
    held = upload([[sum(stop - start for start, stop in row.spans)] for row in layer.rows], mask.device)
    # a padding query sees nothing and is never read, so only queries that are tokens count
    complete = (past.sum(-1) == held) | ~tokens
    # asked together: each answer waits for the device
    all_tokens, all_complete, plain = torch.stack([tokens.all(), complete.all(), _is_plain(mask)]).tolist()
    if not plain:
        raise ValueError("attention_mask adds a bias to scores; a packed cache takes masks of 0 and -inf or booleans")
    spans = None if all_tokens else [_runs(row) for row in tokens.tolist()]
    # without a past the mask itself is not read again, and need not be kept
    return Sight(seen if past.shape[-1] else None, spans, all_complete)


def _is_plain(mask: torch.Tensor) -> torch.Tensor:
    """Whether a mask only shows and hides, bool []."""
    if mask.dtype == torch.bool:
        return torch.ones((), dtype=torch.bool, device=mask.device)
    return ((mask == 0) | (mask <= torch.finfo(mask.dtype).min / 2)).all()


def _runs(flags: list[bool]) -> Spans:
    spans, start = [], None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            spans.append((start, index))
            start = None
    return spans


def token_columns(row: Row, start: int, stop: int) -> torch.Tensor:
    """Columns of the stored tokens [start, stop) of a row, int64, counted in the order sinks, packed, residual."""
    pieces, at = [], 0
    for span_start, span_stop in row.spans:
        low, high = max(start - at, 0), min(stop - at, span_stop - span_start)
        if low < high:
            pieces.append(torch.arange(span_start + low, span_start + high))
        at += span_stop - span_start
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)


def packed_columns(layer: OscarLayer, table: BlockTable) -> torch.Tensor:
    """Column of each packed slot, int64 [batch, blocks * block_size], -1 past a block's length."""
    block_size = layer.oscar.block_size
    columns = torch.full((*table.ids.shape, block_size), -1)
    for index, (row, lengths) in enumerate(zip(layer.rows, table.counts, strict=True)):
        kept = torch.arange(block_size) < torch.tensor(lengths, dtype=torch.int64)[:, None]
        columns[index, : len(lengths)][kept] = token_columns(row, row.sink_tokens, row.sink_tokens + sum(lengths))
    return upload(columns.flatten(1), layer.device)


def visible_columns(sight: Sight, columns: torch.Tensor, first_query: int, queries: slice) -> torch.Tensor:
    """bool [batch, queries, slots]: which slots each query sees.

    Args:
        columns: int64 [batch, slots], the column of each slot, -1 for an empty one.
        first_query: the column of query 0.
        queries: which of the new tokens ask.
    """
    present = (columns >= 0)[:, None]
    if sight.mask is None:
        at = torch.arange(first_query + queries.start, first_query + queries.stop, device=columns.device)
        return present & (columns[:, None] <= at[:, None])
    rows = sight.mask[:, queries]
    index = columns.clamp(min=0)[:, None].expand(-1, rows.shape[1], -1)
    return present & rows.gather(2, index)

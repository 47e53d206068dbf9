"""Tokens held as they came: attention sinks, then the residual window."""

from __future__ import annotations

import torch

from .tables import upload

STEP = 64  # tokens by which the buffer grows when a caller appends more than the window was made for


class ExactBuffer:
    """Keys and values [batch, num_key_value_heads, capacity, head_dim] in the model's dtype.

    Rows of a batch fill it from the front, each to its own length. What lies behind is masked but still multiplied
    by a weight of 0, so it starts as zeros: 0 times NaN would be NaN.
    """

    def __init__(self, key_states: torch.Tensor, value_states: torch.Tensor, capacity: int) -> None:
        batch, heads, _, head_dim = key_states.shape
        self.keys = key_states.new_zeros(batch, heads, capacity, head_dim)
        self.values = value_states.new_zeros(batch, heads, capacity, value_states.shape[-1])

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return self.keys.nbytes + self.values.nbytes

    def ensure(self, tokens: int) -> None:
        """Grow so that `tokens` fit in every row."""
        if tokens <= self.capacity:
            return
        filled, capacity = self.capacity, -(-tokens // STEP) * STEP
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
            new[:, :, :filled] = old
            setattr(self, name, new)

    def write(self, rows: list[int], start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put tokens [len(rows), heads, n, head_dim] at `start` of these rows."""
        self.ensure(start + keys.shape[2])
        where = (self._index(rows), slice(None), slice(start, start + keys.shape[2]))
        self.keys[where], self.values[where] = keys, values

    def scatter(self, starts: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put tokens [batch, heads, n, head_dim] where each row's `starts`, int64 [batch], says; they must fit."""
        at = starts[:, None, None, None]
        if keys.shape[2] > 1:
            at = at + torch.arange(keys.shape[2], device=at.device)[:, None]
        for held, new in ((self.keys, keys), (self.values, values)):
            held.scatter_(2, at.expand(new.shape), new.to(held.dtype))

    def read(self, rows: list[int], start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [start, stop) of these rows; a view when they are all rows."""
        where = (self._index(rows), slice(None), slice(start, stop))
        return self.keys[where], self.values[where]

    def _index(self, rows: list[int]) -> slice | torch.Tensor:
        chosen = select_rows(rows, len(self.keys))
        return chosen if isinstance(chosen, slice) else upload(chosen, self.keys.device)

    def select(self, rows: torch.Tensor) -> None:
        """Keep (or repeat) these rows."""
        self.keys, self.values = self.keys[rows.to(self.keys.device)], self.values[rows.to(self.values.device)]

    def clone(self) -> ExactBuffer:
        """An independent copy."""
        copy = object.__new__(ExactBuffer)
        copy.keys, copy.values = self.keys.clone(), self.values.clone()
        return copy

    def to(self, device: torch.device, non_blocking: bool = False) -> None:
        """Move the storage."""
        self.keys = self.keys.to(device, non_blocking=non_blocking)
        self.values = self.values.to(device, non_blocking=non_blocking)


def select_rows(rows: list[int], batch: int) -> slice | list[int]:
    """An index of these rows that gives a view where one can."""
    if len(rows) == batch:
        return slice(None)
    return slice(rows[0], rows[0] + 1) if len(rows) == 1 else rows

"""Numbers that kernels read about a layer, on its device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


def upload(numbers: Sequence[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Whole numbers from the host, int64, without waiting for the device."""
    tensor = torch.as_tensor(numbers, dtype=torch.int64)
    if device.type == "cpu":
        return tensor
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor where a copy to the device can read it on its own: from other memory it waits for all that the device
    was given before."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


@dataclass
class BlockTable:
    """The packed blocks of every row of a batch.

    Attributes:
        ids, lengths: int64 [batch, most blocks of a row], record and tokens of each block; what a row has not, repeats
            a record that was written and has length 0.
        used: int64 [batch], blocks of each row.
        counts: the lengths of each row, on the host.
        memo: tensors made from the table and needed until it changes.
        stream: the modality stream that the memo's positions are from.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    used: torch.Tensor
    counts: list[list[int]]
    memo: dict[str, torch.Tensor] = field(default_factory=dict)
    stream: Any = None

    @classmethod
    def of(cls, blocks: list[list[int]], lengths: list[list[int]], device: torch.device) -> BlockTable:
        """A table of these blocks and of how many tokens each holds."""
        width = max(map(len, blocks))
        written = next((ids[0] for ids in blocks if ids), 0)
        ids = [row + [row[0] if row else written] * (width - len(row)) for row in blocks]
        counts = [row + [0] * (width - len(row)) for row in lengths]
        both, used = upload([ids, counts], device), upload([len(row) for row in blocks], device)
        return cls(both[0], both[1], used, [list(row) for row in lengths])

    @property
    def uneven(self) -> bool:
        """Whether kernels on a GPU should be told `used`: on a CPU leaving blocks out costs more than it saves."""
        return self.ids.device.type != "cpu" and len({len(row) for row in self.counts}) > 1

    @property
    def tokens(self) -> int:
        """Packed tokens, over all rows."""
        return sum(map(sum, self.counts))

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return sum(tensor.nbytes for tensor in (self.ids, self.lengths, self.used, *self.memo.values()))

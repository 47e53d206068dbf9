"""The packed block: which bytes hold what. docs/format.md spells it out; every kernel reads it from here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

from .pack import packed_bytes

# token_norm="damped": a norm beyond NORM_KNEE means of its block is divided by the square of how far beyond, at most by
# MOST_DAMPING. What few tokens of a block stand out by, attention tends to look for (docs/format.md)
NORM_KNEE, MOST_DAMPING = 1.2, 2.0
ALIGNMENT = 16  # bytes; every field starts on a multiple, so that it can be viewed as any dtype and loaded in one go


@dataclass(frozen=True)
class Field:
    """One field of a block: `offset` bytes from the start of the block's shared part or of a head's part."""

    name: str
    part: str  # what memory reports count it as: "codes", "scales" or "norms"
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class MatrixLayout:
    """Codes of one head's keys or values: a matrix [rows, cols] whose groups run down the rows.

    Keys are [tokens, channels]: a scale for each channel and run of tokens. Values are [channels, tokens]: a scale for
    each token and run of channels. So the axis that attention sums over is contiguous in both, and scales broadcast
    along it. Scales are a table [groups, 2 * cols], scales then minimums.
    """

    name: str
    bits: int
    group_size: int
    along_tokens: bool
    scale_bits: int
    tokens: int
    channels: int
    tokens_per_range: int

    @property
    def rows(self) -> int:
        return self.tokens if self.along_tokens else self.channels

    @property
    def cols(self) -> int:
        return self.channels if self.along_tokens else self.tokens

    @property
    def width(self) -> int:
        """Rows of a group."""
        return min(self.group_size, self.rows)

    @property
    def groups(self) -> int:
        return -(-self.rows // self.width)

    @property
    def nested(self) -> bool:
        return self.scale_bits < 16

    @property
    def ranges(self) -> int:
        """Nested ranges: one a group of tokens over all channels, or one a run of tokens over all their groups."""
        return self.groups if self.along_tokens else self.tokens // self.tokens_per_range

    def fields(self) -> list[Field]:
        codes = Field(f"{self.name}_codes", "codes", (packed_bytes(self.rows, self.bits), self.cols), torch.uint8)
        if not self.nested:
            shape = (self.groups, 2 * self.cols)
            return [codes, Field(f"{self.name}_scales", "scales", shape, torch.float16)]
        row = packed_bytes(2 * self.cols, self.scale_bits)
        return [
            codes,
            Field(f"{self.name}_scales", "scales", (self.groups, row), torch.uint8),
            # scale_low, scale_step, minimum_low, minimum_step
            Field(f"{self.name}_ranges", "scales", (self.ranges, 4), torch.float16),
        ]


@dataclass(frozen=True)
class BlockLayout:
    """Bytes of one packed block: `block_size` tokens of all KV heads of one layer and sequence.

    A record is [shared part][head 0][head 1]...; the shared part is empty unless token norms are shared by the
    heads. Attributes mirror oscar_x.OscarConfig, but for the last two.

    Attributes:
        start: where the block begins in a record that it shares with others (oscar_x.kernels.composite), in bytes.
        stride: bytes of such a record; 0 for a record of its own.
    """

    num_key_value_heads: int
    head_dim: int
    block_size: int
    key_bits: int
    value_bits: int
    key_group_size: int
    value_group_size: int
    value_along_tokens: bool
    scale_bits: int
    value_scale_rows: int
    token_norm: str
    norm_bits: int
    rotate_keys: bool
    rotate_values: bool
    start: int = 0
    stride: int = 0

    @cached_property
    def keys(self) -> MatrixLayout:
        sizes = (self.scale_bits, self.block_size, self.head_dim)
        return MatrixLayout("key", self.key_bits, self.key_group_size, True, *sizes, self.value_scale_rows)

    @cached_property
    def values(self) -> MatrixLayout:
        sizes = (self.scale_bits, self.block_size, self.head_dim)
        along_tokens = self.value_along_tokens
        return MatrixLayout(
            "value", self.value_bits, self.value_group_size, along_tokens, *sizes, self.value_scale_rows
        )

    @cached_property
    def shared_fields(self) -> dict[str, Field]:
        return _place(self._norm_fields() if self.token_norm == "shared" else [])

    @cached_property
    def head_fields(self) -> dict[str, Field]:
        # the largest magnitude of the block's keys and values: codes and fp16 scales are relative to it
        amplitude = [Field("amplitude", "scales", (2,), torch.float32)]
        norms = self._norm_fields() if self.token_norm in ("per_head", "damped") else []
        return _place([*self.keys.fields(), *self.values.fields(), *norms, *amplitude])

    def _norm_fields(self) -> list[Field]:
        dtype = torch.float16 if self.norm_bits == 16 else torch.uint8
        return [
            Field("norm_codes", "norms", (self.block_size,), dtype),
            Field("norm_range", "norms", (2,), torch.float32),
        ]

    @cached_property
    def shared_bytes(self) -> int:
        return _end(self.shared_fields)

    @cached_property
    def head_bytes(self) -> int:
        return _end(self.head_fields)

    @property
    def nbytes(self) -> int:
        """Bytes of the block itself."""
        return self.shared_bytes + self.num_key_value_heads * self.head_bytes

    @property
    def record_bytes(self) -> int:
        return self.stride or self.nbytes

    @property
    def bits_per_element(self) -> float:
        """Bytes of a full block, every one counted, over its key and value elements."""
        return 8 * self.nbytes / (2 * self.num_key_value_heads * self.block_size * self.head_dim)

    def bytes_by_part(self) -> dict[str, int]:
        """{"codes", "scales", "norms"} bytes of one record; alignment counts with the scales."""
        parts = {"codes": 0, "scales": 0, "norms": 0}
        for fields, copies in ((self.shared_fields, 1), (self.head_fields, self.num_key_value_heads)):
            for field in fields.values():
                parts[field.part] += copies * field.nbytes
        parts["scales"] += self.nbytes - sum(parts.values())
        return parts

    def view(self, records: torch.Tensor, name: str) -> torch.Tensor:
        """A field of many records, without copying: records uint8 [..., record_bytes] ->
        [..., num_key_value_heads, *shape], or [..., 1, *shape] for a field of the shared part."""
        records = records[..., self.start : self.start + self.nbytes]
        if name in self.shared_fields:
            field, region = self.shared_fields[name], records[..., None, : self.shared_bytes]
        else:
            field = self.head_fields[name]
            region = records[..., self.shared_bytes :].unflatten(-1, (self.num_key_value_heads, self.head_bytes))
        return region[..., field.offset : field.offset + field.nbytes].view(field.dtype).unflatten(-1, field.shape)


def _place(fields: list[Field]) -> dict[str, Field]:
    placed, offset = {}, 0
    for field in fields:
        placed[field.name] = Field(field.name, field.part, field.shape, field.dtype, offset)
        offset += -(-field.nbytes // ALIGNMENT) * ALIGNMENT
    return placed


def _end(fields: dict[str, Field]) -> int:
    if not fields:
        return 0
    last = list(fields.values())[-1]
    return last.offset + -(-last.nbytes // ALIGNMENT) * ALIGNMENT

"""Layers whose KV heads are stored in several ways: a record is the records of the ways, one behind the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from .key_bias import KeyBias
from .layout import BlockLayout


@dataclass(frozen=True)
class Part:
    """Some KV heads of a layer, stored alike.

    Attributes:
        heads: their numbers in the layer, ascending.
        layout: of their blocks, and where those lie in the layer's record.
    """

    heads: tuple[int, ...]
    layout: BlockLayout

    def take(self, states: torch.Tensor) -> torch.Tensor:
        """The heads' share of states [batch, num_key_value_heads, ...]; a view where they are neighbours."""
        if self.run is not None:
            return states[:, self.run]
        # slices, as an index would be copied to the device and waited for
        return torch.stack([states[:, head] for head in self.heads], dim=1)

    def put(self, share: torch.Tensor, states: torch.Tensor) -> None:
        """The inverse: writes the heads' share into states."""
        if self.run is not None:
            states[:, self.run] = share
            return
        for place, head in enumerate(self.heads):
            states[:, head] = share[:, place]

    @property
    def run(self) -> slice | None:
        """The heads as a slice, where they are neighbours."""
        first, stop = self.heads[0], self.heads[-1] + 1
        return slice(first, stop) if self.heads == tuple(range(first, stop)) else None

    def bias(self, key_bias: KeyBias | None) -> KeyBias | None:
        """The heads' share of a bias."""
        return None if key_bias is None else replace(key_bias, bias=self.take(key_bias.bias[None])[0])


@dataclass(frozen=True)
class CompositeLayout:
    """One packed block of a layer whose heads differ in bits, groups or scales.

    The parts are read and written apart, each by a call of its own. They have a block size and head_dim in common and
    no norms shared across heads.
    """

    parts: tuple[Part, ...]

    @property
    def num_key_value_heads(self) -> int:
        return sum(len(part.heads) for part in self.parts)

    @property
    def head_dim(self) -> int:
        return self.parts[0].layout.head_dim

    @property
    def block_size(self) -> int:
        return self.parts[0].layout.block_size

    @cached_property
    def record_bytes(self) -> int:
        return sum(part.layout.nbytes for part in self.parts)

    @property
    def bits_per_element(self) -> float:
        """Bytes of a full block, every one counted, over its key and value elements."""
        return 8 * self.record_bytes / (2 * self.num_key_value_heads * self.block_size * self.head_dim)

    def bytes_by_part(self) -> dict[str, int]:
        """{"codes", "scales", "norms"} bytes of one record, as BlockLayout.bytes_by_part."""
        sizes = [part.layout.bytes_by_part() for part in self.parts]
        return {name: sum(size[name] for size in sizes) for name in sizes[0]}


Layout = BlockLayout | CompositeLayout


def composite_layout(ways: Iterable[tuple[tuple[int, ...], BlockLayout]]) -> CompositeLayout:
    """The layout of heads stored in these ways, each (numbers of the heads, layout of a record of theirs alone).

    Raises:
        ValueError: layouts of different block sizes or head_dims, or with norms shared by heads; heads that are
            missing or named twice.
    """
    ways = list(ways)
    _check(ways)
    stride, start, parts = sum(layout.nbytes for _, layout in ways), 0, []
    for heads, layout in ways:
        parts.append(Part(heads, replace(layout, start=start, stride=stride)))
        start += layout.nbytes
    return CompositeLayout(tuple(parts))


def _check(ways: list[tuple[tuple[int, ...], BlockLayout]]) -> None:
    named = sorted(head for heads, _ in ways for head in heads)
    if not named or named != list(range(len(named))):
        raise ValueError(f"the parts name KV heads {named}; each from 0 on must be named once")
    if len({(layout.block_size, layout.head_dim) for _, layout in ways}) > 1:
        raise ValueError("the parts of a layer must have one block_size and one head_dim")
    for heads, layout in ways:
        if layout.num_key_value_heads != len(heads):
            raise ValueError(f"a part of {len(heads)} heads has a layout for {layout.num_key_value_heads}")
        if layout.token_norm == "shared":
            raise ValueError("token_norm='shared' is one norm for all heads of a layer, which cannot be split by head")


def parts_of(layout: Layout) -> Iterator[Part]:
    """The parts of either kind of layout."""
    if isinstance(layout, CompositeLayout):
        yield from layout.parts
    else:
        yield Part(tuple(range(layout.num_key_value_heads)), layout)

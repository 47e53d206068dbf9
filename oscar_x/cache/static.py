"""A layer's numbers at fixed places on its device, for decoding steps of fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..kernels.decode_attention import joint_attention
from .bias_share import packed_positions

if TYPE_CHECKING:
    from .handle import KVHandle
    from .layer import OscarLayer


@dataclass
class StaticNumbers:
    """What a step reads of a layer instead of its rows. Tensors are made once, as wide as they will ever be, and
    changed in place; kernels are launched for that width and work on what `used` and `ends` say.

    Attributes:
        ids, lengths: int64 [batch, blocks], as in BlockTable; of no meaning past `used`.
        used: int64 [batch], blocks of each row.
        starts, ends: int64 [batch], exact tokens of each row before and after this step's.
        positions: where a key bias stands, as packed attention takes it; None without a bias.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    used: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor
    positions: torch.Tensor | None = None
    _shown: tuple[Any, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, layer: OscarLayer, blocks: int, starts: torch.Tensor, ends: torch.Tensor) -> StaticNumbers:
        """Room for a layer whose rows will have up to this many blocks; starts, ends: where its counts are kept."""
        ids, lengths = torch.zeros(2, len(layer.rows), blocks, dtype=torch.int64, device=layer.device)
        return cls(ids, lengths, torch.zeros_like(starts), starts, ends)

    @property
    def blocks(self) -> int:
        """Blocks of a row that there is room for."""
        return self.ids.shape[1]

    def show(self, layer: OscarLayer) -> None:
        """Take over the layer's packed blocks, if they changed; waits for nothing."""
        table = layer.table() if any(row.blocks for row in layer.rows) else None
        # the table itself, not its id(): another one may come to lie where it was
        shown = table, layer.shared.stream
        if self._shown is not None and all(new is old for new, old in zip(shown, self._shown, strict=True)):
            return
        self._shown = shown
        if layer.key_bias is not None and self.positions is None:
            self.positions = torch.zeros_like(self.ids)
        if table is None:
            self.used.zero_()
            return
        width = table.ids.shape[1]
        self.ids[:, :width] = table.ids
        self.lengths[:, :width] = table.lengths
        self.used.copy_(table.used)
        positions = packed_positions(layer, table)
        if positions is not None:
            self._show_positions(positions, width)

    def _show_positions(self, positions: torch.Tensor, width: int) -> None:
        axis = 1 if positions.ndim == 2 else 2
        shape = [self.blocks if at == axis else size for at, size in enumerate(positions.shape)]
        if self.positions is None or list(self.positions.shape) != shape:
            self.positions = positions.new_zeros(shape)
        self.positions.narrow(axis, 0, width).copy_(positions)


def attend_static(handle: KVHandle, query: torch.Tensor, scaling: float) -> torch.Tensor:
    """Attention of one token a row over everything that its row holds, itself included, with shapes and launches that
    do not depend on how much that is. The layer's rows are left alone: GraphedDecode counts.

    Args:
        query: post-RoPE [batch, num_attention_heads, 1, head_dim].

    Returns:
        The same shape and dtype.
    """
    layer = handle.layer
    numbers, heads = layer.static, handle.key_states.shape[1]
    assert numbers is not None
    layer.exact.scatter(numbers.starts, handle.key_states, handle.value_states)
    rows = query.unflatten(1, (heads, -1)).flatten(2, 3)
    output, _ = joint_attention(
        rows,
        layer.pool.records,
        numbers.ids,
        numbers.lengths,
        layer.compressor.layout,
        scaling,
        layer.exact.keys,
        layer.exact.values,
        key_bias=layer.key_bias,
        positions=numbers.positions,
        backend=layer.oscar.backend,
        used=numbers.used,
        exact_lengths=numbers.ends,
    )
    return output.flatten(1, 2).unsqueeze(2).to(query.dtype)


@contextmanager
def static_layers(layers: Sequence[OscarLayer], numbers: Sequence[StaticNumbers]) -> Iterator[None]:
    """While it lasts, a forward pass of one token a row goes through attend_static()."""
    for layer, own in zip(layers, numbers, strict=True):
        layer.static = own
    try:
        yield
    finally:
        for layer in layers:
            layer.static = None

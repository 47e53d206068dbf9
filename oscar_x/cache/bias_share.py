"""The key-projection bias as it stands in the tokens of a layer, at the positions the model gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .rows import Row
from .visibility import token_columns

if TYPE_CHECKING:
    from .layer import OscarLayer


def bias_share(layer: OscarLayer, rows: list[int], seen: list[Row], start: int, stop: int) -> torch.Tensor:
    """The bias's share of tokens [start, stop), counted in the order sinks, packed, residual.

    Args:
        rows: the rows, by number.
        seen: what they hold, tokens included that are only just being taken in.

    Returns:
        fp32, broadcastable to [rows, num_key_value_heads, stop - start, head_dim].
    """
    assert layer.key_bias is not None
    placed = _placed(layer, max(row.columns for row in seen))
    if placed is None:
        return layer.key_bias.rotated(torch.arange(start, stop, device=layer.device)).transpose(0, 1)
    columns = torch.stack([token_columns(row, start, stop) for row in seen]).to(placed.device)
    at = torch.tensor(rows, device=placed.device)[:, None]
    return layer.key_bias.placed(placed[:, at, columns].to(layer.device)).transpose(1, 2)


def block_positions(layer: OscarLayer, lengths: torch.Tensor, columns: torch.Tensor | None) -> torch.Tensor:
    """Positions of packed blocks in the form that packed attention takes.

    Args:
        lengths: int64 [batch, blocks], tokens of each block.
        columns: int64 [batch, blocks * block_size], the column of each packed slot, -1 for an empty one; needed where
            places_bias() says so.
    """
    if columns is None:
        # sinks come first, and padding has no position
        return layer.oscar.sink_tokens + lengths.cumsum(1) - lengths
    placed = _placed(layer, layer.get_seq_length())
    assert placed is not None
    at = torch.arange(len(columns), device=placed.device)[:, None]
    positions = placed[:, at, columns.clamp(min=0).to(placed.device)].to(lengths.device)
    return positions.unflatten(2, (lengths.shape[1], -1))


def places_bias(layer: OscarLayer) -> bool:
    """Whether the bias turns with several positions a token, and these are known."""
    return _placed(layer, layer.get_seq_length()) is not None


def _placed(layer: OscarLayer, columns: int) -> torch.Tensor | None:
    """Positions of every column, int32 [axes, batch, columns]."""
    if layer.key_bias is None or layer.key_bias.axes is None:
        return None
    stream = layer.shared.fitted(len(layer.rows), columns)
    return None if stream is None else stream.positions

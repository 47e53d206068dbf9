"""The key-projection bias as it stands in the tokens of a layer, at the positions the model gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .rows import Row
from .tables import BlockTable, upload
from .visibility import packed_columns, token_columns

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


def packed_positions(layer: OscarLayer, table: BlockTable) -> torch.Tensor | None:
    """Where the bias stands in packed blocks, in the form that packed attention takes: the position of each block's
    first token, or of every token on several axes; None without a bias."""
    if layer.key_bias is None:
        return None
    if "positions" not in table.memo or table.stream is not layer.shared.stream:
        table.memo["positions"], table.stream = _block_positions(layer, table), layer.shared.stream
    return table.memo["positions"]


def _block_positions(layer: OscarLayer, table: BlockTable) -> torch.Tensor:
    placed = _placed(layer, layer.get_seq_length())
    if placed is None:
        # sinks come first, and padding has no position
        sinks = upload([[row.sink_tokens] for row in layer.rows], table.lengths.device)
        return sinks + table.lengths.cumsum(1) - table.lengths
    columns = packed_columns(layer, table).to(placed.device)
    at = torch.arange(len(columns), device=placed.device)[:, None]
    positions = placed[:, at, columns.clamp(min=0)].to(layer.device)
    return positions.unflatten(2, (table.ids.shape[1], -1))


def _placed(layer: OscarLayer, columns: int) -> torch.Tensor | None:
    """Positions of every column, int32 [axes, batch, columns]."""
    if layer.key_bias is None or layer.key_bias.axes is None:
        return None
    stream = layer.shared.fitted(len(layer.rows), columns)
    return None if stream is None else stream.positions

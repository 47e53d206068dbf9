"""Reads a layer back: dequantized states in their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .bias_share import bias_share

if TYPE_CHECKING:
    from .layer import OscarLayer


def row_states(layer: OscarLayer, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All tokens of one row in order, dequantized, fp32 [num_key_value_heads, tokens, head_dim]."""
    row = layer.rows[index]
    keys, values = (states[0].float() for states in layer.exact.read([index], 0, row.exact))
    if not row.blocks:
        return keys, values
    sinks = row.exact - row.residual
    packed_keys, packed_values = layer.compressor.decompress(layer.pool.records[row.blocks])
    kept = (torch.arange(layer.oscar.block_size) < torch.tensor(row.lengths)[:, None]).to(keys.device)
    packed_keys, packed_values = (
        states.transpose(1, 2)[kept].transpose(0, 1) for states in (packed_keys, packed_values)
    )
    if layer.key_bias is not None:
        share = bias_share(layer, [index], [row], row.sink_tokens, row.sink_tokens + row.packed)
        packed_keys = packed_keys + (share[0] if share.ndim == 4 else share)
    return (
        torch.cat([keys[:, :sinks], packed_keys, keys[:, sinks:]], 1),
        torch.cat([values[:, :sinks], packed_values, values[:, sinks:]], 1),
    )


def materialize(layer: OscarLayer, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of every column, [batch, num_key_value_heads, columns, head_dim]; padding columns are 0."""
    batch, heads, _, head_dim = layer.exact.keys.shape
    shape = (batch, heads, layer.get_seq_length(), head_dim)
    keys, values = (torch.zeros(shape, dtype=dtype, device=layer.device) for _ in range(2))
    for index, row in enumerate(layer.rows):
        row_keys, row_values = row_states(layer, index)
        at = 0
        for start, stop in row.spans:
            keys[index, :, start:stop] = row_keys[:, at : at + stop - start]
            values[index, :, start:stop] = row_values[:, at : at + stop - start]
            at += stop - start
    return keys, values

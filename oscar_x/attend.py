"""Attention of new tokens over a layer: sinks, packed blocks, residual window and the new tokens themselves."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import torch

from .cache.bias_share import packed_positions
from .cache.handle import KVHandle
from .cache.layer import OscarLayer
from .cache.packing import provisional_blocks
from .cache.rows import Spans
from .cache.tables import BlockTable, upload
from .cache.visibility import Sight, packed_columns, token_columns, visible_columns
from .kernels.decode_attention import exact_attention, joint_attention, packed_attention

States = tuple[torch.Tensor, torch.Tensor]


def attend(handle: KVHandle, query: torch.Tensor, sight: Sight, scaling: float) -> torch.Tensor:
    """Take the handle's tokens into the layer and attend to everything that they may see.

    A prompt attends to itself exactly and is packed afterwards. A few tokens (decoding, candidates of assisted
    decoding) see at each position just the blocks that decoding one by one would have packed by then.

    Args:
        query: post-RoPE [batch, num_attention_heads, n, head_dim].
        sight: what the mask allows.
        scaling: factor on the scores.

    Returns:
        [batch, num_attention_heads, n, head_dim] in query's dtype.
    """
    layer, count = handle.layer, query.shape[2]
    first = layer.get_seq_length()
    grouped = query.unflatten(1, (handle.key_states.shape[1], -1))
    segments = _segments(layer, count, sight.spans)
    new = (handle.key_states, handle.value_states)
    # a prompt is not stored before it is packed: the exact buffer would have to grow to its length
    prompt = layer.is_prompt(count)
    if not prompt:
        layer.append(*new, sight.spans)
    states = _exact_states(layer, new if prompt else None)
    pieces = [_attend_segment(layer, grouped, states, sight, first, segment, due, scaling) for segment, due in segments]
    if prompt:
        layer.append(*new, sight.spans)
    output = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=3)
    return output.flatten(1, 2).to(query.dtype)


def _segments(layer: OscarLayer, count: int, spans: list[Spans] | None) -> list[tuple[slice, list[int]]]:
    """Runs of new columns between which no row would pack a block, with the blocks that each row would have packed.

    A row decides by its own tokens: a short turn beside a long one is read as it would be alone.
    """
    window, block_size = layer.oscar.residual_length, layer.oscar.block_size
    cuts, arrivals = {0, count}, []
    for index, row in enumerate(layer.rows):
        ranges = [(0, count)] if spans is None else spans[index]
        columns = [column for start, stop in ranges for column in range(start, stop)]
        if layer.is_prompt(len(columns)):
            columns = []
        held = row.exact - row.sink_tokens  # negative while tokens still fill the sinks
        cuts.update(columns[rank] for rank in range(window + block_size - held, len(columns), block_size) if rank > 0)
        arrivals.append((held, columns))
    edges = sorted(cuts)
    return [
        (
            slice(start, stop),
            [max(0, (held + bisect_left(columns, start) - window) // block_size) for held, columns in arrivals],
        )
        for start, stop in pairwise(edges)
    ]


def _attend_segment(
    layer: OscarLayer,
    grouped: torch.Tensor,
    states: States,
    sight: Sight,
    first: int,
    segment: slice,
    due: list[int],
    scaling: float,
) -> torch.Tensor:
    query = grouped[:, :, :, segment]
    if any(due):
        exact = Exact(*states, _exact_columns(layer, states, due), None)
        with provisional_blocks(layer, due) as provisional:
            return _attend_regions(layer, query, exact, provisional, sight, first, segment, scaling)
    if sight.past_visible and grouped.shape[3] == 1:  # the newest token: it sees whatever is held
        equal = len({row.exact for row in layer.rows}) == 1
        exact = Exact(*states, None, None if equal else layer.exact_lengths())
    else:
        exact = Exact(*states, _exact_columns(layer, states, due), None)
    table = layer.table() if any(row.blocks for row in layer.rows) else None
    return _attend_regions(layer, query, exact, table, sight, first, segment, scaling)


@dataclass(frozen=True)
class Exact:
    """Exact keys and values [batch, heads, slots, head_dim]; the column of each slot, int64 [batch, slots], -1 for a
    slot that must not be read, or None where every query sees every slot of a row, up to `lengths`, int64 [batch], if
    rows hold different numbers."""

    keys: torch.Tensor
    values: torch.Tensor
    columns: torch.Tensor | None
    lengths: torch.Tensor | None


def _exact_states(layer: OscarLayer, new: States | None) -> States:
    """Sinks and residual window of every row, then the new tokens unless they are stored already."""
    width = max(row.exact for row in layer.rows)
    keys, values = layer.exact.keys[:, :, :width], layer.exact.values[:, :, :width]
    return (keys, values) if new is None else (torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2))


def _exact_columns(layer: OscarLayer, states: States, due: list[int]) -> torch.Tensor:
    width, slots = max(row.exact for row in layer.rows), states[0].shape[2]
    columns = torch.full((len(layer.rows), slots), -1)
    first = layer.get_seq_length()
    columns[:, width:] = torch.arange(first, first + slots - width)
    for index, row in enumerate(layer.rows):
        sinks, packed = row.exact - row.residual, due[index] * layer.oscar.block_size
        columns[index, :sinks] = token_columns(row, 0, sinks)
        start, stop = sinks + row.packed + packed, sinks + row.packed + row.residual
        columns[index, sinks + packed : row.exact] = token_columns(row, start, stop)
    return upload(columns, layer.device)


def _attend_regions(
    layer: OscarLayer,
    query: torch.Tensor,
    exact: Exact,
    table: BlockTable | None,
    sight: Sight,
    first: int,
    segment: slice,
    scaling: float,
) -> torch.Tensor:
    """query [batch, num_key_value_heads, heads of a group, n, head_dim] -> the same shape, fp32."""
    group, count = query.shape[2:4]
    rows = query.flatten(2, 3)
    seen = None
    if exact.columns is not None:
        seen = _for_group(visible_columns(sight, exact.columns, first, segment), group)
    if table is None:
        output, _ = exact_attention(rows, exact.keys, exact.values, scaling, seen, exact.lengths)
        return output.unflatten(2, (group, count))
    visible = None
    if not sight.past_visible:
        if "columns" not in table.memo:
            table.memo["columns"] = packed_columns(layer, table)
        visible = _for_group(visible_columns(sight, table.memo["columns"], first, segment), group)
    call = rows, layer.pool.records, table.ids, table.lengths, layer.compressor.layout, scaling
    bias = layer.key_bias, packed_positions(layer, table)
    backend = layer.oscar.backend
    used = table.used if table.uneven else None
    if exact.keys.shape[2]:
        states = exact.keys, exact.values, visible, seen
        output, _ = joint_attention(*call, *states, *bias, backend, used, exact.lengths)
    else:
        output, _ = packed_attention(*call, visible, *bias, backend, used)
    layer.packed_reads += layer.packed_tokens * count
    return output.unflatten(2, (group, count))


def _for_group(visible: torch.Tensor, group: int) -> torch.Tensor:
    """[batch, queries, slots] -> [batch, 1, heads of a group * queries, slots]."""
    return visible[:, None].repeat(1, 1, group, 1)

"""Attention over packed blocks and over exact tokens, joined by their log-sum-exp. Readable form.

Queries of the heads that share a KV head are rows of one matrix: query is [batch, num_key_value_heads, rows, head_dim].
"""

from __future__ import annotations

from math import prod

import torch

from ..compress.reference import load_norms, load_scales
from ..hadamard.reference import hadamard_transform
from ..key_bias import KeyBias
from ..layout import BlockLayout, MatrixLayout
from ..pack.reference import unpack_rows
from ..quantize.reference import dequantize_rows

# Elements of keys dequantized at a time, and of scores held at a time: fp32 numbers that stay in a core's cache.
# Larger temporaries are given back to the system after every step and cost more in page faults than in arithmetic
# (docs/performance.md).
CHUNK_ELEMENTS = 2**19
SCORE_ELEMENTS = 2**20

Part = tuple[torch.Tensor, torch.Tensor]


def packed_attention(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: BlockLayout,
    scaling: float,
    visible: torch.Tensor | None,
    key_bias: KeyBias | None,
    positions: torch.Tensor | None,
) -> Part:
    query = query.float() * scaling
    rotated = hadamard_transform(query) if layout.rotate_keys else query
    full = bool((lengths == layout.block_size).all())
    per_block = query.shape[0] * layout.num_key_value_heads * layout.block_size * layout.head_dim
    step = max(1, CHUNK_ELEMENTS // per_block)
    total: Part | None = None
    for start in range(0, table.shape[1], step):
        blocks = slice(start, start + step)
        chunk = _gather(records, table[:, blocks])
        hidden = _hidden(lengths[:, blocks], layout.block_size, full, visible, start)
        keys, values = _token_rows(chunk, layout, layout.keys), _packed_values(chunk, layout)
        norms = _packed_norms(chunk, layout)
        bias_keys = (
            None
            if key_bias is None or positions is None
            else _bias_keys(key_bias, positions, blocks, layout.block_size)
        )
        tiles = []
        for rows in _tiles(query.shape[2], values.shape[:3]):
            scores = rotated[:, :, rows] @ keys.transpose(-1, -2)
            if norms is not None:
                scores *= norms
            if bias_keys is not None:
                scores += query[:, :, rows] @ bias_keys
            tiles.append(_weigh(scores, values, _of_rows(hidden, rows)))
        part = _join(tiles)
        total = part if total is None else merge([total, part])
    assert total is not None  # the wrapper refuses a table without blocks
    output, lse = total
    return (hadamard_transform(output) if layout.rotate_values else output), lse


def _gather(records: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """[batch, blocks, record_bytes]; a view for one sequence whose blocks lie in order, as they mostly do."""
    if len(table) == 1 and table.device.type == "cpu":
        first, count = int(table[0, 0]), table.shape[1]
        if table[0].tolist() == list(range(first, first + count)):
            return records[None, first : first + count]
    return records[table]


def _tiles(rows: int, shape: tuple[int, ...]) -> list[slice]:
    """Runs of query rows whose scores against [batch, heads, slots] stay small."""
    step = max(1, SCORE_ELEMENTS // prod(shape))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _join(tiles: list[Part]) -> Part:
    if len(tiles) == 1:
        return tiles[0]
    return torch.cat([output for output, _ in tiles], 2), torch.cat([lse for _, lse in tiles], 2)


def _of_rows(mask: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return mask if mask is None or mask.shape[2] == 1 else mask[:, :, rows]


def _token_rows(chunk: torch.Tensor, layout: BlockLayout, matrix: MatrixLayout) -> torch.Tensor:
    """Rotated keys before their norms, or values kept alike, fp32 [batch, heads, blocks * block_size, head_dim].

    Axes are put in order while the data is still packed: it is a 16th of the size.
    """
    scale, minimum = (table.transpose(1, 2) for table in load_scales(chunk, layout, matrix))
    codes = unpack_rows(layout.view(chunk, f"{matrix.name}_codes").transpose(1, 2), matrix.bits, matrix.rows)
    return dequantize_rows(codes, scale, minimum, matrix.width).flatten(2, 3)


def _packed_norms(chunk: torch.Tensor, layout: BlockLayout) -> torch.Tensor | None:
    """What scores are multiplied by, [batch, heads or 1, 1, blocks * block_size]: cheaper than scaling the keys."""
    if layout.token_norm == "none":
        return None
    return load_norms(layout, chunk).transpose(1, 2).flatten(2).unsqueeze(2)


def _bias_keys(key_bias: KeyBias, positions: torch.Tensor, blocks: slice, block_size: int) -> torch.Tensor:
    """The bias's share of the keys, [batch, heads, head_dim, blocks * block_size]."""
    if positions.ndim == 4:
        return key_bias.placed(positions[:, :, blocks].flatten(2)).permute(0, 2, 3, 1)
    offsets = torch.arange(block_size, device=positions.device)
    return key_bias.rotated((positions[:, blocks, None] + offsets).flatten(1)).permute(0, 2, 3, 1)


def _packed_values(chunk: torch.Tensor, layout: BlockLayout) -> torch.Tensor:
    """Rotated values, fp32 [batch, heads, blocks * block_size, head_dim], a view where channels lie in rows."""
    matrix = layout.values
    if matrix.along_tokens:
        return _token_rows(chunk, layout, matrix)
    scale, minimum = (table.permute(0, 2, 3, 1, 4).flatten(3) for table in load_scales(chunk, layout, matrix))
    packed = layout.view(chunk, "value_codes").permute(0, 2, 3, 1, 4).flatten(3)
    codes = unpack_rows(packed, matrix.bits, matrix.rows)
    return dequantize_rows(codes, scale, minimum, matrix.width).transpose(-1, -2)


def _hidden(
    lengths: torch.Tensor, block_size: int, full: bool, visible: torch.Tensor | None, start: int
) -> torch.Tensor | None:
    """True where a slot must not be read: past a block's length, or masked by the caller."""
    hidden = None
    if not full:
        slots = torch.arange(block_size, device=lengths.device)
        hidden = (slots >= lengths[..., None]).flatten(1)[:, None, None]
    if visible is not None:
        unseen = ~visible[..., start * block_size : (start + lengths.shape[1]) * block_size]
        hidden = unseen if hidden is None else hidden | unseen
    return hidden


def _weigh(scores: torch.Tensor, values: torch.Tensor, hidden: torch.Tensor | None) -> Part:
    """Softmax of scores times values, and the log-sum-exp; rows that see nothing give 0 and -inf."""
    if hidden is not None:
        scores.masked_fill_(hidden, float("-inf"))
    lse = scores.logsumexp(-1)
    shift = lse if hidden is None else torch.where(lse.isinf(), torch.zeros_like(lse), lse)
    return scores.sub_(shift[..., None]).exp_() @ values, lse


def exact_attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, visible: torch.Tensor | None
) -> Part:
    query, keys, values = query.float() * scaling, keys.float().transpose(-1, -2), values.float()
    hidden = None if visible is None else ~visible
    return _join(
        [
            _weigh(query[:, :, rows] @ keys, values, _of_rows(hidden, rows))
            for rows in _tiles(query.shape[2], values.shape[:3])
        ]
    )


def merge(parts: list[Part]) -> Part:
    """Attention over the union of disjoint sets of tokens, from the attention over each."""
    if len(parts) == 1:
        return parts[0]
    lses = torch.stack([lse for _, lse in parts])
    weights = lses.softmax(0).nan_to_num_(0.0)  # a row that sees nothing in any part
    output = weights[0].unsqueeze(-1) * parts[0][0]
    for weight, (part, _) in zip(weights[1:], parts[1:], strict=True):
        output.addcmul_(weight.unsqueeze(-1), part)
    return output, lses.logsumexp(0)

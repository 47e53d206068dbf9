"""One share of the packed blocks, attended to straight on their codes.

A program holds the query rows of one KV head and walks its blocks. A group's scale is folded into the queries (keys)
or the softmax weights (values), its minimum is one number a row and group; tensor cores multiply what results with the
codes as they are. Nothing is dequantized.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..hadamard.triton import rotate_rows
from .triton_bias import bias_scores, fold_bias
from .triton_record import CODE_UNIT, product, read_codes, read_norms, read_places, read_scales

LOG2_E = tl.constexpr(1.4426950408889634)
# Softmax weights are up to 2**14 instead of 1: as fp16 numbers they keep their digits down to 4e-9 of the largest.
WEIGHT_BITS = tl.constexpr(14.0)


@triton.jit
def code_scores(head, query, K: tl.constexpr, FINE: tl.constexpr):
    """query fp32 [rows, channels] times a head's keys, in units of amplitude and norm, fp32 [batches, rows, tile]."""
    padded: tl.constexpr = max(16, K.batches)
    batch, col = tl.arange(0, K.batches)[:, None], tl.arange(0, K.cols_padded)[None, :]
    scale = read_scales(head, batch, col, K, False) * read_places(batch, K)
    codes = tl.permute(read_codes(head, K), (0, 2, 1))
    if FINE:
        folded = query[None, :, :] * scale[:, None, :]
    else:
        folded = query.to(tl.float16)[None, :, :] * scale.to(tl.float16)[:, None, :]
    minimum = read_scales(head, tl.arange(0, padded)[None, :], tl.arange(0, K.cols_padded)[:, None], K, True)
    constant = by_batch(product(query, minimum, FINE), K.batches)
    return product(folded, codes, FINE) * CODE_UNIT + constant[:, :, None]


@triton.jit
def by_batch(x, BATCHES: tl.constexpr):
    """[rows, padded] -> [BATCHES, rows]; what is past BATCHES is 0."""
    rows: tl.constexpr = x.shape[0]
    copies: tl.constexpr = x.shape[1] // BATCHES
    return tl.sum(tl.reshape(tl.trans(x), (copies, BATCHES, rows)), axis=0)


@triton.jit
def code_values(head, weights, V: tl.constexpr, FINE: tl.constexpr):
    """weights fp32 [rows, tokens] times a head's values, in units of the amplitude: what the codes and scales give,
    fp32 [batches, rows, tile], and what the minimums give, fp32 [rows, padded batches]."""
    padded: tl.constexpr = max(16, V.batches)
    batch, col = tl.arange(0, V.batches)[:, None], tl.arange(0, V.cols_padded)[None, :]
    scale = read_scales(head, batch, col, V, False) * read_places(batch, V)
    codes = tl.permute(read_codes(head, V), (0, 2, 1))
    if FINE:
        folded = weights[None, :, :] * scale[:, None, :]
    else:
        folded = weights.to(tl.float16)[None, :, :] * scale.to(tl.float16)[:, None, :]
    minimum = read_scales(head, tl.arange(0, padded)[None, :], tl.arange(0, V.cols_padded)[:, None], V, True)
    return product(folded, codes, FINE) * CODE_UNIT, product(weights, minimum, FINE)


@triton.jit
def channel_values(head, weights, V: tl.constexpr, FINE: tl.constexpr):
    """The same for values that are grouped along tokens: a scale cannot leave the sum, so a block is dequantized in
    registers. fp32 [rows, channels]."""
    batch, col = tl.arange(0, V.batches)[:, None], tl.arange(0, V.cols_padded)[None, :]
    scale = read_scales(head, batch, col, V, False) * read_places(batch, V) * CODE_UNIT
    minimum = read_scales(head, batch, col, V, True)
    values = read_codes(head, V).to(tl.float32) * scale[:, None, :] + minimum[:, None, :]
    rows: tl.constexpr = V.batches * V.tile
    cols: tl.constexpr = V.cols_padded
    return product(weights, tl.reshape(values, (rows, cols)), FINE)


@triton.jit
def split_kernel(
    query, records, table, lengths, visible, bias, inv_freq, axes, positions, output, lse,
    rows, blocks, per_split, scaling, bias_scaling,
    query_batch, query_head, query_row, visible_batch, visible_row, visible_slot,
    R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, B: tl.constexpr,
    ROWS: tl.constexpr, FINE: tl.constexpr, MASKED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Grid (batch * heads * row tiles, splits).

    query [batch, heads, rows, head_dim] by strides; records uint8; table, lengths int64 [batch, blocks]; visible bool
    by strides or None; bias and what follows it: triton_bias.py, None without. Writes output fp32
    [splits, batch, heads, rows, head_dim], un-rotated only where WHOLE, and lse fp32 [splits, batch, heads, rows].
    """
    row_tiles = tl.cdiv(rows, ROWS)
    sequence_head, split = tl.program_id(0) // row_tiles, tl.program_id(1)
    sequence, kv_head = (sequence_head // R.heads).to(tl.int64), sequence_head % R.heads
    row = tl.program_id(0) % row_tiles * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, R.channels)
    held = (row < rows)[:, None] & (channel < R.head_dim)[None, :]
    query += sequence * query_batch + kv_head * query_head
    q = tl.load(query + row.to(tl.int64)[:, None] * query_row + channel[None, :], mask=held, other=0.0)
    q = q.to(tl.float32) * (scaling * LOG2_E)
    if B.pairs:
        at = row.to(tl.int64)[:, None] * query_row
        cosines, sines, still = fold_bias(query, at, (row < rows)[:, None], bias, kv_head, R, B)
    if R.rotate_keys:
        q = rotate_rows(q, R.channels, R.rotation)
    largest = tl.max(tl.abs(q), axis=1)
    unit = tl.where(largest > 0, largest, 1.0)
    q = q / unit[:, None]

    # shapes must be constants by themselves: Triton 3.6 takes no attribute inside one
    batches: tl.constexpr = V.batches
    tile: tl.constexpr = V.tile
    channels: tl.constexpr = R.channels
    key_batches: tl.constexpr = K.batches
    key_tile: tl.constexpr = K.tile
    block_size: tl.constexpr = R.block_size
    padded: tl.constexpr = max(16, V.batches)
    token = tl.arange(0, K.batches)[:, None] * K.tile + tl.arange(0, K.tile)[None, :]
    most = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    if R.value_along_tokens:
        part = tl.zeros([ROWS, channels], tl.float32)
    else:
        part = tl.zeros([batches, ROWS, tile], tl.float32)
        constant = tl.zeros([ROWS, padded], tl.float32)
    for block in range(split * per_split, tl.minimum((split + 1) * per_split, blocks)):
        entry = sequence * blocks + block
        record = records + tl.load(table + entry) * R.record_bytes
        head = record + R.shared_bytes + kv_head * R.head_bytes
        amplitude = (head + R.amplitude_at).to(tl.pointer_type(tl.float32))
        scores = code_scores(head, q, K, FINE) * (unit * tl.load(amplitude))[None, :, None]
        if R.norms:
            scores *= read_norms(record, head, token, R)[:, None, :]
        if B.pairs:
            share = bias_scores(cosines, sines, still, bias_scaling, inv_freq, axes, positions, entry, B, R)
            share *= scaling * LOG2_E
            scores += tl.permute(tl.reshape(share, (ROWS, key_batches, key_tile)), (1, 0, 2))
        seen = (token < tl.load(lengths + entry))[:, None, :]
        if MASKED:
            slot = (block * R.block_size + token).to(tl.int64)[:, None, :] * visible_slot
            at = visible + sequence * visible_batch + row.to(tl.int64)[None, :, None] * visible_row + slot
            seen = seen & (tl.load(at, mask=(row < rows)[None, :, None], other=0) != 0)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(tl.max(scores, axis=2), axis=0))
        base = tl.where(higher == float("-inf"), 0.0, higher) - WEIGHT_BITS
        weights = tl.exp2(scores - base[None, :, None])
        # of a row that has seen nothing, `most` is -inf: exp2 gives 0
        shrink = tl.exp2(most - (base + WEIGHT_BITS))
        total = total * shrink + tl.sum(tl.sum(weights, axis=2), axis=0)
        most = higher
        weights = tl.reshape(tl.permute(weights, (1, 0, 2)), (ROWS, block_size))
        if R.value_along_tokens:
            part = part * shrink[:, None] + channel_values(head, weights, V, FINE) * tl.load(amplitude + 1)
        else:
            added, added_constant = code_values(head, weights, V, FINE)
            part = part * shrink[None, :, None] + added * tl.load(amplitude + 1)
            constant = constant * shrink[:, None] + added_constant * tl.load(amplitude + 1)

    if R.value_along_tokens:
        result = part
    else:
        part += by_batch(constant, V.batches)[:, :, None]
        result = tl.reshape(tl.permute(part, (1, 0, 2)), (ROWS, channels))
    result = result / tl.where(total > 0, total, 1.0)[:, None]
    if WHOLE and R.rotate_values:
        result = rotate_rows(result, R.channels, R.rotation)
    first = (split.to(tl.int64) * (tl.num_programs(0) // row_tiles) + sequence_head) * rows
    tl.store(output + (first + row)[:, None] * R.head_dim + channel[None, :], result, mask=held)
    seen_any = tl.where(
        total > 0, (most - WEIGHT_BITS + tl.log2(tl.where(total > 0, total, 1.0))) / LOG2_E, float("-inf")
    )
    tl.store(lse + first + row, seen_any, mask=row < rows)

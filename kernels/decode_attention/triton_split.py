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
from .triton_record import place_masks, product, read_codes, read_norms, read_places, read_scales

LOG2_E = tl.constexpr(1.4426950408889634)
# Softmax weights are up to 2**14 instead of 1: as fp16 numbers they keep their digits down to 4e-9 of the largest.
WEIGHT_BITS = tl.constexpr(14.0)


@triton.jit
def code_products(head, kept, x, M: tl.constexpr, FINE: tl.constexpr):
    """A head's matrix, grouped down its rows, times x fp32 [cols, query rows], in units of the amplitude.

    Returns:
        what codes and scales give, over read_places(), fp32 [batches, tile, query rows], and what minimums give, the
        same for every row of a batch, fp32 [at least 8 batches, query rows], 0 past the last.
    """
    padded: tl.constexpr = max(8, M.batches)
    batch, col = tl.arange(0, M.batches)[:, None], tl.arange(0, M.cols_padded)[None, :]
    scale = read_scales(head, batch, col, M, False, FINE)
    folded = (x if FINE else x.to(tl.float16))[None, :, :] * scale[:, :, None]
    batch = tl.arange(0, padded)[:, None]
    constant = product(read_scales(head, batch, col, M, True, FINE), x, FINE)
    if padded > M.batches:
        constant = tl.where(batch < M.batches, constant, 0.0)
    return product(read_codes(head, kept, M), folded, FINE), constant


@triton.jit
def channel_values(head, kept, weights, V: tl.constexpr, FINE: tl.constexpr):
    """Values that are grouped along tokens times weights fp32 [tokens, query rows]: a scale cannot leave the sum, so a
    block is dequantized in registers. fp32 [channels, query rows]."""
    batch, col = tl.arange(0, V.batches)[:, None], tl.arange(0, V.cols_padded)[None, :]
    scale = read_scales(head, batch, col, V, False, True) * read_places(batch, V)
    minimum = read_scales(head, batch, col, V, True, True)
    values = read_codes(head, kept, V).to(tl.float32) * scale[:, None, :] + minimum[:, None, :]
    rows: tl.constexpr = V.batches * V.tile
    cols: tl.constexpr = V.cols_padded
    return product(tl.trans(tl.reshape(values, (rows, cols))), weights, FINE)


@triton.jit
def by_batch(x, BATCHES: tl.constexpr):
    """[padded, query rows] -> [BATCHES, query rows]; what is past BATCHES is 0."""
    rows: tl.constexpr = x.shape[1]
    copies: tl.constexpr = x.shape[0] // BATCHES
    return x if copies == 1 else tl.sum(tl.reshape(x, (copies, BATCHES, rows)), axis=0)


# numbers that change while decoding: a launch compiled for 16 blocks must serve 17
@triton.jit(do_not_specialize=["rows", "blocks", "capacity", "visible_batch", "visible_row", "visible_slot"])
def split_kernel(
    query, records, table, lengths, used, masks, visible, bias, inv_freq, axes, positions, output, lse,
    rows, blocks, capacity, scaling, bias_scaling,
    query_batch, query_head, query_row, visible_batch, visible_row, visible_slot,
    R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, B: tl.constexpr,
    ROWS: tl.constexpr, FINE: tl.constexpr, MASKED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Grid (batch * heads * row tiles, splits).

    query [batch, heads, rows, head_dim] by strides; records uint8 [capacity, record_bytes]; table, lengths int64
    [batch, blocks]; used int64 [batch], how many of them a sequence has, or None for all; masks: triton.place_masks();
    visible bool by strides or None; bias and what follows it: triton_bias.py, None without. Whatever table and lengths
    say, nothing outside of the records is read. Writes output fp32 [splits, batch, heads, rows, head_dim], un-rotated
    only where WHOLE, and lse fp32 [splits, batch, heads, rows].
    """
    row_tiles = tl.cdiv(rows, ROWS)
    sequence_head, split = tl.program_id(0) // row_tiles, tl.program_id(1)
    sequence, kv_head = (sequence_head // R.heads).to(tl.int64), sequence_head % R.heads
    row = tl.program_id(0) % row_tiles * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, R.channels)
    held = (row < rows)[:, None] & (channel < R.head_dim)[None, :]
    query += sequence * query_batch + kv_head.to(tl.int64) * query_head
    q = tl.load(query + row.to(tl.int64)[:, None] * query_row + channel[None, :], mask=held, other=0.0)
    q = q.to(tl.float32) * (scaling * LOG2_E)
    if B.pairs:
        at = row.to(tl.int64)[:, None] * query_row
        cosines, sines, still = fold_bias(query, at, (row < rows)[:, None], bias, kv_head, R, B)
    if R.rotate_keys:
        q = rotate_rows(q, R.channels, R.rotation)
    largest = tl.max(tl.abs(q), axis=1)
    unit = tl.where(largest > 0, largest, 1.0)
    q = tl.trans(q / unit[:, None])

    # shapes must be constants by themselves: Triton 3.6 takes no attribute inside one
    batches: tl.constexpr = V.batches
    tile: tl.constexpr = V.tile
    channels: tl.constexpr = R.channels
    key_batches: tl.constexpr = K.batches
    key_tile: tl.constexpr = K.tile
    block_size: tl.constexpr = R.block_size
    padded: tl.constexpr = max(8, V.batches)
    key_places, value_places = place_masks(masks, K), place_masks(masks, V)
    key_units = read_places(tl.arange(0, K.batches), K)
    value_units = read_places(tl.arange(0, V.batches), V)
    token = tl.arange(0, K.batches)[:, None] * K.tile + tl.arange(0, K.tile)[None, :]
    most = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    if R.value_along_tokens:
        part = tl.zeros([channels, ROWS], tl.float32)
    else:
        part = tl.zeros([batches, tile, ROWS], tl.float32)
        constant = tl.zeros([padded, ROWS], tl.float32)
    there = blocks
    if used is not None:
        there = tl.minimum(tl.maximum(tl.load(used + sequence), 0), blocks).to(tl.int32)
    per_split = tl.cdiv(there, tl.num_programs(1))
    for block in range(split * per_split, tl.minimum((split + 1) * per_split, there)):
        entry = sequence * blocks + block
        # 64 bits: a pool may be larger than 2**31 bytes
        at_record = tl.minimum(tl.maximum(tl.load(table + entry), 0), capacity - 1).to(tl.int64)
        record = records + at_record * R.record_bytes
        head = record + R.shared_bytes + kv_head * R.head_bytes
        amplitude = (head + R.amplitude_at).to(tl.pointer_type(tl.float32))
        scores, minimums = code_products(head, key_places, q, K, FINE)
        scores = scores * key_units[:, None, None] + by_batch(minimums, K.batches)[:, None, :]
        scores *= (unit * tl.load(amplitude))[None, None, :]
        if R.norms:
            scores *= read_norms(record, head, token, R)[:, :, None]
        if B.pairs:
            share = bias_scores(cosines, sines, still, bias_scaling, inv_freq, axes, positions, entry, B, R)
            scores += tl.reshape(share * (scaling * LOG2_E), (key_batches, key_tile, ROWS))
        seen = (token < tl.load(lengths + entry))[:, :, None]
        if MASKED:
            slot = (block * R.block_size + token).to(tl.int64)[:, :, None] * visible_slot
            at = visible + sequence * visible_batch + row.to(tl.int64)[None, None, :] * visible_row + slot
            seen = seen & (tl.load(at, mask=(row < rows)[None, None, :], other=0) != 0)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(tl.max(scores, axis=1), axis=0))
        base = tl.where(higher == float("-inf"), 0.0, higher) - WEIGHT_BITS
        weights = tl.exp2(scores - base[None, None, :])
        # of a row that has seen nothing, `most` is -inf: exp2 gives 0
        shrink = tl.exp2(most - (base + WEIGHT_BITS))
        total = total * shrink + tl.sum(tl.sum(weights, axis=1), axis=0)
        most = higher
        weights = tl.reshape(weights, (block_size, ROWS))
        if R.value_along_tokens:
            added = channel_values(head, value_places, weights, V, FINE)
            part = part * shrink[None, :] + added * tl.load(amplitude + 1)
        else:
            added, added_constant = code_products(head, value_places, weights, V, FINE)
            part = part * shrink[None, None, :] + added * (value_units * tl.load(amplitude + 1))[:, None, None]
            constant = constant * shrink[None, :] + added_constant * tl.load(amplitude + 1)

    if R.value_along_tokens:
        result = tl.trans(part)
    else:
        part += by_batch(constant, V.batches)[:, None, :]
        result = tl.trans(tl.reshape(part, (channels, ROWS)))
    result = result / tl.where(total > 0, total, 1.0)[:, None]
    if WHOLE and R.rotate_values:
        result = rotate_rows(result, R.channels, R.rotation)
    first = (split.to(tl.int64) * (tl.num_programs(0) // row_tiles) + sequence_head) * rows
    tl.store(output + (first + row)[:, None] * R.head_dim + channel[None, :], result, mask=held)
    seen_any = tl.where(
        total > 0, (most - WEIGHT_BITS + tl.log2(tl.where(total > 0, total, 1.0))) / LOG2_E, float("-inf")
    )
    tl.store(lse + first + row, seen_any, mask=row < rows)

"""One share of the packed blocks, attended to straight on their codes.

A program holds the query rows of one KV head and walks its blocks. A group's scale is folded into the queries (keys)
or the softmax weights (values), its minimum is one number a row and group; tensor cores multiply what results with the
codes as they are. Nothing is dequantized.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..hadamard.triton import power_below, rotate_rows, rotate_small_rows
from .triton_bias import bias_scores, fold_bias
from .triton_exact import exact_share
from .triton_record import (
    LOG2_E,
    place_masks,
    product,
    read_codes,
    read_norms,
    read_pair,
    read_places,
    read_scales,
)

# Softmax weights are up to 2**14 instead of 1: as fp16 numbers they keep their digits down to 4e-9 of the largest.
WEIGHT_BITS = tl.constexpr(14.0)
# Queries, all rows of a program together, are below twice this, for the same reason. Rotation makes that up to 16 times
# as large and sums 16 on the way.
QUERY_MOST = tl.constexpr(8.0)


@triton.jit
def code_products(head, kept, x, M: tl.constexpr, FINE: tl.constexpr):
    """A head's matrix, grouped down its rows, times x fp32 [cols, query rows], in units of the amplitude.

    Returns:
        what codes and scales give, over read_places(), fp32 [batches, tile, query rows], and what minimums give, the
        same for every row of a batch, fp32 [at least 8 batches, query rows], 0 past the last.
    """
    padded: tl.constexpr = M.batches if M.batches > 8 else 8
    scale = read_scales(head, M.batches, M, False, FINE)
    folded = (x if FINE else x.to(tl.float16))[None, :, :] * scale[:, :, None]
    batch = tl.arange(0, padded)[:, None]
    constant = product(read_scales(head, padded, M, True, FINE), x, FINE)
    if padded > M.batches:
        constant = tl.where(batch < M.batches, constant, 0.0)
    return product(read_codes(head, kept, M), folded, FINE), constant


@triton.jit
def channel_values(head, kept, weights, V: tl.constexpr, FINE: tl.constexpr):
    """Values that are grouped along tokens times weights fp32 [tokens, query rows]: a scale cannot leave the sum, so a
    block is dequantized in registers. fp32 [channels, query rows]."""
    scale = read_scales(head, V.batches, V, False, True) * read_places(tl.arange(0, V.batches)[:, None], V)
    minimum = read_scales(head, V.batches, V, True, True)
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


@triton.jit
def packed_share(
    query, records, table, lengths, used, masks, visible, bias, inv_freq, axes, positions,
    share, shares, sequence, kv_head, row,
    rows, blocks, capacity, scaling, bias_scaling,
    query_row, visible_batch, visible_row, visible_slot,
    R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, B: tl.constexpr,
    ROWS: tl.constexpr, FINE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Attention of a tile of query rows over a share of the blocks; returns what exact_share returns, values in the
    rotated space."""
    channel = tl.arange(0, R.channels)
    held = (row < rows)[:, None] & (channel < R.head_dim)[None, :]
    q = tl.load(query + row.to(tl.int64)[:, None] * query_row + channel[None, :], mask=held, other=0.0)
    if B.pairs:
        at = row.to(tl.int64)[:, None] * query_row
        cosines, sines, still = fold_bias(query, at, (row < rows)[:, None], bias, kv_head, R, B)
    q = q.to(tl.float32)
    unit, inverse = power_below(tl.max(tl.abs(q)))
    q *= inverse * QUERY_MOST
    if R.rotate_keys:
        q = rotate_small_rows(q, R.channels, R.rotation, FINE)
    q, unit = tl.trans(q), unit * (scaling * LOG2_E / QUERY_MOST)

    # shapes must be constants by themselves: Triton 3.6 takes no attribute inside one
    batches: tl.constexpr = V.batches
    tile: tl.constexpr = V.tile
    channels: tl.constexpr = R.channels
    key_batches: tl.constexpr = K.batches
    key_tile: tl.constexpr = K.tile
    block_size: tl.constexpr = R.block_size
    padded: tl.constexpr = V.batches if V.batches > 8 else 8
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
    per_share = tl.cdiv(there, shares)
    for block in range(share * per_share, tl.minimum((share + 1) * per_share, there)):
        entry = sequence * blocks + block
        # 64 bits: a pool may be larger than 2**31 bytes
        at_record = tl.minimum(tl.maximum(tl.load(table + entry), 0), capacity - 1).to(tl.int64)
        record = records + at_record * R.record_bytes
        head = record + R.shared_bytes + kv_head * R.head_bytes
        key_amplitude, value_amplitude = read_pair(head + R.amplitude_at)
        scores, minimums = code_products(head, key_places, q, K, FINE)
        scores = scores * key_units[:, None, None] + by_batch(minimums, K.batches)[:, None, :]
        worth = unit * (key_amplitude * (1.0 if FINE else K.scale_unit))
        if R.norms:
            scores *= (read_norms(record, head, key_batches, key_tile, R) * worth)[:, :, None]
        else:
            scores *= worth
        if B.pairs:
            biased = bias_scores(cosines, sines, still, bias_scaling, inv_freq, axes, positions, entry, B, R)
            scores += tl.reshape(biased * (scaling * LOG2_E), (key_batches, key_tile, ROWS))
        seen = (token < tl.load(lengths + entry).to(tl.int32))[:, :, None]
        if MASKED:
            slot = (block * R.block_size + token).to(tl.int64)[:, :, None] * visible_slot
            at = visible + sequence * visible_batch + row.to(tl.int64)[None, None, :] * visible_row + slot
            seen = seen & (tl.load(at, mask=(row < rows)[None, None, :], other=0) != 0)
        scores = tl.where(seen, scores, float("-inf"))
        scores = tl.reshape(scores, (block_size, ROWS))
        higher = tl.maximum(most, tl.max(scores, axis=0))
        base = tl.where(higher == float("-inf"), 0.0, higher) - WEIGHT_BITS
        weights = tl.exp2(scores - base[None, :])
        # of a row that has seen nothing, `most` is -inf: exp2 gives 0
        shrink = tl.exp2(most - (base + WEIGHT_BITS))
        total = total * shrink + tl.sum(weights, axis=0)
        most = higher
        if R.value_along_tokens:
            added = channel_values(head, value_places, weights, V, FINE)
            part = part * shrink[None, :] + added * value_amplitude
        else:
            added, added_constant = code_products(head, value_places, weights, V, FINE)
            most_value = value_amplitude * (1.0 if FINE else V.scale_unit)
            part = part * shrink[None, None, :] + added * (value_units * most_value)[:, None, None]
            constant = constant * shrink[None, :] + added_constant * most_value

    if not R.value_along_tokens:
        part += by_batch(constant, V.batches)[:, None, :]
        part = tl.reshape(part, (channels, ROWS))
    return most - WEIGHT_BITS, total, part


# numbers that change while decoding: a launch compiled for 16 blocks must serve 17
@triton.jit(
    do_not_specialize=[
        *("rows", "blocks", "capacity", "visible_batch", "visible_row", "visible_slot"),
        *("slots", "exact_shares", "exact_visible_batch", "exact_visible_row", "exact_visible_slot"),
    ]
)
def split_kernel(
    query, records, table, lengths, used, masks, visible, bias, inv_freq, axes, positions,
    keys, values, exact_visible, exact_lengths, output, lse,
    rows, blocks, capacity, slots, exact_shares, scaling, bias_scaling,
    query_batch, query_head, query_row, visible_batch, visible_row, visible_slot,
    key_batch, key_head, key_slot, value_batch, value_head, value_slot,
    exact_visible_batch, exact_visible_row, exact_visible_slot,
    R: tl.constexpr, K: tl.constexpr, V: tl.constexpr, B: tl.constexpr,
    ROWS: tl.constexpr, FINE: tl.constexpr, MASKED: tl.constexpr, EXACT: tl.constexpr, EXACT_MASKED: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    """Grid (batch * heads * row tiles, shares of the blocks, then exact_shares of the exact tokens).

    query [batch, heads, rows, head_dim] by strides; records uint8 [capacity, record_bytes]; table, lengths int64
    [batch, blocks]; used int64 [batch], how many of them a sequence has, or None for all; masks: triton.place_masks();
    visible bool by strides or None; bias and what follows it: triton_bias.py, None without; keys and what follows it:
    triton_exact.py, None without. Whatever table and lengths say, nothing outside of the records is read. Writes output
    fp32 [shares, batch, heads, rows, head_dim], un-rotated only where WHOLE, and lse fp32 [shares, batch, heads, rows].
    """
    row_tiles = tl.cdiv(rows, ROWS)
    sequence_head, share = tl.program_id(0) // row_tiles, tl.program_id(1)
    shares = tl.num_programs(1) - exact_shares
    sequence, kv_head = (sequence_head // R.heads).to(tl.int64), sequence_head % R.heads
    row = tl.program_id(0) % row_tiles * ROWS + tl.arange(0, ROWS)
    query += sequence * query_batch + kv_head.to(tl.int64) * query_head
    if EXACT and share >= shares:
        most, total, part = exact_share(
            query, keys, values, exact_visible, exact_lengths, share - shares, sequence, kv_head, row,
            rows, slots, scaling,
            query_row, key_batch, key_head, key_slot, value_batch, value_head, value_slot,
            exact_visible_batch, exact_visible_row, exact_visible_slot,
            R, EXACT_MASKED,
        )  # fmt: skip
    else:
        most, total, part = packed_share(
            query, records, table, lengths, used, masks, visible, bias, inv_freq, axes, positions,
            share, shares, sequence, kv_head, row,
            rows, blocks, capacity, scaling, bias_scaling,
            query_row, visible_batch, visible_row, visible_slot,
            R, K, V, B, ROWS, FINE, MASKED,
        )  # fmt: skip
    channel = tl.arange(0, R.channels)
    any_seen = tl.where(total > 0, total, 1.0)
    result = tl.trans(part) * (1.0 / any_seen)[:, None]
    if WHOLE and R.rotate_values:
        result = rotate_rows(result, R.channels, R.rotation)
    first = (share.to(tl.int64) * (tl.num_programs(0) // row_tiles) + sequence_head) * rows
    held = (row < rows)[:, None] & (channel < R.head_dim)[None, :]
    tl.store(output + (first + row)[:, None] * R.head_dim + channel[None, :], result, mask=held)
    seen = tl.where(total > 0, (most + tl.log2(any_seen)) / LOG2_E, float("-inf"))
    tl.store(lse + first + row, seen, mask=row < rows)

"""Joins the shares of split_kernel and attention over exact tokens by their log-sum-exp, and rotates back."""

from __future__ import annotations

import triton
import triton.language as tl

from ..hadamard.triton import signs


@triton.jit
def join(most, total, part, scores, values):
    """Takes scores [n] of values [n, channels] into a running softmax: highest score, sum of weights, weighted sum."""
    higher = tl.maximum(most, tl.max(scores, axis=0))
    base = tl.where(higher == float("-inf"), 0.0, higher)
    weights, shrink = tl.exp(scores - base), tl.exp(most - base)
    total = total * shrink + tl.sum(weights, axis=0)
    return higher, total, part * shrink + tl.sum(weights[:, None] * values, axis=0)


@triton.jit
def rotate_back(x, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """fp32 [CHANNELS] -> the same, rotated in fp32."""
    root: tl.constexpr = WIDTH**-0.5
    return tl.sum(signs(CHANNELS, WIDTH).to(tl.float32) * x[:, None], axis=0) * root


# numbers that change while decoding: a launch compiled for 16 exact tokens must serve 17
@triton.jit(do_not_specialize=["rows", "splits", "slots", "visible_batch", "visible_row", "visible_slot"])
def merge_kernel(
    part, part_lse, query, keys, values, visible, exact_lengths, output, lse,
    rows, splits, slots, scaling,
    query_batch, query_head, query_row, key_batch, key_head, key_slot, value_batch, value_head, value_slot,
    visible_batch, visible_row, visible_slot,
    R: tl.constexpr, CHUNK: tl.constexpr, EXACT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Grid (batch * heads * rows), one program a row.

    part, part_lse: split_kernel's output and lse, not rotated back. query, keys, values, visible: what
    exact_attention takes, by strides, the channel axis contiguous; None without EXACT. exact_lengths int64 [batch], the
    slots of each sequence that hold a token, or None for all. Writes output fp32
    [batch * heads * rows, head_dim] and lse fp32 [batch * heads * rows].
    """
    program, count = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    channels: tl.constexpr = R.channels
    channel = tl.arange(0, channels)
    real = channel < R.head_dim
    most, total = tl.full([], float("-inf"), tl.float32), tl.zeros([], tl.float32)
    result = tl.zeros([channels], tl.float32)
    for first in range(0, splits, CHUNK):
        split = first + tl.arange(0, CHUNK)
        at = split.to(tl.int64) * count + program
        scores = tl.load(part_lse + at, mask=split < splits, other=float("-inf"))
        held = (split < splits)[:, None] & real[None, :]
        shares = tl.load(part + at[:, None] * R.head_dim + channel[None, :], mask=held, other=0.0)
        most, total, result = join(most, total, result, scores, shares)
    if R.rotate_values:
        result = rotate_back(result, R.channels, R.rotation)
    if EXACT:
        sequence, row = program // (rows * R.heads), program % rows
        kv_head = program // rows % R.heads
        query += sequence * query_batch + kv_head * query_head + row * query_row
        q = tl.load(query + channel, mask=real, other=0.0).to(tl.float32) * scaling
        there = slots
        if exact_lengths is not None:
            there = tl.minimum(tl.maximum(tl.load(exact_lengths + sequence), 0), slots).to(tl.int32)
        for first in range(0, there, CHUNK):
            slot = (first + tl.arange(0, CHUNK)).to(tl.int64)
            held = (slot < there)[:, None] & real[None, :]
            at = keys + sequence * key_batch + kv_head * key_head + slot[:, None] * key_slot + channel[None, :]
            scores = tl.sum(tl.load(at, mask=held, other=0.0).to(tl.float32) * q[None, :], axis=1)
            seen = slot < there
            if MASKED:
                at = visible + sequence * visible_batch + row * visible_row + slot * visible_slot
                seen = seen & (tl.load(at, mask=seen, other=0) != 0)
            at = values + sequence * value_batch + kv_head * value_head + slot[:, None] * value_slot + channel[None, :]
            exact = tl.load(at, mask=held, other=0.0).to(tl.float32)
            most, total, result = join(most, total, result, tl.where(seen, scores, float("-inf")), exact)
    unit = tl.where(total > 0, total, 1.0)
    tl.store(output + program * R.head_dim + channel, result / unit, mask=real)
    tl.store(lse + program, tl.where(total > 0, most + tl.log(unit), float("-inf")))

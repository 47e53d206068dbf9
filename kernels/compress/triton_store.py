"""Quantizing and packing one head's keys or values inside a Triton kernel, as compress/reference.py does in torch."""

from __future__ import annotations

import triton
import triton.language as tl

from ..pack.triton import place_weights, store_codes

# adding and taking away 1.5 * 2**23 rounds a number below 2**22 to the nearest integer, ties to even
ROUNDER = tl.constexpr(12582912.0)


@triton.jit
def nearest(x, MOST: tl.constexpr):
    """Whole numbers from 0 to MOST, fp32."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0 * MOST) + ROUNDER - ROUNDER


@triton.jit
def stored_half(pointer, value, mask):
    """Stores fp32 numbers as fp16; returns them as they will be read back."""
    half = value.to(tl.float16)
    tl.store(pointer, half, mask=mask)
    return half.to(tl.float32)


@triton.jit
def store_table_plane(row, scales, minimums, held, M: tl.constexpr, WIDTH: tl.constexpr):
    """A plane of a table: codes int32 [groups, padded cols], scales and then minimums packed along the last axis from
    each group's first byte on, row [groups, 1]."""
    groups: tl.constexpr = scales.shape[0]
    cols: tl.constexpr = scales.shape[1]
    col = tl.arange(0, cols)[None, :]
    if WIDTH == 8:
        tl.store(row + col, scales.to(tl.uint8), mask=held)
        tl.store(row + M.cols + col, minimums.to(tl.uint8), mask=held)
    elif WIDTH == 4:
        tl.store(row + col, (scales | (minimums << 4)).to(tl.uint8), mask=held)
    else:
        length: tl.constexpr = (2 * M.cols * WIDTH + 7) // 8
        padded: tl.constexpr = triton.next_power_of_2(length) if length > 16 else 16
        copies: tl.constexpr = 16 // groups if groups < 16 else 1  # a product has at least 16 rows
        byte, code = tl.arange(0, padded)[None, :], tl.arange(0, cols)[:, None]
        used = code < M.cols
        weights = tl.where(used, place_weights(byte, code, 2 * M.cols, WIDTH, 0), 0.0).to(tl.float16)
        packed = tl.dot(repeated(scales, copies), weights)
        weights = tl.where(used, place_weights(byte, code, 2 * M.cols, WIDTH, M.cols), 0.0).to(tl.float16)
        packed = tl.dot(repeated(minimums, copies), weights, packed)
        packed = tl.max(tl.reshape(packed, (copies, groups, padded)), axis=0)
        real = tl.max(held.to(tl.int32), axis=1)[:, None] > 0
        tl.store(row + byte, packed.to(tl.int32).to(tl.uint8), mask=real & (byte < length))


@triton.jit
def repeated(codes, COPIES: tl.constexpr):
    """[groups, cols] -> fp16 [COPIES * groups, cols]."""
    groups: tl.constexpr = codes.shape[0]
    cols: tl.constexpr = codes.shape[1]
    rows: tl.constexpr = COPIES * groups
    return tl.reshape(tl.broadcast_to(codes[None, :, :], (COPIES, groups, cols)), (rows, cols)).to(tl.float16)


@triton.jit
def nested_codes(table, held, ranges, group, M: tl.constexpr, FIRST: tl.constexpr):
    """Codes int32 of a table [groups, padded cols] of scales or minimums and the numbers that they will be read back
    as; stores the ranges' lowest entry and step from the FIRST of their four numbers on."""
    cols: tl.constexpr = table.shape[1]
    most: tl.constexpr = (1 << M.scale_bits) - 1
    # a range: one group of tokens over all channels, or a run of tokens with all their groups
    lows, highs = tl.where(held, table, float("inf")), tl.where(held, table, float("-inf"))
    if M.range_a_group:
        low, high = tl.min(lows, axis=1)[:, None], tl.max(highs, axis=1)[:, None]
        at, real = ranges + 4 * group + FIRST, group < M.groups
        step = stored_half(at + 1, (high - low) / most, real)
        low = stored_half(at, low, real)
    else:
        runs: tl.constexpr = cols // M.run
        run: tl.constexpr = M.run
        low = tl.min(tl.reshape(tl.min(lows, axis=0), (runs, run)), axis=1)
        high = tl.max(tl.reshape(tl.max(highs, axis=0), (runs, run)), axis=1)
        at = ranges + 4 * tl.arange(0, runs) + FIRST
        every = tl.arange(0, runs) < runs
        step = stored_half(at + 1, (high - low) / most, every)
        low = stored_half(at, low, every)
        low = tl.reshape(tl.broadcast_to(low[:, None], (runs, run)), (1, cols))
        step = tl.reshape(tl.broadcast_to(step[:, None], (runs, run)), (1, cols))
    codes = nearest((table - low) / tl.where(step > 0, step, 1.0), most)
    return codes.to(tl.int32), codes * step + low


@triton.jit
def store_table(head, scale, minimum, held, M: tl.constexpr):
    """Scales and minimums fp32 [groups, padded cols] -> the same as they will be read back."""
    groups: tl.constexpr = scale.shape[0]
    group, col = tl.arange(0, groups)[:, None], tl.arange(0, scale.shape[1])[None, :]
    table = head + M.table_at
    if M.scale_bits == 16:
        halves = table.to(tl.pointer_type(tl.float16)) + group * (2 * M.cols) + col
        scale = stored_half(halves, scale, held)
        minimum = stored_half(halves + M.cols, minimum, held)
    else:
        ranges = (head + M.ranges_at).to(tl.pointer_type(tl.float16))
        scales, scale = nested_codes(scale, held, ranges, group, M, 0)
        minimums, minimum = nested_codes(minimum, held, ranges, group, M, 2)
        row = table + group * M.table_bytes
        low_bits: tl.constexpr = 4 if M.scale_bits == 6 else (2 if M.scale_bits == 3 else M.scale_bits)
        mask: tl.constexpr = (1 << low_bits) - 1
        store_table_plane(row, scales & mask, minimums & mask, held, M, low_bits)
        if M.scale_bits != low_bits:
            low_bytes: tl.constexpr = (2 * M.cols * low_bits + 7) // 8
            high_bits: tl.constexpr = M.scale_bits - low_bits
            store_table_plane(row + low_bytes, scales >> low_bits, minimums >> low_bits, held, M, high_bits)
    return scale, minimum


@triton.jit
def store_matrix(head, x, M: tl.constexpr):
    """Quantizes and packs x fp32 [padded rows, padded cols] in units of its amplitude, groups down the rows."""
    rows: tl.constexpr = x.shape[0]
    cols: tl.constexpr = x.shape[1]
    # a group's width is a power of two, or all the rows there are
    width: tl.constexpr = rows if M.groups == 1 else M.width
    groups: tl.constexpr = rows // width
    most: tl.constexpr = (1 << (M.low_bits + M.high_bits)) - 1
    real = tl.reshape(tl.arange(0, rows), (groups, width))[:, :, None] < M.rows
    grouped = tl.reshape(x, (groups, width, cols))
    minimum = tl.min(tl.where(real, grouped, float("inf")), axis=1)
    maximum = tl.max(tl.where(real, grouped, float("-inf")), axis=1)
    held = (tl.arange(0, groups)[:, None] < M.groups) & (tl.arange(0, cols)[None, :] < M.cols)
    # what lies in padding is anything finite
    minimum, maximum = tl.where(held, minimum, 0.0), tl.where(held, maximum, 0.0)
    # codes are chosen against the scales that will be read back
    scale, minimum = store_table(head, (maximum - minimum) / most, minimum, held, M)
    step = tl.where(scale > 0, scale, 1.0)
    codes = nearest((grouped - minimum[:, None, :]) / step[:, None, :], most)
    codes = tl.where(real, codes, 0.0)
    store_codes(head, tl.reshape(codes, (rows, cols)), M)

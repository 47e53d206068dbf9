"""Scales and minimums of one head's keys or values, quantized and written as compress/reference.py does."""

from __future__ import annotations

import numpy as np

from ..cpu_compile import strict, strict_inlined
from ..pack.cpu_loops import pack_codes
from .cpu_states import spread

# adding and taking away 1.5 * 2**23 rounds a number below 2**22 to the nearest integer, ties to even
ROUNDER = np.float32(12582912)
# fp32 bits of 2**-14, below which half precision has no exponent, and of 0.5, whose last bit is half precision's least
LEAST_NORMAL, ONE_HALF = np.int32(0x38800000), np.int32(0x3F000000)


@strict
def nearest(x, most):
    """The nearest whole number from 0 to most."""
    x = x if x > 0 else np.float32(0)
    x = x if x < most else most
    return (x + ROUNDER) - ROUNDER


@strict
def to_half(x):
    """(the bits of x in half precision, ties to even, and the number that they are); x below 65,504 in magnitude."""
    bits = np.float32(x).view(np.int32)
    magnitude, sign = np.int32(bits & 0x7FFFFFFF), np.int32((bits >> 16) & 0x8000)
    rounded = np.int32((magnitude + 0xFFF + ((magnitude >> 13) & 1)) & ~0x1FFF)
    fixed = np.float32(abs(x) + np.float32(0.5))
    small = magnitude < LEAST_NORMAL
    code = np.int32(fixed.view(np.int32) - ONE_HALF if small else (rounded >> 13) - (112 << 10))
    value = fixed - np.float32(0.5) if small else rounded.view(np.float32)
    return np.uint16(code | sign), -value if sign else value


@strict
def group_ranges(x, amplitude, matrix, scale, minimum):
    """Scale and minimum [groups, cols] of x [rows, cols] over its amplitude."""
    most = np.float32((1 << (matrix.low_bits + matrix.high_bits)) - 1)
    for g in range(matrix.groups):
        low, high, first = minimum[g], scale[g], g * matrix.width
        row = x[np.uint64(first)]
        for c in range(matrix.cols):
            low[c] = row[c]
            high[c] = row[c]
        for r in range(first + 1, min(first + matrix.width, matrix.rows)):
            row = x[np.uint64(r)]
            for c in range(matrix.cols):
                value = row[c]
                low[c] = value if value < low[c] else low[c]
                high[c] = value if value > high[c] else high[c]
        for c in range(matrix.cols):
            low[c] /= amplitude
            high[c] = (high[c] / amplitude - low[c]) / most


@strict
def quantize_range(table, codes, at, first, last, start, stop, most, ranges):
    """Rows first to last and columns start to stop of a table [groups, cols], in place, to what will be read back.

    Codes go to those columns of codes [groups, 2 * cols] from `at` on, the lowest entry and the step to ranges[:2].
    """
    low, high = spread(table[first][start:stop])
    for g in range(first + 1, last):
        least, largest = spread(table[g][start:stop])
        low, high = min(low, least), max(high, largest)
    ranges[1], step = to_half((high - low) / most)
    ranges[0], low = to_half(low)
    divisor = step if step > 0 else np.float32(1)
    for g in range(first, last):
        line, target = table[g][start:stop], codes[g][at + start : at + stop]
        for c in range(stop - start):
            code = nearest((line[c] - low) / divisor, most)
            target[c] = np.uint8(code)
            line[c] = code * step + low


@strict
def nest(row8, row16, head, matrix, s):
    """s.scale and s.minimum, in place, to what will be read back; their codes and ranges to the record."""
    cols, bits = matrix.cols, matrix.scale_bits
    most = np.float32((1 << bits) - 1)
    ranges = row16[(head + matrix.ranges_at) // 2 :]
    for k in range(matrix.groups if matrix.range_a_group else cols // matrix.run):
        first, last = (k, k + 1) if matrix.range_a_group else (0, matrix.groups)
        start = 0 if matrix.range_a_group else k * matrix.run
        stop = start + matrix.run
        for part in range(2):
            table, at = s.minimum if part else s.scale, part * cols
            quantize_range(table, s.table, at, first, last, start, stop, most, ranges[4 * k + 2 * part :])
    low_bits = 4 if bits == 6 else (2 if bits == 3 else bits)
    low_length, high_bits = (2 * cols * low_bits + 7) // 8, bits - low_bits
    for g in range(matrix.groups):
        out = row8[head + matrix.table_at + g * matrix.table_bytes :]
        pack_codes(s.table[g], 2 * cols, low_bits, low_length, high_bits, matrix.table_bytes - low_length, out)


@strict
def write_halves(row16, head, matrix, s):
    """The same for scales and minimums of 16 bits."""
    for g in range(matrix.groups):
        out, scale, minimum = row16[(head + matrix.table_at) // 2 + 2 * g * matrix.cols :], s.scale[g], s.minimum[g]
        for c in range(matrix.cols):
            out[c], scale[c] = to_half(scale[c])
        out = out[matrix.cols :]
        for c in range(matrix.cols):
            out[c], minimum[c] = to_half(minimum[c])


@strict_inlined
def write_table(row8, row16, head, matrix, s):
    """s.scale and s.minimum [groups, cols] to the record; both become what will be read back."""
    if matrix.scale_bits == 16:
        write_halves(row16, head, matrix, s)
    else:
        nest(row8, row16, head, matrix, s)

"""Products of vectors with one head's keys or values in fp32, for any processor.

Inner loops run over contiguous bytes of the format, which the compiler makes vector loops of.
"""

from __future__ import annotations

import numpy as np

from ..cpu_compile import bare
from .cpu_loops import fill, half, table_code

# Indices that are sums are cast to unsigned: numba wraps negative ones around, and a loop with that test is no vector
# loop.
U = np.uint64


@bare
def read_codes(row8, head, matrix, codes):
    """Unpack a head's codes to uint8 [padded_rows, cols], plane by plane."""
    first = head + matrix.codes_at
    mask = (1 << matrix.low_bits) - 1
    for place in range(8 // matrix.low_bits):
        shift = place * matrix.low_bits
        for i in range(matrix.low_rows):
            packed, target = row8[first + i * matrix.cols :], codes[place * matrix.low_rows + i]
            for c in range(matrix.cols):
                target[c] = (packed[c] >> shift) & mask
    if matrix.high_bits:
        first += matrix.low_rows * matrix.cols
        mask = (1 << matrix.high_bits) - 1
        for place in range(8 // matrix.high_bits):
            shift = place * matrix.high_bits
            for i in range(matrix.high_rows):
                packed, target = row8[first + i * matrix.cols :], codes[place * matrix.high_rows + i]
                for c in range(matrix.cols):
                    target[c] |= ((packed[c] >> shift) & mask) << matrix.low_bits


@bare
def read_table(row8, row16, head, matrix, amplitude, scale, minimum):
    """Scales and minimums, float32 [groups, cols] each."""
    cols = matrix.cols
    for g in range(matrix.groups):
        first = head + matrix.table_at + g * matrix.table_bytes
        if matrix.scale_bits == 16:
            for c in range(cols):
                scale[g, c] = half(row16[first // 2 + c]) * amplitude
                minimum[g, c] = half(row16[first // 2 + cols + c]) * amplitude
            continue
        if matrix.scale_bits == 4:  # one byte a group: the scale below, the minimum above
            packed = row8[first:]
            for c in range(cols):
                scale[g, c], minimum[g, c] = np.float32(packed[c] & 15), np.float32(packed[c] >> 4)
        else:
            for c in range(cols):
                scale[g, c] = table_code(row8, first, 2 * cols, c, matrix.scale_bits)
                minimum[g, c] = table_code(row8, first, 2 * cols, cols + c, matrix.scale_bits)
        for k in range(cols // matrix.run):
            at = (head + matrix.ranges_at) // 2 + 4 * (g if matrix.range_a_group else k)
            scale_low, scale_step = half(row16[at]) * amplitude, half(row16[at + 1]) * amplitude
            low, step = half(row16[at + 2]) * amplitude, half(row16[at + 3]) * amplitude
            scales, minimums = scale[g, k * matrix.run :], minimum[g, k * matrix.run :]
            for c in range(matrix.run):
                scales[c] = scales[c] * scale_step + scale_low
                minimums[c] = minimums[c] * step + low


@bare
def read_matrix(row8, row16, head, matrix, amplitude, s):
    """Codes, scales and minimums of a head's keys or values to s.plain_codes, s.plain_scale and s.plain_minimum."""
    read_table(row8, row16, head, matrix, amplitude, s.plain_scale, s.plain_minimum)
    read_codes(row8, head, matrix, s.plain_codes)


@bare
def add_dot_products(rows, x, row8, row16, head, matrix, amplitude, s, keep, out):
    """out [rows, matrix rows] = out * keep + the dot products of x [rows, cols] with the matrix's rows.

    A group's scale goes to the vector, its minimum into one number a group.
    """
    read_matrix(row8, row16, head, matrix, amplitude, s)
    scale, minimum, codes, folded = s.plain_scale, s.plain_minimum, s.plain_codes, s.line
    for m in range(rows):
        for g in range(matrix.groups):
            constant = np.float32(0)
            for c in range(matrix.cols):
                folded[c] = x[m, c] * scale[g, c]
                constant += x[m, c] * minimum[g, c]
            for r in range(g * matrix.width, min((g + 1) * matrix.width, matrix.rows)):
                product = np.float32(0)
                for c in range(matrix.cols):
                    product += folded[c] * np.float32(codes[U(r), c])
                out[m, U(r)] = out[m, U(r)] * keep[m] + product + constant


@bare
def add_weighted_rows(rows, x, row8, row16, head, matrix, amplitude, s, keep, out):
    """out [rows, cols] = out * keep + the sums of the matrix's rows, weighted by x [rows, matrix rows].

    For values that are grouped along tokens, as keys are: a group's sum of codes takes its scale once.
    """
    read_matrix(row8, row16, head, matrix, amplitude, s)
    scale, minimum, codes, total = s.plain_scale, s.plain_minimum, s.plain_codes, s.line
    for m in range(rows):
        part = out[m]
        for c in range(matrix.cols):
            part[c] *= keep[m]
        for g in range(matrix.groups):
            weight = np.float32(0)
            fill(total, 0)
            for r in range(g * matrix.width, min((g + 1) * matrix.width, matrix.rows)):
                w, line = x[m, U(r)], codes[U(r)]
                weight += w
                for c in range(matrix.cols):
                    total[c] += w * np.float32(line[c])
            scales, minimums = scale[g], minimum[g]
            for c in range(matrix.cols):
                part[c] += total[c] * scales[c] + weight * minimums[c]

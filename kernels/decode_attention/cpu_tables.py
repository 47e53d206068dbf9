"""Scales and minimums of one head's keys or values as 16-bit numbers (cpu_products.py)."""

from __future__ import annotations

import numpy as np

from ..cpu_compile import bare, inlined
from .cpu_ir import STEP
from .cpu_loops import fill, table_code
from .cpu_vectors import halves, scales

LARGEST = np.float32(32767)


@bare
def rounded(x):
    """To the nearest 16-bit number."""
    return np.int16(np.int32(np.rint(x)))


@inlined
def read_ranges(row8, head, matrix, amplitude, s):
    """s.ranges: scale_low, scale_step, minimum_low and minimum_step of every range, times the amplitude."""
    count = 4 * (matrix.groups if matrix.range_a_group else matrix.cols // matrix.run)
    for i in range(0, count, STEP):
        halves(row8, head + matrix.ranges_at + 2 * i, s.ranges, i)
    for i in range(count):
        s.ranges[i] *= amplitude


@bare
def unpack_tables(row8, head, matrix, s):
    """s.codes: scales and minimums that do not lie in one byte."""
    cols = matrix.cols
    for g in range(matrix.groups):
        first, line = head + matrix.table_at + g * matrix.table_bytes, s.codes[g * 2 * cols :]
        for c in range(2 * cols):
            line[c] = table_code(row8, first, 2 * cols, c, matrix.scale_bits)


@inlined
def largest_scale(matrix, s, first, last):
    """Of ranges first to last; 1 where all are 0."""
    top, most = np.float32((1 << matrix.scale_bits) - 1), np.float32(0)
    for k in range(first, last):
        most = max(most, s.ranges[4 * k] + s.ranges[4 * k + 1] * top)
    return most if most > 0 else np.float32(1)


@bare
def largest_nested(matrix):
    """What the largest scale becomes: a step times 2**bits must stay below 2**15."""
    codes = np.float32(1 << matrix.scale_bits)
    return LARGEST * (codes - np.float32(1)) / codes


@inlined
def nested_scales(row8, head, matrix, s):
    """s.scale and s.unit from codes: (code << shift) * step / 2**15 + low."""
    cols, bits, runs = matrix.cols, matrix.scale_bits, matrix.cols // matrix.run
    mask, shift = np.int16((1 << bits) - 1), np.int16(15 - bits)
    codes = row8 if bits == 4 else s.codes
    top, every = largest_nested(matrix), largest_scale(matrix, s, 0, 1 if matrix.range_a_group else runs)
    for g in range(matrix.groups):
        most = largest_scale(matrix, s, g, g + 1) if matrix.range_a_group else every
        s.unit[g], inverse = most / top, top / most
        start = head + matrix.table_at + g * matrix.table_bytes if bits == 4 else g * 2 * cols
        for k in range(runs):
            at = 4 * (g if matrix.range_a_group else k)
            low = rounded(s.ranges[at] * inverse)
            step = rounded(s.ranges[at + 1] * inverse * np.float32(1 << bits))
            for c in range(k * matrix.run, (k + 1) * matrix.run, STEP):
                scales(codes, start + c, mask, shift, step, low, s.scale, g * cols + c)


@bare
def half_scales(row8, head, matrix, amplitude, rows, x, s):
    """s.scale and s.unit from half precision, and what the minimums add."""
    cols = matrix.cols
    for g in range(matrix.groups):
        for c in range(0, 2 * cols, STEP):
            halves(row8, head + matrix.table_at + g * matrix.table_bytes + 2 * c, s.line, c)
        most = np.float32(0)
        for c in range(cols):
            most = max(most, s.line[c])
        most = most if most > 0 else np.float32(1)
        s.unit[g], inverse = most * amplitude / LARGEST, LARGEST / most
        row, minimum = s.scale[g * cols : (g + 1) * cols], s.line[cols:]
        for c in range(cols):
            row[c] = rounded(s.line[c] * inverse)
        for m in range(rows):
            total, vector = np.float32(0), x[m]
            for c in range(cols):
                total += vector[c] * minimum[c]
            s.add[g, m] = total * amplitude


@inlined
def scales_of(row8, head, matrix, amplitude, rows, x, s):
    """s.scale and s.unit of a head's keys or values; with them s.add [groups, rows] or s.ranges and s.codes."""
    if matrix.scale_bits == 16:
        half_scales(row8, head, matrix, amplitude, rows, x, s)
        return
    read_ranges(row8, head, matrix, amplitude, s)
    if matrix.scale_bits != 4:
        unpack_tables(row8, head, matrix, s)
    nested_scales(row8, head, matrix, s)


@inlined
def minimum_steps(matrix, s):
    """s.step: what the codes of minimums in each column are multiplied by, in units that are returned."""
    if matrix.range_a_group:  # every column alike: the group's step comes later
        fill(s.step[: matrix.cols], np.int16(LARGEST))
        return np.float32(1) / LARGEST
    most, runs = np.float32(0), matrix.cols // matrix.run
    for k in range(runs):
        most = max(most, s.ranges[4 * k + 3])
    unit = most / LARGEST if most > 0 else np.float32(1)
    for k in range(runs):
        fill(s.step[k * matrix.run : (k + 1) * matrix.run], rounded(s.ranges[4 * k + 3] / unit))
    return unit

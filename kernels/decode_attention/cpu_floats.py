"""Products of vectors with one head's keys or values in fp32, for any processor.

Rows that fill registers are multiplied by cpu_dots.py; other inner loops run over contiguous bytes of the format, which
the compiler makes vector loops of.
"""

from __future__ import annotations

import numpy as np

from ..cpu_compile import bare
from .cpu_dots import dots_1, dots_2, dots_3, dots_4, fold
from .cpu_loops import fill, half, table_code
from .cpu_sizes import BYTES_AT, MASK, ROWS, SIZE, SUMS_AT, VECTORS_AT
from .cpu_vectors import address

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
def dots(isa, rows, words, cols, count, vectors, vector_stride, sums, sum_stride):
    """cpu_dots' for any number of query rows."""
    m = 0
    while m + ROWS <= rows:
        dots_4(isa, words, cols, count, vectors, sums, sum_stride)
        vectors, sums, m = vectors + 4 * ROWS * vector_stride, sums + 4 * ROWS * sum_stride, m + ROWS
    if rows - m == 3:
        dots_3(isa, words, cols, count, vectors, sums, sum_stride)
    elif rows - m == 2:
        dots_2(isa, words, cols, count, vectors, sums, sum_stride)
    elif rows - m == 1:
        dots_1(isa, words, cols, count, vectors, sums, sum_stride)


@bare
def fold_groups(isa, rows, x, matrix, s):
    """x [rows, cols] times every group's scales to s.plain_folded, times its minimums to s.add.

    Vectors are in fours, as dots takes them, the last ones fewer: [groups, cols / lanes, four rows, lanes].
    """
    cols, groups = matrix.cols, matrix.groups
    for m in range(rows):
        first = m // ROWS * ROWS
        four, at = min(ROWS, rows - first), first * groups * cols + (m - first) * isa.lanes
        for g in range(groups):
            s.add[g, m] = fold(
                isa, address(x[m], 0), address(s.plain_scale[g], 0), address(s.plain_minimum[g], 0), cols,
                address(s.plain_folded, at + g * four * cols), four * isa.lanes,
            )  # fmt: skip


@bare
def plane_products(isa, rows, row8, first, matrix, bits, plane_rows, shift, s):
    """Products of s.plain_folded with the codes of one plane, which begins at `first`, to s.plain_sums [rows, ...].

    A code counts 2**shift. Four rows of codes are multiplied at a time: the places of a byte, as far as they go, of one
    row of bytes or of several.
    """
    places, cols, words = 8 // bits, matrix.cols, s.words
    together = min(places, ROWS)
    lines = ROWS // together
    lines = lines if plane_rows % lines == 0 else 1
    part, start, base = plane_rows // lines, 0, 0
    while base < places:
        count = part - start
        for j in range(ROWS):
            place, i = base + j % together, min(j // together, lines - 1) * part + start
            r = place * plane_rows + i
            # what is not there is multiplied by nothing, and its sums go behind the others
            there = j // together < lines and r < matrix.rows
            group = r // matrix.width if there else 0
            words[ROWS * BYTES_AT + j] = address(row8, first + i * cols)
            words[ROWS * MASK + j] = ((1 << bits) - 1) << (place * bits) if there else 0
            words[ROWS * SIZE + j] = (127 + shift - place * bits) << 23
            words[ROWS * VECTORS_AT + j] = group * cols
            words[ROWS * SUMS_AT + j] = r if there else matrix.rows
            if there:
                count = min(count, min((group + 1) * matrix.width, matrix.rows) - r)
        dots(
            isa, rows, address(words, 0), cols, count, address(s.plain_folded, 0), matrix.groups * cols,
            address(s.plain_sums[0], 0), s.plain_sums.shape[1],
        )  # fmt: skip
        start += count
        if start == part:
            start, base = 0, base + together


@bare
def add_sums(rows, matrix, s, keep, add, out):
    """out [rows, matrix rows] = out * keep + s.plain_sums + add [groups, rows]."""
    for m in range(rows):
        line, sums, kept = out[m], s.plain_sums[m], keep[m]
        for g in range(matrix.groups):
            constant = add[g, m]
            for r in range(g * matrix.width, min((g + 1) * matrix.width, matrix.rows)):
                line[U(r)] = line[U(r)] * kept + sums[U(r)] + constant


@bare
def add_dot_products(isa, rows, x, row8, row16, head, matrix, amplitude, s, keep, out):
    """out [rows, matrix rows] = out * keep + the dot products of x [rows, cols] with the matrix's rows.

    A group's scale goes to the vector, its minimum into one number a group.
    """
    if matrix.cols % isa.lanes:
        add_any_dot_products(rows, x, row8, row16, head, matrix, amplitude, s, keep, out)
        return
    read_table(row8, row16, head, matrix, amplitude, s.plain_scale, s.plain_minimum)
    fold_groups(isa, rows, x, matrix, s)
    first = head + matrix.codes_at
    plane_products(isa, rows, row8, first, matrix, matrix.low_bits, matrix.low_rows, 0, s)
    add_sums(rows, matrix, s, keep, s.add, out)
    if matrix.high_bits:
        first += matrix.low_rows * matrix.cols
        plane_products(isa, rows, row8, first, matrix, matrix.high_bits, matrix.high_rows, matrix.low_bits, s)
        for m in range(rows):
            line, sums = out[m], s.plain_sums[m]
            for r in range(matrix.rows):
                line[r] += sums[r]


@bare
def add_any_dot_products(rows, x, row8, row16, head, matrix, amplitude, s, keep, out):
    """The same for columns that do not fill registers."""
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

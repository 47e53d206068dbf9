"""Products of vectors with the codes of one head's keys or values, on bytes (cpu_tiles.py).

Queries with keys and softmax weights with values are the same sum. A vector is 16-bit numbers times a unit; the scales
of a group are 16-bit numbers too, and their product is taken apart into two bytes that multiply codes as they lie.
"""

from __future__ import annotations

import numpy as np

from ..cpu_compile import bare, inlined
from .cpu_ir import STEP
from .cpu_loops import fill
from .cpu_tables import minimum_steps, scales_of
from .cpu_tiles import products_1, products_2, products_3, products_4, transpose
from .cpu_vectors import address, fold_16, fold_32

LARGEST = np.float32(32639)  # the largest 16-bit number whose high byte stays below 128 when its low one has a sign
ONE = np.float32(2**15)  # what folding divides by
BYTES = 0x01010101


@bare
def products(isa, rows, tile, cols, mask, shift, folded, factor, keep, add, out, stride):
    """Inner products of a tile with `rows` folded vectors: see cpu_tiles.products."""
    mask, shift, m = np.int32(np.uint32(mask)), np.int32(shift), 0
    while m + 4 <= rows:
        products_4(isa, tile, cols, mask, shift, folded, factor, keep, add, out, stride)
        folded, out, m = folded + 8 * cols, out + 16 * stride, m + 4
        factor, keep, add = factor + 16, keep + 16, add + 16
    if rows - m == 3:
        products_3(isa, tile, cols, mask, shift, folded, factor, keep, add, out, stride)
    elif rows - m == 2:
        products_2(isa, tile, cols, mask, shift, folded, factor, keep, add, out, stride)
    elif rows - m == 1:
        products_1(isa, tile, cols, mask, shift, folded, factor, keep, add, out, stride)


@inlined
def fold(vectors, rows, cols, scale, first, folded):
    """Vectors int16 [rows, cols] times scale[first:] -> bytes [rows, high and low, cols]."""
    pairs = cols // 32 * 32
    for m in range(rows):
        at = m * vectors.shape[1]
        for c in range(0, pairs, 32):
            fold_32(vectors, at + c, scale, first + c, folded, 2 * m * cols + c, cols)
        for c in range(pairs, cols, STEP):
            fold_16(vectors, at + c, scale, first + c, folded, 2 * m * cols + c, cols)


@inlined
def lay_tiles(isa, source, start, rows, cols, stride, tiles, first):
    """Packed rows of bytes as tiles of a register's lanes of rows each, from tiles[first] on; where it ends."""
    at = first
    for row in range(0, rows, isa.lanes):
        for c in range(0, cols, STEP):
            transpose(isa, source, start + row * stride + c, stride, rows - row, tiles, at + c // 4 * isa.lanes)
        at += cols // 4 * isa.lanes
    return at


@inlined
def add_plane(isa, rows, matrix, g, bits, plane_rows, first, s, keep, add, out):
    """Adds the products of one group's rows in one plane: out = out * keep + product * s.factor + add."""
    lanes, cols, use, zeros, ones = isa.lanes, matrix.cols, s.fitted[0], s.fitted[1], s.fitted[2]
    r, end = g * matrix.width, min((g + 1) * matrix.width, matrix.rows)
    while r < end:
        place, i = r // plane_rows, r % plane_rows
        lane, shift = i % lanes, place * bits
        count = min(end - r, min(plane_rows - i, lanes - lane))
        mask, size = ((1 << bits) - 1) * BYTES, np.float32(1)
        if not isa.shifts:  # codes stay where they are, and the sums are that much larger
            mask, size = mask << shift, np.float32(1) / np.float32(1 << shift)
        for m in range(rows):
            use[m] = s.factor[m] * size
        tile = address(s.tiles, first + i // lanes * (cols // 4 * lanes))
        whole = count == lanes
        if not whole:
            fill(s.spare, 0)
        # one call for both, as each is compiled apart
        products(
            isa, rows, tile, cols, mask, shift, address(s.folded, 0), address(use, 0),
            address(keep if whole else ones, 0), address(add if whole else zeros, 0),
            address(out, r) if whole else address(s.spare, 0), out.shape[1] if whole else lanes,
        )  # fmt: skip
        if not whole:
            for m in range(rows):
                for k in range(count):
                    out[m, r + k] = out[m, r + k] * keep[m] + s.spare[m * lanes + lane + k] + add[m]
        r += count


@inlined
def add_minimums(isa, rows, v, row8, head, matrix, s):
    """What the minimums of nested scales add, to s.add [groups, rows]."""
    step = minimum_steps(matrix, s)
    if matrix.scale_bits == 4:
        at, mask, shift = head + matrix.table_at, 15 if isa.shifts else 0xF0, 4
        lay_tiles(isa, row8, at, matrix.groups, matrix.cols, matrix.table_bytes, s.tiles, 0)
    else:
        mask, shift = (1 << matrix.scale_bits) - 1, 0
        lay_tiles(isa, s.codes, matrix.cols, matrix.groups, matrix.cols, 2 * matrix.cols, s.tiles, 0)
    fold(v.vectors, rows, matrix.cols, s.step, 0, s.folded)
    size = step * ONE / (np.float32(1) if isa.shifts else np.float32(1 << shift))
    for m in range(rows):
        s.factor[m] = v.units[m] * size
        fill(s.raw[m], 0)
    tile = matrix.cols // 4 * isa.lanes
    for g in range(0, matrix.groups, isa.lanes):
        start = g // isa.lanes * tile
        products(
            isa, rows, address(s.tiles, start), matrix.cols, mask * BYTES, shift, address(s.folded, 0),
            address(s.factor, 0), address(s.fitted[2], 0), address(s.fitted[1], 0), address(s.raw, g), s.raw.shape[1],
        )  # fmt: skip
    runs = matrix.cols // matrix.run
    for g in range(matrix.groups):
        for m in range(rows):
            total = s.raw[m, g]
            if matrix.range_a_group:
                total = total * s.ranges[4 * g + 3] + s.ranges[4 * g + 2] * v.sums[m, 0]
            else:
                for k in range(runs):
                    total += s.ranges[4 * k + 2] * v.sums[m, k]
            s.add[g, m] = total


@inlined
def add_byte_products(isa, rows, v, row8, head, matrix, amplitude, s, keep, out):
    """out [rows, matrix rows] = out * keep + products of the vectors with a head's keys or values.

    v holds the vectors (cpu_scratch.Rows).
    """
    scales_of(row8, head, matrix, amplitude, rows, v.exact, s)
    if matrix.scale_bits < 16:
        add_minimums(isa, rows, v, row8, head, matrix, s)
    low = lay_tiles(isa, row8, head + matrix.codes_at, matrix.low_rows, matrix.cols, matrix.cols, s.tiles, 0)
    if matrix.high_bits:
        at = head + matrix.codes_at + matrix.low_rows * matrix.cols
        lay_tiles(isa, row8, at, matrix.high_rows, matrix.cols, matrix.cols, s.tiles, low)
    for g in range(matrix.groups):
        fold(v.vectors, rows, matrix.cols, s.scale, g * matrix.cols, s.folded)
        for m in range(rows):
            s.factor[m] = v.units[m] * s.unit[g] * ONE
        bits, plane_rows, first, kept, added = matrix.low_bits, matrix.low_rows, 0, keep, s.add[g]
        while bits:  # the second plane of codes of two, if there is one, is added to the first
            add_plane(isa, rows, matrix, g, bits, plane_rows, first, s, kept, added, out)
            for m in range(rows):
                s.factor[m] *= np.float32(1 << bits)
            bits = 0 if first else matrix.high_bits
            plane_rows, first, kept, added = matrix.high_rows, low, s.fitted[2], s.fitted[1]

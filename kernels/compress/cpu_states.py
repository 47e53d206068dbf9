"""Keys and values as compiled loops read them: states of any dtype to fp32 rows, norms of rows, transposition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..cpu_compile import strict
from ..decode_attention.cpu_ir import F32, I32, I64, STEP, Place, constant, vec

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2
F64 = ir.DoubleType()
# a half-precision number's exponent and fraction, moved to where fp32 has them, are that number times this
HALF_UNIT = np.float32(2.0**112)


class States(NamedTuple):
    """[blocks, heads, tokens, channels] of one dtype, by strides in elements; channels lie side by side.

    Attributes:
        halves: uint16, where kind is BFLOAT16 or FLOAT16.
        floats: float32, where it is FLOAT32.
    """

    halves: np.ndarray
    floats: np.ndarray
    kind: int
    block: int
    head: int
    token: int


@strict
def load_row(states, at, channels, row, bits):
    """Channels from element `at` on, exactly; row float32, and bits int32 in the same memory."""
    if states.kind == FLOAT32:
        source = states.floats[at:]
        for c in range(channels):
            row[c] = source[c]
        return
    halves = states.halves[at:]
    if states.kind == BFLOAT16:
        for c in range(channels):
            bits[c] = np.int32(halves[c]) << np.int32(16)
        return
    for c in range(channels):
        half = np.int32(halves[c])
        bits[c] = ((half & np.int32(0x7FFF)) << np.int32(13)) | ((half & np.int32(0x8000)) << np.int32(16))
    for c in range(channels):
        row[c] *= HALF_UNIT


@intrinsic
def sum_of_squares(typing: Any, row: Any, count: Any) -> Any:
    """Of row[:count], fp32, in fp64, which they cannot leave; count a multiple of 16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, wide = Place(context, builder, row, args[0], I64(0)), vec(F64, STEP)
        total = cgutils.alloca_once_value(builder, constant(F64, STEP, 0.0))
        with cgutils.for_range(builder, builder.udiv(args[1], I64(STEP)), intp=I64) as loop:
            x = builder.fpext(place.load(builder.mul(loop.index, I64(STEP)), vec(F32, STEP)), wide)
            builder.store(builder.fadd(builder.load(total), builder.fmul(x, x)), total)
        values = [builder.extract_element(builder.load(total), I32(lane)) for lane in range(STEP)]
        while len(values) > 1:
            values = [builder.fadd(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        return values[0]

    return types.float64(row, types.int64), generate


@intrinsic
def lanes_spread(typing: Any, row: Any, count: Any) -> Any:
    """(least, largest) of row[:count], fp32, count a multiple of 16 and not 0; as loops, extremes stay scalar for the
    sake of NaN."""
    pair = types.UniTuple(types.float32, 2)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, found = Place(context, builder, row, args[0], I64(0)), []
        seen = [cgutils.alloca_once_value(builder, place.load(0, vec(F32, STEP))) for _ in range(2)]
        with cgutils.for_range(builder, builder.udiv(args[1], I64(STEP)), intp=I64) as loop:
            value = place.load(builder.mul(loop.index, I64(STEP)), vec(F32, STEP))
            for sign, extreme in zip("<>", seen, strict=True):
                builder.store(_further(builder, sign, value, builder.load(extreme)), extreme)
        for sign, extreme in zip("<>", seen, strict=True):
            values = [builder.extract_element(builder.load(extreme), I32(lane)) for lane in range(STEP)]
            while len(values) > 1:
                values = [_further(builder, sign, a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
            found += values
        return context.make_tuple(builder, pair, found)

    return pair(row, types.int64), generate


def _further(builder: Any, sign: str, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(sign, a, b), a, b)


@strict
def spread(row):
    """(least, largest) of a row, fp32."""
    low = high = row[0]
    whole = row.shape[0] // STEP * STEP
    if whole:
        low, high = lanes_spread(row, whole)
    for i in range(whole, row.shape[0]):
        low, high = min(low, row[i]), max(high, row[i])
    return low, high


@intrinsic
def transpose_tile(typing: Any, source: Any, start: Any, stride: Any, target: Any, at: Any, step: Any) -> Any:
    """16 x 16 fp32: rows of `source` from start on, `stride` apart, to columns of `target` from `at` on, rows of which
    lie `step` apart."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, out = (
            Place(context, builder, source, args[0], args[1]),
            Place(context, builder, target, args[3], args[4]),
        )
        rows = [first.load(builder.mul(args[2], I64(k)), vec(F32, STEP)) for k in range(STEP)]
        for distance in (8, 4, 2, 1):
            # of two rows that far apart, lanes change places
            low = ir.Constant(vec(I32, STEP), [i if not i & distance else i - distance + STEP for i in range(STEP)])
            high = ir.Constant(vec(I32, STEP), [i + distance if not i & distance else i + STEP for i in range(STEP)])
            for k in (k for k in range(STEP) if not k & distance):
                a, b = rows[k], rows[k + distance]
                rows[k], rows[k + distance] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
        for k, row in enumerate(rows):
            out.store(row, builder.mul(args[5], I64(k)))
        return context.get_dummy_value()

    wide = types.int64
    return types.void(source, wide, wide, target, wide, wide), generate


@strict
def transpose(source, target):
    """source [rows, cols] to target [cols, rows], both multiples of 16, rows contiguous."""
    rows, cols = source.shape
    flat, out = source.reshape(rows * cols), target.reshape(rows * cols)
    for r in range(0, rows, STEP):
        for c in range(0, cols, STEP):
            transpose_tile(flat, r * cols + c, cols, out, c * rows + r, rows)

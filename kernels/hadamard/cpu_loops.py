"""The Walsh-Hadamard transform of rows as compiled loops: in registers, for any processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..cpu_compile import kept_strict, strict
from ..decode_attention.cpu_ir import F32, I32, STEP, Place, constant, vec
from ..decode_attention.cpu_vectors import next_item


def _exchanged(builder: Any, x: Any, distance: int) -> Any:
    """Lanes paired at a distance: sums where that bit of the lane's number is 0, else differences."""
    order = ir.Constant(vec(I32, STEP), [lane ^ distance for lane in range(STEP)])
    signs = ir.Constant(vec(F32, STEP), [-1.0 if lane & distance else 1.0 for lane in range(STEP)])
    return builder.fadd(builder.shuffle_vector(x, x, order), builder.fmul(x, signs))


def _rotation(width: int) -> Callable[..., None]:
    """The transform of x[at : at + width] in place, for a width that is known when it is compiled."""
    vectors, size = width // STEP, float(np.float32(1 / np.sqrt(width)))

    @intrinsic
    def rotation(typing: Any, x: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place, kind = Place(context, builder, x, args[0], args[1]), vec(F32, STEP)
            # scaled first: sums of large numbers then leave fp32 no sooner than the result
            rows = [builder.fmul(place.load(k * STEP, kind), constant(F32, STEP, size)) for k in range(vectors)]
            for distance in (1, 2, 4, 8):
                rows = [_exchanged(builder, row, distance) for row in rows]
            distance = 1
            while distance < vectors:
                for k in (k for k in range(vectors) if not k & distance):
                    a, b = rows[k], rows[k + distance]
                    rows[k], rows[k + distance] = builder.fadd(a, b), builder.fsub(a, b)
                distance *= 2
            for k, row in enumerate(rows):
                place.store(row, k * STEP)
            return context.get_dummy_value()

        return types.void(x, types.int64), generate

    return rotation


rotation_16, rotation_32, rotation_64, rotation_128, rotation_256 = (_rotation(STEP << k) for k in range(5))


@strict
def rotate_slowly(row, count, width):
    """Any power of two, stage by stage."""
    size, half = np.float32(1 / np.sqrt(width)), 1
    for i in range(count):
        row[i] *= size
    while half < width:
        for start in range(0, count, 2 * half):
            first, second = row[start : start + half], row[start + half : start + 2 * half]
            for i in range(half):
                a, b = first[i], second[i]
                first[i], second[i] = a + b, a - b
        half *= 2


@strict
def rotate_row(row, count, width):
    """row[:count] in place, count a multiple of width, a power of two."""
    if width == 128:
        for at in range(0, count, 128):
            rotation_128(row, at)
    elif width == 64:
        for at in range(0, count, 64):
            rotation_64(row, at)
    elif width == 32:
        for at in range(0, count, 32):
            rotation_32(row, at)
    elif width == 16:
        for at in range(0, count, 16):
            rotation_16(row, at)
    elif width == 256:
        for at in range(0, count, 256):
            rotation_256(row, at)
    else:
        rotate_slowly(row, count, width)


@kept_strict("rotations", 1)
def rotate_rows(files):
    def rotate_rows(rows, share, width, counter):
        """Rows [count, channels] in place, `share` at a time, as long as `counter` has any."""
        count = rows.shape[0] if files else 0
        first = next_item(counter, 0) * share
        while first < count:
            for r in range(first, min(first + share, count)):
                rotate_row(rows[r], rows.shape[1], width)
            first = next_item(counter, 0) * share

    return rotate_rows

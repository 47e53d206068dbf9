"""Inner products of codes with fp32 vectors, four rows of codes at a time: LLVM IR, compiled for any processor.

Codes are converted where they lie in their bytes, once for all query rows; a place is worth a power of two, which the
sums are multiplied by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu_ir import F32, I8, I32, I64, Place, constant, halved, multiply_add, picked, splat, vec
from .cpu_sets import width
from .cpu_sizes import BYTES_AT, MASK, ROWS, SIZE, SUMS_AT, VECTORS_AT, WORDS


def _four_sums(builder: Any, parts: list[Any]) -> Any:
    """The sums of four vectors side by side, <4 x float>: less than half the instructions of four sums."""

    def paired(a: Any, b: Any, low: list[int], high: list[int]) -> Any:
        return builder.fadd(picked(builder, a, b, low), picked(builder, a, b, high))

    first, second = (paired(parts[k], parts[k + 1], [0, 4, 1, 5], [2, 6, 3, 7]) for k in (0, 2))
    return halved(builder, paired(first, second, [0, 1, 4, 5], [2, 3, 6, 7]), ROWS)


@intrinsic
def fold(typing: Any, isa: Any, vector: Any, scales: Any, minimums: Any, cols: Any, out: Any, step: Any) -> Any:
    """A vector times a group's scales, to out, and the sum of it times the minimums.

    All are addresses of float32; cols is a multiple of isa's lanes, as many of which lie `step` elements apart in out.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = width(isa)
        x, scale, minimum = (Place(context, builder, types.int64, args[k], I64(0), F32) for k in (1, 2, 3))
        target = Place(context, builder, types.int64, args[5], I64(0), F32)
        total = cgutils.alloca_once_value(builder, constant(F32, lanes, 0.0))
        with cgutils.for_range(builder, builder.udiv(args[4], I64(lanes)), intp=I64) as run:
            column = builder.mul(run.index, I64(lanes))
            held, times, least = (place.load(column, vec(F32, lanes)) for place in (x, scale, minimum))
            target.store(builder.fmul(held, times), builder.mul(run.index, args[6]))
            builder.store(multiply_add(builder, held, least, builder.load(total)), total)
        return builder.extract_element(halved(builder, builder.load(total), 1), I32(0))

    return types.float32(isa, *[types.int64] * 6), generate


def _dots(rows: int) -> Callable[..., None]:
    """dots for a number of query rows that is known when it is compiled."""

    @intrinsic
    def dots(typing: Any, isa: Any, words: Any, cols: Any, count: Any, vectors: Any, sums: Any, sum_stride: Any) -> Any:
        """Inner products of `count` times ROWS rows of codes with `rows` vectors, to sums[row * sum_stride:].

        words (int64), vectors and sums (float32) are addresses; cols is a multiple of isa's lanes. words has ROWS
        entries of each kind that cpu_sizes lists; bytes of the next row of codes follow `cols` further on. Vectors lie
        [groups, cols / lanes, rows, lanes], so that those of all rows are at fixed distances.
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes, cols = width(isa), args[2]
            table = Place(context, builder, types.int64, args[1], I64(0), I64)
            source = Place(context, builder, types.int64, args[4], I64(0), F32)
            target = Place(context, builder, types.int64, args[5], I64(0), F32)
            told = [
                [builder.load(builder.gep(table.data, [I64(ROWS * kind + j)])) for j in range(ROWS)]
                for kind in range(WORDS // ROWS)
            ]
            vectors = [builder.gep(source.data, [builder.mul(at, I64(rows))]) for at in told[VECTORS_AT]]
            masks = [splat(builder, builder.trunc(mask, I32), lanes) for mask in told[MASK]]
            sizes = ir.Constant(vec(F32, ROWS), ir.Undefined)
            for j, size in enumerate(told[SIZE]):
                number = builder.bitcast(builder.trunc(size, I32), F32)
                sizes = builder.insert_element(sizes, number, I32(j))
            totals = [cgutils.alloca_once(builder, vec(F32, lanes)) for _ in range(ROWS * rows)]
            with cgutils.for_range(builder, args[3], intp=I64) as row:
                for total in totals:
                    builder.store(constant(F32, lanes, 0.0), total)
                start = builder.mul(row.index, cols)
                with cgutils.for_range(builder, builder.udiv(cols, I64(lanes)), intp=I64) as run:
                    column = builder.mul(run.index, I64(lanes))
                    for j in range(ROWS):
                        bytes_ = Place(context, builder, types.int64, told[BYTES_AT][j], start)
                        wide = builder.zext(bytes_.load(column, vec(I8, lanes)), vec(I32, lanes))
                        codes = builder.sitofp(builder.and_(wide, masks[j]), vec(F32, lanes))
                        first = builder.gep(vectors[j], [builder.mul(column, I64(rows))])
                        for m in range(rows):
                            at = builder.bitcast(builder.gep(first, [I64(m * lanes)]), vec(F32, lanes).as_pointer())
                            vector, total = builder.load(at, align=4), totals[ROWS * m + j]
                            builder.store(multiply_add(builder, codes, vector, builder.load(total)), total)
                for m in range(rows):
                    parts = [builder.load(total) for total in totals[ROWS * m : ROWS * (m + 1)]]
                    four = builder.fmul(_four_sums(builder, parts), sizes)
                    line = builder.add(builder.mul(args[6], I64(m)), row.index)
                    for j in range(ROWS):
                        value = builder.extract_element(four, I32(j))
                        target.store(value, builder.add(line, told[SUMS_AT][j]))
            return context.get_dummy_value()

        big = types.int64
        return types.void(isa, *[big] * 6), generate

    return dots


dots_1, dots_2, dots_3, dots_4 = (_dots(rows) for rows in range(1, 5))

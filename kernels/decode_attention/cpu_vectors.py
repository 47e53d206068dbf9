"""Other vector instructions for compiled loops: numba compiles what these functions build as LLVM IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu_ir import F32, I8, I16, I32, I64, STEP, Place, call, constant, scaled, splat, vec
from .cpu_sizes import LINE


def _fold(columns: int) -> Callable[..., None]:
    @intrinsic
    def fold(typing: Any, vector: Any, start: Any, scale: Any, first: Any, out: Any, at: Any, cols: Any) -> Any:
        """`columns` of int16 vector * scale / 2**15: high bytes to out[at:], low bytes to out[at + cols:]."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            wide = vec(I16, columns)
            a = Place(context, builder, vector, args[0], args[1]).load(0, wide)
            b = Place(context, builder, scale, args[2], args[3]).load(0, wide)
            product = scaled(builder, a, b)
            rounded = builder.add(product, constant(I16, columns, 128))  # the low byte is read with its sign
            high = builder.lshr(rounded, constant(I16, columns, 8))
            target = Place(context, builder, out, args[4], args[5])
            target.store(builder.trunc(high, vec(I8, columns)))
            target.store(builder.trunc(product, vec(I8, columns)), args[6])
            return context.get_dummy_value()

        wide = types.int64
        return types.void(vector, wide, scale, wide, out, wide, wide), generate

    return fold


@intrinsic
def scales(typing: Any, codes: Any, start: Any, mask: Any, shift: Any, step: Any, low: Any, out: Any, at: Any) -> Any:
    """16 scales, int16: (code & mask) << shift times step / 2**15, plus low."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = vec(I16, STEP)
        code = builder.zext(Place(context, builder, codes, args[0], args[1]).load(0, vec(I8, STEP)), wide)
        mask_, shift_, step_, low_ = (splat(builder, arg, STEP) for arg in args[2:6])
        code = builder.shl(builder.and_(code, mask_), shift_)
        value = builder.add(scaled(builder, code, step_), low_)
        Place(context, builder, out, args[6], args[7]).store(value)
        return context.get_dummy_value()

    wide, narrow = types.int64, types.int16
    return types.void(codes, wide, narrow, narrow, narrow, narrow, out, wide), generate


@intrinsic
def halves(typing: Any, source: Any, start: Any, out: Any, at: Any) -> Any:
    """16 half-precision numbers from bytes source[start:] -> fp32 out[at:]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = Place(context, builder, source, args[0], args[1]).load(0, vec(ir.HalfType(), STEP))
        Place(context, builder, out, args[2], args[3]).store(builder.fpext(values, vec(F32, STEP)))
        return context.get_dummy_value()

    return types.void(source, types.int64, out, types.int64), generate


@intrinsic
def largest(typing: Any, row: Any, count: Any) -> Any:
    """The largest of row[:count], fp32, count a multiple of 16: as loops, maxima stay scalar for the sake of NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, row, args[0], I64(0))
        most = cgutils.alloca_once_value(builder, constant(F32, STEP, float("-inf")))
        with cgutils.for_range(builder, builder.udiv(args[1], I64(STEP)), intp=I64) as loop:
            value, seen = place.load(builder.mul(loop.index, I64(STEP)), vec(F32, STEP)), builder.load(most)
            builder.store(builder.select(builder.fcmp_ordered(">", value, seen), value, seen), most)
        values = [builder.extract_element(builder.load(most), I32(lane)) for lane in range(STEP)]
        while len(values) > 1:
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [builder.select(builder.fcmp_ordered(">", a, b), a, b) for a, b in pairs]
        return values[0]

    return types.float32(row, types.int64), generate


@intrinsic
def total(typing: Any, vector: Any, start: Any, count: Any) -> Any:
    """The sum of int16 vector[start : start + count], count a multiple of 16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, wide = Place(context, builder, vector, args[0], args[1]), vec(I32, STEP)
        sums = cgutils.alloca_once_value(builder, constant(I32, STEP, 0))
        with cgutils.for_range(builder, builder.udiv(args[2], I64(STEP)), intp=I64) as loop:
            more = builder.sext(place.load(builder.mul(loop.index, I64(STEP)), vec(I16, STEP)), wide)
            builder.store(builder.add(builder.load(sums), more), sums)
        return call(builder, "llvm.vector.reduce.add.v16i32", I32, builder.load(sums))

    return types.int32(vector, types.int64, types.int64), generate


@intrinsic
def prefetch(typing: Any, source: Any, start: Any, count: Any) -> Any:
    """Asks for the lines of source[start : start + count], bytes, ahead of their use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, source, args[0], args[1])
        pointer = I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        lines = builder.udiv(args[2], I64(LINE))
        with cgutils.for_range(builder, lines, intp=I64) as loop:
            builder.call(function, [place.at(builder.mul(loop.index, I64(LINE)), I8), I32(0), I32(2), I32(1)])
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64), generate


@intrinsic
def as_float(typing: Any, bits: Any) -> Any:
    """The float32 of these 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F32)

    return types.float32(types.int32), generate


@intrinsic
def address(typing: Any, array: Any, index: Any) -> Any:
    """Where array[index:] lies, one axis: handed to a function, one word instead of an array's seven."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, array, args[0], args[1])
        return builder.ptrtoint(builder.gep(place.data, [place.index]), I64)

    return types.int64(array, types.int64), generate


@intrinsic
def next_item(typing: Any, counters: Any, index: Any) -> Any:
    """Takes the next number of a counter that threads share; what one wrote before, the next one sees."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, counters, args[0], args[1])
        return builder.atomic_rmw("add", place.at(0, I64), I64(1), "acq_rel")

    return types.int64(counters, types.int64), generate


fold_16, fold_32 = _fold(STEP), _fold(2 * STEP)

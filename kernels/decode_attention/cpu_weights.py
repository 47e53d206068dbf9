"""Scores to softmax weights for compiled loops, a register at a time: numba compiles what is built here as LLVM IR."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu_ir import F32, I16, I32, I64, STEP, Place, call, constant, halved, multiply_add, splat, vec
from .cpu_loops import EXP2, LOG2_E

HALF = 0.5  # rounds to the nearest whole number where a fraction is cut off


def _exponential(builder: Any, x: Any) -> Any:
    """cpu_loops.exponential() of each lane."""

    def every(value: Any) -> Any:
        return constant(F32, STEP, float(value))

    power = builder.fmul(x, every(LOG2_E))
    power = builder.select(builder.fcmp_ordered(">", power, every(-126)), power, every(-126))
    whole = call(builder, f"llvm.floor.v{STEP}f32", vec(F32, STEP), power)
    fraction = builder.fsub(builder.fsub(power, whole), every(HALF))
    value = every(EXP2[-1])
    for coefficient in reversed(EXP2[:-1]):
        value = multiply_add(builder, fraction, value, every(coefficient))
    exponent = builder.add(builder.fptosi(whole, vec(I32, STEP)), constant(I32, STEP, 127))
    return builder.fmul(value, builder.bitcast(builder.shl(exponent, constant(I32, STEP, 23)), vec(F32, STEP)))


def _relative(builder: Any, place: Any, at: Any, most: Any) -> Any:
    return _exponential(builder, builder.fsub(place.load(at, vec(F32, STEP)), splat(builder, most, STEP)))


@intrinsic
def exact_weights(typing: Any, row: Any, count: Any, most: Any, grow: Any) -> Any:
    """row[:count] = exp(row - most) * grow, float32, count a multiple of 16; their sum."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, row, args[0], I64(0))
        total = cgutils.alloca_once_value(builder, constant(F32, STEP, 0.0))
        with cgutils.for_range(builder, builder.udiv(args[1], I64(STEP)), intp=I64) as loop:
            at = builder.mul(loop.index, I64(STEP))
            weight = builder.fmul(_relative(builder, place, at, args[2]), splat(builder, args[3], STEP))
            place.store(weight, at)
            builder.store(builder.fadd(builder.load(total), weight), total)
        return builder.extract_element(halved(builder, builder.load(total), 1), I32(0))

    return types.float32(row, types.int64, types.float32, types.float32), generate


@intrinsic
def short_weights(typing: Any, row: Any, count: Any, most: Any, grow: Any, largest: Any, vector: Any) -> Any:
    """The same without the sum, and vector[:count] = exp(row - most) * largest, int16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, row, args[0], I64(0))
        target = Place(context, builder, vector, args[5], I64(0))
        with cgutils.for_range(builder, builder.udiv(args[1], I64(STEP)), intp=I64) as loop:
            at = builder.mul(loop.index, I64(STEP))
            weight = _relative(builder, place, at, args[2])
            scaled = builder.fadd(builder.fmul(weight, splat(builder, args[4], STEP)), constant(F32, STEP, HALF))
            whole = builder.trunc(builder.fptosi(scaled, vec(I32, STEP)), vec(I16, STEP))
            target.store(whole, at)
            place.store(builder.fmul(weight, splat(builder, args[3], STEP)), at)
        return context.get_dummy_value()

    return types.void(row, types.int64, *[types.float32] * 3, vector), generate

"""What cpu_tiles.py and cpu_vectors.py build LLVM IR from."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .cpu_sets import shifts_codes, width
from .cpu_sizes import STEP as STEP

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


def vec(element: ir.Type, count: int) -> ir.VectorType:
    return ir.VectorType(element, count)


def splat(builder: Any, value: Any, count: int) -> Any:
    first = builder.insert_element(ir.Constant(vec(value.type, count), ir.Undefined), value, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(vec(I32, count), [0] * count))


def constant(element: ir.Type, count: int, value: float) -> ir.Constant:
    return ir.Constant(vec(element, count), [value] * count)


class Place:
    """An element of an array argument, or of `element`s from an address on, to load from or store to."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any, index: Any, element: ir.Type = I8) -> None:
        self.builder, self.kind, self.index = builder, kind, index
        if isinstance(kind, types.Integer):
            self.data = builder.inttoptr(array, element.as_pointer())
        else:
            self.data = context.make_array(kind)(context, builder, value=array).data

    def at(self, offset: Any, dtype: ir.Type) -> Any:
        index = self.builder.add(self.index, offset if isinstance(offset, ir.Value) else I64(offset))
        return self.builder.bitcast(self.builder.gep(self.data, [index]), dtype.as_pointer())

    def load(self, offset: Any, dtype: ir.Type) -> Any:
        return self.builder.load(self.at(offset, dtype), align=1)

    def store(self, value: Any, offset: Any = 0) -> None:
        self.builder.store(value, self.at(offset, value.type), align=1)


def call(builder: Any, name: str, result: ir.Type, *args: Any) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def dot(builder: Any, isa: Any, total: Any, codes: Any, weights: Any) -> Any:
    """total + the products of four bytes a lane: codes unsigned, weights signed."""
    lanes = width(isa)
    if not shifts_codes(isa):
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        return call(builder, name, vec(I32, lanes), total, codes, weights)
    parts = [builder.bitcast(part, vec(I8, 4 * lanes)) for part in (codes, weights)]
    pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", vec(I16, 2 * lanes), *parts)
    ones = constant(I16, 2 * lanes, 1)
    return builder.add(total, call(builder, "llvm.x86.avx2.pmadd.wd", vec(I32, lanes), pairs, ones))


def multiply_add(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """a * b + total of fp32 vectors, in one instruction where the processor has it."""
    return call(builder, f"llvm.fmuladd.v{a.type.count}f32", a.type, a, b, total)


def picked(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    """Lanes of two vectors, the same within each 128 bits: in order, 0-3 are a's and 4-7 b's."""
    lanes = a.type.count
    index = [i + base if i < 4 else i - 4 + lanes + base for base in range(0, lanes, 4) for i in order]
    return builder.shuffle_vector(a, b, ir.Constant(vec(I32, lanes), index))


def halved(builder: Any, x: Any, count: int) -> Any:
    """The sums of every `count`-th lane of an fp32 vector, <count x float>."""
    while x.type.count > count:
        half = x.type.count // 2
        parts = [ir.Constant(vec(I32, half), list(range(first, first + half))) for first in (0, half)]
        x = builder.fadd(*(builder.shuffle_vector(x, x, part) for part in parts))
    return x


def scaled(builder: Any, a: Any, b: Any) -> Any:
    """Rounded a * b / 2**15 of 16-bit numbers."""
    name = {32: "avx512.pmul.hr.sw.512", 16: "avx2.pmul.hr.sw", 8: "ssse3.pmul.hr.sw.128"}[a.type.count]
    return call(builder, f"llvm.x86.{name}", a.type, a, b)

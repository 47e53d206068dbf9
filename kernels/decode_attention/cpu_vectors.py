"""Vector instructions for compiled loops: numba compiles what these functions build as LLVM IR.

Inner products run on bytes: codes without sign times signed bytes of a 16-bit vector, four products a 32-bit lane in
one instruction where the processor has it. A vector's high and low byte take a product each, so nothing of its 16 bits
is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
QUAD = 4  # columns of a 32-bit lane
STEP = 16  # columns that one transposition takes: 128 bits of each row
LINE = 64  # bytes
CHAINS = 8  # independent sums that hide the latency of an inner product
FITTED = ((8, 11), (9, 11), (10, 11))  # of products: factor, keep and add, from m on


class Avx512(NamedTuple):
    """AVX-512 with VNNI: four products of bytes and their sum in one instruction, in 16 lanes of 32 bits.

    Sets are types of their own, so that numba compiles and keeps the loops for each apart.
    """

    lanes: int = 16
    shifts: int = 0
    plain: int = 0


class Avx2Vnni(NamedTuple):
    """The same in 8 lanes."""

    lanes: int = 8
    shifts: int = 0
    plain: int = 0


class Avx2(NamedTuple):
    """Sums of two products in 16 bits, then of two such sums. The first saturate: codes must be shifted down."""

    lanes: int = 8
    shifts: int = 1
    plain: int = 0


class Portable(NamedTuple):
    """None of these: loops in fp32 that the compiler makes vectors of (cpu_floats.py)."""

    lanes: int = 8
    shifts: int = 0
    plain: int = 1


def width(isa: Any) -> int:
    """Lanes of an instruction set, from numba's type of it."""
    return int(isa.instance_class._field_defaults["lanes"])


def shifts_codes(isa: Any) -> bool:
    """Whether codes must be shifted down before they are multiplied."""
    return bool(isa.instance_class._field_defaults["shifts"])


def vec(element: ir.Type, count: int) -> ir.VectorType:
    return ir.VectorType(element, count)


def splat(builder: Any, value: Any, count: int) -> Any:
    first = builder.insert_element(ir.Constant(vec(value.type, count), ir.Undefined), value, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(vec(I32, count), [0] * count))


def constant(element: ir.Type, count: int, value: float) -> ir.Constant:
    return ir.Constant(vec(element, count), [value] * count)


class Place:
    """An element of an array argument, to load from or store to."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any, index: Any) -> None:
        self.builder, self.kind = builder, kind
        self.data = context.make_array(kind)(context, builder, value=array).data
        self.index = index

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


def scaled(builder: Any, a: Any, b: Any) -> Any:
    """Rounded a * b / 2**15 of 16-bit numbers."""
    name = {32: "avx512.pmul.hr.sw.512", 16: "avx2.pmul.hr.sw", 8: "ssse3.pmul.hr.sw.128"}[a.type.count]
    return call(builder, f"llvm.x86.{name}", a.type, a, b)


@intrinsic
def transpose(typing: Any, isa: Any, source: Any, start: Any, stride: Any, rows: Any, tile: Any, at: Any) -> Any:
    """16 columns of a register's lanes of rows of bytes -> tile[at:], int32: by four columns, a row a lane.

    Rows lie `stride` bytes apart from source[start] on; past `rows` the last one repeats.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = width(isa)
        first = Place(context, builder, source, args[1], args[2])
        target = Place(context, builder, tile, args[5], args[6])
        last = builder.sub(args[4], I64(1))
        quads = []
        for row in range(lanes):
            index = builder.select(builder.icmp_signed("<", I64(row), last), I64(row), last)
            quads.append(first.load(builder.mul(index, args[3]), vec(I32, 4)))
        # register k: rows k, k + 4, k + 8 ... side by side; then 4 x 4 within each 128 bits
        mixed = [_join(builder, quads[k::4]) for k in range(4)]
        for column, register in enumerate(_four_by_four(builder, mixed, lanes)):
            target.store(register, column * lanes)
        return context.get_dummy_value()

    return types.void(isa, source, types.int64, types.int64, types.int64, tile, types.int64), generate


def _join(builder: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        order = ir.Constant(vec(I32, count), list(range(count)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _four_by_four(builder: Any, x: list[Any], lanes: int) -> list[Any]:
    def pick(a: Any, b: Any, order: list[int]) -> Any:
        """order: of each 128 bits, 0-3 from a and 4-7 from b."""
        index = [i + base if i < 4 else i - 4 + lanes + base for base in range(0, lanes, 4) for i in order]
        return builder.shuffle_vector(a, b, ir.Constant(vec(I32, lanes), index))

    low, high = [0, 4, 1, 5], [2, 6, 3, 7]
    ab = [pick(x[0], x[1], order) for order in (low, high)]
    cd = [pick(x[2], x[3], order) for order in (low, high)]
    return [pick(ab[i], cd[i], order) for i in range(2) for order in ([0, 1, 4, 5], [2, 3, 6, 7])]


def _products(rows: int) -> Callable[..., None]:
    """products for a number of rows that is known when it is compiled."""
    unroll = min(4, max(1, CHAINS // (2 * rows)))

    @intrinsic
    def products(
        typing: Any, isa: Any, tile: Any, start: Any, cols: Any, mask: Any, shift: Any,
        folded: Any, first: Any, factor: Any, keep: Any, add: Any, m: Any, out: Any, at: Any, stride: Any,
    ) -> Any:  # fmt: skip
        """Inner products of a tile's rows with `rows` folded vectors, m and on, to out[at + row * stride:].

        A vector lies in `folded` as its high bytes and then its low ones, from folded[first] on. Codes are what `mask`
        leaves of a byte shifted down by `shift`. out = out * keep[m] + product * factor[m] + add[m].
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes, kinds = width(isa), signature.args
            tiles, vectors, *fitted, target = (
                Place(context, builder, kinds[i], args[i], args[j]) for i, j in ((1, 2), (6, 7), *FITTED, (12, 13))
            )
            cols, masks, shifts = args[3], splat(builder, args[4], lanes), splat(builder, args[5], lanes)
            sums = [cgutils.alloca_once_value(builder, constant(I32, lanes, 0)) for _ in range(2 * rows * unroll)]
            with cgutils.for_range(builder, builder.udiv(cols, I64(QUAD * unroll)), intp=I64) as loop:
                for u in range(unroll):
                    quad = builder.add(builder.mul(loop.index, I64(unroll)), I64(u))
                    codes = tiles.load(builder.mul(quad, I64(lanes)), vec(I32, lanes))
                    codes = builder.and_(builder.lshr(codes, shifts) if shifts_codes(isa) else codes, masks)
                    for k in range(2 * rows):
                        offset = builder.add(builder.mul(cols, I64(k)), builder.mul(quad, I64(QUAD)))
                        weights, total = splat(builder, vectors.load(offset, I32), lanes), sums[k * unroll + u]
                        builder.store(dot(builder, isa, builder.load(total), codes, weights), total)
            for row in range(rows):
                value = _both_bytes(builder, sums[2 * row * unroll : 2 * (row + 1) * unroll], lanes)
                factor, keep, add = (splat(builder, place.load(row, F32), lanes) for place in fitted)
                where = builder.mul(args[14], I64(row))
                old = builder.fmul(target.load(where, vec(F32, lanes)), keep)
                target.store(builder.fadd(old, builder.fadd(builder.fmul(value, factor), add)), where)
            return context.get_dummy_value()

        big, small = types.int64, types.int32
        kinds = (isa, tile, big, big, small, small, folded, big, factor, keep, add, big, out, big, big)
        return types.void(*kinds), generate

    return products


def _both_bytes(builder: Any, sums: list[Any], lanes: int) -> Any:
    """fp32 high * 256 + low from the sums of both, each kept in parts."""
    half = len(sums) // 2
    bytes_ = []
    for group in (sums[:half], sums[half:]):
        total = builder.load(group[0])
        for other in group[1:]:
            total = builder.add(total, builder.load(other))
        bytes_.append(builder.sitofp(total, vec(F32, lanes)))
    return builder.fadd(builder.fmul(bytes_[0], constant(F32, lanes, 256.0)), bytes_[1])


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
def next_item(typing: Any, counter: Any) -> Any:
    """Takes the next number of a counter that threads share."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = Place(context, builder, counter, args[0], I64(0))
        return builder.atomic_rmw("add", place.at(0, I64), I64(1), "monotonic")

    return types.int64(counter), generate


fold_16, fold_32 = _fold(STEP), _fold(2 * STEP)
products_1, products_2, products_3, products_4 = (_products(rows) for rows in range(1, 5))

"""Inner products on bytes for compiled loops: numba compiles what these functions build as LLVM IR.

Codes without sign times signed bytes of a 16-bit vector, four products a 32-bit lane in one instruction where the
processor has it. A vector's high and low byte take a product each, so nothing of its 16 bits is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu_ir import F32, I8, I32, I64, Place, constant, dot, picked, splat, vec
from .cpu_sets import shifts_codes, width

QUAD = 4  # columns of a 32-bit lane
CHAINS = 8  # independent sums that hide the latency of an inner product


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
        for column, register in enumerate(_four_by_four(builder, mixed)):
            target.store(register, column * lanes)
        return context.get_dummy_value()

    return types.void(isa, source, types.int64, types.int64, types.int64, tile, types.int64), generate


def _join(builder: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        order = ir.Constant(vec(I32, count), list(range(count)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _four_by_four(builder: Any, x: list[Any]) -> list[Any]:
    low, high = [0, 4, 1, 5], [2, 6, 3, 7]
    ab = [picked(builder, x[0], x[1], order) for order in (low, high)]
    cd = [picked(builder, x[2], x[3], order) for order in (low, high)]
    return [picked(builder, ab[i], cd[i], order) for i in range(2) for order in ([0, 1, 4, 5], [2, 3, 6, 7])]


def _products(rows: int) -> Callable[..., None]:
    """products for a number of rows that is known when it is compiled."""
    unroll = min(4, max(1, CHAINS // (2 * rows)))

    @intrinsic
    def products(
        typing: Any, isa: Any, tile: Any, cols: Any, mask: Any, shift: Any,
        folded: Any, factor: Any, keep: Any, add: Any, out: Any, stride: Any,
    ) -> Any:  # fmt: skip
        """Inner products of a tile's rows with `rows` folded vectors, to out[row * stride:].

        tile (int32), folded (int8), factor, keep, add and out (float32) are addresses. A vector lies in `folded` as
        its high bytes and then its low ones. Codes are what `mask` leaves of a byte shifted down by `shift`.
        out = out * keep[row] + product * factor[row] + add[row].
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes, elements = width(isa), {1: I32, 5: I8, 6: F32, 7: F32, 8: F32, 9: F32}
            tiles, vectors, *fitted, target = (
                Place(context, builder, types.int64, args[i], I64(0), element) for i, element in elements.items()
            )
            cols, masks, shifts = args[2], splat(builder, args[3], lanes), splat(builder, args[4], lanes)
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
                where = builder.mul(args[10], I64(row))
                old = builder.fmul(target.load(where, vec(F32, lanes)), keep)
                target.store(builder.fadd(old, builder.fadd(builder.fmul(value, factor), add)), where)
            return context.get_dummy_value()

        big, small = types.int64, types.int32
        return types.void(isa, big, big, small, small, *[big] * 6), generate

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


products_1, products_2, products_3, products_4 = (_products(rows) for rows in range(1, 5))

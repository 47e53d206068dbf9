"""Jobs, sizes and scratch as compiled threads take them, from their addresses (cpu_job.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.unsafe.ndarray import to_fixed_tuple

from ..cpu_compile import inlined
from .cpu_ir import I64
from .cpu_job import Job
from .cpu_scratch import Rows, Scratch
from .cpu_sizes import MatrixSizes, Sizes

FAR = 2**40  # elements of arrays whose end nobody asks for
# elements and axes of the arrays of Scratch and of Rows, in their order
PLAIN_ARRAYS: tuple[tuple[Any, int], ...] = (
    (types.int32, 1), (types.int8, 1), (types.int16, 1), (types.float32, 1), (types.int16, 1), (types.uint8, 1),
    (types.float32, 1), (types.float32, 1), (types.float32, 2), (types.float32, 2), (types.float32, 1),
    (types.float32, 2), (types.float32, 1), (types.uint8, 2), (types.float32, 2), (types.float32, 2),
    (types.float32, 1), (types.float32, 2), (types.int64, 1),
    (types.float32, 1), (types.float32, 1), (types.float32, 1), (types.float32, 1),
)  # fmt: skip
ROWS_ARRAYS: tuple[tuple[Any, int], ...] = (types.int16, 2), (types.float32, 1), (types.float32, 2), (types.float32, 2)
JOB, PLAIN, MATRIX = len(Job._fields), len(Sizes._fields) - 2, len(MatrixSizes._fields)


def _array_type(element: Any, axes: int) -> Any:
    return types.Array(element, axes, "C")


def _array(context: Any, builder: Any, kind: Any, address: Any, sizes: list[Any]) -> Any:
    array = context.make_array(kind)(context, builder)
    step = itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides: list[Any] = []
    for size in reversed(sizes):
        strides.insert(0, step)
        step = builder.mul(step, size)
    data = builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data=data, shape=sizes, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


@intrinsic
def array_at(typing: Any, address: Any, shape: Any, element: Any) -> Any:
    """The array of these numbers that lies at an address. numba's own carray is compiled apart, which needs counts."""
    kind = types.Array(element.instance_type, len(shape), "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array(context, builder, kind, args[0], cgutils.unpack_tuple(builder, args[1]))

    return kind(types.int64, types.UniTuple(types.int64, len(shape)), element), generate


@intrinsic
def scratch_at(typing: Any, address: Any) -> Any:
    """Scratch from what scratch_table made."""
    plain, rows = [_array_type(*kind) for kind in PLAIN_ARRAYS], [_array_type(*kind) for kind in ROWS_ARRAYS]
    of_rows = types.NamedTuple(rows, Rows)
    result = types.NamedTuple([*plain, of_rows, of_rows], Scratch)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = builder.inttoptr(args[0], I64.as_pointer())

        def word(index: int) -> Any:
            return builder.load(builder.gep(table, [I64(index)]))

        made = [
            _array(context, builder, kind, word(3 * k), [word(3 * k + 1 + axis) for axis in range(kind.ndim)])
            for k, kind in enumerate([*plain, *rows, *rows])
        ]
        both = [
            context.make_tuple(builder, of_rows, made[first : first + len(rows)])
            for first in (len(plain), len(plain) + len(rows))
        ]
        return context.make_tuple(builder, result, [*made[: len(plain)], *both])

    return result(types.int64), generate


@inlined
def job_at(address):
    """A Job, its counters as they were just now."""
    return Job(*to_fixed_tuple(array_at(address, (JOB,), np.int64), JOB))


@inlined
def matrix_at(address):
    """MatrixSizes from integers."""
    plain = to_fixed_tuple(array_at(address, (MATRIX,), np.int64), MATRIX)
    return MatrixSizes(*(plain[:-1] + (plain[-1] != 0,)))  # noqa: RUF005 - numba unpacks nothing inside a tuple


@inlined
def sizes_at(address):
    """Sizes from what flat_sizes made; but the last of a matrix, flags are integers here."""
    plain = to_fixed_tuple(array_at(address, (PLAIN,), np.int64), PLAIN)
    keys, values = matrix_at(address + 8 * PLAIN), matrix_at(address + 8 * (PLAIN + MATRIX))
    return Sizes(*(plain + (keys, values)))  # noqa: RUF005 - as above

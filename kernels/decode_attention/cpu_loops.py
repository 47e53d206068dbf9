"""What all compiled loops of cpu.py need: exponentials, numbers and norms of a record.

A record is a row of bytes.
"""

from __future__ import annotations

import numpy as np

from ..cpu_compile import bare
from .cpu_sizes import LOG_NORMS, NO_NORMS
from .cpu_vectors import as_float

LOG2_E = np.float32(1.4426950408889634)
# 2**f on [0, 1): Taylor's series about 1/2 in powers of (f - 1/2), relative error below 1e-7
EXP2 = tuple(np.float32(2**0.5 * np.log(2) ** k / float(np.prod(range(1, k + 1)))) for k in range(8))
# by the exponent's five bits, what the last bit of a half-precision number is worth
HALF_STEPS = np.array([2.0 ** (max(exponent, 1) - 25) for exponent in range(32)], np.float32)


@bare
def fill(x, value):
    """x[:] = value of one axis, without the general case's code."""
    for i in range(x.shape[0]):
        x[i] = value


@bare
def exponential(x):
    """exp(x) as 2 ** whole * 2 ** fraction; what is below 2**-126 becomes that."""
    power = max(x * LOG2_E, np.float32(-126))
    whole = np.floor(power)
    f = power - whole - np.float32(0.5)
    value = EXP2[7]
    value = EXP2[6] + f * value
    value = EXP2[5] + f * value
    value = EXP2[4] + f * value
    value = EXP2[3] + f * value
    value = EXP2[2] + f * value
    value = EXP2[1] + f * value
    return (EXP2[0] + f * value) * as_float((np.int32(whole) + np.int32(127)) << np.int32(23))


@bare
def half(bits):
    """The number that 16 bits hold as IEEE half precision; infinities do not occur."""
    bits = np.int64(bits)
    exponent, fraction = (bits >> 10) & 31, bits & 1023
    size = np.float32(fraction + (1024 if exponent else 0)) * HALF_STEPS[exponent]
    return -size if bits >> 15 else size


@bare
def table_code(row8, first, count, n, bits):
    """The n-th of `count` codes packed from `first` on; widths of two planes included."""
    low = 4 if bits == 6 else (2 if bits == 3 else bits)
    bytes_of_low = (count * low + 7) // 8
    code = (row8[first + n % bytes_of_low] >> (n // bytes_of_low * low)) & ((1 << low) - 1)
    if low != bits:
        high = bits - low
        bytes_of_high = (count * high + 7) // 8
        above = row8[first + bytes_of_low + n % bytes_of_high] >> (n // bytes_of_high * high)
        code |= (above & ((1 << high) - 1)) << low
    return code


@bare
def read_norms(row8, row16, row32, head, sizes, norms):
    """Token norms, float32 [block_size]; ones without token norms."""
    if sizes.norms == NO_NORMS:
        fill(norms, 1)
        return
    base = 0 if sizes.norms_shared else head
    at = (base + sizes.norm_range_at) // 4
    first, second = row32[at], row32[at + 1]
    if sizes.norms == LOG_NORMS:
        codes = row8[base + sizes.norm_codes_at :]
        for t in range(sizes.block_size):
            norms[t] = exponential(first + np.float32(codes[t]) * second)
    else:
        halves = row16[(base + sizes.norm_codes_at) // 2 :]
        for t in range(sizes.block_size):
            norms[t] = half(halves[t]) * first

"""The Hadamard transform inside Triton kernels, and as a kernel of its own."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .reference import power_of_two_factor

ROWS = 16  # of a program: the least that a tensor-core product takes
MOST_CHANNELS = 256  # the matrix is built in registers


@triton.jit
def signs(CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """Sylvester's matrix of +-1 in blocks of WIDTH, fp16 [CHANNELS, CHANNELS]: the parity of i & j."""
    i, j = tl.arange(0, CHANNELS)[:, None], tl.arange(0, CHANNELS)[None, :]
    common = i & j & (WIDTH - 1)
    common ^= common >> 4
    common ^= common >> 2
    common ^= common >> 1
    return tl.where(i // WIDTH == j // WIDTH, 1.0 - 2.0 * (common & 1).to(tl.float32), 0.0).to(tl.float16)


@triton.jit
def sums_of_16(x, WIDTH: tl.constexpr, FINE: tl.constexpr):
    """Rows of x, fp32 [rows >= 16, 16] below 2**10, times signs(16, WIDTH).

    FINE: two fp16 products, of the leading and the trailing bits, keep 22 bits: the matrix is exact in fp16. Else 11.
    """
    high = x.to(tl.float16)
    matrix = signs(16, WIDTH)
    if FINE:
        low = (x - high.to(tl.float32)).to(tl.float16)
        sums = tl.dot(high, matrix, tl.dot(low, matrix))
    else:
        sums = tl.dot(high, matrix)
    return sums


@triton.jit
def power_below(largest):
    """The power of two at or below fp32 numbers, and one over it, both exact; 1 and 1 for 0."""
    bits = largest.to(tl.int32, bitcast=True) & 0x7F800000
    bits = tl.where(bits > 0, bits, 0x3F800000)
    return bits.to(tl.float32, bitcast=True), (0x7F000000 - bits).to(tl.float32, bitcast=True)


@triton.jit
def rotate_small_rows(x, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, FINE: tl.constexpr):
    """Rows of x, fp32 [rows, CHANNELS <= 256] below 2 with at least 16 rows times CHANNELS / 16, rotated; channels past
    the last block must be 0.

    The matrix is a Kronecker product: 16 neighbours are summed, then the same places of up to 16 runs of 16.
    """
    rows: tl.constexpr = x.shape[0]
    runs: tl.constexpr = CHANNELS // 16
    places: tl.constexpr = rows * runs
    x = sums_of_16(tl.reshape(x, (places, 16)), 16 if WIDTH > 16 else WIDTH, FINE)
    if WIDTH > 16:
        x = tl.permute(tl.reshape(x, (rows, runs, 16)), (0, 2, 1))
        x = sums_of_16(tl.reshape(x, (places, 16)), WIDTH // 16, FINE)
        x = tl.permute(tl.reshape(x, (rows, 16, runs)), (0, 2, 1))
    root: tl.constexpr = WIDTH**-0.5
    return tl.reshape(x, (rows, CHANNELS)) * root


@triton.jit
def rotate_rows(x, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """rotate_small_rows() of numbers of any size, to 22 bits: 16-bit states leave nothing to the trailing bits."""
    unit, inverse = power_below(tl.max(tl.abs(x), axis=1))
    return rotate_small_rows(x * inverse[:, None], CHANNELS, WIDTH, True) * unit[:, None]


@triton.jit
def rotate_kernel(
    x, out, rows, HEAD_DIM: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    at = row[:, None] * HEAD_DIM + channel[None, :]
    held = (row < rows)[:, None] & (channel < HEAD_DIM)[None, :]
    rotated = rotate_rows(tl.load(x + at, mask=held, other=0.0).to(tl.float32), CHANNELS, WIDTH)
    tl.store(out + at, rotated.to(out.dtype.element_ty), mask=held)


def refusal_of(x: torch.Tensor) -> str | None:
    """Why the kernel does not take a tensor on a device that runs it, in words; None if it does."""
    if x.dtype == torch.float64:
        return "float64 is rotated in float64"
    if not x.is_contiguous():
        return f"x is not contiguous: strides {x.stride()} for {tuple(x.shape)}"
    if not 0 < x.shape[-1] <= MOST_CHANNELS or x.numel() == 0:
        return f"x has shape {tuple(x.shape)}; the last axis must be 1 to {MOST_CHANNELS} long and x not empty"
    return None


@torch.library.custom_op("oscar_x::hadamard_transform", mutates_args=())
def hadamard_transform(x: torch.Tensor) -> torch.Tensor:
    """The launch; an operator, so that torch.compile neither enters nor breaks at it."""
    head_dim = x.shape[-1]
    out, rows = torch.empty_like(x), x.numel() // head_dim
    channels = max(16, triton.next_power_of_2(head_dim))
    sizes = (head_dim, channels, power_of_two_factor(head_dim))
    rotate_kernel[(triton.cdiv(rows, ROWS),)](x, out, rows, *sizes, ROWS=ROWS, num_warps=4 if channels < 256 else 8)
    return out


@hadamard_transform.register_fake
def _(x):
    return torch.empty_like(x)


def interpreted() -> bool:
    """Whether Triton and the kernels were imported for its interpreter, which runs them on the CPU."""
    return not isinstance(rotate_kernel, triton.JITFunction) and not isinstance(tl.sum, triton.JITFunction)

"""Bit packing inside Triton kernels, and as kernels of its own; reference.py has the order of the codes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .reference import PLANES, plane_bytes

TILE = 1024  # bytes that a program of pack_kernel writes, codes that one of unpack_kernel does


@triton.jit
def place_weights(bytes_, codes, COUNT: tl.constexpr, WIDTH: tl.constexpr, first):
    """What code first + codes adds to byte bytes_ of a plane of COUNT codes of WIDTH bits, fp16; 0 where it lies in
    another byte."""
    length: tl.constexpr = (COUNT * WIDTH + 7) // 8
    n = first + codes
    weight = tl.exp2((n // length * WIDTH).to(tl.float32))
    return tl.where((n % length == bytes_) & (codes < COUNT), weight, 0.0).to(tl.float16)


@triton.jit
def store_rows(pointer, codes, M: tl.constexpr, WIDTH: tl.constexpr, LENGTH: tl.constexpr):
    """A plane: codes fp32 [padded rows, padded cols] below 2**WIDTH, packed down the rows.

    Rows that share a byte are summed by a tensor-core product, exact in fp32, whatever the number of rows.
    """
    padded: tl.constexpr = triton.next_power_of_2(LENGTH) if LENGTH > 16 else 16
    rows: tl.constexpr = codes.shape[0]
    byte, row = tl.arange(0, padded)[:, None], tl.arange(0, rows)[None, :]
    col = tl.arange(0, codes.shape[1])[None, :]
    packed = tl.dot(place_weights(byte, row, M.rows, WIDTH, 0), codes.to(tl.float16))
    held = (byte < LENGTH) & (col < M.cols)
    tl.store(pointer + byte * M.cols + col, packed.to(tl.int32).to(tl.uint8), mask=held)


@triton.jit
def store_codes(head, codes, M: tl.constexpr):
    """codes fp32 [padded rows, padded cols], whole numbers."""
    pointer = head + M.codes_at
    if M.high_bits:
        whole = codes.to(tl.int32)
        store_rows(pointer, (whole & ((1 << M.low_bits) - 1)).to(tl.float32), M, M.low_bits, M.low_rows)
        high = (whole >> M.low_bits).to(tl.float32)
        store_rows(pointer + M.low_rows * M.cols, high, M, M.high_bits, M.high_rows)
    else:
        store_rows(pointer, codes, M, M.low_bits, M.low_rows)


@triton.jit
def pack_plane(codes, n, out, length, byte, held, SHIFT: tl.constexpr, WIDTH: tl.constexpr):
    """A plane: `length` bytes of each row, of the WIDTH bits from SHIFT on of its n codes."""
    held &= byte < length
    packed = tl.zeros(held.shape, tl.int32)
    for place in tl.static_range(8 // WIDTH):
        # the last places of a byte may have no codes left
        code = byte + place * length
        whole = tl.load(codes + code, mask=held & (code < n), other=0).to(tl.int32)
        packed |= ((whole >> SHIFT) & ((1 << WIDTH) - 1)) << (place * WIDTH)
    tl.store(out + byte, packed.to(tl.uint8), mask=held)


@triton.jit
def pack_kernel(
    codes, out, rows, n, low_bytes, high_bytes, tiles,
    LOW: tl.constexpr, HIGH: tl.constexpr, ROWS: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """A program: ROWS rows of codes [rows, n] to a tile of the BYTES bytes of either plane."""
    row = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    byte = (tl.program_id(0) % tiles).to(tl.int64) * BYTES + tl.arange(0, BYTES)[None, :]
    codes += row * n
    out += row * (low_bytes + high_bytes)
    held = (row < rows) & (byte >= 0)
    pack_plane(codes, n, out, low_bytes, byte, held, 0, LOW)
    if HIGH:
        pack_plane(codes, n, out + low_bytes, high_bytes, byte, held, LOW, HIGH)


@triton.jit
def unpack_plane(packed, length, code, held, WIDTH: tl.constexpr):
    """The WIDTH bits, int32, that a plane of `length` bytes of each row has of its codes."""
    byte = tl.load(packed + code % length, mask=held, other=0).to(tl.int32)
    return (byte >> (code // length * WIDTH).to(tl.int32)) & ((1 << WIDTH) - 1)


@triton.jit
def unpack_kernel(
    packed, out, rows, n, low_bytes, high_bytes, tiles,
    LOW: tl.constexpr, HIGH: tl.constexpr, ROWS: tl.constexpr, CODES: tl.constexpr,
):  # fmt: skip
    """A program: a tile of CODES codes of ROWS rows, out [rows, n]."""
    row = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    code = (tl.program_id(0) % tiles).to(tl.int64) * CODES + tl.arange(0, CODES)[None, :]
    packed += row * (low_bytes + high_bytes)
    held = (row < rows) & (code < n)
    whole = unpack_plane(packed, low_bytes, code, held, LOW)
    if HIGH:
        whole |= unpack_plane(packed + low_bytes, high_bytes, code, held, HIGH) << LOW
    tl.store(out + row * n + code, whole.to(tl.uint8), mask=held)


def refusal_of(name: str, tensor: torch.Tensor) -> str | None:
    """Why the kernels do not take a tensor on a device that runs them, in words; None if they do."""
    if not tensor.is_contiguous():
        return f"{name} is not contiguous: strides {tensor.stride()} for {tuple(tensor.shape)}"
    if tensor.numel() == 0:
        return f"{name} is empty: {tuple(tensor.shape)}"
    return None


@torch.library.custom_op("oscar_x::pack_bits", mutates_args=())
def pack_bits(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """The launch; an operator, so that torch.compile neither enters nor breaks at it."""
    n, planes = codes.shape[-1], _planes(codes.shape[-1], bits)
    out = codes.new_empty((*codes.shape[:-1], sum(planes)))
    _launch(pack_kernel, codes, out, codes.numel() // n, n, planes, bits, planes[0])
    return out


@pack_bits.register_fake
def _(codes, bits):
    return codes.new_empty((*codes.shape[:-1], sum(_planes(codes.shape[-1], bits))))


@torch.library.custom_op("oscar_x::unpack_bits", mutates_args=())
def unpack_bits(packed: torch.Tensor, bits: int, n: int) -> torch.Tensor:
    """The inverse's launch."""
    out = packed.new_empty((*packed.shape[:-1], n))
    _launch(unpack_kernel, packed, out, out.numel() // n, n, _planes(n, bits), bits, n)
    return out


@unpack_bits.register_fake
def _(packed, bits, n):
    return packed.new_empty((*packed.shape[:-1], n))


def _planes(n: int, bits: int) -> tuple[int, int]:
    """Bytes of the planes of n codes."""
    low, *high = (plane_bytes(n, width) for width in PLANES[bits])
    return low, sum(high)


def _launch(
    kernel: triton.JITFunction, given: torch.Tensor, out: torch.Tensor, rows: int, n: int, planes: tuple[int, int],
    bits: int, length: int,
) -> None:  # fmt: skip
    """A program a tile of `length` numbers of a row, or of several short rows."""
    low, high = (*PLANES[bits], 0)[:2]
    columns = min(TILE, triton.next_power_of_2(length))
    tiles, rows_together = triton.cdiv(length, columns), TILE // columns
    grid = (triton.cdiv(rows, rows_together) * tiles,)
    kernel[grid](given, out, rows, n, *planes, tiles, low, high, rows_together, columns)

"""Instructions on several small numbers of a register at once, which Triton's compiler does not find by itself.

Every operation works element by element, so that it does not matter which elements share a register. The interpreter
runs no assembly: the plain form beside each is for it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..hadamard.triton import interpreted

COMPILED = tl.constexpr(not interpreted())


@triton.jit
def widen(x):
    """uint8 -> uint16. Two byte permutations for four bytes; the compiler's own way takes bytes apart one by one."""
    if COMPILED:
        wide = tl.inline_asm_elementwise(
            "prmt.b32 $0, $2, 0, 0x4140; prmt.b32 $1, $2, 0, 0x4342;", "=r,=r,r", [x],
            dtype=tl.uint16, is_pure=True, pack=4,
        )  # fmt: skip
    else:
        wide = x.to(tl.uint16)
    return wide


@triton.jit
def kept_bits(x, mask):
    """x & mask, uint16, as the bits of fp16 numbers."""
    if COMPILED:
        number = tl.inline_asm_elementwise(
            "and.b32 $0, $1, $2;", "=r,r,r", [x, mask], dtype=tl.float16, is_pure=True, pack=2
        )
    else:
        number = (x & mask).to(tl.float16, bitcast=True)
    return number


@triton.jit
def nibble(x, HIGH: tl.constexpr):
    """The lower or, where it stands, the higher four bits of uint8."""
    if COMPILED:
        instruction: tl.constexpr = "and.b32 $0, $1, 0xF0F0F0F0;" if HIGH else "and.b32 $0, $1, 0x0F0F0F0F;"
        bits = tl.inline_asm_elementwise(instruction, "=r,r", [x], dtype=tl.uint8, is_pure=True, pack=4)
    else:
        bits = x & (240 if HIGH else 15)
    return bits


@triton.jit
def _later(_, second):
    return second


@triton.jit
def settled(x):
    """x [n, m], computed in the layout in which it was loaded.

    Triton moves and repeats no computation across a scan, and one that keeps every element leaves no instruction
    behind. It would compute a group's scales in the layout that a tensor-core product wants its second factor in, once
    for each of 8 query rows, instead of passing them through shared memory.
    """
    return tl.associative_scan(x, 1, _later) if COMPILED else x

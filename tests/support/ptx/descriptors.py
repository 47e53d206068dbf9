"""Matrices in shared memory as wgmma's 64-bit descriptors tell where they are, by the PTX ISA's canonical layouts.

Numbers of 16 bits. Without a swizzle a core matrix is 8 rows of 16 bytes next to each other; with one of 32, 64 or 128
bytes a row is that long, and bits of the address choose, by exclusive or, where its pieces of 16 bytes lie.
"""

from __future__ import annotations

import numpy as np

from .registry import EmulationError

DEPTH = 16  # products of numbers of 16 bits sum up so many
ROW_BYTES = {0: 16, 1: 128, 2: 64, 3: 32}  # by the swizzle mode of a descriptor


def addresses_of_matrix(descriptor: int, rows: int, trans: bool) -> np.ndarray:
    """Where the elements of a factor lie, int64 [rows, DEPTH]; rows are those of A, or the columns of B.

    `trans`: neighbours in memory differ in the row (MN-major), not in the depth (K-major).
    """
    start, leading, stride = ((descriptor >> at & 0x3FFF) << 4 for at in (0, 16, 32))
    if descriptor >> 49 & 7:
        raise EmulationError(f"not emulated: base offset of the matrix descriptor {descriptor:#x}")
    mode = descriptor >> 62
    width = ROW_BYTES[mode]
    row, depth = np.arange(rows)[:, None], np.arange(DEPTH)[None, :]
    if trans:
        held = width // 2
        far, deep = (stride, leading) if mode == 0 else (leading, stride)
        at = row % held * 2 + row // held * far + depth % 8 * width + depth // 8 * deep
    elif mode == 0:
        at = row % 8 * width + row // 8 * stride + depth % 8 * 2 + depth // 8 * leading
    else:
        at = row % 8 * width + row // 8 * stride + depth * 2
    return swizzled(start + at.astype(np.int64), width)


def swizzled(addresses: np.ndarray, width: int) -> np.ndarray:
    """Bits 7 and up flip bits 4 and up: three of them for 128 bytes, two for 64, one for 32, none for 16."""
    return addresses ^ (addresses >> 7 & (width // 16 - 1)) << 4

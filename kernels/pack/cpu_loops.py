"""Bit packing as compiled loops, into bytes where they belong: eight codes at a time, which stay in their bytes of a
word, and the last few of a place one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from ..cpu_compile import kept_strict, strict
from ..decode_attention.cpu_ir import I64, Place
from ..decode_attention.cpu_vectors import next_item

WORD = 8
ONES = np.uint64(0x0101010101010101)


@intrinsic
def word(typing: Any, array: Any, at: Any) -> Any:
    """Eight bytes from array[at] on, wherever they lie: rows of an odd length start anywhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return Place(context, builder, array, args[0], args[1]).load(0, I64)

    return types.uint64(array, types.int64), generate


@intrinsic
def set_word(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """The same, stored."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        Place(context, builder, array, args[0], args[1]).store(args[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), generate


@strict
def pack_plane(codes, count, shift, width, length, out):
    """A plane: `width` bits, from bit `shift` on, of codes[:count] to out[:length]; reference.py has the order."""
    mask = (1 << width) - 1
    masks, down = ONES * np.uint64(mask), np.uint64(shift)
    for place in range(8 // width):
        # the last places of a byte may have no codes left
        at = min(place * length, count)
        first, left, up = codes[at:], min(length, count - at), np.uint64(place * width)
        whole = left // WORD * WORD
        if place == 0:
            for i in range(0, whole, WORD):
                set_word(out, i, (word(first, i) >> down) & masks)
            for i in range(whole, left):
                out[i] = (first[i] >> shift) & mask
        else:
            for i in range(0, whole, WORD):
                set_word(out, i, word(out, i) | (((word(first, i) >> down) & masks) << up))
            for i in range(whole, left):
                out[i] |= ((first[i] >> shift) & mask) << (place * width)


@strict
def unpack_plane(packed, length, width, shift, codes, count):
    """The inverse: to the bits from `shift` on of codes[:count], of which the first plane, shift 0, writes all."""
    mask = (1 << width) - 1
    masks, up = ONES * np.uint64(mask), np.uint64(shift)
    for place in range(8 // width):
        at = min(place * length, count)
        first, left, down = codes[at:], min(length, count - at), np.uint64(place * width)
        whole = left // WORD * WORD
        if shift == 0:
            for i in range(0, whole, WORD):
                set_word(first, i, (word(packed, i) >> down) & masks)
            for i in range(whole, left):
                first[i] = (packed[i] >> (place * width)) & mask
        else:
            for i in range(0, whole, WORD):
                set_word(first, i, word(first, i) | (((word(packed, i) >> down) & masks) << up))
            for i in range(whole, left):
                first[i] |= ((packed[i] >> (place * width)) & mask) << shift


@strict
def pack_codes(codes, count, low_bits, low_length, high_bits, high_length, out):
    """codes[:count], uint8, to bytes of out, in two planes where high_bits is not 0.

    Rows of a matrix are packed as one run: [rows, cols] with planes of cols times the bytes of a column.
    """
    for plane in range(2 if high_bits else 1):
        width, length = (high_bits, high_length) if plane else (low_bits, low_length)
        pack_plane(codes, count, plane * low_bits, width, length, out[plane * low_length :])


@strict
def unpack_codes(packed, low_bits, low_length, high_bits, high_length, codes, count):
    """The inverse of pack_codes."""
    for plane in range(2 if high_bits else 1):
        width, length = (high_bits, high_length) if plane else (low_bits, low_length)
        unpack_plane(packed[plane * low_length :], length, width, plane * low_bits, codes, count)


@kept_strict("packing bits", 1)
def pack_every_row(files):
    def pack_every_row(codes, out, low_bits, low_length, high_bits, high_length, share, counter):
        """Rows of codes [rows, count] to rows of out, `share` at a time, as long as `counter` has any."""
        rows = codes.shape[0] if files else 0
        first = next_item(counter, 0) * share
        while first < rows:
            for r in range(first, min(first + share, rows)):
                pack_codes(codes[r], codes.shape[1], low_bits, low_length, high_bits, high_length, out[r])
            first = next_item(counter, 0) * share

    return pack_every_row


@kept_strict("unpacking bits", 1)
def unpack_every_row(files):
    def unpack_every_row(packed, codes, low_bits, low_length, high_bits, high_length, share, counter):
        """The inverse of pack_every_row, shared out alike."""
        rows = codes.shape[0] if files else 0
        first = next_item(counter, 0) * share
        while first < rows:
            for r in range(first, min(first + share, rows)):
                unpack_codes(packed[r], low_bits, low_length, high_bits, high_length, codes[r], codes.shape[1])
            first = next_item(counter, 0) * share

    return unpack_every_row

"""Bit packing as compiled loops, into bytes where they belong."""

from __future__ import annotations

import numpy as np

from ..cpu_compile import strict

WORD = 8
ONES = np.uint64(0x0101010101010101)


@strict
def pack_plane(codes, count, shift, width, length, out):
    """A plane: `width` bits, from bit `shift` on, of codes[:count] to out[:length]; reference.py has the order.

    Eight codes at a time, which stay in their bytes of a word; where length is no multiple of 8, one.
    """
    mask = (1 << width) - 1
    masks, down = ONES * np.uint64(mask), np.uint64(shift)
    words = length // WORD if length % WORD == 0 else 0
    targets = out[: words * WORD].view(np.uint64)
    for place in range(8 // width):
        # the last places of a byte may have no codes left
        at = min(place * length, count)
        first, left, up = codes[at:], min(length, count - at), np.uint64(place * width)
        done = min(words, left // WORD)
        sources = first[: done * WORD].view(np.uint64)
        if place == 0:
            for i in range(done):
                targets[i] = (sources[i] >> down) & masks
            for i in range(done * WORD, length):
                out[i] = (first[i] >> shift) & mask
        else:
            for i in range(done):
                targets[i] |= ((sources[i] >> down) & masks) << up
            for i in range(done * WORD, left):
                out[i] |= ((first[i] >> shift) & mask) << (place * width)


@strict
def pack_codes(codes, count, low_bits, low_length, high_bits, high_length, out):
    """codes[:count], uint8, to bytes of out, in two planes where high_bits is not 0.

    Rows of a matrix are packed as one run: [rows, cols] with planes of cols times the bytes of a column.
    """
    for plane in range(2 if high_bits else 1):
        width, length = (high_bits, high_length) if plane else (low_bits, low_length)
        pack_plane(codes, count, plane * low_bits, width, length, out[plane * low_length :])

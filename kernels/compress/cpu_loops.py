"""Compression on a CPU: what each thread runs (cpu.py hands out the items).

Arithmetic is that of reference.py, operation by operation, but for the order of two sums (rotation and norms),
logarithms and exponentials.
"""

from __future__ import annotations

import numpy as np

from ..cpu_compile import kept_strict, strict, strict_inlined
from ..decode_attention.cpu_loops import fill
from ..decode_attention.cpu_sizes import LOG_NORMS, NO_NORMS
from ..decode_attention.cpu_vectors import next_item
from ..hadamard.cpu_loops import rotate_row
from ..layout import MOST_DAMPING, NORM_KNEE
from ..pack.cpu_loops import pack_codes
from .cpu_states import load_row, spread, sum_of_squares, transpose
from .cpu_tables import group_ranges, nearest, to_half, write_table

NORM_LEVELS = np.float32(255)
KNEE, DAMPING = np.float32(NORM_KNEE), np.float32(MOST_DAMPING)


@strict
def load_head(states, at, sizes, rotates, s):
    """One head's tokens of a block to s.tokens; places past head_dim stay 0."""
    for t in range(sizes.block_size):
        row = s.tokens[t]
        load_row(states, at + t * states.token, sizes.head_dim, row, s.bits[t])
        if rotates:
            rotate_row(row, sizes.head_dim, sizes.rotated_width)


@strict
def damp(norms):
    """reference.damped in place."""
    total = 0.0
    for t in range(norms.shape[0]):
        total += norms[t]
    knee = KNEE * np.float32(total / norms.shape[0])
    divisor = knee if knee > 0 else np.float32(1)
    for t in range(norms.shape[0]):
        beyond = norms[t] / divisor
        norms[t] /= min(max(beyond * beyond, np.float32(1)), DAMPING)


@strict
def store_norms(row8, row16, row32, head, sizes, s):
    """s.norms from s.squares, both [block_size]: to the record, and as they will be read."""
    base = 0 if sizes.norms_shared else head
    norms, size = s.norms, sizes.block_size
    for t in range(size):
        norms[t] = np.float32(np.sqrt(s.squares[t]))
    if sizes.norms_damped:
        damp(norms)
    for t in range(size):
        norms[t] = norms[t] if norms[t] > 0 else np.float32(1)
    span = row32[(base + sizes.norm_range_at) // 4 :]
    if sizes.norms == LOG_NORMS:
        codes, logs = row8[base + sizes.norm_codes_at :], s.logs
        for t in range(size):
            logs[t] = np.log(norms[t])
        low, high = spread(logs)
        step = (high - low) / NORM_LEVELS
        divisor = step if step > 0 else np.float32(1)
        for t in range(size):
            code = nearest((logs[t] - low) / divisor, NORM_LEVELS)
            codes[t] = np.uint8(code)
            norms[t] = np.exp(code * step + low)
        span[0], span[1] = low, step
        return
    halves, most = row16[(base + sizes.norm_codes_at) // 2 :], spread(norms)[1]
    for t in range(size):
        halves[t], ratio = to_half(norms[t] / most)
        # a norm that becomes zero beside a huge one: the token is divided by its own and read back as zero
        norms[t] = ratio * most if ratio * most > 0 else norms[t]
    span[0], span[1] = most, 0


@strict
def divide_norms(sizes, s):
    for t in range(sizes.block_size):
        row, norm = s.tokens[t], s.norms[t]
        for c in range(row.shape[0]):
            row[c] /= norm


@strict
def store_matrix(x, flat, row8, row16, head, matrix, s):
    """Quantizes and packs x [rows, cols], groups down its rows; returns its amplitude."""
    low, high = spread(flat)
    amplitude = max(-low, high)
    amplitude = amplitude if amplitude > 0 else np.float32(1)
    group_ranges(x, amplitude, matrix, s.scale, s.minimum)
    write_table(row8, row16, head, matrix, s)
    most, cols = np.float32((1 << (matrix.low_bits + matrix.high_bits)) - 1), matrix.cols
    for g in range(matrix.groups):
        minimum, scale = s.minimum[g], s.scale[g]
        for c in range(cols):
            scale[c] = scale[c] if scale[c] > 0 else np.float32(1)
        for r in range(g * matrix.width, min((g + 1) * matrix.width, matrix.rows)):
            row, codes = x[np.uint64(r)], s.codes[r * cols : (r + 1) * cols]
            for c in range(cols):
                codes[c] = np.uint8(nearest((row[c] / amplitude - minimum[c]) / scale[c], most))
    lengths = matrix.low_rows * cols, matrix.high_rows * cols
    out = row8[head + matrix.codes_at :]
    pack_codes(s.codes, matrix.rows * cols, matrix.low_bits, lengths[0], matrix.high_bits, lengths[1], out)
    return amplitude


@strict
def add_squares(sizes, s):
    for t in range(sizes.block_size):
        s.squares[t] += sum_of_squares(s.tokens[t], s.tokens.shape[1])


@strict
def shared_norms(keys, at, row8, row16, row32, sizes, heads, s):
    """Norms over all heads of a token."""
    fill(row8[: sizes.shared_bytes], 0)
    for h in range(heads):
        load_head(keys, at + h * keys.head, sizes, sizes.rotates_keys, s)
        add_squares(sizes, s)
    store_norms(row8, row16, row32, sizes.shared_bytes, sizes, s)


@strict_inlined
def compress_head(keys, values, key, value, row8, row16, row32, head, sizes, rotates_values, s):
    """One head of a block: keys from element `key` on, values from `value` on, to byte `head` of a record on."""
    fill(row8[head : head + sizes.head_bytes], 0)
    amplitudes = row32[(head + sizes.amplitude_at) // 4 :]
    for part in range(2):  # a loop, as each call in the source is compiled again
        states, first = (values, value) if part else (keys, key)
        matrix, x = (sizes.values if part else sizes.keys), s.tokens
        load_head(states, first, sizes, rotates_values if part else sizes.rotates_keys, s)
        if part == 0 and sizes.norms != NO_NORMS:
            if not sizes.norms_shared:
                fill(s.squares, 0)
                add_squares(sizes, s)
                store_norms(row8, row16, row32, head, sizes, s)
            divide_norms(sizes, s)
        if not matrix.range_a_group:
            x = s.channels
            transpose(s.tokens, x)
        amplitudes[part] = store_matrix(x, s.flat, row8, row16, head, matrix, s)


@kept_strict("packing blocks", 8)
def compress_items(files):
    def compress_items(keys, values, blocks, heads, records, ids, sizes, rotates_values, counter, s):
        """Blocks and heads, as long as `counter` has any, to records[ids]; whole blocks where heads share norms."""
        parts = 1 if sizes.norms_shared else heads
        item = next_item(counter, 0)
        while item < (blocks * parts if files else 0):
            b, h = item // parts, item % parts
            at = ids[b] * records.stride
            row8 = records.bytes[at : at + records.stride]
            row16, row32 = row8.view(np.uint16), row8.view(np.float32)
            key, value = b * keys.block, b * values.block
            if sizes.norms_shared:
                fill(s.squares, 0)
                shared_norms(keys, key, row8, row16, row32, sizes, heads, s)
            for head in range(0 if sizes.norms_shared else h, heads if sizes.norms_shared else h + 1):
                start = sizes.shared_bytes + head * sizes.head_bytes
                k, v = key + head * keys.head, value + head * values.head
                compress_head(keys, values, k, v, row8, row16, row32, start, sizes, rotates_values, s)
            item = next_item(counter, 0)

    return compress_items

"""Attention over exact tokens in the compiled loops, beside packed blocks: sinks, residual window, new tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from ..cpu_compile import bare
from .cpu_features import BFLOAT16
from .cpu_loops import fill

# what moves a half's exponent to a single's
HALF_TO_SINGLE = np.float32(2.0**112)


class ExactStates(NamedTuple):
    """Exact keys and values as the loops take them.

    Attributes:
        keys, values: one axis, float32, or uint16 with the bits of the 16-bit number that `kind` says.
        kind: of cpu_features.KINDS.
        key_at, value_at: elements from one sequence, head and token to the next.
    """

    keys: np.ndarray
    values: np.ndarray
    kind: int
    key_at: tuple[int, int, int]
    value_at: tuple[int, int, int]


def read_token(source, at, kind, line, width):
    """line[:width] = the numbers of source from `at` on, as float32."""


@overload(read_token)
def _read_token(source, at, kind, line, width):
    if source.dtype == types.float32:

        def read_single(source, at, kind, line, width):
            row = source[at : at + width]
            for c in range(width):
                line[c] = row[c]

        return read_single

    def read_short(source, at, kind, line, width):
        row, bits = source[at : at + width], line.view(np.int32)
        if kind == BFLOAT16:
            for c in range(width):
                bits[c] = np.int32(row[c]) << 16
            return
        for c in range(width):
            bits[c] = np.int32(row[c] & 0x7FFF) << 13
        for c in range(width):
            line[c] *= HALF_TO_SINGLE
        for c in range(width):
            bits[c] |= np.int32(row[c] >> 15) << 31

    return read_short


@bare
def exact_scores(states, first, count, s):
    """Products of s.queries with the keys of `count` tokens, the first at `first`, to s.weights; -inf after them."""
    queries, scores, width = s.queries.exact, s.weights.exact, s.queries.exact.shape[1]
    for t in range(count):
        read_token(states.keys, first + t * states.key_at[2], states.kind, s.line, width)
        for m in range(queries.shape[0]):
            row, total = queries[m], np.float32(0)
            for c in range(width):
                total += row[c] * s.line[c]
            scores[m, t] = total
    for m in range(scores.shape[0]):
        fill(scores[m, count:], -np.inf)


@bare
def add_exact_values(states, first, count, s, part):
    """part [rows, head_dim] = part * s.keep + the values of `count` tokens weighted with s.weights."""
    weights, width = s.weights.exact, part.shape[1]
    for m in range(part.shape[0]):
        row, keep = part[m], s.keep[m]
        for d in range(width):
            row[d] *= keep
    for t in range(count):
        read_token(states.values, first + t * states.value_at[2], states.kind, s.line, width)
        for m in range(part.shape[0]):
            row, weight = part[m], weights[m, t]
            for d in range(width):
                row[d] += weight * s.line[d]

"""Attention over exact tokens in the compiled loops, beside packed blocks: sinks, residual window, new tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import types
from numba.extending import overload

from ..cpu_compile import bare
from .cpu_loops import fill

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2
KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
# what moves a half's exponent to a single's
HALF_TO_SINGLE = np.float32(2.0**112)


class ExactStates(NamedTuple):
    """Exact keys and values as the loops take them.

    Attributes:
        keys, values: one axis, float32, or uint16 with the bits of the 16-bit number that `kind` says.
        key_at, value_at: elements from one sequence, head and token to the next.
        lengths: int64 [batch], tokens of each sequence; of no elements where there are none at all.
    """

    keys: np.ndarray
    values: np.ndarray
    kind: int
    key_at: tuple[int, int, int]
    value_at: tuple[int, int, int]
    lengths: np.ndarray


def exact_states(keys: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor | None) -> ExactStates:
    """keys, values [batch, heads, tokens, head_dim] of float32, bfloat16 or float16, as views."""
    batch, _, tokens, _ = keys.shape
    counts = np.full(batch, tokens) if lengths is None else lengths.numpy()
    (a, b, c, _), (d, e, f, _) = keys.stride(), values.stride()
    return ExactStates(_flat(keys), _flat(values), KINDS[keys.dtype], (a, b, c), (d, e, f), counts)


def no_states(dtype: torch.dtype) -> ExactStates:
    """Of the types of exact_states for queries of a dtype, so that the loops are not compiled for them apart."""
    nothing = np.empty(0, np.float32 if dtype == torch.float32 else np.uint16)
    return ExactStates(nothing, nothing, KINDS[dtype], (0, 0, 0), (0, 0, 0), np.empty(0, np.int64))


def _flat(states: torch.Tensor) -> np.ndarray:
    last = sum((size - 1) * stride for size, stride in zip(states.shape, states.stride(), strict=True))
    flat = states.as_strided((last + 1,), (1,))
    return flat.numpy() if states.dtype == torch.float32 else flat.view(torch.uint16).numpy()


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


def can_join(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether the loops read exact tokens of these types beside queries of that one."""
    return query.dtype in KINDS and keys.dtype == values.dtype == query.dtype and keys.shape[2] > 0

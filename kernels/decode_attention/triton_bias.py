"""The share of a rotary-embedded key bias in the scores, inside Triton kernels.

A query times the bias as it stands at position p is a sum over the rotary pairs of two numbers of the query times the
cosine and sine of p's angle. Angles are fp32 products, as the models compute them, so every token's are computed anew.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from .triton_record import product


class BiasTiles(NamedTuple):
    """Rotary pairs (0 without a bias), the same rounded up to a power of two of at least 16, position axes (0: blocks
    are consecutive positions), and the entries of one axis of the positions."""

    pairs: int
    pairs_padded: int
    axes: int
    axis_stride: int


@triton.jit
def fold_bias(query, row_at, held, bias, kv_head, R: tl.constexpr, B: tl.constexpr):
    """What is multiplied by cosines, by sines, and taken as it is: fp32 [rows, pairs] twice and [rows]."""
    pair = tl.arange(0, B.pairs_padded)[None, :]
    used = pair < B.pairs
    bias += kv_head * R.head_dim
    first, second = tl.load(bias + pair, mask=used, other=0.0), tl.load(bias + B.pairs + pair, mask=used, other=0.0)
    at = query + row_at + pair
    q1 = tl.load(at, mask=held & used, other=0.0).to(tl.float32)
    q2 = tl.load(at + B.pairs, mask=held & used, other=0.0).to(tl.float32)
    channel = tl.arange(0, R.channels)[None, :]
    rest = (channel >= 2 * B.pairs) & (channel < R.head_dim)
    q3 = tl.load(query + row_at + channel, mask=held & rest, other=0.0).to(tl.float32)
    still = tl.sum(q3 * tl.load(bias + channel, mask=rest, other=0.0), axis=1)
    return q1 * first + q2 * second, q2 * first - q1 * second, still


@triton.jit
def bias_scores(
    cosines, sines, still, attention_scaling, inv_freq, axes, positions, entry, B: tl.constexpr, R: tl.constexpr
):
    """fp32 [block_size, rows], from what fold_bias returns."""
    pair, token = tl.arange(0, B.pairs_padded)[None, :], tl.arange(0, R.block_size)[:, None]
    used = pair < B.pairs
    if B.axes:
        axis = tl.load(axes + pair, mask=used, other=0)
        position = tl.load(positions + axis * B.axis_stride + entry * R.block_size + token)
    else:
        position = tl.load(positions + entry) + token
    angle = position.to(tl.float32) * tl.load(inv_freq + pair, mask=used, other=0.0)
    largest = tl.maximum(tl.max(tl.abs(cosines), axis=1), tl.max(tl.abs(sines), axis=1))
    unit = tl.where(largest > 0, largest, 1.0)  # a bias of norm 900 times a query leaves fp16
    turning = product(tl.cos(angle), tl.trans(cosines / unit[:, None]), True)
    turning += product(tl.sin(angle), tl.trans(sines / unit[:, None]), True)
    return turning * (unit * attention_scaling)[None, :] + still[None, :]

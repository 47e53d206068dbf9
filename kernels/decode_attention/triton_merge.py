"""Joins the shares of split_kernel and attention over exact tokens by their log-sum-exp, and rotates back."""

from __future__ import annotations

import triton
import triton.language as tl

from ..hadamard.triton import signs


@triton.jit
def join(most, total, part, scores, values):
    """Takes scores [n] of values [n, channels] into a running softmax: highest score, sum of weights, weighted sum."""
    higher = tl.maximum(most, tl.max(scores, axis=0))
    base = tl.where(higher == float("-inf"), 0.0, higher)
    weights, shrink = tl.exp(scores - base), tl.exp(most - base)
    total = total * shrink + tl.sum(weights, axis=0)
    return higher, total, part * shrink + tl.sum(weights[:, None] * values, axis=0)


@triton.jit
def rotate_back(x, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """fp32 [CHANNELS] -> the same, rotated in fp32: 16 neighbours are summed, then the same places of runs of 16."""
    low: tl.constexpr = 16 if WIDTH > 16 else WIDTH
    high: tl.constexpr = WIDTH // low
    x = tl.reshape(x, (CHANNELS // low, low))
    # the matrix is symmetric; as x[:, :, None] times matrix[None], summed over axis 1, Triton's compiler takes it for a
    # tl.dot from 16 x 16 x 16 on, and rounds to TF32
    x = tl.sum(x[:, None, :] * signs(low, low).to(tl.float32)[None, :, :], axis=2)
    if high > 1:
        x = tl.reshape(x, (CHANNELS // WIDTH, high, low))
        x = tl.sum(x[:, :, None, :] * signs(high, high).to(tl.float32)[None, :, :, None], axis=1)
    root: tl.constexpr = WIDTH**-0.5
    return tl.reshape(x, (CHANNELS,)) * root


@triton.jit
def join_shares(
    part, lse, most, total, result, first_share, last_share, program, rows, R: tl.constexpr, CHUNK: tl.constexpr
):
    """join() of the shares from first_share on, before last_share, of one row."""
    channel = tl.arange(0, R.channels)
    for first in range(first_share, last_share, CHUNK):
        share = first + tl.arange(0, CHUNK)
        at = share.to(tl.int64) * rows + program
        scores = tl.load(lse + at, mask=share < last_share, other=float("-inf"))
        held = (scores > float("-inf"))[:, None] & (channel < R.head_dim)[None, :]
        shares = tl.load(part + at[:, None] * R.head_dim + channel[None, :], mask=held, other=0.0)
        most, total, result = join(most, total, result, scores, shares)
    return most, total, result


# numbers that change while decoding: a launch compiled for 16 shares must serve 17
@triton.jit(do_not_specialize=["shares", "exact_shares"])
def merge_kernel(
    part, part_lse, output, lse, shares, exact_shares, R: tl.constexpr, CHUNK: tl.constexpr, EXACT_CHUNK: tl.constexpr
):
    """Grid (batch * heads * rows), one program a row.

    part, part_lse: split_kernel's output and lse: shares of packed blocks, not rotated back, then exact_shares more.
    Writes output fp32 [batch * heads * rows, head_dim] and lse fp32 [batch * heads * rows].
    """
    program, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    channels: tl.constexpr = R.channels
    channel = tl.arange(0, channels)
    most, total = tl.full([], float("-inf"), tl.float32), tl.zeros([], tl.float32)
    result = tl.zeros([channels], tl.float32)
    most, total, result = join_shares(part, part_lse, most, total, result, 0, shares, program, rows, R, CHUNK)
    if R.rotate_values:
        result = rotate_back(result, R.channels, R.rotation)
    last = shares + exact_shares
    most, total, result = join_shares(part, part_lse, most, total, result, shares, last, program, rows, R, EXACT_CHUNK)
    unit = tl.where(total > 0, total, 1.0)
    tl.store(output + program * R.head_dim + channel, result / unit, mask=channel < R.head_dim)
    tl.store(lse + program, tl.where(total > 0, most + tl.log(unit), float("-inf")))

"""A share of the exact tokens, attended to beside the shares of the packed blocks."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_assembly import COMPILED
from .triton_record import LOG2_E

# exact tokens of a program: as many bytes in 16 bits as half a packed block of 128 tokens has in every preset
EXACT_SLOTS = tl.constexpr(32)


@triton.jit
def fine_product(a, b):
    """a [m, k] times b [k, n], fp32: products of 16-bit numbers are exact, others have 24 bits."""
    if COMPILED and a.dtype == b.dtype and a.dtype != tl.float32:  # the interpreter multiplies no bf16
        result = tl.dot(a, b)
    else:
        result = tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return result


@triton.jit
def weighted(values, weights):
    """values [m, k] times weights fp32 [k, n], fp32; weights keep at least 16 bits."""
    if not COMPILED or values.dtype == tl.float32:
        result = tl.dot(values.to(tl.float32), weights, input_precision="ieee")
    else:
        high = weights.to(values.dtype)
        low = (weights - high.to(tl.float32)).to(values.dtype)
        result = tl.dot(values, high, tl.dot(values, low))
    return result


@triton.jit
def exact_share(
    query, keys, values, visible, lengths, share, sequence, kv_head, row,
    rows, slots, scaling,
    query_row, key_batch, key_head, key_slot, value_batch, value_head, value_slot,
    visible_batch, visible_row, visible_slot,
    R: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Attention of a tile of query rows over EXACT_SLOTS slots.

    Args:
        query: of the sequence and KV head; keys, values: [batch, heads, slots, head_dim] by strides.
        lengths: int64 [batch], slots of each sequence that hold a token, or None for all.

    Returns:
        Highest scores in powers of two, sums of weights, both fp32 [query rows], and weighted values fp32
        [channels, query rows].
    """
    channel = tl.arange(0, R.channels)
    there = slots
    if lengths is not None:
        there = tl.minimum(tl.maximum(tl.load(lengths + sequence), 0), slots).to(tl.int32)
    slot = (share * EXACT_SLOTS + tl.arange(0, EXACT_SLOTS)).to(tl.int64)
    held = (slot < there)[:, None] & (channel < R.head_dim)[None, :]
    keys += sequence * key_batch + kv_head.to(tl.int64) * key_head
    values += sequence * value_batch + kv_head.to(tl.int64) * value_head
    k = tl.load(keys + slot[:, None] * key_slot + channel[None, :], mask=held, other=0.0)
    v = tl.load(values + slot[:, None] * value_slot + channel[None, :], mask=held, other=0.0)
    asked = (row < rows)[:, None] & (channel < R.head_dim)[None, :]
    q = tl.load(query + row.to(tl.int64)[:, None] * query_row + channel[None, :], mask=asked, other=0.0)
    scores = fine_product(k, tl.trans(q)) * (scaling * LOG2_E)
    seen = (slot < there)[:, None]
    if MASKED:
        at = visible + sequence * visible_batch + row.to(tl.int64)[None, :] * visible_row + slot[:, None] * visible_slot
        seen = seen & (tl.load(at, mask=seen & (row < rows)[None, :], other=0) != 0)
    scores = tl.where(seen, scores, float("-inf"))
    most = tl.max(scores, axis=0)
    weights = tl.exp2(scores - tl.where(most == float("-inf"), 0.0, most)[None, :])
    return most, tl.sum(weights, axis=0), weighted(tl.trans(v), weights)

"""Reading a packed record inside Triton kernels: codes, scales and minimums, token norms."""

from __future__ import annotations

import triton
import triton.language as tl

# Codes are used as fp16 numbers without a conversion: the bits of a small integer are a subnormal number, which tensor
# cores multiply exactly.
CODE_UNIT = tl.constexpr(2.0**24)


@triton.jit
def read_codes(head, M: tl.constexpr):
    """A head's codes over CODE_UNIT, fp16 [batches, tile, cols_padded]; read_places says what else they lack."""
    batches: tl.constexpr = M.batches
    tile: tl.constexpr = M.tile
    cols: tl.constexpr = M.cols_padded
    col = tl.arange(0, cols)
    codes = head + M.codes_at
    if M.shared:
        places: tl.constexpr = 8 // M.low_bits
        at = codes + tl.arange(0, M.low_rows)[:, None] * M.cols + col[None, :]
        packed = tl.load(at) if M.cols == M.cols_padded else tl.load(at, mask=(col < M.cols)[None, :], other=0)
        in_place: tl.constexpr = M.low_rows // M.tile
        packed = tl.reshape(packed, (1, in_place, tile, cols))
        kept = (((1 << M.low_bits) - 1) << (M.low_bits * tl.arange(0, places))).to(tl.uint8)
        # not shifted: a place is worth a power of two, which goes into the group's scale
        bits = tl.reshape(packed & kept[:, None, None, None], (batches, tile, cols))
    else:
        row = tl.arange(0, M.batches)[:, None, None] * M.tile + tl.arange(0, M.tile)[None, :, None]
        held = (row < M.rows) & (col < M.cols)[None, None, :]
        at = codes + (row % M.low_rows) * M.cols + col[None, None, :]
        bits = tl.load(at, mask=held, other=0) >> (row // M.low_rows * M.low_bits).to(tl.uint8)
        bits &= (1 << M.low_bits) - 1
        if M.high_bits:
            at = codes + (M.low_rows + row % M.high_rows) * M.cols + col[None, None, :]
            high = tl.load(at, mask=held, other=0) >> (row // M.high_rows * M.high_bits).to(tl.uint8)
            bits |= (high & ((1 << M.high_bits) - 1)) << M.low_bits
    return bits.to(tl.uint16).to(tl.float16, bitcast=True)


@triton.jit
def read_places(batch, M: tl.constexpr):
    """What the codes of each batch must still be multiplied by, fp32 like batch."""
    if M.shared:
        place = batch // (M.low_rows // M.tile)
        return tl.exp2(-(place * M.low_bits).to(tl.float32))
    return tl.full(batch.shape, 1.0, tl.float32)


@triton.jit
def read_scales(head, batch, col, M: tl.constexpr, MINIMUM: tl.constexpr):
    """Scales or minimums at batch x col ([n, 1] and [1, m] or so), fp32 in units of the amplitude; padding is 0."""
    group = tl.minimum(batch * M.tile // M.width, M.groups - 1)
    held = (batch * M.tile < M.rows) & (col < M.cols)
    table = head + M.table_at
    if M.scale_bits == 16:
        first: tl.constexpr = M.cols if MINIMUM else 0
        halves = table.to(tl.pointer_type(tl.float16))
        return tl.load(halves + group * (2 * M.cols) + first + col, mask=held, other=0.0).to(tl.float32)
    code = _table_code(table + group * M.table_bytes, col, held, M, MINIMUM)
    index = group if M.range_a_group else tl.minimum(col, M.cols - 1) // M.run
    ranges = (head + M.ranges_at).to(tl.pointer_type(tl.float16)) + 4 * index + (2 if MINIMUM else 0)
    low, step = tl.load(ranges).to(tl.float32), tl.load(ranges + 1).to(tl.float32)
    return tl.where(held, code.to(tl.float32) * step + low, 0.0)


@triton.jit
def _table_code(row, col, held, M: tl.constexpr, MINIMUM: tl.constexpr):
    if M.scale_bits == 4:  # one byte a group: the scale below, the minimum above
        both = tl.load(row + col, mask=held, other=0)
        return (both >> 4) if MINIMUM else (both & 15)
    n = col + M.cols if MINIMUM else col
    low_bits: tl.constexpr = 4 if M.scale_bits == 6 else (2 if M.scale_bits == 3 else M.scale_bits)
    low_bytes: tl.constexpr = (2 * M.cols * low_bits + 7) // 8
    code = tl.load(row + n % low_bytes, mask=held, other=0) >> (n // low_bytes * low_bits).to(tl.uint8)
    code &= (1 << low_bits) - 1
    if M.scale_bits != low_bits:
        high_bits: tl.constexpr = M.scale_bits - low_bits
        high_bytes: tl.constexpr = (2 * M.cols * high_bits + 7) // 8
        above = tl.load(row + low_bytes + n % high_bytes, mask=held, other=0)
        above = (above >> (n // high_bytes * high_bits).to(tl.uint8)) & ((1 << high_bits) - 1)
        code |= above << low_bits
    return code


@triton.jit
def read_norms(record, head, token, R: tl.constexpr):
    """Norms of tokens, fp32 like token."""
    base = record if R.norms_shared else head
    span = (base + R.norm_range_at).to(tl.pointer_type(tl.float32))
    first, second = tl.load(span), tl.load(span + 1)
    if R.norms == 1:  # log scale
        return tl.exp(tl.load(base + R.norm_codes_at + token).to(tl.float32) * second + first)
    return tl.load((base + R.norm_codes_at).to(tl.pointer_type(tl.float16)) + token).to(tl.float32) * first


@triton.jit
def product(a, b, FINE: tl.constexpr):
    """a [..., m, k] fp32 times b [..., k, n], fp32. FINE: to about 22 bits instead of 11. b may be fp16, exact."""
    high = a.to(tl.float16)
    if not FINE:
        return tl.dot(high, b.to(tl.float16))
    low = (a - high.to(tl.float32)).to(tl.float16)
    if b.dtype == tl.float16:
        return tl.dot(high, b, tl.dot(low, b))
    b_high = b.to(tl.float16)
    b_low = (b - b_high.to(tl.float32)).to(tl.float16)
    return tl.dot(high, b_high, tl.dot(low, b_high, tl.dot(high, b_low)))

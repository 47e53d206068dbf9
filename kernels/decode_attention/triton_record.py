"""Reading a packed record inside Triton kernels: codes, scales and minimums, token norms."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_assembly import kept_bits, nibble, settled, widen

# Codes are used as fp16 numbers without a conversion: the bits of a small integer are a subnormal number, which tensor
# cores multiply exactly.
CODE_UNIT = tl.constexpr(2.0**24)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def place_masks(masks, M: tl.constexpr):
    """The bits of a byte that each place of a shared matrix takes, uint8 [places], from triton.place_masks().

    Read from memory: Triton moves the way into the registers of a tensor-core product ahead of what only unpacks, as
    long as that starts from loads and constants, and codes then pass through shared memory while they are packed.
    """
    places: tl.constexpr = 8 // M.low_bits
    return tl.load(masks + places + tl.arange(0, places)).to(tl.uint16)


@triton.jit
def read_codes(head, kept, M: tl.constexpr):
    """A head's codes, fp16 [batches, tile, cols_padded], over CODE_UNIT and each in its place of the byte, which
    read_places() undoes.

    kept: what place_masks() returned.
    """
    batches: tl.constexpr = M.batches
    tile: tl.constexpr = M.tile
    cols: tl.constexpr = M.cols_padded
    col = tl.arange(0, cols)
    codes = head + M.codes_at
    if M.shared:
        at = codes + tl.arange(0, M.low_rows)[:, None] * M.cols + col[None, :]
        packed = tl.load(at) if M.cols == M.cols_padded else tl.load(at, mask=(col < M.cols)[None, :], other=0)
        in_place: tl.constexpr = M.low_rows // M.tile
        # not shifted: a place is worth a power of two, which goes into the group's scale
        wide = tl.reshape(widen(packed), (1, in_place, tile, cols))
        number = tl.reshape(kept_bits(wide, kept[:, None, None, None]), (batches, tile, cols))
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
        number = bits.to(tl.uint16).to(tl.float16, bitcast=True)
    return number


@triton.jit
def read_places(batch, M: tl.constexpr):
    """What read_codes() must still be multiplied by in each batch, fp32 like batch."""
    place = batch // (M.low_rows // M.tile) if M.shared else batch * 0
    return CODE_UNIT * tl.exp2(-(place * M.low_bits).to(tl.float32))


@triton.jit
def read_scales(head, BATCHES: tl.constexpr, M: tl.constexpr, MINIMUM: tl.constexpr, FINE: tl.constexpr):
    """Scales or minimums of the first BATCHES batches, [BATCHES, cols_padded], fp32 in units of the amplitude
    where FINE, else fp16 in units of scale_unit of it.

    Padding is finite: what it is multiplied by is 0, or the result is not used.
    """
    cols: tl.constexpr = M.cols_padded
    batch, col = tl.arange(0, BATCHES)[:, None], tl.arange(0, cols)[None, :]
    group = tl.minimum(batch * M.tile // M.width, M.groups - 1)
    held = (batch * M.tile < M.rows) & (col < M.cols)
    table = head + M.table_at
    if M.scale_bits == 16:
        first: tl.constexpr = M.cols if MINIMUM else 0
        halves = table.to(tl.pointer_type(tl.float16))
        value = tl.load(halves + group * (2 * M.cols) + first + col, mask=held, other=0.0)
        value = value.to(tl.float32) if FINE else value
    else:
        low, step = _range(head, group, M, MINIMUM)
        row = table + group * M.table_bytes
        if FINE:
            value = table_code(row, col, held, M, MINIMUM).to(tl.float32) * step + low
        else:
            high: tl.constexpr = MINIMUM and M.scale_bits == 4
            if M.scale_bits == 4:  # one byte a group: the scale below, the minimum above
                code = nibble(tl.load(row + col, mask=held, other=0), high)
            else:
                code = table_code(row, col, held, M, MINIMUM)
            code = widen(code).to(tl.float16, bitcast=True)
            unit: tl.constexpr = 1.0 / M.scale_unit
            step *= CODE_UNIT * unit * (0.0625 if high else 1.0)
            value = code * step.to(tl.float16) + (low * unit).to(tl.float16)
            if not MINIMUM:
                value = settled(value)
    return value


@triton.jit
def _range(head, group, M: tl.constexpr, MINIMUM: tl.constexpr):
    """Lowest scale or minimum and the step from one to the next, fp32 and as group, or [1, cols]."""
    words = (head + M.ranges_at).to(tl.pointer_type(tl.int64))
    first: tl.constexpr = 32 if MINIMUM else 0
    if M.range_a_group:
        word = tl.load(words + group)
    else:
        runs: tl.constexpr = M.cols_padded // M.run
        word = tl.load(words + tl.arange(0, runs)[None, :, None])
    low = (word >> first).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    step = (word >> (first + 16)).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    if not M.range_a_group:
        cols: tl.constexpr = M.cols_padded
        run: tl.constexpr = M.run
        low = tl.reshape(tl.broadcast_to(low, (1, runs, run)), (1, cols))
        step = tl.reshape(tl.broadcast_to(step, (1, runs, run)), (1, cols))
    return low, step


@triton.jit
def table_code(row, col, held, M: tl.constexpr, MINIMUM: tl.constexpr):
    """Codes of scales or minimums, uint8."""
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
def read_pair(at):
    """Two fp32 numbers by one load: Triton fetches ahead what is at least four bytes a thread."""
    word = tl.load(at.to(tl.pointer_type(tl.int64)))
    return word.to(tl.int32).to(tl.float32, bitcast=True), (word >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def read_norms(record, head, BATCHES: tl.constexpr, TILE: tl.constexpr, R: tl.constexpr):
    """Norms of a block's tokens, fp32 [BATCHES, TILE]."""
    base = record if R.norms_shared else head
    first, second = read_pair(base + R.norm_range_at)
    batch = tl.arange(0, BATCHES)[:, None]
    if R.norms == 1:  # log scale
        quarter: tl.constexpr = TILE // 4
        words = (base + R.norm_codes_at).to(tl.pointer_type(tl.int32))
        word = tl.load(words + batch * quarter + tl.arange(0, quarter)[None, :])
        codes = (word[:, :, None] >> (8 * tl.arange(0, 4))[None, None, :]) & 255
        exponents = tl.reshape(codes, (BATCHES, TILE)).to(tl.float32) * (second * LOG2_E) + first * LOG2_E
        return tl.exp2(exponents)
    token = batch * TILE + tl.arange(0, TILE)[None, :]
    return tl.load((base + R.norm_codes_at).to(tl.pointer_type(tl.float16)) + token).to(tl.float32) * first


@triton.jit
def product(a, b, FINE: tl.constexpr):
    """a [..., m, k] times b [..., k, n] fp32, fp32. FINE: to about 22 bits instead of 11. a may be fp16, exact."""
    high = b.to(tl.float16)
    if not FINE:
        return tl.dot(a.to(tl.float16), high)
    low = (b - high.to(tl.float32)).to(tl.float16)
    if a.dtype == tl.float16:
        return tl.dot(a, high, tl.dot(a, low))
    a_high = a.to(tl.float16)
    a_low = (a - a_high.to(tl.float32)).to(tl.float16)
    return tl.dot(a_high, high, tl.dot(a_high, low, tl.dot(a_low, high)))

"""Compression of blocks by Triton: one program a block and head, for keys and for values; no intermediate is kept."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..decode_attention.triton_record import read_norms
from ..decode_attention.triton_sizes import Tiles, refusal, tiles_of
from ..hadamard.triton import rotate_rows
from ..layout import MOST_DAMPING, NORM_KNEE, BlockLayout
from ..triton_support import layout_numbers, layout_of
from .finite import check_finite
from .triton_store import nearest, store_matrix

NORM_LEVELS = tl.constexpr(255.0)
KNEE, DAMPING = tl.constexpr(NORM_KNEE), tl.constexpr(MOST_DAMPING)
LEAST_NORMAL = tl.constexpr(2.0**-126)


@triton.jit
def load_tokens(states, token_stride, R: tl.constexpr):
    """One head's tokens, fp32 [block_size, channels]; 0 in padding."""
    token, channel = tl.arange(0, R.block_size)[:, None], tl.arange(0, R.channels)[None, :]
    at = states + token * token_stride + channel
    return tl.load(at, mask=channel < R.head_dim, other=0.0).to(tl.float32)


@triton.jit
def store_norms(base, largest, squares, R: tl.constexpr):
    """Stores token norms [block_size]: the roots of sums of squares in units of `largest`."""
    norms = tl.sqrt(squares)
    if R.norms_damped:
        knee = KNEE * tl.sum(norms, axis=0) / R.block_size
        beyond = norms / tl.where(knee > 0, knee, 1.0)
        norms = norms / tl.minimum(tl.maximum(beyond * beyond, 1.0), DAMPING)
    norms *= largest
    norms = tl.where(norms > 0, norms, 1.0)
    span = (base + R.norm_range_at).to(tl.pointer_type(tl.float32))
    token = tl.arange(0, R.block_size)
    if R.norms == 1:  # log scale
        logs = tl.log(norms)
        low = tl.min(logs, axis=0)
        step = (tl.max(logs, axis=0) - low) / NORM_LEVELS
        codes = nearest((logs - low) / tl.where(step > 0, step, 1.0), 255).to(tl.int32).to(tl.uint8)
        stored = tl.exp(codes.to(tl.float32) * step + low)
        tl.store(base + R.norm_codes_at + token, codes)
        tl.store(span, low)
        tl.store(span + 1, step)
    else:
        most = tl.max(norms, axis=0)
        ratios = (norms / most).to(tl.float16)
        stored = ratios.to(tl.float32) * most
        tl.store((base + R.norm_codes_at).to(tl.pointer_type(tl.float16)) + token, ratios)
        tl.store(span, most)
        tl.store(span + 1, 0.0)
    # a norm that fp16 rounds to zero: the token is divided by its own norm and read back as zero
    return tl.where(stored > 0, stored, norms)


@triton.jit
def token_squares(keys, largest):
    scaled = keys / largest
    return tl.sum(scaled * scaled, axis=1)


@triton.jit
def shared_norms_kernel(keys, records, ids, key_block, key_head, key_token, R: tl.constexpr):
    """Grid (blocks): norms over all heads of a token, unrotated, which have the rotated ones' norm."""
    block = tl.program_id(0).to(tl.int64)
    keys += block * key_block
    largest = tl.full([], LEAST_NORMAL, tl.float32)
    of_head = keys
    for _ in range(R.heads):
        largest = tl.maximum(largest, tl.max(tl.abs(load_tokens(of_head, key_token, R))))
        of_head += key_head
    block_size: tl.constexpr = R.block_size
    squares = tl.zeros([block_size], tl.float32)
    of_head = keys
    for _ in range(R.heads):
        squares += token_squares(load_tokens(of_head, key_token, R), largest)
        of_head += key_head
    store_norms(records + tl.load(ids + block) * R.record_bytes, largest, squares, R)


@triton.jit
def amplitude_of(x):
    largest = tl.max(tl.abs(x))
    return tl.where(largest > 0, largest, 1.0)


@triton.jit
def compress_kernel(
    keys, values, records, ids,
    key_block, key_head, key_token, value_block, value_head, value_token,
    R: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
):  # fmt: skip
    """Grid (blocks, heads, 2): program 0 of the last axis packs keys, program 1 values.

    keys, values [blocks, heads, block_size, head_dim] by strides, the last axis contiguous; records uint8
    [capacity, record_bytes]; ids int64 [blocks], the record of each block. Shared norms must have been stored.
    """
    block, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    record = records + tl.load(ids + block) * R.record_bytes
    head = record + R.shared_bytes + kv_head * R.head_bytes
    amplitudes = (head + R.amplitude_at).to(tl.pointer_type(tl.float32))
    block_size: tl.constexpr = R.block_size
    if tl.program_id(2) == 0:
        x = load_tokens(keys + block * key_block + kv_head.to(tl.int64) * key_head, key_token, R)
        if R.rotate_keys:
            x = rotate_rows(x, R.channels, R.rotation)
        if R.norms:
            largest = tl.maximum(tl.max(tl.abs(x)), LEAST_NORMAL)
            if R.norms_shared:
                norms = tl.reshape(read_norms(record, head, 1, block_size, R), (block_size,))
                own = tl.sqrt(token_squares(x, largest)) * largest
                norms = tl.where(norms > 0, norms, tl.where(own > 0, own, 1.0))
            else:
                norms = store_norms(head, largest, token_squares(x, largest), R)
            x = x / norms[:, None]
        amplitude = amplitude_of(x)
        tl.store(amplitudes, amplitude)
        store_matrix(head, x / amplitude, K)
    else:
        x = load_tokens(values + block * value_block + kv_head.to(tl.int64) * value_head, value_token, R)
        if R.rotate_values:
            x = rotate_rows(x, R.channels, R.rotation)
        amplitude = amplitude_of(x)
        tl.store(amplitudes + 1, amplitude)
        x = x / amplitude
        store_matrix(head, x if R.value_along_tokens else tl.trans(x), V)


def refusal_of(key_states: torch.Tensor, value_states: torch.Tensor, layout: BlockLayout) -> str | None:
    """Why these kernels do not take a call on a device that runs them, in words; None if they do."""
    for name, states in (("key_states", key_states), ("value_states", value_states)):
        if states.dtype not in (torch.float16, torch.bfloat16, torch.float32):
            return f"{name} is {states.dtype}, not float16, bfloat16 or float32"
        if states.stride(-1) != 1:
            return f"{name} is not contiguous along head_dim: strides {states.stride()}"
    return refusal(layout)


def compress_blocks(
    key_states: torch.Tensor, value_states: torch.Tensor, layout: BlockLayout, records: torch.Tensor, ids: torch.Tensor
) -> None:
    """Packs blocks into records[ids]; arguments as in op.compress_blocks, none of them missing."""
    numbers = layout_numbers(layout)
    compress_blocks_op(key_states, value_states, records, ids, numbers, torch.compiler.is_compiling())


@torch.library.custom_op("oscar_x::compress_blocks", mutates_args=("records",))
def compress_blocks_op(
    key_states: torch.Tensor,
    value_states: torch.Tensor,
    records: torch.Tensor,
    ids: torch.Tensor,
    layout: list[int],
    check: bool,
) -> None:
    """The launches.

    Args:
        layout: layout_numbers() of the layout.
        check: whether check_finite() goes first, which waits for the device.
    """
    if check:
        check_finite(key_states, value_states)
    blocks, heads = key_states.shape[:2]
    if not blocks:
        return
    sizes, strides = tiles_of(layout_of(layout)), (*key_states.stride()[:3], *value_states.stride()[:3])
    if sizes.record.norms and sizes.record.norms_shared:
        shared_norms_kernel[(blocks,)](
            key_states, records, ids, *strides[:3], R=sizes.record, num_warps=launch_warps(sizes)
        )
    compress_kernel[(blocks, heads, 2)](
        key_states, value_states, records, ids, *strides,
        R=sizes.record, K=sizes.keys, V=sizes.values, num_warps=launch_warps(sizes),
    )  # fmt: skip


@compress_blocks_op.register_fake
def _(*_arguments):
    return None


def launch_warps(sizes: Tiles) -> int:
    """Not measured yet: a block's head in 64 registers a thread."""
    return max(4, min(16, sizes.record.block_size * sizes.record.channels // 2048))

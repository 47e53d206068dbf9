"""Compression on a CPU by loops that numba compiles: a block's head at a time, straight into its record, any number of
threads. What a thread works on stays in its caches, and nothing grows with the number of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..cpu_support import compiled_loops, flat_records
from ..layout import BlockLayout

if TYPE_CHECKING:
    from ..decode_attention.cpu_sizes import Sizes
    from .cpu_states import States

TOKEN_NORMS = ("none", "per_head", "shared", "damped")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LANES = 16  # rows and columns of scratch are multiples, so that vectors need no tails
# elements of keys that pay for waking another thread
LEAST_ELEMENTS = 2**17


class Scratch(NamedTuple):
    """Arrays of one thread; those named in pairs are one memory seen as two types or shapes.

    Attributes:
        tokens, bits: float32 and int32 [tokens, channels] of one head's keys or values, rounded up to LANES.
        flat: float32, tokens as one axis.
        channels: float32 [channels, tokens], values turned.
        codes: uint8 [rows * cols], one a byte.
        scale, minimum: float32 [groups, cols], cols and groups the larger of keys' and values'.
        table: uint8 [groups, 2 * cols], codes of nested scales and minimums.
        squares: float64 [block_size], norms and logs: float32 [block_size].
    """

    tokens: np.ndarray
    bits: np.ndarray
    flat: np.ndarray
    channels: np.ndarray
    codes: np.ndarray
    scale: np.ndarray
    minimum: np.ndarray
    table: np.ndarray
    squares: np.ndarray
    norms: np.ndarray
    logs: np.ndarray


def fits(key_states: torch.Tensor, value_states: torch.Tensor, layout: BlockLayout, out: torch.Tensor) -> bool:
    """Whether these loops take the call; the reference takes every one."""
    tensors = key_states, value_states, out
    return (
        all(tensor.device.type == "cpu" for tensor in tensors)
        and all(states.dtype in DTYPES for states in (key_states, value_states))
        and layout.token_norm in TOKEN_NORMS
        and not torch.compiler.is_compiling()
        and compiled_loops()
    )


def compress_blocks(
    key_states: torch.Tensor,
    value_states: torch.Tensor,
    layout: BlockLayout,
    out: torch.Tensor,
    ids: torch.Tensor | None = None,
) -> None:
    """Packs blocks into out, or into out[ids]; arguments as in op.compress_blocks.

    Alignment gaps of the records become 0.
    """
    # here, as attention imports reference.py of this folder
    from ..cpu_threads import run_together
    from ..decode_attention.cpu_sizes import sizes_of
    from .cpu_loops import compress_items

    blocks, heads = key_states.shape[:2]
    if not blocks:
        return
    sizes, counter = sizes_of(layout), np.zeros(1, np.int64)
    where = np.arange(blocks) if ids is None else ids.contiguous().numpy()
    data = (_states(key_states), _states(value_states), blocks, heads, flat_records(out), where)
    threads = min(torch.get_num_threads(), 1 + key_states.numel() // LEAST_ELEMENTS)
    calls: list[tuple[Any, ...]] = [
        (*data, sizes, layout.rotate_values, counter, make_scratch(sizes)) for _ in range(threads)
    ]
    run_together(compress_items, calls, key_states.nbytes + value_states.nbytes)


def _states(tensor: torch.Tensor) -> States:
    from .cpu_states import BFLOAT16, FLOAT16, FLOAT32, States

    tensor = tensor.detach()
    if tensor.stride(-1) != 1:
        tensor = tensor.contiguous()
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat, strides = tensor.as_strided((span,), (1,)), tensor.stride()[:3]
    if tensor.dtype == torch.float32:
        return States(np.empty(0, np.uint16), flat.numpy(), FLOAT32, *strides)
    kind = BFLOAT16 if tensor.dtype == torch.bfloat16 else FLOAT16
    return States(flat.view(torch.uint16).numpy(), np.empty(0, np.float32), kind, *strides)


def make_scratch(sizes: Sizes) -> Scratch:
    tokens, channels = (-(-size // LANES) * LANES for size in (sizes.block_size, sizes.head_dim))
    cols = max(sizes.keys.cols, sizes.values.cols)
    groups = max(sizes.keys.groups, sizes.values.groups)
    states = np.zeros((tokens, channels), np.float32)
    return Scratch(
        tokens=states,
        bits=states.view(np.int32),
        flat=states.reshape(-1),
        channels=np.empty((channels, tokens), np.float32),
        codes=np.empty(sizes.block_size * sizes.head_dim, np.uint8),
        scale=np.empty((groups, cols), np.float32),
        minimum=np.empty((groups, cols), np.float32),
        table=np.empty((groups, 2 * cols), np.uint8),
        squares=np.empty(sizes.block_size, np.float64),
        norms=np.empty(sizes.block_size, np.float32),
        logs=np.empty(sizes.block_size, np.float32),
    )

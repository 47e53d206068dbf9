"""Attention over packed blocks on a CPU, straight on the codes: compiled by numba, any number of threads.

The scale of a group is folded into the query and its minimum into one number a group, so the inner loop multiplies
codes; likewise a value's scale into the softmax weight of its token. For 16-bit queries, where the processor multiplies
bytes, both are 16-bit numbers (cpu_products.py); else fp32 (cpu_floats.py). numba comes as wheels, so no compiler is
needed; what it compiles at the first use is kept on disk.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from ..cpu_support import compiled_loops, flat_records
from ..cpu_threads import run_together
from ..layout import BlockLayout
from .cpu_features import best_set, instruction_set
from .cpu_sizes import Sizes, sizes_of
from .reference import Part

# with more query rows than this, matrix products over dequantized chunks win (docs/performance.md)
MOST_ROWS = 32
# each thread takes about this many items: late threads take fewer
ITEMS = 8
# code bytes that pay for waking another thread
LEAST_BYTES = 2**19


def fits(query: torch.Tensor) -> bool:
    """Whether this kernel takes the call; the reference takes every one."""
    return query.device.type == "cpu" and query.shape[2] <= MOST_ROWS and compiled_loops()


def joins(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether this kernel takes exact tokens of these types in the same call."""
    if not fits(query):
        return False
    from .cpu_exact import can_join

    return can_join(query, keys, values)


def packed_attention(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: BlockLayout,
    scaling: float,
    visible: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    instructions: str | None = None,
    exact: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None,
) -> Part:
    """What op.packed_attention says, or op.joint_attention.

    Args:
        added: fp32 [batch, num_key_value_heads, rows, blocks * block_size], added to the scores.
        instructions: a name of cpu_features.SETS; what best_set chooses when missing.
        exact: keys, values and lengths of exact tokens that joins() takes.
    """
    from .cpu_blocks import attend_blocks
    from .cpu_exact import exact_states, no_states
    from .cpu_join import join_shares
    from .cpu_scratch import borrowed

    plan, (batch, blocks) = _plan(layout, query.dtype, instructions), table.shape
    heads, rows = query.shape[1:3]
    size = batch * blocks * plan.record_bytes
    threads = min(torch.get_num_threads(), 1 + size // LEAST_BYTES)
    shares = 1 if threads == 1 else min(blocks, -(-ITEMS * threads // (batch * heads)))
    slots = shares + (exact is not None)
    results = np.empty((slots, *query.shape), np.float32), np.empty((slots, batch, heads, rows), np.float32)
    data = (
        query.float().contiguous().numpy(),
        flat_records(records),
        table.contiguous().numpy(),
        lengths.contiguous().numpy(),
        _mask(visible, blocks * layout.block_size),
        np.empty((1, 1, 1, 0), np.float32) if added is None else added.contiguous().numpy(),
        no_states(query.dtype) if exact is None else exact_states(*exact),
        np.float32(scaling),
        plan.sizes,
        np.zeros(1, np.int64),
    )
    with borrowed(threads, plan.isa, plan.sizes, rows) as scratches:
        calls: list[tuple[Any, ...]] = [(plan.isa, *data, scratch, *results) for scratch in scratches]
        run_together(attend_blocks, calls, size)
    join_shares(*results, slots - shares, layout.rotate_values, plan.sizes.rotated_width)
    output, lse = (torch.from_numpy(result[0]) for result in results)
    return output, lse


class _Plan(NamedTuple):
    """What a layout means for the loops."""

    isa: Any
    sizes: Sizes
    record_bytes: int


@lru_cache(maxsize=256)
def _plan(layout: BlockLayout, dtype: torch.dtype, instructions: str | None) -> _Plan:
    name = best_set(layout, dtype) if instructions is None else instructions
    return _Plan(instruction_set(name), sizes_of(layout), layout.record_bytes)


def _mask(visible: torch.Tensor | None, slots: int) -> np.ndarray:
    """uint8 [batch or 1, rows or 1, slots]; of no slots where all are visible."""
    if visible is None:
        return np.empty((1, 1, 0), np.uint8)
    mask = visible.reshape((1,) * (4 - visible.ndim) + tuple(visible.shape))[:, 0]
    return mask.expand(*mask.shape[:2], slots).contiguous().view(torch.uint8).numpy()

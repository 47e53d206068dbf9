"""Attention over packed blocks on a CPU, straight on the codes: compiled by numba, any number of threads.

The scale of a group is folded into the query and its minimum into one number a group, so the inner loop multiplies
codes; likewise a value's scale into the softmax weight of its token. For 16-bit queries, where the processor multiplies
bytes, both are 16-bit numbers (cpu_products.py); else fp32 (cpu_floats.py). numba comes as wheels, so no compiler is
needed; what it compiles at the first use is kept on disk.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from ..cpu_support import compiled_loops
from ..cpu_threads import Body, run_together
from ..layout import BlockLayout
from .arguments import check_range
from .cpu_features import KINDS, best_set, instruction_set
from .cpu_job import WRONG, Job, flat_sizes
from .cpu_scratch import borrowed
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
    same = query.dtype == keys.dtype == values.dtype
    return same and query.dtype in KINDS and keys.shape[2] > 0 and fits(query)


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

    Raises:
        ValueError: table or lengths point past the pool or a block.
    """
    query = (query if query.dtype in KINDS else query.float()).contiguous()
    table, lengths = table.contiguous(), lengths.contiguous()
    plan, (batch, blocks) = _plan(layout, query.dtype, instructions), table.shape
    heads, rows = query.shape[1:3]
    size = batch * blocks * plan.record_bytes
    threads = min(torch.get_num_threads(), 1 + size // LEAST_BYTES)
    shares = 1 if threads == 1 else min(blocks, -(-ITEMS * threads // (batch * heads)))
    slots = shares + (exact is not None)
    output, lse = (torch.empty((slots, *shape), dtype=torch.float32) for shape in (query.shape, query.shape[:3]))
    mask = _mask(visible, blocks * layout.block_size)
    added = torch.empty((1, 1, 1, 0), dtype=torch.float32) if added is None else added.contiguous()
    keys, values, counts = (query, query, None) if exact is None else exact
    (a, b, c, _), (d, e, f, _) = keys.stride(), values.stride()
    with borrowed(threads, plan.isa, plan.sizes, rows) as scratches:
        job = Job(
            items=0, done=0, wrong=0, begun=0, sizes=plan.sizes_at, query=query.data_ptr(), output=output.data_ptr(),
            lse=lse.data_ptr(), batch=batch, heads=heads, rows=rows, blocks=blocks, shares=shares,
            exact=int(exact is not None), records=records.data_ptr(), stride=records.stride(0), capacity=len(records),
            table=table.data_ptr(), lengths=lengths.data_ptr(), seen=mask.data_ptr(), seen_batch=mask.shape[0],
            seen_rows=mask.shape[1], seen_slots=mask.shape[2], added=added.data_ptr(), added_batch=added.shape[0],
            added_heads=added.shape[1], added_slots=added.shape[3], keys=keys.data_ptr(), values=values.data_ptr(),
            kind=KINDS[query.dtype], key_at_sequence=a, key_at_head=b, key_at_token=c, value_at_sequence=d,
            value_at_head=e, value_at_token=f, tokens=keys.shape[2], counts=0 if counts is None else counts.data_ptr(),
            scaling=_bits(scaling), unrotates=layout.rotate_values,
        )  # fmt: skip
        words = array("q", (*job, *(held.address for held in scratches)))
        run_together(plan.work, [(words.buffer_info()[0],)] * threads, size)
    if words[WRONG]:
        check_range(records, table, lengths, layout.block_size)
    return output[0], lse[0]


class _Plan(NamedTuple):
    """What a layout means for the loops; `sizes_at` is where `integers`, the sizes, lie."""

    isa: Any
    sizes: Sizes
    integers: np.ndarray
    sizes_at: int
    record_bytes: int
    work: Body


@lru_cache(maxsize=256)
def _plan(layout: BlockLayout, dtype: torch.dtype, instructions: str | None) -> _Plan:
    from .cpu_blocks import attend_blocks

    name = best_set(layout, dtype) if instructions is None else instructions
    sizes, integers = sizes_of(layout), flat_sizes(sizes_of(layout))
    work = attend_blocks(name, dtype == torch.float32)
    return _Plan(instruction_set(name), sizes, integers, integers.ctypes.data, layout.record_bytes, work)


@lru_cache(maxsize=64)
def _bits(number: float) -> int:
    """The bits of a number as float32."""
    return int(np.float32(number).view(np.int32))


def _mask(visible: torch.Tensor | None, slots: int) -> torch.Tensor:
    """uint8 [batch or 1, rows or 1, slots]; of no slots where all are visible."""
    if visible is None:
        return torch.empty((1, 1, 0), dtype=torch.uint8)
    mask = visible.reshape((1,) * (4 - visible.ndim) + tuple(visible.shape))[:, 0]
    return mask.expand(*mask.shape[:2], slots).contiguous().view(torch.uint8)

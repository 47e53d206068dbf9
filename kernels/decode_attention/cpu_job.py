"""One call of the compiled loops as a row of 64-bit integers: what Python and compiled threads both read.

Unpacking arrays and tuples from Python's objects costs each thread more than a block of attention where caches are
cold, and the interpreter lock besides. So a job is written once, and threads that never see Python take it by address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .cpu_sizes import Sizes

if TYPE_CHECKING:
    from .cpu_scratch import Scratch


class Job(NamedTuple):
    """Addresses, numbers of elements and counters of one call.

    Attributes:
        items, done: items taken and finished so far.
        wrong: not 0 if table or lengths point past the pool or a block.
        begun: threads that have taken a scratch: the addresses of their tables follow the job.
        sizes: address of a Sizes as integers.
        query, output, lse: [batch, heads, rows, head_dim] in the type of exact states, and what attention writes.
        shares, exact: of the blocks of a head, and whether exact tokens are one more.
        records, stride, capacity: bytes, bytes from one record to the next, and records.
        table, lengths: int64 [batch, blocks].
        seen, added: with the sizes of their axes; of no slots where there are none.
        keys, values, kind, key_at_*, value_at_*: exact tokens as in cpu_exact.ExactStates.
        tokens, counts: of each sequence, where counts is 0; else counts is the address of int64 [batch].
        scaling: bits of a float32.
        unrotates: whether the output is rotated back.
    """

    items: int
    done: int
    wrong: int
    begun: int
    sizes: int
    query: int
    output: int
    lse: int
    batch: int
    heads: int
    rows: int
    blocks: int
    shares: int
    exact: int
    records: int
    stride: int
    capacity: int
    table: int
    lengths: int
    seen: int
    seen_batch: int
    seen_rows: int
    seen_slots: int
    added: int
    added_batch: int
    added_heads: int
    added_slots: int
    keys: int
    values: int
    kind: int
    key_at_sequence: int
    key_at_head: int
    key_at_token: int
    value_at_sequence: int
    value_at_head: int
    value_at_token: int
    tokens: int
    counts: int
    scaling: int
    unrotates: int


ITEMS, DONE, WRONG, BEGUN = (Job._fields.index(name) for name in ("items", "done", "wrong", "begun"))


def flat_sizes(sizes: Sizes) -> np.ndarray:
    """A Sizes as integers, one after another."""
    return np.array([*sizes[:-2], *sizes.keys, *sizes.values], np.int64)


def scratch_table(scratch: Scratch) -> np.ndarray:
    """Address and sizes of every array of a scratch, int64 [arrays, 3]."""
    arrays = [*scratch[:-2], *scratch.queries, *scratch.weights]
    return np.array([(array.ctypes.data, *array.shape, 0)[:3] for array in arrays], np.int64)

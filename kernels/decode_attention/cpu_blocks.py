"""Attention over packed blocks on bytes: what each thread runs (cpu.py hands out the items)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..cpu_compile import bare, inlined, kept_body
from ..cpu_support import Records
from ..cpu_threads import Body
from .cpu_exact import ExactStates, add_exact_values, exact_scores, read_token
from .cpu_features import instruction_set
from .cpu_floats import add_dot_products, add_weighted_rows
from .cpu_job import BEGUN, DONE, ITEMS, WRONG
from .cpu_join import join_shares, rotate
from .cpu_loops import exponential, fill, read_norms
from .cpu_products import LARGEST, add_byte_products
from .cpu_reads import FAR, JOB, array_at, job_at, scratch_at, sizes_at
from .cpu_sizes import STEP
from .cpu_vectors import as_float, largest, next_item, prefetch, total
from .cpu_weights import exact_weights, short_weights


@bare
def scale_query(query, first, kind, scaling, v):
    """Query rows, the first at query[first:], scaled, as fp32."""
    rows, width = v.exact.shape
    for m in range(rows):
        row = v.exact[m]
        read_token(query, first + m * width, kind, row, width)
        for c in range(width):
            row[c] *= scaling


@bare
def take_query(query, first, kind, scaling, sizes, v):
    """Query rows, rotated and scaled, as fp32 and as 16-bit vectors with their sums."""
    scale_query(query, first, kind, scaling, v)
    for m in range(v.exact.shape[0]):
        row, vector = v.exact[m], v.vectors[m]
        if sizes.rotates_keys:
            rotate(row, sizes.rotated_width)
        most, added = np.float32(0), np.float32(0)
        for c in range(row.shape[0]):
            most = max(most, abs(row[c]))
            added += row[c]
        unit = most / LARGEST if most > 0 else np.float32(1)
        inverse = np.float32(1) / unit
        for c in range(row.shape[0]):
            vector[c] = np.int16(np.int32(np.rint(row[c] * inverse)))
        v.units[m], v.sums[m, 0] = unit, added


@inlined
def on_bytes(isa, rows, v, row8, row16, head, matrix, amplitude, s, keep, out):
    """out [rows, matrix rows] = out * keep + the products of v with a head's keys or values."""
    add_byte_products(isa, rows, v, row8, head, matrix, amplitude, s, keep, out)


@inlined
def in_fp32(isa, rows, v, row8, row16, head, matrix, amplitude, s, keep, out):
    """The same for any processor."""
    add_dot_products(isa, rows, v.exact, row8, row16, head, matrix, amplitude, s, keep, out)


@bare
def hide(scores, norms, length, first, seen, added):
    """Scores of queries with keys, before their norms, to those of tokens that count: others become -inf.

    seen uint8 [rows or 1, slots] and added float32 [rows, slots], each of no slots where there is none; those of the
    block start at `first`.
    """
    for m in range(scores.shape[0]):
        row = scores[m]
        for t in range(length):
            row[t] *= norms[t]
        if added.shape[1]:
            more = added[m][first:]
            for t in range(length):
                row[t] += more[t]
        if seen.shape[1]:
            mask = seen[min(m, seen.shape[0] - 1)][first:]
            for t in range(length):
                row[t] = row[t] if mask[t] else np.float32(-np.inf)
        fill(row[length:], -np.inf)


@inlined
def add_exact_weights(row, whole, most, grow):
    """Scores to weights relative to the highest score of all so far; their sum. `grow` is the block's highest to it."""
    added = exact_weights(row, whole, most, grow)
    for t in range(whole, row.shape[0]):
        row[t] = exponential(row[t] - most) * grow
        added += row[t]
    return added


@inlined
def add_short_weights(run, row, whole, most, grow, m, v):
    """The same, and as 16-bit vectors with the sums of each run; the sum of these."""
    vector, unit = v.vectors[m], grow / LARGEST
    short_weights(row, whole, most, grow, LARGEST, vector)
    for t in range(whole, row.shape[0]):
        relative = exponential(row[t] - most)
        vector[t] = np.int16(np.int32(relative * LARGEST + np.float32(0.5)))
        row[t] = relative * grow
    added = np.int32(0)
    for k in range(v.sums.shape[1]):
        first, count = k * run, min(run, row.shape[0] - k * run)
        part = total(vector, first, count // STEP * STEP)
        for t in range(first + count // STEP * STEP, first + count):
            part += np.int32(vector[t])
        v.sums[m, k] = np.float32(part) * unit
        added += part
    v.units[m] = unit
    return np.float32(added) * unit


@inlined
def weigh(run, exact, s):
    """The scores in s.weights to weights relative to the highest so far; where they are not `exact`, as 16-bit vectors
    with their sums too. s.keep brings what was added before to the highest score so far."""
    v = s.weights
    for m in range(v.exact.shape[0]):
        row = v.exact[m]
        whole = row.shape[0] // STEP * STEP
        most = largest(row, whole)
        for t in range(whole, row.shape[0]):
            most = max(most, row[t])
        if most == -np.inf:  # nothing to see
            fill(row, 0)
            fill(v.vectors[m], 0)
            fill(v.sums[m], 0)
            v.units[m], s.keep[m] = 0, 1
            continue
        s.keep[m], grow = np.float32(1), np.float32(1)
        if most > s.high[m]:
            s.keep[m], s.high[m] = exponential(s.high[m] - most), most
        else:
            grow = exponential(most - s.high[m])
        if exact:
            s.total[m] = s.total[m] * s.keep[m] + add_exact_weights(row, whole, most, grow)
        else:
            s.total[m] = s.total[m] * s.keep[m] + add_short_weights(run, row, whole, most, grow, m, v)


@inlined
def attend_block(isa, add_products, records, block, ahead, head, length, first, seen, added, sizes, s, part):
    """One block of one head: its weights and weighted values are joined to s.high, s.total and part.

    add_products: on_bytes or in_fp32. ahead: the block whose bytes are asked for meanwhile.
    """
    at, next_at = block * records.stride, ahead * records.stride + head
    row8, row16, row32 = records.bytes[at:], records.halves[at // 2 :], records.floats[at // 4 :]
    rows, quarter, amplitude = part.shape[0], sizes.head_bytes // 4, (head + sizes.amplitude_at) // 4
    scores, values = s.weights.exact, sizes.values
    for m in range(rows):
        fill(scores[m], 0)
    # one call for keys and values: it becomes part of this function, and is large
    for of_values in range(2):
        prefetch(records.bytes, next_at + 2 * of_values * quarter, quarter)
        if of_values:
            read_norms(row8, row16, row32, head, sizes, s.norms)
            hide(scores, s.norms, length, first, seen, added)
            weigh(sizes.weight_run, isa.plain or values.range_a_group, s)
        if of_values and values.range_a_group:
            add_weighted_rows(rows, scores, row8, row16, head, values, row32[amplitude + 1], s, s.keep, part)
        else:
            v, matrix, keep = (s.weights, values, s.keep) if of_values else (s.queries, sizes.keys, s.fitted[2])
            out = part if of_values else scores
            add_products(isa, rows, v, row8, row16, head, matrix, row32[amplitude + of_values], s, keep, out)
        prefetch(records.bytes, next_at + (2 * of_values + 1) * quarter, quarter)


@bare
def attend_exact(states, b, h, tokens, sizes, s, part):
    """Exact tokens of one head, joined to s.high, s.total and part, as many at a time as a block has."""
    keys_at, values_at = states.key_at, states.value_at
    for start in range(0, tokens, sizes.block_size):
        count = min(sizes.block_size, tokens - start)
        exact_scores(states, b * keys_at[0] + h * keys_at[1] + start * keys_at[2], count, s)
        weigh(sizes.weight_run, True, s)
        add_exact_values(states, b * values_at[0] + h * values_at[1] + start * values_at[2], count, s, part)


@inlined
def attend_share(isa, add_products, job, data, share, b, h, sizes, s, part):
    """A share of the blocks of one KV head of one sequence; 0, or 1 where table or lengths point past something."""
    records, table, lengths, query, states, scaling, seen, added = data
    head, blocks, size = sizes.shared_bytes + h * sizes.head_bytes, job.blocks, sizes.block_size
    take_query(query, (b * job.heads + h) * job.rows * sizes.head_dim, states.kind, scaling, sizes, s.queries)
    mask, more = seen[min(b, job.seen_batch - 1)], added[min(b, job.added_batch - 1), min(h, job.added_heads - 1)]
    for j in range(blocks * share // job.shares, blocks * (share + 1) // job.shares):
        block, ahead, length = table[b, j], table[b, min(j + 1, blocks - 1)], lengths[b, j]
        if block < 0 or block >= job.capacity or length < 0 or length > size:
            return 1
        if length:
            attend_block(isa, add_products, records, block, ahead, head, length, j * size, mask, more, sizes, s, part)
    return 0


@inlined
def attend_items(isa, add_products, job, counters, data, sizes, s, output, lse):
    """Takes items until there are none: a share of the blocks of one KV head of one sequence, or its exact tokens.

    Writes each share's output float32 [shares, batch, heads, rows, head_dim], not un-rotated, and lse [shares, batch,
    heads, rows]; the last share is that of exact tokens, where there are any. Who finishes the last item joins them.
    """
    query, states, scaling, batch, heads = data[3], data[4], data[5], job.batch, job.heads
    items, item = (job.shares + job.exact) * batch * heads, next_item(counters, ITEMS)
    while item < items:
        # one share of each after another, exact tokens last: a small item fills the gap that large ones leave
        share, b, h = item // (batch * heads), item // heads % batch, item % heads
        part = output[share, b, h]
        for m in range(job.rows):
            fill(part[m], 0)
        fill(s.high, -np.inf)
        fill(s.total, 0)
        if share == job.shares:
            scale_query(query, (b * heads + h) * job.rows * sizes.head_dim, states.kind, scaling, s.queries)
            tokens = array_at(job.counts, (batch,), np.int64)[b] if job.counts else job.tokens
            attend_exact(states, b, h, tokens, sizes, s, part)
        elif attend_share(isa, add_products, job, data, share, b, h, sizes, s, part):
            counters[WRONG] = 1
        for m in range(job.rows):
            whole = s.total[m]
            lse[share, b, h, m] = s.high[m] + np.log(whole) if whole > 0 else -np.inf
            for d in range(part.shape[1]):
                part[m, d] /= whole if whole > 0 else np.float32(1)
        if next_item(counters, DONE) == items - 1:
            join_shares(output, lse, job.exact, job.unrotates, sizes.rotated_width)
        item = next_item(counters, ITEMS)


@inlined
def attend_job(address, isa, add_products, element):
    """What one thread does for the job at an address; see cpu_job.Job."""
    job, counters = job_at(address), array_at(address, (FAR,), np.int64)
    sizes, s = sizes_at(job.sizes), scratch_at(counters[JOB + next_item(counters, BEGUN)])
    batch, heads, rows, shares = job.batch, job.heads, job.rows, job.shares + job.exact
    records = Records(
        array_at(job.records, (FAR,), np.uint8), array_at(job.records, (FAR,), np.uint16),
        array_at(job.records, (FAR,), np.float32), job.stride,
    )  # fmt: skip
    states = ExactStates(
        array_at(job.keys, (FAR,), element), array_at(job.values, (FAR,), element), job.kind,
        (job.key_at_sequence, job.key_at_head, job.key_at_token),
        (job.value_at_sequence, job.value_at_head, job.value_at_token),
    )  # fmt: skip
    data = (
        records,
        array_at(job.table, (batch, job.blocks), np.int64),
        array_at(job.lengths, (batch, job.blocks), np.int64),
        array_at(job.query, (FAR,), element),
        states,
        as_float(np.int32(job.scaling)),
        array_at(job.seen, (job.seen_batch, job.seen_rows, job.seen_slots), np.uint8),
        array_at(job.added, (job.added_batch, job.added_heads, rows, job.added_slots), np.float32),
    )
    output = array_at(job.output, (shares, batch, heads, rows, sizes.head_dim), np.float32)
    lse = array_at(job.lse, (shares, batch, heads, rows), np.float32)
    attend_items(isa, add_products, job, counters, data, sizes, s, output, lse)


# what is handed down is global here: as a value of the closure it would not be found again on disk
def _on_bytes(isa, element):
    def make(files):
        def attend_on_bytes(address):
            attend_job(address if files else 0, isa, on_bytes, element)

        return attend_on_bytes

    return make


def _in_fp32(isa, element):
    def make(files):
        def attend_in_fp32(address):
            attend_job(address if files else 0, isa, in_fp32, element)

        return attend_in_fp32

    return make


@lru_cache(maxsize=16)
def attend_blocks(name: str, single: bool) -> Body:
    """The loops for an instruction set, and for queries and exact tokens of float32 or of 16 bits."""
    isa = instruction_set(name)
    # an overload by the type of isa would not become part of its caller as it should
    make = _in_fp32 if isa.plain else _on_bytes
    what = f"attention of {'fp32' if single else '16-bit'} queries ({name})"
    return kept_body(what, 8 if isa.plain else 20, make(isa, np.float32 if single else np.uint16))

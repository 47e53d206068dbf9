"""Attention over packed blocks on bytes: what each thread runs (cpu.py hands out the items)."""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from ..cpu_compile import bare, inlined, kept
from .cpu_exact import add_exact_values, exact_scores
from .cpu_floats import add_dot_products, add_weighted_rows
from .cpu_ir import STEP
from .cpu_join import rotate
from .cpu_loops import exponential, fill, read_norms
from .cpu_products import LARGEST, add_byte_products
from .cpu_sets import Portable
from .cpu_vectors import largest, next_item, prefetch, total


@bare
def scale_query(query, scaling, v):
    """Query rows, scaled, as fp32."""
    for m in range(query.shape[0]):
        row, line = v.exact[m], query[m]
        for c in range(row.shape[0]):
            row[c] = line[c] * scaling


@bare
def take_query(query, scaling, sizes, v):
    """Query rows, rotated and scaled, as fp32 and as 16-bit vectors with their sums."""
    scale_query(query, scaling, v)
    for m in range(query.shape[0]):
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


def add_products(isa, rows, v, row8, row16, head, matrix, amplitude, s, keep, out):
    """out [rows, matrix rows] = out * keep + the products of v with a head's keys or values: see _add_products."""


@overload(add_products, inline="always")
def _add_products(isa, rows, v, row8, row16, head, matrix, amplitude, s, keep, out):
    if isa.instance_class is Portable:
        return lambda isa, rows, v, row8, row16, head, matrix, amplitude, s, keep, out: add_dot_products(
            rows, v.exact, row8, row16, head, matrix, amplitude, s, keep, out
        )
    return lambda isa, rows, v, row8, row16, head, matrix, amplitude, s, keep, out: add_byte_products(
        isa, rows, v, row8, head, matrix, amplitude, s, keep, out
    )


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
def weigh(run, exact, s):
    """The scores in s.weights to weights relative to the block's highest, as 16-bit vectors with their sums.

    s.weights.units and s.keep bring the block and what was added before to the highest score so far.
    """
    v = s.weights
    for m in range(v.exact.shape[0]):
        row, vector = v.exact[m], v.vectors[m]
        whole = row.shape[0] // STEP * STEP
        most = largest(row, whole)
        for t in range(whole, row.shape[0]):
            most = max(most, row[t])
        if most == -np.inf:  # nothing to see
            fill(row, 0)
            fill(vector, 0)
            fill(v.sums[m], 0)
            v.units[m], s.keep[m] = 0, 1
            continue
        s.keep[m], grow = np.float32(1), np.float32(1)
        if most > s.high[m]:
            s.keep[m], s.high[m] = exponential(s.high[m] - most), most
        else:
            grow = exponential(most - s.high[m])
        unit = grow / LARGEST
        for t in range(row.shape[0]):
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
        weight = np.float32(added) * unit
        if exact:  # the sum of what multiplies values: fp32 weights, not the 16-bit ones
            weight = np.float32(0)
            for t in range(row.shape[0]):
                weight += row[t]
        s.total[m] = s.total[m] * s.keep[m] + weight


@inlined
def attend_block(isa, records, block, ahead, head, length, first, seen, added, sizes, s, part):
    """One block of one head: its weights and weighted values are joined to s.high, s.total and part.

    `ahead`: the block whose bytes are asked for meanwhile.
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
def attend_exact(states, b, h, sizes, s, part):
    """Exact tokens of one head, joined to s.high, s.total and part, as many at a time as a block has."""
    keys_at, values_at = states.key_at, states.value_at
    for start in range(0, states.lengths[b], sizes.block_size):
        count = min(sizes.block_size, states.lengths[b] - start)
        exact_scores(states, b * keys_at[0] + h * keys_at[1] + start * keys_at[2], count, s)
        weigh(sizes.weight_run, True, s)
        add_exact_values(states, b * values_at[0] + h * values_at[1] + start * values_at[2], count, s, part)


@kept
def attend_blocks(files):
    def attend_blocks(isa, query, records, table, lengths, seen, added, exact, scaling, sizes, counter, s, output, lse):
        """Takes items until there are none: a share of the blocks of one KV head of one sequence, or its exact tokens.

        query float32 [batch, heads, rows, head_dim]; records are cpu.Records; seen uint8 [batch or 1, rows or 1, slots]
        and added float32 [batch, heads, rows, slots], each of no slots where there is none; exact are
        cpu_exact.ExactStates; sizes from sizes_of(layout); counter int64 [1], shared by the threads. Writes each
        share's output float32 [shares, batch, heads, rows, head_dim], not un-rotated, and lse [shares, batch, heads,
        rows]; the last share is that of exact tokens, where there are any.
        """
        shares, batch, heads, rows = lse.shape if files else (0, 0, 0, 0)
        packed = shares - 1 if exact.lengths.shape[0] else shares
        blocks, size = table.shape[1], sizes.block_size
        item = next_item(counter)
        while item < shares * batch * heads:
            # one share of each after another, exact tokens last: a small item fills the gap that large ones leave
            share, b, h = item // (batch * heads), item // heads % batch, item % heads
            part, head = output[share, b, h], sizes.shared_bytes + h * sizes.head_bytes
            for m in range(rows):
                fill(part[m], 0)
            fill(s.high, -np.inf)
            fill(s.total, 0)
            if share == packed:
                scale_query(query[b, h], scaling, s.queries)
                attend_exact(exact, b, h, sizes, s, part)
            else:
                take_query(query[b, h], scaling, sizes, s.queries)
                mask = seen[min(b, seen.shape[0] - 1)]
                more = added[min(b, added.shape[0] - 1), min(h, added.shape[1] - 1)]
                for j in range(blocks * share // packed, blocks * (share + 1) // packed):
                    if lengths[b, j] == 0:
                        continue
                    block, ahead, length = table[b, j], table[b, min(j + 1, blocks - 1)], lengths[b, j]
                    attend_block(isa, records, block, ahead, head, length, j * size, mask, more, sizes, s, part)
            for m in range(rows):
                whole = s.total[m]
                lse[share, b, h, m] = s.high[m] + np.log(whole) if whole > 0 else -np.inf
                for d in range(part.shape[1]):
                    part[m, d] /= whole if whole > 0 else np.float32(1)
            item = next_item(counter)

    return attend_blocks

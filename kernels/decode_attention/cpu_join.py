"""What threads found of one query, joined and un-rotated: the compiled loops' last step."""

from __future__ import annotations

import numpy as np

from ..cpu_compile import bare


@bare
def rotate(row, width):
    """The Walsh-Hadamard transform of blocks of `width` elements, in place."""
    half = 1
    while half < width:
        for start in range(0, row.shape[0], 2 * half):
            first, second = row[start : start + half], row[start + half : start + 2 * half]
            for i in range(half):
                a, b = first[i], second[i]
                first[i], second[i] = a + b, a - b
        half *= 2
    size = np.float32(1 / np.sqrt(width))
    for i in range(row.shape[0]):
        row[i] *= size


@bare
def join_row(output, lse, step):
    """Every step-th share of one query's output [shares, head_dim] and lse [shares], joined into the first."""
    most, total, first = np.float32(-np.inf), np.float32(0), output[0]
    for k in range(0, lse.shape[0], step):
        most = max(most, lse[k])
    if most == -np.inf:
        return
    for k in range(0, lse.shape[0], step):
        total += np.exp(lse[k] - most)
    for k in range(0, lse.shape[0], step):
        weight, part = np.exp(lse[k] - most) / total, output[k]
        for d in range(first.shape[0]):
            first[d] = part[d] * weight + (first[d] if k else np.float32(0))
    lse[0] = most + np.log(total)


@bare
def join_shares(output, lse, exact, rotates, width):
    """The shares [shares, batch, heads, rows, ...] joined into the first; all but `exact`, the last, un-rotated."""
    packed = lse.shape[0] - exact
    for b in range(lse.shape[1]):
        for h in range(lse.shape[2]):
            for m in range(lse.shape[3]):
                if packed > 1:
                    join_row(output[:packed, b, h, m], lse[:packed, b, h, m], 1)
                if rotates:
                    rotate(output[0, b, h, m], width)
                if exact:
                    join_row(output[:, b, h, m], lse[:, b, h, m], packed)

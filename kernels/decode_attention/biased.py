"""Attention of the compiled loops over keys whose bias was taken out: its share of the scores is added to them."""

from __future__ import annotations

import torch

from ..key_bias import KeyBias
from ..layout import BlockLayout
from . import cpu
from .reference import Part, merge

# Scores, or cosines and sines, held at a time: larger temporaries are given back to the system after every call.
MOST_ELEMENTS = 2**20


def packed_attention(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: BlockLayout,
    scaling: float,
    visible: torch.Tensor | None,
    key_bias: KeyBias,
    positions: torch.Tensor,
) -> Part:
    """What op.packed_attention says, on a CPU and where cpu.fits, a run of blocks at a time."""
    size, scaled = layout.block_size, query.float() * scaling
    batch, heads, rows, head_dim = query.shape
    step = max(1, MOST_ELEMENTS // (batch * size * max(heads * rows, head_dim)))
    parts = []
    for start in range(0, table.shape[1], step):
        run, slots = slice(start, start + step), slice(start * size, (start + step) * size)
        seen = visible if visible is None or visible.shape[-1] == 1 else visible[..., slots]
        added = key_bias.scores(scaled, _of_tokens(positions, run, size))
        parts.append(
            cpu.packed_attention(query, records, table[:, run], lengths[:, run], layout, scaling, seen, added=added)
        )
    return merge(parts)


def _of_tokens(positions: torch.Tensor, run: slice, block_size: int) -> torch.Tensor:
    """Positions of every token of a run of blocks, [batch, tokens] or [axes, batch, tokens]."""
    if positions.ndim == 4:
        return positions[:, :, run].flatten(2)
    return (positions[:, run, None] + torch.arange(block_size)).flatten(1)

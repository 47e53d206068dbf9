"""Checks arguments and dispatches attention over packed blocks."""

from __future__ import annotations

import torch

from ..composite import CompositeLayout, Layout
from ..cpu_support import compiled_loops
from ..key_bias import KeyBias
from ..layout import BlockLayout
from ..triton_support import chooses_triton, has_triton
from . import biased, cpu, reference
from .arguments import check_exact, check_packed, check_range, trim_exact, trim_table
from .by_parts import by_parts

Part = tuple[torch.Tensor, torch.Tensor]


def backends() -> dict[str, str]:
    """What backend "auto" reads packed blocks with, in words, by device type."""
    torch_alone = "plain torch"
    compiled = f"compiled loops up to {cpu.MOST_ROWS} query rows a KV head, {torch_alone} beyond"
    return {
        "cpu": compiled if compiled_loops() else torch_alone,
        "cuda": "Triton kernels" if has_triton() else torch_alone,
    }


def packed_attention(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: Layout,
    scaling: float,
    visible: torch.Tensor | None = None,
    key_bias: KeyBias | None = None,
    positions: torch.Tensor | None = None,
    backend: str = "auto",
    used: torch.Tensor | None = None,
) -> Part:
    """Attention of queries over packed blocks, without dequantizing more than a few blocks at a time.

    Args:
        query: floating point [batch, num_key_value_heads, rows, head_dim], not rotated; rows are the query heads of a
            KV head times the query tokens.
        records: uint8 [capacity, record_bytes], the pool of packed blocks.
        table: int64 [batch, blocks], the record of each block of each row; entries of length 0 may name any record
            that was ever written.
        lengths: int64 [batch, blocks], tokens of each block that count, 0 to block_size. On a CPU others are refused;
            on a GPU that would wait for the device, and whatever is in table and lengths, only records are read.
        layout: the records' layout.
        scaling: factor on the scores.
        visible: bool, broadcastable to [batch, 1, rows, blocks * block_size]; all when missing.
        key_bias, positions: the bias that was subtracted from the keys before packing, and where: the position of
            each block's first token, int64 [batch, blocks], others following on, or every token's position on
            several axes, int64 [axes, batch, blocks, block_size].
        backend: "auto" takes the Triton kernels on CUDA and the compiled loops on a CPU where they fit
            (triton.refusal_of, cpu.fits), "triton" the former or none, "reference" plain torch.
        used: int64 [batch], how many of its blocks each row has, the rest of table and lengths is not looked at; all
            when missing. So a table may be made once, as wide as it will ever be: Triton's launches depend on its
            width alone and their work on `used`.

    Returns:
        output, fp32 [batch, num_key_value_heads, rows, head_dim], un-rotated, and the log-sum-exp of the scores,
        fp32 [batch, num_key_value_heads, rows]. A row that sees no token has output 0 and log-sum-exp -inf.

    Raises:
        TypeError, ValueError: wrong dtype or shape; backend "triton" where it cannot run.
    """
    check_packed(query, records, table, lengths, layout, used)
    if (key_bias is None) != (positions is None):
        raise ValueError("key_bias and positions go together")
    if isinstance(layout, CompositeLayout):
        return by_parts(
            layout,
            query,
            lambda part, query: packed_attention(
                *(query, records, table, lengths, part.layout, scaling, visible),
                *(part.bias(key_bias), positions, backend, used),
            ),
        )
    if chooses_triton(backend, query.device, lambda: _triton_refusal(query, layout)):
        from . import triton

        bias = key_bias, positions
        return triton.packed_attention(query, records, table, lengths, layout, scaling, visible, *bias, used=used)
    if used is not None:
        table, lengths, visible, positions = trim_table(table, lengths, used, visible, positions, layout.block_size)
        if not table.shape[1]:
            return torch.zeros_like(query, dtype=torch.float32), query.new_full(query.shape[:3], -torch.inf).float()
    compiled = backend == "auto" and cpu.fits(query)
    if compiled and (key_bias is None or positions is None):
        return cpu.packed_attention(query, records, table, lengths, layout, scaling, visible)
    check_range(records, table, lengths, layout.block_size)
    if compiled and key_bias is not None and positions is not None:
        return biased.packed_attention(query, records, table, lengths, layout, scaling, visible, key_bias, positions)
    return reference.packed_attention(query, records, table, lengths, layout, scaling, visible, key_bias, positions)


def _triton_refusal(query: torch.Tensor, layout: BlockLayout) -> str | None:
    from .triton import refusal_of

    return refusal_of(query, layout)


def joint_attention(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: Layout,
    scaling: float,
    keys: torch.Tensor,
    values: torch.Tensor,
    visible: torch.Tensor | None = None,
    exact_visible: torch.Tensor | None = None,
    key_bias: KeyBias | None = None,
    positions: torch.Tensor | None = None,
    backend: str = "auto",
    used: torch.Tensor | None = None,
    exact_lengths: torch.Tensor | None = None,
) -> Part:
    """Attention over packed blocks and exact tokens together: two launches of Triton's where few queries decode.

    Args:
        keys, values, exact_visible, exact_lengths: what exact_attention takes as keys, values, visible and lengths.
        others: what packed_attention takes.

    Returns:
        Like packed_attention.

    Raises:
        TypeError, ValueError: as packed_attention and exact_attention.
    """
    check_packed(query, records, table, lengths, layout, used)
    check_exact(query, keys, values, exact_lengths)
    if isinstance(layout, CompositeLayout):
        return by_parts(
            layout,
            query,
            lambda part, query: joint_attention(
                *(query, records, table, lengths, part.layout, scaling, part.take(keys), part.take(values)),
                *(visible, exact_visible, part.bias(key_bias), positions, backend, used, exact_lengths),
            ),
        )
    bias = key_bias, positions
    if chooses_triton(backend, query.device, lambda: _triton_refusal(query, layout)):
        from . import triton

        if query.shape[2] <= triton.MOST_SPLIT_ROWS:
            call = query, records, table, lengths, layout, scaling
            return triton.packed_attention(*call, visible, *bias, (keys, values), exact_visible, used, exact_lengths)
    plain = used is None and exact_visible is None and key_bias is None
    if plain and backend == "auto" and cpu.joins(query, keys, values):
        exact = keys, values, exact_lengths
        return cpu.packed_attention(query, records, table, lengths, layout, scaling, visible, exact=exact)
    packed = packed_attention(query, records, table, lengths, layout, scaling, visible, *bias, backend, used)
    return merge_attention([exact_attention(query, keys, values, scaling, exact_visible, exact_lengths), packed])


def exact_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float,
    visible: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
) -> Part:
    """Attention over exact tokens, as (output, log-sum-exp) like packed_attention.

    Args:
        query: [batch, num_key_value_heads, rows, head_dim].
        keys, values: [batch, num_key_value_heads, tokens, head_dim], tokens >= 1.
        visible: bool, broadcastable to [batch, 1, rows, tokens]; all when missing.
        lengths: int64 [batch], how many of the tokens each row has, its first; all when missing.

    Raises:
        TypeError, ValueError: wrong dtype, shapes that do not fit.
    """
    check_exact(query, keys, values, lengths)
    if lengths is not None:
        keys, values, visible = trim_exact(keys, values, visible, lengths)
    return reference.exact_attention(query, keys, values, scaling, visible)


def merge_attention(parts: list[Part]) -> Part:
    """Join attention over disjoint sets of tokens by their log-sum-exp; parts must not be empty."""
    if not parts:
        raise ValueError("parts is empty; attention needs at least one set of tokens")
    return reference.merge(parts)

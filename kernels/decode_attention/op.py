"""Checks arguments and dispatches attention over packed blocks."""

from __future__ import annotations

import torch

from ..composite import CompositeLayout, Layout
from ..key_bias import KeyBias
from ..layout import BlockLayout
from ..triton_support import chooses_triton, has_triton
from . import cpu, reference
from .by_parts import by_parts

Part = tuple[torch.Tensor, torch.Tensor]


def backends() -> dict[str, str]:
    """What backend "auto" reads packed blocks with, in words, by device type."""
    torch_alone = "plain torch"
    compiled = f"compiled loops up to {cpu.MOST_ROWS} query rows a KV head, {torch_alone} beyond"
    return {
        "cpu": compiled if cpu.compiled_loops() else torch_alone,
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
) -> Part:
    """Attention of queries over packed blocks, without dequantizing more than a few blocks at a time.

    Args:
        query: floating point [batch, num_key_value_heads, rows, head_dim], not rotated; rows are the query heads of a
            KV head times the query tokens.
        records: uint8 [capacity, record_bytes], the pool of packed blocks.
        table: int64 [batch, blocks], the record of each block of each row; entries of length 0 may name any record
            that was ever written.
        lengths: int64 [batch, blocks], tokens of each block that count, 0 to block_size.
        layout: the records' layout.
        scaling: factor on the scores.
        visible: bool, broadcastable to [batch, 1, rows, blocks * block_size]; all when missing.
        key_bias, positions: the bias that was subtracted from the keys before packing, and where: the position of
            each block's first token, int64 [batch, blocks], others following on, or every token's position on
            several axes, int64 [axes, batch, blocks, block_size].
        backend: "auto" takes the Triton kernels on CUDA and the compiled loops on a CPU where they fit
            (triton.refusal_of, cpu.fits), "triton" the former or none, "reference" plain torch.

    Returns:
        output, fp32 [batch, num_key_value_heads, rows, head_dim], un-rotated, and the log-sum-exp of the scores,
        fp32 [batch, num_key_value_heads, rows]. A row that sees no token has output 0 and log-sum-exp -inf.

    Raises:
        TypeError, ValueError: wrong dtype or shape; backend "triton" where it cannot run.
    """
    _check_packed(query, records, table, lengths, layout)
    if (key_bias is None) != (positions is None):
        raise ValueError("key_bias and positions go together")
    if isinstance(layout, CompositeLayout):
        return by_parts(
            layout,
            query,
            lambda part, query: packed_attention(
                *(query, records, table, lengths, part.layout, scaling, visible),
                *(part.bias(key_bias), positions, backend),
            ),
        )
    if chooses_triton(backend, query.device, lambda: _triton_refusal(query, layout)):
        from . import triton

        return triton.packed_attention(query, records, table, lengths, layout, scaling, visible, key_bias, positions)
    if backend == "auto" and cpu.fits(query, layout, visible, key_bias is not None):
        return cpu.packed_attention(query, records, table, lengths, layout, scaling)
    return reference.packed_attention(query, records, table, lengths, layout, scaling, visible, key_bias, positions)


def _triton_refusal(query: torch.Tensor, layout: BlockLayout) -> str | None:
    from .triton import refusal_of

    return refusal_of(query, layout)


def _check_packed(
    query: torch.Tensor, records: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, layout: Layout
) -> None:
    expected = (table.shape[0], layout.num_key_value_heads, query.shape[-2], layout.head_dim)
    if not query.is_floating_point():
        raise TypeError(f"query must be floating point, got {query.dtype}")
    if tuple(query.shape) != expected:
        raise ValueError(f"query has shape {tuple(query.shape)}; table and layout ask for {expected}")
    if records.dtype != torch.uint8 or records.ndim != 2 or records.shape[1] != layout.record_bytes:
        raise ValueError(f"records must be uint8 [capacity, {layout.record_bytes}], got {tuple(records.shape)}")
    if table.ndim != 2 or table.shape[1] == 0 or table.shape != lengths.shape:
        raise ValueError(
            f"table and lengths must be [batch, blocks] with at least one block, "
            f"got {tuple(table.shape)} and {tuple(lengths.shape)}"
        )


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
) -> Part:
    """Attention over packed blocks and exact tokens together: two launches of Triton's where few queries decode.

    Args:
        keys, values, exact_visible: what exact_attention takes as keys, values and visible.
        others: what packed_attention takes.

    Returns:
        Like packed_attention.

    Raises:
        TypeError, ValueError: as packed_attention and exact_attention.
    """
    _check_packed(query, records, table, lengths, layout)
    _check_exact(query, keys, values)
    if isinstance(layout, CompositeLayout):
        return by_parts(
            layout,
            query,
            lambda part, query: joint_attention(
                *(query, records, table, lengths, part.layout, scaling, part.take(keys), part.take(values)),
                *(visible, exact_visible, part.bias(key_bias), positions, backend),
            ),
        )
    bias = key_bias, positions
    if chooses_triton(backend, query.device, lambda: _triton_refusal(query, layout)):
        from . import triton

        if query.shape[2] <= triton.MOST_SPLIT_ROWS:
            call = query, records, table, lengths, layout, scaling
            return triton.packed_attention(*call, visible, *bias, (keys, values), exact_visible)
    packed = packed_attention(query, records, table, lengths, layout, scaling, visible, *bias, backend)
    return merge_attention([exact_attention(query, keys, values, scaling, exact_visible), packed])


def exact_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float,
    visible: torch.Tensor | None = None,
) -> Part:
    """Attention over exact tokens, as (output, log-sum-exp) like packed_attention.

    Args:
        query: [batch, num_key_value_heads, rows, head_dim].
        keys, values: [batch, num_key_value_heads, tokens, head_dim], tokens >= 1.
        visible: bool, broadcastable to [batch, 1, rows, tokens]; all when missing.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check_exact(query, keys, values)
    return reference.exact_attention(query, keys, values, scaling, visible)


def _check_exact(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
    if keys.shape != values.shape or keys.shape[:2] != query.shape[:2] or keys.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"query {tuple(query.shape)}, keys {tuple(keys.shape)} and values {tuple(values.shape)} do not fit"
        )


def merge_attention(parts: list[Part]) -> Part:
    """Join attention over disjoint sets of tokens by their log-sum-exp; parts must not be empty."""
    if not parts:
        raise ValueError("parts is empty; attention needs at least one set of tokens")
    return reference.merge(parts)

"""Attention by Triton: split_kernel over shares of the blocks and of the exact tokens, merge_kernel over the shares."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton

from ..key_bias import KeyBias
from ..layout import BlockLayout
from ..triton_support import layout_numbers, layout_of
from .reference import Part
from .triton_bias import BiasTiles
from .triton_configs import (
    EXACT_CHUNK,
    MERGE_CHUNK,
    MOST_SPLIT_ROWS,
    SplitConfig,
    merge_warps,
    split_config,
    split_count,
)
from .triton_exact import EXACT_SLOTS
from .triton_merge import merge_kernel
from .triton_sizes import LEAST_DEPTH, LEAST_TILE, refusal, tiles_of
from .triton_split import split_kernel

__all__ = ["MOST_SPLIT_ROWS", "packed_attention", "packed_attention_op", "refusal_of"]

Tensors = list[torch.Tensor]
Strides = tuple[int, ...]
INTERPRETED_PROCESSORS = 2  # so that the interpreter, too, joins several shares


def refusal_of(query: torch.Tensor, layout: BlockLayout) -> str | None:
    """Why these kernels do not take a call on a device that runs them, in words; None if they do."""
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"query is {query.dtype}, not float16, bfloat16 or float32"
    return refusal(layout)


def packed_attention(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: BlockLayout,
    scaling: float,
    visible: torch.Tensor | None = None,
    key_bias: KeyBias | None = None,
    positions: torch.Tensor | None = None,
    exact: Part | None = None,
    exact_visible: torch.Tensor | None = None,
    used: torch.Tensor | None = None,
    exact_lengths: torch.Tensor | None = None,
) -> Part:
    """What op.packed_attention says; with exact keys and values [batch, heads, slots, head_dim] joined in."""
    bias: Tensors = []
    if key_bias is not None and positions is not None:
        axes = key_bias.axes if key_bias.axes is not None else torch.zeros_like(key_bias.inv_freq, dtype=torch.int64)
        bias = [key_bias.bias.float(), key_bias.inv_freq.float(), axes, positions.contiguous()]
    attention_scaling = 1.0 if key_bias is None else key_bias.attention_scaling
    numbers = layout_numbers(layout)
    return packed_attention_op(
        *(query, records, table, lengths, numbers, scaling, visible, bias, attention_scaling),
        *(list(exact or ()), exact_visible, used, exact_lengths),
    )


@torch.library.custom_op("oscar_x::packed_attention", mutates_args=())
def packed_attention_op(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: list[int],
    scaling: float,
    visible: torch.Tensor | None,
    bias: list[torch.Tensor],
    attention_scaling: float,
    exact: list[torch.Tensor],
    exact_visible: torch.Tensor | None,
    used: torch.Tensor | None,
    exact_lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The launches, without anything that waits for the device. Their sizes depend on shapes alone.

    Args:
        layout: layout_numbers() of the layout.
        bias: nothing, or the bias and inverse frequencies in fp32, axes, positions.
        exact: nothing, or keys and values.
        others: as in packed_attention.
    """
    batch, heads, rows, head_dim = query.shape
    config = split_config(head_dim, rows)
    tile = min(config.rows, max(LEAST_TILE, triton.next_power_of_2(rows)))
    tiles = batch * heads * triton.cdiv(rows, tile)
    others = triton.cdiv(exact[0].shape[2], EXACT_SLOTS.value) if exact else 0
    splits = split_count(config, tiles, table.shape[1], rows, _processors(query.device), others)
    whole = splits == 1 and not exact
    part = query.new_empty(splits + others, batch, heads, rows, head_dim, dtype=torch.float32)
    part_lse = query.new_empty(part.shape[:-1], dtype=torch.float32)
    tensors = query, records, table, lengths, used, visible, bias, exact, exact_visible, exact_lengths
    _split(*tensors, layout_of(layout), scaling, attention_scaling, part, part_lse, others, config, tile, whole)
    if whole:
        return part[0], part_lse[0]
    return _merge(part, part_lse, others, layout_of(layout))


@packed_attention_op.register_fake
def _(query, *_others):
    output = query.new_empty(query.shape, dtype=torch.float32)
    return output, output.new_empty(query.shape[:3])


def _split(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    used: torch.Tensor | None,
    visible: torch.Tensor | None,
    bias: Tensors,
    exact: Tensors,
    exact_visible: torch.Tensor | None,
    exact_lengths: torch.Tensor | None,
    layout: BlockLayout,
    scaling: float,
    attention_scaling: float,
    part: torch.Tensor,
    part_lse: torch.Tensor,
    others: int,
    config: SplitConfig,
    tile: int,
    whole: bool,
) -> None:
    (shares, batch, heads, rows, _), blocks = part.shape, table.shape[1]
    slots = exact[0].shape[2] if exact else 0
    seen, seen_strides = _mask(visible, batch, rows, blocks * layout.block_size)
    exact_seen, exact_seen_strides = _mask(exact_visible, batch, rows, slots)
    exact_strides = [stride for states in exact for stride in states.stride()[:3]] or [0] * 6
    bias_tiles = _bias_tiles(bias)
    sizes = tiles_of(layout)
    split_kernel[(batch * heads * triton.cdiv(rows, tile), shares)](
        query, records, table, lengths, used, place_masks(query.device), seen, *(tuple(bias) or (None,) * 4),
        *(tuple(exact) or (None,) * 2), exact_seen, exact_lengths, part, part_lse,
        rows, blocks, len(records), slots, others, scaling, attention_scaling,
        *query.stride()[:3], *seen_strides, *exact_strides, *exact_seen_strides,
        R=sizes.record, K=sizes.keys, V=sizes.values, B=bias_tiles,
        ROWS=tile, FINE=query.dtype == torch.float32, MASKED=visible is not None,
        EXACT=bool(exact), EXACT_MASKED=exact_visible is not None, WHOLE=whole,
        num_warps=config.num_warps, num_stages=config.num_stages, maxnreg=config.registers or None,
    )  # fmt: skip


def _merge(part: torch.Tensor, part_lse: torch.Tensor, others: int, layout: BlockLayout) -> Part:
    output, lse = torch.empty_like(part[0]), torch.empty_like(part_lse[0])
    merge_kernel[(lse.numel(),)](
        *(part, part_lse, output, lse, len(part) - others, others),
        R=tiles_of(layout).record, CHUNK=MERGE_CHUNK, EXACT_CHUNK=EXACT_CHUNK, num_warps=merge_warps(layout.head_dim),
    )  # fmt: skip
    return output, lse


def _mask(visible: torch.Tensor | None, batch: int, rows: int, slots: int) -> tuple[torch.Tensor | None, Strides]:
    if visible is None:
        return None, (0, 0, 0)
    whole = visible.expand(batch, 1, rows, slots)
    return whole.view(torch.uint8), (whole.stride(0), whole.stride(2), whole.stride(3))


def _bias_tiles(bias: Tensors) -> BiasTiles:
    if not bias:
        return BiasTiles(0, 0, 0, 0)
    _, inv_freq, _, positions = bias
    pairs, placed = len(inv_freq), positions.ndim == 4
    padded = max(LEAST_DEPTH, triton.next_power_of_2(pairs))
    return BiasTiles(pairs, padded, len(positions) if placed else 0, positions[0].numel() if placed else 0)


@lru_cache(maxsize=16)
def place_masks(device: torch.device) -> torch.Tensor:
    """The bits that each place of a byte takes, uint8 [16]: one place from 1 on, two from 2 on, four from 4, eight from
    8."""
    masks = [((1 << 8 // places) - 1) << 8 // places * place for places in (1, 2, 4, 8) for place in range(places)]
    return torch.tensor([0, *masks], dtype=torch.uint8, device=device)


@lru_cache(maxsize=16)
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count

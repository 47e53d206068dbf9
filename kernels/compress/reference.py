"""Rotate, scale by token norm, quantize and pack blocks of tokens; and the way back. Readable form.

Paper, section on OScaR: k' = H k / ||k||, v' = H v, then asymmetric integers, keys per channel over groups of
tokens, values per token over groups of channels.
"""

from __future__ import annotations

import torch

from ..hadamard.reference import hadamard_transform
from ..layout import MOST_DAMPING, NORM_KNEE, BlockLayout, MatrixLayout
from ..pack.reference import pack_bits, pack_rows, unpack_bits, unpack_rows
from ..quantize import reference as quantize

NORM_LEVELS = 255


def compress_blocks(keys: torch.Tensor, values: torch.Tensor, layout: BlockLayout, out: torch.Tensor) -> None:
    keys, values = keys.float(), values.float()
    if layout.rotate_keys:
        keys = hadamard_transform(keys)
    if layout.rotate_values:
        values = hadamard_transform(values)
    if layout.token_norm != "none":
        keys = keys / store_norms(keys, layout, out)[..., None]
    amplitude = torch.stack([_amplitude(keys), _amplitude(values)], dim=-1)
    layout.view(out, "amplitude").copy_(amplitude)
    store_matrix((keys / amplitude[..., 0, None, None]).transpose(-1, -2), layout, layout.keys, out)
    values = values / amplitude[..., 1, None, None]
    store_matrix(values.transpose(-1, -2) if layout.value_along_tokens else values, layout, layout.values, out)


def _amplitude(x: torch.Tensor) -> torch.Tensor:
    largest = x.abs().amax(dim=(-1, -2))
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def store_norms(keys: torch.Tensor, layout: BlockLayout, out: torch.Tensor) -> torch.Tensor:
    """Writes the norms of keys [blocks, heads, tokens, channels]; returns them as stored [blocks, heads, tokens]."""
    # in units of the largest element: squares of very large or small keys leave fp32
    largest = keys.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(keys.dtype).tiny)
    squares = (keys / largest).square().sum(-1)
    if layout.token_norm == "shared":
        squares = squares.sum(1, keepdim=True)
    roots = squares.sqrt()
    norms = (damped(roots) if layout.token_norm == "damped" else roots) * largest[..., 0]
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    codes, span = layout.view(out, "norm_codes"), layout.view(out, "norm_range")
    if layout.norm_bits == 16:
        span[..., 0], span[..., 1] = norms.amax(-1), 0
        codes.copy_(norms / span[..., :1])
    else:
        low, high = norms.log().aminmax(dim=-1)
        span[..., 0], span[..., 1] = low, (high - low) / NORM_LEVELS
        step = torch.where(span[..., 1:] > 0, span[..., 1:], torch.ones_like(span[..., 1:]))
        codes.copy_(((norms.log() - span[..., :1]) / step).round_().clamp_(0, NORM_LEVELS))
    stored = load_norms(layout, out)
    # a norm that fp16 rounds to zero beside a huge one: the token is divided by its own norm and read back as zero
    return torch.where(stored > 0, stored, norms)


def damped(norms: torch.Tensor) -> torch.Tensor:
    """Norms [..., tokens] of a block with those that stand out drawn to the others.

    An element's error is in proportion to what its token was divided by. Divided by less, a token that stands out is
    stored better, at the cost of the groups that its elements then widen.
    """
    knee = NORM_KNEE * norms.mean(-1, keepdim=True)
    beyond = norms / torch.where(knee > 0, knee, torch.ones_like(knee))
    return norms / beyond.square().clamp(1, MOST_DAMPING)


def load_norms(layout: BlockLayout, records: torch.Tensor) -> torch.Tensor:
    """fp32 [blocks, heads or 1, tokens]."""
    codes, span = layout.view(records, "norm_codes").float(), layout.view(records, "norm_range")
    if layout.norm_bits == 16:
        return codes * span[..., :1]
    return (codes * span[..., 1:] + span[..., :1]).exp()


def store_matrix(x: torch.Tensor, layout: BlockLayout, matrix: MatrixLayout, out: torch.Tensor) -> None:
    """Quantizes and packs x [blocks, heads, cols, rows], groups along its last axis, in units of the amplitude."""
    scale, minimum = quantize.group_range(x, matrix.group_size, matrix.bits)
    scale, minimum = _store_table(scale, minimum, layout, matrix, out)
    codes = quantize.encode_groups(x, scale, minimum, matrix.group_size, matrix.bits)
    layout.view(out, f"{matrix.name}_codes").copy_(pack_rows(codes.transpose(-1, -2), matrix.bits))


def _store_table(
    scale: torch.Tensor, minimum: torch.Tensor, layout: BlockLayout, matrix: MatrixLayout, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Writes scales and minimums, both [blocks, heads, cols, groups]; returns them as they will be read back."""
    table = layout.view(out, f"{matrix.name}_scales")
    if not matrix.nested:
        table.copy_(torch.cat([scale.transpose(-1, -2), minimum.transpose(-1, -2)], dim=-1))
    else:
        codes, ranges = [], []
        for numbers in (scale, minimum):
            # the token axis first: a range covers one group of tokens, or a run of tokens with all their groups
            by_token = numbers.transpose(-1, -2) if matrix.along_tokens else numbers
            per_range = 1 if matrix.along_tokens else matrix.tokens_per_range
            code, low, step = quantize.quantize_table(by_token, matrix.scale_bits, per_range)
            codes.append(code if matrix.along_tokens else code.transpose(-1, -2))
            ranges += [low, step]
        table.copy_(pack_bits(torch.cat(codes, dim=-1), matrix.scale_bits))
        layout.view(out, f"{matrix.name}_ranges").copy_(torch.stack(ranges, dim=-1))
    stored_scale, stored_minimum = _load_table(out, layout, matrix)
    return stored_scale.transpose(-1, -2), stored_minimum.transpose(-1, -2)


def load_scales(records: torch.Tensor, layout: BlockLayout, matrix: MatrixLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and minimum, fp32 [..., heads, groups, cols]."""
    amplitude = layout.view(records, "amplitude")[..., 0 if matrix.name == "key" else 1, None, None]
    scale, minimum = _load_table(records, layout, matrix)
    return scale * amplitude, minimum * amplitude


def _load_table(records: torch.Tensor, layout: BlockLayout, matrix: MatrixLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in units of the block's amplitude."""
    table = layout.view(records, f"{matrix.name}_scales")
    if not matrix.nested:
        scale, minimum = table.float().chunk(2, dim=-1)
        return scale, minimum
    if matrix.scale_bits == 4:  # one byte a group: the scale below, the minimum above
        scale_codes, minimum_codes = table & 15, table >> 4
    else:
        scale_codes, minimum_codes = unpack_bits(table, matrix.scale_bits, 2 * matrix.cols).chunk(2, dim=-1)
    scale_low, scale_step, low, step = layout.view(records, f"{matrix.name}_ranges").float().unbind(-1)
    return _from_ranges(scale_codes, scale_low, scale_step, matrix), _from_ranges(minimum_codes, low, step, matrix)


def _from_ranges(codes: torch.Tensor, low: torch.Tensor, step: torch.Tensor, matrix: MatrixLayout) -> torch.Tensor:
    """Table entries [..., groups, cols] from their codes and the ranges [..., ranges]."""
    if matrix.along_tokens:
        return codes.float().mul_(step[..., None]).add_(low[..., None])
    runs = codes.float().unflatten(-1, (matrix.ranges, -1))
    return runs.mul_(step[..., None, :, None]).add_(low[..., None, :, None]).flatten(-2)


def load_matrix(records: torch.Tensor, layout: BlockLayout, matrix: MatrixLayout) -> torch.Tensor:
    """fp32 [..., heads, rows, cols]: rotated keys before their norms, or rotated values."""
    scale, minimum = load_scales(records, layout, matrix)
    codes = unpack_rows(layout.view(records, f"{matrix.name}_codes"), matrix.bits, matrix.rows)
    return quantize.dequantize_rows(codes, scale, minimum, matrix.width)


def decompress_blocks(records: torch.Tensor, layout: BlockLayout) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = (load_matrix(records, layout, matrix) for matrix in (layout.keys, layout.values))
    values = values if layout.value_along_tokens else values.transpose(-1, -2)
    if layout.token_norm != "none":
        keys = keys * load_norms(layout, records)[..., None]
    return (
        hadamard_transform(keys) if layout.rotate_keys else keys.contiguous(),
        hadamard_transform(values) if layout.rotate_values else values.contiguous(),
    )

"""Adds up what the layers of a cache hold."""

from __future__ import annotations

from collections import Counter

import torch
from transformers.cache_utils import CacheLayerMixin

from ..memory import MemoryReport
from .layer import OscarLayer
from .shared import Shared


def layer_parts(layer: OscarLayer) -> Counter[str]:
    """Allocated bytes of one compressed layer by part; they sum to the bytes of its storages."""
    parts: Counter[str] = Counter()
    if not layer.is_initialized:
        return parts
    live = layer.pool.live
    for part, size in layer.compressor.layout.bytes_by_part().items():
        parts[part] += live * size
    parts["slack"] += (len(layer.pool.records) - live) * layer.compressor.layout.record_bytes
    token = (layer.exact.keys.nbytes + layer.exact.values.nbytes) // (len(layer.rows) * layer.exact.capacity)
    sinks = sum(row.exact - row.residual for row in layer.rows)
    residual = sum(row.residual for row in layer.rows)
    parts["sinks"] += token * sinks
    parts["residual"] += token * residual
    parts["slack"] += layer.exact.nbytes - token * (sinks + residual)
    if layer._table is not None:
        parts["other"] += layer._table.nbytes
    if layer._exact_lengths is not None:
        parts["other"] += layer._exact_lengths.nbytes
    return parts


def unfilled_bytes(layer: OscarLayer) -> int:
    """Bytes of packed blocks that hold no token of any row, out of those that layer_parts() counts."""
    filled: dict[int, int] = {}
    for row in layer.rows:
        for block, length in zip(row.blocks, row.lengths, strict=True):
            filled[block] = max(length, filled.get(block, 0))
    block_size = layer.oscar.block_size
    empty = sum(block_size - length for length in filled.values())
    return empty * layer.compressor.layout.record_bytes // block_size


def native_bytes(layer: CacheLayerMixin) -> int:
    """Allocated bytes of a layer that transformers keeps; a view counts its whole storage once."""
    tensors = [value for value in vars(layer).values() if isinstance(value, torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def full_elements(layer: CacheLayerMixin) -> tuple[int, int]:
    """Key and value elements that a full cache holds for the same columns, and the bytes of one."""
    if isinstance(layer, OscarLayer):
        keys = layer.exact.keys
        return 2 * len(layer.rows) * keys.shape[1] * layer.get_seq_length() * keys.shape[3], keys.dtype.itemsize
    keys, values = layer.keys, layer.values
    if keys is None or keys.numel() == 0:
        return 0, 2
    return keys.numel() + values.numel(), keys.dtype.itemsize


def report(layers: list[CacheLayerMixin], shared: Shared) -> MemoryReport:
    """The report of a whole cache."""
    parts: Counter[str] = Counter(other=shared.sights.nbytes + shared.nbytes)
    full = full_16bit = packed = native = unfilled = 0
    held = [layer for layer in layers if layer.is_initialized]
    for layer in held:
        elements, size = full_elements(layer)
        full += elements * size
        full_16bit += elements * 2
        if isinstance(layer, OscarLayer):
            parts += layer_parts(layer)
            layout = layer.compressor.layout
            packed += 2 * layout.num_key_value_heads * layout.head_dim * layer.packed_tokens
            unfilled += unfilled_bytes(layer)
        else:
            native += native_bytes(layer)
    parts["other"] += native
    columns = max((layer.get_seq_length() for layer in held), default=0)
    batch_size = max(
        (len(layer.rows) if isinstance(layer, OscarLayer) else len(layer.keys) for layer in held), default=0
    )
    return MemoryReport(
        **parts,
        peak=max(shared.meter.peak + native, sum(parts.values())),
        full_cache=full,
        full_cache_16bit=full_16bit,
        columns=columns,
        batch_size=batch_size,
        packed_elements=packed,
        unfilled=unfilled,
    )

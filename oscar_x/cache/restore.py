"""Puts what a file describes back into a layer, trusting none of it."""

from __future__ import annotations

from typing import Any

import torch

from ..compressor import block_layout
from ..config import OscarConfig
from .layer import OscarLayer
from .rows import Row


def check_row(described: dict[str, Any], settings: OscarConfig, records: int, keys: torch.Tensor) -> Row:
    """A Row whose numbers fit together and point inside the file's tensors.

    Raises:
        ValueError: they do not.
    """
    row = Row(
        sink_tokens=whole(described["sink_tokens"]),
        columns=whole(described["columns"]),
        spans=[(whole(start), whole(stop)) for start, stop in described["spans"]],
        exact=whole(described["exact"]),
        blocks=[whole(block) for block in described["blocks"]],
        lengths=[whole(length) for length in described["lengths"]],
    )
    edges = [edge for span in row.spans for edge in span]
    sound = (
        (row.sink_tokens == settings.sink_tokens or (settings.online and 0 <= row.sink_tokens <= settings.most_sinks))
        and edges == sorted(set(edges))
        and (not edges or (edges[0] >= 0 and edges[-1] <= row.columns))
        and 0 <= row.exact <= keys.shape[2]
        and len(row.blocks) == len(row.lengths)
        and all(0 <= block < records for block in row.blocks)
        and all(0 < length <= settings.block_size for length in row.lengths)
        and (not row.blocks or row.exact >= row.sink_tokens)
        and sum(stop - start for start, stop in row.spans) == row.exact + row.packed
    )
    if not sound:
        raise ValueError("the rows of a layer do not fit its tensors")
    return row


def whole(number: Any) -> int:
    """The number, if it is a whole one; other types are no mistake that a writer could have made."""
    if type(number) is not int:
        raise ValueError(f"{number!r} where a whole number belongs")
    return number


def restore_layer(
    layer: OscarLayer, rows: list[Row], records: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> None:
    """Fill an empty layer.

    Raises:
        ValueError: tensors of another shape or dtype than the layer's.
    """
    if keys.ndim != 4 or keys.shape != values.shape or keys.dtype != values.dtype or not keys.is_floating_point():
        raise ValueError(f"keys {tuple(keys.shape)} and values {tuple(values.shape)} do not fit")
    if len(rows) != len(keys) or len({row.columns for row in rows}) != 1:
        raise ValueError(f"{len(rows)} rows for a batch of {len(keys)}")
    record_bytes = block_layout(layer.oscar, keys.shape[1], keys.shape[3]).record_bytes
    if records.dtype != torch.uint8 or records.ndim != 2 or records.shape[1] != record_bytes:
        raise ValueError(f"records {tuple(records.shape)} {records.dtype} do not fit blocks of {record_bytes} bytes")
    layer.lazy_initialization(keys, values)
    layer.pool.allocate(len(records))
    layer.pool.records.copy_(records)
    layer.pool.users = [sum(row.blocks.count(block) for row in rows) for block in range(len(records))]
    layer.pool.free = [block for block, users in enumerate(layer.pool.users) if users == 0]
    layer.exact.write(list(range(len(rows))), 0, keys, values)
    layer.rows = rows

"""What attention over a cache asks of its arguments, and arguments cut to the tokens that there are."""

from __future__ import annotations

import torch

from ..composite import Layout


def check_packed(
    query: torch.Tensor,
    records: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    layout: Layout,
    used: torch.Tensor | None,
) -> None:
    """Types, shapes and devices of packed_attention's arguments: nothing that waits for a device."""
    expected = (table.shape[0], layout.num_key_value_heads, query.shape[-2], layout.head_dim)
    if not query.is_floating_point():
        raise TypeError(f"query must be floating point, got {query.dtype}")
    if tuple(query.shape) != expected:
        raise ValueError(f"query has shape {tuple(query.shape)}; table and layout ask for {expected}")
    if records.dtype != torch.uint8 or records.ndim != 2 or records.shape[1] != layout.record_bytes:
        raise ValueError(
            f"records must be uint8 [capacity, {layout.record_bytes}], got {records.dtype} {tuple(records.shape)}"
        )
    if table.ndim != 2 or table.shape[1] == 0 or table.shape != lengths.shape:
        raise ValueError(
            f"table and lengths must be [batch, blocks] with at least one block, "
            f"got {tuple(table.shape)} and {tuple(lengths.shape)}"
        )
    if table.dtype != torch.int64 or lengths.dtype != torch.int64:
        raise TypeError(f"table and lengths must be int64, got {table.dtype} and {lengths.dtype}")
    for name, tensor in (("records", records), ("table", table), ("lengths", lengths)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got strides {tensor.stride()} for {tuple(tensor.shape)}")
        _check_device(name, tensor, query)
    _check_last_axis("query", query)
    if used is not None:
        _check_counts("used", used, query)


def check_exact(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor | None = None
) -> None:
    """Types, shapes and devices of exact_attention's arguments."""
    if keys.shape != values.shape or keys.shape[:2] != query.shape[:2] or keys.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"query {tuple(query.shape)}, keys {tuple(keys.shape)} and values {tuple(values.shape)} do not fit"
        )
    for name, tensor in (("keys", keys), ("values", values)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
        _check_device(name, tensor, query)
        _check_last_axis(name, tensor)
    if lengths is not None:
        _check_counts("lengths of exact tokens", lengths, query)


def _check_device(name: str, tensor: torch.Tensor, query: torch.Tensor) -> None:
    if tensor.device != query.device:
        raise ValueError(f"{name} is on {tensor.device}, query on {query.device}")


def _check_last_axis(name: str, tensor: torch.Tensor) -> None:
    if tensor.stride(-1) != 1:
        raise ValueError(f"{name} must be contiguous along head_dim, got strides {tensor.stride()}")


def _check_counts(name: str, counts: torch.Tensor, query: torch.Tensor) -> None:
    if counts.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {counts.dtype}")
    if tuple(counts.shape) != (len(query),) or not counts.is_contiguous():
        raise ValueError(f"{name} must be contiguous [{len(query)}], got {tuple(counts.shape)}")
    _check_device(name, counts, query)


def check_range(records: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, block_size: int) -> None:
    """Refuses what points past the pool or a block, on a CPU: compiled loops would read there.

    Raises:
        ValueError: an entry out of range.
    """
    if table.device.type != "cpu" or torch.compiler.is_compiling():
        return
    for name, tensor, most in (("table", table, len(records) - 1), ("lengths", lengths, block_size)):
        held = tensor.numpy()  # whose reductions begin sooner than torch's
        low, high = int(held.min()), int(held.max())
        if low < 0 or high > most:
            raise ValueError(f"{name} holds {low if low < 0 else high}; allowed are 0 to {most}")


def trim_table(
    table: torch.Tensor,
    lengths: torch.Tensor,
    used: torch.Tensor,
    visible: torch.Tensor | None,
    positions: torch.Tensor | None,
    block_size: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """table, lengths, visible and positions without the blocks that no row has; what a row has not is made empty.

    Waits for the device.
    """
    most, held = int(used.max()), torch.arange(table.shape[1], device=table.device) < used[:, None]
    lengths = lengths.where(held, 0)[:, :most].contiguous()
    # an empty entry repeats one that was written: garbage times a weight of 0 might not be 0
    table = table.where(held, table[used.argmax(), 0])[:, :most].contiguous()
    if visible is not None and visible.shape[-1] > 1:
        visible = visible[..., : most * block_size]
    if positions is not None:
        positions = positions[:, :most] if positions.ndim == 2 else positions[:, :, :most]
    return table, lengths, visible, positions


def trim_exact(
    keys: torch.Tensor, values: torch.Tensor, visible: torch.Tensor | None, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """keys, values and visible without the slots in which no row holds a token; the others' are made invisible.

    Whatever lies in a slot without a token, its value becomes 0: a weight of 0 times NaN would be NaN.

    Waits for the device.
    """
    least, most = (int(number) for number in lengths.aminmax())
    most = max(1, most)
    keys, values = keys[:, :, :most], values[:, :, :most]
    if visible is not None and visible.shape[-1] > 1:
        visible = visible[..., :most]
    if least < most:
        held = (torch.arange(most, device=keys.device) < lengths[:, None])[:, None, None]
        visible = held if visible is None else visible & held
        values = values.masked_fill(~held.transpose(-1, -2), 0)
    return keys, values, visible

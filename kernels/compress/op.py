"""Checks arguments and dispatches block compression."""

from __future__ import annotations

import torch

from ..composite import CompositeLayout, Layout, parts_of
from ..layout import BlockLayout
from ..triton_support import chooses_triton
from . import cpu, reference
from .finite import check_finite


def compress_blocks(
    key_states: torch.Tensor,
    value_states: torch.Tensor,
    layout: Layout,
    out: torch.Tensor | None = None,
    ids: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Pack whole blocks of post-RoPE keys and values.

    Args:
        key_states, value_states: floating point [blocks, num_key_value_heads, block_size, head_dim].
        layout: the record to write.
        out: uint8 [blocks, record_bytes] to write into; allocated when missing.
        ids: int64 [blocks]; out is then a pool [capacity, record_bytes], and these of its records are written. They
            must differ from one another.
        backend: "auto" takes the Triton kernels on CUDA and the compiled loops on a CPU where they fit (cpu.fits),
            "triton" the former or none, "reference" plain torch. Their records differ where an element lies halfway
            between two codes.

    Returns:
        out.

    Raises:
        TypeError, ValueError: wrong dtype or shape, or an element that is NaN or infinite; backend "triton" where it
            cannot run.
    """
    expected = (layout.num_key_value_heads, layout.block_size, layout.head_dim)
    for name, tensor in (("key_states", key_states), ("value_states", value_states)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
        if tensor.ndim != 4 or tuple(tensor.shape[1:]) != expected or len(tensor) != len(key_states):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; expected [blocks, {', '.join(map(str, expected))}]"
            )
    if out is None:
        out = torch.zeros(len(key_states), layout.record_bytes, dtype=torch.uint8, device=key_states.device)
    _check_records(out, ids, layout, len(key_states))
    if not torch.compiler.is_compiling():  # there the operator asks, which torch.compile does not look into
        check_finite(key_states, value_states)
    for part in parts_of(layout):
        _compress(part.take(key_states), part.take(value_states), part.layout, out, ids, backend)
    return out


def _compress(
    key_states: torch.Tensor,
    value_states: torch.Tensor,
    layout: BlockLayout,
    out: torch.Tensor,
    ids: torch.Tensor | None,
    backend: str,
) -> None:
    if chooses_triton(backend, key_states.device, lambda: _triton_refusal(key_states, value_states, layout)):
        from . import triton

        every = torch.arange(len(key_states), device=key_states.device) if ids is None else ids
        triton.compress_blocks(key_states, value_states, layout, out, every)
    elif backend == "auto" and cpu.fits(key_states, value_states, layout, out):
        cpu.compress_blocks(key_states, value_states, layout, out, ids)
    elif ids is None:
        reference.compress_blocks(key_states, value_states, layout, out)
    else:
        fresh = torch.zeros(len(key_states), layout.record_bytes, dtype=torch.uint8, device=key_states.device)
        reference.compress_blocks(key_states, value_states, layout, fresh)
        own = slice(layout.start, layout.start + layout.nbytes)
        out[ids, own] = fresh[:, own]


def _triton_refusal(key_states: torch.Tensor, value_states: torch.Tensor, layout: BlockLayout) -> str | None:
    from .triton import refusal_of

    return refusal_of(key_states, value_states, layout)


def _check_records(out: torch.Tensor, ids: torch.Tensor | None, layout: Layout, blocks: int) -> None:
    rows = out.shape[0] if ids is not None and out.ndim else blocks
    if tuple(out.shape) != (rows, layout.record_bytes) or out.dtype != torch.uint8 or not out.is_contiguous():
        raise ValueError(
            f"out must be uint8 {(rows, layout.record_bytes)} with contiguous records, "
            f"got {out.dtype} {tuple(out.shape)}"
        )
    if ids is not None and (ids.dtype != torch.int64 or tuple(ids.shape) != (blocks,)):
        raise ValueError(f"ids must be int64 [{blocks}], got {ids.dtype} {tuple(ids.shape)}")
    if ids is not None and blocks and ids.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (int(number) for number in ids.aminmax())
        if low < 0 or high >= rows:
            raise ValueError(f"ids holds {low if low < 0 else high}; allowed are 0 to {rows - 1}")


def decompress_blocks(records: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of compress_blocks up to quantization: un-rotated fp32 keys and values.

    Args:
        records: uint8 [blocks, record_bytes].

    Returns:
        keys and values, fp32 [blocks, num_key_value_heads, block_size, head_dim].

    Raises:
        ValueError: records of another layout.
    """
    if records.dtype != torch.uint8 or records.ndim != 2 or records.shape[-1] != layout.record_bytes:
        raise ValueError(
            f"records must be uint8 [blocks, {layout.record_bytes}], got {records.dtype} {tuple(records.shape)}"
        )
    if not isinstance(layout, CompositeLayout):
        return reference.decompress_blocks(records, layout)
    shape = len(records), layout.num_key_value_heads, layout.block_size, layout.head_dim
    keys, values = (torch.empty(shape, device=records.device) for _ in range(2))
    for part in layout.parts:
        for share, whole in zip(reference.decompress_blocks(records, part.layout), (keys, values), strict=True):
            part.put(share, whole)
    return keys, values

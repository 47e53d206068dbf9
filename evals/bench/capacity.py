"""What fits in a given memory: the largest batch at a context and the longest context of a batch, by exact bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...cache.pool import GROWTH, LEAST_GROWTH
from ...compressor import block_layout
from ...config import PRESETS, OscarConfig
from .bandwidth import dtype_name
from .packed import packed_blocks
from .shapes import Shape

FULL = "full"
TABLE_ENTRY = 2 * 8  # bytes of a block's id and length in the table that kernels read
MOST_CONTEXT = 2**32


@dataclass(frozen=True)
class CapacityRow:
    """One cache in one memory.

    Attributes:
        op: "max_batch" at `context`, or "max_context" of `batch`.
        backend: "full" or "oscar-<preset>".
        dtype, shape: of the model's weights and states, and its shape.
        context, batch: the given one, and the largest that fits.
        memory_bytes, weights_bytes, reserve_bytes: given, taken by the decoder's weights, and kept free.
        cache_bytes: of the cache at this size while it decodes.
        ratio_to_full: the largest batch, or context, over that of a full cache; None where nothing fits in full.
    """

    op: str
    backend: str
    dtype: str
    shape: str
    context: int
    batch: int
    memory_bytes: int
    weights_bytes: int
    reserve_bytes: int
    cache_bytes: int
    ratio_to_full: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def prompt_bytes(shape: Shape, settings: OscarConfig, context: int, batch: int, dtype: torch.dtype) -> int:
    """Bytes that the cache of all layers holds after a prompt: packed blocks, exact buffers, block tables."""
    blocks = packed_blocks(settings, context)
    return shape.layers * (batch * blocks * _block(shape, settings) + _exact(shape, settings, batch, dtype))


def decoding_bytes(shape: Shape, settings: OscarConfig, context: int, batch: int, dtype: torch.dtype) -> int:
    """The most that it holds while tokens are added: storage grown ahead, and one layer's storage twice as it grows."""
    blocks = batch * packed_blocks(settings, context)
    grown = blocks + max(batch, LEAST_GROWTH, blocks // GROWTH)
    held = shape.layers * (grown * _block(shape, settings) + _exact(shape, settings, batch, dtype))
    return held + blocks * _block(shape, settings)


def _block(shape: Shape, settings: OscarConfig) -> int:
    return block_layout(settings, shape.key_value_heads, shape.head_dim).record_bytes + TABLE_ENTRY


def _exact(shape: Shape, settings: OscarConfig, batch: int, dtype: torch.dtype) -> int:
    window = settings.sink_tokens + settings.residual_length + settings.block_size
    return batch * shape.full_bytes(window, dtype.itemsize)


def full_bytes(shape: Shape, context: int, batch: int, dtype: torch.dtype) -> int:
    """Bytes of transformers' full cache; it is concatenated at each step, so one layer is there twice."""
    return (shape.layers + 1) * batch * shape.full_bytes(context, dtype.itemsize)


def capacities(
    shape: Shape,
    contexts: Sequence[int],
    batches: Sequence[int],
    memory_bytes: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    presets: Iterable[str] = tuple(PRESETS),
    reserve_bytes: int = 0,
) -> list[CapacityRow]:
    """The largest batch at each context, and the longest context of each batch, full cache first.

    Args:
        memory_bytes: what the decoder's weights, the cache and the reserve share.
        reserve_bytes: kept free, for activations and the allocator.

    Raises:
        ValueError: the weights do not fit.
    """
    weights = shape.parameters * dtype.itemsize
    room = memory_bytes - weights - reserve_bytes
    if room <= 0:
        raise ValueError(
            f"memory of {memory_bytes} bytes does not hold the weights of {shape.name}, {weights} bytes, "
            f"and a reserve of {reserve_bytes}"
        )
    sizes: dict[str, Callable[[int, int], int]] = {
        FULL: lambda context, batch: full_bytes(shape, context, batch, dtype)
    }
    for preset in presets:
        sizes[f"oscar-{preset}"] = _size_of(shape, PRESETS[preset], dtype)
    rows = []
    for op, given in [("max_batch", context) for context in contexts] + [("max_context", batch) for batch in batches]:
        found = {name: _largest(room, _along(op, size, given)) for name, size in sizes.items()}
        for name, most in found.items():
            context, batch = (given, most) if op == "max_batch" else (most, given)
            rows.append(
                CapacityRow(
                    op=op,
                    backend=name,
                    dtype=dtype_name(dtype),
                    shape=shape.name,
                    context=context,
                    batch=batch,
                    memory_bytes=memory_bytes,
                    weights_bytes=weights,
                    reserve_bytes=reserve_bytes,
                    cache_bytes=sizes[name](context, batch),
                    ratio_to_full=most / found[FULL] if found[FULL] else None,
                )
            )
    return rows


def _along(op: str, size: Callable[[int, int], int], given: int) -> Callable[[int], int]:
    """The size with one of context and batch given."""
    return (lambda batch: size(given, batch)) if op == "max_batch" else (lambda context: size(context, given))


def _size_of(shape: Shape, settings: OscarConfig, dtype: torch.dtype) -> Callable[[int, int], int]:
    return lambda context, batch: decoding_bytes(shape, settings, context, batch, dtype)


def _largest(room: int, size: Callable[[int], int]) -> int:
    """The largest count whose size fits; 0 where not even one does."""
    low, high = 0, 1
    while high < MOST_CONTEXT and size(high) <= room:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= room else (low, middle)
    return low

"""What the columns of a cache are, where nobody said it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers.cache_utils import CacheLayerMixin

from ..modality import Modality, ModalityStream
from .layer import OscarLayer


def batch_size(layers: Sequence[CacheLayerMixin]) -> int:
    """Rows that the layers hold, 0 before the first token."""
    sizes = (
        len(layer.rows) if isinstance(layer, OscarLayer) else len(layer.keys)
        for layer in layers
        if layer.is_initialized
    )
    return next(sizes, 0)


def column_stream(layers: Sequence[CacheLayerMixin], columns: int) -> ModalityStream:
    """Text, and padding where a packed layer was told of it."""
    shape = (batch_size(layers), columns)
    modalities = torch.full(shape, int(Modality.TEXT), dtype=torch.int8)
    packed = next((layer for layer in layers if isinstance(layer, OscarLayer) and layer.is_initialized), None)
    if packed is not None:
        modalities.fill_(int(Modality.PADDING))
        for index, row in enumerate(packed.rows):
            for start, stop in row.spans:
                modalities[index, start:stop] = int(Modality.TEXT)
    return ModalityStream(modalities, torch.zeros(shape, dtype=torch.int32))


def stream_tensors(stream: ModalityStream) -> dict[str, torch.Tensor]:
    """The stream as tensors of a cache file."""
    held = {"modalities": stream.modalities, "segments": stream.segments, "positions": stream.positions}
    return {f"stream.{name}": tensor.cpu().contiguous() for name, tensor in held.items() if tensor is not None}


def restore_stream(tensors: Mapping[str, torch.Tensor], rows: int, columns: int) -> ModalityStream | None:
    """The stream of a cache file, None where it has none.

    Raises:
        ValueError: tensors that do not describe these rows and columns.
    """
    held = {name.removeprefix("stream."): tensor for name, tensor in tensors.items() if name.startswith("stream.")}
    if not held:
        return None
    kinds = {"modalities": (torch.int8,), "segments": (torch.int32,), "positions": (torch.int32, torch.float32)}
    if any(tensor.dtype not in kinds.get(name, ()) for name, tensor in held.items()):
        raise ValueError("the stream's tensors have other names or dtypes than expected")
    stream = ModalityStream(**held)
    if stream.shape != (rows, columns):
        raise ValueError(f"the stream describes {stream.shape} columns, the layers hold {(rows, columns)}")
    return stream

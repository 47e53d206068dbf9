"""What a model was given, as a hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def add_tensors(digest: Any, held: Mapping[str, Any]) -> None:
    """Adds names, dtypes, shapes and bytes of all tensors, also of those in lists, to a digest of hashlib."""
    for name in sorted(held):
        for tensor in _tensors(held[name]):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)

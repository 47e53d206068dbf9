"""Takes back what a cache read in a forward pass that failed halfway, when some layers have it and others have not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .layer import OscarLayer

if TYPE_CHECKING:
    from .cache import OscarCache


def checkpoint(cache: OscarCache) -> Callable[[], None]:
    """Note where every layer stands.

    Returns:
        What brings the cache back here; of use once.
    """
    packed = [(layer, layer.get_seq_length()) for layer in cache.packed_layers]
    # a layer with a window lets go of tokens and cannot be cropped; transformers replaces the tensors of its layers
    # and never writes into them, so that noting them costs nothing
    others = [(layer, dict(vars(layer))) for layer in cache.layers if not isinstance(layer, OscarLayer)]
    stream = cache.modalities if cache.shared.stream is not None else None

    def restore() -> None:
        for layer, columns in packed:
            layer.crop(columns - layer.get_seq_length())
        for layer, state in others:
            vars(layer).clear()
            vars(layer).update(state)
        cache.shared.tell(stream)

    return restore

"""Takes back what a cache read in a forward pass that failed halfway, when some layers have it and others have not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicLayer

from .layer import OscarLayer

if TYPE_CHECKING:
    from .cache import OscarCache


def checkpoint(cache: OscarCache) -> Callable[[], None]:
    """Note where every layer stands. Costs a copy of the exact tokens of packed layers, and nothing of other ones.

    Returns:
        What brings the cache back here; of use once.
    """
    # cropping would not do: it leaves tokens packed that were exact, and a layer with a window cannot be cropped
    noted = [(layer, _twin(layer)) for layer in cache.layers]
    stream = cache.modalities if cache.shared.stream is not None else None

    def restore() -> None:
        for layer, twin in noted:
            layer.__dict__, twin.__dict__ = twin.__dict__, layer.__dict__
        cache.shared.tell(stream)
        cache.shared.sights.forget()

    return restore


def _twin(layer: Any) -> Any:
    if isinstance(layer, OscarLayer):
        return layer.fork()
    # layers of keys and values replace their tensors and never write into them
    return copy.copy(layer) if isinstance(layer, DynamicLayer) else copy.deepcopy(layer)

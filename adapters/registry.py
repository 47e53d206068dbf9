"""Finds the adapter of a model. The adapters are the modules of this package that define ``ADAPTER``."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from oscar_x.errors import UnsupportedModelError

from .base import Adapter

# what a multimodal family leaves to the text model that a checkpoint of it is built on
_OF_THE_DECODER = ("layers", "rotary", "input_norm", "attention", "key_projection", "key_bias", "norm_offset")


@cache
def all_adapters() -> tuple[Adapter, ...]:
    """Every adapter, sorted by name.

    Raises:
        TypeError: two adapters claim the same model type or short name.
    """
    here = [str(Path(__file__).parent)]
    modules = (import_module(f"{__package__}.{module.name}") for module in pkgutil.iter_modules(here))
    found = sorted((m.ADAPTER for m in modules if hasattr(m, "ADAPTER")), key=lambda adapter: adapter.name)
    claimed: dict[str, str] = {}
    for adapter in found:
        for claim in (*adapter.model_types, *(f"short name {s.lower()}" for s in adapter.short_names)):
            if claim in claimed:
                raise TypeError(f"{claim} is claimed by the adapters {claimed[claim]} and {adapter.name}")
            claimed[claim] = adapter.name
    return tuple(found)


def _model_types(config: Any) -> Iterator[str]:
    yield config.model_type
    text_config = config.get_text_config(decoder=True)
    if text_config is not config:
        yield text_config.model_type


def find_adapter(config: Any) -> Adapter:
    """The adapter for a model's config: by its own model_type, then by that of the text config inside it.

    LLaVA and its like stand before one decoder or another. Where the text config has an adapter of its own, that one
    says what the decoder's layers are like and whether its keys have a bias.

    Raises:
        UnsupportedModelError: no adapter serves it; the message lists what is supported.
    """
    served = [a for model_type in _model_types(config) for a in all_adapters() if model_type in a.model_types]
    if not served:
        raise UnsupportedModelError(f"architecture {config.model_type!r} is not supported; {supported()}")
    adapter, decoder = served[0], served[-1]
    if adapter is decoder:
        return adapter
    notes = "; ".join(filter(None, (adapter.notes, decoder.notes)))
    return replace(adapter, **{name: getattr(decoder, name) for name in _OF_THE_DECODER}, notes=notes)


def short_names() -> dict[str, str]:
    """Every short name and the hub id it stands for."""
    return {short: hub_id for adapter in all_adapters() for short, hub_id in adapter.short_names.items()}


def supported() -> str:
    """The supported families with their model types, as part of a sentence."""
    return "supported: " + ", ".join(f"{a.name} ({', '.join(a.model_types)})" for a in all_adapters())

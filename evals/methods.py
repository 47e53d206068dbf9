"""Every method that the fidelity eval can run: the full cache, the peers in evals/baselines, and OScaR's presets."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transformers import DynamicCache, PreTrainedModel

from ..cache import OscarCache
from ..cache_settings import CacheSettings
from ..config import PRESETS
from . import baselines
from .method import Footprint, Method

if TYPE_CHECKING:
    from ..key_bias import KeyBias
    from ..profile import Profile

# the order of the table; methods of a new file in evals/baselines follow after these
ORDER = ("full", "per-token", "per-channel", "kivi", "quarot", "rotatekv", "ott")


def full_footprint(cache: DynamicCache) -> Footprint:
    elements = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers if layer.is_initialized)
    return Footprint(packed_bytes=0, packed_elements=0, exact_bytes=2 * elements, full_bytes=2 * elements)


FULL = Method(
    name="full",
    label="full cache",
    source="transformers DynamicCache",
    new_cache=lambda model: DynamicCache(config=model.config),
    footprint=full_footprint,
    packs=False,
)


def baseline_methods() -> list[Method]:
    """The METHODS of every module in evals/baselines: a new method is one new file there."""
    found: list[Method] = []
    for module in pkgutil.iter_modules(baselines.__path__):
        found.extend(getattr(importlib.import_module(f"{baselines.__name__}.{module.name}"), "METHODS", ()))
    return found


def oscar_methods(key_biases: Mapping[int, KeyBias] | None = None) -> list[Method]:
    """OScaR's presets without residual window, so that every token of the prefix is compressed."""

    return [_oscar(preset, CacheSettings(PRESETS[preset]), key_biases) for preset in PRESETS]


def profile_methods(profiles: Mapping[str, Profile], key_biases: Mapping[int, KeyBias] | None = None) -> list[Method]:
    """Calibrated settings by the names that the table shall give them, without residual window too."""
    return [_oscar(name, profile.settings, key_biases) for name, profile in profiles.items()]


def _oscar(name: str, settings: CacheSettings, key_biases: Mapping[int, KeyBias] | None) -> Method:
    return settings_method(f"oscar-{name}", f"OScaR {name}", settings, key_biases)


def settings_method(
    name: str, label: str, settings: CacheSettings, key_biases: Mapping[int, KeyBias] | None = None
) -> Method:
    """OScaR with any settings, without residual window."""
    whole = settings.map(lambda own: replace(own, residual_length=0))

    def new_cache(model: PreTrainedModel) -> OscarCache:
        return OscarCache(model.config, whole, key_biases=key_biases)

    return Method(name, label, "arXiv 2605.19660", new_cache, oscar_footprint)


def oscar_footprint(cache: OscarCache) -> Footprint:
    """An OscarCache's compressed layers as a Footprint."""
    memory = cache.memory()
    itemsize = 2 * memory.full_cache // memory.full_cache_16bit
    exact = (memory.sinks + memory.residual) // itemsize
    return Footprint(
        packed_bytes=memory.codes + memory.scales + memory.norms,
        packed_elements=memory.packed_elements,
        exact_bytes=2 * exact,
        full_bytes=2 * (memory.packed_elements + exact),
    )


def choose_methods(names: Sequence[str] | None, methods: Sequence[Method]) -> tuple[list[Method], dict[str, str]]:
    """The methods called names, or for None all that can run here; and the reasons why others cannot.

    Raises:
        ValueError: an unknown name, or a named method that cannot run here.
    """
    known = {method.name: method for method in methods}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"methods={unknown[0]!r} is not known; choose from {', '.join(known)}")
    missing = {name: reason for name in names or known if (reason := known[name].missing())}
    if names and missing:
        name, reason = next(iter(missing.items()))
        raise ValueError(f"methods={name!r} cannot run here: {reason}")
    return [known[name] for name in dict.fromkeys(names or known) if name not in missing], missing


def all_methods(
    key_biases: Mapping[int, Any] | None = None, profiles: Mapping[str, Profile] | None = None
) -> list[Method]:
    """All methods in the order of the table."""
    peers = sorted(baseline_methods(), key=lambda m: ORDER.index(m.name) if m.name in ORDER else len(ORDER))
    return [FULL, *peers, *oscar_methods(key_biases), *profile_methods(profiles or {}, key_biases)]

"""The caches that are compared: by name, presets and profiles, as users get them and as evals read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import Cache

from ...cache import OscarCache
from ...cache_settings import CacheSettings
from ...config import PRESETS, OscarConfig
from ..bench.shapes import Shape
from ..method import Method
from ..methods import FULL, all_methods, choose_methods
from .formula import CacheFormula, cache_formula

if TYPE_CHECKING:
    from ...model import OscarModel
    from ...profile import Profile

PREFIX = "oscar-"
DEFAULT = (FULL.name, *(PREFIX + preset for preset in PRESETS))
FULL_SETTINGS = CacheSettings(OscarConfig(key_bits=16, value_bits=16))


@dataclass(frozen=True)
class Contender:
    """One cache.

    Attributes:
        method: as evals compare it: everything packed before a question is read.
        new_cache: an empty one as users get it, residual window included.
        settings: of oscar_x' own; those of 16 bits for the full cache; None for other methods.
    """

    method: Method
    new_cache: Callable[[], Cache]
    settings: CacheSettings | None

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.method.name

    def formula(self, shape: Shape, dtype: torch.dtype, column_bytes: int = 0) -> CacheFormula | None:
        """Its bytes by length; None where only measuring tells."""
        return None if self.settings is None else cache_formula(shape, self.settings, dtype, column_bytes)


def contenders(
    model: OscarModel, names: Sequence[str] | None = None, profiles: Mapping[str, Profile] | None = None
) -> list[Contender]:
    """Those called names; by default the full cache, the presets, and every profile.

    Args:
        profiles: calibrated settings, contender "oscar-NAME" for each name.

    Raises:
        ValueError: an unknown name, or a method that cannot run here.
        ProfileError: a profile for another model.
    """
    given = profiles or {}
    for profile in given.values():
        profile.check(model.model.config)
    asked = list(names) if names else [*DEFAULT, *(PREFIX + name for name in given)]
    chosen, _ = choose_methods(asked, all_methods(model.key_biases or None, given))
    return [_contender(model, method, given) for method in chosen]


def _contender(model: OscarModel, method: Method, profiles: Mapping[str, Profile]) -> Contender:
    if method.name == FULL.name:
        return Contender(method, lambda: method.new_cache(model.generator), FULL_SETTINGS)
    settings = settings_of(method.name, profiles)
    if settings is None:
        return Contender(method, lambda: method.new_cache(model.generator), None)
    biases = model.key_biases or None
    return Contender(method, lambda: OscarCache(model.model.config, settings, key_biases=biases), settings)


def settings_of(name: str, profiles: Mapping[str, Profile]) -> CacheSettings | None:
    """The settings of one of oscar_x' own; None for other methods."""
    own = name.removeprefix(PREFIX)
    if own == name:
        return None
    return profiles[own].settings if own in profiles else CacheSettings(PRESETS[own])


def shape_of(model: OscarModel) -> Shape:
    """The decoder of a loaded model."""
    config = model.generator.config.get_text_config(decoder=True)
    query_heads = config.num_attention_heads
    return Shape(
        name=model.adapter.name,
        layers=config.num_hidden_layers,
        query_heads=query_heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or query_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // query_heads,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        vocabulary=config.vocab_size,
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        config_class=type(config).__name__,
    )


def column_bytes(model: OscarModel) -> int:
    """Bytes of a column's description in a cache: its modality, its medium, and positions on three rotary axes."""
    facts = model.adapter.media
    placed = facts is not None and facts.rope_index is not None
    return 1 + 4 + (3 * 4 if placed else 0)

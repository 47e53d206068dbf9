"""The settings of a whole cache: one for all layers, with other ones for those that a profile or the caller names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .config import DEFAULT_PRESET, PRESETS, OscarConfig


@dataclass(frozen=True)
class CacheSettings:
    """Compression settings by layer.

    Attributes:
        base: settings of every layer that has none of its own.
        layers: settings of single layers, by layer number; those equal to base are left out.

    Raises:
        ValueError, TypeError: a layer number or settings of another type.
    """

    base: OscarConfig = PRESETS[DEFAULT_PRESET]
    layers: Mapping[int, OscarConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.base, OscarConfig):
            raise TypeError(f"settings are {type(self.base).__name__}; give an OscarConfig")
        for index, settings in self.layers.items():
            if type(index) is not int or index < 0:
                raise ValueError(f"layer {index!r} has settings; use layer numbers from 0")
            if not isinstance(settings, OscarConfig):
                raise TypeError(f"layer {index}: settings are {type(settings).__name__}; give an OscarConfig")
        own = {index: self.layers[index] for index in sorted(self.layers) if self.layers[index] != self.base}
        object.__setattr__(self, "layers", MappingProxyType(own))

    def __hash__(self) -> int:
        return hash((self.base, tuple(self.layers.items())))

    def __reduce__(self) -> Any:  # a read-only view of a dict can be neither copied nor pickled
        return CacheSettings, (self.base, dict(self.layers))

    @classmethod
    def of(cls, settings: Settings | None) -> CacheSettings:
        """What the caller of a cache gave: settings for all layers, one for each, or for some by number.

        Raises:
            TypeError: something else.
        """
        if settings is None:
            return cls()
        if isinstance(settings, CacheSettings):
            return settings
        if isinstance(settings, OscarConfig):
            return cls(settings)
        if isinstance(settings, Mapping):
            return cls(layers=settings)
        if isinstance(settings, Sequence) and not isinstance(settings, str):
            return cls(settings[0], dict(enumerate(settings))) if settings else cls()
        raise TypeError(
            f"settings are {type(settings).__name__}; give an OscarConfig, one for each layer, or a mapping of layer "
            "numbers to OscarConfig"
        )

    def __getitem__(self, layer: int) -> OscarConfig:
        return self.layers.get(layer, self.base)

    @property
    def compresses(self) -> bool:
        """Whether any layer that these settings know of is compressed."""
        return self.base.compresses or any(settings.compresses for settings in self.layers.values())

    @property
    def differ_by_head(self) -> bool:
        """Whether any layer stores some of its KV heads in another way."""
        return any(settings.head_groups for settings in (self.base, *self.layers.values()))

    def check_layers(self, count: int) -> None:
        """Refuse settings for layers that a model of this many layers does not have.

        Raises:
            ValueError: names the first one.
        """
        beyond = [index for index in self.layers if index >= count]
        if beyond:
            raise ValueError(f"settings for layer {beyond[0]}, but the model has {count} layers, 0 to {count - 1}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: {"base": ..., "layers": {number: ...}}."""
        own = {str(index): settings.to_dict() for index, settings in self.layers.items()}
        return {"base": self.base.to_dict(), "layers": own}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CacheSettings:
        """What to_dict() gave.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: something else.
        """
        own = {int(index): OscarConfig(**settings) for index, settings in plain["layers"].items()}
        return cls(OscarConfig(**plain["base"]), own)

    def map(self, change: Any) -> CacheSettings:
        """These settings with ``change(OscarConfig) -> OscarConfig`` made to every one."""
        return CacheSettings(change(self.base), {index: change(own) for index, own in self.layers.items()})


Settings = OscarConfig | CacheSettings | Sequence[OscarConfig] | Mapping[int, OscarConfig]

"""What each part of the method does: settings with one part taken out, against the settings with all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..cache_settings import CacheSettings
from ..config import OscarConfig
from .method import Method
from .methods import settings_method

if TYPE_CHECKING:
    from ..key_bias import KeyBias

# a block ends wherever two modalities meet, also for a short run: what the split can do at most
SPLIT, SPLIT_RUN = 1.0, 16
NORM = OscarConfig().token_norm


@dataclass(frozen=True)
class Part:
    """A part of the method, and the two methods that differ in it alone.

    Attributes:
        name: what the table calls it.
        whole, without: names of the methods with it and without.
    """

    name: str
    whole: str
    without: str


def ablation(
    name: str, settings: CacheSettings, media: bool, key_biases: Mapping[int, KeyBias] | None = None
) -> tuple[list[Part], list[Method]]:
    """Parts that can be taken out of settings, and the methods this takes beside the one with all of them.

    Token norms and the modality split are put in where the settings do without them. Without rotation the bytes stay
    the same; without token norms or exact tokens there are fewer, and the modality split leaves blocks partly empty:
    the table shows the bytes beside the KL.

    Args:
        name: of the method with these settings.
        settings: what parts are taken out of.
        media: whether there are modalities to split.
    """
    # of each part: what takes it out, or what puts it in where the settings do without it
    changes: dict[str, tuple[bool, dict[str, Any]]] = {
        "rotation": (True, {"rotate_keys": False, "rotate_values": False}),
        "token scaling": (True, {"token_norm": "none"}) if _scales(settings) else (False, {"token_norm": NORM}),
        "exact first tokens": (True, {"sink_tokens": 0}),
    }
    if media:
        put_in = {"modality_split": SPLIT, "modality_split_run": SPLIT_RUN}
        changes["modality split"] = (True, {"modality_split": None}) if _splits(settings) else (False, put_in)
    parts, methods = [], []
    for part, (out, change) in changes.items():
        own = f"{'no-' if out else ''}{part.replace(' ', '-')}"
        other = _changed(own, f"{'without' if out else 'with'} {part}", settings, change, key_biases)
        parts.append(Part(part, name, other.name) if out else Part(part, other.name, name))
        methods.append(other)
    return parts, methods


def _scales(settings: CacheSettings) -> bool:
    # layers of a profile that are compressed have settings of their own
    return any(own.token_norm != "none" for own in settings.layers.values() or [settings.base])


def _splits(settings: CacheSettings) -> bool:
    return any(own.modality_split is not None for own in (settings.base, *settings.layers.values()))


def _changed(
    name: str,
    label: str,
    settings: CacheSettings,
    changes: Mapping[str, Any],
    key_biases: Mapping[int, KeyBias] | None,
) -> Method:
    def change(own: OscarConfig) -> OscarConfig:
        return replace(own, **changes) if own.compresses else own

    return settings_method(f"oscar-{name}", label, settings.map(change), key_biases)

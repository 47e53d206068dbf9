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

    Without rotation the bytes stay the same; without token norms or exact tokens there are fewer, and the modality
    split leaves blocks partly empty: the table shows the bytes beside the KL.

    Args:
        name: of the method with these settings.
        settings: what parts are taken out of.
        media: whether there are modalities to split; if the settings do not split them, the split is put in.
    """
    taken: dict[str, dict[str, Any]] = {
        "rotation": {"rotate_keys": False, "rotate_values": False},
        "token scaling": {"token_norm": "none"},
        "exact first tokens": {"sink_tokens": 0},
    }
    parts, methods = [], []
    for part, changes in taken.items():
        methods.append(_changed(f"no-{part.replace(' ', '-')}", f"without {part}", settings, changes, key_biases))
        parts.append(Part(part, name, methods[-1].name))
    if not media:
        return parts, methods
    if _splits(settings):
        left_out = {"modality_split": None}
        methods.append(_changed("no-modality-split", "without modality split", settings, left_out, key_biases))
        return [*parts, Part("modality split", name, methods[-1].name)], methods
    put_in: dict[str, Any] = {"modality_split": SPLIT, "modality_split_run": SPLIT_RUN}
    methods.append(_changed("modality-split", "with modality split", settings, put_in, key_biases))
    return [*parts, Part("modality split", methods[-1].name, name)], methods


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

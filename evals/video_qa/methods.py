"""The methods that are put side by side, and peers at group sizes that cost the same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..baselines.base import baseline_method
from ..baselines.kivi import Kivi
from ..baselines.ott import OutlierTokensTracing
from ..method import Method
from ..methods import all_methods, choose_methods

if TYPE_CHECKING:
    from ...profile import Profile

DEFAULT = ("full", "kivi", "ott", "turboquant-2.5", "oscar-paper", "oscar-balanced", "oscar-max")
# peers whose group size is free: "kivi-g56" is KIVI with groups of 56
GROUPED = {"kivi": ("KIVI", "arXiv 2402.02750", Kivi), "ott": ("OTT", "arXiv 2505.10938", OutlierTokensTracing)}


def qa_methods(
    names: Sequence[str] | None, key_biases: Mapping[int, Any] | None, profiles: Mapping[str, Profile]
) -> list[Method]:
    """The methods called names, or DEFAULT, and the profiles. The full cache comes first: others are compared to it.

    Raises:
        ValueError: an unknown name, or a method that cannot run here.
    """
    wanted = [*(names or DEFAULT), *(f"oscar-{name}" for name in profiles)]
    wanted = ["full", *(name for name in wanted if name != "full")]
    known = [*all_methods(key_biases, profiles), *(grouped(name) for name in wanted if _group(name))]
    return choose_methods(wanted, known)[0]


def _group(name: str) -> re.Match[str] | None:
    return re.fullmatch(rf"({'|'.join(GROUPED)})-g([1-9]\d*)", name)


def grouped(name: str) -> Method:
    """A peer with the group size that its name says, "kivi-g56"."""
    match = _group(name)
    if match is None:
        raise ValueError(
            f"methods={name!r} is not known; peers with a group size are {', '.join(GROUPED)}, as kivi-g64"
        )
    label, source, kind = GROUPED[match[1]]
    return baseline_method(name, f"{label} g{match[2]}", source, kind, group_size=int(match[2]))

"""What a reader of a published annotation layout is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..media_parts import MediaSettings
from ..questions import Clip


@dataclass(frozen=True)
class Format:
    """One public benchmark's layout.

    Attributes:
        name: what --format takes.
        title: what reports call it.
        read: a local copy's folder to its clips, and notes on what was left out.
    """

    name: str
    title: str
    read: Callable[[Path, MediaSettings], tuple[list[Clip], list[str]]]


def left_out(count: int, why: str) -> list[str]:
    """The note on questions that a format has but that cannot be asked here."""
    return [f"{count} questions left out: {why}"] if count else []

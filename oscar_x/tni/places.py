"""Heads by name and groups by head, for those who put a report into words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .parts import GroupTni, HeadTni, LayerTni, StateTni

if TYPE_CHECKING:
    from .report import TniReport


def name_of(layer: LayerTni, head: HeadTni) -> str:
    """As in "layer 3, head 1"."""
    return f"layer {layer.index}, head {head.index}"


def named_states(report: TniReport, which: str) -> list[tuple[str, StateTni]]:
    """Keys or values of every head of the compressed layers, with its name."""
    return [(name_of(layer, head), getattr(head, which)) for layer, head in report.heads()]


def groups_of(states: Iterable[StateTni]) -> list[GroupTni]:
    """Their groups of all kinds."""
    return [group for state in states for group in state.groups.values()]

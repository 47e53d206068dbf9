"""KV heads of a layer that are stored in another way than its other heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# every way is a call of the attention kernels of its own
MOST_WAYS = 4


@dataclass(frozen=True)
class HeadGroup:
    """Settings of some KV heads, in place of their layer's.

    Attributes:
        heads: numbers of the KV heads, from 0, ascending.
        others: fields of OscarConfig of the same name; None where the heads have what the layer has.

    Raises:
        ValueError: no heads, or numbers that are not ascending whole ones.
    """

    heads: tuple[int, ...]
    key_bits: int | None = None
    value_bits: int | None = None
    key_group_size: int | None = None
    value_group_size: int | None = None
    value_grouping: str | None = None
    scale_bits: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        whole = all(type(head) is int and head >= 0 for head in self.heads)
        if not self.heads or not whole or sorted(set(self.heads)) != list(self.heads):
            raise ValueError(f"heads={list(self.heads)} of a head group is not allowed; use ascending KV head numbers")

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the layer's settings."""
        return {name: value for name, value in asdict(self).items() if name != "heads" and value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"heads": list(self.heads), **self.changes}


HEAD_FIELDS = tuple(field.name for field in fields(HeadGroup) if field.name != "heads")


def head_groups(given: Iterable[HeadGroup | Mapping[str, Any]]) -> tuple[HeadGroup, ...]:
    """Head groups, of which some may be what to_dict() gave.

    Raises:
        ValueError, TypeError: something else; a head in two groups; too many groups.
    """
    groups = tuple(group if isinstance(group, HeadGroup) else HeadGroup(**group) for group in given)
    named = [head for group in groups for head in group.heads]
    twice = sorted({head for head in named if named.count(head) > 1})
    if twice:
        raise ValueError(f"head_groups is not allowed to name KV head {twice[0]} in two groups")
    if len(groups) >= MOST_WAYS:
        raise ValueError(f"head_groups has {len(groups)} groups; use at most {MOST_WAYS - 1}")
    return groups

"""What calibration chooses from: ways to store the keys and ways to store the values of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..config import CALIBRATION, OscarConfig

# groups of every size divide a block, and so do the runs of value scales
KEY_FIELDS = ("key_bits", "key_group_size")
VALUE_FIELDS = ("value_bits", "value_group_size", "value_grouping")


@dataclass(frozen=True)
class Candidates:
    """The settings that a layer may get; every other field is that of the settings calibrated from.

    Attributes:
        bits: of key codes and of value codes.
        group_sizes: of keys and of values.
        value_groupings: "per_token", "per_channel".
        scale_bits: of scales and minimums, keys' and values' alike.
        sink_tokens: exact tokens at the start.
    """

    bits: tuple[int, ...] = CALIBRATION.bits
    group_sizes: tuple[int, ...] = CALIBRATION.group_sizes
    value_groupings: tuple[str, ...] = CALIBRATION.value_groupings
    scale_bits: tuple[int, ...] = CALIBRATION.scale_bits
    sink_tokens: tuple[int, ...] = CALIBRATION.sink_tokens

    def frames(self, base: OscarConfig) -> Iterator[OscarConfig]:
        """What keys and values of a layer have in common."""
        for scale_bits, sinks in product(self.scale_bits, self.sink_tokens):
            yield replace(base, scale_bits=scale_bits, sink_tokens=sinks, residual_length=0)

    def keys(self) -> list[dict[str, Any]]:
        """Ways to store keys."""
        return [dict(zip(KEY_FIELDS, way, strict=True)) for way in product(self.bits, self.group_sizes)]

    def values(self) -> list[dict[str, Any]]:
        """Ways to store values."""
        ways = product(self.bits, self.group_sizes, self.value_groupings)
        return [dict(zip(VALUE_FIELDS, way, strict=True)) for way in ways]

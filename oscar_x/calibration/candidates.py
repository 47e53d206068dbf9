"""What calibration chooses from: ways to store the keys and ways to store the values of a layer's heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..config import CALIBRATION, OscarConfig

KEY_FIELDS = ("key_bits", "key_group_size")
VALUE_FIELDS = ("value_bits", "value_group_size", "value_grouping")
SPLIT_FIELDS = ("modality_split", "modality_split_run")

Way = dict[str, Any]


@dataclass(frozen=True)
class Candidates:
    """The settings that a layer may get; every other field is that of the settings calibrated from.

    Attributes:
        bits: of key codes and of value codes.
        group_sizes: of keys and of values; those that a block or a head is too small for are passed over.
        value_groupings: "per_token", "per_channel".
        scale_bits: of scales and minimums, keys' and values' alike.
        sink_tokens: exact tokens at the start.
        modality_split: ratios of norms from which on blocks end where modalities meet, None for no such end; decided
            for data with several modalities, else it stays as it is.
        modality_split_run: tokens of one modality in a row that are worth blocks of their own.
        head_ways: the most ways in which a layer's KV heads may be stored, 1 or 2. Where token norms are shared by the
            heads it is always 1.
        key_bias: what may be done about a large key-projection bias, in layers that have one: "auto", "off".
        token_norm: of keys: "damped", "per_head", "none". Where the settings share norms among heads they stay so.
    """

    bits: tuple[int, ...] = CALIBRATION.bits
    group_sizes: tuple[int, ...] = CALIBRATION.group_sizes
    value_groupings: tuple[str, ...] = CALIBRATION.value_groupings
    scale_bits: tuple[int, ...] = CALIBRATION.scale_bits
    sink_tokens: tuple[int, ...] = CALIBRATION.sink_tokens
    modality_split: tuple[float | None, ...] = CALIBRATION.modality_split
    modality_split_run: tuple[int, ...] = CALIBRATION.modality_split_run
    head_ways: int = CALIBRATION.head_ways
    key_bias: tuple[str, ...] = field(default=CALIBRATION.key_bias)
    token_norm: tuple[str, ...] = field(default=CALIBRATION.token_norm)

    def __post_init__(self) -> None:
        if self.head_ways not in (1, 2):
            raise ValueError(f"head_ways={self.head_ways!r} is not allowed; use 1 or 2")

    def treatments(self, base: OscarConfig, biased: bool) -> list[Way]:
        """What may be done to the keys of all heads before they are packed, in a layer with or without a key bias."""
        remedies = self.key_bias if biased else (base.key_bias,)  # without a bias there is nothing to decide
        norms = (base.token_norm,) if base.token_norm == "shared" else self.token_norm
        return [{"key_bias": remedy, "token_norm": norm} for remedy, norm in product(remedies, norms)]

    def bounds(self, base: OscarConfig, several: bool) -> list[Way]:
        """Which tokens stay exact and where blocks end.

        Args:
            several: whether there are several modalities.
        """
        ends: list[Way] = [{name: getattr(base, name) for name in SPLIT_FIELDS}]
        if several:
            pairs = product(self.modality_split, self.modality_split_run)
            # without a split the length of runs decides nothing
            told = dict.fromkeys((ratio, base.modality_split_run if ratio is None else run) for ratio, run in pairs)
            ends = [dict(zip(SPLIT_FIELDS, pair, strict=True)) for pair in told]
        return [{"sink_tokens": count, **end} for count, end in product(self.sink_tokens, ends)]

    def keys(self, base: OscarConfig) -> list[Way]:
        """Ways to store keys in blocks of base's size."""
        sizes = [size for size in self.group_sizes if base.block_size % size == 0]
        return [dict(zip(KEY_FIELDS, way, strict=True)) for way in product(self.bits, sizes)]

    def values(self, base: OscarConfig, head_dim: int) -> list[Way]:
        """Ways to store values of this many channels in blocks of base's size."""
        largest = max(head_dim, min(self.group_sizes))
        fits = {
            "per_token": [size for size in self.group_sizes if size <= largest],
            "per_channel": [size for size in self.group_sizes if base.block_size % size == 0],
        }
        ways = [way for grouping in self.value_groupings for way in product(self.bits, fits[grouping], (grouping,))]
        return [dict(zip(VALUE_FIELDS, way, strict=True)) for way in ways]

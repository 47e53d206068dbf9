"""Every default of oscar_x, in one place: the compression settings and the three presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .head_groups import HeadGroup, head_groups

BITS = (1, 2, 3, 4, 8)
GROUP_SIZES = (8, 16, 32, 64, 128, 256)
SCALE_BITS = (16, 8, 6, 4, 3, 2)
NORM_BITS = (16, 8)
BACKENDS = ("auto", "triton", "reference")

TokenNorm = Literal["damped", "per_head", "shared", "none"]
ValueGrouping = Literal["per_token", "per_channel"]
KeyBiasRemedy = Literal["auto", "off"]
Backend = Literal["auto", "triton", "reference"]


@dataclass(frozen=True)
class OnlineDefaults:
    """What OscarConfig.online takes for a prompt's sinks and boundaries.

    Attributes:
        most_sinks: how far from the start of a sequence a sink is looked for.
        low, high: a key norm below or above these multiples of the median, in any KV head, makes a sink.
        modality_split: taken where the settings have none.
        sample: tokens whose norms make a median: a fixed cost, whatever the prompt's length.
    """

    most_sinks: int = 8
    low: float = 0.5
    high: float = 2.0
    modality_split: float = 2.0
    sample: int = 256


ONLINE = OnlineDefaults()


def _check_bits(key_bits: Any, value_bits: Any) -> None:
    for name, bits in (("key_bits", key_bits), ("value_bits", value_bits)):
        _check_choice(name, bits, (*BITS, 16))
    if (key_bits == 16) != (value_bits == 16):
        raise ValueError(
            f"key_bits={key_bits} with value_bits={value_bits} is not supported: "
            "16 means no compression and must be set for both"
        )


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ValueError(f"{name}={value!r} is not allowed; choose one of {', '.join(map(repr, allowed))}")


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} is not allowed; use a whole number of at least {least}")


@dataclass(frozen=True)
class OscarConfig:
    """How keys and values are compressed.

    Keys are grouped along tokens, one scale per channel; values along channels, one scale per token
    (or along tokens with ``value_grouping="per_channel"``). The defaults are preset "balanced".

    Attributes:
        key_bits, value_bits: bits of a code, 1, 2, 3, 4 or 8; both 16 switch compression off.
        key_group_size, value_group_size: elements that share a scale and a minimum, 8 to 256.
        value_grouping: "per_token" groups channels of one token, "per_channel" tokens of one channel.
        scale_bits: bits of each group's scale and of its minimum; below 16 they are themselves quantized
            between the extremes of their neighbourhood ("nested", docs/format.md).
        value_scale_rows: tokens that share one nested range of value scales.
        token_norm: L2 norm divided out of each key token (paper, Omni-Token Scaling): one per KV head
            ("per_head"; "damped" divides tokens whose norm stands out in their block by less, docs/format.md), one
            "shared" by all heads (the paper's), or "none".
        norm_bits: 16 (a ratio to the block's largest norm) or 8 (log scale between the block's extremes).
        rotate_keys, rotate_values: normalized Hadamard rotation over head_dim (paper, Canalized Rotation).
        sink_tokens: first tokens of a sequence, kept exact.
        residual_length: newest tokens that always stay exact. Assisted decoding gives the tokens of greedy decoding
            only if this is larger than its number of candidates: a forward pass of more new tokens than this counts
            as a prompt and is packed before the candidates are confirmed.
        block_size: tokens that are packed together once residual_length more have arrived.
        backend: "auto" takes the fastest kernels for the device, "triton" Triton's or none (CUDA, or its interpreter),
            "reference" plain torch everywhere.
        modality_split: ratio of median key norms (larger over smaller, in any KV head) from which on two modalities
            share no block: a block closes early where they meet in a prompt. 1.0 closes it wherever modalities meet;
            None never does: splits cost bytes (docs/format.md).
        modality_split_run: tokens of one modality in a row that are worth blocks of their own; fewer share their
            neighbour's, so that a line of text between images leaves no block nearly empty.
        online: let the first prompt decide by its own key norms how many first tokens stay exact, in place of
            sink_tokens, and where modalities part (ONLINE). A sequence that begins with fewer tokens than a prompt
            has keeps sink_tokens.
        key_bias: "auto" subtracts a large key-projection bias before compression, "off" never does.
        head_groups: KV heads with bits, groups or scales of their own; each group costs attention one more call of
            its kernels. Heads that share one token norm cannot be told apart.
    """

    key_bits: int = 2
    value_bits: int = 2
    key_group_size: int = 16
    value_group_size: int = 16
    value_grouping: ValueGrouping = "per_token"
    scale_bits: int = 4
    value_scale_rows: int = 32
    token_norm: TokenNorm = "damped"
    norm_bits: int = 8
    rotate_keys: bool = True
    rotate_values: bool = True
    sink_tokens: int = 4
    residual_length: int = 64
    block_size: int = 128
    modality_split: float | None = None
    modality_split_run: int = 64
    online: bool = False
    key_bias: KeyBiasRemedy = "auto"
    backend: Backend = "auto"
    head_groups: tuple[HeadGroup, ...] = ()

    def __post_init__(self) -> None:
        _check_bits(self.key_bits, self.value_bits)
        _check_choice("key_group_size", self.key_group_size, GROUP_SIZES)
        _check_choice("value_group_size", self.value_group_size, GROUP_SIZES)
        _check_choice("value_grouping", self.value_grouping, ("per_token", "per_channel"))
        _check_choice("scale_bits", self.scale_bits, SCALE_BITS)
        _check_choice("token_norm", self.token_norm, ("damped", "per_head", "shared", "none"))
        _check_choice("norm_bits", self.norm_bits, NORM_BITS)
        _check_choice("key_bias", self.key_bias, ("auto", "off"))
        _check_choice("backend", self.backend, BACKENDS)
        _check_count("sink_tokens", self.sink_tokens, 0)
        _check_count("residual_length", self.residual_length, 0)
        self._check_block()
        self._check_split()
        object.__setattr__(self, "head_groups", head_groups(self.head_groups))
        self._check_head_groups()

    def _check_head_groups(self) -> None:
        if self.head_groups and (self.token_norm == "shared" or not self.compresses):
            why = "token_norm='shared' is one norm for all heads" if self.compresses else "16 bits are no compression"
            raise ValueError(f"head_groups is not allowed here: {why}")
        for group in self.head_groups:
            if not replace(self, head_groups=(), **group.changes).compresses:
                raise ValueError(
                    f"head_groups: KV heads {list(group.heads)} have 16 bits, which only a whole layer can"
                )

    def _check_block(self) -> None:
        groups = [("key_group_size", self.key_group_size), ("value_scale_rows", self.value_scale_rows)]
        if self.value_grouping == "per_channel":
            groups.append(("value_group_size", self.value_group_size))
        for name, size in groups:
            _check_count(name, size, 1)
            if self.block_size < 8 or self.block_size % size:
                raise ValueError(
                    f"block_size={self.block_size} is not a multiple of {name}={size}; "
                    f"use a multiple of {name} that is at least 8"
                )

    def _check_split(self) -> None:
        split = self.modality_split
        is_number = isinstance(split, int | float) and not isinstance(split, bool)
        if split is not None and not (is_number and split >= 1 and math.isfinite(split)):
            raise ValueError(
                f"modality_split={split!r} is not allowed; use a ratio of norms of at least 1, or None for no split"
            )
        _check_count("modality_split_run", self.modality_split_run, 1)
        _check_choice("online", self.online, (True, False))

    @property
    def split_ratio(self) -> float | None:
        """The ratio of norms that parts modalities, None where none does."""
        return ONLINE.modality_split if self.online and self.modality_split is None else self.modality_split

    @property
    def most_sinks(self) -> int:
        """The most first tokens that a sequence may keep exact."""
        return max(self.sink_tokens, ONLINE.most_sinks) if self.online else self.sink_tokens

    @property
    def compresses(self) -> bool:
        """False for the 16-bit pass-through."""
        return self.key_bits != 16

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types."""
        plain = asdict(self) | {"head_groups": [group.to_dict() for group in self.head_groups]}
        if not self.head_groups:
            del plain["head_groups"]  # readers that know of none need not
        return plain


PRESETS: dict[str, OscarConfig] = {
    # the publication: groups of 32, fp16 scale and minimum, one norm per token, no sinks: 3.01 bits an element
    "paper": OscarConfig(
        key_group_size=32, value_group_size=32, scale_bits=16, token_norm="shared", norm_bits=16, sink_tokens=0
    ),
    "balanced": OscarConfig(),
    "max": OscarConfig(key_group_size=32, value_group_size=32),
}
DEFAULT_PRESET = "balanced"
DEFAULT_KV_BITS = 2


@dataclass(frozen=True)
class CalibrationDefaults:
    """What calibrate() tries for each layer, and how much it reads.

    Attributes:
        bits, group_sizes, value_groupings, scale_bits, sink_tokens, modality_split, modality_split_run, key_bias,
            token_norm: fields of OscarConfig to choose from.
        head_ways: the most ways in which a layer's KV heads may be stored.
        sequences: cut from each text.
        prefix, continuation: tokens of a sequence that are compressed, and that read them.
        draws: tokens drawn at each position to learn what moves the logits.
    """

    bits: tuple[int, ...] = (1, 2, 3, 4)
    group_sizes: tuple[int, ...] = (8, 16, 32, 64, 128)
    value_groupings: tuple[ValueGrouping, ...] = ("per_token", "per_channel")
    scale_bits: tuple[int, ...] = (2, 3, 4, 6)
    # fewer look good to the estimate, which is of small errors, and are not (docs/calibration.md)
    sink_tokens: tuple[int, ...] = (4,)
    modality_split: tuple[float | None, ...] = (None, 1.25)
    modality_split_run: tuple[int, ...] = (16, 64)
    head_ways: int = 2
    key_bias: tuple[KeyBiasRemedy, ...] = ("auto", "off")
    token_norm: tuple[TokenNorm, ...] = ("damped", "none")
    sequences: int = 6
    prefix: int = 1024
    continuation: int = 128
    draws: int = 4


CALIBRATION = CalibrationDefaults()


def resolve_config(
    preset: str = DEFAULT_PRESET,
    kv_bits: int | None = None,
    *,
    key_bits: int | None = None,
    value_bits: int | None = None,
    **overrides: Any,
) -> OscarConfig:
    """The settings of a preset with the caller's changes.

    Args:
        preset: "paper", "balanced" or "max".
        kv_bits: bits for keys and values alike; key_bits and value_bits win over it.
        overrides: any other field of OscarConfig.

    Raises:
        ValueError: an unknown preset or a value that is not allowed; names the argument and what is.
        TypeError: an unknown field.
    """
    _check_choice("preset", preset, tuple(PRESETS))
    chosen = {
        "key_bits": kv_bits if key_bits is None else key_bits,
        "value_bits": kv_bits if value_bits is None else value_bits,
        **overrides,
    }
    changes = {name: value for name, value in chosen.items() if value is not None}
    unknown = sorted(set(changes) - set(OscarConfig.__dataclass_fields__))
    if unknown:
        known = ", ".join(OscarConfig.__dataclass_fields__)
        raise TypeError(f"unknown setting {', '.join(unknown)}; known settings: {known}")
    if 8 in (changes.get("key_bits"), changes.get("value_bits")) and "scale_bits" not in changes:
        # scales of 4 bits would cost 8-bit codes a factor of 5 in attention error (0.026 against 0.005)
        changes["scale_bits"] = max(8, PRESETS[preset].scale_bits)
    group = max(changes.get("key_group_size", 0), changes.get("value_group_size", 0))
    if "block_size" not in changes and group > PRESETS[preset].block_size:
        changes["block_size"] = group
    return replace(PRESETS[preset], **changes)

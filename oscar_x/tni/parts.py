"""The parts of a TNI report, as plain frozen data. docs/tni.md defines every figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .distribution import Distribution

MEASURES = ("energy", "token", "channel")
MIXED = "mixed"  # a group that holds tokens of several modalities
SINK_RATIO, LARGE_RATIO = 0.5, 2.0  # norms below and above these multiples of a head's median are reported as outliers


@dataclass(frozen=True)
class TokenNorm:
    """A token with an unusual norm.

    Attributes:
        norm: of its key or value in one KV head.
        ratio: that over the head's median.
        sequence, position: which of the data's sequences, and the token's place in it, counted from 0 without padding.
        modality: "text", "image", "video", "audio" or "codec".
        text: the decoded token; what a placeholder of a medium decodes to says only which kind it stands for.
    """

    norm: float
    ratio: float
    sequence: int
    position: int
    modality: str
    text: str


@dataclass(frozen=True)
class ErrorTni:
    """Relative quantization error of some groups, with exact scales, by three measures.

    Attributes:
        energy: sum of squared errors over the sum of squared norms: tokens with large norms weigh most.
        token: mean over tokens of the squared error over the squared norm: every token weighs the same, as it does for
            attention, whose weights do not follow key norms.
        channel: head_dim times the squared error of the worst channel (of the rotated ones where rotated) over the sum
            of squared norms: what a query sees that points where the error is largest. Equal to energy where the error
            is even over channels.
    """

    energy: float
    token: float
    channel: float


@dataclass(frozen=True)
class GroupTni:
    """Groups of consecutive tokens that would share a scale, of one KV head.

    Attributes:
        groups: how many.
        energy: the sum of squared norms.
        max_over_min, variation, imbalance: of the token norms inside a group: largest over smallest, standard deviation
            over mean, largest square over mean square.
        along_tokens: error where tokens share a channel's scale, by combination of treatments
            (treatments.COMBINATIONS: "none", "rotation", "rotation+scaling", ...).
        along_channels: the same where the channels of one token share scales: "none" and "rotation".
        dealt: of groups with several modalities, the same as along_tokens with "split" and "rotation+scaling+split",
            but with tokens dealt to parts of the same sizes in turn. What the split gains beyond this is owed to where
            it cuts, not to its having more scales. Empty elsewhere.
    """

    groups: int
    energy: float
    max_over_min: Distribution
    variation: Distribution
    imbalance: Distribution
    along_tokens: dict[str, ErrorTni]
    along_channels: dict[str, ErrorTni]
    dealt: dict[str, ErrorTni]


@dataclass(frozen=True)
class ChannelTni:
    """Channel outliers of one KV head.

    Attributes:
        before, after: the largest channel's root mean square over the median channel's, without and with rotation.
        largest: that channel's number, without rotation.
    """

    before: float
    after: float
    largest: int


@dataclass(frozen=True)
class StateTni:
    """Keys or values of one KV head.

    Attributes:
        norms: token norms by modality.
        median: of all of them.
        groups: by modality of the group's tokens, "mixed" where it holds several. Groups are counted from the first
            token that the cache does not keep exact, as the cache counts them.
        first_group: the group that the sequences' first tokens would make, sinks and all; None for short sequences.
        errors_before, errors_after: relative error (not squared) of each token by modality: as it is, and with what the
            presets do: keys rotated and scaled, grouped along tokens; values rotated, grouped as the settings say.
        channels: channel outliers, of the tokens in groups.
        low_tokens, high_tokens: the tokens with the smallest and with the largest norms, most unusual first.
        leading: mean norm of the first tokens of a sequence, one by one, over the median.
    """

    norms: dict[str, Distribution]
    median: float
    groups: dict[str, GroupTni]
    first_group: GroupTni | None
    errors_before: dict[str, Distribution]
    errors_after: dict[str, Distribution]
    channels: ChannelTni
    low_tokens: tuple[TokenNorm, ...]
    high_tokens: tuple[TokenNorm, ...]
    leading: tuple[float, ...]

    def ratio(self, modality: str, to: str = "text") -> float | None:
        """Median norm of one modality over another's; None where one of them is missing or zero."""
        if modality not in self.norms or to not in self.norms or not self.norms[to].median:
            return None
        return self.norms[modality].median / self.norms[to].median

    @property
    def sinks(self) -> tuple[TokenNorm, ...]:
        """Those of low_tokens whose norm is below SINK_RATIO of the median."""
        return tuple(token for token in self.low_tokens if token.ratio < SINK_RATIO)

    @property
    def outliers(self) -> tuple[TokenNorm, ...]:
        """Those of high_tokens whose norm is above LARGE_RATIO times the median."""
        return tuple(token for token in self.high_tokens if token.ratio > LARGE_RATIO)


@dataclass(frozen=True)
class KeyBiasTni:
    """The key projection's bias in one KV head.

    Attributes:
        norm: of the bias.
        share: its energy over that of the keys as the model makes them. Above 1 where bias and rest cancel.
        removed: whether the cache takes it out before compression; every other figure is then of keys without it.
        error_left_in: relative error energy of keys, rotated and scaled, if it stayed; None where nothing is removed.
    """

    norm: float
    share: float
    removed: bool
    error_left_in: float | None


@dataclass(frozen=True)
class HeadTni:
    """One KV head of a layer."""

    index: int
    keys: StateTni
    values: StateTni
    key_bias: KeyBiasTni | None


@dataclass(frozen=True)
class LayerTni:
    """One layer.

    Attributes:
        index: layer number.
        layer_type: as transformers names it ("full_attention", "sliding_attention", ...).
        compressed: whether the cache packs it.
        heads: its KV heads.
    """

    index: int
    layer_type: str
    compressed: bool
    heads: tuple[HeadTni, ...]


@dataclass(frozen=True)
class NormMap:
    """Key norms of the first sequence, over all KV heads of a layer, along its tokens.

    Attributes:
        tokens_per_column: neighbouring tokens that share a column; 1 for sequences up to MAP_COLUMNS tokens.
        layers: layer numbers.
        low, high: smallest and largest norm of a column, [layer][column].
        modalities: of each column's first token.
    """

    tokens_per_column: int
    layers: tuple[int, ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class TniSettings:
    """How groups were made: bits of a code, tokens or channels that share a scale, tokens kept exact at the start, what
    token norms are shared by and how values are grouped (as in OscarConfig)."""

    key_bits: int
    value_bits: int
    group_size: int
    value_group_size: int
    sink_tokens: int
    token_norm: str
    value_grouping: str


def mean_error(groups: list[GroupTni], error: Callable[[GroupTni], ErrorTni], measure: str = "energy") -> float:
    """One measure of the error over several kinds of groups or heads, weighted by what it is relative to.

    Raises:
        ValueError: no group, or an unknown measure.
    """
    if not groups:
        raise ValueError("no groups: no compressed layer and head of that number was measured")
    if measure not in MEASURES:
        raise ValueError(f"measure={measure!r} is not allowed; choose one of {', '.join(map(repr, MEASURES))}")
    weights = [group.groups if measure == "token" else group.energy for group in groups]
    total = sum(weights)
    found = (getattr(error(group), measure) * weight for group, weight in zip(groups, weights, strict=True))
    return sum(found) / total if total else 0.0

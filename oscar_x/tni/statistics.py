"""Streams the statistics of keys or values of one layer. What is held does not grow with the number of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..kernels.hadamard import hadamard_transform
from ..modality import Modality
from .bound import imbalance
from .distribution import HIGHEST, Histogram
from .extremes import Extremes
from .parts import MIXED
from .treatments import (
    COMBINATIONS,
    FULL,
    NONE,
    ROTATED,
    SquaredErrors,
    along_channels,
    along_tokens,
    combination,
    deal,
    parts_of,
)

LEADING = 8  # first tokens of a sequence whose norms are kept one by one


@dataclass(frozen=True)
class Scheme:
    """How one kind of state is quantized.

    Attributes:
        bits: of a code.
        channel_group_size: channels that share a scale in along_channels().
        shared_norm: whether the norm a token is divided by is that over all heads.
        along_tokens: whether the settings group along tokens; otherwise along channels.
        usual: what the presets do to it, one of COMBINATIONS.
    """

    bits: int
    channel_group_size: int
    shared_norm: bool
    along_tokens: bool
    usual: str


@dataclass
class ErrorSums:
    """Errors of groups of one kind under one combination of treatments, fp64.

    Attributes:
        energy: sum of squared errors, [heads].
        tokens: sum over tokens of the squared error over the squared norm, [heads].
        channels: sum of squared errors of each channel, [heads, head_dim].
    """

    energy: Tensor
    tokens: Tensor
    channels: Tensor

    @classmethod
    def of(cls, errors: SquaredErrors, norms: Tensor) -> ErrorSums:
        """From errors of groups and their token norms [heads, groups, group_size]."""
        squares = norms.double().square()
        # a token of zeros has no relative error; its group's energy counts all the same
        relative = torch.where(squares > 0, errors.tokens / squares, 0.0)
        channels = errors.channels.double().sum(1)
        return cls(channels.sum(1), relative.sum((1, 2)), channels)

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(self.energy + other.energy, self.tokens + other.tokens, self.channels + other.channels)


@dataclass
class GroupSums:
    """What is collected of groups of one kind."""

    heads: int
    groups: int = 0
    tokens: int = 0
    along_tokens: dict[str, ErrorSums] = field(default_factory=dict)
    along_channels: dict[str, ErrorSums] = field(default_factory=dict)
    dealt: dict[str, ErrorSums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.energy = torch.zeros(self.heads, dtype=torch.float64)
        self.max_over_min, self.variation, self.imbalance = (Histogram(self.heads) for _ in range(3))

    def add(self, norms: Tensor, errors: Errors, chosen: Tensor, *, mixed: bool) -> None:
        """Take in some groups: norms fp32 [heads, groups, group_size], which of them bool [groups], and whether these
        hold several modalities."""
        norms = norms[:, chosen]
        self.groups += norms.shape[1]
        self.tokens += norms.shape[1] * norms.shape[2]
        self.energy += norms.double().square().sum((1, 2))
        smallest, largest = norms.aminmax(dim=2)
        ratio = torch.where(largest > 0, largest / smallest, torch.ones_like(largest))
        self.max_over_min.add(ratio.clamp(max=2.0**HIGHEST))  # beside a token of zeros
        self.variation.add(norms.std(2, correction=0) / norms.mean(2).clamp_min(torch.finfo(norms.dtype).tiny))
        self.imbalance.add(imbalance(norms))
        for sums, found in (
            (self.along_tokens, errors.along_tokens),
            (self.along_channels, errors.along_channels),
            (self.dealt, errors.dealt if mixed else {}),
        ):
            for name, error in found.items():
                total = ErrorSums.of(error.choose(chosen), norms)
                sums[name] = sums[name] + total if name in sums else total


@dataclass(frozen=True)
class Errors:
    """Errors of groups by combination of treatments, on the CPU."""

    along_tokens: dict[str, SquaredErrors]
    along_channels: dict[str, SquaredErrors]
    dealt: dict[str, SquaredErrors]


class StateStatistics:
    """Keys or values of one layer, all KV heads."""

    def __init__(self, heads: int, scheme: Scheme) -> None:
        self.heads, self.scheme = heads, scheme
        self.norms: dict[str, Histogram] = {}
        self.before: dict[str, Histogram] = {}
        self.after: dict[str, Histogram] = {}
        self.groups: dict[str, GroupSums] = {}
        self.first_group = GroupSums(heads)
        self.low, self.high = Extremes(heads, largest=False), Extremes(heads, largest=True)
        self.leading = torch.zeros(heads, LEADING, dtype=torch.float64)
        self.led = torch.zeros(LEADING, dtype=torch.int64)
        self.channels: tuple[Tensor, Tensor] | None = None

    def add_tokens(self, norms: Tensor, modalities: Tensor, sequence: int, start: int) -> None:
        """Take in tokens as they come.

        Args:
            norms: fp32 [heads, n] on the CPU.
            modalities: int8 [n].
            sequence, start: which sequence, and the first token's place in it.
        """
        self._by_modality(self.norms, norms, modalities)
        for extremes in (self.low, self.high):
            extremes.add(norms, modalities, sequence, start)
        first = norms[:, : max(0, LEADING - start)]
        places = slice(start, start + first.shape[1])
        self.leading[:, places] += first.double()
        self.led[places] += 1

    def add_groups(self, x: Tensor, modalities: Tensor) -> None:
        """Take in groups: fp32 [heads, groups, group_size, head_dim] and int8 [groups, group_size]."""
        norms = x.norm(dim=-1)
        errors = self._errors(x, norms, modalities)
        self._add_channels(x)
        norms = norms.cpu()
        kinds = torch.where((modalities == modalities[:, :1]).all(1), modalities[:, 0], len(Modality))
        for kind in kinds.unique().tolist():
            name = MIXED if kind == len(Modality) else Modality(kind).name.lower()
            sums = self.groups.setdefault(name, GroupSums(self.heads))
            sums.add(norms, errors, kinds == kind, mixed=name == MIXED)
        before, after = self._usual(errors)
        flat, counted = modalities.flatten(), norms.flatten(1)
        for held, squared in ((self.before, before), (self.after, after)):
            relative = torch.where(counted > 0, squared.flatten(1).sqrt() / counted, 0.0)
            self._by_modality(held, relative, flat)

    def add_first(self, x: Tensor, modalities: Tensor) -> None:
        """Take in the group of a sequence's first tokens, shaped as in add_groups."""
        norms = x.norm(dim=-1)
        errors, every = self._errors(x, norms, modalities), torch.ones(x.shape[1], dtype=torch.bool)
        self.first_group.add(norms.cpu(), errors, every, mixed=False)

    def _usual(self, errors: Errors) -> tuple[Tensor, Tensor]:
        found = errors.along_tokens if self.scheme.along_tokens else errors.along_channels
        return found[NONE].tokens, found[self.scheme.usual].tokens

    def _by_modality(self, held: dict[str, Histogram], numbers: Tensor, modalities: Tensor) -> None:
        for kind in modalities.unique().tolist():
            histogram = held.setdefault(Modality(kind).name.lower(), Histogram(self.heads))
            histogram.add(numbers[:, modalities == kind])

    def _add_channels(self, x: Tensor) -> None:
        sums = [y.square().sum((1, 2)).double().cpu() for y in (x, hadamard_transform(x))]
        held = self.channels or (torch.zeros_like(sums[0]), torch.zeros_like(sums[1]))
        self.channels = (held[0] + sums[0], held[1] + sums[1])

    def _errors(self, x: Tensor, norms: Tensor, modalities: Tensor) -> Errors:
        scheme = self.scheme
        divisors = norms.square().sum(0, keepdim=True).sqrt() if scheme.shared_norm else norms
        mixed = (modalities != modalities[:, :1]).any(1)
        at = mixed.to(x.device)
        parts = parts_of(modalities[mixed]).to(x.device)
        in_turn = deal(parts.cpu()).to(x.device)
        tokens: dict[str, SquaredErrors] = {}
        dealt: dict[str, SquaredErrors] = {}
        for name in COMBINATIONS:
            treat = partial(along_tokens, bits=scheme.bits, rotated="rotation" in name, scaled="scaling" in name)
            if "split" not in name:
                tokens[name] = treat(x, divisors, parts=None).cpu()
                continue
            # a group of one modality has nothing to split
            whole = combination(set(name.split("+")) - {"split"})
            tokens[name] = tokens[whole]
            if bool(mixed.any()):
                inside = x[:, at], divisors[:, at]
                cut = treat(*inside, parts=parts).cpu()
                tokens[name] = tokens[whole].replace(mixed, cut)
                if whole in (NONE, FULL):
                    cut = treat(*inside, parts=in_turn).cpu()
                    dealt[name] = tokens[whole].replace(mixed, cut)
        size = scheme.channel_group_size
        channels = {
            name: along_channels(x, size, scheme.bits, rotated=name == ROTATED).cpu() for name in (NONE, ROTATED)
        }
        return Errors(tokens, channels, dealt)

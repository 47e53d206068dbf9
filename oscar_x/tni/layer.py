"""The statistics of one layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import OscarConfig
from .statistics import Scheme, StateStatistics
from .tokens import Grouper, Tokens
from .treatments import FULL, ROTATED, along_tokens

# tokens whose errors are worked out at a time: scratch is about 10 fp32 copies of them
SLICE = 4096


class LayerObserver:
    """The statistics of one layer, over all sequences.

    Attributes:
        keys, values: theirs.
        count: tokens seen.
        raw_energy: sum of squares of the keys as the model makes them, fp64 [heads].
        biased_error, biased_energy: of groups of keys whose bias was left in, fp64 [heads].
    """

    def __init__(self, heads: int, settings: OscarConfig) -> None:
        self.settings = settings
        shared, channels = settings.token_norm == "shared", settings.value_group_size
        by_channel = settings.value_grouping == "per_channel"
        self.keys = StateStatistics(heads, Scheme(settings.key_bits, channels, shared, True, FULL))
        self.values = StateStatistics(heads, Scheme(settings.value_bits, channels, shared, by_channel, ROTATED))
        self.count = 0
        self.raw_energy, self.biased_error, self.biased_energy = torch.zeros(3, heads, dtype=torch.float64)
        self._groupers: dict[int, tuple[Grouper, Grouper]] = {}
        self._seen: dict[int, int] = {}

    def begin(self) -> None:
        """Later tokens belong to new sequences."""
        self._groupers, self._seen = {}, {}

    def seen(self, sequence: int) -> int:
        """Tokens of a sequence so far."""
        return self._seen.get(sequence, 0)

    def see(self, tokens: Tokens, sequence: int) -> None:
        """Take in the next tokens of a sequence."""
        if sequence not in self._groupers:
            size = self.settings.key_group_size
            self._groupers[sequence] = Grouper(self.settings.sink_tokens, size), Grouper(0, size, most=1)
        for start in range(0, len(tokens), SLICE):
            self._see(tokens.slice(start, min(start + SLICE, len(tokens))), sequence)

    def _see(self, tokens: Tokens, sequence: int) -> None:
        start = self.seen(sequence)
        self._seen[sequence] = start + len(tokens)
        self.count += len(tokens)
        self.raw_energy += _energy(tokens.keys if tokens.biased is None else tokens.biased)
        for statistics, states in ((self.keys, tokens.keys), (self.values, tokens.values)):
            statistics.add_tokens(states.norm(dim=-1).cpu(), tokens.modalities, sequence, start)
        regular, first = self._groupers[sequence]
        if (groups := regular.take(tokens)) is not None:
            self.keys.add_groups(*self._in_groups(groups.keys, groups))
            self.values.add_groups(*self._in_groups(groups.values, groups))
            self._compare_bias(groups)
        if (group := first.take(tokens)) is not None:
            self.keys.add_first(*self._in_groups(group.keys, group))
            self.values.add_first(*self._in_groups(group.values, group))

    def _in_groups(self, states: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        size = self.settings.key_group_size
        return states.unflatten(1, (-1, size)), tokens.modalities.unflatten(0, (-1, size))

    def _compare_bias(self, groups: Tokens) -> None:
        if groups.biased is None:
            return
        x, _ = self._in_groups(groups.biased, groups)
        norms = x.norm(dim=-1)
        if self.settings.token_norm == "shared":
            norms = norms.square().sum(0, keepdim=True).sqrt()
        error = along_tokens(x, norms, self.settings.key_bits, rotated=True, scaled=True, parts=None)
        self.biased_error += error.tokens.double().sum((1, 2)).cpu()
        self.biased_energy += _energy(groups.biased)


def _energy(states: Tensor) -> Tensor:
    """Sum of squares, [heads, n, head_dim] -> fp64 [heads] on the CPU."""
    return states.square().sum((1, 2)).double().cpu()

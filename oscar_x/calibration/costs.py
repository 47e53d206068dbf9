"""What every way to store a layer's keys or values is estimated to cost, for all its heads together and for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import OscarConfig
from ..key_bias import KeyBias
from .candidates import Candidates, Way
from .errors import attention_output, attention_weights, head_effects, stored, value_error
from .recording import Attention, Recording


@dataclass(frozen=True)
class LayerCosts:
    """Estimated KL in nats a token, float64. The last axis is 1 + num_key_value_heads long: all heads, then each alone.

    Attributes:
        keys: [treatments, scale bits, ways, ...].
        values: [scale bits, ways, ...].
        sinks: [numbers of exact tokens, 2, ...], keys and values as they are stored by default: what is left of the
            cost with that many exact tokens.
    """

    keys: np.ndarray
    values: np.ndarray
    sinks: np.ndarray


@dataclass(frozen=True)
class Space:
    """The candidates of one layer, in the order of the arrays of LayerCosts."""

    base: OscarConfig
    treatments: list[Way]
    scales: list[int]
    keys: list[Way]
    values: list[Way]
    sinks: list[int]

    def settings(self, treatment: int, scale: int, key: int, value: int, sinks: int | None = None) -> OscarConfig:
        """A choice as settings; the default's number of exact tokens where none is named."""
        changes: dict[str, Any] = {**self.treatments[treatment], **self.keys[key], **self.values[value]}
        return replace(
            self.base,
            scale_bits=self.scales[scale],
            sink_tokens=self.base.sink_tokens if sinks is None else self.sinks[sinks],
            **changes,
        )


def space_of(base: OscarConfig, candidates: Candidates, head_dim: int, bias: KeyBias | None) -> Space:
    """What a layer chooses from."""
    return Space(
        replace(base, head_groups=()),
        candidates.treatments(base, bias is not None),
        list(candidates.scale_bits),
        candidates.keys(base),
        candidates.values(base, head_dim),
        list(candidates.sink_tokens),
    )


@torch.no_grad()
def layer_costs(recordings: Sequence[Recording], layer: int, space: Space, bias: KeyBias | None) -> LayerCosts:
    """The mean over recordings.

    Keys and values are tried apart: to second order the cross term of two roundings that know nothing of each other
    is 0.
    """
    total = None
    for recording in recordings:
        trial = _Trial(recording.attention[layer], recording.states[layer], bias)
        found = (*_ways(trial, space), _sinks(trial, space))
        total = found if total is None else tuple(a + b for a, b in zip(total, found, strict=True))
    assert total is not None  # calibrate() reads at least one sequence
    keys, values, sinks = (costs / len(recordings) for costs in total)
    usual = sinks[-1]  # of the default's own number of exact tokens
    left = np.divide(sinks[:-1], usual, out=np.ones_like(sinks[:-1]), where=usual > 0)
    return LayerCosts(keys, values, left)


class _Trial:
    """One layer of one recording, to store in any way."""

    def __init__(self, seen: Attention, states: tuple[Tensor, Tensor], bias: KeyBias | None) -> None:
        self.seen, self.states, self.bias = seen, states, bias
        self.exact = [held[0].float() for held in states]
        self.output = attention_output(seen, *self.exact)
        self.weights = attention_weights(seen, self.exact[0])

    def store(self, settings: OscarConfig) -> tuple[Tensor, Tensor]:
        bias = self.bias if settings.key_bias == "auto" else None
        keys, values = stored(*self.states, settings, bias)
        return keys[0], values[0]

    def key_cost(self, keys: Tensor) -> np.ndarray:
        error = attention_output(self.seen, keys, self.exact[1]) - self.output
        return head_effects(self.seen, error, len(keys))

    def value_cost(self, values: Tensor) -> np.ndarray:
        return head_effects(self.seen, value_error(self.weights, values - self.exact[1]), len(values))


def _ways(trial: _Trial, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Costs of keys and of values."""
    heads = 1 + len(trial.exact[0])
    keys = np.zeros((len(space.treatments), len(space.scales), len(space.keys), heads))
    values = np.zeros((len(space.scales), len(space.values), heads))
    pairs, others = list(product(range(len(space.treatments)), range(len(space.keys)))), len(space.values)
    for scale, at in product(range(len(space.scales)), range(max(len(pairs), others))):
        # keys and values are packed by one call, whichever of them have ways left; values know nothing of treatments
        treatment, key = pairs[at % len(pairs)]
        held = trial.store(space.settings(treatment, scale, key, at % others))
        if at < len(pairs):
            keys[treatment, scale, key] = trial.key_cost(held[0])
        if at < others:
            values[scale, at] = trial.value_cost(held[1])
    return keys, values


def _sinks(trial: _Trial, space: Space) -> np.ndarray:
    """Costs of the default way with every number of exact tokens, its own last."""
    counts = [*space.sinks, space.base.sink_tokens]
    costs = np.zeros((len(counts), 2, 1 + len(trial.exact[0])))
    for at, count in enumerate(counts):
        keys, values = trial.store(replace(space.base, sink_tokens=count))
        costs[at] = trial.key_cost(keys), trial.value_cost(values)
    return costs

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
from .errors import attention_output, attention_weights, head_effects, packed_layer, stored, value_error
from .padding import padding, places
from .recording import Recording


@dataclass(frozen=True)
class LayerCosts:
    """Estimated KL in nats a token, float64. The last axis is 1 + num_key_value_heads long: all heads, then each alone.

    Attributes:
        keys: [treatments, scale bits, ways, ...].
        values: [scale bits, ways, ...].
        bounds: [ways to bound what is packed, 2, ...], keys and values as they are stored by default: what is left of
            the cost that way.
        padding: [ways to bound what is packed]: how many times the bytes of packed tokens their blocks take.
    """

    keys: np.ndarray
    values: np.ndarray
    bounds: np.ndarray
    padding: np.ndarray


@dataclass(frozen=True)
class Space:
    """The candidates of one layer, in the order of the arrays of LayerCosts."""

    base: OscarConfig
    treatments: list[Way]
    scales: list[int]
    keys: list[Way]
    values: list[Way]
    bounds: list[Way]

    def settings(self, treatment: int, scale: int, key: int, value: int, bound: int | None = None) -> OscarConfig:
        """A choice as settings; the default's exact tokens and ends of blocks where none are named."""
        changes: dict[str, Any] = {**self.treatments[treatment], **self.keys[key], **self.values[value]}
        changes |= {} if bound is None else self.bounds[bound]
        return replace(self.base, scale_bits=self.scales[scale], **changes)


def space_of(
    base: OscarConfig, candidates: Candidates, head_dim: int, bias: KeyBias | None, several: bool = False
) -> Space:
    """What a layer chooses from.

    Args:
        several: whether the data have several modalities.
    """
    return Space(
        replace(base, head_groups=()),
        candidates.treatments(base, bias is not None),
        list(candidates.scale_bits),
        candidates.keys(base),
        candidates.values(base, head_dim),
        candidates.bounds(base, several),
    )


@torch.no_grad()
def layer_costs(
    recordings: Sequence[Recording],
    layer: int,
    space: Space,
    bias: KeyBias | None,
    counted: Sequence[Recording] | None = None,
) -> LayerCosts:
    """The mean over recordings.

    Keys and values are tried apart: to second order the cross term of two roundings that know nothing of each other
    is 0.

    Args:
        counted: those whose padding is counted; the same when missing.
    """
    total = None
    for recording in recordings:
        trial = _Trial(recording, layer, bias)
        found = (*_ways(trial, space), _bounds(trial, space))
        total = found if total is None else tuple(a + b for a, b in zip(total, found, strict=True))
    assert total is not None  # calibrate() reads at least one sequence
    keys, values, effects = (costs / len(recordings) for costs in total)
    usual = effects[-1]  # of the default's own exact tokens and ends of blocks
    left = np.divide(effects[:-1], usual, out=np.ones_like(effects[:-1]), where=usual > 0)
    return LayerCosts(keys, values, left, _paddings(recordings if counted is None else counted, layer, space, bias))


class _Trial:
    """One layer of one recording, to store in any way."""

    def __init__(self, recording: Recording, layer: int, bias: KeyBias | None) -> None:
        self.seen, self.states, self.bias = recording.attention[layer], recording.states[layer], bias
        self.stream = recording.stream
        self.exact = [held[0].float() for held in self.states]
        self.output = attention_output(self.seen, *self.exact)
        self.weights = attention_weights(self.seen, self.exact[0])

    def store(self, settings: OscarConfig) -> tuple[Tensor, Tensor]:
        bias = self.bias if settings.key_bias == "auto" else None
        keys, values = stored(*self.states, settings, bias, self.stream)
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


def _bounds(trial: _Trial, space: Space) -> np.ndarray:
    """Costs of the default way with every way to bound what is packed, its own last."""
    choices: list[Way] = [*space.bounds, {}]
    costs = np.zeros((len(choices), 2, 1 + len(trial.exact[0])))
    for at, choice in enumerate(choices):
        keys, values = trial.store(replace(space.base, **choice))
        costs[at] = trial.key_cost(keys), trial.value_cost(values)
    return costs


def _paddings(recordings: Sequence[Recording], layer: int, space: Space, bias: KeyBias | None) -> np.ndarray:
    """LayerCosts.padding; where blocks end is a matter of norms, not of the way in which they are stored."""
    taken = np.ones(len(space.bounds))
    for at, bound in enumerate(space.bounds):
        settings = replace(space.base, **bound)
        if settings.split_ratio is not None:
            packed = (packed_layer(*one.states[layer], settings, bias, one.stream) for one in recordings)
            taken[at] = padding(sum(map(places, packed), np.zeros(2)))
    return taken

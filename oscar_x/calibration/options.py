"""The options of every layer: what each takes, and what each is estimated to cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..compressor import block_layout
from ..config import OscarConfig
from ..key_bias import KeyBias
from .candidates import Candidates
from .choose import Option
from .errors import attention_output, logit_effect, stored
from .recording import Attention, Recording

Way = dict[str, Any]
# (frame number, which, way number) -> estimated KL
Costs = dict[tuple[int, str, int], float]


def bits_per_element(settings: OscarConfig, heads: int, head_dim: int, tokens: int) -> float:
    """Bits of an element of a layer that holds this many tokens, those kept exact at the start counted as 16."""
    exact = min(settings.sink_tokens, tokens)
    packed = block_layout(settings, heads, head_dim).bits_per_element if settings.compresses else 16.0
    return (16 * exact + packed * (tokens - exact)) / tokens


def layer_options(
    recordings: Sequence[Recording],
    layer: int,
    base: OscarConfig,
    candidates: Candidates,
    bias: KeyBias | None,
    share: float,
) -> list[Option]:
    """Every option of a layer.

    Keys and values are tried apart, and their costs added: to second order the cross term of two roundings that know
    nothing of each other is 0.

    Args:
        share: of the layer's elements in those of all compressed layers.
    """
    frames, keys, values = list(candidates.frames(base)), candidates.keys(), candidates.values()
    costs: Costs = {}
    for recording in recordings:
        for name, cost in _costs(recording, layer, frames, keys, values, bias).items():
            costs[name] = costs.get(name, 0.0) + cost / len(recordings)
    heads, head_dim = recordings[0].states[layer][0].shape[1::2]
    tokens = min(recording.prefix for recording in recordings)
    options = []
    for (f, frame), (k, key), (v, value) in product(enumerate(frames), enumerate(keys), enumerate(values)):
        settings = replace(frame, **key, **value, residual_length=base.residual_length)
        bits = bits_per_element(settings, heads, head_dim, tokens)
        options.append(Option(settings, bits * share, costs[f, "keys", k] + costs[f, "values", v]))
    return options


@torch.no_grad()
def _costs(
    recording: Recording,
    layer: int,
    frames: list[OscarConfig],
    keys: list[Way],
    values: list[Way],
    bias: KeyBias | None,
) -> Costs:
    seen, states = recording.attention[layer], recording.states[layer]
    exact = tuple(held[0].float() for held in states)
    reference = attention_output(seen, *exact)
    costs: Costs = {}
    for number, frame in enumerate(frames):
        for at in range(max(len(keys), len(values))):
            # keys and values are packed by one call, whichever of them have ways left
            way = {**keys[at % len(keys)], **values[at % len(values)]}
            held = stored(*states, replace(frame, **way), bias)
            if at < len(keys):
                costs[number, "keys", at] = _cost(seen, held[0][0], exact[1], reference)
            if at < len(values):
                costs[number, "values", at] = _cost(seen, exact[0], held[1][0], reference)
    return costs


def _cost(seen: Attention, keys: Tensor, values: Tensor, reference: Tensor) -> float:
    return logit_effect(seen, attention_output(seen, keys, values) - reference)


def all_options(
    recordings: Sequence[Recording],
    base: OscarConfig,
    candidates: Candidates,
    biases: Mapping[int, KeyBias],
    progress: Callable[[int, int], None],
) -> dict[int, list[Option]]:
    """The options of every compressed layer, by layer number."""
    layers = sorted(recordings[0].attention)
    elements = {layer: recordings[0].states[layer][0][0, :, 0].numel() for layer in layers}
    total, found = sum(elements.values()), {}
    for done, layer in enumerate(layers):
        progress(done, len(layers))
        share = elements[layer] / total
        found[layer] = layer_options(recordings, layer, base, candidates, biases.get(layer), share)
    return found

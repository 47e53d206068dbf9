"""The KL that settings really cost: the recorded prefixes in a cache of these settings, read by the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..cache import OscarCache
from ..cache.layer import OscarLayer
from ..cache_settings import CacheSettings
from ..profile import Measured
from .options import bits_per_element
from .padding import padding, places
from .recording import Recording
from .replay import continuation_logits, fill

if TYPE_CHECKING:
    from ..key_bias import KeyBias
    from ..model import OscarModel


def measured_kl(
    model: OscarModel, recording: Recording, settings: CacheSettings, biases: Mapping[int, KeyBias]
) -> float:
    """Mean KL(exact prefix || compressed prefix) of the next token over the continuation, in nats. Every token of the
    prefix behind those kept exact is compressed."""
    return _read(model, recording, settings, biases)[0]


@torch.no_grad()
def _read(
    model: OscarModel, recording: Recording, settings: CacheSettings, biases: Mapping[int, KeyBias]
) -> tuple[float, dict[int, np.ndarray]]:
    """measured_kl(), and places() of the compressed layers by number, before the continuation."""
    whole = settings.map(lambda own: replace(own, residual_length=0))
    cache = OscarCache(model.generator.config, whole, key_biases=biases)
    fill(cache, recording.states, recording.stream)
    cache.flush()
    counted = {
        layer: places(held) for layer in recording.attention if isinstance(held := cache.layers[layer], OscarLayer)
    }
    passage = recording.passage
    logits = continuation_logits(model.generator, cache, passage.continuation, passage.positions)
    found = logits.log_softmax(dim=-1)
    if not cache.packed_reads:
        raise RuntimeError("no packed token was read, so nothing was measured")
    kl = torch.nn.functional.kl_div(found, recording.reference, reduction="batchmean", log_target=True)
    return float(kl), counted


def measure(
    model: OscarModel,
    recordings: Sequence[Recording],
    settings: CacheSettings,
    biases: Mapping[int, KeyBias],
    tokens: int | None = None,
) -> Measured:
    """Mean bits an element of the compressed layers, and mean KL over the recordings.

    Args:
        tokens: at which bits are counted; those of the shortest prefix when missing.
    """
    tokens = tokens or min(recording.prefix for recording in recordings)
    found = [_read(model, recording, settings, biases) for recording in recordings]
    bits = elements = 0.0
    for layer in recordings[0].attention:
        heads, head_dim = recordings[0].states[layer][0].shape[1::2]
        taken = padding(sum((counted[layer] for _, counted in found if layer in counted), np.zeros(2)))
        bits += heads * head_dim * bits_per_element(settings[layer], heads, head_dim, tokens, taken)
        elements += heads * head_dim
    return Measured(bits / elements, sum(kl for kl, _ in found) / len(found))

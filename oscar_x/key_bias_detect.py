"""Finds layers whose key-projection bias outweighs the keys themselves, from the weights alone.

The input of the projection W leaves an RMSNorm with mean square 1 per channel before the gain g is applied, so a
key without its bias has an expected norm of ||W diag(g)||_F. Where a head's bias is longer than that, every cached
key is mostly the bias: normalizing by token norm then divides by the bias, and the spread between tokens, which is
what attention reads, falls below one quantization step. Reported biases of 600 to 900 against a median of 22 are
such layers (https://github.com/ggml-org/llama.cpp/issues/21385).
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from .adapters.base import Adapter, follow
from .key_bias import KeyBias

logger = logging.getLogger(__name__)

# bias norm over expected norm of the rest of the key; from here on the bias is the larger part of the key
THRESHOLD = 1.0


def detect_key_biases(model: Any, adapter: Adapter) -> dict[int, KeyBias]:
    """The key biases worth taking out before compression, by layer index.

    Args:
        model: a loaded model of the adapter's family.
        adapter: says where projections, norms and the rotary embedding are.

    Returns:
        For every layer with a ratio above 1 in any KV head: its bias [num_key_value_heads, head_dim] (float32, on
        the layer's device) with the rotary frequencies it is rotated by. Empty where the family has no key bias.
    """
    affected = [index for index, ratio in key_bias_ratios(model, adapter).items() if ratio > THRESHOLD]
    layers, rotary = adapter.find_layers(model), adapter.find_rotary(model)
    found = {}
    for index in affected:
        attention = follow(layers[index], adapter.attention)
        bias = follow(attention, str(adapter.key_bias)).detach().float().view(-1, attention.head_dim)
        inv_freq, scaling = rotary_frequencies(rotary, getattr(attention, "layer_type", None))
        axes = rotary_axes(rotary, len(inv_freq))
        found[index] = KeyBias(bias, inv_freq, scaling, axes).to(bias.device)
    return found


def key_bias_ratios(model: Any, adapter: Adapter) -> dict[int, float]:
    """Largest bias norm over the expected norm of the bias-free key, per layer that has a key bias.

    Layers whose weights are not in memory (offloaded by accelerate) are left out with a warning.
    """
    if adapter.key_bias is None:
        return {}
    ratios = {}
    for index, layer in enumerate(adapter.find_layers(model)):
        attention = follow(layer, adapter.attention)
        bias = follow(attention, adapter.key_bias)
        if bias is None:
            continue
        if bias.is_meta:
            logger.warning("layer %d is offloaded: its key-projection bias cannot be examined and stays", index)
            continue
        gain = follow(layer, adapter.input_norm).weight.detach().float() + adapter.norm_offset
        expected = _expected_norms(follow(attention, adapter.key_projection), gain, attention.head_dim)
        norms = bias.detach().float().view(-1, attention.head_dim).norm(dim=-1)
        ratios[index] = float((norms / expected.clamp_min(torch.finfo(torch.float32).tiny)).max())
    return ratios


def _expected_norms(projection: Any, gain: Tensor, head_dim: int) -> Tensor:
    """||W_h diag(gain)||_F per KV head, [num_key_value_heads]."""
    weight = projection.weight.detach()
    if weight.is_floating_point() and weight.shape[-1] == gain.shape[0]:
        scaled = weight.float() * gain
    else:
        # a quantized weight keeps its values in a layout of its own: read W diag(gain) off the map itself
        probe = torch.diag(gain).to(projection.bias.dtype)
        with torch.no_grad():
            scaled = (projection(probe) - projection.bias).float().T
    return scaled.reshape(-1, head_dim, gain.shape[0]).norm(dim=(-2, -1))


def rotary_frequencies(rotary: Any, layer_type: str | None) -> tuple[Tensor, float]:
    """(inv_freq [rotary_dim/2], attention scaling) of a rotary module; some keep one set per layer type.

    Scaled variants change inv_freq with the length. That is harmless here: the bias is taken out and put back with
    the same frequencies, so the result stays exact and only the benefit shrinks.
    """
    if hasattr(rotary, "inv_freq"):
        return rotary.inv_freq.detach().float(), float(rotary.attention_scaling)
    frequencies = follow(rotary, f"{layer_type}_inv_freq").detach().float()
    return frequencies, float(follow(rotary, f"{layer_type}_attention_scaling"))


def rotary_axes(rotary: Any, frequencies: int) -> Tensor | None:
    """Which position turns each frequency, int64 [rotary_dim/2], where frequencies are dealt out to the axes by
    sections in turn (Qwen2-VL, section 2.1); None where a token has one position."""
    # earlier transformers has them in the config alone
    parameters = getattr(getattr(rotary, "config", None), "rope_parameters", None) or {}
    sections = getattr(rotary, "mrope_section", None) or parameters.get("mrope_section")
    if not sections or sum(sections) != frequencies or parameters.get("mrope_interleaved"):
        return None
    return torch.cat([torch.full((size,), place % 3) for place, size in enumerate(sections)])

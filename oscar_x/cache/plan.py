"""Which layers of a model are compressed, and why others are not. Works from a config alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from ..cache_settings import CacheSettings, Settings
from ..compressor import block_layout
from ..config import OscarConfig
from ..kernels.hadamard import power_of_two_factor


@dataclass(frozen=True)
class LayerPlan:
    """One layer's row of the plan.

    Attributes:
        index: layer number.
        layer_type: as transformers names it ("full_attention", "sliding_attention", ...).
        compressed: whether its cache is packed.
        reason: why not, or what is special about its compression; empty when there is nothing to say.
        head_dim, num_key_value_heads: shape of its cache.
        bits_per_element: bits of a packed key or value element, scales, norms and alignment included; the bits of the
            model's dtype are kept where the layer is not compressed, given as 16.
    """

    index: int
    layer_type: str
    compressed: bool
    reason: str
    head_dim: int
    num_key_value_heads: int
    bits_per_element: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def plan_layers(config: PreTrainedConfig, oscar: Settings) -> list[LayerPlan]:
    """The plan for a model of this config, composite configs included.

    Raises:
        ValueError: settings for a layer that the model does not have.
    """
    chosen = CacheSettings.of(oscar)
    decoder = config.get_text_config(decoder=True)
    types = getattr(decoder, "layer_types", None)
    plan = []
    layers = native_layers(config)
    chosen.check_layers(len(layers))
    for index, layer in enumerate(layers):
        settings = chosen[index]
        heads, head_dim = _shape(decoder, index)
        reason = _why_not(layer, settings)
        bits = 16.0 if reason else _bits(index, settings, heads, head_dim)
        layer_type = types[index] if types else _layer_type(layer)
        note = reason or _note(settings, head_dim)
        plan.append(LayerPlan(index, layer_type, not reason, note, head_dim, heads, bits))
    return plan


def _bits(index: int, settings: OscarConfig, heads: int, head_dim: int) -> float:
    try:
        return block_layout(settings, heads, head_dim).bits_per_element
    except ValueError as error:
        raise ValueError(f"layer {index}: {error}") from error


def native_layers(config: PreTrainedConfig) -> list[CacheLayerMixin]:
    """The layers of transformers' own cache for this config: one a decoder layer, whatever its kind."""
    decoder = config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    return layers or [DynamicLayer() for _ in range(decoder.num_hidden_layers)]


def _why_not(layer: CacheLayerMixin, oscar: OscarConfig) -> str:
    if not oscar.compresses:
        return "16 bits asked for"
    if isinstance(layer, DynamicSlidingWindowLayer):
        return f"sliding window of {layer.sliding_window} tokens is bounded already"
    if type(layer) is not DynamicLayer:
        return f"{type(layer).__name__} holds no plain keys and values"
    return ""


def _note(oscar: OscarConfig, head_dim: int) -> str:
    width = power_of_two_factor(head_dim)
    if width == head_dim or not (oscar.rotate_keys or oscar.rotate_values):
        return ""
    return f"head_dim {head_dim} is no power of two: rotated in blocks of {width}"


def _layer_type(layer: CacheLayerMixin) -> str:
    return "sliding_attention" if isinstance(layer, DynamicSlidingWindowLayer) else "full_attention"


def _shape(decoder: PreTrainedConfig, index: int) -> tuple[int, int]:
    """num_key_value_heads and head_dim of a layer."""
    layers = getattr(decoder, "per_layer_config", None)
    config = layers[index] if layers else decoder
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return heads, head_dim

"""Which layers of a model are compressed, and why others are not. Works from a config alone."""

from __future__ import annotations

from collections.abc import Iterator
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
        sliding_window: tokens that a query sees at most, itself included; None for all of them.
    """

    index: int
    layer_type: str
    compressed: bool
    reason: str
    head_dim: int
    num_key_value_heads: int
    bits_per_element: float
    sliding_window: int | None = None

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
        reason = _why_not(layer, decoder, settings)
        bits = 16.0 if reason else _bits(index, settings, heads, head_dim)
        layer_type = types[index] if types else _layer_type(layer)
        window = layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else None
        note = reason or "; ".join(_notes(settings, head_dim, window, decoder))
        plan.append(LayerPlan(index, layer_type, not reason, note, head_dim, heads, bits, window))
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


def keeps_all(layer: CacheLayerMixin, config: PreTrainedConfig) -> bool:
    """Whether a layer of transformers' own cache holds keys and values of every token that the model can read, and
    nothing else: full attention, or a window that is never reached."""
    if type(layer) is DynamicSlidingWindowLayer:
        longest = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        return longest is not None and layer.sliding_window >= longest
    return type(layer) is DynamicLayer  # its subclasses hold something else beside


def _why_not(layer: CacheLayerMixin, decoder: PreTrainedConfig, oscar: OscarConfig) -> str:
    if not oscar.compresses:
        return "16 bits asked for"
    if keeps_all(layer, decoder):
        return ""
    if isinstance(layer, DynamicSlidingWindowLayer):
        return f"sliding window of {layer.sliding_window} tokens is bounded already"
    return f"{type(layer).__name__} holds no plain keys and values"


def _notes(oscar: OscarConfig, head_dim: int, window: int | None, decoder: PreTrainedConfig) -> Iterator[str]:
    if window is not None:
        yield f"sliding window of {window} tokens is never reached: the model reads {decoder.max_position_embeddings}"
    width = power_of_two_factor(head_dim)
    if width != head_dim and (oscar.rotate_keys or oscar.rotate_values):
        yield f"head_dim {head_dim} is no power of two: rotated in blocks of {width}"


def _layer_type(layer: CacheLayerMixin) -> str:
    return "sliding_attention" if isinstance(layer, DynamicSlidingWindowLayer) else "full_attention"


def _shape(decoder: PreTrainedConfig, index: int) -> tuple[int, int]:
    """num_key_value_heads and head_dim of a layer."""
    layers = getattr(decoder, "per_layer_config", None)
    config = layers[index] if layers else decoder
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return heads, head_dim

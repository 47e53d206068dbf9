"""FastVLM: a convolutional tower whose grid cells are the image's tokens, before a Qwen2 or other decoder."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="FastVLM",
    model_types=("fast_vlm",),
    short_names={"FastVLM": "KamilaMila/FastVLM-0.5B", "FastVLM-0.5B": "KamilaMila/FastVLM-0.5B"},
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image",)),
)

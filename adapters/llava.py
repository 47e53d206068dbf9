"""LLaVA 1.5: a CLIP tower, 576 tokens an image, before a Llama or Vicuna decoder."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="LLaVA-1.5",
    model_types=("llava",),
    short_names={
        "LLaVA-1.5": "llava-hf/llava-1.5-7b-hf",
        "LLaVA-1.5-7B": "llava-hf/llava-1.5-7b-hf",
        "LLaVA-1.5-13B": "llava-hf/llava-1.5-13b-hf",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image",)),
)

"""LLaVA 1.5 and what shares its class: BakLLaVA (Mistral), LLaVA-Interleave (Qwen) and Pixtral-12B in that format."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="LLaVA-1.5",
    model_types=("llava",),
    short_names={
        "LLaVA-1.5": "llava-hf/llava-1.5-7b-hf",
        "LLaVA-1.5-7B": "llava-hf/llava-1.5-7b-hf",
        "LLaVA-1.5-13B": "llava-hf/llava-1.5-13b-hf",
        "BakLLaVA": "llava-hf/bakLlava-v1-hf",
        "LLaVA-Interleave-0.5B": "llava-hf/llava-interleave-qwen-0.5b-hf",
        "LLaVA-Interleave-7B": "llava-hf/llava-interleave-qwen-7b-hf",
        "Pixtral-12B": "mistral-community/pixtral-12b",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image",)),
)

"""LLaVA-NeXT (LLaVA-1.6): images in tiles by their aspect ratio, before a Mistral, Vicuna, Llama or Qwen decoder."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="LLaVA-NeXT",
    model_types=("llava_next",),
    short_names={
        "LLaVA-NeXT": "llava-hf/llava-v1.6-mistral-7b-hf",
        "LLaVA-NeXT-Mistral-7B": "llava-hf/llava-v1.6-mistral-7b-hf",
        "LLaVA-NeXT-Vicuna-7B": "llava-hf/llava-v1.6-vicuna-7b-hf",
        "LLaVA-NeXT-Vicuna-13B": "llava-hf/llava-v1.6-vicuna-13b-hf",
        "LLaVA-NeXT-34B": "llava-hf/llava-v1.6-34b-hf",
        "LLaVA-NeXT-Llama3-8B": "llava-hf/llama3-llava-next-8b-hf",
        "LLaVA-NeXT-72B": "llava-hf/llava-next-72b-hf",
        "LLaVA-NeXT-110B": "llava-hf/llava-next-110b-hf",
        "LLaVA-1.6": "llava-hf/llava-v1.6-mistral-7b-hf",
        "LLaVA-v1.6-Mistral-7B": "llava-hf/llava-v1.6-mistral-7b-hf",
        "LLaVA-v1.6-Vicuna-7B": "llava-hf/llava-v1.6-vicuna-7b-hf",
        "LLaVA-v1.6-Vicuna-13B": "llava-hf/llava-v1.6-vicuna-13b-hf",
        "LLaVA-v1.6-34B": "llava-hf/llava-v1.6-34b-hf",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image",)),
)

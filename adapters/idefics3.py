"""Idefics 3 and the first SmolVLM, which shares its architecture class: images in tiles, no video."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="Idefics3",
    model_types=("idefics3",),
    short_names={
        "Idefics3": "HuggingFaceM4/Idefics3-8B-Llama3",
        "Idefics3-8B": "HuggingFaceM4/Idefics3-8B-Llama3",
        "SmolVLM1": "HuggingFaceTB/SmolVLM-Instruct",
        "SmolVLM1-2.2B": "HuggingFaceTB/SmolVLM-Instruct",
        "SmolVLM1-500M": "HuggingFaceTB/SmolVLM-500M-Instruct",
        "SmolVLM1-256M": "HuggingFaceTB/SmolVLM-256M-Instruct",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image",)),
)

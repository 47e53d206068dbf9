"""Gemma 3 with vision: 256 tokens an image that see one another both ways, over Gemma 3's sliding and full layers."""

from __future__ import annotations

from .base import Adapter, MediaFacts

# what the decoder is like, adapters/gemma3.py says
ADAPTER = Adapter(
    name="Gemma 3 vision",
    model_types=("gemma3",),
    short_names={
        "Gemma-3-4B": "google/gemma-3-4b-it",
        "Gemma-3-12B": "google/gemma-3-12b-it",
        "Gemma-3-27B": "google/gemma-3-27b-it",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image",), token_types="token_type_ids"),
    notes="the tokens of an image see one another both ways",
)

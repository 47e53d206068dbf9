"""SmolVLM2: images in tiles of a few dozen tokens, videos shown to the model as a row of images."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="SmolVLM",
    model_types=("smolvlm",),
    short_names={
        "SmolVLM": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        "SmolVLM2": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        "SmolVLM2-2.2B": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        "SmolVLM2-500M": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "SmolVLM2-256M": "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image", "video"), fps=1.0, max_frames=64, mixes=False),
    notes="a prompt may hold images or videos, not both: the processor keeps the pixels of one kind only",
)

"""InternVL 3 and 3.5 in transformers' own format: images in up to 12 tiles of 256 tokens, videos as numbered frames."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="InternVL",
    model_types=("internvl",),
    short_names={
        "InternVL": "OpenGVLab/InternVL3-8B-hf",
        "InternVL3": "OpenGVLab/InternVL3-8B-hf",
        "InternVL3-1B": "OpenGVLab/InternVL3-1B-hf",
        "InternVL3-2B": "OpenGVLab/InternVL3-2B-hf",
        "InternVL3-8B": "OpenGVLab/InternVL3-8B-hf",
        "InternVL3-14B": "OpenGVLab/InternVL3-14B-hf",
        "InternVL3-38B": "OpenGVLab/InternVL3-38B-hf",
        "InternVL3-78B": "OpenGVLab/InternVL3-78B-hf",
        "InternVL3.5": "OpenGVLab/InternVL3_5-8B-HF",
        "InternVL3.5-1B": "OpenGVLab/InternVL3_5-1B-HF",
        "InternVL3.5-2B": "OpenGVLab/InternVL3_5-2B-HF",
        "InternVL3.5-4B": "OpenGVLab/InternVL3_5-4B-HF",
        "InternVL3.5-8B": "OpenGVLab/InternVL3_5-8B-HF",
        "InternVL3.5-14B": "OpenGVLab/InternVL3_5-14B-HF",
        "InternVL3.5-38B": "OpenGVLab/InternVL3_5-38B-HF",
        "InternVL3.5-30B-A3B": "OpenGVLab/InternVL3_5-30B-A3B-HF",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image", "video"), num_frames=8, equal_frames=True),
)

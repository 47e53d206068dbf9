"""Qwen3-VL, dense: images and videos at their own resolution, a timestamp before each pair of video frames, interleaved
M-RoPE."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="Qwen3-VL",
    model_types=("qwen3_vl",),
    short_names={
        "Qwen3-VL": "Qwen/Qwen3-VL-8B-Instruct",
        "Qwen3-VL-2B": "Qwen/Qwen3-VL-2B-Instruct",
        "Qwen3-VL-4B": "Qwen/Qwen3-VL-4B-Instruct",
        "Qwen3-VL-8B": "Qwen/Qwen3-VL-8B-Instruct",
        "Qwen3-VL-32B": "Qwen/Qwen3-VL-32B-Instruct",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image", "video"), fps=2.0, rope_index="model.get_rope_index"),
    notes="keys are RMS-normalized per head before the rotary embedding, so no key bias reaches the cache",
)

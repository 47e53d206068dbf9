"""Qwen2-VL: images and videos at their own resolution, positions on three axes (M-RoPE)."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="Qwen2-VL",
    model_types=("qwen2_vl",),
    short_names={
        "Qwen2-VL": "Qwen/Qwen2-VL-7B-Instruct",
        "Qwen2-VL-2B": "Qwen/Qwen2-VL-2B-Instruct",
        "Qwen2-VL-7B": "Qwen/Qwen2-VL-7B-Instruct",
        "Qwen2-VL-72B": "Qwen/Qwen2-VL-72B-Instruct",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image", "video"), fps=2.0, rope_index="model.get_rope_index"),
    key_bias="k_proj.bias",
    notes="key projections carry a bias; where it is larger than the keys themselves, it is taken out before "
    "compression",
)

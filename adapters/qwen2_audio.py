"""Qwen2-Audio: a Whisper-like tower, 25 tokens a second of sound, before a Qwen2 decoder."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="Qwen2-Audio",
    model_types=("qwen2_audio",),
    short_names={
        "Qwen2-Audio": "Qwen/Qwen2-Audio-7B-Instruct",
        "Qwen2-Audio-7B": "Qwen/Qwen2-Audio-7B-Instruct",
        "Qwen2-Audio-7B-Base": "Qwen/Qwen2-Audio-7B",
    },
    auto_class="AutoModelForMultimodalLM",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("audio",), audio_window=True),
    key_bias="k_proj.bias",
    notes="key projections carry a bias; where it is larger than the keys themselves, it is taken out before "
    "compression",
)

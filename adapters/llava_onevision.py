"""LLaVA-OneVision: a lone image in tiles, several images or video frames at one tile each, before a Qwen2 decoder."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="LLaVA-OneVision",
    model_types=("llava_onevision",),
    short_names={
        "LLaVA-OneVision": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "LLaVA-OneVision-0.5B": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "LLaVA-OneVision-7B": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "LLaVA-OneVision-72B": "llava-hf/llava-onevision-qwen2-72b-ov-hf",
        "LLaVA-OneVision-0.5B-SI": "llava-hf/llava-onevision-qwen2-0.5b-si-hf",
        "LLaVA-OneVision-7B-SI": "llava-hf/llava-onevision-qwen2-7b-si-hf",
        "LLaVA-OneVision-72B-SI": "llava-hf/llava-onevision-qwen2-72b-si-hf",
        "LLaVA-OneVision-7B-Chat": "llava-hf/llava-onevision-qwen2-7b-ov-chat-hf",
        "LLaVA-OneVision-72B-Chat": "llava-hf/llava-onevision-qwen2-72b-ov-chat-hf",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    media=MediaFacts(kinds=("image", "video"), num_frames=32, equal_frames=True),
)

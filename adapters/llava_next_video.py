"""LLaVA-NeXT-Video: images as LLaVA-NeXT, videos at 144 tokens a frame, before a Vicuna, Mistral or Yi decoder."""

from __future__ import annotations

from .base import Adapter, MediaFacts

ADAPTER = Adapter(
    name="LLaVA-NeXT-Video",
    model_types=("llava_next_video",),
    short_names={
        "LLaVA-NeXT-Video": "llava-hf/LLaVA-NeXT-Video-7B-hf",
        "LLaVA-NeXT-Video-7B": "llava-hf/LLaVA-NeXT-Video-7B-hf",
        "LLaVA-NeXT-Video-7B-DPO": "llava-hf/LLaVA-NeXT-Video-7B-DPO-hf",
        "LLaVA-NeXT-Video-7B-32K": "llava-hf/LLaVA-NeXT-Video-7B-32K-hf",
        "LLaVA-NeXT-Video-34B": "llava-hf/LLaVA-NeXT-Video-34B-hf",
        "LLaVA-NeXT-Video-34B-DPO": "llava-hf/LLaVA-NeXT-Video-34B-DPO-hf",
    },
    auto_class="AutoModelForImageTextToText",
    processor_class="AutoProcessor",
    # 2304 tokens; the 32 frames of training would be 4608, more than the 4096 positions Vicuna was trained on
    media=MediaFacts(kinds=("image", "video"), num_frames=16, equal_frames=True),
)

"""Qwen2.5-Omni: a thinker that sees and hears and writes, a talker that speaks what it wrote; time-aligned positions
of video and sound (TMRoPE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Adapter, MediaFacts, SpeechFacts


def audio_frames(inputs: Mapping[str, Any]) -> Any:
    """Mel frames of each sound, int64 [sounds], or None where there is none."""
    mask = inputs.get("feature_attention_mask")
    return None if mask is None else mask.sum(-1)


MEDIA = MediaFacts(
    kinds=("image", "video", "audio"),
    fps=2.0,
    sound_in_video=True,
    audio_window=True,
    grid_seconds="video_second_per_grid",
    since="5.17",  # before, thinkers put positions of their own in the place of those that generate() was given
    rope_index="get_rope_index",
    rope_arguments={
        "audio_seqlens": audio_frames,
        "second_per_grids": lambda inputs: inputs.get("video_second_per_grid"),
    },
)

ADAPTER = Adapter(
    name="Qwen2.5-Omni",
    model_types=("qwen2_5_omni",),
    short_names={
        "Qwen2.5-Omni": "Qwen/Qwen2.5-Omni-7B",
        "Qwen2.5-Omni-3B": "Qwen/Qwen2.5-Omni-3B",
        "Qwen2.5-Omni-7B": "Qwen/Qwen2.5-Omni-7B",
    },
    auto_class="AutoModelForMultimodalLM",
    processor_class="AutoProcessor",
    media=MEDIA,
    generator="thinker",
    speech=SpeechFacts(
        talker="talker",
        decoder="model",
        speakers="speaker_map",
        columns=lambda config, input_ids: input_ids == input_ids,
        added=2,
        sampling_rate=24_000,
        voices="spk_dict.pt",
        needs_mask=True,
    ),
    key_bias="k_proj.bias",
    notes="the caches of thinker and talker are both compressed; key projections of both carry a bias, and where it is "
    "larger than the keys themselves, it is taken out before compression",
)

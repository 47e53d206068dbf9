"""Qwen3-Omni-MoE: thinker and talker are mixtures of experts; time-aligned positions of video and sound (TM-RoPE)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Adapter, MediaFacts, SpeechFacts
from .qwen2_5_omni import audio_frames


def of_users(config: Any, input_ids: Tensor) -> Tensor:
    """The columns of the users' turns, bool [batch, columns]: the talker reads no others."""
    columns = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    turns = torch.where(input_ids == config.im_start_token_id, columns, 0).cummax(1).values
    roles = input_ids.gather(1, (turns + 1).clamp(max=input_ids.shape[1] - 1))
    return roles == config.user_token_id


MEDIA = MediaFacts(
    kinds=("image", "video", "audio"),
    fps=2.0,
    sound_in_video=True,
    grid_seconds="video_second_per_grid",
    since="5.17",  # before, thinkers put positions of their own in the place of those that generate() was given
    rope_index="get_rope_index",
    rope_arguments={
        "audio_seqlens": audio_frames,
        "second_per_grids": lambda inputs: inputs.get("video_second_per_grid"),
    },
)

ADAPTER = Adapter(
    name="Qwen3-Omni-MoE",
    model_types=("qwen3_omni_moe",),
    short_names={
        "Qwen3-Omni": "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "Qwen3-Omni-30B-A3B": "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "Qwen3-Omni-Thinking": "Qwen/Qwen3-Omni-30B-A3B-Thinking",
        "Qwen3-Omni-Captioner": "Qwen/Qwen3-Omni-30B-A3B-Captioner",
    },
    auto_class="AutoModelForMultimodalLM",
    processor_class="AutoProcessor",
    media=MEDIA,
    generator="thinker",
    speech=SpeechFacts(
        talker="talker",
        decoder="model",
        speakers="config.talker_config.speaker_id",
        columns=of_users,
        added=9,
        sampling_rate=24_000,
        lent=("audio_config",),  # its n_window, where a prompt has sounds and pictures
    ),
    notes="the caches of thinker and talker are both compressed; that of the code predictor holds at most a few dozen "
    "tokens and is transformers' own",
)

"""The model: transformers' own thinker of Qwen2.5-Omni, small."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    GenerationConfig,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from .tokens import END, END_OF_TEXT, MEL_BINS, SPECIAL

HIDDEN = 256
# 44 of 64 frequencies tell time, since a frame is one token: places within it need none
ROPE = {"rope_type": "default", "rope_theta": 1e5, "mrope_section": [44, 10, 10]}
_IDS = {
    "image_token_index": "image_token",
    "audio_token_index": "audio_token",
    "video_token_index": "video_token",
    "audio_start_token_id": "audio_bos_token",
    "audio_end_token_id": "audio_eos_token",
    "vision_start_token_id": "vision_bos_token",
    "vision_end_token_id": "vision_eos_token",
}
TEXT: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "initializer_range": 0.04,
    "rope_parameters": ROPE,
    "tie_word_embeddings": True,
}
VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_heads": 4,
    "out_hidden_size": HIDDEN,
    "fullatt_block_indexes": [1],
    "initializer_range": 0.04,
}
AUDIO: dict[str, Any] = {
    "num_mel_bins": MEL_BINS,
    "d_model": 128,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "n_window": 100,
    "output_dim": HIDDEN,
    "initializer_range": 0.04,
}


def make_config(tokenizer: Any) -> Qwen2_5OmniThinkerConfig:
    """The model's config for a vocabulary."""
    ids = {name: tokenizer.convert_tokens_to_ids(SPECIAL[token]) for name, token in _IDS.items()}
    ends = {
        "pad_token_id": tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "bos_token_id": None,
    }
    return Qwen2_5OmniThinkerConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), **ends},
        vision_config=VISION,
        audio_config=AUDIO,
        tie_word_embeddings=True,
        user_token_id=tokenizer.convert_tokens_to_ids("user"),
        **ids,
    )


def make_model(tokenizer: Any, seed: int) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """The untrained model, float32."""
    torch.manual_seed(seed)
    model = Qwen2_5OmniThinkerForConditionalGeneration(make_config(tokenizer)).float()
    end, pad = tokenizer.convert_tokens_to_ids(END), tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    model.generation_config = GenerationConfig(
        eos_token_id=end,
        pad_token_id=pad,
        do_sample=False,
        # placeholders would be taken for media that were not given
        suppress_tokens=[tokenizer.convert_tokens_to_ids(token) for token in SPECIAL.values()],
    )
    return model

"""Qwen2.5-Omni with all its parts: thinker, talker, diffusion transformer and vocoder. TMRoPE."""

from pathlib import Path

import torch

MROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
PIXELS = {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}}
TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "tts_bos_token": "<tts_text_bos>",
    "tts_eos_token": "<tts_text_eos>",
    "tts_pad_token": "<tts_text_pad>",
}
IDS = {
    "image_token_index": "<|IMAGE|>",
    "audio_token_index": "<|AUDIO|>",
    "video_token_index": "<|VIDEO|>",
    "audio_start_token_id": "<|audio_bos|>",
    "audio_end_token_id": "<|audio_eos|>",
    "vision_start_token_id": "<|vision_bos|>",
    "vision_end_token_id": "<|vision_eos|>",
}
THINKER = {
    "text_config": {"DECODER": True, "hidden_size": 256, "rope_parameters": MROPE},
    "audio_config": {
        "num_mel_bins": 32,
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "n_window": 50,
        "output_dim": 256,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 256,
        "fullatt_block_indexes": [1],
    },
    **IDS,
}
# codes and their ids as in the published models, which generate() counts on
TALKER = {
    **IDS,
    "tts_text_start_token_id": "<tts_text_bos>",
    "tts_text_end_token_id": "<tts_text_eos>",
    "tts_text_pad_token_id": "<tts_text_pad>",
    "embedding_size": 256,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "initializer_range": 0.1,
    "rope_parameters": MROPE,
    "pad_token_id": 8292,
}
TOKEN2WAV = {
    "dit_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
        "emb_dim": 16,
        "look_ahead_layers": [1],
        "look_backward_layers": [0],
        "num_embeds": 8448,
        "mel_dim": 8,
        "enc_emb_dim": 8,
        "enc_dim": 8,
        "enc_channels": [16, 16, 16, 16, 48],
        "enc_attention_channels": 8,
        "enc_se_channels": 8,
    },
    "bigvgan_config": {
        "mel_dim": 8,
        "upsample_initial_channel": 64,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
    },
}


def write_speakers(path: Path) -> None:
    """Two voices: a token that begins their text, an embedding, a reference spectrogram."""
    generator = torch.Generator().manual_seed(0)
    voices = {
        name: {
            "bos_token": 3 + index,
            "cond": torch.randn(1, 8, generator=generator),
            "ref_mel": torch.randn(1, 40, 8, generator=generator),
        }
        for index, name in enumerate(("Chelsie", "Ethan"))
    }
    torch.save(voices, path)


FAMILY = {
    "model": "Qwen2_5OmniForConditionalGeneration",
    "processor": "Qwen2_5OmniProcessor",
    "config": {"thinker_config": THINKER, "talker_config": TALKER, "token2wav_config": TOKEN2WAV},
    "parts": {
        "image_processor": ("Qwen2VLImageProcessor", PIXELS),
        "video_processor": ("Qwen2VLVideoProcessor", PIXELS),
        "feature_extractor": ("WhisperFeatureExtractor", {"feature_size": 32, "chunk_length": 8}),
    },
    "tokens": TOKENS,
    "show": {
        "image": "<|vision_bos|><|IMAGE|><|vision_eos|>",
        "video": "<|vision_bos|><|VIDEO|><|vision_eos|>",
        "audio": "<|audio_bos|><|AUDIO|><|audio_eos|>",
    },
    "files": {"spk_dict.pt": write_speakers},
}

"""Qwen2-Audio: 25 tokens a second of sound, a window of 4 seconds instead of 30."""

FAMILY = {
    "model": "Qwen2AudioForConditionalGeneration",
    "processor": "Qwen2AudioProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "qwen2", "hidden_size": 256},
        "audio_config": {
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 32,
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "max_source_positions": 200,
        },
        "audio_token_index": "<|AUDIO|>",
    },
    "parts": {"feature_extractor": ("WhisperFeatureExtractor", {"feature_size": 32, "chunk_length": 4})},
    "tokens": {
        "audio_token": "<|AUDIO|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
    },
    "show": {"audio": "<|audio_bos|><|AUDIO|><|audio_eos|>\n"},
}

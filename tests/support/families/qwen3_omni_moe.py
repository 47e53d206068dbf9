"""Qwen3-Omni-MoE with all its parts: thinker, talker, code predictor and vocoder. TM-RoPE."""

MROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
PIXELS = {"size": {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}, "patch_size": 16}
TOKENS = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
    "tts_bos_token": "<tts_text_bos>",
    "tts_eos_token": "<tts_text_eos>",
    "tts_pad_token": "<tts_text_pad>",
}
IDS = {
    "image_token_id": "<|image_pad|>",
    "audio_token_id": "<|audio_pad|>",
    "video_token_id": "<|video_pad|>",
    "audio_start_token_id": "<|audio_start|>",
    "vision_start_token_id": "<|vision_start|>",
    "position_id_per_seconds": 13,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
THINKER = {
    "text_config": {"DECODER": True, "rope_parameters": MROPE, **EXPERTS},
    "audio_config": {
        "num_mel_bins": 32,
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "downsample_hidden_size": 8,
        "output_dim": 128,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 128,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    },
    **IDS,
}
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
TALKER = {
    **IDS,
    "text_config": {
        **SMALL,
        **EXPERTS,
        "vocab_size": 1200,
        "hidden_size": 128,
        "intermediate_size": 128,
        "shared_expert_intermediate_size": 64,
        "initializer_range": 0.1,
        "rope_parameters": MROPE,
    },
    "code_predictor_config": {
        **SMALL,
        "vocab_size": 64,
        "hidden_size": 128,
        "intermediate_size": 64,
        "num_code_groups": 4,
    },
    "num_code_groups": 4,
    "thinker_hidden_size": 128,
    "accept_hidden_layer": 1,
    "spatial_merge_size": 2,
    "codec_eos_token_id": 1190,
    "codec_nothink_id": 1191,
    "codec_think_bos_id": 1192,
    "codec_think_eos_id": 1193,
    "codec_pad_id": 1194,
    "codec_bos_id": 1195,
    "speaker_id": {"ethan": 1196, "chelsie": 1197},
}
CODE2WAV = {
    "codebook_size": 176,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_quantizers": 4,
    "decoder_dim": 64,
}

FAMILY = {
    "model": "Qwen3OmniMoeForConditionalGeneration",
    "processor": "Qwen3OmniMoeProcessor",
    "config": {
        "thinker_config": THINKER,
        "talker_config": TALKER,
        "code2wav_config": CODE2WAV,
        "im_start_token_id": "<|start|>",
        "im_end_token_id": "<|end|>",
        "tts_pad_token_id": "<tts_text_pad>",
        "tts_bos_token_id": "<tts_text_bos>",
        "tts_eos_token_id": "<tts_text_eos>",
        "user_token_id": "u",
        "system_token_id": "s",
        "assistant_token_id": "a",
    },
    "parts": {
        "image_processor": ("Qwen2VLImageProcessor", PIXELS),
        "video_processor": ("Qwen2VLVideoProcessor", PIXELS),
        "feature_extractor": ("WhisperFeatureExtractor", {"feature_size": 32, "chunk_length": 8}),
    },
    "tokens": TOKENS,
    "show": {
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
        "video": "<|vision_start|><|video_pad|><|vision_end|>",
        "audio": "<|audio_start|><|audio_pad|><|audio_end|>",
    },
}

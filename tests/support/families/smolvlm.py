"""SmolVLM2: 4 tokens a tile or video frame."""

FAMILY = {
    "model": "SmolVLMForConditionalGeneration",
    "processor": "SmolVLMProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "llama"},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
        "scale_factor": 2,
        "image_token_id": "<image>",
        "pad_token_id": "<pad>",
    },
    "parts": {
        "image_processor": (
            "SmolVLMImageProcessor",
            {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}},
        ),
        "video_processor": (
            "SmolVLMVideoProcessor",
            {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 56}},
        ),
    },
    "processor_arguments": {"image_seq_len": 4},
    "tokens": {
        "image_token": "<image>",
        "video_token": "<video>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    },
    "show": {"image": "<image>", "video": "<video>"},
}

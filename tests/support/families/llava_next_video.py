"""LLaVA-NeXT-Video: images as LLaVA-NeXT, 4 tokens a video frame."""

PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]

FAMILY = {
    "model": "LlavaNextVideoForConditionalGeneration",
    "processor": "LlavaNextVideoProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "llama"},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
        "image_token_index": "<image>",
        "video_token_index": "<video>",
        "image_seq_length": 16,
        "image_grid_pinpoints": PINPOINTS,
    },
    "parts": {
        "image_processor": (
            "LlavaNextImageProcessor",
            {"size": {"shortest_edge": 56}, "crop_size": 56, "image_grid_pinpoints": PINPOINTS},
        ),
        "video_processor": ("LlavaNextVideoVideoProcessor", {"size": {"shortest_edge": 56}, "crop_size": 56}),
    },
    "processor_arguments": {
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    },
    "tokens": {"image_token": "<image>", "video_token": "<video>"},
    "show": {"image": "<image>\n", "video": "<video>\n"},
}

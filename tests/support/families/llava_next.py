"""LLaVA-NeXT: an image costs 16 tokens for the whole and up to 72 for its tiles, by its aspect ratio."""

PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]

FAMILY = {
    "model": "LlavaNextForConditionalGeneration",
    "processor": "LlavaNextProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "mistral", "sliding_window": None},
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
        "image_seq_length": 16,
        "image_grid_pinpoints": PINPOINTS,
    },
    "parts": {
        "image_processor": (
            "LlavaNextImageProcessor",
            {"size": {"shortest_edge": 56}, "crop_size": 56, "image_grid_pinpoints": PINPOINTS},
        )
    },
    "processor_arguments": {
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    },
    "tokens": {"image_token": "<image>"},
    "show": {"image": "<image>\n"},
}

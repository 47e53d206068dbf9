"""LLaVA-OneVision: a lone image in tiles, several images at 17 tokens each, 4 tokens a video frame."""

SIZE = {"height": 56, "width": 56}
PINPOINTS = [[56 * rows, 56 * columns] for rows in range(1, 7) for columns in range(1, 7)]

FAMILY = {
    "model": "LlavaOnevisionForConditionalGeneration",
    "processor": "LlavaOnevisionProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "qwen2"},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "image_token_index": "<image>",
        "video_token_index": "<video>",
        "image_grid_pinpoints": PINPOINTS,
    },
    "parts": {
        "image_processor": ("LlavaOnevisionImageProcessor", {"size": SIZE, "image_grid_pinpoints": PINPOINTS}),
        "video_processor": ("LlavaOnevisionVideoProcessor", {"size": SIZE}),
    },
    "processor_arguments": {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    "tokens": {"image_token": "<image>", "video_token": "<video>"},
    "show": {"image": "<image>\n", "video": "<video>\n"},
}

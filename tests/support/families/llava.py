"""LLaVA-1.5: 16 tokens an image."""

FAMILY = {
    "model": "LlavaForConditionalGeneration",
    "processor": "LlavaProcessor",
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
        "image_seq_length": 16,
    },
    "parts": {"image_processor": ("CLIPImageProcessor", {"size": {"shortest_edge": 56}, "crop_size": 56})},
    "processor_arguments": {
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    },
    "tokens": {"image_token": "<image>"},
    "show": {"image": "<image>\n"},
}

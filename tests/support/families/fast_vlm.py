"""FastVLM with a small ResNet as its tower: 4 tokens an image."""

FAMILY = {
    "model": "FastVlmForConditionalGeneration",
    "processor": "LlavaProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "qwen2"},
        "vision_config": {
            "model_type": "resnet",
            "embedding_size": 16,
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "hidden_size": 32,
        },
        "image_token_index": "<image>",
        "image_seq_length": 4,
    },
    "parts": {"image_processor": ("CLIPImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": 64})},
    "processor_arguments": {"patch_size": 32, "vision_feature_select_strategy": "full"},
    "tokens": {"image_token": "<image>"},
    "show": {"image": "<image>\n"},
}

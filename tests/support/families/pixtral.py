"""Pixtral in LLaVA's class: a token a patch, a break behind each row of tokens and an end behind the last."""

FAMILY = {
    "model": "LlavaForConditionalGeneration",
    "processor": "PixtralProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "mistral", "sliding_window": None},
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 96,
            "patch_size": 16,
        },
        "image_token_index": "[IMG]",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    },
    "parts": {"image_processor": ("PixtralImageProcessor", {"size": {"longest_edge": 96}, "patch_size": 16})},
    "processor_arguments": {
        "patch_size": 16,
        "image_token": "[IMG]",
        "image_break_token": "[IMG_BREAK]",
        "image_end_token": "[IMG_END]",
    },
    "tokens": {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"},
    "show": {"image": "[IMG]"},
}

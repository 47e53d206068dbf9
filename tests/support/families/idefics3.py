"""Idefics 3: 4 tokens a tile."""

FAMILY = {
    "model": "Idefics3ForConditionalGeneration",
    "processor": "Idefics3Processor",
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
            "Idefics3ImageProcessor",
            {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}},
        ),
    },
    "processor_arguments": {"image_seq_len": 4},
    "tokens": {
        "image_token": "<image>",
    },
    "show": {"image": "<image>"},
}

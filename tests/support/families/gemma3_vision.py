"""Gemma 3 with vision: 16 tokens an image, wider than the window of every second layer."""

FAMILY = {
    "model": "Gemma3ForConditionalGeneration",
    "processor": "Gemma3Processor",
    "config": {
        "text_config": {
            "DECODER": True,
            "sliding_window": 12,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 64,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 7,
        },
        "mm_tokens_per_image": 16,
        "image_token_index": "<image_soft_token>",
        "boi_token_index": "<start_of_image>",
        "eoi_token_index": "<end_of_image>",
        "tie_word_embeddings": False,
    },
    "parts": {"image_processor": ("Gemma3ImageProcessor", {"size": {"height": 56, "width": 56}})},
    "processor_arguments": {"image_seq_length": 16},
    "tokens": {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    },
    "show": {"image": "<start_of_image>"},
}

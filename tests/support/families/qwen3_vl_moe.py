"""Qwen3-VL with experts: otherwise as qwen3_vl.py says."""

FAMILY = {
    "model": "Qwen3VLMoeForConditionalGeneration",
    "processor": "Qwen3VLProcessor",
    "config": {
        "text_config": {
            "DECODER": True,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
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
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    },
    "parts": {
        "image_processor": (
            "Qwen2VLImageProcessor",
            {"size": {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}, "patch_size": 16},
        ),
        # of a video: pixels of all its frames together
        "video_processor": (
            "Qwen3VLVideoProcessor",
            {"size": {"shortest_edge": 8 * 64 * 64, "longest_edge": 8 * 96 * 96}, "patch_size": 16},
        ),
    },
    "tokens": {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    },
    "show": {
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
        "video": "<|vision_start|><|video_pad|><|vision_end|>",
    },
}

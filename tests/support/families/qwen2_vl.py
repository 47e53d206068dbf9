"""Qwen2-VL: images and videos at their own resolution, M-RoPE."""

FAMILY = {
    "model": "Qwen2VLForConditionalGeneration",
    "processor": "Qwen2VLProcessor",
    "config": {
        "text_config": {
            "DECODER": True,
            "hidden_size": 256,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        },
        "vision_config": {
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 256,
            "mlp_ratio": 2,
            "num_heads": 2,
        },
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    },
    "parts": {
        "image_processor": ("Qwen2VLImageProcessor", {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}}),
        "video_processor": ("Qwen2VLVideoProcessor", {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}}),
    },
    "tokens": {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    },
    "show": {
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
        "video": "<|vision_start|><|video_pad|><|vision_end|>",
    },
}

"""Qwen3-VL with experts."""

LIKE = "qwen3_vl"
FAMILY = {
    "model": "Qwen3VLMoeForConditionalGeneration",
    "config": {"text_config": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}},
}

"""Decoder shapes that the benchmarks know by name, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Shape:
    """The text decoder of a model; vision and audio towers and talkers are no part of it.

    Attributes:
        name: what the command line calls it.
        layers: decoder layers, all with full attention.
        query_heads, key_value_heads, head_dim: of an attention layer.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP, or of one expert.
        vocabulary: rows of the embedding.
        parameters: of the decoder, embedding and head included.
        config_class: transformers' config of a decoder of this architecture.
        experts, experts_per_token: of a mixture of experts; 0 without one.
        tied: whether the head is the embedding.
        attention_bias: whether the key projection has a bias.
    """

    name: str
    layers: int
    query_heads: int
    key_value_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int
    vocabulary: int
    parameters: int
    config_class: str
    experts: int = 0
    experts_per_token: int = 0
    tied: bool = False
    attention_bias: bool = False

    def config(self, **changes: Any) -> PreTrainedConfig:
        """transformers' config of this decoder; `changes` replace its fields."""
        fields: dict[str, Any] = {
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.query_heads,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_dim,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 2**20,
        }
        if self.experts:
            fields |= {
                "num_experts": self.experts,
                "num_experts_per_tok": self.experts_per_token,
                "moe_intermediate_size": self.intermediate_size,
            }
        return getattr(transformers, self.config_class)(**{**fields, **changes})

    def full_bytes(self, tokens: int, itemsize: int) -> int:
        """Bytes of one layer's keys and values of `tokens` tokens, not compressed."""
        return 2 * self.key_value_heads * self.head_dim * tokens * itemsize


# Published config.json files; parameters as transformers counts them (tests/evals/bench/test_shapes.py counts again).
# name, layers, query heads, KV heads, head_dim, hidden, MLP, vocabulary, parameters, config class
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("Qwen2.5-VL-7B", 28, 28, 4, 128, 3584, 18944, 152064, 7615616512, "Qwen2Config", attention_bias=True),
        Shape("Qwen2.5-Omni-7B", 28, 28, 4, 128, 3584, 18944, 152064, 7615616512, "Qwen2Config", attention_bias=True),
        Shape("Qwen3-8B", 36, 32, 8, 128, 4096, 12288, 151936, 8190735360, "Qwen3Config"),
        Shape("Llama-3.1-8B", 32, 32, 8, 128, 4096, 14336, 128256, 8030261248, "LlamaConfig"),
        Shape("Qwen3-Omni-30B-A3B", 48, 32, 4, 128, 2048, 768, 152064, 30532646912, "Qwen3MoeConfig", 128, 8),
        # the vocabulary of Qwen2-7B, which it is built on
        Shape(
            "LLaVA-OneVision-7B", 28, 28, 4, 128, 3584, 18944, 152064, 7615616512, "Qwen2Config", attention_bias=True
        ),
        Shape("SmolLM2-135M", 30, 9, 3, 64, 576, 1536, 49152, 134515008, "LlamaConfig", tied=True),
    )
}


def find_shape(name: str) -> Shape:
    """The shape of this name, upper and lower case alike.

    Raises:
        ValueError: no such shape; lists those there are.
    """
    for known, shape in SHAPES.items():
        if known.lower() == name.lower():
            return shape
    raise ValueError(f"shape {name!r} is unknown; choose one of {', '.join(SHAPES)}")

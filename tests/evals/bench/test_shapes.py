"""The shapes' table against the models that transformers builds from it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from oscar_x.evals.bench.shapes import SHAPES, find_shape


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_of_the_shape_has_its_parameters(name) -> None:
    shape = SHAPES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.config())
    parameters = {id(weight): weight.numel() for weight in model.parameters()}
    assert sum(parameters.values()) == shape.parameters
    projection = model.model.layers[0].self_attn.k_proj
    assert projection.weight.shape == (shape.key_value_heads * shape.head_dim, shape.hidden_size)
    assert (projection.bias is not None) == shape.attention_bias


def test_names_are_found_whatever_their_case() -> None:
    assert find_shape("qwen3-8b") is SHAPES["Qwen3-8B"]
    with pytest.raises(ValueError, match=r"shape 'gpt' is unknown; choose one of .*Qwen3-8B"):
        find_shape("gpt")

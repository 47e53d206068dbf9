"""Finding adapters."""

from __future__ import annotations

import pytest
import transformers

from oscar_x.adapters.base import follow
from oscar_x.adapters.registry import all_adapters, find_adapter, short_names
from oscar_x.errors import UnsupportedModelError


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "gemma3", "phi3"])
def test_paths_fit_the_real_class(support, family):
    model = support("tiny").tiny_model(family)
    adapter = find_adapter(model.config)
    layers = adapter.find_layers(model)
    assert len(layers) == model.config.num_hidden_layers
    attention = follow(layers[0], adapter.attention)
    assert attention.layer_idx == 0
    assert follow(attention, adapter.key_projection).weight.shape[1] == model.config.hidden_size
    assert follow(layers[0], adapter.input_norm).weight.shape == (model.config.hidden_size,)
    assert type(adapter.find_rotary(model)).__name__.endswith("RotaryEmbedding")
    if adapter.key_bias is not None:
        follow(attention, adapter.key_bias)
    assert hasattr(transformers, adapter.auto_class)
    assert hasattr(transformers, adapter.processor_class)


def test_nested_text_config_is_found():
    config = transformers.VipLlavaConfig(text_config={"model_type": "gemma3_text", "num_hidden_layers": 2})
    assert find_adapter(config).name == "Gemma 3"


def test_decoder_speaks_for_its_own_layers():
    """What stands before a decoder changes nothing in it: a key bias or an offset of norms comes from its adapter."""
    bias = {"llama": "k_proj.bias", "mistral": None, "qwen2": "k_proj.bias", "qwen3": None}
    for model_type, key_bias in bias.items():
        for config_class in (transformers.LlavaConfig, transformers.LlavaNextConfig, transformers.InternVLConfig):
            adapter = find_adapter(config_class(text_config={"model_type": model_type}))
            assert config_class.model_type in adapter.model_types
            assert adapter.media is not None
            assert adapter.key_bias == key_bias, (config_class, model_type)
    gemma = find_adapter(transformers.LlavaConfig(text_config={"model_type": "gemma3_text"}))
    assert gemma.norm_offset == 1.0
    assert "sliding-window" in gemma.notes


def test_unsupported_architecture_lists_what_is_supported():
    with pytest.raises(UnsupportedModelError) as error:
        find_adapter(transformers.GPT2Config())
    assert "'gpt2'" in str(error.value)
    for adapter in all_adapters():
        assert adapter.name in str(error.value)


def test_short_names_are_hub_ids():
    for short, hub_id in short_names().items():
        assert hub_id.count("/") == 1, short
    assert short_names()["SmolLM2-135M"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_adapters_are_read_only():
    with pytest.raises(TypeError):
        all_adapters()[0].short_names["new"] = "owner/name"


def test_missing_path_is_told(support):
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM has no attribute 'model.nowhere'"):
        follow(support("tiny").tiny_model("llama"), "model.nowhere")

"""Qwen2 attention with large key-projection biases: what taking them out before compression is worth.

Measured on one layer that reads independent random tokens, with and without the bias. A bias makes attention
concentrate on other tokens; where values share a large common part, as in the deeper layers of a random model, that
alone moves the relative error of the output, whatever happens to the keys. For deeper layers the keys are compared.
"""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from oscar_x.adapters.registry import find_adapter
from oscar_x.attention import register
from oscar_x.config import resolve_config
from oscar_x.model import OscarModel

BANDS = ["high", "middle", "low"]
PREFIX, ASKED = 512, 64


def biased_model(support, norm: float, band: str | None, head_dim: int, layers: int = 1):
    """A tiny Qwen2 whose every KV head has a bias of this norm spread over one band of rotary channels."""
    model = support("tiny").tiny_model("qwen2", hidden_size=4 * head_dim, num_hidden_layers=layers)
    support("key_biases").set_key_biases(model.model.layers, norm, band)
    register()
    model.set_attn_implementation("oscar")
    return model


def wrap(support, model, preset="balanced", **changes):
    config = resolve_config(preset, **changes)
    return OscarModel(model, support("tiny").tiny_tokenizer(), find_adapter(model.config), config)


def tokens() -> torch.Tensor:
    return torch.randint(3, 250, (2, PREFIX + ASKED), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def without_bias(support):
    """Output error of the same layer without any bias, by preset and head_dim."""
    known: dict[tuple[str, int], float] = {}

    def measure(preset: str, head_dim: int) -> float:
        if (preset, head_dim) not in known:
            loaded = wrap(support, biased_model(support, 0.0, None, head_dim), preset)
            assert not loaded.key_biases
            (known[preset, head_dim],) = support("teacher").attention_errors(
                loaded, tokens(), PREFIX, loaded.new_cache()
            )
        return known[preset, head_dim]

    return measure


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("norm", [100.0, 600.0])
@pytest.mark.parametrize("preset", ["paper", "balanced", "max"])
def test_output_error_is_that_of_a_layer_without_bias(support, without_bias, preset, norm, band, head_dim):
    loaded = wrap(support, biased_model(support, norm, band, head_dim), preset)
    assert list(loaded.key_biases) == [0]
    cache = loaded.new_cache()
    (error,) = support("teacher").attention_errors(loaded, tokens(), PREFIX, cache)
    assert cache.packed_reads > 0
    assert error <= 1.2 * without_bias(preset, head_dim)


@pytest.mark.parametrize("band", ["middle", "high"])
def test_the_remedy_is_what_helps(support, band):
    loaded = wrap(support, biased_model(support, 600.0, band, 64))
    untreated = wrap(support, loaded.model, key_bias="off")
    assert not untreated.key_biases
    measure = support("teacher").attention_errors
    (helped,) = measure(loaded, tokens(), PREFIX, loaded.new_cache())
    (left,) = measure(loaded, tokens(), PREFIX, untreated.new_cache())
    assert left > 2 * helped


@torch.no_grad()
def key_errors(loaded) -> list[float]:
    """||packed keys - keys|| of every layer, over the prefix."""
    exact = DynamicCache(config=loaded.model.config)
    loaded.model(input_ids=tokens()[:, :PREFIX], past_key_values=exact)
    cache = loaded.new_cache()
    for index, layer in enumerate(exact.layers):
        cache.update(layer.keys, layer.values, index)
    cache.flush()
    errors = []
    for index, layer in enumerate(exact.layers):
        keys, _ = cache.update(layer.keys[:, :, :1], layer.values[:, :, :1], index)
        errors.append(float((keys[:, :, :PREFIX] - layer.keys).norm()))
    return errors


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("norm", [100.0, 600.0])
def test_keys_of_every_layer_are_as_close_as_without_bias(support, norm, band):
    def measure(norm, band):
        model = biased_model(support, norm, band, 64, layers=3)
        model.set_attn_implementation("sdpa")  # update() then hands dequantized states out
        return key_errors(wrap(support, model))

    for error, plain in zip(measure(norm, band), measure(0.0, None), strict=True):
        assert error <= 1.2 * plain

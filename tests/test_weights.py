"""Samples of weights: the same for every dtype that a checkpoint is loaded to, others for other weights."""

from __future__ import annotations

import base64
from copy import deepcopy
from itertools import product

import pytest
import torch
from torch import nn

import oscar_x
from oscar_x.adapters.registry import find_adapter
from oscar_x.weights import FLOATS, SAMPLES, in_words, same_weights, weight_difference, weight_samples

LAYERS, PROJECTIONS = 2, 4


@pytest.fixture
def llama(support):
    return support("tiny").tiny_model("llama")


def projections(model):
    return [p for layer in model.model.layers for p in layer.self_attn.parameters() if p.ndim == 2]


def held(samples: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(samples)), dtype=torch.float16)


def test_a_few_numbers_of_every_projection(llama):
    samples = weight_samples(llama)
    assert samples == weight_samples(llama, find_adapter(llama.config))
    assert held(samples).shape == (LAYERS * PROJECTIONS * SAMPLES,)
    first = projections(llama)[0]
    places = [(2 * k + 1) * first.numel() // (2 * SAMPLES) for k in range(SAMPLES)]
    assert torch.equal(held(samples)[:SAMPLES], first.detach().flatten()[places].half())


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "gemma3", "phi3"])
def test_every_family_has_samples(support, family):
    model = support("tiny").tiny_model(family)
    layers = model.config.get_text_config().num_hidden_layers
    assert len(held(weight_samples(model))) in (layers * 4 * SAMPLES, layers * 2 * SAMPLES)  # phi3 has two projections


@pytest.mark.parametrize("family", ["llava", "internvl", "qwen2_5_vl", "qwen3_vl", "qwen2_5_omni", "qwen3_omni_moe"])
def test_models_with_media_have_those_of_their_decoder(tiny_media, family):
    model = oscar_x.load(tiny_media(family), device="cpu")
    layers = len(model.adapter.find_layers(model.model))
    assert len(held(model.new_cache().weights)) == layers * PROJECTIONS * SAMPLES


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0])
def test_rounding_to_any_dtype_is_no_other_model(llama, scale):
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in projections(llama):
            weight.copy_(torch.randn(weight.shape, generator=dice) * scale)
    for checkpoint in (torch.float32, torch.bfloat16, torch.float16):
        llama.to(checkpoint)
        samples = [weight_samples(deepcopy(llama).to(dtype)) for dtype in FLOATS]
        assert all(same_weights(mine, theirs) for mine, theirs in product(samples, repeat=2))


@pytest.mark.parametrize("index", range(LAYERS * PROJECTIONS))
def test_one_other_projection_is_another_model(llama, index):
    samples = weight_samples(llama)
    with torch.no_grad():
        projections(llama)[index].mul_(1.01)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert not same_weights(samples, weight_samples(llama.to(dtype)))


def test_how_weights_lie_in_memory_does_not_matter(llama):
    samples, attention = weight_samples(llama), llama.model.layers[0].self_attn
    attention.k_proj.weight = nn.Parameter(attention.k_proj.weight.detach().t().contiguous().t())
    assert not attention.k_proj.weight.is_contiguous()
    assert weight_samples(llama) == samples


def test_weights_that_are_no_plain_numbers_are_not_known(llama):
    with torch.device("meta"):
        assert weight_samples(type(llama)(llama.config)) == ""
    attention, weight = llama.model.layers[1].self_attn, llama.model.layers[1].self_attn.k_proj.weight
    attention.k_proj.weight = nn.Parameter((weight * 100).to(torch.uint8), requires_grad=False)
    assert weight_samples(llama) == ""
    del attention.k_proj.weight  # as layers that keep codes in buffers
    known = len(held(weight_samples(llama)))
    assert known == (LAYERS * PROJECTIONS - 1) * SAMPLES
    assert same_weights("", "") is same_weights("", weight_samples(llama)) is same_weights(weight_samples(llama), "")


def test_low_rank_matrices_beside_a_weight_are_another_model(llama):
    samples = weight_samples(llama)
    llama.model.layers[0].self_attn.v_proj.low_rank = nn.Linear(8, 2, bias=False)
    difference = weight_difference(samples, weight_samples(llama))
    assert difference == float("inf")
    assert in_words(difference) == "they have other projections"
    assert not same_weights(samples, weight_samples(llama))


def test_damaged_samples_are_an_error(llama):
    samples = weight_samples(llama)
    assert weight_difference(samples, samples) == 0
    assert in_words(weight_difference(samples, samples)) == "samples of a projection differ by up to 0.0%"
    for damaged, message in (("A", "damaged"), ("AAAA", "3 bytes are no whole number of projections")):
        with pytest.raises(ValueError, match=message):
            weight_difference(samples, damaged)

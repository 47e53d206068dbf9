"""Key-projection biases that turn with positions on three axes (M-RoPE): taken out where they stand, and put back.

test_key_bias.py has the same for text models, with the reasons.
"""

from __future__ import annotations

import random
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from transformers import DynamicCache

import oscar_x
from oscar_x.cache import OscarCache
from oscar_x.cache.reading import materialize
from oscar_x.key_bias_detect import detect_key_biases
from oscar_x.placement import place

FAMILIES = ["qwen2_vl", "qwen2_5_vl"]
BANDS = ["high", "middle", "low"]
ASKED = 64


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(tiny_media, request):
    """Shared: every test sets the biases that it needs."""
    model = oscar_x.load(tiny_media(request.param), device="cpu")
    model.processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 448 * 448}
    return model


def layers_of(loaded):
    return loaded.adapter.find_layers(loaded.model)


@pytest.fixture
def biased(support, loaded):
    def make(norm, band):
        support("key_biases").set_key_biases(layers_of(loaded), norm, band)
        loaded.key_biases = detect_key_biases(loaded.model, loaded.adapter)
        return loaded.key_biases

    return make


def counting(biases):
    """The same biases, turned by counted positions as those of text models are."""
    return {index: replace(bias, axes=None) for index, bias in biases.items()}


def conversation(support, before, side, after, seed=0):
    """A picture in the middle of text."""
    characters = random.Random(seed)
    text = ["".join(chr(characters.randint(33, 126)) for _ in range(count)) for count in (before, after)]
    picture = {"type": "image", "image": support("tiny_media").image(side, side, seed)}
    parts = [{"type": "text", "text": text[0]}, picture, {"type": "text", "text": text[1]}]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize("band", BANDS)
def test_turns_as_the_models_own_keys_do(loaded, biased, band):
    bias = biased(100.0, band)[0]
    positions = torch.randint(0, 3000, (3, 2, 40), generator=torch.Generator().manual_seed(0))
    rotary = loaded.adapter.find_rotary(loaded.model)
    cos, sin = rotary(torch.zeros(1), positions)
    keys = bias.bias[None, :, None].expand(2, -1, 40, -1)
    modelling = import_module(type(rotary).__module__)
    if hasattr(modelling, "apply_multimodal_rotary_pos_emb"):  # earlier transformers
        sections = rotary.config.rope_parameters["mrope_section"]
        expected = modelling.apply_multimodal_rotary_pos_emb(keys, keys, cos, sin, sections)[1]
    else:
        expected = modelling.apply_rotary_pos_emb(keys, keys, cos, sin)[1]
    assert torch.allclose(bias.placed(positions).transpose(1, 2), expected, atol=1e-3)
    alike = positions[:1].expand(3, -1, -1)
    assert torch.equal(bias.placed(alike), bias.rotated(alike[0]))


def test_axes_of_the_frequencies(loaded, biased):
    """Sections of 8, 12 and 12 frequencies for time, height and width."""
    assert biased(100.0, "high")[0].axes.tolist() == [0] * 8 + [1] * 12 + [2] * 12


@pytest.fixture
def output_errors(support, loaded):
    """Each layer's attention output error behind a packed prompt with a picture of 256 tokens in its middle."""
    prompt = loaded.prepare(conversation(support, 150, 448, 200))
    length = prompt["input_ids"].shape[1]
    positions = place(loaded.adapter, loaded.model, prompt, prompt.stream, None)
    stream = replace(prompt.stream, positions=positions.int())

    def measure(biases):
        loaded.key_biases = biases
        cache = loaded.new_cache()
        cache.expect_prompt(length, stream)
        hooks = support("teacher").hooks
        errors = support("media_teacher").attention_errors(loaded, prompt, length - ASKED, cache, hooks)
        assert cache.packed_reads > 0
        return errors

    return measure


@pytest.mark.parametrize("norm", [100.0, 600.0])
@pytest.mark.parametrize("band", BANDS)
def test_output_error_is_that_of_a_layer_without_bias(biased, output_errors, norm, band):
    plain = output_errors(biased(0.0, None))
    biases = biased(norm, band)
    assert list(biases) == [0, 1]
    for error, bound in zip(output_errors(biases), plain, strict=True):
        assert error <= 1.2 * bound
    if band == "high":  # slower channels hardly turn over a picture
        for error, bound in zip(output_errors(counting(biases)), plain, strict=True):
            assert error > 1.5 * bound


@pytest.fixture
def batch(support, loaded):
    """Rows of different lengths, padded on the left, pictures at different places."""
    sizes = [(150, 224, 260), (20, 448, 40), (90, 112, 100)]
    return loaded.prepare([conversation(support, *row, seed) for seed, row in enumerate(sizes)])


def read(loaded, prompt, cache=None):
    cache = loaded.new_cache() if cache is None else cache
    loaded.generate(prompt, past_key_values=cache, max_new_tokens=1, do_sample=False)
    return cache


def packed_keys(loaded, prompt, biases):
    loaded.key_biases = biases
    cache = read(loaded, prompt)
    cache.flush()
    return [materialize(layer, torch.float32)[0] for layer in cache.layers]


def key_errors(loaded, prompt, biases):
    """||packed keys - keys|| of every layer and row, padding apart."""
    exact = read(loaded, prompt, DynamicCache(config=loaded.model.config))
    tokens = prompt["attention_mask"].bool()
    return [
        float((found[row] - layer.keys[row])[:, tokens[row]].norm())
        for found, layer in zip(packed_keys(loaded, prompt, biases), exact.layers, strict=True)
        for row in range(len(tokens))
    ]


@pytest.mark.parametrize("norm", [100.0, 600.0])
def test_keys_of_a_ragged_batch(loaded, biased, batch, norm):
    plain = key_errors(loaded, batch, biased(0.0, None))
    biases = biased(norm, "high")
    for error, bound in zip(key_errors(loaded, batch, biases), plain, strict=True):
        assert error <= 1.2 * bound
    for error, bound in zip(key_errors(loaded, batch, counting(biases)), plain, strict=True):
        assert error > 2 * bound


def test_a_row_is_packed_as_it_would_be_alone(support, loaded, biased, batch):
    biases = biased(600.0, "high")
    together = packed_keys(loaded, batch, biases)
    for row, size in enumerate([(150, 224, 260), (20, 448, 40), (90, 112, 100)]):
        alone = packed_keys(loaded, loaded.prepare(conversation(support, *size, row)), biases)
        for keys, expected in zip(together, alone, strict=True):
            # sums in another order may turn over a code at the border between two, or the scale of a group of tokens
            apart = (keys[row][:, -expected.shape[2] :] - expected[0]).abs().amax(-1) > 2e-3
            assert float(apart.float().mean()) < 0.05


def test_fork_crop_and_file_keep_what_was_taken_out(loaded, biased, batch, tmp_path):
    loaded.key_biases = biased(600.0, "high")
    cache = read(loaded, batch)
    cache.flush()
    before = [materialize(layer, torch.float32) for layer in cache.layers]
    fork = cache.fork()
    cache.save(tmp_path / "cache.safetensors")
    opened = OscarCache.load(tmp_path / "cache.safetensors", loaded.model.config, key_biases=loaded.key_biases)
    fork.crop(-100)  # into packed blocks, into a picture
    assert all(layer.packed_tokens for layer in fork.packed_layers)
    for layer, cropped, reopened, (keys, _) in zip(cache.layers, fork.layers, opened.layers, before, strict=True):
        assert torch.equal(materialize(layer, torch.float32)[0], keys)
        assert torch.equal(materialize(reopened, torch.float32)[0], keys)
        assert torch.equal(materialize(cropped, torch.float32)[0], keys[:, :, :-100])


def test_packed_reads_are_reads_of_what_is_read_back(loaded, biased, batch):
    """Attention on packed blocks and attention on dequantized states give the same next token scores."""
    loaded.key_biases = biased(600.0, "high")
    scores = {}
    for attention in ("oscar", "sdpa"):
        cache = read(loaded, batch)
        cache.flush()
        ids, length = torch.full((3, 1), 40), batch["input_ids"].shape[1]
        mask = torch.cat([batch["attention_mask"], torch.ones(3, 1, dtype=torch.int64)], dim=1)
        at = cache.modalities.prompt_positions()[None, :, None].expand(3, -1, -1)
        loaded.model.set_attn_implementation(attention)
        try:
            with torch.no_grad():
                output = loaded.model(
                    input_ids=ids, attention_mask=mask, position_ids=at, past_key_values=cache, use_cache=True
                )
        finally:
            loaded.model.set_attn_implementation("oscar")
        assert cache.get_seq_length() == length + 1
        scores[attention] = output.logits[:, -1]
    assert torch.allclose(scores["oscar"], scores["sdpa"], atol=2e-3 * float(scores["sdpa"].abs().max()))

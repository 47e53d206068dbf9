"""Caches whose KV heads differ in bits, groups and scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from oscar_x.cache import OscarCache, plan_layers
from oscar_x.cache.reading import row_states
from oscar_x.cache_settings import CacheSettings
from oscar_x.config import OscarConfig
from oscar_x.head_groups import HeadGroup

HEADS, HEAD_DIM = 2, 16
GROUPS = (HeadGroup((1,), key_bits=3, value_bits=4, value_grouping="per_channel", scale_bits=3),)


@pytest.fixture
def mixed(harness):
    return replace(harness.SMALL, head_groups=GROUPS)


@pytest.fixture
def filled(harness, mixed):
    """Two layers, the second by head, that have read 90 tokens in two rows, one of them padded."""
    cache = OscarCache(harness.model_config(layers=2), [harness.SMALL, mixed])
    mask = harness.causal_mask([[], []], [[True] * 90, [False] * 30 + [True] * 60], 0)
    for layer in range(2):
        harness.attend(cache, *harness.states(2, HEADS, 90, HEAD_DIM, layer), mask, layer)
    return cache


def held(layer):
    return [row_states(layer, row) for row in range(len(layer.rows))]


def test_a_head_is_what_it_would_be_in_a_layer_of_that_setting(harness, filled, mixed):
    every = [harness.SMALL, replace(harness.SMALL, **GROUPS[0].changes)]
    for head, settings in enumerate(every):
        alone = OscarCache(harness.model_config(layers=2), settings)
        mask = harness.causal_mask([[], []], [[True] * 90, [False] * 30 + [True] * 60], 0)
        for layer in range(2):
            harness.attend(alone, *harness.states(2, HEADS, 90, HEAD_DIM, layer), mask, layer)
        for mine, theirs in zip(held(filled.layers[1]), held(alone.layers[1]), strict=True):
            for a, b in zip(mine, theirs, strict=True):
                # norms are in units of the largest element of all heads: a code of theirs may fall the other way
                assert (a[head] - b[head]).norm() < 1e-2 * b[head].norm()


def test_plan_and_memory_count_every_head(filled, mixed):
    plain, by_head = filled.layer_plan
    alone = plan_layers(filled.model_config, replace(mixed, head_groups=(), **GROUPS[0].changes))[0]
    assert by_head.bits_per_element == pytest.approx((plain.bits_per_element + alone.bits_per_element) / 2)
    filled.flush()
    report = filled.memory()
    packed = sum(layer.pool.live * layer.compressor.layout.record_bytes for layer in filled.layers)
    assert report.codes + report.scales + report.norms == packed


def test_files_say_so_by_their_version(harness, filled, tmp_path):
    filled.save(tmp_path / "cache")
    with safe_open(tmp_path / "cache", framework="pt") as file:
        assert '"version": 3' in file.metadata()["header"]
    loaded = OscarCache.load(tmp_path / "cache", filled.model_config)
    assert loaded.layer_settings == filled.layer_settings
    for mine, theirs in zip(held(loaded.layers[1]), held(filled.layers[1]), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    outputs = [harness.attend(cache, *harness.states(2, HEADS, 1, HEAD_DIM, 9), layer=1) for cache in (filled, loaded)]
    assert torch.equal(*outputs)


def test_forks_crops_and_reorders_go_by_whole_records(filled):
    twin = filled.fork()
    twin.flush()
    twin.crop(-3)
    twin.reorder_cache(torch.tensor([1, 0]))
    rows = filled.layers[1].rows[::-1]
    for mine, theirs, row in zip(held(twin.layers[1]), held(filled.layers[1])[::-1], rows, strict=True):
        count = row.sink_tokens + row.packed
        assert row.packed
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a[:, :count], b[:, :count])


def test_a_model_generates_with_it(oscar_model, settings, ids, greedy):
    """What packed attention gives is what dequantized states give, assisted decoding and beams included."""
    model, prompt = oscar_model(), ids(2, 100)
    mixture = CacheSettings(settings, {1: replace(settings, head_groups=GROUPS)})
    tokens = {}
    for attention in ("oscar", "sdpa"):
        model.set_attn_implementation(attention)
        try:
            cache = OscarCache(model.config, mixture)
            tokens[attention] = model.generate(prompt, past_key_values=cache, num_beams=2, **greedy(40))
            assert cache.packed_reads
        finally:
            model.set_attn_implementation("oscar")
    assert torch.equal(tokens["oscar"], tokens["sdpa"])


def test_heads_that_the_model_does_not_have(harness):
    wrong = OscarConfig(head_groups=(HeadGroup((2,), key_bits=3),))
    with pytest.raises(ValueError, match="layer 1: head_groups has settings for KV head 2, but the layer has 2,"):
        OscarCache(harness.model_config(layers=3), {1: wrong})


def test_plain_json_and_back(mixed):
    settings = CacheSettings(OscarConfig(), {1: mixed})
    plain = settings.to_dict()
    assert plain["layers"]["1"]["head_groups"] == [GROUPS[0].to_dict()]
    assert "head_groups" not in plain["base"]
    assert CacheSettings.from_dict(plain) == settings
    assert settings.differ_by_head
    assert not CacheSettings().differ_by_head

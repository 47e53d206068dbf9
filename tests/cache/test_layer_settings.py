"""Caches whose layers differ in bits, groups, scales, norms and exact tokens."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from oscar_x.cache import CacheFileError, OscarCache, plan_layers
from oscar_x.cache.reading import row_states
from oscar_x.cache_settings import CacheSettings
from oscar_x.config import PRESETS, OscarConfig
from oscar_x.key_bias import KeyBias

HEADS, HEAD_DIM = 2, 16


@pytest.fixture
def different(harness):
    """Settings of three layers that agree in nothing that a layer decides for itself."""
    return [
        harness.SMALL,
        replace(harness.SMALL, key_bits=3, value_grouping="per_channel", scale_bits=3, sink_tokens=0),
        replace(harness.SMALL, value_bits=4, key_group_size=16, token_norm="shared", norm_bits=16, sink_tokens=7),
    ]


@pytest.fixture
def layered(harness, different):
    """A cache of those layers that has read 90 tokens in two rows."""
    cache = OscarCache(harness.model_config(layers=3), different)
    read(harness, cache, 90, seed=0)
    return cache


def read(harness, cache, count, seed):
    return [harness.attend(cache, *harness.states(2, HEADS, count, HEAD_DIM, seed + i), layer=i) for i in range(3)]


def held(cache):
    return [[[s.tolist() for s in row_states(layer, row)] for row in range(2)] for layer in cache.layers]


def test_each_layer_is_what_it_would_be_alone(harness, layered, different):
    """Not one bit depends on what the other layers are set to."""
    outputs = read(harness, layered, 1, seed=50)
    for index, settings in enumerate(different):
        alone = OscarCache(harness.model_config(layers=3), settings)
        read(harness, alone, 90, seed=0)
        expected = read(harness, alone, 1, seed=50)[index]
        assert held(alone)[index] == held(layered)[index]
        assert torch.equal(outputs[index], expected)
        assert alone.layers[index].compressor.layout == layered.layers[index].compressor.layout


def test_plan_and_memory_count_each_layer_by_its_own_settings(harness, layered, different):
    bits = [plan_layers(layered.model_config, settings)[0].bits_per_element for settings in different]
    assert len(set(bits)) == 3
    assert [plan.bits_per_element for plan in layered.layer_plan] == bits
    layered.flush()
    report = layered.memory()
    storages = sum(t.nbytes for layer in layered.layers for t in (layer.pool.records, layer.exact.keys))
    storages += sum(layer.exact.values.nbytes for layer in layered.layers)
    assert report.total == storages
    packed = sum(layer.pool.live * layer.compressor.layout.record_bytes for layer in layered.layers)
    assert report.codes + report.scales + report.norms == packed


def test_a_fork_goes_on_alone(harness, layered):
    twin, before = layered.fork(), held(layered)
    read(harness, twin, 40, seed=7)
    assert held(layered) == before
    read(harness, layered, 40, seed=7)
    assert held(layered) == held(twin)
    assert twin.layer_settings == layered.layer_settings


def test_files_keep_the_settings_of_every_layer(harness, layered, different, tmp_path):
    layered.flush()
    layered.save(tmp_path / "cache")
    loaded = OscarCache.load(tmp_path / "cache", layered.model_config)
    assert [layer.oscar for layer in loaded.layers] == different
    assert loaded.layer_settings == layered.layer_settings
    assert held(loaded) == held(layered)
    for mine, other in zip(read(harness, layered, 1, 9), read(harness, loaded, 1, 9), strict=True):
        assert torch.equal(mine, other)


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["header"])


def test_files_of_one_setting_are_of_the_first_version(filled, layered, tmp_path):
    filled.save(tmp_path / "one")
    layered.save(tmp_path / "several")
    one, several = header_of(tmp_path / "one"), header_of(tmp_path / "several")
    assert one["version"] == 1
    assert "layer_settings" not in one
    assert several["version"] == 2
    assert sorted(several["layer_settings"]) == ["1", "2"]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"1": {}},
        {"1": {"key_bits": 5}},
        {"x": OscarConfig().to_dict()},
        {"9": PRESETS["max"].to_dict()},
        {"1": replace(OscarConfig(), key_bits=16, value_bits=16).to_dict()},
    ],
)
def test_files_with_wrong_layer_settings_are_refused(layered, tmp_path, wrong):
    path = tmp_path / "cache"
    layered.save(path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = {**json.loads(metadata["header"]), "layer_settings": wrong}
    save_file(tensors, path, metadata={**metadata, "header": json.dumps(header)})
    with pytest.raises(CacheFileError, match="cache"):
        OscarCache.load(path, layered.model_config)


def test_a_model_generates_with_any_mixture(oscar_model, settings, ids, greedy):
    """Assisted rollback aside, what packed attention gives is what dequantized states give."""
    model, prompt = oscar_model(), ids(2, 100)
    mixture = [replace(settings, key_bits=4, value_bits=4), replace(settings, value_grouping="per_channel")]
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


def test_one_layer_may_stay_exact(oscar_model, settings, ids, greedy):
    model = oscar_model()
    exact = replace(settings, key_bits=16, value_bits=16)
    cache = OscarCache(model.config, CacheSettings(settings, {1: exact}))
    assert [plan.compressed for plan in cache.layer_plan] == [True, False]
    tokens = model.generate(ids(1, 90), past_key_values=cache, **greedy(8))
    assert tokens.shape == (1, 98)
    assert cache.get_seq_length() == 97


def test_settings_by_number_leave_the_rest_at_the_default(harness):
    cache = OscarCache(harness.model_config(layers=3), {1: PRESETS["max"]})
    assert [layer.oscar for layer in cache.layers] == [OscarConfig(), PRESETS["max"], OscarConfig()]


def test_a_layer_may_keep_its_bias(harness):
    bias = KeyBias(torch.ones(HEADS, HEAD_DIM), torch.ones(HEAD_DIM // 2))
    left = replace(OscarConfig(), key_bias="off")
    cache = OscarCache(harness.model_config(layers=3), {1: left}, key_biases={0: bias, 1: bias})
    assert [layer.key_bias is not None for layer in cache.layers] == [True, False, False]


def test_settings_are_values():
    settings = CacheSettings(PRESETS["max"], {3: OscarConfig(), 1: PRESETS["max"]})
    assert list(settings.layers) == [3]
    assert settings == copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings))
    assert hash(settings) == hash(copy.copy(settings))
    assert settings.map(lambda own: replace(own, residual_length=0))[3] == OscarConfig(residual_length=0)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ([OscarConfig()] * 2, ValueError, "settings for 2 layers; the model has 3"),
        ({3: PRESETS["max"]}, ValueError, "settings for layer 3, but the model has 3 layers, 0 to 2"),
        ({-1: PRESETS["max"]}, ValueError, "layer -1 has settings"),
        ({0: "max"}, TypeError, "layer 0: settings are str"),
        ("max", TypeError, "settings are str; give an OscarConfig"),
    ],
)
def test_refusals(harness, wrong, error, message):
    with pytest.raises(error, match=message):
        OscarCache(harness.model_config(layers=3), wrong)

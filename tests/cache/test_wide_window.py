"""A sliding window as wide as the longest text that the model reads hides nothing: its layers are compressed."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

import oscar_x
from oscar_x import CacheSettings, OscarConfig
from oscar_x.attention import register
from oscar_x.cache import OscarCache, plan_layers
from oscar_x.config import resolve_config
from oscar_x.graphed_decode import GraphedDecode

WIDE = {"sliding_window": 4096}  # as long as max_position_embeddings of tests/support/tiny.py
SETTINGS = OscarConfig(residual_length=16, block_size=32)
# blocks of 8 bits: near enough to the states to compare with attention over a full cache
FINE = OscarConfig(key_bits=8, value_bits=8, scale_bits=16, norm_bits=16, residual_length=16, block_size=32)
GREEDY = {"do_sample": False, "max_new_tokens": 60, "min_new_tokens": 60}


def ids(batch, count, seed=0):
    return torch.randint(3, 250, (batch, count), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def run(model, cache):
    """Logits of a ragged prompt, a chunk and some steps."""
    mask, results = torch.ones(2, 0, dtype=torch.long), []
    for count in (90, 40, 9, *[1] * 12):
        new = torch.ones(2, count, dtype=torch.long)
        new[0, : count // 3 if count > 9 else 0] = 0
        mask = torch.cat([mask, new], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -count:]
        output = model(ids(2, count, count), attention_mask=mask, position_ids=positions, past_key_values=cache)
        results.append(output.logits[new.bool()])
    return torch.cat(results)


def tiny_model(support, family, attention="oscar", **changes):
    register()
    model = support("tiny").tiny_model(family, **changes)
    model.set_attn_implementation(attention)
    return model


@pytest.fixture(scope="module")
def loaded(tiny):
    loaded = oscar_x.load(tiny("phi3", **WIDE), device="cpu")
    loaded.settings = CacheSettings.of(SETTINGS)
    return loaded


@pytest.mark.parametrize(("window", "compressed"), [(4095, False), (4096, True), (262144, True), (None, True)])
def test_the_plan_says_why(support, window, compressed):
    config = support("tiny").tiny_config("phi3", sliding_window=window)
    for plan in plan_layers(config, SETTINGS):
        assert plan.compressed is compressed
        assert plan.sliding_window == window
        wide = compressed and window is not None
        assert (f"{window} tokens is never reached: the model reads 4096" in plan.reason) is wide
        assert ("bounded already" in plan.reason) is not compressed
    assert {plan.reason for plan in plan_layers(config, resolve_config(kv_bits=16))} == {"16 bits asked for"}


@pytest.mark.parametrize("attention", ["oscar", "sdpa", "eager"])
@pytest.mark.parametrize("family", ["phi3", "mistral"])
def test_what_a_model_without_a_window_computes(support, family, attention):
    found = []
    for window in (4096, None):
        model = tiny_model(support, family, attention, sliding_window=window)
        cache = OscarCache(model.config, SETTINGS)
        found.append(run(model, cache))
        assert cache.packed_reads > 0
        assert cache.memory().total < cache.memory().full_cache
    assert torch.equal(*found)


@pytest.mark.parametrize(("settings", "bound"), [(OscarConfig(residual_length=512), 1e-5), (FINE, 0.03)])
def test_past_the_window_it_is_heeded(support, settings, bound):
    model = tiny_model(support, "phi3", sliding_window=64, max_position_embeddings=64)
    free = tiny_model(support, "phi3")
    expected = run(model, DynamicCache(config=model.config))
    cache = OscarCache(model.config, settings)
    assert all(plan.compressed for plan in cache.layer_plan)
    assert (run(model, cache) - expected).norm() / expected.norm() < bound
    assert (run(free, DynamicCache(config=free.config)) - expected).norm() / expected.norm() > 0.1


def test_the_prompt_needs_no_mask_and_a_past_none_either(support, monkeypatch):
    model = tiny_model(support, "phi3", **WIDE)
    cache, masks = OscarCache(model.config, SETTINGS), []
    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(lambda *a: masks.append(a[2]["attention_mask"]), with_kwargs=True)
    with torch.no_grad():
        for count in (70, 30, 1):
            model(ids(1, count), past_key_values=cache)
    assert masks == [None] * 6


def test_generation_modes(loaded):
    expected = loaded.generate(ids(1, 90), **GREEDY)
    for changes in ({"prompt_lookup_num_tokens": 4}, {"graphed": True}):
        cache = loaded.new_cache()
        assert torch.equal(loaded.generate(ids(1, 90), past_key_values=cache, **GREEDY, **changes), expected), changes
        assert cache.packed_reads > 0
    assert loaded.generate(ids(1, 90), num_beams=2, **GREEDY).shape == expected.shape


def test_steps_of_fixed_shapes_end_with_the_window(support):
    model = tiny_model(support, "mistral", sliding_window=64, max_position_embeddings=64)
    cache = OscarCache(model.config, SETTINGS)
    with torch.no_grad():
        model(ids(1, 63), past_key_values=cache)
    steps = GraphedDecode(model, cache)
    steps.step(ids(1, 1))
    with pytest.raises(ValueError, match="sliding window of 64 tokens is full"):
        steps.step(ids(1, 1))
    assert cache.get_seq_length() == 64


def test_rollback_files_and_sessions(loaded, tmp_path):
    cache = loaded.new_cache()
    whole = loaded.generate(ids(1, 90), past_key_values=cache, **GREEDY)
    cache.save(tmp_path / "c.safetensors")
    held = OscarCache.load(tmp_path / "c.safetensors", loaded.model.config)
    expected = loaded.generate(whole, past_key_values=cache.fork(), **GREEDY)
    assert torch.equal(loaded.generate(whole, past_key_values=held, **GREEDY), expected)
    cache.crop(-5)
    assert cache.get_seq_length() == whole.shape[1] - 6
    session = loaded.new_session("A text to read. " * 10)
    answer = session.ask("What?", max_new_tokens=5, do_sample=False)
    session.save(tmp_path / "s.safetensors")
    assert loaded.open_session(tmp_path / "s.safetensors").tokens == session.tokens
    assert isinstance(answer, str)


def test_token_norms_count_the_layers(loaded):
    found = oscar_x.measure_tni(loaded, ["A text to measure. " * 20])
    assert [layer.compressed for layer in found.layers] == [True, True]

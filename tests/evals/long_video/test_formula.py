"""The byte formula against allocated bytes, at the shapes of real models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import oscar_x
from oscar_x.cache import OscarCache
from oscar_x.cache_settings import CacheSettings
from oscar_x.config import PRESETS, OscarConfig
from oscar_x.evals.bench.shapes import find_shape
from oscar_x.evals.cache_memory import layer_config
from oscar_x.evals.long_video.contenders import FULL_SETTINGS, shape_of
from oscar_x.evals.long_video.formula import Replay, cache_formula

SHAPE = find_shape("Qwen2.5-VL-7B")
SETTINGS = {
    **PRESETS,
    "wide": OscarConfig(key_bits=3, value_bits=4, residual_length=32, sink_tokens=0, value_grouping="per_channel"),
}


def allocate(settings: OscarConfig, chunks: list[int]) -> list[tuple[int, int]]:
    """Bytes that one layer of the shape's cache holds after each chunk of random states, and its peak by then."""
    heads, head_dim = SHAPE.key_value_heads, SHAPE.head_dim
    cache = OscarCache(layer_config(head_dim, heads), settings)
    layer, held = cache.packed_layers[0], []
    for count in chunks:
        states = [torch.randn(1, heads, count, head_dim).bfloat16() for _ in range(2)]
        if not layer.is_initialized:
            layer.lazy_initialization(*states)
        layer.pack_due()
        layer.append(*states, None)
        memory = cache.memory()
        held.append((memory.total, memory.peak))
    return held


def one_layer(name: str):
    return cache_formula(replace(SHAPE, layers=1), CacheSettings(SETTINGS[name]), torch.bfloat16)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_formula_is_within_one_percent_of_a_real_layer(name):
    tokens = 6000
    [(allocated, _)] = allocate(SETTINGS[name], [tokens])
    assert one_layer(name).steady(tokens) == pytest.approx(allocated, rel=0.01)
    whole = cache_formula(SHAPE, CacheSettings(SETTINGS[name]), torch.bfloat16)
    assert whole.steady(tokens) == 28 * one_layer(name).steady(tokens)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("chunk", [700, 1])
def test_the_replay_of_a_stream_is_exact_and_the_peak_a_bound(name, chunk):
    chunks = [chunk] * min(300, 9000 // chunk)
    formula = one_layer(name)
    replay = Replay(formula.layers[0])
    allocated = allocate(SETTINGS[name], chunks)
    assert [replay.feed(count) for count in chunks] == [held for held, _ in allocated]
    if chunk > 64:  # smaller pieces wait beside the window
        assert allocated[-1][1] <= formula.peak(sum(chunks))


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 40, 60, 150])
def test_the_replay_is_exact_through_a_model_and_with_forks_beside_it(tiny, chunk):
    model = oscar_x.load(tiny("llama"), device="cpu")
    formula = cache_formula(shape_of(model), model.settings, model.model.dtype)
    cache, replays = model.new_cache(), [Replay(layer) for layer in formula.layers]
    for step in range(300 // chunk + 3):
        model.model(torch.full((1, chunk), 5), past_key_values=cache)
        predicted = [replay.feed(chunk) for replay in replays]
        assert [layer.pool.records.nbytes + layer.exact.nbytes for layer in cache.packed_layers] == predicted
        if step % 3 == 1:
            aside = cache.fork()
            for count in (50, 1, 1):
                model.model(torch.full((1, count), 7), past_key_values=aside)
            del aside  # gives its blocks back
            for replay in replays:
                replay.aside((50, 1, 1))


def test_a_full_cache_and_settings_by_layer():
    full = cache_formula(SHAPE, FULL_SETTINGS, torch.bfloat16)
    assert full.steady(1000) == 28 * 2 * 4 * 128 * 1000 * 2
    assert full.peak(1000) == full.steady(1000) * 29 // 28
    assert Replay(full.layers[0]).feed(1000) == full.steady(1000) // 28
    mixed = cache_formula(
        SHAPE, CacheSettings(PRESETS["balanced"], {0: OscarConfig(key_bits=16, value_bits=16)}), torch.bfloat16
    )
    assert mixed.steady(1000) == full.steady(1000) // 28 + 27 * one_layer("balanced").steady(1000)


@pytest.mark.parametrize("name", PRESETS)
def test_the_longest_fits_and_one_token_more_does_not(name):
    formula, room = cache_formula(SHAPE, CacheSettings(PRESETS[name]), torch.bfloat16, 17), 3_000_000_000
    longest = formula.longest(room)
    assert formula.peak(longest) <= room < formula.peak(longest + 1)
    assert formula.longest(1000) == 0

"""Settings that the first prompt decides by its own norms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x import OscarConfig
from oscar_x.cache import OscarCache
from oscar_x.cache.reading import row_states
from oscar_x.cache.serialize import CacheFileError
from oscar_x.config import ONLINE
from oscar_x.kernels.key_bias import KeyBias


@pytest.fixture
def online(harness):
    return replace(harness.SMALL, online=True)


def prompt(harness, count, short=(), batch=1, seed=1):
    """Query, keys and values; the keys of these tokens are a tenth as long as the others."""
    query, keys, values = harness.states(batch, 2, count, 16, seed)
    keys = keys / keys.norm(dim=-1, keepdim=True)
    keys[:, :, list(short)] *= 0.1
    return query, keys, values


def sinks(cache, layer=0):
    return [row.exact - row.residual for row in cache.layers[layer].rows]


@pytest.mark.parametrize(("short", "count"), [((), 0), ((0,), 1), ((0, 1), 2), ((0, 6), 7), ((12, 40), 0)])
def test_sinks_are_the_first_tokens_up_to_the_last_odd_one(harness, online, short, count):
    cache = harness.new_cache(online)
    harness.attend(cache, *prompt(harness, 70, short))
    assert sinks(cache) == [count]


def test_large_norms_are_sinks_too(harness, online):
    query, keys, values = prompt(harness, 70)
    keys[:, 1, 2] *= 3  # in one head only
    cache = harness.new_cache(online)
    harness.attend(cache, query, keys, values)
    assert sinks(cache) == [3]


def test_layers_and_rows_decide_for_themselves(harness, online):
    cache = harness.new_cache(online, layers=2)
    mask = harness.causal_mask([[], []], [[True] * 70, [False] * 10 + [True] * 60], 0)
    harness.attend(cache, *prompt(harness, 70, (0, 13), batch=2), mask, 0)
    harness.attend(cache, *prompt(harness, 70, (1, 10), batch=2), mask, 1)
    assert (sinks(cache, 0), sinks(cache, 1)) == ([1, 4], [2, 1])
    query, keys, values = harness.states(2, 2, 1, 16, 5)
    output = harness.attend(
        cache, query, keys, values, harness.causal_mask([list(range(70)), list(range(10, 70))], [[True], [True]], 70)
    )
    for index in range(2):
        held = [part[None] for part in row_states(cache.layers[0], index)]
        expected = torch.nn.functional.scaled_dot_product_attention(query[index : index + 1], *held)
        torch.testing.assert_close(output[index : index + 1], expected, rtol=1e-4, atol=1e-5)


def test_a_sequence_that_begins_with_few_tokens_keeps_the_settings_count(harness, online):
    cache = harness.new_cache(online)
    harness.attend(cache, *prompt(harness, 10, (0,)))
    harness.attend(cache, *prompt(harness, 70, (0, 1)))
    assert sinks(cache) == [online.sink_tokens]


def test_a_later_prompt_changes_nothing(harness, online):
    cache = harness.new_cache(online)
    harness.attend(cache, *prompt(harness, 70, (0,)))
    harness.attend(cache, *prompt(harness, 70, (0, 1, 2)))
    assert sinks(cache) == [1]


def test_the_first_token_stays_exact_where_it_matters(harness, online):
    """Without it the group's scale serves a token of a tenth of the norm."""
    cache = harness.new_cache(replace(online, token_norm="none"))
    query, keys, values = prompt(harness, 70, (0,))
    harness.attend(cache, query, keys, values)
    assert torch.equal(row_states(cache.layers[0], 0)[0][:, 0], keys[0, :, 0])


def test_norms_are_those_without_the_key_bias(harness, online):
    bias = KeyBias(torch.full((2, 16), 400.0), torch.ones(8))
    cache = OscarCache(harness.model_config(), online, key_biases={0: bias})
    query, keys, values = prompt(harness, 70, (0, 1))
    share = cache.layers[0].key_bias.rotated(torch.arange(71)).transpose(0, 1)
    harness.attend(cache, query, keys + share[:, :70], values)
    assert sinks(cache) == [2]
    one = harness.states(1, 2, 1, 16, 5)
    output = harness.attend(cache, one[0], one[1] + share[:, 70:], one[2])
    held = [part[None] for part in row_states(cache.layers[0], 0)]
    expected = torch.nn.functional.scaled_dot_product_attention(one[0], *held)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3)


def test_a_file_keeps_what_was_decided(harness, online, tmp_path):
    cache = harness.new_cache(online)
    harness.attend(cache, *prompt(harness, 70, (0, 1)))
    cache.save(tmp_path / "cache")
    loaded = OscarCache.load(tmp_path / "cache", cache.model_config)
    assert sinks(loaded) == [2]
    for found, expected in zip(row_states(loaded.layers[0], 0), row_states(cache.layers[0], 0), strict=True):
        assert torch.equal(found, expected)
    cache.layers[0].rows[0].sink_tokens = ONLINE.most_sinks + 1
    cache.save(tmp_path / "cache")
    with pytest.raises(CacheFileError, match="rows of a layer do not fit"):
        OscarCache.load(tmp_path / "cache", cache.model_config)


def test_a_refused_prompt_decides_nothing(harness, online):
    cache = harness.new_cache(online)
    query, keys, values = prompt(harness, 70, (0,))
    values[0, 0, 30, 0] = float("nan")
    with pytest.raises(ValueError, match="is not finite"):
        harness.attend(cache, query, keys, values)
    assert cache.layers[0].rows[0].sink_tokens == online.sink_tokens


def test_online_is_yes_or_no():
    with pytest.raises(ValueError, match="online=1 is not allowed"):
        OscarConfig(online=1)
    assert OscarConfig(online=True).split_ratio == ONLINE.modality_split
    assert OscarConfig(online=True, modality_split=3.0).split_ratio == 3.0
    assert OscarConfig().split_ratio is None

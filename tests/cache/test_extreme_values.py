"""NaN and infinity are refused and nothing is lost; zeros, denormals and huge numbers have defined results."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.cache.reading import row_states

HEADS, HEAD_DIM = 2, 16


@pytest.fixture
def states(harness):
    """New states of so many tokens."""

    def make(count, seed=0):
        return harness.states(1, HEADS, count, HEAD_DIM, seed)

    return make


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("attention", ["oscar", "sdpa"])
def test_a_prompt_that_is_not_finite_is_refused(harness, states, plain, value, which, attention):
    cache = harness.new_cache(layers=2, attention=attention)

    def feed(new, layer):
        return harness.attend(cache, *new, layer=layer) if attention == "oscar" else cache.update(*new[1:], layer)

    for layer in (0, 1):
        feed(states(90), layer)
    held = [torch.stack(row_states(layer, 0)) for layer in cache.packed_layers]
    records, free = cache.layers[1].pool.records.clone(), cache.layers[1].pool.live
    new = states(60, seed=1)
    new[which][0, 1, 5, 3] = value
    feed(states(60, seed=1), 0)
    name = ("key_states", "value_states")[which - 1]
    with pytest.raises(ValueError, match=f"layer 1.*{name} is not finite"):
        feed(new, 1)
    assert torch.equal(torch.stack(row_states(cache.layers[1], 0)), held[1])
    assert cache.layers[1].pool.live == free
    used = cache.layers[1].rows[0].blocks
    assert torch.equal(cache.layers[1].pool.records[used], records[used])
    assert cache.memory().total == plain.storage_bytes(cache)
    # and it goes on
    feed(states(60, seed=1), 1)
    assert cache.layers[1].get_seq_length() == cache.layers[0].get_seq_length() == 150
    assert torch.equal(torch.stack(row_states(cache.layers[1], 0)), torch.stack(row_states(cache.layers[0], 0)))


def test_a_bad_token_in_the_window_can_be_cropped_away(harness, states):
    """A token that waits exact is looked at when it is packed; until then it can be taken back."""
    cache = harness.new_cache()
    harness.attend(cache, *states(30))
    bad = states(1, seed=1)
    bad[1][0, 0, 0, 0] = float("nan")
    harness.attend(cache, *bad)
    with pytest.raises(ValueError, match="layer 0: key_states is not finite"):
        cache.flush()
    assert cache.get_seq_length() == 31
    cache.crop(-1)
    cache.flush()
    assert cache.layers[0].rows[0].packed == 27


@pytest.mark.parametrize("attention", ["oscar", "sdpa"])
@pytest.mark.parametrize("token_norm", ["none", "shared", "per_head", "damped"])
@pytest.mark.parametrize("kind", ["zeros", "denormal", "huge", "one huge token", "mixed"])
def test_extreme_but_finite(harness, states, attention, token_norm, kind):
    cache = harness.new_cache(replace(harness.SMALL, token_norm=token_norm), attention=attention)
    query, keys, values = states(100)
    factor = torch.ones(100)
    if kind == "one huge token":
        factor[50] = 1e15
    elif kind == "mixed":
        factor[::3], factor[1::3] = 0.0, 1e-20
    else:
        factor *= {"zeros": 0.0, "denormal": 1e-42, "huge": 1e17}[kind]
    keys, values = keys * factor[:, None], values * factor[:, None]
    if attention == "oscar":
        harness.attend(cache, query, keys, values)
        cache.flush()
        small = [x[:, :, :1] for x in states(1, seed=1)]
        assert harness.attend(cache, *small).isfinite().all()
        cache.crop(-1)
    else:
        cache.update(keys, values, 0)
        cache.flush()
    read = torch.stack(row_states(cache.layers[0], 0))
    given = torch.stack([keys[0], values[0]])
    assert read.isfinite().all()
    if kind == "zeros":
        assert torch.equal(read, given)
    elif kind == "huge":
        assert harness.relative_error(read, given) < 0.6
    else:
        assert (read - given).abs().max() <= given.abs().max()


def test_numbers_whose_squares_overflow(harness):
    """1e30 in fp32: defined, or refused by name; never NaN in what attention reads."""
    cache = harness.new_cache()
    query, keys, values = harness.states(1, HEADS, 100, HEAD_DIM, seed=0)
    harness.attend(cache, query * 1e-30, keys * 1e30, values * 1e30)
    cache.flush()
    read = torch.stack(row_states(cache.layers[0], 0))
    assert read.isfinite().all()
    given = torch.stack([keys[0], values[0]])
    assert harness.relative_error(read / 1e30, given) < 0.6

"""Attention "oscar" over a cache equals ordinary attention over the states read back from it, for every setting."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from transformers.models.llama.modeling_llama import repeat_kv

from oscar_x import OscarConfig
from oscar_x.cache.reading import materialize
from oscar_x.config import PRESETS

BASE = OscarConfig()
# fp32 scores of up to 50; 16-bit outputs are rounded to 11 and 8 bits
TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def dense(query, keys, values):
    """Textbook attention of the newest query in fp64, [batch, num_attention_heads, 1, head_dim]."""
    keys, values = (repeat_kv(x, query.shape[1] // x.shape[1]).double() for x in (keys, values))
    scores = query.double() @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.softmax(-1) @ values


def check(harness, settings, *, tokens=300, batch=1, heads=2, group=2, head_dim=64, dtype=torch.float32, steps=3):
    cache = harness.new_cache(settings, heads=heads, head_dim=head_dim)
    _, keys, values = harness.states(batch, heads, tokens + steps, head_dim, seed=tokens, dtype=dtype)
    query, _, _ = harness.states(batch, heads * group, tokens + steps, head_dim, seed=1, dtype=dtype)
    harness.attend(cache, query[:, :, :tokens], keys[:, :, :tokens], values[:, :, :tokens])
    layer = cache.layers[0]
    for at in range(tokens, tokens + steps):
        part = slice(at, at + 1)
        output = harness.attend(cache, query[:, :, part], keys[:, :, part], values[:, :, part])
        read = materialize(layer, torch.float32)
        assert read[0].shape[2] == at + 1
        assert harness.relative_error(output, dense(query[:, :, part], *read)) < TOLERANCE[dtype]
        # and those states are near the true ones: not all of them, or the comparison would say nothing
        assert 0 < harness.relative_error(read[0], keys[:, :, : at + 1]) < 1
    assert output.dtype == dtype
    assert layer.rows[0].packed > 0
    assert cache.packed_reads == sum(row.packed for row in layer.rows) * steps


@pytest.mark.parametrize("tokens", [197, 259, 387, 1031])
def test_lengths(harness, tokens):
    check(harness, BASE, tokens=tokens, batch=2)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7, 8])
def test_query_heads_of_a_kv_head(harness, group):
    check(harness, BASE, group=group, heads=3)


@pytest.mark.parametrize("head_dim", [64, 80, 96, 112, 128, 256])
@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_head_dims(harness, head_dim, preset):
    check(harness, PRESETS[preset], head_dim=head_dim)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dtypes(harness, dtype):
    check(harness, BASE, dtype=dtype, batch=2)


@pytest.mark.parametrize("key_bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("value_bits", [1, 2, 3, 4, 8])
def test_bits(harness, key_bits, value_bits):
    check(harness, replace(BASE, key_bits=key_bits, value_bits=value_bits), tokens=200, steps=1)


@pytest.mark.parametrize("scale_bits", [16, 8, 6, 4, 3, 2])
@pytest.mark.parametrize("value_grouping", ["per_token", "per_channel"])
def test_scales(harness, scale_bits, value_grouping):
    check(harness, replace(BASE, scale_bits=scale_bits, value_grouping=value_grouping), tokens=200, steps=1)


@pytest.mark.parametrize("token_norm", ["none", "shared", "per_head", "damped"])
@pytest.mark.parametrize("norm_bits", [8, 16])
def test_norms(harness, token_norm, norm_bits):
    check(harness, replace(BASE, token_norm=token_norm, norm_bits=norm_bits), heads=3)


@pytest.mark.parametrize("residual_length", [0, 8, 64])
@pytest.mark.parametrize("sink_tokens", [0, 4])
@pytest.mark.parametrize("block_size", [32, 128])
def test_windows(harness, residual_length, sink_tokens, block_size):
    changes = {"residual_length": residual_length, "sink_tokens": sink_tokens, "block_size": block_size}
    check(harness, replace(BASE, **changes))


@pytest.mark.parametrize("sizes", [(8, 8), (16, 256), (32, 64), (128, 128)])
@pytest.mark.parametrize("rotate", [True, False])
def test_groups(harness, sizes, rotate):
    changes = {"key_group_size": sizes[0], "value_group_size": sizes[1], "rotate_keys": rotate, "rotate_values": rotate}
    check(harness, replace(BASE, **changes), tokens=200, steps=1)


def test_more_bits_read_back_closer(harness):
    """The states that attention reads lie near those that went in, nearer with every bit."""
    _, keys, values = harness.states(1, 2, 300, 64, seed=3)
    errors = []
    for bits in (1, 2, 3, 4, 8):
        cache = harness.new_cache(
            replace(BASE, key_bits=bits, value_bits=bits, scale_bits=16, norm_bits=16), heads=2, head_dim=64
        )
        harness.attend(cache, keys, keys, values)
        cache.flush()
        read = materialize(cache.layers[0], torch.float32)
        errors.append(max(harness.relative_error(*pair) for pair in zip(read, (keys, values), strict=True)))
    # one bit more halves the step, from 1 to 3 levels thirds it
    assert all(later < 0.6 * earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.01

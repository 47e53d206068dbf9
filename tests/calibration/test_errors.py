"""The estimate of what compressing one layer does to the logits, against what it does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x import PRESETS, CacheSettings, OscarConfig
from oscar_x.calibration.divergence import measured_kl
from oscar_x.calibration.errors import (
    attention_output,
    attention_weights,
    head_effects,
    logit_effect,
    stored,
    value_error,
)
from oscar_x.calibration.passage import text_passage
from oscar_x.calibration.recording import Attention, record
from oscar_x.evals.corpus import load_text, token_sequences

PREFIX, CONTINUATION = 256, 32


@pytest.fixture(scope="module")
def recording(smollm2):
    tokens = token_sequences(load_text("kjv"), smollm2.processor, 1, PREFIX + CONTINUATION)[0]
    return record(smollm2, text_passage(tokens, PREFIX), draws=4, seed=0)


def ranks(values):
    return torch.tensor(values).argsort().argsort().double()


def test_the_estimate_ranks_layers_as_measured_kl_does(smollm2, recording):
    """Each time one layer alone is compressed, its keys or its values more."""
    base = PRESETS["balanced"]
    exact = replace(base, key_bits=16, value_bits=16)
    estimated, measured = [], []
    with torch.no_grad():
        for layer in range(0, 30, 2):
            for bits in ((2, 4), (4, 2)):
                settings = replace(base, key_bits=bits[0], value_bits=bits[1])
                seen, held = recording.attention[layer], stored(*recording.states[layer], settings)
                states = (state[0] for state in recording.states[layer])
                error = attention_output(seen, held[0][0], held[1][0]) - attention_output(seen, *states)
                estimated.append(logit_effect(seen, error))
                measured.append(measured_kl(smollm2, recording, CacheSettings(exact, {layer: settings}), {}))
    agreement = torch.corrcoef(torch.stack([ranks(estimated), ranks(measured)]))[0, 1]
    assert agreement > 0.8  # 0.93 at 512 tokens and 64 behind them
    assert 0.4 < sum(estimated) / sum(measured) < 2.5  # a second-order estimate of KL, not just a score


def test_exact_states_cost_nothing(recording):
    seen = recording.attention[3]
    keys, values = (state[0] for state in recording.states[3])
    output = attention_output(seen, keys, values)
    assert logit_effect(seen, output - output) == 0
    # the recorded gradients belong to these outputs
    assert seen.gradients.shape[1:] == output.shape


def test_watching_does_not_change_the_model(smollm2, recording):
    from transformers import DynamicCache

    tokens = recording.passage.continuation
    cache = DynamicCache(config=smollm2.model.config)
    for layer, states in recording.states.items():
        cache.update(*states, layer)
    with torch.no_grad():
        logits = smollm2.model(tokens[None], past_key_values=cache, use_cache=True).logits[0].float()
    torch.testing.assert_close(logits.log_softmax(-1), recording.reference, atol=2e-3, rtol=0)
    assert all(parameter.grad is None for parameter in smollm2.model.parameters())


def test_the_estimate_is_half_the_square_along_the_gradients():
    gradients = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])  # one draw, two tokens, one head
    seen = Attention(torch.empty(0), torch.empty(0), torch.empty(0), 1.0, gradients)
    error = torch.tensor([[[3.0, 9.0]], [[9.0, 1.0]]])
    assert logit_effect(seen, error) == pytest.approx((3.0**2 + 2.0**2) / 2 / 2)


def test_stored_states_are_those_of_a_cache():
    keys, values = torch.randn(2, 1, 2, 70, 64, generator=torch.Generator().manual_seed(0))
    settings = OscarConfig(sink_tokens=5, key_bits=8, value_bits=8, scale_bits=8)
    held = stored(keys, values, settings)
    for exact, found in zip((keys, values), held, strict=True):
        assert torch.equal(found[:, :, :5], exact[:, :, :5])
        error = (found - exact).norm() / exact.norm()
        assert 0 < error < 0.02


def test_an_error_of_values_is_what_they_weigh(recording):
    seen = recording.attention[3]
    keys, values = (state[0] for state in recording.states[3])
    error = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    expected = attention_output(seen, keys, values + error) - attention_output(seen, keys, values)
    found = value_error(attention_weights(seen, keys), error)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_share_of_every_head(recording):
    """SmolLM2's 9 heads attend to 3 KV heads, three by three."""
    seen = recording.attention[3]
    error = torch.zeros(seen.gradients.shape[1:])
    error[:, 3:6] = torch.randn(32, 3, 64, generator=torch.Generator().manual_seed(0))
    whole, first, second, third = head_effects(seen, error, 3)
    assert whole == pytest.approx(logit_effect(seen, error))
    assert (first, third) == (0, 0)
    assert second == pytest.approx(whole)

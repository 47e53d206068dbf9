"""calibrate() as a whole: budgets and targets kept, the same result twice, better than the preset, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import oscar_x
from oscar_x.calibration import Candidates
from oscar_x.calibration.data import passages_of
from oscar_x.calibration.divergence import measure
from oscar_x.calibration.recording import record
from oscar_x.evals.corpus import load_text

FEW = Candidates(bits=(2, 3), group_sizes=(16, 32), scale_bits=(4,))
SHORT = {"sequences": 1, "prefix": 96, "continuation": 16, "candidates": FEW}
TEXT = "Every layer gets the bits that it needs, and no more than that. " * 40


@pytest.fixture(scope="module")
def llama(tiny):
    return oscar_x.load(tiny("llama"), device="cpu")


def test_the_same_twice_within_the_budget_and_loadable(llama, tiny, tmp_path):
    profile = oscar_x.calibrate(llama, TEXT, bits_budget=3.4, **SHORT)
    again = oscar_x.calibrate(llama, TEXT, bits_budget=3.4, **SHORT)
    assert replace(again, date=profile.date) == profile
    assert profile.after.bits_per_element <= 3.4 + 1e-9
    assert profile.target == {"bits_budget": 3.4}
    profile.save(tmp_path / "profile.json")
    model = oscar_x.load(tiny("llama"), profile=tmp_path / "profile.json", device="cpu")
    assert model.settings == profile.settings
    assert oscar_x.calibrate(llama, TEXT[1:], bits_budget=3.4, **SHORT).data_hash != profile.data_hash


def test_without_a_budget_it_is_what_the_settings_take(llama):
    profile = oscar_x.calibrate(llama, TEXT, **SHORT)
    assert profile.after.bits_per_element <= profile.before.bits_per_element + 1e-9
    assert profile.target == {"bits_budget": profile.before.bits_per_element}


def test_a_target_is_met_with_fewer_bits_than_the_most(llama):
    most = oscar_x.calibrate(llama, TEXT, bits_budget=16, **SHORT)
    target = most.after.kl * 2
    profile = oscar_x.calibrate(llama, TEXT, kl_target=target, **SHORT)
    assert profile.after.kl <= target
    assert profile.after.bits_per_element < most.after.bits_per_element
    with pytest.raises(ValueError, match=r"kl_target=1e-12 cannot be met: at .* bits an element the KL is"):
        oscar_x.calibrate(llama, TEXT, kl_target=1e-12, **SHORT)


def test_the_models_own_kl_is_undercut_on_data_that_were_not_chosen_from(llama):
    profile = oscar_x.calibrate(llama, TEXT, kl_target="same", **{**SHORT, "sequences": 3})
    assert profile.target == {"kl_target": profile.before.kl}
    assert profile.after.kl <= 0.8 * profile.before.kl
    (second,) = passages_of(llama, TEXT, 3, 96, 16)[1:2]
    alone = measure(llama, [record(llama, second, draws=1, seed=0)], profile.settings, {})
    assert alone.kl == pytest.approx(profile.after.kl, rel=1e-5)


def test_exact_tokens_are_chosen_and_paid_for(llama):
    """16 bits a token kept exact: with little to spend no layer has them, with much the KL falls."""
    few, many = (
        oscar_x.calibrate(llama, TEXT, bits_budget=bits, **{**SHORT, "candidates": replace(FEW, sink_tokens=(0, 32))})
        for bits in (2.75, 8)
    )
    assert {few.settings[layer].sink_tokens for layer in range(2)} == {0}
    assert {many.settings[layer].sink_tokens for layer in range(2)} == {32}
    assert many.after.kl < few.after.kl


@pytest.mark.parametrize(("family", "changes"), [("gemma3", {}), ("qwen2", {}), ("phi3", {"sliding_window": 4096})])
def test_sliding_layers_and_key_biases(tiny, family, changes):
    """Layers that are not compressed keep out of it; the rest is calibrated as the cache will store it."""
    model = oscar_x.load(tiny(family, **changes), device="cpu")
    profile = oscar_x.calibrate(model, TEXT, bits_budget=3.5, **SHORT)
    compressed = [layer.index for layer in model.report() if layer.compressed]
    assert set(profile.settings.layers) <= set(compressed)
    assert profile.after.bits_per_element <= 3.5


def test_the_model_stays_as_it_was(llama):
    before = {name: tensor.clone() for name, tensor in llama.model.state_dict().items()}
    tokens = llama.generate(TEXT[:300], max_new_tokens=5)
    oscar_x.calibrate(llama, TEXT, **SHORT)
    assert torch.equal(llama.generate(TEXT[:300], max_new_tokens=5), tokens)
    assert all(torch.equal(tensor, before[name]) for name, tensor in llama.model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in llama.model.parameters())


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (TEXT, {"bits_budget": 2.6, "kl_target": 0.1}, "exclude each other"),
        (TEXT, {"bits_budget": 0}, "bits_budget=0 is not allowed; use a number above 0"),
        (TEXT, {"bits_budget": True}, "bits_budget=True is not allowed"),
        (TEXT, {"kl_target": float("nan")}, "kl_target=nan is not allowed"),
        (TEXT, {"bits_budget": 1.5}, "budget of 1.500 bits an element is too small; the least possible is"),
        (TEXT, {"prefix": 0}, "prefix=0 is not allowed; use a whole number of at least 1"),
        (TEXT, {"prefix": 5000}, "prefix [+] continuation = 5016 tokens, but the model reads 4096"),
        (TEXT[:50], {}, r"data\[0\] has 50 tokens; 1 sequences of 112 need 112"),
        ([TEXT, 3], {}, r"data\[1\] is int; give a text, token ids"),
        ([], {}, "data is list; give a text, token ids"),
        (torch.zeros(500), {}, r"data\[0\] is torch.float32 \[500\]; token ids are whole numbers"),
    ],
)
def test_refusals(llama, data, arguments, message):
    with pytest.raises(ValueError, match=message):
        oscar_x.calibrate(llama, data, **{**SHORT, **arguments})


def test_a_model_that_does_not_compress_is_refused(tiny):
    for arguments in ({"kv_bits": 16}, {"attn_implementation": "sdpa"}):
        model = oscar_x.load(tiny("llama"), device="cpu", **arguments)
        with pytest.raises(ValueError, match="calibration needs one that is loaded with kv_bits below 16"):
            oscar_x.calibrate(model, TEXT, **SHORT)


@pytest.mark.slow
def test_at_equal_bits_a_trained_model_loses_less(smollm2):
    """Judged on text that the profile was not made on."""
    few = Candidates(bits=(2, 3, 4), group_sizes=(8, 16, 32, 64), scale_bits=(4, 3))
    sizes = {"sequences": 1, "prefix": 512, "continuation": 64}
    profile = oscar_x.calibrate(smollm2, load_text("python-reference"), candidates=few, **sizes)
    assert profile.after.bits_per_element <= profile.before.bits_per_element
    assert profile.after.kl < 0.75 * profile.before.kl
    passages = passages_of(smollm2, load_text("kjv"), 2, 512, 64)
    held_out = [record(smollm2, passage, draws=1, seed=0) for passage in passages]
    before, after = (measure(smollm2, held_out, settings, {}) for settings in (smollm2.settings, profile.settings))
    assert after.kl < 0.85 * before.kl

"""Two phases say what one prompt would; bytes are counted; options are told apart."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from oscar_x import OscarConfig
from oscar_x.cache import OscarCache
from oscar_x.evals.long_video import needle_clip
from oscar_x.evals.long_video.meter import cache_bytes, metered, peak_bytes
from oscar_x.evals.long_video.reading import ask, choose, clip_parts, conversation, decode, prefill, read

TOKEN_BYTES = 2 * 2 * 2 * 64 * 4  # layers, keys and values, heads, head_dim, float32


@pytest.fixture(scope="module")
def clip():
    return needle_clip("both", 4.0, 0.0, 0)


@pytest.fixture(scope="module")
def reading(omni, clip):
    return read(omni, clip, clip.questions[0])


def test_two_phases_are_one_generation(omni, clip, reading):
    exact = OscarCache(omni.model.config, OscarConfig(key_bits=16, value_bits=16))
    prompt = omni.prepare(conversation(omni, clip, clip.questions[0], False), use_audio_in_video=True)
    asked = {"max_new_tokens": 3, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    whole = omni.generate(prompt, past_key_values=exact, **asked)
    cache = DynamicCache(config=omni.model.config)
    prefill(omni, cache, reading)
    logits = ask(omni, cache, reading)
    said = whole.sequences[:, prompt["input_ids"].shape[1] :]
    for step, expected in enumerate(whole.logits):
        torch.testing.assert_close(logits, expected[0], atol=2e-4, rtol=1e-3)
        logits = decode(omni, cache, reading, said[:, step : step + 1], step)


def test_the_peak_of_a_full_cache_counts_the_layer_that_is_copied(omni, reading):
    cache = metered(DynamicCache(config=omni.model.config))
    prefill(omni, cache, reading)
    held = cache_bytes(cache)
    assert held == peak_bytes(cache) == TOKEN_BYTES * reading.clip_columns
    ask(omni, cache, reading)
    now = cache_bytes(cache)
    assert now == TOKEN_BYTES * reading.stream.shape[1]
    assert peak_bytes(cache) == now + held // 2


def test_a_clip_longer_than_the_model_hears_comes_in_parts(omni):
    assert len(clip_parts(omni, needle_clip("visual", 20.0, 0.0, 0))) == 3
    assert len(clip_parts(omni, needle_clip("visual", 20.0, 0.0, 0, heard=False))) == 1


def test_options_are_chosen_by_their_first_token(omni):
    tokenizer = omni.processor.tokenizer
    logits = torch.zeros(len(tokenizer))
    logits[tokenizer("beeps", add_special_tokens=False)["input_ids"][0]] = 1
    assert choose(omni, logits, ("low", "beeps", "rising")) == "beeps"
    with pytest.raises(ValueError, match="circle, cross"):
        choose(omni, logits, ("circle", "cross"))

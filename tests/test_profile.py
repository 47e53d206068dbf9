"""Profiles: files that come back as they went, refusals, and models loaded with them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch

import oscar_x
from oscar_x import CacheSettings, OscarConfig, Profile, ProfileError, loading
from oscar_x.cache.serialize import model_signature
from oscar_x.head_groups import HeadGroup
from oscar_x.profile import Measured
from oscar_x.weights import weight_samples


@pytest.fixture(scope="module")
def llama(tiny):
    return oscar_x.load(tiny("llama"), device="cpu")


@pytest.fixture
def profile(llama):
    """Layer 1 of a tiny Llama at 3-bit keys."""
    return Profile(
        settings=CacheSettings(OscarConfig(), {1: OscarConfig(key_bits=3, value_grouping="per_channel")}),
        signature=model_signature(llama.model.config),
        model_type="llama",
        data_hash="0" * 16,
        library_version="0.1.0",
        date="2026-11-23T00:00:00+00:00",
        target={"bits_budget": 3.0},
        before=Measured(2.7, 0.05),
        after=Measured(2.9, 0.02),
    )


def test_a_file_comes_back_as_it_went(profile, tmp_path):
    profile.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_model_generates_with_it(tiny, profile, tmp_path, as_file):
    profile.save(tmp_path / "profile.json")
    model = oscar_x.load(tiny("llama"), profile=tmp_path / "profile.json" if as_file else profile, device="cpu")
    cache = model.new_cache()
    assert [layer.oscar for layer in cache.layers] == [profile.settings[0], profile.settings[1]]
    assert model.profile == profile
    assert [layer.bits_per_element for layer in model.report()] == [p.bits_per_element for p in cache.layer_plan]
    assert model.report()[1].bits_per_element > model.report()[0].bits_per_element
    tokens = model.generate(torch.randint(3, 250, (1, 400)), max_new_tokens=4, past_key_values=cache)
    assert tokens.shape == (1, 404)
    assert cache.packed_reads


def test_the_backend_is_the_callers(tiny, profile):
    model = oscar_x.load(tiny("llama"), profile=profile, backend="reference", device="cpu")
    assert {layer.oscar.backend for layer in model.new_cache().layers} == {"reference"}


def test_another_models_profile_is_refused_before_loading(tiny, profile, monkeypatch):
    monkeypatch.setattr(loading, "_read", lambda *a, **k: pytest.fail("read files before checking the profile"))
    for other in (tiny("qwen3"), tiny("llama", num_hidden_layers=3)):
        with pytest.raises(ProfileError, match=r"made for another model \(llama, signature [0-9a-f]{16}; this one is"):
            oscar_x.load(other, profile=profile)
    beyond = replace(profile, settings=CacheSettings(OscarConfig(), {2: OscarConfig(key_bits=3)}))
    with pytest.raises(ProfileError, match="settings for layer 2, but the model has 2 layers"):
        oscar_x.load(tiny("llama"), profile=beyond)


@pytest.mark.parametrize(
    "arguments", [{"kv_bits": 3}, {"key_bits": 2}, {"value_bits": 4}, {"preset": "max"}], ids=lambda a: next(iter(a))
)
def test_what_the_profile_decides_cannot_be_given(tiny, profile, arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=.* is not allowed beside a profile"):
        oscar_x.load(tiny("llama"), profile=profile, **arguments)


def test_no_profile_file(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no profile at .*missing"):
        oscar_x.load(tiny("llama"), profile=tmp_path / "missing")
    with pytest.raises(TypeError, match="profile is dict; give a Profile or the path"):
        oscar_x.load(tiny("llama"), profile={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(format="oscar_x tni report"), "not a profile"),
        (lambda plain: plain.update(version=9), "profile version 9; this version reads 1 and 2"),
        (lambda plain: plain.pop("signature"), r"other fields than expected \(signature\)"),
        (lambda plain: plain.update(mood="good"), r"other fields than expected \(mood\)"),
        (lambda plain: plain.update(date=3), "date is 3, not a text"),
        (lambda plain: plain.update(weights="A"), "the samples of weights are damaged"),
        (lambda plain: plain.update(weights="AAAA"), "the samples of weights are damaged: 3 bytes are no whole number"),
        (lambda plain: plain.pop("weights"), r"other fields than expected \(weights\)"),
        (lambda plain: plain.update(target=[]), "target is .*, not an object"),
        (lambda plain: plain["after"].update(kl="low"), "kl is 'low', not a number"),
        (lambda plain: plain["after"].pop("kl"), "damaged"),
        (lambda plain: plain["settings"]["base"].update(key_bits=5), "damaged: key_bits=5 is not allowed"),
        (lambda plain: plain["settings"].update(layers=[]), "damaged"),
        (lambda plain: plain["settings"]["layers"].update({"-1": OscarConfig(key_bits=4).to_dict()}), "layer -1"),
    ],
)
def test_damaged_profiles_are_refused(profile, tmp_path, change, message):
    path = tmp_path / "profile.json"
    profile.save(path)
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(ProfileError, match=message):
        Profile.load(path)


def test_a_truncated_profile_is_refused(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    text = path.read_text()
    for length in range(0, len(text) - 2, 97):
        path.write_text(text[:length])
        with pytest.raises(ProfileError, match="damaged or no profile"):
            Profile.load(path)


def test_heads_come_back_too(llama, profile, tmp_path):
    by_head = OscarConfig(head_groups=(HeadGroup((1,), key_bits=3, value_grouping="per_channel"),))
    mixed = replace(profile, settings=CacheSettings(OscarConfig(), {1: by_head}))
    mixed.save(tmp_path / "profile.json")
    loaded = Profile.load(tmp_path / "profile.json")
    assert loaded == mixed
    loaded.check(llama.model.config)
    beyond = OscarConfig(head_groups=(HeadGroup((7,), key_bits=3),))
    with pytest.raises(ProfileError, match="does not fit its model: layer 1: head_groups has settings for KV head 7"):
        replace(profile, settings=CacheSettings(OscarConfig(), {1: beyond})).check(llama.model.config)


def test_another_fine_tuning_is_warned_of_and_another_dtype_is_not(tiny, llama, profile, fine_tuned, tmp_path, caplog):
    sampled = replace(profile, weights=weight_samples(llama.model, llama.adapter))
    sampled.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == sampled
    caplog.set_level(logging.WARNING, "oscar_x")
    for dtype in ("float32", "float16", "bfloat16"):
        assert oscar_x.load(tiny("llama"), profile=sampled, dtype=dtype, device="cpu").profile == sampled
    assert oscar_x.load(fine_tuned, profile=profile, device="cpu").profile == profile  # nothing known of its weights
    assert caplog.messages == []
    tuned = oscar_x.load(fine_tuned, profile=sampled, device="cpu")
    (said,) = caplog.messages
    assert "made for other weights of this architecture (samples of a projection differ by up to 5.0%)" in said
    assert [layer.oscar for layer in tuned.new_cache().layers] == [sampled.settings[0], sampled.settings[1]]


def test_profiles_of_the_first_version_are_read(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    plain = json.loads(path.read_text())
    assert plain["version"] == 2
    del plain["weights"]
    path.write_text(json.dumps({**plain, "version": 1}))
    assert Profile.load(path) == profile

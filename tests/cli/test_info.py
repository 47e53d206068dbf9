"""``oscar-x info``."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from oscar_x.adapters.registry import all_adapters
from oscar_x.config import PRESETS


def test_without_a_model_it_lists_families_and_presets(oscar_x):
    outcome = oscar_x("info", "--json", "-")
    about = json.loads(outcome.output)
    assert outcome.status == 0
    assert set(about["families"]) == {adapter.name for adapter in all_adapters()}
    assert set(about["presets"]) == set(PRESETS)
    assert all(name in outcome.errors for name in (*about["families"], *PRESETS))


def test_presets_keep_their_bits(oscar_x):
    presets = json.loads(oscar_x("info", "--json", "-").output)["presets"]
    bits = {name: about["bits_per_element"] for name, about in presets.items()}
    assert bits["balanced"] <= 2.60
    assert bits["max"] <= 2.32
    assert bits["paper"] == pytest.approx(3.02, abs=0.02)


def test_layers_of_a_model(oscar_x, tiny, tmp_path):
    target = tmp_path / "info.json"
    outcome = oscar_x("info", tiny("llama"), "--json", target)
    about = json.loads(target.read_text())
    assert outcome.status == 0
    assert (about["family"], about["weights_read"]) == ("Llama", True)
    assert [layer["compressed"] for layer in about["layers"]] == [True, True]
    assert "0-1" in outcome.output


def test_layers_that_stay_exact_say_why(oscar_x, tiny):
    about = json.loads(oscar_x("info", tiny("gemma3"), "--json", "-").output)
    assert [layer["compressed"] for layer in about["layers"]] == [False, False, True]
    assert "sliding window of 32" in about["layers"][0]["reason"]


def test_a_config_alone_is_enough(oscar_x, tiny, tmp_path):
    shutil.copy(tiny("qwen3") / "config.json", tmp_path)
    outcome = oscar_x("info", tmp_path, "--kv-bits", 4)
    assert outcome.status == 0
    assert "Weights were not read" in outcome.output


def test_weights_are_left_alone_on_request(oscar_x, tiny, monkeypatch):
    monkeypatch.setattr("oscar_x.loading.load", lambda *a, **k: pytest.fail("weights were loaded"))
    about = json.loads(oscar_x("info", tiny("llama"), "--config-only", "--json", "-").output)
    assert about["weights_read"] is False
    assert len(about["layers"]) == 2


def test_large_key_biases_are_reported(oscar_x, support, tmp_path):
    model = support("tiny").tiny_model("qwen2")
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.bias.fill_(50.0)
    model.save_pretrained(tmp_path)
    support("tiny").tiny_tokenizer().save_pretrained(tmp_path)
    outcome = oscar_x("info", tmp_path, "--json", "-")
    quiet, biased = json.loads(outcome.output)["layers"]
    assert not quiet["key_bias_removed"]
    assert biased["key_bias_removed"]
    assert "taken out" in outcome.errors


def test_bits_of_keys_and_values_differ_on_request(oscar_x, tiny):
    both = json.loads(oscar_x("info", tiny("llama"), "--config-only", "--json", "-").output)
    keys = json.loads(oscar_x("info", tiny("llama"), "--config-only", "--key-bits", 4, "--json", "-").output)
    assert keys["config"]["key_bits"] == 4
    assert keys["layers"][0]["bits_per_element"] == pytest.approx(both["layers"][0]["bits_per_element"] + 1, abs=0.1)


@pytest.mark.parametrize("family", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_thinker_and_talker_of_omni_models(oscar_x, tiny_media, tmp_path, family):
    outcome = oscar_x("info", tiny_media(family), "--json", tmp_path / "info.json")
    about = json.loads((tmp_path / "info.json").read_text())
    assert outcome.status == 0
    assert [layer["compressed"] for layer in about["layers"]] == [True, True]
    assert [layer["compressed"] for layer in about["talker_layers"]] == [True, True]
    assert "Its talker" in outcome.output
    bare = json.loads(oscar_x("info", tiny_media(family), "--config-only", "--json", "-").output)
    assert bare["weights_read"] is False
    assert len(bare["talker_layers"]) == 2


def test_models_that_only_write_have_no_talker(oscar_x, tiny_media):
    assert "talker_layers" not in json.loads(oscar_x("info", tiny_media("qwen2_audio"), "--json", "-").output)


def test_a_profile_decides_in_place_of_the_preset(oscar_x, tiny, write_profile):
    path = write_profile(key_bits=3)
    for how in ([], ["--config-only"]):
        outcome = oscar_x("info", tiny("llama"), "--profile", path, "--json", "-", *how)
        about = json.loads(outcome.output)
        assert outcome.status == 0, outcome.errors
        assert about["profile"] == str(path)
        assert about["layers"][1]["bits_per_element"] > about["layers"][0]["bits_per_element"] + 0.4
    for arguments, message in (
        ([tiny("qwen3"), "--profile", path], "made for another model"),
        ([tiny("llama"), "--profile", path, "--kv-bits", 4], "kv_bits=4 is not allowed beside a profile"),
        (["--profile", path], "is for a model; name the model too"),
    ):
        outcome = oscar_x("info", *arguments)
        assert outcome.status == 2
        assert message in outcome.errors

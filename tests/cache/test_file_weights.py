"""Cache files know the weights that made them: another dtype goes on, another fine-tuning is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import oscar_x
from oscar_x.cache import CacheFileError, OscarCache, serialize
from oscar_x.weights import weight_samples

DTYPES = ("float32", "bfloat16", "float16")
GREEDY = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
IDS = torch.randint(3, 250, (1, 300), generator=torch.Generator().manual_seed(0))


def load(name, dtype="float32"):
    return oscar_x.load(name, dtype=dtype, device="cpu")


def filled(model):
    cache = model.new_cache()
    model.generate(IDS, past_key_values=cache, **GREEDY)
    return cache


def header_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["header"])


def rewrite(path, change):
    """The file with another header."""
    header = header_of(path)
    change(header)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"format": serialize.FORMAT, "header": json.dumps(header)})


@pytest.fixture
def saved(tiny, tmp_path):
    """A file of the tiny Llama."""
    filled(load(tiny("llama"))).save(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_goes_on(tiny, tmp_path, dtype):
    cache = filled(load(tiny("llama"), dtype))
    cache.save(tmp_path / "cache")
    for other in DTYPES:
        loaded = load(tiny("llama"), other).load_cache(tmp_path / "cache")
        assert (loaded.get_seq_length(), loaded.weights) == (cache.get_seq_length(), cache.weights)


def test_what_goes_on_is_what_was(tiny, saved):
    model = load(tiny("llama"))
    cache, loaded = filled(model), model.load_cache(saved)
    ids = torch.cat([IDS, IDS], dim=1)
    expected, found = (model.generate(ids, past_key_values=held, **GREEDY) for held in (cache, loaded))
    assert torch.equal(found, expected)


def test_another_fine_tuning_is_refused_before_anything_is_made(tiny, fine_tuned, saved, monkeypatch):
    tuned = load(fine_tuned)
    monkeypatch.setattr(OscarCache, "__init__", lambda *a, **k: pytest.fail("made a cache"))
    names = rf"cache: made by {tiny('llama').name}, and this model, {fine_tuned.name}, has other weights"
    with pytest.raises(CacheFileError, match=rf"{names}: samples of a projection differ by up to 5\.0%"):
        tuned.load_cache(saved)


def test_a_caller_without_the_weights_is_believed(fine_tuned, saved):
    tuned = load(fine_tuned)
    OscarCache.load(saved, tuned.model.config)
    with pytest.raises(CacheFileError, match="has other weights"):
        OscarCache.load(saved, tuned.model.config, weights=weight_samples(tuned.model))


def test_files_from_before_are_read(fine_tuned, saved):
    rewrite(saved, lambda header: (header.pop("weights"), header.pop("model")))
    assert load(fine_tuned).load_cache(saved).weights == ""


def test_sessions_from_before_keep_theirs_in_their_notes(tiny, fine_tuned, tmp_path):
    model = load(tiny("llama"))
    model.new_session("Some text to remember. " * 4).save(tmp_path / "session")
    model.open_session(tmp_path / "session")
    assert set(header_of(tmp_path / "session")["notes"]) == {"session"}
    with pytest.raises(CacheFileError, match="has other weights"):
        load(fine_tuned).open_session(tmp_path / "session")
    rewrite(tmp_path / "session", lambda header: header["notes"].update(weights=header.pop("weights")))
    model.open_session(tmp_path / "session")
    with pytest.raises(CacheFileError, match="has other weights"):
        load(fine_tuned).open_session(tmp_path / "session")


def test_unknown_weights_are_said_to_be_and_not_compared(tiny, fine_tuned, tmp_path):
    model = load(tiny("llama"))
    attention = model.model.get_decoder().layers[0].self_attn
    attention.codes = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.uint8), requires_grad=False)  # as 4-bit layers
    filled(model).save(tmp_path / "cache")
    assert header_of(tmp_path / "cache")["weights"] == ""
    for name in (tiny("llama"), fine_tuned):
        assert load(name).load_cache(tmp_path / "cache").weights == ""


def test_files_name_no_folder_above_the_model(tiny, saved):
    assert header_of(saved)["model"] == tiny("llama").name
    assert str(tiny("llama").parent) not in json.dumps(header_of(saved))


@pytest.mark.parametrize("weights", ["A", "AAAA", 5, None])
def test_damaged_samples_are_refused(tiny, saved, weights):
    rewrite(saved, lambda header: header.update(weights=weights))
    with pytest.raises(CacheFileError, match="cache is damaged or no cache file"):
        OscarCache.load(saved, load(tiny("llama")).model.config)

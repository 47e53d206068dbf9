"""load(): names, argument checks before any weight is read, damaged files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch

import oscar_x
from oscar_x import errors, loading
from oscar_x.source import resolve_source


def test_import_needs_no_torch():
    code = "import oscar_x, sys; oscar_x.__version__; oscar_x.PRESETS; assert 'torch' not in sys.modules; dir(oscar_x)"
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def test_every_public_name_is_there():
    for name in oscar_x.__all__:
        assert getattr(oscar_x, name)
        assert name in dir(oscar_x)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = oscar_x.nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kv_bits": 5}, r"kv_bits=5 is not allowed; choose one of 1, 2, 3, 4, 8, 16"),
        ({"online": 1}, r"online=1 is not allowed; use True or False"),
        ({"kv_bits": True}, r"kv_bits=True is not allowed"),
        ({"kv_bits": "2"}, r"kv_bits='2' is not allowed"),
        ({"kv_bits": 2.0}, r"kv_bits=2.0 is not allowed"),
        ({"kv_bits": None}, r"kv_bits=None is not allowed"),
        ({"key_bits": 7}, r"key_bits=7 is not allowed"),
        ({"value_bits": 16}, r"key_bits=2 with value_bits=16 is not supported"),
        ({"preset": "best"}, r"preset='best' is not allowed; choose one of 'paper', 'balanced', 'max'"),
        ({"backend": "magic"}, r"backend='magic' is not allowed; choose one of 'auto', 'triton', 'reference'"),
        ({"device": "toaster"}, r"device='toaster' cannot be used here"),
        ({"device": "cpu", "device_map": "auto"}, r"exclude each other"),
        ({"dtype": "int8"}, r"dtype='int8' is not allowed"),
        ({"dtype": "nothing"}, r"dtype='nothing' is not allowed"),
    ],
)
def test_arguments_are_checked_before_loading(tiny, monkeypatch, arguments, message):
    monkeypatch.setattr(loading, "_read", lambda *a, **k: pytest.fail("read files before checking arguments"))
    with pytest.raises(ValueError, match=message):
        oscar_x.load(tiny("llama"), **arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SmolLM3000", r"model 'SmolLM3000' is unknown; did you mean .*SmolLM2.*one of .*Qwen2.5"),
        ("no/such/folder", r"no/such/folder does not exist"),
        ("./nowhere", r"./nowhere does not exist"),
        ("gone.gguf", r"gone.gguf does not exist"),
        ("", r"model '' is unknown"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(errors.UnknownModelError, match=message):
        oscar_x.load(name)


def test_names_resolve(tmp_path, tiny):
    assert resolve_source("smollm2-135m").location == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert resolve_source("owner/some-model").location == "owner/some-model"
    assert not resolve_source("owner/some-model").local
    assert resolve_source(tiny("llama")).local
    file = tmp_path / "weights.gguf"
    file.touch()
    for given in (file, tmp_path):
        source = resolve_source(given)
        assert (source.location, source.gguf_file) == (str(tmp_path), "weights.gguf")


def test_several_gguf_files_need_a_choice(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(errors.CheckpointError, match=r"holds 2 GGUF files; choose one with gguf_file=: a.gguf, b.gguf"):
        resolve_source(tmp_path)
    assert resolve_source(tmp_path, "b.gguf").gguf_file == "b.gguf"
    with pytest.raises(errors.UnknownModelError, match=r"gguf_file='c.gguf' does not exist"):
        resolve_source(tmp_path, "c.gguf")


def test_gguf_without_its_package(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").touch()
    monkeypatch.setattr("oscar_x.source.find_spec", lambda name: None)
    with pytest.raises(errors.MissingPackageError, match="pip install gguf"):
        resolve_source(tmp_path)


def test_folder_without_model(tmp_path):
    with pytest.raises(
        errors.UnknownModelError, match=r"is not a model: it holds neither config.json nor a .gguf file"
    ):
        oscar_x.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(errors.UnknownModelError, match=r"holds config.json but no weights"):
        oscar_x.load(tmp_path)
    with pytest.raises(errors.UnknownModelError, match=r"is a file but not a GGUF file"):
        oscar_x.load(tmp_path / "config.json")


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny("llama"), tmp_path / "copy")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_unsupported_architecture(copy):
    for model_type in ("gpt2", "never_heard_of"):
        change_config(copy, model_type=model_type)
        with pytest.raises(errors.UnsupportedModelError, match=rf"'{model_type}' is not supported; supported: .*Qwen3"):
            oscar_x.load(copy)


def test_composite_around_a_known_decoder(copy):
    for file in ("config.json", "model.safetensors"):
        (copy / file).rename(copy / f"text-{file}")
    text = json.loads((copy / "text-config.json").read_text())
    (copy / "config.json").write_text(json.dumps({"model_type": "vipllava", "text_config": text}))
    (copy / "model.safetensors").touch()
    with pytest.raises(errors.UnsupportedModelError, match=r"'vipllava' is not supported: its decoder is Llama"):
        oscar_x.load(copy)


def test_config_that_is_no_json(copy):
    (copy / "config.json").write_text("{nonsense")
    with pytest.raises(errors.CheckpointError, match=r"configuration of .* cannot be read"):
        oscar_x.load(copy)


def test_config_without_model_type(copy):
    change_config(copy, model_type=None)
    with pytest.raises(errors.CheckpointError, match="names no model_type"):
        oscar_x.load(copy)


def test_truncated_weights(copy):
    file = copy / "model.safetensors"
    for keep in (file.stat().st_size // 2, 100, 4, 0):
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(errors.CheckpointError, match=r"weights of .* cannot be loaded"):
            oscar_x.load(copy)


def test_missing_tensors(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        errors.CheckpointError, match=r"incomplete: 1 tensors lack, first model.layers.1.self_attn.k_proj"
    ):
        oscar_x.load(copy)


def test_weights_of_another_shape(copy):
    change_config(copy, intermediate_size=64)
    with pytest.raises(errors.CheckpointError):
        oscar_x.load(copy)


def test_no_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(errors.CheckpointError, match=r"tokenizer of .* cannot be loaded"):
        oscar_x.load(copy)


def test_damaged_gguf(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(errors.CheckpointError):
        oscar_x.load(tmp_path)


def test_dtype_and_attention(tiny):
    loaded = oscar_x.load(tiny("llama"), dtype="bfloat16", device="cpu")
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model.config._attn_implementation == "oscar"
    kept = oscar_x.load(tiny("llama"), device="cpu", attn_implementation="eager")
    assert kept.model.config._attn_implementation == "eager"


def test_unknown_from_pretrained_argument_is_a_type_error(tiny):
    with pytest.raises(TypeError, match="no_such_argument"):
        oscar_x.load(tiny("llama"), no_such_argument=1)


def test_an_unreachable_hub_is_told(monkeypatch):
    from transformers import PreTrainedConfig

    def refuse(*args, **kwargs):
        raise OSError("We couldn't connect.\nCheck your internet connection.")

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", refuse)
    with pytest.raises(errors.UnknownModelError, match=r"owner/model was not found: .*\(We couldn't connect\.\)"):
        oscar_x.load("owner/model")


def test_media_need_a_recent_transformers(tiny_media, monkeypatch):
    monkeypatch.setattr("oscar_x.loading.transformers.__version__", "5.14.0")
    with pytest.raises(errors.MissingPackageError, match=r"need transformers 5\.15 or newer, installed is 5\.14\.0"):
        oscar_x.load(tiny_media("llava"), device="cpu")

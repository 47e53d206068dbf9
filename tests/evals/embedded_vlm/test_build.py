"""The checkpoint folder: published weights unchanged, loadable without code of ours, there whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from oscar_x.evals.embedded_vlm import build
from oscar_x.evals.embedded_vlm.drawing import draw
from oscar_x.evals.embedded_vlm.resnet import PIXEL_MEAN, load_resnet
from oscar_x.evals.embedded_vlm.scenes import scenes


def test_parts_are_the_published_ones(checkpoint, smollm2):
    held = load_file(checkpoint / "model.safetensors")
    tower = {name.removeprefix("model.vision_tower."): t for name, t in held.items() if "vision_tower" in name}
    wanted = load_resnet().state_dict()
    assert tower.keys() == wanted.keys()
    assert all(torch.equal(tower[name], wanted[name]) for name in wanted)
    language = smollm2.model.model.state_dict()
    prefix = "model.language_model."
    assert {name.removeprefix(prefix) for name in held if name.startswith(prefix)} == language.keys()
    for name, tensor in language.items():
        assert torch.equal(held[prefix + name][: len(tensor)], tensor), name


def test_loads_as_a_plain_checkpoint(checkpoint):
    model, info = AutoModelForImageTextToText.from_pretrained(checkpoint, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    projector = load_file(build.projector_path())
    for name, tensor in model.model.multi_modal_projector.state_dict().items():
        assert torch.equal(tensor, projector[name].float())
    config = json.loads((checkpoint / "config.json").read_text())
    assert "quantization_config" not in config["text_config"]
    assert not [path for path in checkpoint.iterdir() if path.suffix == ".py"]


def test_processor_makes_the_pixels_of_training(checkpoint):
    processor = AutoProcessor.from_pretrained(checkpoint)
    image = draw(next(scenes("held-out")))
    content = [{"type": "image"}, {"type": "text", "text": "What color is the star?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert text == "<|im_start|>user\n<image>What color is the star?<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=text, images=[image], return_tensors="pt")
    assert int((inputs["input_ids"] == processor.image_token_id).sum()) == build.TOKENS_PER_IMAGE
    wanted = (np.asarray(image, dtype=np.float32) - np.float32(PIXEL_MEAN)).transpose(2, 0, 1)
    assert np.abs(inputs["pixel_values"][0].numpy() - wanted).max() < 1e-3


def test_image_token_is_never_answered(checkpoint):
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        embeddings = file.get_tensor("model.language_model.embed_tokens.weight")
    torch.testing.assert_close(embeddings[-1], embeddings[:-1].mean(dim=0))


def test_built_once(checkpoint):
    before = (checkpoint / "config.json").stat().st_mtime_ns
    assert build.build_checkpoint(checkpoint) == checkpoint
    assert (checkpoint / "config.json").stat().st_mtime_ns == before


def test_failed_build_leaves_nothing(tmp_path, monkeypatch):
    def broken(folder):
        (folder / "config.json").write_text("{}")
        raise OSError("disk full")

    monkeypatch.setattr(build, "_write", broken)
    with pytest.raises(OSError, match="disk full"):
        build.build_checkpoint(tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_killed_build_is_not_taken_for_a_checkpoint(tmp_path, monkeypatch):
    target = tmp_path / "made"
    killed = (
        "import os; from oscar_x.evals.embedded_vlm import build\n"
        "build._write = lambda folder: ((folder / 'config.json').write_text('half'), os._exit(9))\n"
        f"build.build_checkpoint({str(target)!r})"
    )
    assert subprocess.run([sys.executable, "-c", killed], cwd=tmp_path).returncode == 9
    assert not target.exists()
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))
    monkeypatch.setattr(build, "_write", lambda folder: (folder / "config.json").write_text("whole"))
    assert build.build_checkpoint(target) == target
    assert (target / "config.json").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_default_folder_follows_the_content(opennsfw, smollm2_path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = build.default_folder()
    assert first.parent == tmp_path / "oscar_x"
    other = tmp_path / "projector.safetensors"
    other.write_bytes(build.projector_path().read_bytes() + b" ")
    monkeypatch.setattr(build, "projector_path", lambda: other)
    assert build.default_folder() != first

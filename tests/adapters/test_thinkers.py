"""Thinkers of omni models as checkpoints of their own."""

from __future__ import annotations

import pytest

import oscar_x
from oscar_x.errors import MissingPackageError

GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}


@pytest.mark.parametrize("family", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_a_thinker_answers_as_the_whole_does(support, tiny_media, tmp_path, family):
    whole = oscar_x.load(tiny_media(family), kv_bits=2, device="cpu")
    whole.generator.save_pretrained(tmp_path)
    whole.processor.save_pretrained(tmp_path)
    alone = oscar_x.load(tmp_path, kv_bits=2, device="cpu")
    assert alone.adapter.model_types == (f"{family}_thinker",)
    assert alone.talker is None
    clip = {"type": "video", "video": str(support("clips").clip(tmp_path / "clip.mp4"))}
    image = support("media_cases").part(support("tiny_media"), "image", whole.adapter.media)
    messages = [{"role": "user", "content": [image, clip, {"type": "text", "text": "What is this? " * 10}]}]
    said = whole.chat(messages, use_audio_in_video=True, **GREEDY)
    assert alone.chat(messages, use_audio_in_video=True, **GREEDY) == said
    assert alone.memory().packed_elements > 0
    with pytest.raises(ValueError, match="thinker only writes"):
        alone.speak(messages)


@pytest.mark.parametrize("family", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_omni_models_need_a_recent_transformers(tiny_media, monkeypatch, family):
    monkeypatch.setattr("oscar_x.loading.transformers.__version__", "5.16.0")
    with pytest.raises(MissingPackageError, match=r"Omni\S* needs transformers 5\.17 or newer"):
        oscar_x.load(tiny_media(family), device="cpu")

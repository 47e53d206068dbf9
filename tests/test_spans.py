"""Which tokens stand for which medium, where the processor does not say it."""

from __future__ import annotations

import pytest

import oscar_x
from oscar_x.media import parse_messages
from oscar_x.modality import Modality, Span
from oscar_x.prompts import render
from oscar_x.prompts.spans import aligned_spans

MARKS = {"<i>": Modality.IMAGE, "<a>": Modality.AUDIO}


class Letters:
    """A token a letter."""

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}


def aligned(text, expanded):
    return aligned_spans(Letters(), text, [ord(letter) for letter in expanded], MARKS)


def test_media_among_text():
    assert aligned("see <i>, hear <a>!", "see 111, hear 22!") == [
        Span(Modality.IMAGE, 4, 7),
        Span(Modality.AUDIO, 14, 16),
    ]
    assert aligned("<i>", "111") == [Span(Modality.IMAGE, 0, 3)]
    assert aligned("x<a>", "x22") == [Span(Modality.AUDIO, 1, 3)]
    assert aligned("plain", "plain") == []


def test_tokens_before_the_text_belong_to_no_medium():
    assert aligned("see <i>.", "^see 111.") == [Span(Modality.IMAGE, 5, 8)]


def test_what_cannot_be_told_apart_is_not_guessed():
    assert aligned("<i><a>", "11122") is None
    assert aligned("see <i>.", "other 111.") is None
    assert aligned("see <i>.", "see 111!") is None
    assert aligned("see <i>.", "see .") is None
    assert aligned("plain", "plane") is None


@pytest.mark.parametrize("family", ["qwen2_audio", "qwen2_5_vl", "qwen2_5_omni", "qwen3_omni_moe"])
def test_it_is_what_processors_record(support, tiny_media, tmp_path, family):
    loaded = oscar_x.load(tiny_media(family), device="cpu")
    facts, make, media = loaded.adapter.media, support("tiny_media"), support("media_cases")
    parts = [media.part(make, kind, facts, seed) for seed in range(2) for kind in facts.kinds]
    heard = facts.sound_in_video
    if heard:
        parts = [part for part in parts if part["type"] != "video"]
        parts.insert(1, {"type": "video", "video": str(support("clips").clip(tmp_path / "clip.mp4"))})
    messages = [{"role": "user", "content": [p for part in parts for p in (part, {"type": "text", "text": " and "})]}]
    prompt = loaded.prepare(messages, use_audio_in_video=heard)
    tokenizer, segments = loaded.processor.tokenizer, prompt.stream.segments[0]
    marks = {
        getattr(loaded.processor, f"{kind.name.lower()}_token"): kind
        for kind in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)
        if kind.name.lower() in facts.kinds
    }
    text = render(loaded.processor, loaded.adapter, parse_messages(messages))
    found = aligned_spans(tokenizer, text, prompt["input_ids"][0].tolist(), marks)
    assert found is not None
    assert [(span.start, span.stop) for span in found] == [
        (int(inside[0]), int(inside[-1]) + 1)
        for inside in ((segments == number).nonzero()[:, 0] for number in range(1, len(parts) + 1))
    ]

"""Bad media given to a model: the error names the part, and a session goes on as if nothing had been asked.

tests/media has the table of everything that can be wrong with a medium itself.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import oscar_x
from oscar_x import MediaError, MediaLimits

GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def png(height: int = 60, width: int = 80) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


FRAMES = np.zeros((4, 56, 56, 3), dtype=np.uint8)
SECOND = np.zeros(16000, dtype=np.float32)
IMAGE = {"type": "image", "image": png()}
VIDEO = {"type": "video", "video": FRAMES}
AUDIO = {"type": "audio", "audio": SECOND}
ADDRESS = {"type": "image", "url": "https://example.org/a.png"}
MISSING = {"type": "image", "path": "/nowhere/a.png"}
MARK = "<|image_pad|>"

# name -> (family, parts of the question, words of the error)
CASES: dict[str, tuple[str, list[Any], str]] = {
    "video for an image model": (
        "llava",
        [{"type": "video", "video": FRAMES}],
        r"question\[0\] \(video\): video is not",
    ),
    "audio for an image model": (
        "llava",
        [{"type": "audio", "audio": SECOND}],
        r"\(audio\): audio is not .* LLaVA-1.5 r",
    ),
    "audio for a video model": ("qwen2_5_vl", [AUDIO], r"reads text, image, video"),
    "image for an audio model": ("qwen2_audio", [IMAGE], r"question\[0\] \(image\): image is not allowed here"),
    "placeholder in the text": (
        "llava",
        [IMAGE, "look: <image>"],
        r"question\[1\] \(text\): .*'<image>'",
    ),
    "vision placeholder in the text": (
        "qwen2_5_vl",
        ["<|image_pad|>"],
        r"question\[0\] \(text\): .*stands for a medium",
    ),
    "truncated png": ("llava", [{"type": "image", "image": png()[:60]}], r"question\[0\] \(image\): "),
    "second image broken": ("llava", [IMAGE, {"type": "image", "image": b"no image"}], r"question\[1\] \(image\): "),
    "no frames": ("qwen2_5_vl", [{"type": "video", "video": FRAMES[:0]}], r"question\[0\] \(video\): "),
    "nan in the sound": ("qwen2_audio", [{"type": "audio", "audio": SECOND * np.nan}], r"question\[0\] \(audio\): "),
    "rate of the sound": (
        "qwen2_audio",
        [{"type": "audio", "audio": SECOND, "sampling_rate": 5}],
        r"question\[0\] \(audio\): sampling_rate",
    ),
    "a side of 100,000 pixels": (
        "llava",
        [{"type": "image", "image": np.zeros((1, 100_000, 3), dtype=np.uint8)}],
        r"question\[0\] \(image\): .*100,?000",
    ),
    "address": (
        "llava",
        [{"type": "image", "url": "https://example.org/a.png"}],
        r"question\[0\] \(image\): .*allow_urls",
    ),
    "unknown type": ("llava", [{"type": "smell", "smell": "rose"}], r"question\[0\].*'smell' is not known"),
    "missing file": (
        "llava",
        [{"type": "image", "path": "/nowhere/a.png"}],
        r"question\[0\] \(image\): .*does not exist",
    ),
}


@pytest.fixture(scope="module")
def begun(tiny_media):
    """Family -> (model, a session over one medium, what it answers)."""
    held: dict[str, Any] = {}

    def begin(family: str) -> Any:
        if family not in held:
            model = oscar_x.load(tiny_media(family), device="cpu")
            part = {"type": "audio", "audio": SECOND} if family == "qwen2_audio" else IMAGE
            session = model.new_session([part, "x" * 250])
            held[family] = session, session.fork().ask("What is it?", **GREEDY)
        return held[family]

    return begin


@pytest.mark.parametrize("name", CASES)
def test_a_bad_question_leaves_the_session_as_it_was(begun, name):
    family, parts, words = CASES[name]
    session, expected = begun(family)
    tokens, columns = session.tokens, session.cache.get_seq_length()
    with pytest.raises(MediaError, match=words):
        session.ask(parts, **GREEDY)
    assert session.tokens == tokens
    assert session.cache.get_seq_length() == columns
    assert session.fork().ask("What is it?", **GREEDY) == expected


@pytest.mark.parametrize("name", CASES)
def test_a_bad_message_names_its_place(begun, name):
    family, parts, words = CASES[name]
    session, _ = begun(family)
    with pytest.raises(MediaError, match=words.replace(r"question\[", r"messages\[1\].content\[")):
        session.model.chat([{"role": "system", "content": "Answer."}, {"role": "user", "content": parts}], **GREEDY)


def test_sound_asked_of_a_model_that_hears_none(begun):
    session, _ = begun("qwen2_5_vl")
    message = [{"role": "user", "content": [VIDEO, "What?"]}]
    with pytest.raises(MediaError, match=r"use_audio_in_video is not allowed here: Qwen2.5-VL does not hear videos"):
        session.model.chat(message, use_audio_in_video=True)


def test_limits_of_the_model_hold(begun):
    session, _ = begun("llava")
    model = session.model
    before = model.media_limits
    try:
        model.media_limits = MediaLimits(max_pixels=1000)
        with pytest.raises(MediaError, match=r"messages\[0\].content\[0\] \(image\): .*max_pixels"):
            model.chat([{"role": "user", "content": [IMAGE]}])
        model.media_limits = MediaLimits(max_parts=1)
        with pytest.raises(MediaError, match=r"content\[1\] \(image\): .*max_parts"):
            model.chat([{"role": "user", "content": [IMAGE, IMAGE]}])
    finally:
        model.media_limits = before


def test_processor_output_with_placeholders_but_no_medium(begun):
    """What reaches generate() past the messages is transformers' to judge; nothing of it stays behind."""
    session, expected = begun("llava")
    model = session.model
    ids = model.prepare([{"role": "user", "content": [IMAGE, "What?"]}])["input_ids"]
    with pytest.raises(ValueError, match="do not match"):
        model.generate(
            {
                "input_ids": ids[:, 5:],
                "pixel_values": model.prepare([{"role": "user", "content": [IMAGE, IMAGE]}])["pixel_values"],
            },
            **GREEDY,
        )
    assert session.fork().ask("What is it?", **GREEDY) == expected


def test_media_without_a_chat_template(tiny_media):
    model = oscar_x.load(tiny_media("llava"), device="cpu")
    model.processor.chat_template = None
    with pytest.raises(ValueError, match="no chat template, so media cannot be placed"):
        model.chat([{"role": "user", "content": [IMAGE]}])
    assert isinstance(model.chat("text alone", **GREEDY), str)

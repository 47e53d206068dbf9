"""Chat messages in the forms of the ecosystem, and what is refused of them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oscar_x.media import MediaError, MediaLimits, MediaPart, TextPart, parse_messages, parse_parts

PICTURE = Image.new("RGB", (4, 4))
PIXELS = np.zeros((4, 4, 3), np.uint8)
TENSOR = torch.zeros(3, 4, 4)


def one(part: object) -> MediaPart:
    (found,) = parse_parts([part])
    assert isinstance(found, MediaPart)
    return found


@pytest.mark.parametrize(
    ("part", "kind", "source"),
    [
        ({"type": "image", "image": "a.png"}, "image", "a.png"),
        ({"type": "image", "image": PICTURE}, "image", PICTURE),
        ({"type": "image", "image": PIXELS}, "image", PIXELS),
        ({"type": "image", "image": TENSOR}, "image", TENSOR),
        ({"type": "image", "image": b"abc"}, "image", b"abc"),
        ({"type": "image", "image": Path("a.png")}, "image", Path("a.png")),
        ({"type": "image", "path": "a.png"}, "image", Path("a.png")),
        ({"type": "image", "url": "https://a.b/c"}, "image", "https://a.b/c"),
        ({"type": "image", "url": "data:image/png;base64,AA=="}, "image", "data:image/png;base64,AA=="),
        ({"type": "image", "base64": "AA=="}, "image", "data:;base64,AA=="),
        ({"type": "image", "base64": "data:image/png;base64,AA=="}, "image", "data:image/png;base64,AA=="),
        ({"type": "image_url", "image_url": {"url": "https://a.b/c"}}, "image", "https://a.b/c"),
        ({"type": "image_url", "image_url": {"url": "https://a.b/c", "detail": "auto"}}, "image", "https://a.b/c"),
        ({"type": "image_url", "image_url": "https://a.b/c"}, "image", "https://a.b/c"),
        ({"type": "input_image", "image_url": "https://a.b/c"}, "image", "https://a.b/c"),
        ({"image": "a.png"}, "image", "a.png"),
        ({"type": "video", "video": "a.mp4"}, "video", "a.mp4"),
        ({"type": "video", "video": [PICTURE, PICTURE]}, "video", [PICTURE, PICTURE]),
        ({"type": "video_url", "video_url": {"url": "https://a.b/c"}}, "video", "https://a.b/c"),
        ({"type": "video", "path": "a.mp4"}, "video", Path("a.mp4")),
        ({"type": "audio", "audio": "a.wav"}, "audio", "a.wav"),
        ({"type": "audio", "audio": (PIXELS, 16_000)}, "audio", (PIXELS, 16_000)),
        ({"type": "audio_url", "audio_url": {"url": "https://a.b/c"}}, "audio", "https://a.b/c"),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            "audio",
            "data:audio/wav;base64,AA==",
        ),
    ],
)
def test_a_source_is_found_under_every_name(part, kind, source):
    found = one(part)
    assert found.kind == kind
    assert found.source is source or found.source == source
    assert found.where == f"parts[0] ({kind})"
    assert found.options == {}


def test_messages_keep_order_roles_and_what_else_they_carry():
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "video", "video": "a.mp4", "fps": 2, "max_frames": np.int64(8), "video_end": None},
                {"type": "text", "text": "What is this?"},
                "And this?",
                {"type": "image", "image": "a.png", "max_pixels": 1000},
            ],
        },
        {"role": "assistant", "content": "", "tool_calls": [1]},
    ]
    system, user, assistant = parse_messages(messages)
    assert (system.role, system.parts) == ("system", (TextPart("Be brief.", "messages[0].content (text)"),))
    assert [part.where for part in user.parts] == [
        "messages[1].content[0] (video)",
        "messages[1].content[1] (text)",
        "messages[1].content[2] (text)",
        "messages[1].content[3] (image)",
    ]
    assert user.parts[0].options == {"fps": 2, "max_frames": 8}
    assert user.parts[3].options == {"max_pixels": 1000}
    assert assistant.extra == {"tool_calls": [1]}
    assert user.extra == {}


def test_a_text_alone_is_a_turn_of_the_user():
    (message,) = parse_messages("Hello")
    assert (message.role, message.parts[0].text) == ("user", "Hello")


def test_parts_may_stand_alone():
    assert [part.where for part in parse_parts({"type": "image", "image": "a.png"})] == ["parts[0] (image)"]
    text, image = parse_parts(["Look:", {"image": "a.png"}], where="media")
    assert (text.text, image.where) == ("Look:", "media[1] (image)")


def test_names_of_qwen_vl_utils_are_understood():
    assert one({"type": "video", "video": "a.mp4", "nframes": 4}).options == {"num_frames": 4}
    assert one({"type": "video", "video": [PICTURE], "sample_fps": 1.5}).options == {"fps": 1.5}


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "messages: empty"),
        (7, "messages: a text or a list of messages is needed, got int"),
        ({"role": "user", "content": "x"}, "messages: a text or a list of messages is needed, got dict"),
        (["x"], "messages[0]: 'x' is not allowed"),
        ([{"role": "user"}], "messages[0]: {'role': 'user'} is not allowed; use {'role': ..., 'content': ...}"),
        ([{"role": 1, "content": "x"}], "messages[0].role: 1 is not allowed"),
        ([{"role": "user", "content": None}], "messages[0].content: a text or a list of parts is needed, got NoneType"),
        ([{"role": "user", "content": [3]}], "messages[0].content[0]: a part is a text or"),
        ([{"role": "user", "content": [{}]}], "messages[0].content[0]: has no type"),
        ([{"role": "user", "content": [{"image": "a", "video": "b"}]}], "messages[0].content[0]: has no type"),
        ([{"role": "user", "content": [{"type": "imag"}]}], "messages[0].content[0]: type 'imag' is not known"),
    ],
)
def test_wrong_messages_are_named(messages, says):
    with pytest.raises(MediaError, match=re.escape(says)):
        parse_messages(messages)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "text"}, "(text): {'type': 'text'} is not allowed"),
        ({"type": "text", "text": 1}, "(text): "),
        ({"type": "text", "text": "x", "image": "a"}, "(text): "),
        ({"type": "image"}, "(image): has no source; give exactly one of image, image_url, url, path, base64"),
        ({"type": "image", "image": None}, "(image): has no source"),
        ({"type": "image", "video": "a.mp4"}, "(image): has no source"),
        ({"type": "image", "image": "a", "url": "http://b"}, "(image): has image and url"),
        ({"type": "image", "image": ""}, "(image): image='' is not allowed"),
        ({"type": "image", "image": 3}, "(image): image=3 is not allowed"),
        ({"type": "image", "image": True}, "(image): image=True is not allowed"),
        ({"type": "image", "url": "a.png"}, "(image): 'a.png' is no address"),
        ({"type": "image", "url": 3}, "(image): 3 is no address"),
        ({"type": "image", "path": b"a"}, "(image): path=1 bytes is not allowed"),
        ({"type": "image", "base64": 3}, "(image): base64 data must be text"),
        ({"type": "image", "image": "a.png", "fps": 2}, "(image): 'fps' is no option of this kind"),
        ({"type": "image_url", "image_url": {"uri": "x"}}, "(image): image_url="),
        ({"type": "image_url", "image_url": {"url": "http://a", "detail": "low"}}, "(image): image_url="),
        ({"type": "input_audio", "input_audio": "AA=="}, "(audio): input_audio must be"),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "a b"}}, "(audio): format='a b'"),
        ({"type": "video", "video": "a", "frames": 3}, "(video): 'frames' is no option of this kind; known are fps"),
        ({"type": "video", "video": "a", "num_frames": 2.5}, "(video): num_frames=2.5 is not allowed"),
        ({"type": "video", "video": "a", "num_frames": True}, "(video): num_frames=True is not allowed"),
        ({"type": "video", "video": "a", "num_frames": 2, "nframes": 2}, "(video): nframes is given twice"),
        ({"type": "audio", "audio": "a", "sampling_rate": "16k"}, "(audio): sampling_rate='16k' is not allowed"),
    ],
)
def test_wrong_parts_are_named(part, says):
    with pytest.raises(MediaError, match=re.escape(f"messages[0].content[1] {says}")):
        parse_messages([{"role": "user", "content": ["Look:", part]}])


def test_long_values_are_not_repeated():
    payload = base64.b64encode(bytes(10**5)).decode()
    with pytest.raises(MediaError) as caught:
        parse_messages([{"role": "user", "content": [{"type": "image", "url": payload}]}])
    assert len(str(caught.value)) < 200


def test_the_number_of_media_is_limited():
    parts = [{"type": "image", "image": "a.png"}, "text"] * 3
    assert len(parse_parts(parts, MediaLimits(max_parts=3))) == 6
    with pytest.raises(MediaError, match=re.escape("parts[4] (image): one medium too many; max_parts=2 are allowed")):
        parse_parts(parts, MediaLimits(max_parts=2))
    with pytest.raises(MediaError, match=re.escape("messages[1].content[0] (image): one medium too many")):
        parse_messages([{"role": "user", "content": [parts[0]]}] * 2, MediaLimits(max_parts=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bytes": 0},
        {"max_pixels": 1.5},
        {"max_frames": True},
        {"max_video_seconds": 0},
        {"url_timeout": float("inf")},
        {"max_audio_seconds": float("nan")},
        {"allow_urls": 1},
        {"allowed_root": "/no/such/folder"},
    ],
)
def test_limits_check_themselves(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}="):
        MediaLimits(**wrong)

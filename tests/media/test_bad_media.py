"""Whatever is wrong with a medium ends in an error that begins with the part's name, and in silence on stderr."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from oscar_x.media import MediaError, MediaLimits, MediaPart, load_audio, load_image, load_video

Case = Callable[[SimpleNamespace, Any], Any]  # (makers, tmp_path) -> source


def load(part: MediaPart, limits: MediaLimits, **wishes: Any) -> Any:
    if part.kind == "audio":
        return load_audio(part, limits, wishes.pop("sampling_rate", 16_000))
    return load_image(part, limits) if part.kind == "image" else load_video(part, limits, **wishes)


def cut(data: bytes, share: float = 0.5) -> bytes:
    return data[: int(len(data) * share)]


def scrambled(data: bytes) -> bytes:
    """The same with a third of its bytes noise."""
    third = len(data) // 3
    return data[:third] + np.random.default_rng(0).bytes(third) + data[2 * third :]


def written(tmp_path: Any, name: str, data: bytes) -> str:
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


def linked_out(tmp_path: Any, data: bytes) -> str:
    outside, root = tmp_path / "secret.png", tmp_path / "root"
    outside.write_bytes(data)
    (root / "link.png").symlink_to(outside)
    return str(root / "link.png")


def samples(value: float, count: int = 1600) -> np.ndarray:
    wave = np.zeros(count, np.float32)
    wave[count // 2] = value
    return wave


IMAGES: dict[str, tuple[Case, str]] = {
    "truncated png": (lambda m, t: cut(m.image("PNG")), "cannot be read as image"),
    "truncated jpeg": (lambda m, t: cut(m.image("JPEG", 640, 480)), "truncated"),
    "truncated gif": (lambda m, t: cut(m.image("GIF")), "cannot be read as image"),
    "truncated webp": (lambda m, t: cut(m.image("WEBP")), "image"),
    "truncated tiff": (lambda m, t: cut(m.image("TIFF")), "image"),
    "jpeg without body": (lambda m, t: m.image("JPEG")[:160], "cannot be read|no image"),
    "png without data": (lambda m, t: m.png_header(100, 100)[:33], "no image of a known format"),
    "png with a broken body": (lambda m, t: scrambled(m.image("PNG")), "cannot be read as image"),
    "no bytes": (lambda m, t: b"", "is empty"),
    "text named png": (lambda m, t: written(t, "a.png", b"hello" * 100), "no image of a known format"),
    "postscript": (lambda m, t: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" * 9, "no image of a known"),
    "sound in an image": (lambda m, t: m.sound("WAV"), "no image of a known format"),
    "video in an image": (lambda m, t: m.video(), "no image of a known format"),
    "long side": (lambda m, t: m.png_header(100_000, 1), "100000 x 1 pixels; max_side=16384"),
    "bomb": (lambda m, t: m.png_header(16_000, 16_000, bytes(1 << 20)), "too many pixels"),
    "small bomb": (lambda m, t: m.png_header(10_000, 10_000, bytes(1 << 20)), "10000 x 10000 pixels; max_pixels"),
    "a directory": (lambda m, t: str(t), "no regular file"),
    "a device": (lambda m, t: "/dev/zero", "no regular file"),
    "a missing path": (lambda m, t: str(t / "none.png"), "does not exist"),
    "a path with a zero": (lambda m, t: "a\0b.png", "cannot be opened"),
    "an endless path": (lambda m, t: "a" * 100_000, "cannot be opened"),
    "a link in a circle": (lambda m, t: os.symlink(t / "x", t / "x") or str(t / "x"), "cannot be opened"),
    "an address": (lambda m, t: "https://example.com/a.png", "allow_urls=True"),
    "a file address": (lambda m, t: "file:///etc/passwd", "file:// is not allowed"),
    "another scheme": (lambda m, t: "ftp://example.com/a.png", "ftp:// is not allowed"),
    "data of another type": (lambda m, t: m.data_uri(m.image(), "text/html"), "of type 'text/html', not image"),
    "data of another kind": (lambda m, t: m.data_uri(m.sound(), "audio/wav"), "of type 'audio/wav', not image"),
    "damaged base64": (lambda m, t: "data:image/png;base64,iVBOR!!!", "base64 data are damaged"),
    "base64 of odd length": (lambda m, t: "data:image/png;base64,iVBORw0KG", "base64 data are damaged"),
    "data without comma": (lambda m, t: "data:image/png;base64", "no comma"),
    "empty data": (lambda m, t: "data:image/png;base64,", "is empty"),
    "an array of one dimension": (lambda m, t: np.zeros(10, np.uint8), "2 or 3 dimensions"),
    "an array of four": (lambda m, t: np.zeros((1, 4, 4, 3), np.uint8), "2 or 3 dimensions"),
    "an empty array": (lambda m, t: np.zeros((0, 4, 3), np.uint8), "is empty"),
    "five channels": (lambda m, t: np.zeros((8, 8, 5), np.uint8), "no dimension of 1, 3 or 4 channels"),
    "floats to 255": (lambda m, t: np.full((8, 8, 3), 200.0), "floats from 200 to 200"),
    "negative floats": (lambda m, t: -np.ones((8, 8, 3), np.float32), "floats from -1"),
    "NaN pixels": (lambda m, t: np.full((8, 8, 3), np.nan, np.float32), "floats from nan"),
    "64-bit integers": (lambda m, t: np.zeros((8, 8, 3), np.int64), "dtype int64"),
    "complex pixels": (lambda m, t: torch.zeros(3, 8, 8, dtype=torch.complex64), "dtype complex64"),
    "objects": (lambda m, t: np.array([[None]]), "dtype object"),
    "a wide array": (lambda m, t: np.zeros((1, 20_000, 3), np.uint8), "max_side"),
    "grey values out of range": (lambda m, t: Image.new("I", (8, 8), 70_000), "0 to 65535"),
    "a number": (lambda m, t: 7, "int is no image"),
    "a list": (lambda m, t: [1, 2], "list is no image"),
}
SOUNDS: dict[str, tuple[Case, str]] = {
    "truncated wav": (lambda m, t: cut(m.sound("WAV")), "cut off"),
    "wav of a header": (lambda m, t: m.sound("WAV")[:20], "cut off"),
    "truncated flac": (lambda m, t: cut(m.sound("FLAC")), "cannot be read as audio"),
    "truncated ogg": (lambda m, t: cut(m.sound("OGG")), "samples|cannot be read|header"),
    "truncated mp3": (lambda m, t: cut(m.sound("MP3", seconds=2.0)), "cut off"),
    "broken flac": (lambda m, t: scrambled(m.sound("FLAC")), "cannot be read as audio"),
    "wav without samples": (lambda m, t: m.sound("WAV", seconds=0), "no samples"),
    "NaN in a wav": (lambda m, t: nan_wav(m), "sample of nan"),
    "text": (lambda m, t: written(t, "a.wav", b"hello" * 100), "no known format"),
    "playlist": (lambda m, t: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no known format"),
    "concatenation": (lambda m, t: b"ffconcat version 1.0\nfile a.wav\n", "no known format"),
    "image in a sound": (lambda m, t: m.image("PNG"), "no known format"),
    "silent video": (lambda m, t: m.video(), "no sound track"),
    "NaN samples": (lambda m, t: samples(np.nan), "sample of nan"),
    "infinite samples": (lambda m, t: samples(-np.inf), "sample of inf"),
    "integers as floats": (lambda m, t: samples(12_000.0), "sample of 12000"),
    "17 channels in a file": (lambda m, t: m.sound("WAV", channels=17), "17 channels"),
    "no samples": (lambda m, t: np.zeros(0, np.float32), r"shape \(0,\)"),
    "three dimensions": (lambda m, t: np.zeros((1, 1, 16), np.float32), r"shape \(1, 1, 16\)"),
    "channels last": (lambda m, t: np.zeros((1600, 2), np.float32), "1600 channels"),
    "complex samples": (lambda m, t: np.zeros(16, np.complex64), "dtype complex64"),
    "64-bit samples": (lambda m, t: np.zeros(16, np.int64), "dtype int64"),
    "rate 0 beside samples": (lambda m, t: (samples(0.1), 0), "sampling rate 0"),
    "absurd rate beside samples": (lambda m, t: (samples(0.1), 10**9), "sampling rate 1000000000"),
    "half a rate": (lambda m, t: (samples(0.1), 16_000.5), "sampling rate 16000.5"),
    "absurd rate in a file": (lambda m, t: with_rate(m.sound("WAV"), 4_000_000_000), "rate|cannot be read|format"),
    "a list of numbers": (lambda m, t: [0.1, 0.2], "list is no sound"),
}
VIDEOS: dict[str, tuple[Case, str]] = {
    "truncated mp4": (lambda m, t: cut(m.video()), "header is broken"),
    "truncated matroska": (lambda m, t: cut(m.video("matroska", size=(320, 240))), "cut off"),
    "truncated webm": (lambda m, t: cut(m.video("webm", "libvpx-vp9"), 0.7), "cut off"),
    "truncated avi": (lambda m, t: cut(m.video("avi", "mpeg4", size=(320, 240))), "damaged"),
    "broken mp4": (lambda m, t: scrambled(m.video(frames=60)), "cannot be|damaged|broken"),
    "broken matroska": (lambda m, t: scrambled(m.video("matroska", frames=60)), "cannot be|damaged|broken|cut off"),
    "no bytes": (lambda m, t: b"", "is empty"),
    "text": (lambda m, t: written(t, "a.mp4", b"hello" * 100), "no known format"),
    "playlist": (lambda m, t: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no known format"),
    "image in a video": (lambda m, t: m.image("PNG"), "no known format"),
    "sound in a video": (lambda m, t: m.sound("WAV"), "no known format"),
    "sound alone in a container": (lambda m, t: m.sound_alone(), "no pictures, only audio"),
    "10 hours": (lambda m, t: m.video(frames=11, seconds_apart=3600), "36000.*max_video_seconds=7200"),
    "10 hours by the header": (lambda m, t: m.with_duration(m.video("matroska"), 36_000), "lasts 36000.*7200"),
    "longer than the header": (
        lambda m, t: m.with_duration(m.video("matroska", frames=4, seconds_apart=3600), 1),
        "lasts 1[0-9]+.*7200",
    ),
    "shorter than the header": (lambda m, t: m.with_duration(m.video("matroska"), 60), "2.0. of 60.00 seconds"),
    "data of another kind": (lambda m, t: m.data_uri(m.image(), "image/png"), "not video"),
    "no frames": (lambda m, t: [], "has 0 frames"),
    "an array without frames": (lambda m, t: np.zeros((0, 8, 8, 3), np.uint8), "has 0 frames"),
    "an array of three dimensions": (lambda m, t: np.zeros((8, 8, 3), np.uint8), "4 dimensions"),
    "too many frames": (lambda m, t: np.zeros((769, 2, 2, 3), np.uint8), "769 frames; 1 to max_frames=768"),
    "frames of floats to 255": (lambda m, t: np.full((4, 8, 8, 3), 200.0), "frame 0: floats from 200"),
    "frames of several sizes": (lambda m, t: [m.scene(8, 8), m.scene(8, 9)], r"frame 1: has \(8, 9\) pixels"),
    "a broken frame": (lambda m, t: [m.scene(8, 8), cut(m.image("PNG"))], "frame 1: cannot be read"),
    "a missing frame": (lambda m, t: [m.scene(8, 8), str(t / "none.png")], "frame 1: .*does not exist"),
    "a dictionary": (lambda m, t: {"frames": 1}, "dict is no video"),
}
OPTIONS: dict[str, tuple[str, Case, dict[str, Any], str]] = {
    "unknown option": ("image", lambda m, t: m.image(), {"max_pixel": 9}, "'max_pixel' is no option"),
    "no pixels": ("image", lambda m, t: m.image(), {"max_pixels": 0}, "max_pixels=0"),
    "enlarged bomb": ("image", lambda m, t: m.image(), {"min_pixels": 10**9}, "max_"),
    "negative fps": ("video", lambda m, t: m.video(), {"fps": -1}, "fps=-1"),
    "fps 0": ("video", lambda m, t: m.video(), {"fps": 0}, "fps=0"),
    "NaN fps": ("video", lambda m, t: m.video(), {"fps": float("nan")}, "fps=nan"),
    "fps as text": ("video", lambda m, t: m.video(), {"fps": "2"}, "fps='2'"),
    "fps and number": ("video", lambda m, t: m.video(), {"fps": 1, "num_frames": 4}, "exclude each other"),
    "more frames than allowed": ("video", lambda m, t: m.video(), {"num_frames": 1000}, "num_frames=1000"),
    "start after end": ("video", lambda m, t: m.video(), {"video_start": 1, "video_end": 0.5}, "video_start=1"),
    "start at end": ("video", lambda m, t: m.video(), {"video_start": 1, "video_end": 1}, "video_start=1"),
    "start behind the video": ("video", lambda m, t: m.video(), {"video_start": 100}, "no frame lies within"),
    "negative start": ("video", lambda m, t: m.video(), {"video_start": -1}, "video_start=-1"),
    "least above most": ("video", lambda m, t: m.video(), {"min_frames": 8, "max_frames": 4}, "min_frames=8"),
    "rate 0": ("audio", lambda m, t: samples(0.1), {"sampling_rate": 0}, "sampling_rate=0"),
    "absurd rate": ("audio", lambda m, t: samples(0.1), {"sampling_rate": 10**9}, "sampling_rate=1000000000"),
    "rate of a file": ("audio", lambda m, t: m.sound(), {"sampling_rate": 8000}, "a file says its own"),
    "two rates": ("audio", lambda m, t: (samples(0.1), 8000), {"sampling_rate": 16_000}, "disagree"),
}
LIMITS: dict[str, tuple[str, Case, dict[str, Any], str]] = {
    "large file": ("image", lambda m, t: written(t, "a", m.image("BMP")), {"max_bytes": 999}, "max_bytes=999"),
    "large payload": ("image", lambda m, t: m.image("BMP"), {"max_bytes": 999}, "max_bytes=999"),
    "large data": ("image", lambda m, t: m.data_uri(m.image("BMP"), "image/bmp"), {"max_bytes": 999}, "max_bytes=999"),
    "large image": ("image", lambda m, t: Image.new("RGB", (99, 99)), {"max_pixels": 9000}, "99 x 99 pixels"),
    "large frame": ("video", lambda m, t: m.video(), {"max_pixels": 999}, "64 x 48 pixels"),
    "larger frame than the header": ("video", lambda m, t: with_small_header(m.video()), {"max_pixels": 999}, ""),
    "long sound": ("audio", lambda m, t: m.sound(), {"max_audio_seconds": 0.4}, "0.5 seconds of sound"),
    "long samples": ("audio", lambda m, t: samples(0.1), {"max_audio_seconds": 0.05}, "0.1 seconds of sound"),
    "long video": ("video", lambda m, t: m.video(), {"max_video_seconds": 1}, "lasts 2"),
    "many frames": ("video", lambda m, t: m.video(rate=500, frames=200), {"max_video_seconds": 0.5}, "more than 120"),
    "path outside": ("image", lambda m, t: written(t, "a.png", m.image()), {"allowed_root": "root"}, "outside"),
    "dots to outside": ("image", lambda m, t: f"{t}/root/../a.png", {"allowed_root": "root"}, "outside"),
    "missing path outside": ("image", lambda m, t: str(t / "none.png"), {"allowed_root": "root"}, "outside"),
    "link to outside": ("image", lambda m, t: linked_out(t, m.image()), {"allowed_root": "root"}, "outside"),
    "frame outside": ("video", lambda m, t: [written(t, "a.png", m.image())], {"allowed_root": "root"}, "outside"),
}
WISHES: dict[str, tuple[Case, dict[str, Any], str]] = {
    "silent video": (lambda m, t: m.video(), {"sound_rate": 16_000}, "no sound track, and use_audio_in_video"),
    "frames alone": (lambda m, t: [m.scene()], {"sound_rate": 16_000}, "no sound, and use_audio_in_video"),
    "broken sound": (
        lambda m, t: m.with_noise_as_sound(m.video("matroska", sound_seconds=2.0)),
        {"sound_rate": 16_000},
        "cannot be read as video",
    ),
}


def nan_wav(make: SimpleNamespace) -> bytes:
    data = bytearray(make.sound("WAV", subtype="FLOAT"))
    data[-400:-396] = struct.pack("<f", float("nan"))
    return bytes(data)


def with_rate(wav: bytes, rate: int) -> bytes:
    return wav[:24] + struct.pack("<I", rate) + wav[28:]


def with_small_header(mp4: bytes) -> bytes:
    """16 x 16 in the sample description, where the coded pictures are larger."""
    place = mp4.index(b"avc1", mp4.index(b"stsd")) + 28
    return mp4[:place] + struct.pack(">HH", 16, 16) + mp4[place + 4 :]


def kinds(table: dict[str, Any], kind: str) -> list[Any]:
    return [pytest.param(kind, case, {}, {}, {}, says, id=f"{kind}: {name}") for name, (case, says) in table.items()]


CASES = [
    *kinds(IMAGES, "image"),
    *kinds(SOUNDS, "audio"),
    *kinds(VIDEOS, "video"),
    *(pytest.param(k, c, o, {}, {}, says, id=f"option: {name}") for name, (k, c, o, says) in OPTIONS.items()),
    *(pytest.param(k, c, {}, li, {}, says, id=f"limit: {name}") for name, (k, c, li, says) in LIMITS.items()),
    *(pytest.param("video", c, {}, {}, w, says, id=f"wish: {name}") for name, (c, w, says) in WISHES.items()),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "case", "options", "limits", "wishes", "says"), CASES)
def test_it_is_refused_by_name(make, tmp_path, capfd, kind, case, options, limits, wishes, says):
    (tmp_path / "root").mkdir()
    source = case(make, tmp_path)
    if "allowed_root" in limits:
        limits = {"allowed_root": tmp_path / limits["allowed_root"]}
    part = make.part(kind, source, **options)
    with pytest.raises(MediaError) as caught:
        load(part, MediaLimits(**limits), **wishes)
    message = str(caught.value)
    assert message.startswith(part.where)
    assert re.search(says, message)
    assert "\n" not in message
    assert len(message) < 400
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_a_part_of_another_kind_is_refused(make, kind):
    for other, loader in (("image", load_image), ("audio", load_audio), ("video", load_video)):
        if other != kind:
            part = make.part(kind, make.image())
            arguments = (16_000,) if other == "audio" else ()
            with pytest.raises(MediaError, match=re.escape(part.where) + f": .* needed here, not {kind}"):
                loader(part, MediaLimits(), *arguments)


@pytest.mark.parametrize("rate", [0, -1, 10**9, 16_000.0, None])
def test_a_model_rate_that_is_none_is_the_callers_error(make, rate):
    with pytest.raises(ValueError, match="sampling_rate="):
        load_audio(make.part("audio", make.sound()), MediaLimits(), rate)

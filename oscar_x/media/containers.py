"""Opening media containers with FFmpeg (PyAV), and nothing but containers of video and sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ..errors import MediaError

# demuxers by FFmpeg's names. Playlists (hls, concat) are not among them: they would open other files and addresses.
VIDEO_FORMATS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "gif")
CLOCK = 1_000_000  # units a second of a container's own times, as opposed to its streams'
AUDIO_FORMATS = (*VIDEO_FORMATS[:-1], "mp3", "aac", "wav", "w64", "flac", "aiff", "au", "caf", "amr", "ac3")


@contextmanager
def open_container(file: BinaryIO, formats: tuple[str, ...], where: str) -> Iterator[Any]:
    """An av container for reading.

    Raises:
        MediaError: it is none of these formats, or its header is broken.
    """
    import av

    file.seek(0)
    # nested addresses would be opened through a protocol: none is allowed
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "none"}
    try:
        opened = av.open(file, options=options, metadata_errors="ignore")
    except av.FFmpegError as error:
        raise MediaError(f"{where}: is of no known format, or its header is broken") from error
    with opened as container:
        yield container


def header_seconds(said: Any) -> float | None:
    """Duration that the header of a stream or a container promises; None where it says nothing."""
    return float(said.duration * (getattr(said, "time_base", None) or 1 / CLOCK)) if said.duration else None

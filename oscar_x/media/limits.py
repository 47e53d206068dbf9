"""How much one medium may cost. Every default of the folder is here."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path

_COUNTS = ("max_bytes", "max_pixels", "max_side", "max_frames", "max_video_pixels", "max_parts")
_SECONDS = ("max_video_seconds", "max_audio_seconds", "url_timeout")
_SWITCHES = ("allow_urls", "allow_private_urls")


@dataclass(frozen=True)
class MediaLimits:
    """What media of a conversation may cost and where they may come from.

    Attributes:
        max_bytes: of a file, a download or an encoded payload, as it is stored.
        max_pixels: height times width of a source image or source frame. Pillow refuses image files above 179 million
            whatever stands here.
        max_side: pixels of the longer side of either.
        max_frames: kept of one video.
        max_video_pixels: of all kept frames of one video together; three bytes each. Frames are shrunk to keep it.
        max_video_seconds: of a video, whole, whatever part of it is asked for.
        max_audio_seconds: of a sound, or of the sound track of a video.
        max_parts: images, videos and sounds in one conversation.
        allow_urls: whether http and https addresses are fetched.
        allow_private_urls: whether they may lead to addresses that are not public (loopback, private networks,
            link-local such as the metadata service of clouds). A server that takes messages from others leaves it off.
        url_timeout: seconds that a download may take in all.
        allowed_root: folder that paths must lie in once symbolic links are followed; None allows any path.

    Raises:
        ValueError: a limit that is not a positive number, a root that is no folder.
    """

    max_bytes: int = 512 * 2**20
    max_pixels: int = 64 * 2**20
    max_side: int = 16_384
    max_frames: int = 768
    max_video_pixels: int = 192 * 2**20
    max_video_seconds: float = 2 * 3600.0
    max_audio_seconds: float = 2 * 3600.0
    max_parts: int = 256
    allow_urls: bool = False
    allow_private_urls: bool = False
    url_timeout: float = 30.0
    allowed_root: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name in _COUNTS and (type(value) is not int or value < 1):
                raise ValueError(f"{name}={value!r} is not allowed; use a whole number of at least 1")
            if name in _SECONDS and (type(value) not in (int, float) or not 0 < value < math.inf):
                raise ValueError(f"{name}={value!r} is not allowed; use a positive number of seconds")
            if name in _SWITCHES and type(value) is not bool:
                raise ValueError(f"{name}={value!r} is not allowed; use True or False")
        if self.allowed_root is not None and not Path(self.allowed_root).is_dir():
            raise ValueError(f"allowed_root={str(self.allowed_root)!r} is not a folder")

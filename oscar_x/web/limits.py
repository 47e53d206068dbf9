"""What visitors of the page may upload and ask. Every default of the page is here."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..media import MediaLimits


def _media() -> MediaLimits:
    return MediaLimits(
        max_bytes=64 * 2**20, max_frames=256, max_video_seconds=600.0, max_audio_seconds=600.0, max_parts=1
    )


@dataclass(frozen=True)
class WebLimits:
    """Bounds of one server.

    Attributes:
        media: of an uploaded clip; nothing but the upload itself is ever opened.
        clips: held at the same time; the oldest is forgotten for a new one.
        question: characters of a question.
        max_new_tokens: longest answer.
    """

    media: MediaLimits = field(default_factory=_media)
    clips: int = 4
    question: int = 500
    max_new_tokens: int = 64

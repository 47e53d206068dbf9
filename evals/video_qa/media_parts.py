"""Message parts of the media that annotation files name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .questions import Clip, Part, Question


@dataclass(frozen=True)
class MediaSettings:
    """How media are read; None leaves the choice to the model's family.

    Attributes:
        fps: frames a second to keep of a video.
        max_frames: frames to keep at most.
        max_pixels: pixels of a frame at most.
        sound: hear the sound track of videos (omni models).
    """

    fps: float | None = None
    max_frames: int | None = None
    max_pixels: int | None = None
    sound: bool = False

    def video(self, path: Path) -> Part:
        chosen = {"fps": self.fps, "max_frames": self.max_frames, "max_pixels": self.max_pixels}
        return {"type": "video", "path": str(path)} | {key: value for key, value in chosen.items() if value is not None}


Kind = Literal["video", "audio", "image"]


def clip_of(
    clip_id: str,
    media: Sequence[tuple[Kind, Path]],
    questions: Sequence[Question],
    settings: MediaSettings,
    group: str = "",
) -> Clip:
    """A clip of media files."""
    return Clip(clip_id, _content(list(media), settings), tuple(questions), settings.sound, group)


def _content(media: list[tuple[Kind, Path]], settings: MediaSettings) -> Callable[[], list[Part]]:
    def parts() -> list[Part]:
        return [settings.video(path) if kind == "video" else {"type": kind, "path": str(path)} for kind, path in media]

    return parts


class ClipBuilder:
    """Gathers questions that annotation files list one by one into one clip for each medium, in order."""

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._clips: dict[str, tuple[list[tuple[Kind, Path]], list[Question], str]] = {}

    def add(self, clip_id: str, media: Sequence[tuple[Kind, Path]], question: Question, group: Any = "") -> None:
        """One more question on a clip."""
        self._clips.setdefault(clip_id, (list(media), [], str(group)))[1].append(question)

    def clips(self) -> list[Clip]:
        return [
            clip_of(clip_id, media, questions, self._settings, group)
            for clip_id, (media, questions, group) in self._clips.items()
        ]

"""The media of conversations, decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..adapters.base import Adapter, MediaFacts
from ..errors import MediaError
from ..media import MediaLimits, MediaPart, Message, Video, load_audio, load_image, load_video
from .checks import media_facts
from .prompt import KINDS
from .soundtracks import AudioSlot, check_window


class Media(dict[str, list[list[Any]]]):
    """Loaded media by kind, a list a conversation.

    Attributes:
        slots: every sound, those of videos included.
    """

    def __init__(self, media: Mapping[str, list[list[Any]]]) -> None:
        super().__init__(media)
        self.slots: list[AudioSlot] = []

    def flat(self, kind: str) -> list[Any]:
        """All of one kind, in the order of the conversations."""
        return [item for row in self.get(kind, ()) for item in row]


def load_media(
    conversations: Sequence[Sequence[Message]],
    adapter: Adapter,
    processor: Any,
    limits: MediaLimits,
    use_audio_in_video: bool,
) -> Media:
    """Every medium of the conversations, decoded within the limits.

    Raises:
        MediaError: names the message part.
    """
    facts = media_facts(adapter)
    if use_audio_in_video and not facts.sound_in_video:
        raise MediaError(f"messages: use_audio_in_video is not allowed here: {adapter.name} does not hear videos")
    extractor = getattr(processor, "feature_extractor", None)
    rate = getattr(extractor, "sampling_rate", None)
    media = Media({kind: [[] for _ in conversations] for kind in KINDS})
    for row, messages in enumerate(conversations):
        for part in (part for message in messages for part in message.parts if isinstance(part, MediaPart)):
            medium = _load(part, facts, limits, rate, use_audio_in_video)
            samples = medium.sound if isinstance(medium, Video) else medium if part.kind == "audio" else None
            if samples is not None:
                video = len(media.flat("video")) if part.kind == "video" else None
                media.slots.append(AudioSlot(samples, video, part.where))
                check_window(media.slots[-1], facts, extractor)
            if isinstance(medium, Video) and facts.equal_frames:
                _check_frames(part, medium, media.flat("video"), adapter.name)
            media[part.kind][row].append(medium)
    return media


def _load(part: MediaPart, facts: MediaFacts, limits: MediaLimits, rate: int | None, sound: bool) -> Any:
    if part.kind == "image":
        return load_image(part, limits)
    if part.kind == "audio":
        assert rate is not None  # families that read audio have a feature extractor
        return load_audio(part, limits, rate)
    return load_video(
        part,
        limits,
        fps=facts.fps,
        num_frames=facts.num_frames,
        max_frames=facts.max_frames,
        sound_rate=rate if sound else None,
    )


def _check_frames(part: MediaPart, video: Video, before: Sequence[Video], family: str) -> None:
    count, first = len(video.frames), len(before[0].frames) if before else len(video.frames)
    if count != first:
        raise MediaError(
            f"{part.where}: a video of {count} frames beside one of {first} is not allowed here: {family} reads videos "
            "of one length together; set num_frames, or give them in different turns of a session"
        )

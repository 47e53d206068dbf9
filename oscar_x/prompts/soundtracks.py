"""What a processor must be told about sounds and about the time between frames, beside the media themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..adapters.base import MediaFacts
from ..errors import MediaError
from ..media import Video

# files rarely hold frames at exactly the rate asked for; nearer than this they count as sampled at it
_SAME_RATE = 0.1


@dataclass(frozen=True, eq=False)
class AudioSlot:
    """One sound of a batch of conversations, in the order in which they mention them.

    Attributes:
        samples: float32 [samples] at the feature extractor's rate.
        video: the video whose sound track it is, counted from 0 over the batch; None for a sound by itself.
        where: name of the message part.
    """

    samples: np.ndarray
    video: int | None
    where: str


def check_window(slot: AudioSlot, facts: MediaFacts, extractor: Any) -> None:
    """Refuse a sound that the processor would cut off without a word.

    Raises:
        MediaError: names the part.
    """
    if facts.audio_window and len(slot.samples) > extractor.n_samples:
        seconds, most = len(slot.samples) / extractor.sampling_rate, extractor.n_samples / extractor.sampling_rate
        raise MediaError(f"{slot.where}: {seconds:.1f} s of sound; the model hears {most:g} s at a time: cut it up")


def audio_arguments(processor: Any, slots: Sequence[AudioSlot]) -> dict[str, Any]:
    """Arguments that hand the sounds to a processor, those of videos included."""
    if not slots:
        return {}
    arguments = {
        "audio": [slot.samples for slot in slots],
        "sampling_rate": processor.feature_extractor.sampling_rate,
    }
    if not heard_in_video(slots):
        return arguments
    if hasattr(processor, "load_audio_from_video"):
        return arguments | {
            "load_audio_from_video": True,
            "audio_from_video_indices": [slot.video for slot in slots],
        }
    return arguments | {"use_audio_in_video": True}  # earlier transformers: all sounds in the order of the prompt


def heard_in_video(slots: Sequence[AudioSlot]) -> bool:
    """Whether any of them is the sound track of a video."""
    return any(slot.video is not None for slot in slots)


def rate_arguments(facts: MediaFacts, videos: Sequence[Video], slots: Sequence[AudioSlot]) -> dict[str, Any]:
    """The frame rate, for a processor that takes one for all videos.

    Raises:
        MediaError: videos of different rates with their sound: the processor lays frames beside sound by that one rate.
    """
    if facts.grid_seconds is None or not videos:
        return {}
    rates = [_rate(video, facts) for video in videos]
    other = next((slot for slot in slots if slot.video is not None and rates[slot.video] != rates[0]), None)
    if other is not None and other.video is not None:
        raise MediaError(
            f"{other.where}: {rates[other.video]:.2f} frames a second, the first video {rates[0]:.2f}; videos that are "
            "heard must be sampled alike: set fps, or give them in different turns of a session"
        )
    return {"fps": rates[0]}


def time_grids(output: dict[str, Any], facts: MediaFacts, videos: Sequence[Video], processor: Any) -> None:
    """Put each video's own seconds a temporal grid into the processor's output."""
    if facts.grid_seconds is not None and videos:
        frames = processor.video_processor.temporal_patch_size
        seconds = [frames / _rate(video, facts) for video in videos]
        output[facts.grid_seconds] = torch.tensor(seconds, dtype=output[facts.grid_seconds].dtype)


def _rate(video: Video, facts: MediaFacts) -> float:
    if facts.fps is not None and abs(video.fps / facts.fps - 1) <= _SAME_RATE:
        return facts.fps
    return video.fps

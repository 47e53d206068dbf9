"""Which frames of a video are kept. The rules are those of qwen-vl-utils, so that its settings mean the same here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MediaError
from .limits import MediaLimits
from .sizes import qwen_vl_utils


@dataclass(frozen=True)
class Sampling:
    """What the model and the part ask for, the part's own wish first.

    Attributes:
        fps: frames to keep a second; None keeps num_frames, or all.
        num_frames: frames to keep, evenly spread; a shorter video keeps all it has.
        min_frames: of fps sampling; None for the rule's own.
        max_frames: never more than these.
        start, stop: seconds of the part that is asked for; stop None is the end.
    """

    fps: float | None
    num_frames: int | None
    min_frames: int | None
    max_frames: int
    start: float
    stop: float | None

    def frame_range(self, total: int, source_fps: float, where: str) -> tuple[int, int]:
        """First and last frame inside of start and stop.

        Raises:
            MediaError: there is none.
        """
        first = math.ceil(self.start * source_fps)
        last = total - 1 if self.stop is None else min(math.floor(self.stop * source_fps), total - 1)
        if first > last:
            asked = f"video_start={self.start:g}, video_end={'end' if self.stop is None else format(self.stop, 'g')}"
            raise MediaError(f"{where}: no frame lies within {asked}; it lasts {total / source_fps:.2f} seconds")
        return first, last

    def choose(self, first: int, last: int, source_fps: float) -> list[int]:
        """Indices of the frames to keep among first..last, evenly spread with both ends."""
        count = self._count(last - first + 1, source_fps)
        return np.linspace(first, last, count).round().astype(int).tolist()

    def _count(self, total: int, source_fps: float) -> int:
        most = min(total, self.max_frames)
        if self.fps is None or most < 2:
            return most if self.num_frames is None else min(most, self.num_frames)
        if self.fps >= source_fps:
            return most // 2 * 2  # what the rule says too, with a warning on stderr
        wishes = {"fps": self.fps, "max_frames": most}
        if self.min_frames is not None:
            wishes["min_frames"] = min(self.min_frames, most)
        return qwen_vl_utils().smart_nframes(wishes, total, source_fps)


def resolve_sampling(
    options: Mapping[str, Any],
    where: str,
    limits: MediaLimits,
    fps: float | None,
    num_frames: int | None,
    max_frames: int | None,
) -> Sampling:
    """The sampling of a part: its checked options over the model's wishes, the limits over both.

    Raises:
        MediaError: an option beyond the limits.
        ValueError: wishes of the model that are not allowed.
    """
    if fps is not None and num_frames is not None:
        raise ValueError(f"fps={fps} and num_frames={num_frames} exclude each other")
    for name, value in (("fps", fps), ("num_frames", num_frames), ("max_frames", max_frames)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} is not allowed; use a positive number")
    for name in ("num_frames", "max_frames", "min_frames"):
        if options.get(name, 0) > limits.max_frames:
            raise MediaError(f"{where}: {name}={options[name]} is above the limit max_frames={limits.max_frames}")
    if "fps" in options:
        fps, num_frames = options["fps"], None
    elif "num_frames" in options:
        fps, num_frames = None, options["num_frames"]
    return Sampling(
        fps=fps,
        num_frames=num_frames,
        min_frames=options.get("min_frames"),
        max_frames=min(options.get("max_frames", max_frames or limits.max_frames), limits.max_frames),
        start=options.get("video_start", 0.0),
        stop=options.get("video_end"),
    )

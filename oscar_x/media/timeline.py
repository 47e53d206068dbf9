"""The frames of a video file by their time stamps, read from its packets without decoding one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MediaError
from .containers import CLOCK, header_seconds
from .limits import MediaLimits
from .sizes import check_size
from .tracks import check_complete

HIGHEST_FPS = 240  # over the longest video that is allowed: bounds what a scan holds


@dataclass(frozen=True, eq=False)
class Timeline:
    """What is in a video stream.

    Attributes:
        stamps: int64 [frames], presentation time of each frame in units of the stream's time base, ascending.
        keys: int64 [key frames], indices of frames that decoding can begin at.
        fps: frames a second.
        start: seconds on the container's clock at which the first frame is shown.
    """

    stamps: np.ndarray
    keys: np.ndarray
    fps: float
    start: float

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.stamps) / self.fps


def video_stream(container: Any, where: str) -> Any:
    """The first video stream that is no cover picture.

    Raises:
        MediaError: there is none.
    """
    for stream in container.streams.video:
        if not (stream.disposition & type(stream.disposition).attached_pic):
            return stream
    raise MediaError(f"{where}: has no pictures, only {', '.join({s.type for s in container.streams}) or 'nothing'}")


def read_timeline(container: Any, stream: Any, where: str, limits: MediaLimits) -> Timeline:
    """Every packet of a file, by its stamp. Headers are checked first, and then against what is there.

    Raises:
        MediaError: too long, too large, too many frames, damaged or cut off.
    """
    context = stream.codec_context
    if context.width or context.height:
        check_size(context.width, context.height, where, limits)
    for promised in (header_seconds(stream), header_seconds(container)):
        _check_seconds(promised or 0.0, where, limits)
    stamps, keys, end = _read_packets(container, stream, where, limits)
    if not stamps:
        raise MediaError(f"{where}: has no frames")
    ascending = np.unique(stamps)
    if len(ascending) != len(stamps):
        raise MediaError(f"{where}: two of its frames have the same time stamp")
    fps = _frame_rate(ascending, stream)
    start = float(ascending[0] * stream.time_base)
    timeline = Timeline(ascending, np.searchsorted(ascending, np.sort(keys)), fps, start)
    _check_seconds(max(timeline.duration, float(ascending[-1] * stream.time_base) - start), where, limits)
    begin = container.start_time / CLOCK if container.start_time else 0.0
    check_complete(end - begin, header_seconds(container), where)
    return timeline


def _read_packets(container: Any, stream: Any, where: str, limits: MediaLimits) -> tuple[list[int], list[int], float]:
    """Stamps of all frames and of key frames, and the second at which the last packet of any stream ends."""
    most = int(limits.max_video_seconds * HIGHEST_FPS)
    stamps: list[int] = []
    keys: list[int] = []
    end = 0.0
    for packet in container.demux(stream, *container.streams.audio):
        if packet.size == 0:
            continue
        stamp = packet.dts if packet.pts is None else packet.pts
        if packet.is_corrupt or (stamp is None and packet.stream is stream):
            raise MediaError(f"{where}: is damaged or has no time stamps after {end:.2f} seconds")
        if stamp is None:
            continue
        end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
        # frames before the first key frame cannot be decoded, and an edit list may discard others
        if packet.stream is stream and not packet.is_discard and (keys or packet.is_keyframe):
            stamps.append(stamp)
            if packet.is_keyframe:
                keys.append(stamp)
            if len(stamps) > most:
                raise MediaError(f"{where}: has more than {most} frames, {HIGHEST_FPS} for each second that is allowed")
    return stamps, keys, end


def _frame_rate(stamps: np.ndarray, stream: Any) -> float:
    """What the header says where it agrees with the stamps, and what the stamps say where not."""
    said = float(stream.average_rate or stream.guessed_rate or 0)
    if len(stamps) == 1:
        return said if said > 0 else 1.0
    measured = (len(stamps) - 1) / float((stamps[-1] - stamps[0]) * stream.time_base)
    return said if abs(said - measured) <= 0.01 * measured else measured


def _check_seconds(seconds: float, where: str, limits: MediaLimits) -> None:
    if seconds > limits.max_video_seconds:
        raise MediaError(
            f"{where}: lasts {seconds:.1f} seconds; max_video_seconds={limits.max_video_seconds:g} are allowed"
        )

"""The frames of a video file by their time stamps, read from its packets without decoding one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MediaError
from .containers import header_seconds
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
    packets = _read_packets(container, stream, where, limits)
    if not packets.stamps:
        raise MediaError(f"{where}: has no frames")
    stamps = np.unique(packets.stamps)
    if len(stamps) != len(packets.stamps):
        raise MediaError(f"{where}: two of its frames have the same time stamp")
    fps = _frame_rate(stamps, stream)
    start = float(stamps[0] * stream.time_base)
    timeline = Timeline(stamps, np.searchsorted(stamps, np.sort(packets.keys)), fps, start)
    _check_seconds(max(timeline.duration, float(stamps[-1] * stream.time_base) - start), where, limits)
    check_complete(packets.end - min(packets.begin, 0.0), header_seconds(container), where)
    return timeline


@dataclass
class _Packets:
    """What the packets of a file say.

    Attributes:
        stamps, keys: of frames that are shown, and of those that decoding can begin at.
        begin, end: seconds between which all streams lie, frames left out by an edit list included.
    """

    stamps: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0


def _read_packets(container: Any, stream: Any, where: str, limits: MediaLimits) -> _Packets:
    most = int(limits.max_video_seconds * HIGHEST_FPS)
    found, first_key = _Packets(), None
    for packet in container.demux():
        stamp = packet.dts if packet.pts is None else packet.pts
        ours = packet.stream is stream and packet.size > 0
        if packet.is_corrupt or (ours and stamp is None):
            raise MediaError(f"{where}: is damaged or has no time stamps after {found.end:.2f} seconds")
        if packet.size == 0 or stamp is None:
            continue
        found.begin = min(found.begin, float(stamp * packet.time_base))
        found.end = max(found.end, float((stamp + (packet.duration or 0)) * packet.time_base))
        if not ours:
            continue
        if first_key is None and packet.is_keyframe:
            first_key = stamp
        # nothing shown before the first key frame can be decoded; an edit list leaves frames out that others refer to
        if first_key is not None and stamp >= first_key and not packet.is_discard:
            found.stamps.append(stamp)
            if packet.is_keyframe:
                found.keys.append(stamp)
            if len(found.stamps) > most:
                raise MediaError(f"{where}: has more than {most} frames, {HIGHEST_FPS} for each second that is allowed")
    return found


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

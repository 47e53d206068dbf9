"""Chosen frames of a video file, decoded one after another; only the kept ones are held, at their final size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import MediaError
from .limits import MediaLimits
from .sizes import check_size
from .timeline import Timeline

# containers whose index finds key frames; in others a jump may land anywhere
_SEEKABLE = ("mov", "matroska")


def decode_frames(
    container: Any,
    stream: Any,
    timeline: Timeline,
    wanted: list[int],
    where: str,
    limits: MediaLimits,
    size: Callable[[int, int], tuple[int, int]],
) -> np.ndarray:
    """Frames as they are shown: uint8 [len(wanted), height, width, 3].

    Args:
        wanted: ascending indices into the timeline.
        size: of width and height of the first frame as shown, those to keep.

    Raises:
        MediaError: a frame that cannot be decoded, is damaged or too large.
    """
    # the decoder itself refuses larger frames; it counts coded sizes, which are padded to whole blocks
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels + 256 * limits.max_side)}
    kept: np.ndarray | None = None
    for place, frame in enumerate(_walk(container, stream, timeline, wanted, where)):
        check_size(frame.width, frame.height, where, limits)
        turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counterclockwise
        sideways = turns % 2 == 1
        if kept is None:
            width, height = size(*((frame.height, frame.width) if sideways else (frame.width, frame.height)))
            kept = np.empty((len(wanted), height, width, 3), np.uint8)
        width, height = (kept.shape[1], kept.shape[2]) if sideways else (kept.shape[2], kept.shape[1])
        kept[place] = np.rot90(_rgb(frame, width, height), turns)
    if kept is None:
        raise MediaError(f"{where}: has no frames")
    return kept


def _rgb(frame: Any, width: int, height: int) -> np.ndarray:
    if (frame.width, frame.height) == (width, height):
        return frame.to_ndarray(format="rgb24")
    return frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="BICUBIC")


def _walk(container: Any, stream: Any, timeline: Timeline, wanted: list[int], where: str) -> Iterator[Any]:
    """The wanted frames in order; skips to a key frame where one lies between."""
    seekable = container.format.name.startswith(_SEEKABLE)
    frames, reached, begun = container.decode(stream), -1, 0
    for target in wanted:
        place = int(np.searchsorted(timeline.keys, target, side="right")) - 1
        key = int(timeline.keys[place]) if place >= 0 else 0  # the key frame before may be left out by an edit list
        if seekable and key > reached + 1:
            container.seek(int(timeline.stamps[key]), stream=stream)
            frames, begun = container.decode(stream), key
        for frame in frames:
            reached = _index(frame, timeline)
            # frames shown before the key frame that decoding began at may refer to what was skipped
            if frame.is_corrupt and reached >= begun:
                raise MediaError(f"{where}: frame {reached} is damaged")
            if reached >= target:
                break
        if reached != target:
            raise MediaError(f"{where}: frame {target} of {len(timeline.stamps)} cannot be decoded")
        yield frame


def _index(frame: Any, timeline: Timeline) -> int:
    """Place of a decoded frame in the timeline; -1 for one that is not in it."""
    if frame.pts is None:
        return -1
    place = int(np.searchsorted(timeline.stamps, frame.pts))
    return place if place < len(timeline.stamps) and timeline.stamps[place] == frame.pts else -1

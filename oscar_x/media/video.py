"""Videos: files, payloads, arrays and lists of frames to sampled RGB frames, with the sound where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..errors import MediaError
from .containers import VIDEO_FORMATS, open_container
from .decode import decode_frames
from .fetch import decoding, is_encoded, open_source
from .image import load_image
from .limits import MediaLimits
from .messages import MediaPart
from .options import HIGHEST_RATE, LOWEST_RATE, check_options, is_rate
from .pixels import is_array
from .sampling import Sampling, resolve_sampling
from .sizes import fitted_size
from .timeline import Timeline, read_timeline, video_stream
from .tracks import container_track, read_track

GIVEN_FPS = 2.0  # of given frames whose rate nobody says, as qwen-vl-utils takes them


@dataclass(frozen=True, eq=False)
class Video:
    """Frames kept of a video.

    Attributes:
        frames: uint8 [kept, height, width, 3], RGB, upright.
        source_fps: frames a second of the source.
        frames_indices: of each kept frame, its place among the source's frames.
        total_num_frames: frames of the source.
        duration: seconds of the source.
        fps: kept frames a second.
        sound: float32 [samples], mono, of the same stretch of time, silent until the sound begins; None if not asked.
    """

    frames: np.ndarray
    source_fps: float
    frames_indices: list[int]
    total_num_frames: int
    duration: float
    fps: float
    sound: np.ndarray | None


def load_video(
    part: MediaPart,
    limits: MediaLimits,
    *,
    fps: float | None = None,
    num_frames: int | None = None,
    max_frames: int | None = None,
    max_pixels: int | None = None,
    sound_rate: int | None = None,
    factor: int = 1,
) -> Video:
    """The video of a part. Memory holds the kept frames and what one decoder needs, however long the video is.

    Args:
        part: of kind "video"; source a path, address, data URI or bytes of a file; pixels [frames, height, width, 3] or
            [frames, 3, height, width]; or a list of frames, each anything that is an image. Given frames are taken as
            sampled already: all are kept, up to num_frames or max_frames.
        fps: frames to keep a second, by the rule of qwen-vl-utils: an even number, 4 or more where the video has them.
        num_frames: instead, frames to keep of the whole, evenly spread; all where it has fewer. Neither: all.
        max_frames: never more than these.
        max_pixels: of a kept frame; larger ones are shrunk while decoding.
        sound_rate: samples a second of the sound track to return as well; None leaves it.
        factor: sides become multiples of it where frames are resized.

    The part's options fps, num_frames, max_frames and max_pixels stand above these; limits stand above all.

    Raises:
        MediaError: whatever is wrong with the medium; the text begins with part.where.
        MissingPackageError: a rule of qwen-vl-utils is needed and it or torchvision is not there.
        ValueError: an argument that is not allowed.
    """
    if part.kind != "video":
        raise MediaError(f"{part.where}: a video is needed here, not {part.kind}")
    if sound_rate is not None and not is_rate(sound_rate):
        raise ValueError(f"sound_rate={sound_rate!r} is not allowed; use {LOWEST_RATE} to {HIGHEST_RATE}")
    options = check_options(part.options, part.kind, part.where)
    sizes = _Sizes(part, limits, max_pixels, factor)
    if is_encoded(part.source):
        sampling = resolve_sampling(options, part.where, limits, fps, num_frames, max_frames)
        with open_source(part, limits) as file, decoding(part):
            return _from_file(file, part, limits, sampling, sizes, sound_rate)
    if sound_rate is not None:
        raise MediaError(f"{part.where}: given frames have no sound, and use_audio_in_video needs it")
    rate = options.pop("fps", fps or GIVEN_FPS)
    sampling = resolve_sampling(options, part.where, limits, None, num_frames, max_frames)
    return _from_frames(part, limits, sampling, sizes, rate)


@dataclass(frozen=True)
class _Sizes:
    """Size of kept frames, given how many there are."""

    part: MediaPart
    limits: MediaLimits
    max_pixels: int | None
    factor: int

    def fit(self, width: int, height: int, count: int) -> tuple[int, int]:
        most = self.part.options.get("max_pixels", self.max_pixels)
        room = self.limits.max_video_pixels // count
        return fitted_size(
            width,
            height,
            self.part.where,
            min_pixels=self.part.options.get("min_pixels"),
            max_pixels=room if most is None else min(most, room),
            factor=self.factor,
        )


def _from_file(
    file: BinaryIO, part: MediaPart, limits: MediaLimits, sampling: Sampling, sizes: _Sizes, sound_rate: int | None
) -> Video:
    where = part.where
    with open_container(file, VIDEO_FORMATS, where) as container:
        stream = video_stream(container, where)
        if sound_rate is not None and not container.streams.audio:
            raise MediaError(f"{where}: has no sound track, and use_audio_in_video needs it")
        timeline = read_timeline(container, stream, where, limits)
    total = len(timeline.stamps)
    first, last = sampling.frame_range(total, timeline.fps, where)
    wanted = sampling.choose(first, last, timeline.fps)
    with open_container(file, VIDEO_FORMATS, where) as container:
        stream = video_stream(container, where)
        size = partial(sizes.fit, count=len(wanted))
        frames = decode_frames(container, stream, timeline, wanted, where, limits, size)
    sound = None if sound_rate is None else _sound(file, where, limits, sampling, timeline, sound_rate)
    kept_fps = len(wanted) / (last - first + 1) * timeline.fps
    return Video(frames, timeline.fps, wanted, total, timeline.duration, kept_fps, sound)


def _sound(
    file: BinaryIO, where: str, limits: MediaLimits, sampling: Sampling, timeline: Timeline, rate: int
) -> np.ndarray:
    start = timeline.start + sampling.start
    stop = None if sampling.stop is None else timeline.start + sampling.stop
    with open_container(file, VIDEO_FORMATS, where) as container:
        return read_track(container_track(container, where), rate, limits, where, start, stop)


def _from_frames(part: MediaPart, limits: MediaLimits, sampling: Sampling, sizes: _Sizes, rate: float) -> Video:
    source, where = part.source, part.where
    if is_array(source) and source.ndim != 4:
        raise MediaError(f"{where}: a video has 4 dimensions, this array has the shape {tuple(source.shape)}")
    if not is_array(source) and not (isinstance(source, Sequence) and not isinstance(source, str)):
        raise MediaError(
            f"{where}: {type(source).__name__} is no video; use a path, bytes, an array or tensor, or a list of frames"
        )
    total = len(source)
    if not 0 < total <= limits.max_frames:
        raise MediaError(f"{where}: has {total} frames; 1 to max_frames={limits.max_frames} are allowed")
    first, last = sampling.frame_range(total, rate, where)
    wanted = sampling.choose(first, last, rate)
    kept = np.empty((0, 0, 0, 3), np.uint8)
    seen = (0, 0)
    for place, index in enumerate(wanted):
        image = load_image(MediaPart("image", source[index], f"{where} frame {index}"), limits)
        if place == 0:
            seen, (width, height) = image.size, sizes.fit(*image.size, len(wanted))
            kept = np.empty((len(wanted), height, width, 3), np.uint8)
        if image.size != seen:
            raise MediaError(f"{where} frame {index}: has {image.size} pixels, the frames before it {seen}")
        kept[place] = _resized(image, kept.shape[2], kept.shape[1])
    return Video(kept, rate, wanted, total, total / rate, len(wanted) / (last - first + 1) * rate, None)


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(
        image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)
    )

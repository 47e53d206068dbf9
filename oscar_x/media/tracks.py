"""Sound tracks of files, decoded, mixed down and resampled block by block: memory holds the result and no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from ..errors import MediaError
from .containers import AUDIO_FORMATS, header_seconds, open_container
from .limits import MediaLimits
from .options import HIGHEST_RATE, LOWEST_RATE, is_rate
from .sources import short

# how files begin that libsndfile reads as well as any; MP3 goes to FFmpeg, since libsndfile's reader writes to stderr
_SNDFILE = (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"riff")
_BLOCK = 1 << 16
MAX_CHANNELS = 16
_LOUDEST = 64.0  # of float samples whose full scale is 1: integers stored as floats are far above
_MISSING = (0.25, 0.05)  # seconds, or share of the duration, by which headers of whole files are off


@dataclass(frozen=True)
class Track:
    """A sound track that is about to be read.

    Attributes:
        rate: samples a second.
        seconds: duration that the header promises, None if it says nothing.
        blocks: float [samples, channels], in order.
        start: seconds on the container's clock at which the first block begins.
    """

    rate: int
    seconds: float | None
    blocks: Iterable[np.ndarray]
    start: float = 0.0


@contextmanager
def open_track(file: BinaryIO, where: str) -> Iterator[Track]:
    """The sound of a file: libsndfile where it can, FFmpeg for all else.

    Raises:
        MediaError: no sound in it. Errors of the decoders come through.
    """
    magic = file.read(4)
    if magic in _SNDFILE:
        import soundfile

        _check_riff(file, magic, where)
        file.seek(0)
        try:
            opened = soundfile.SoundFile(_Seekable(file))
        except soundfile.LibsndfileError:
            opened = None  # Ogg and WAV also hold codecs that libsndfile lacks
        if opened is not None:
            with opened:
                check_channels(opened.channels, where)
                seconds = opened.frames / opened.samplerate
                yield Track(opened.samplerate, seconds, opened.blocks(_BLOCK, dtype="float32", always_2d=True))
            return
    with open_container(file, AUDIO_FORMATS, where) as container:
        yield container_track(container, where)


def container_track(container: Any, where: str) -> Track:
    """The first sound track of an open container.

    Raises:
        MediaError: it has none.
    """
    if not container.streams.audio:
        raise MediaError(f"{where}: has no sound track")
    stream = container.streams.audio[0]
    frames = container.decode(stream)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"{where}: has no samples")
    # the duration of a video is not that of its sound
    seconds = header_seconds(stream) or (None if container.streams.video else header_seconds(container))
    # headers of some AAC files say half the rate: the frames know
    return Track(first.sample_rate, seconds, _blocks(chain([first], frames), where), first.time or 0.0)


def _blocks(frames: Iterable[Any], where: str) -> Iterator[np.ndarray]:
    from av import AudioResampler

    # interleaved: of planes, PyAV reads past the eighth of a frame with more channels
    to_float = AudioResampler(format="flt")
    for frame in frames:
        channels = len(frame.layout.channels)
        check_channels(channels, where)
        frame.pts = None  # samples stay as they come, whatever gaps their stamps say
        for floats in to_float.resample(frame):
            yield floats.to_ndarray().reshape(-1, channels)


def read_track(
    track: Track,
    rate: int,
    limits: MediaLimits,
    where: str,
    start: float | None = None,
    stop: float | None = None,
) -> np.ndarray:
    """A track as float32 [samples] at another rate, its channels averaged as librosa.to_mono does.

    Args:
        start: second on the container's clock to begin at, with silence until the track begins; None for its beginning.
        stop: second to end before; None for the track's end.

    Raises:
        MediaError: too long, cut off, not finite, or nothing in it.
    """
    check_rate(track.rate, where)
    if track.seconds is not None:
        check_seconds(track.seconds, where, limits)
    pieces, heard = [np.zeros(0, np.float32)], 0
    resample = _resampler(track.rate, rate)
    for block in track.blocks:
        heard += len(block)
        check_seconds(heard / track.rate, where, limits)
        mono = block.mean(1, dtype=np.float32)
        check_finite(mono, where)
        pieces.append(resample(mono, False))
    if heard == 0:
        raise MediaError(f"{where}: has no samples")
    check_complete(heard / track.rate, track.seconds, where)
    pieces.append(resample(np.zeros(0, np.float32), True))
    begin = track.start if start is None else start
    check_seconds(max(track.start - begin, 0.0) + heard / track.rate, where, limits)  # silence counts as well
    first = round((begin - track.start) * rate)
    samples = np.concatenate([np.zeros(max(-first, 0), np.float32), *pieces])[max(first, 0) :]
    kept = samples if stop is None else samples[: round((stop - begin) * rate)]
    if len(kept) == 0:
        raise MediaError(f"{where}: has no sound in the part that is asked for")
    return kept


def _resampler(source: int, target: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function of (samples, whether they are the last): the resampler that librosa uses, fed in blocks."""
    if source == target:
        return lambda samples, last: samples
    import soxr

    return soxr.ResampleStream(source, target, 1, dtype="float32", quality="HQ").resample_chunk


def check_rate(rate: Any, where: str) -> None:
    """Refuse a sampling rate that no recorder has."""
    if not is_rate(rate):
        raise MediaError(f"{where}: sampling rate {short(rate)} is not allowed; use {LOWEST_RATE} to {HIGHEST_RATE}")


def check_channels(channels: int, where: str) -> None:
    """Refuse more channels than any recording has: most likely they are samples."""
    if channels > MAX_CHANNELS:
        raise MediaError(f"{where}: {channels} channels; use [channels, samples] with at most {MAX_CHANNELS} channels")


def check_seconds(seconds: float, where: str, limits: MediaLimits) -> None:
    """Refuse a sound that is too long."""
    if seconds > limits.max_audio_seconds:
        raise MediaError(
            f"{where}: {seconds:.1f} seconds of sound; max_audio_seconds={limits.max_audio_seconds:g} are allowed"
        )


def check_finite(samples: np.ndarray, where: str) -> None:
    """Refuse NaN, infinity and integers that were stored as floats."""
    loudest = float(np.abs(samples).max(initial=0))
    if not loudest <= _LOUDEST:  # false for NaN
        raise MediaError(f"{where}: a sample of {loudest:g} is not allowed; floats have full scale at -1 and 1")


def check_complete(found: float, promised: float | None, where: str) -> None:
    """Refuse a medium that ends well before its header says: it is cut off or its header lies."""
    if promised is not None and promised - found > max(_MISSING[0], _MISSING[1] * promised):
        raise MediaError(
            f"{where}: ends after {found:.2f} of {promised:.2f} seconds; it is cut off or its header wrong"
        )


class _Seekable:
    """A file as libsndfile sees it: a seek to before its beginning, which broken headers cause, goes nowhere. An error
    raised in a callback of the library would be printed and lost."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self.read, self.readinto = file.tell, file.read, file.readinto  # type: ignore[attr-defined]
        self._seek = file.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return self.tell()


def _check_riff(file: BinaryIO, magic: bytes, where: str) -> None:
    """A WAV that is cut off reads as a shorter one; its first size field tells. Writers to pipes leave it 0 or full."""
    size = int.from_bytes(file.read(4), "little")
    found = file.seek(0, os.SEEK_END) - 8
    if magic == b"RIFF" and found + 1 < size < 0x7FFF_0000:
        raise MediaError(f"{where}: ends after {found} of {size} bytes; it is cut off")

"""Sounds: files, payloads and sample arrays to mono float32 at the model's rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import MediaError
from .fetch import decoding, is_encoded, open_source
from .limits import MediaLimits
from .messages import MediaPart
from .options import HIGHEST_RATE, LOWEST_RATE, check_options, is_rate
from .pixels import as_numpy, is_array
from .sources import short
from .tracks import check_channels, check_finite, check_rate, check_seconds, open_track, read_track


def load_audio(part: MediaPart, limits: MediaLimits, sampling_rate: int) -> np.ndarray:
    """The sound of a part, its channels averaged: float32 [samples] at sampling_rate.

    Args:
        part: of kind "audio"; source a path, address, data URI or bytes of a sound file or a video with sound; samples
            [samples] or [channels, samples], floats or integers of full scale; (samples, rate); or
            {"array": samples, "sampling_rate": rate}. Bare samples are taken at their option sampling_rate, and
            without it at the model's.
        sampling_rate: samples a second that the model takes.

    Raises:
        MediaError: whatever is wrong with the medium; the text begins with part.where.
        ValueError: sampling_rate is none.
    """
    if not is_rate(sampling_rate):
        raise ValueError(f"sampling_rate={sampling_rate!r} is not allowed; use {LOWEST_RATE} to {HIGHEST_RATE}")
    if part.kind != "audio":
        raise MediaError(f"{part.where}: a sound is needed here, not {part.kind}")
    check_options(part.options, part.kind, part.where)
    if is_encoded(part.source):
        if "sampling_rate" in part.options:
            raise MediaError(f"{part.where}: sampling_rate is for arrays of samples; a file says its own")
        with open_source(part, limits) as file, decoding(part), open_track(file, part.where) as track:
            return read_track(track, sampling_rate, limits, part.where)
    samples, given = _samples_and_rate(part)
    rate = sampling_rate if given is None else given
    check_rate(rate, part.where)
    check_seconds(samples.shape[-1] / rate, part.where, limits)
    mono = _mono(samples, part.where)
    if rate == sampling_rate:
        return mono
    import librosa

    with decoding(part):
        return librosa.resample(mono, orig_sr=rate, target_sr=sampling_rate).astype(np.float32, copy=False)


def _samples_and_rate(part: MediaPart) -> tuple[np.ndarray, Any]:
    """Samples as [samples] or [channels, samples], and their rate; None where nobody says."""
    source, rate, given = part.source, part.options.get("sampling_rate"), None
    if isinstance(source, tuple) and len(source) == 2:
        source, given = source
    elif isinstance(source, Mapping) and "array" in source:
        source, given = source["array"], source.get("sampling_rate")
    if given is not None and rate is not None and given != rate:
        raise MediaError(f"{part.where}: sampling_rate={rate} and the {short(given)} beside the samples disagree")
    if not is_array(source):
        raise MediaError(
            f"{part.where}: {type(part.source).__name__} is no sound; "
            f"use a path, bytes, an array or tensor of samples, or (samples, sampling_rate)"
        )
    if source.ndim not in (1, 2) or 0 in source.shape:
        raise MediaError(f"{part.where}: samples of shape {tuple(source.shape)}; use [samples] or [channels, samples]")
    check_channels(source.shape[0] if source.ndim == 2 else 1, part.where)
    return as_numpy(source), given if rate is None else rate


def _mono(samples: np.ndarray, where: str) -> np.ndarray:
    """float32 [samples]; integers are divided by their full scale."""
    if samples.dtype == np.uint8:
        scaled: np.ndarray = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype in (np.int16, np.int32):
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif np.issubdtype(samples.dtype, np.floating):
        scaled = samples.astype(np.float32)
    else:
        raise MediaError(
            f"{where}: samples of dtype {samples.dtype} are not allowed; use floats, int16, int32 or uint8"
        )
    mono = scaled.mean(0, dtype=np.float32) if scaled.ndim == 2 else scaled
    check_finite(mono, where)
    return mono

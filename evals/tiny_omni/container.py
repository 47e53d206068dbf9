"""Frames and samples to a file that keeps them exactly."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np


def encode(frames: np.ndarray, fps: float, waveform: np.ndarray | None, sampling_rate: int) -> bytes:
    """A Matroska file: FFV1 frames and samples of 16 bits.

    Args:
        frames: uint8 [n, height, width, 3].
        waveform: float32 [samples] in steps of 2 ** -15; None for a silent film.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        video = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1000))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "bgr0"
        audio = None if waveform is None else container.add_stream("pcm_s16le", rate=sampling_rate, layout="mono")
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        if audio is not None and waveform is not None:
            samples = np.clip(np.round(waveform * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            sound.sample_rate = sampling_rate
            container.mux(audio.encode(sound))
            container.mux(audio.encode())
    return file.getvalue()

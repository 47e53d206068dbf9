"""Events to sound: a tone, a sweep, beeps or silence, over faint noise."""

from __future__ import annotations

import numpy as np

from .events import SECONDS, Event

RATE = 16_000
SAMPLES = int(SECONDS * RATE)  # of an event
_TIME = np.arange(SAMPLES, dtype=np.float32) / RATE
LOW, HIGH, BEEP = (200.0, 300.0), (1500.0, 2200.0), (600.0, 750.0)  # hertz
SWEEP = (300.0, 2000.0)
NOISE = 0.002
_FADE = 0.02  # seconds at both ends of a tone


def play(event: Event, rng: np.random.Generator) -> np.ndarray:
    """The sound of an event, float32 [32000] in steps of 2 ** -15, as files of 16 bits hold it."""
    volume = rng.uniform(0.15, 0.4)
    noise = NOISE * rng.standard_normal(SAMPLES, dtype=np.float32)
    return np.round((volume * _tone(event, rng) + noise) * 2**15).astype(np.float32) / 2**15


def _tone(event: Event, rng: np.random.Generator) -> np.ndarray:
    if event.sound == "silence":
        return np.zeros(SAMPLES, np.float32)
    if event.sound == "beeps":
        assert event.beeps is not None  # beeps are counted
        return _sine(rng.uniform(*BEEP)) * _beeping(rng, int(event.beeps))
    if event.sound in ("low", "high"):
        return _sine(rng.uniform(*(LOW if event.sound == "low" else HIGH))) * _ramp(_TIME, SECONDS)
    start, stop = SWEEP if event.sound == "rising" else SWEEP[::-1]
    ratio = stop / start * rng.uniform(0.9, 1.1)
    turns = start * SECONDS / np.log(ratio) * (ratio ** (_TIME / SECONDS) - 1)
    return np.sin(2 * np.pi * turns).astype(np.float32) * _ramp(_TIME, SECONDS)


def _sine(hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * np.float32(hertz) * _TIME)


def _beeping(rng: np.random.Generator, count: int) -> np.ndarray:
    """Loudness of so many beeps of 0.2 seconds, 0.45 seconds apart."""
    loudness = np.zeros(SAMPLES, np.float32)
    start = rng.uniform(0.05, 1.95 - 0.45 * (count - 1) - 0.2)
    for beep in range(count):
        loudness += _ramp(_TIME - np.float32(start + 0.45 * beep), 0.2)
    return loudness


def _ramp(time: np.ndarray, seconds: float) -> np.ndarray:
    """1 from 0 to so many seconds, 0 outside, with soft edges."""
    return np.clip(np.minimum(time, seconds - time) / _FADE, 0, 1).astype(np.float32)

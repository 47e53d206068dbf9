"""Settings that stand beside the source of a media part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from ..errors import MediaError
from .sources import short

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # samples a second: below, nothing is heard; above, no recorder goes


def _count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _moment(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf


def _positive(value: Any) -> bool:
    return _moment(value) and float(value) > 0


def is_rate(value: Any) -> bool:
    """Whether a value can be a sampling rate of sound, in samples a second."""
    return _count(value) and LOWEST_RATE <= value <= HIGHEST_RATE


_COUNT = (_count, "a whole number of at least 1")
_RATE = (is_rate, f"a whole number of samples a second from {LOWEST_RATE} to {HIGHEST_RATE}")
_FPS = (_positive, "a positive number of frames a second")
_SECONDS = (_moment, "seconds from the beginning")

ALLOWED: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "image": {"min_pixels": _COUNT, "max_pixels": _COUNT},
    "video": {
        # of a file: frames a second to keep; of given frames: their rate
        "fps": _FPS,
        "num_frames": _COUNT,
        "min_frames": _COUNT,
        "max_frames": _COUNT,
        # of a kept frame
        "min_pixels": _COUNT,
        "max_pixels": _COUNT,
        "video_start": _SECONDS,
        "video_end": _SECONDS,
    },
    # of samples given as an array
    "audio": {"sampling_rate": _RATE},
}
# names that qwen-vl-utils gives to the same things
_ALIASES = {"nframes": "num_frames", "sample_fps": "fps"}
_ORDERED = (("min_frames", "max_frames"), ("min_pixels", "max_pixels"), ("video_start", "video_end"))


def check_options(options: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    """Options of a part, each of a value that is allowed; None counts as not given.

    Raises:
        MediaError: an unknown key, a value out of range, or two that exclude each other.
    """
    checked: dict[str, Any] = {}
    for given, value in options.items():
        name = _ALIASES.get(given, given)
        if name not in ALLOWED[kind]:
            raise MediaError(f"{where}: {given!r} is no option of this kind; known are {', '.join(ALLOWED[kind])}")
        if value is None:
            continue
        valid, wanted = ALLOWED[kind][name]
        if not valid(value):
            raise MediaError(f"{where}: {given}={short(value)} is not allowed; use {wanted}")
        if name in checked:
            raise MediaError(f"{where}: {given} is given twice, once as {name}")
        checked[name] = int(value) if isinstance(value, Integral) else float(value)
    for low, high in _ORDERED:
        equal_is_wrong = low == "video_start"
        if low in checked and high in checked:
            a, b = checked[low], checked[high]
            if a > b or (equal_is_wrong and a == b):
                raise MediaError(f"{where}: {low}={a} is not below {high}={b}")
    if "fps" in checked and "num_frames" in checked:
        raise MediaError(f"{where}: fps and num_frames exclude each other")
    return checked

"""How many hours of video fit in a given memory, by the byte formula, for published models and every setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...cache_settings import CacheSettings
from ..bench.bandwidth import dtype_name
from ..methods import FULL
from .contenders import FULL_SETTINGS
from .formula import cache_formula
from .models import VIDEO_MODELS, VideoModel

MEMORIES = (24_000_000_000, 80_000_000_000, 141_000_000_000)
HEIGHT, WIDTH = 360, 640
RESERVE = 1_000_000_000


@dataclass(frozen=True)
class HoursRow:
    """One cache of one model in one memory.

    Attributes:
        model, method, dtype: what is held.
        memory_bytes, weights_bytes, reserve_bytes: given, taken by the weights, and kept free for activations.
        fps, height, width, sound: of the video.
        tokens_per_second: of the video.
        bytes_per_token: of the cache, once it is long.
        tokens, hours: the most that fit; 0 where the weights do not.
        times_full: hours over those of the full cache; None where nothing fits in that.
        positions: the longest context of the model's config, in tokens.
        hours_within_positions: hours that fit and are within it.
    """

    model: str
    method: str
    dtype: str
    memory_bytes: int
    weights_bytes: int
    reserve_bytes: int
    fps: float
    height: int
    width: int
    sound: bool
    tokens_per_second: float
    bytes_per_token: float
    tokens: int
    hours: float
    times_full: float | None
    positions: int
    hours_within_positions: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def hours_table(
    settings: Mapping[str, CacheSettings],
    models: Iterable[VideoModel] = tuple(VIDEO_MODELS.values()),
    memories: Sequence[int] = MEMORIES,
    *,
    dtype: torch.dtype = torch.bfloat16,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float | None = None,
    sound: bool = True,
    reserve_bytes: int = RESERVE,
) -> list[HoursRow]:
    """Rows for every model, memory and setting, the full cache first.

    Args:
        settings: by the names that rows shall have. A profile's layers beyond those that a model has are left out.
        memories: bytes.
        fps: frames a second; by default each model's own.
        sound: whether models that hear take the sound in.
        reserve_bytes: kept free.

    Raises:
        ValueError: a size, rate or memory that is not positive.
    """
    for name, value in (("height", height), ("width", width), ("fps", 1 if fps is None else fps)):
        if value <= 0:
            raise ValueError(f"{name}={value} is not allowed; use a positive number")
    rows = []
    named = {FULL.name: FULL_SETTINGS, **settings}
    for model in models:
        rate = model.fps if fps is None else fps
        speed = model.tokens_per_second(height, width, rate, sound)
        for memory in memories:
            full = None
            for method, own in named.items():
                formula = cache_formula(model.shape, own, dtype)
                weights = model.parameters * dtype.itemsize
                tokens = formula.longest(max(0, memory - weights - reserve_bytes))
                full = tokens if full is None else full
                rows.append(
                    HoursRow(
                        model=model.name,
                        method=method,
                        dtype=dtype_name(dtype),
                        memory_bytes=memory,
                        weights_bytes=weights,
                        reserve_bytes=reserve_bytes,
                        fps=rate,
                        height=height,
                        width=width,
                        sound=sound and model.audio_tokens > 0,
                        tokens_per_second=speed,
                        bytes_per_token=formula.bytes_per_token,
                        tokens=tokens,
                        hours=tokens / speed / 3600,
                        times_full=tokens / full if full else None,
                        positions=model.positions,
                        hours_within_positions=min(tokens, model.positions) / speed / 3600,
                    )
                )
    return rows

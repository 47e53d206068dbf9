"""Memory and speed by the length of a video: each cache reads it, answers, and is measured on the way."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...errors import first_line
from ..bench.clock import Progress, wait
from ..bench.room import lacks_room
from ..methods import FULL
from .contenders import Contender, column_bytes, shape_of
from .formula import CacheFormula
from .meter import MeteredCache, cache_bytes, metered, peak_bytes
from .needles import needle_clip
from .reading import Reading, ask, decode, hears_video, prefill, read

if TYPE_CHECKING:
    from ...model import OscarModel

FIRST_SECONDS, LAST_SECONDS = 8.0, 128.0


@dataclass(frozen=True)
class SweepRow:
    """One cache and one length.

    Attributes:
        method: name of the cache.
        seconds, tokens: length of the video, and of what the cache holds of it.
        steady_bytes: allocated when the video has been read.
        predicted_bytes: what the formula gives for them; None for methods that are not of oscar_x.
        peak_bytes: the most allocated at any time, decoding included.
        first_token_seconds: from the video's model inputs to the answer's first token; decoding of files not counted.
        decode_tokens_per_second: of the answer's further tokens.
    """

    method: str
    seconds: float
    tokens: int
    steady_bytes: int
    predicted_bytes: int | None
    peak_bytes: int
    first_token_seconds: float
    decode_tokens_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Stopped:
    """Why a cache was not taken to this length.

    Attributes:
        method, seconds: which, and the length.
        reason: in words.
    """

    method: str
    seconds: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Sweep:
    """What was measured, and where each cache stopped."""

    rows: list[SweepRow]
    stopped: list[Stopped]

    def lengths(self, method: str) -> list[float]:
        """Seconds to which a cache got."""
        return [row.seconds for row in self.rows if row.method == method]


def weights_bytes(model: OscarModel) -> int:
    """Bytes of the model's weights."""
    return sum(parameter.nbytes for parameter in model.model.parameters())


def run_sweep(
    model: OscarModel,
    caches: Sequence[Contender],
    lengths: Sequence[float] | None = None,
    memory: int | None = None,
    *,
    steps: int = 16,
    listed: bool = False,
    seed: int = 0,
    progress: Progress = lambda done, total, what: None,
) -> Sweep:
    """Measure every cache at every length that fits.

    Args:
        lengths: seconds, rising; by default doubling from 8 to 128, with a memory limit until no cache fits.
        memory: bytes that the model's weights and its cache at peak share; activations come on top. A cache that went
            beyond it, or is bound to at the next length, goes no further.
        steps: decoded tokens that are timed.
        listed: whether questions name their options.
        seed: of the clips.

    Raises:
        ValueError: lengths that do not rise, or a memory that does not hold the weights.
    """
    planned = list(lengths) if lengths else _doubling(memory)
    if sorted(set(planned)) != planned:
        raise ValueError(f"lengths={planned} is not allowed; use seconds that rise")
    room = None if memory is None else memory - weights_bytes(model)
    if room is not None and room <= 0:
        raise ValueError(f"memory={memory} is not allowed: the model's weights take {weights_bytes(model)} bytes")
    running, sweep = list(caches), Sweep([], [])
    for index, seconds in enumerate(planned):
        if not running:
            break
        clip = needle_clip("visual", seconds, 0.0, 0, seed=seed, heard=hears_video(model))
        reading = read(model, clip, clip.questions[0], listed=listed)
        for place, cache in enumerate(list(running)):
            progress(index * len(caches) + place, len(planned) * len(caches), f"{seconds:g} s, {cache.name}")
            reason = _why_not(model, reading, steps, cache, sweep, room)
            if reason is None and not index:
                _attempt(model, cache, reading, seconds, 2)  # compiles kernels
            row = reason or _attempt(model, cache, reading, seconds, steps)
            if isinstance(row, SweepRow) and room is not None and row.peak_bytes > room:
                row = f"its peak of {row.peak_bytes} bytes beside the weights is more than {memory} bytes"
            if isinstance(row, SweepRow):
                sweep.rows.append(row)
            else:
                sweep.stopped.append(Stopped(cache.name, seconds, row))
                running.remove(cache)
    return sweep


def _doubling(memory: int | None) -> list[float]:
    # 20 doublings are 97 days
    return [FIRST_SECONDS * 2**power for power in range(20) if memory or FIRST_SECONDS * 2**power <= LAST_SECONDS]


def _why_not(
    model: OscarModel, reading: Reading, steps: int, cache: Contender, sweep: Sweep, room: int | None
) -> str | None:
    tokens = reading.stream.shape[1] + steps
    longest = getattr(model.generator.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if longest is not None and tokens > longest:
        return f"{tokens} tokens, and the model has {longest} positions"
    past = [row for row in sweep.rows if row.method == cache.name]
    if not past:
        return None
    formula = prediction(model, cache)
    if formula is None:  # others hold as much for every token
        expected = past[-1].steady_bytes * reading.clip_columns // past[-1].tokens
    else:
        expected = formula.steady(reading.clip_columns)
    if room is not None and expected > room:
        return f"its {expected} bytes beside the weights are more than the {room} left for them"
    return lacks_room(2 * expected, model.model.device)


def prediction(model: OscarModel, cache: Contender) -> CacheFormula | None:
    """Its bytes by length; None where only measuring tells."""
    columns = column_bytes(model) if cache.name != FULL.name else 0
    return cache.formula(shape_of(model), model.model.dtype, columns)


def _attempt(model: OscarModel, cache: Contender, reading: Reading, seconds: float, steps: int) -> SweepRow | str:
    try:
        return measure(model, cache, reading, seconds, steps)
    except torch.OutOfMemoryError as error:
        return first_line(error)
    finally:
        gc.collect()


def measure(model: OscarModel, contender: Contender, reading: Reading, seconds: float, steps: int) -> SweepRow:
    """Read a clip into a new cache, answer, decode `steps` more tokens."""
    cache, device = metered(contender.new_cache()), model.model.device
    wait(device)
    start = time.perf_counter()
    prefill(model, cache, reading)
    if isinstance(cache, MeteredCache) and contender.method.packs:
        cache.inner.flush()  # peers wait with packing until the next tokens come
    steady = cache_bytes(cache)
    token = ask(model, cache, reading).argmax()[None, None]
    wait(device)
    first = time.perf_counter()
    for step in range(steps):
        token = decode(model, cache, reading, token, step).argmax()[None, None]
    wait(device)
    rate = steps / (time.perf_counter() - first)
    formula = prediction(model, contender)
    predicted = None if formula is None else formula.steady(reading.clip_columns)
    tokens, took = reading.clip_columns, first - start
    return SweepRow(contender.name, seconds, tokens, steady, predicted, peak_bytes(cache), took, rate)

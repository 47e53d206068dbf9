"""Needle accuracy by depth and length, every cache on the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bench.clock import Progress
from ..methods import FULL
from ..phases import States, fill
from ..stats import mean_interval
from .contenders import Contender
from .needles import needle_clip
from .reading import Reading, ask, choose, hears_video, prefill, read, record

if TYPE_CHECKING:
    from ...model import OscarModel

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Answer:
    """One cache's answer to one question.

    Attributes:
        method, needle, seconds, depth, clip: which cache, and which clip.
        tokens: that the cache held.
        right: whether the option it prefers is the right one.
        chance: of guessing right.
        packed_reads: how often the question's tokens read a packed one, summed over layers.
    """

    method: str
    needle: str
    seconds: float
    depth: float
    clip: str
    tokens: int
    right: bool
    chance: float
    packed_reads: int


def run_needles(
    model: OscarModel,
    caches: Sequence[Contender],
    lengths: dict[str, Sequence[float]],
    *,
    needles: Sequence[str] = ("visual",),
    depths: Sequence[float] = DEPTHS,
    clips: int = 8,
    listed: bool = False,
    seed: int = 0,
    progress: Progress = lambda done, total, what: None,
) -> list[Answer]:
    """Ask every cache for every needle.

    Args:
        lengths: seconds for each cache, by its name.
        needles, depths: of needles.needle_clip.
        clips: of each needle, length and depth.
        listed: whether questions name their options.

    Raises:
        RuntimeError: a cache that packs read no packed tokens.
    """
    every = sorted({seconds for values in lengths.values() for seconds in values})
    cells = [(needle, seconds, depth) for seconds in every for needle in needles for depth in depths]
    answers: list[Answer] = []
    for index, (needle, seconds, depth) in enumerate(cells):
        progress(index, len(cells), f"{needle} needle, {seconds:g} s, depth {depth:g}")
        chosen = [cache for cache in caches if seconds in lengths[cache.name]]
        for number in range(clips):
            clip = needle_clip(needle, seconds, depth, number, seed=seed, heard=hears_video(model))
            question = clip.questions[0]
            reading = read(model, clip, question, listed=listed)
            # the states of all layers at once are a full cache: only where one fits
            states = record(model, reading) if any(cache.name == FULL.name for cache in chosen) else None
            for cache in chosen:
                right, reads = _answer(model, cache, reading, states, question)
                place = (cache.name, needle, seconds, depth, clip.id, reading.clip_columns)
                answers.append(Answer(*place, right, 1 / len(question.options), reads))
    return answers


def _answer(
    model: OscarModel, contender: Contender, reading: Reading, states: States | None, question: Any
) -> tuple[bool, int]:
    method = contender.method
    cache = method.new_cache(model.generator)
    if states is None:
        prefill(model, cache, reading)
    else:
        fill(cache, states)
    if method.packs:
        cache.flush()
    before = cache.packed_reads if method.packs else 0
    found = choose(model, ask(model, cache, reading), question.options)
    reads = cache.packed_reads - before if method.packs else 0
    if method.packs and not reads:
        raise RuntimeError(f"method {method.name} read no packed tokens: its answers would be those of exact states")
    return found == question.answer, reads


@dataclass(frozen=True)
class Cell:
    """Accuracy of one cache at one length and depth, over all needles asked for."""

    method: str
    needle: str
    seconds: float
    depth: float
    asked: int
    accuracy: float


def cells(answers: Sequence[Answer]) -> list[Cell]:
    """Accuracy by cache, needle, length and depth."""
    grouped: dict[tuple[str, str, float, float], list[bool]] = {}
    for answer in answers:
        grouped.setdefault((answer.method, answer.needle, answer.seconds, answer.depth), []).append(answer.right)
    return [Cell(*place, len(right), float(np.mean(right))) for place, right in grouped.items()]


@dataclass(frozen=True)
class AtLength:
    """One cache at one length, over needles and depths, beside the full cache on the same clips.

    Attributes:
        accuracy, low, high: with its 95% bootstrap interval over clips.
        chance: of guessing.
        difference, difference_low, difference_high: to the full cache, paired over clips; None where that did not fit.
    """

    method: str
    seconds: float
    tokens: int
    asked: int
    accuracy: float
    low: float
    high: float
    chance: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None


def by_length(answers: Sequence[Answer]) -> list[AtLength]:
    """Accuracy of every cache at every length."""
    rows = []
    for method in dict.fromkeys(answer.method for answer in answers):
        for seconds in dict.fromkeys(answer.seconds for answer in answers if answer.method == method):
            own = [answer for answer in answers if (answer.method, answer.seconds) == (method, seconds)]
            full = {a.clip: a.right for a in answers if (a.method, a.seconds) == (FULL.name, seconds)}
            rows.append(_at_length(own, full))
    return rows


def _at_length(own: Sequence[Answer], full: dict[str, bool]) -> AtLength:
    mean = mean_interval([float(answer.right) for answer in own])
    paired = [float(answer.right) - float(full[answer.clip]) for answer in own if answer.clip in full]
    difference = mean_interval(paired) if paired else None
    return AtLength(
        method=own[0].method,
        seconds=own[0].seconds,
        tokens=own[0].tokens,
        asked=len(own),
        accuracy=mean.value,
        low=mean.low,
        high=mean.high,
        chance=float(np.mean([answer.chance for answer in own])),
        difference=None if difference is None else difference.value,
        difference_low=None if difference is None else difference.low,
        difference_high=None if difference is None else difference.high,
    )

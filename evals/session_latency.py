"""Time to the first token of questions about the same media: the first, later ones, and one without a session."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ..modality import Modality

if TYPE_CHECKING:
    from ..model import OscarModel

ONE: dict[str, Any] = {"max_new_tokens": 1, "do_sample": False}


@dataclass(frozen=True)
class LatencyRow:
    """One way to ask.

    Attributes:
        op: how the question was asked.
        seconds: median time from the question, media included where they are read, to the first token.
        cached: tokens that the cache held before.
        read: tokens that had to be read.
        media_tokens: of these, tokens of images, videos and sounds.
        speedup: seconds of the first question over these.
    """

    op: str
    seconds: float
    cached: int
    read: int
    media_tokens: int
    speedup: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def time_questions(
    model: OscarModel, media: Any, questions: Sequence[str], *, repeats: int = 3, **options: Any
) -> list[LatencyRow]:
    """Rows for a first question, a second one in the same session, and the second asked without a session.

    Args:
        media: message parts, or a text, that both questions are about.
        questions: at least two.
        repeats: timed runs of each; one more warms up.
        options: as for OscarModel.new_session.

    Raises:
        ValueError: fewer than two questions.
    """
    if len(questions) < 2:
        raise ValueError(f"questions={list(questions)!r} is not allowed; give at least two")
    parts = [media] if isinstance(media, str) else list(media)
    whole = [{"role": "user", "content": [*parts, questions[1]] if model.adapter.media else media + questions[1]}]
    session = model.new_session(media, **options)
    prefix = session.cache.modalities.modalities
    media_tokens = int((prefix > Modality.TEXT).sum())

    def first() -> int:
        started = model.new_session(media, **options)
        started.ask(questions[0], **ONE)
        return started.cache.get_seq_length()

    def second() -> int:
        forked = asked.fork()
        forked.ask(questions[1], **ONE)
        return forked.cache.get_seq_length()

    def alone() -> int:
        prompt = model.prepare(whole, **options)
        model.generate(prompt, **ONE)
        return int(prompt["input_ids"].shape[1])

    asked = session.fork()
    asked.ask(questions[0], **ONE)
    held = asked.cache.get_seq_length()
    timed = [(name, *_time(run, repeats)) for name, run in (("first", first), ("second", second), ("alone", alone))]
    before = {"first": 0, "second": held, "alone": 0}
    return [
        LatencyRow(
            op={"first": "first question", "second": "second question", "alone": "second question, no session"}[name],
            seconds=seconds,
            cached=before[name],
            read=length - before[name],
            media_tokens=0 if before[name] else media_tokens,
            speedup=timed[0][1] / seconds,
        )
        for name, seconds, length in timed
    ]


def _time(run: Callable[[], int], repeats: int) -> tuple[float, int]:
    length, times = run(), []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times), length

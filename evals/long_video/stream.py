"""A video that arrives over time: read piece by piece, asked about on the way, its memory beside the prediction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...cache import OscarCache
from ...session import Session, SessionState
from ..bench.clock import Progress
from ..tiny_omni import Question
from .contenders import Contender, column_bytes, shape_of
from .formula import CacheFormula, Replay
from .needles import stream_clips
from .reading import clip_parts, hears_video, worded

if TYPE_CHECKING:
    from ...model import OscarModel

CHUNK_SECONDS, ASK_EVERY = 10.0, 60.0
ANSWER_TOKENS = 8


@dataclass(frozen=True)
class StreamPoint:
    """The cache after a piece of the video.

    Attributes:
        seconds, frames, tokens: of the video so far; tokens of all that the cache holds.
        allocated: bytes that it holds.
        predicted: bytes that the rules of its storage give for the same pieces.
        line: bytes of a cache that read all of it at once.
        full: bytes of a full cache in the dtype of the model.
        peak: the most bytes held so far.
        read_seconds: that reading this piece took.
    """

    seconds: float
    frames: int
    tokens: int
    allocated: int
    predicted: int
    line: int
    full: int
    peak: int
    read_seconds: float


@dataclass(frozen=True)
class StreamAnswer:
    """A question asked while the video went on.

    Attributes:
        seconds: of the video so far; what is asked about lies in its first piece.
        needle, question, expected, answer: what was asked and said.
        right: whether they agree.
        first_token_seconds: from the question to the end of its answer's first piece.
    """

    seconds: float
    needle: str
    question: str
    expected: str
    answer: str
    right: bool
    first_token_seconds: float


@dataclass(frozen=True)
class StreamReport:
    """One cache over a whole stream."""

    method: str
    chunk_seconds: float
    heard: bool
    points: list[StreamPoint]
    answers: list[StreamAnswer]

    @property
    def deviation(self) -> float:
        """The largest share by which allocated bytes differ from the prediction."""
        return max(abs(point.allocated / point.predicted - 1) for point in self.points)

    @property
    def above_line(self) -> float:
        """The largest share by which they exceed a cache that read all at once: storage grown ahead."""
        return max(point.allocated / point.line - 1 for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "deviation": self.deviation, "above_line": self.above_line}


def run_stream(
    model: OscarModel,
    contender: Contender,
    seconds: float,
    *,
    chunk: float = CHUNK_SECONDS,
    ask_every: float = ASK_EVERY,
    heard: bool | None = None,
    listed: bool = False,
    seed: int = 0,
    progress: Progress = lambda done, total, what: None,
) -> StreamReport:
    """Read a generated video of this many seconds as it would arrive, never holding more than one piece of it.

    Args:
        contender: the full cache, a preset or a profile.
        chunk: seconds of a piece.
        ask_every: seconds between questions about the first piece; they leave no trace in what is read later.
        heard: whether the video has sound; by default, if the model hears it.
        listed: whether questions name their options.

    Raises:
        ValueError: a cache that is not of oscar_x, or pieces too short.
    """
    if contender.settings is None:
        raise ValueError(f"method {contender.name} cannot be streamed into; use full, a preset or a profile")
    heard = hears_video(model) if heard is None else heard
    cache = OscarCache(model.model.config, contender.settings, key_biases=model.key_biases or None)
    session = Session(model, cache, SessionState(use_audio_in_video=heard))
    report = StreamReport(contender.name, chunk, heard, [], [])
    prediction = Prediction(model, contender)
    questions: list[Question] = []
    shown = frames = asked = 0.0
    for clip in stream_clips(seconds, chunk, seed=seed, heard=heard):
        progress(int(shown), int(seconds), f"{contender.name}, {len(session.tokens)} tokens")
        held, start = len(session.tokens), time.perf_counter()
        session.add(clip_parts(model, clip))
        took = time.perf_counter() - start
        frames, shown = frames + len(clip.frames), shown + len(clip.frames) / clip.fps
        questions = questions or list(clip.questions)
        report.points.append(prediction.point(cache, shown, int(frames), len(session.tokens) - held, took))
        if shown - asked >= ask_every:
            asked = shown
            report.answers.extend(_ask(session, prediction, questions, shown, listed))
    return report


class Prediction:
    """Bytes of a cache as pieces of a stream come in, without looking at it."""

    def __init__(self, model: OscarModel, contender: Contender) -> None:
        self.columns = column_bytes(model)
        shape, dtype = shape_of(model), model.model.dtype
        formula = contender.formula(shape, dtype, self.columns)
        assert formula is not None
        self.formula: CacheFormula = formula
        self.layers = [Replay(layer) for layer in self.formula.layers]
        self.token_bytes = shape.layers * shape.full_bytes(1, dtype.itemsize)
        self.tokens = 0

    def aside(self, asked: int, fed: int) -> None:
        """A fork read a question of `asked` tokens and, one by one, those of its answer; `fed` in all."""
        for layer in self.layers:
            layer.aside([asked, *[1] * (fed - asked)])

    def point(self, cache: OscarCache, seconds: float, frames: int, count: int, took: float) -> StreamPoint:
        """Where the cache is after a piece of `count` tokens, and where it should be."""
        self.tokens += count
        predicted = sum(layer.feed(count) for layer in self.layers) + self.columns * self.tokens
        memory, tokens = cache.memory(), self.tokens
        line, full = self.formula.steady(tokens), self.token_bytes * tokens
        return StreamPoint(seconds, frames, tokens, memory.total, predicted, line, full, memory.peak, took)


def _ask(
    session: Session, prediction: Prediction, questions: list[Question], shown: float, listed: bool
) -> Iterator[StreamAnswer]:
    for question in questions:
        aside, start, first, said = session.fork(), time.perf_counter(), 0.0, ""
        held, text = session.cache.get_seq_length(), worded(question, listed)
        asked = aside.prepare(text)["input_ids"].shape[1]
        for piece in aside.stream(text, max_new_tokens=ANSWER_TOKENS, do_sample=False):
            first = first or time.perf_counter() - start
            said += piece
        prediction.aside(asked, aside.cache.get_seq_length() - held)
        right = named_option(said, question) == question.answer
        yield StreamAnswer(shown, question.kind, question.text, question.answer, said.strip(), right, first)


def named_option(said: str, question: Question) -> str | None:
    """The option that an answer names, if it names exactly one."""
    words = "".join(letter if letter.isalnum() else " " for letter in said).split()
    found = {option for option in question.options if option.lower() in (word.lower() for word in words)}
    return found.pop() if len(found) == 1 else None

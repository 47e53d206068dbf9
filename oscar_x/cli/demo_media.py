"""One clip, two caches: a session with a full cache and one with a compressed one, asked the same questions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from oscar_x.cache import OscarCache
from oscar_x.cli.demo_run import compressed_name
from oscar_x.config import OscarConfig
from oscar_x.session import Session, SessionState

if TYPE_CHECKING:
    from oscar_x.memory import MemoryReport
    from oscar_x.model import OscarModel

FULL = OscarConfig(key_bits=16, value_bits=16)


@dataclass
class MediaSide:
    """A session that has read a clip.

    Attributes:
        name: what it is called.
        session: the conversation.
        memory: of its cache when the clip had been read.
        read_seconds: that reading took.
        answer: what it said to the last question.
        seconds: from that question to the end of each piece of the answer.
    """

    name: str
    session: Session
    memory: MemoryReport
    read_seconds: float
    answer: str = ""
    seconds: list[float] = field(default_factory=list)

    def stream(self, question: str, max_new_tokens: int) -> Iterator[None]:
        """Answer greedily, piece by piece; the session forgets question and answer."""
        self.answer, self.seconds, start = "", [], time.perf_counter()
        for piece in self.session.stream(question, keep=False, max_new_tokens=max_new_tokens, do_sample=False):
            self.answer += piece
            self.seconds.append(time.perf_counter() - start)
            yield


def read_sides(model: OscarModel, parts: Sequence[Any], *, use_audio_in_video: bool = False) -> tuple[MediaSide, ...]:
    """Read a clip into a full cache and into a compressed one, all of it packed before the first question.

    Args:
        parts: message parts.
        use_audio_in_video: hear the sound track of videos.

    Raises:
        MediaError: as OscarModel.chat.
    """
    full = OscarCache(model.model.config, FULL)
    named = (("full cache", full), (compressed_name(model), model.new_cache()))
    sides = []
    for name, cache in named:
        start = time.perf_counter()
        session = Session(model, cache, SessionState(use_audio_in_video=use_audio_in_video))
        session.add(parts)
        cache.flush()
        took = time.perf_counter() - start
        sides.append(MediaSide(name, session, cache.memory(), took))
    return tuple(sides)


def warm_up(model: OscarModel) -> None:
    """Read and answer something short, so that what is compiled at its first use is not timed later."""
    session = Session(model, model.new_cache(), SessionState())
    session.add("a " * 300)
    session.cache.flush()
    for _ in session.stream("b", keep=False, max_new_tokens=2, do_sample=False):
        pass


def answer_in_turn(sides: Sequence[MediaSide], question: str, max_new_tokens: int) -> Iterator[None]:
    """Every side's answer to a question, one piece of each in turn."""
    for _ in zip_longest(*(side.stream(question, max_new_tokens) for side in sides)):
        yield


def results(sides: Sequence[MediaSide]) -> list[dict[str, Any]]:
    """Both sides as plain JSON types."""
    return [
        {
            "name": side.name,
            "answer": side.answer.strip(),
            "cache_bytes": side.memory.total,
            "read_seconds": side.read_seconds,
            "first_piece_seconds": side.seconds[0] if side.seconds else None,
            "memory": side.memory.to_dict(),
        }
        for side in sides
    ]

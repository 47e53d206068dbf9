"""What a video QA evaluation asks: questions about clips, whatever the source they come from."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Part = dict[str, Any]
LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Question:
    """One question with the answers to choose from.

    Attributes:
        id: unique among the questions of its clip.
        kind: the question type that accuracy is reported by.
        options: at least two different texts.
        answer: index of the right option.

    Raises:
        ValueError: fewer than two options, two that are equal, or an answer that is none of them.
    """

    id: str
    kind: str
    text: str
    options: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.options)) < len(self.options):
            raise ValueError(f"question {self.id!r}: options {list(self.options)} must be two or more different texts")
        if not 0 <= self.answer < len(self.options):
            raise ValueError(f"question {self.id!r}: answer {self.answer} is none of its {len(self.options)} options")


@dataclass(frozen=True)
class Clip:
    """Media that several questions are about; loaded when ``content`` is called.

    Attributes:
        id: unique within its source.
        content: the media as message parts (docs/media.md).
        use_audio_in_video: whether the sound track of its videos is heard.
        group: what accuracy is also reported by, such as a class of length; may be empty.
    """

    id: str
    content: Callable[[], list[Part]]
    questions: tuple[Question, ...]
    use_audio_in_video: bool = False
    group: str = ""


@dataclass(frozen=True)
class Source:
    """Clips in a fixed order.

    Attributes:
        name: what reports call it.
        clips: makes a new iterator over all clips, the same ones each time.
        questions: of all clips together.
        settings: whatever decides which clips and questions these are, as JSON types.
        notes: what reports shall say of it, such as questions that were left out and why.
    """

    name: str
    clips: Callable[[], Iterator[Clip]] = field(repr=False)
    questions: int
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def source_of(
    name: str, clips: Sequence[Clip], settings: dict[str, Any], notes: Iterable[str] = (), limit: int | None = None
) -> Source:
    """A source of clips that are known beforehand.

    Args:
        limit: take whole clips from the beginning until this many questions are reached.

    Raises:
        ValueError: no clips, or two of one id or with questions of one id.
    """
    if not clips:
        raise ValueError(f"{name} has no questions")
    for clip_id, ids in _ids(clips):
        if len(set(ids)) < len(ids):
            raise ValueError(f"{name}: {clip_id} is there twice, or has two questions of one id")
    taken = list(until(clips, limit))
    count = sum(len(clip.questions) for clip in taken)
    return Source(name, lambda: iter(taken), count, {**settings, "limit": limit}, tuple(notes))


def until(clips: Iterable[Clip], limit: int | None) -> Iterator[Clip]:
    """Clips until their questions reach a limit; the last one may be shortened."""
    left = limit
    for clip in clips:
        if left is None:
            yield clip
            continue
        if left <= 0:
            return
        yield replace(clip, questions=clip.questions[:left])
        left -= len(clip.questions)


def _ids(clips: Sequence[Clip]) -> Iterator[tuple[str, list[str]]]:
    yield "a clip", [clip.id for clip in clips]
    for clip in clips:
        yield f"clip {clip.id!r}", [question.id for question in clip.questions]

"""Questions on the events of a clip, each with one right answer of one word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .events import NEEDLE_LENGTH, NEEDLE_PART, Event
from .words import ANSWERS, SHAPES


@dataclass(frozen=True)
class Question:
    """A question on a clip.

    Attributes:
        id: the clip's id and the question's number; the same in every run.
        kind: of words.KINDS.
        text: what is asked.
        options: the answers that may be given, one of which is right.
        answer: the right one.
    """

    id: str
    kind: str
    text: str
    options: tuple[str, ...]
    answer: str


def ask(clip_id: str, events: Sequence[Event], rng: np.random.Generator, heard: bool) -> tuple[Question, ...]:
    """Everything that can be asked about a clip with a single right answer.

    Args:
        rng: decides only which of two things a question names first.
        heard: whether the clip has sound.
    """
    asked = [*_seen(events), *_ordered(events, rng), *(_heard(events) if heard else ())]
    return tuple(
        Question(f"{clip_id}/{number}", kind, text, options or ANSWERS[kind], answer)
        for number, (kind, text, options, answer) in enumerate(asked)
    )


_Asked = tuple[str, str, tuple[str, ...], str]


def _alone(values: Sequence[str | None]) -> list[int]:
    """Places whose value no other place has."""
    return [place for place, value in enumerate(values) if value is not None and values.count(value) == 1]


def named(thing: str) -> str:
    """The thing with its article."""
    return f"the {thing}"


def _seen(events: Sequence[Event]) -> Iterator[_Asked]:
    things = [event.thing for event in events]
    shape_colors = [event.color if event.thing in SHAPES else None for event in events]
    for event in (events[place] for place in _alone(things)):
        yield "color", f"What color {'are' if event.thing == 'dots' else 'is'} {named(event.thing)}?", (), event.color
        if event.direction is not None:
            yield "motion", f"Which move is seen with {named(event.thing)}?", (), event.direction
        if event.thing == "dots":
            yield "count", "How many dots are there?", (), event.look[0]
        if event.thing == "letter":
            early = len(events) >= NEEDLE_LENGTH and events.index(event) < len(events) * NEEDLE_PART
            yield "needle" if early else "letter", "Which letter is shown?", (), event.look
    for event in (events[place] for place in _alone(shape_colors)):
        yield "shape", f"Which shape is {event.color}?", (), event.look


def _ordered(events: Sequence[Event], rng: np.random.Generator) -> Iterator[_Asked]:
    things = [event.thing for event in events]
    alone = _alone(things)
    for first, second in combinations(alone, 2):
        pair = (things[first], things[second])
        if "letter" in pair and len(events) >= NEEDLE_LENGTH:
            continue  # as a needle it is mostly first
        one, other = pair if rng.random() < 0.5 else pair[::-1]
        yield "order", f"Which comes first, {named(one)} or {named(other)}?", (one, other), pair[0]


def _heard(events: Sequence[Event]) -> Iterator[_Asked]:
    for event in (events[place] for place in _alone([event.thing for event in events])):
        yield "sound", f"What is heard with {named(event.thing)}?", (), event.sound
    for event in (events[place] for place in _alone([event.beeps and event.sound for event in events])):
        assert event.beeps is not None  # beeps are counted
        yield "beeps", "How many beeps are there?", (), event.beeps

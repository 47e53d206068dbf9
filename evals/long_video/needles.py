"""Needles in a video: one event that a question is about, at a given depth of a clip of a given length."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from ..tiny_omni import Clip, Question
from ..tiny_omni.events import SECONDS, Event, draw_events
from ..tiny_omni.pictures import FPS, draw
from ..tiny_omni.sounds import RATE, play
from ..tiny_omni.words import COUNTS, LETTERS, SOUNDS

# what has to be noticed: a letter, a number of beeps, or what was heard while a letter was shown
NEEDLES = ("visual", "audio", "both")
LEAST_EVENTS = 2


def needle_clip(kind: str, seconds: float, depth: float, number: int, *, seed: int = 0, heard: bool = True) -> Clip:
    """A clip with one needle and the question about it. The same arguments give the same clip.

    Args:
        kind: "visual", "audio" or "both".
        seconds: its length; rounded to events of two seconds.
        depth: where the needle lies, 0 (the first event) to 1 (the last).
        number: of the clip among those of these arguments.
        seed: of all clips.
        heard: whether the clip has sound.

    Raises:
        ValueError: another kind or depth, too short a clip, or a needle of sound in a clip without.
    """
    if kind not in NEEDLES:
        raise ValueError(f"kind={kind!r} is not allowed; choose one of {', '.join(map(repr, NEEDLES))}")
    if not 0 <= depth <= 1:
        raise ValueError(f"depth={depth} is not allowed; use 0 to 1")
    if kind != "visual" and not heard:
        raise ValueError(f"kind={kind!r} is not allowed with heard=False; such needles are sounds")
    length = round(seconds / SECONDS)
    if length < LEAST_EVENTS:
        raise ValueError(f"seconds={seconds} is not allowed; use at least {LEAST_EVENTS * SECONDS:.0f}")
    place = round(depth * (length - 1))
    rng = np.random.default_rng([seed, NEEDLES.index(kind), length, place, int(heard), number])
    events = needle_events(rng, kind, length, place, heard)
    name = f"needle-{kind}-{length}-{place}-{'heard' if heard else 'silent'}-{seed}-{number}"
    return make_clip(name, events, rng, (needle_question(name, kind, events[place]),), heard)


def needle_events(rng: np.random.Generator, kind: str, length: int, place: int, heard: bool = True) -> list[Event]:
    """Events of which the one at `place` is a needle and no other resembles it."""
    for _ in count():
        events = draw_events(rng, "held-out", length, kind != "audio", heard)
        found = [index for index, event in enumerate(events) if is_needle(event, kind)]
        if len(found) == 1:
            events.insert(place, events.pop(found[0]))
            return events
    raise AssertionError("unreachable")


def filler_events(rng: np.random.Generator, length: int, heard: bool = True) -> list[Event]:
    """Events among which there is no needle of any kind."""
    kept: list[Event] = []
    while len(kept) < length:
        drawn = draw_events(rng, "held-out", max(length, LEAST_EVENTS), heard=heard)
        kept += [event for event in drawn if not any(is_needle(event, kind) for kind in NEEDLES)]
    return kept[:length]


def is_needle(event: Event, kind: str) -> bool:
    """Whether a question of this kind may be about the event."""
    return event.sound == "beeps" if kind == "audio" else event.thing == "letter"


def needle_question(name: str, kind: str, event: Event) -> Question:
    """What is asked about a needle.

    Args:
        name: of the clip.
    """
    if kind == "audio":
        assert event.beeps is not None  # beeps are counted
        return Question(f"{name}/0", kind, "How many beeps are there?", COUNTS, event.beeps)
    if kind == "both":
        return Question(f"{name}/0", kind, "What is heard with the letter?", SOUNDS, event.sound)
    return Question(f"{name}/0", kind, "Which letter is shown?", LETTERS, event.look)


def make_clip(
    name: str, events: list[Event], rng: np.random.Generator, questions: tuple[Question, ...] = (), heard: bool = True
) -> Clip:
    """Draw events and play their sounds."""
    background = rng.uniform(40, 110)
    frames = np.concatenate([draw(event, rng, background) for event in events])
    waveform = np.concatenate([play(event, rng) for event in events]) if heard else None
    return Clip(name, frames, FPS, waveform, RATE, questions, tuple(events))


def stream_clips(seconds: float, chunk: float, *, seed: int = 0, heard: bool = True) -> Iterator[Clip]:
    """A long video in pieces, made one at a time. Its first piece has the needles, and their questions.

    Args:
        seconds, chunk: length of the video and of a piece; rounded to events of two seconds.
        heard: whether it has sound; without, there is only a visual needle.

    Raises:
        ValueError: a piece of less than two events.
    """
    total, length = round(seconds / SECONDS), round(chunk / SECONDS)
    if length < LEAST_EVENTS:
        raise ValueError(f"chunk={chunk} is not allowed; use at least {LEAST_EVENTS * SECONDS:.0f} seconds")
    rng = np.random.default_rng([seed, total, length, int(heard)])
    for index, start in enumerate(range(0, total, length)):
        events = filler_events(rng, min(length, total - start), heard)
        name, questions = f"stream-{seed}-{index}", []
        if not index:
            for place, kind in enumerate(("visual", "audio") if heard else ("visual",)):
                needle = next(
                    event for event in needle_events(rng, kind, LEAST_EVENTS, 0, heard) if is_needle(event, kind)
                )
                events[place] = needle
                questions.append(needle_question(name, kind, needle))
        yield make_clip(name, events, rng, tuple(questions), heard)

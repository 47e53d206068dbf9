"""What happens in a clip: one event after the other, two seconds each, a thing that is seen and a sound.

The splits are disjoint by construction. For every look with every sound there is one colour, and for every shape with
every direction, that never occur together in the training split (Event.unheard and Event.unseen); every held-out clip
has such an event. Any two of the three are trained together, each with five colours of six: what has to be answered is
no other, only its combinations are. Streams of random numbers differ besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .words import COLORS, COUNTS, DIRECTIONS, LETTERS, LOOKS, SHAPES, SOUNDS, THINGS, Split

SECONDS = 2.0  # of an event
MOST_SPECIAL = 4
NEEDLE_PART = 0.25  # of a clip, in which its needle lies
NEEDLE_LENGTH = 8  # events that a clip has at least, to have a needle


@dataclass(frozen=True)
class Event:
    """Two seconds of a clip.

    Attributes:
        thing: what kind of thing is seen, of words.THINGS.
        color: its colour.
        look: the shape, the number of dots ("3 dots") or the letter, of words.LOOKS.
        direction: where a shape moves; None of dots and letters, which stand still.
        sound: what is heard, of words.SOUNDS.
        beeps: how many, "1" to "4"; None of other sounds.
    """

    thing: str
    color: str
    look: str
    direction: str | None
    sound: str
    beeps: str | None

    @property
    def unheard(self) -> bool:
        """Whether colour, look and sound are a combination that is never trained on."""
        return self.color == _held_out_color(LOOKS.index(self.look), SOUNDS.index(self.sound))

    @property
    def unseen(self) -> bool:
        """Whether colour, shape and direction are a combination that is never trained on."""
        return self.direction is not None and self.color == _held_out_color(
            SHAPES.index(self.look), DIRECTIONS.index(self.direction)
        )

    def held_out(self, heard: bool) -> bool:
        """Whether the event shows that its clip is not of the training split."""
        return self.unseen or (heard and self.unheard)


def _held_out_color(one: int, other: int) -> str:
    return COLORS[-(one + other) % len(COLORS)]


def draw_events(
    rng: np.random.Generator, split: Split, length: int, needle: bool = False, heard: bool = True
) -> list[Event]:
    """The events of a clip.

    Up to four are special: no other event has their thing, their colour or their sound. The rest, fillers, share the
    two things, two colours and two sounds that are left.

    Args:
        length: number of events.
        needle: a letter is shown in the first quarter, and nowhere else.
        heard: whether the clip has sound.
    """
    special = min(length, MOST_SPECIAL)
    things, colors, sounds = (_shuffled(rng, values) for values in (THINGS, COLORS, SOUNDS))
    if needle:
        things = ["letter", *(thing for thing in things if thing != "letter")]
    places = [int(place) for place in rng.permutation(length)[:special]]
    if needle:
        places = _early(rng, places, length)
    kinds = [
        (things[i], colors[i], sounds[i])
        if (i := places.index(place) if place in places else -1) >= 0
        else tuple(values[special + int(rng.integers(2))] for values in (things, colors, sounds))
        for place in range(length)
    ]
    events = [_event(rng, split, *kind) for kind in kinds]
    if split == "held-out" and not any(event.held_out(heard) for event in events):
        place = places[int(rng.integers(special))]
        events[place] = _held_out(rng, events[place], heard)
    return events


def _early(rng: np.random.Generator, places: list[int], length: int) -> list[int]:
    """Places of special events of which the first lies in the first quarter."""
    first = int(rng.integers(max(1, int(length * NEEDLE_PART))))
    return [first, *[place for place in places if place != first][: len(places) - 1]]


def _event(rng: np.random.Generator, split: Split, thing: str, color: str, sound: str) -> Event:
    event = _made(rng, thing, color, sound)
    while split == "train" and (event.unheard or event.unseen):
        event = _made(rng, thing, _pick(rng, COLORS), sound)
    return event


def _held_out(rng: np.random.Generator, event: Event, heard: bool) -> Event:
    """The event in the colour that makes it one of the held-out split; of a silent clip, a shape."""
    if heard:
        return replace(event, color=_held_out_color(LOOKS.index(event.look), SOUNDS.index(event.sound)))
    if event.direction is None:
        event = _made(rng, _pick(rng, SHAPES), event.color, event.sound)
    assert event.direction is not None  # shapes move
    return replace(event, color=_held_out_color(SHAPES.index(event.look), DIRECTIONS.index(event.direction)))


def looks_of(thing: str) -> list[str]:
    """What a kind of thing may look like."""
    if thing == "dots":
        return [f"{count} dots" for count in COUNTS]
    return list(LETTERS) if thing == "letter" else [thing]


def _made(rng: np.random.Generator, thing: str, color: str, sound: str) -> Event:
    look = _pick(rng, looks_of(thing))
    direction = _pick(rng, DIRECTIONS) if thing in SHAPES else None
    return Event(thing, color, look, direction, sound, _pick(rng, COUNTS) if sound == "beeps" else None)


def _pick(rng: np.random.Generator, values: list[str] | tuple[str, ...]) -> str:
    return values[int(rng.integers(len(values)))]


def _shuffled(rng: np.random.Generator, values: tuple[str, ...]) -> list[str]:
    return [values[i] for i in rng.permutation(len(values))]

"""What happens in a clip: one event after the other, two seconds each, a thing that is seen and a sound.

The splits are disjoint by construction: some pairs of colour and look (words.HELD_OUT_PAIRS) never occur in the
training split, and every held-out clip has at least one of them. Streams of random numbers differ besides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .words import COLORS, COUNTS, DIRECTIONS, HELD_OUT_PAIRS, LETTERS, SHAPES, SOUNDS, THINGS, Split

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
    def pair(self) -> tuple[str, str]:
        return self.color, self.look


def draw_events(rng: np.random.Generator, split: Split, length: int, needle: bool = False) -> list[Event]:
    """The events of a clip.

    Up to four are special: no other event has their thing, their colour or their sound. The rest, fillers, share the
    two things, two colours and two sounds that are left.

    Args:
        length: number of events.
        needle: a letter is shown in the first quarter, and nowhere else.
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
    if split == "held-out" and not any(event.pair in HELD_OUT_PAIRS for event in events):
        place = places[int(rng.integers(special))]
        events[place] = _unseen(rng, *kinds[place])
    return events


def _early(rng: np.random.Generator, places: list[int], length: int) -> list[int]:
    """Places of special events of which the first lies in the first quarter."""
    first = int(rng.integers(max(1, int(length * NEEDLE_PART))))
    return [first, *[place for place in places if place != first][: len(places) - 1]]


def _event(rng: np.random.Generator, split: Split, thing: str, color: str, sound: str) -> Event:
    looks = [look for look in looks_of(thing) if split == "held-out" or (color, look) not in HELD_OUT_PAIRS]
    if not looks:  # the one shape in its held-out colour: another colour for it
        color = _pick(rng, [other for other in COLORS if (other, thing) not in HELD_OUT_PAIRS])
        looks = [thing]
    return _made(rng, thing, color, _pick(rng, looks), sound)


def _unseen(rng: np.random.Generator, thing: str, color: str, sound: str) -> Event:
    """An event of a pair that is never trained on; of the colour, where it has such a pair."""
    pairs = [pair for pair in sorted(HELD_OUT_PAIRS) if pair[1] in looks_of(thing)]
    own = [pair for pair in pairs if pair[0] == color]
    chosen = own or pairs
    pair = chosen[int(rng.integers(len(chosen)))]
    return _made(rng, thing, pair[0], pair[1], sound)


def looks_of(thing: str) -> list[str]:
    """What a kind of thing may look like."""
    if thing == "dots":
        return [f"{count} dots" for count in COUNTS]
    return list(LETTERS) if thing == "letter" else [thing]


def _made(rng: np.random.Generator, thing: str, color: str, look: str, sound: str) -> Event:
    direction = _pick(rng, DIRECTIONS) if thing in SHAPES else None
    return Event(thing, color, look, direction, sound, _pick(rng, COUNTS) if sound == "beeps" else None)


def _pick(rng: np.random.Generator, values: list[str] | tuple[str, ...]) -> str:
    return values[int(rng.integers(len(values)))]


def _shuffled(rng: np.random.Generator, values: tuple[str, ...]) -> list[str]:
    return [values[i] for i in rng.permutation(len(values))]

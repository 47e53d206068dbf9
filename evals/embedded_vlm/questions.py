"""Questions about a scene, with answers of one word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .scenes import COLORS, FIELD, SHAPES, Scene, Split, Thing, allowed_pairs

COUNTS = ("one", "two", "three")
CAPTION_REQUEST = "Describe the image."
DISTANCE = 20.0  # pixels from the middle before a thing is at one side of it


@dataclass(frozen=True)
class Question:
    """A question of one kind, its answer and all answers that its kind allows."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]


def ask(scene: Scene, split: Split, rng: np.random.Generator) -> list[Question]:
    """One question of every kind that this scene allows, in random order.

    Args:
        split: questions of the training split name no held-out pair.
    """
    asked = [question for kind in KINDS.values() if (question := kind(scene, split, rng)) is not None]
    return [asked[i] for i in rng.permutation(len(asked))]


def _pick(scene: Scene, rng: np.random.Generator) -> Thing:
    return scene.things[int(rng.integers(len(scene.things)))]


def _color(scene: Scene, split: Split, rng: np.random.Generator) -> Question:
    thing = _pick(scene, rng)
    return Question("color", f"What color is the {thing.shape}?", thing.color, COLORS)


def _shape(scene: Scene, split: Split, rng: np.random.Generator) -> Question:
    thing = _pick(scene, rng)
    return Question("shape", f"What shape is the {thing.color} thing?", thing.shape, SHAPES)


def _count(scene: Scene, split: Split, rng: np.random.Generator) -> Question:
    return Question("count", "How many shapes are there?", COUNTS[len(scene.things) - 1], COUNTS)


def _exists(scene: Scene, split: Split, rng: np.random.Generator) -> Question:
    present = {thing.pair for thing in scene.things}
    yes = bool(rng.random() < 0.5)
    options = [pair for pair in allowed_pairs(split) if (pair in present) == yes]
    color, shape = options[int(rng.integers(len(options)))]
    return Question("exists", f"Is there a {color} {shape}?", "yes" if yes else "no", ("yes", "no"))


def _half(kind: str, axis: str, low: str, high: str) -> Callable[..., Question | None]:
    def question(scene: Scene, split: Split, rng: np.random.Generator) -> Question | None:
        clear = [thing for thing in scene.things if abs(getattr(thing, axis) - FIELD / 2) > DISTANCE]
        if not clear:
            return None
        thing = clear[int(rng.integers(len(clear)))]
        answer = low if getattr(thing, axis) < FIELD / 2 else high
        return Question(kind, f"Is the {thing.name} at the {low} or the {high}?", answer, (low, high))

    return question


def caption(scene: Scene) -> str:
    """One sentence: how many things, and each with its place, from left to right."""
    places = ", ".join(f"a {thing.name} at the {_place(thing)}" for thing in sorted(scene.things, key=lambda t: t.x))
    count = len(scene.things)
    return f"{COUNTS[count - 1]} shape{'s' if count > 1 else ''}: {places}."


def _place(thing: Thing) -> str:
    words = [
        low if value < FIELD / 2 - DISTANCE else high if value > FIELD / 2 + DISTANCE else ""
        for value, low, high in ((thing.y, "top", "bottom"), (thing.x, "left", "right"))
    ]
    return " ".join(filter(None, words)) or "center"


KINDS: dict[str, Callable[..., Question | None]] = {
    "color": _color,
    "shape": _shape,
    "count": _count,
    "exists": _exists,
    "left-right": _half("left-right", "x", "left", "right"),
    "top-bottom": _half("top-bottom", "y", "top", "bottom"),
}

# share of right answers by guessing evenly among a kind's answers
CHANCE = {
    "color": 1 / len(COLORS),
    "shape": 1 / len(SHAPES),
    "count": 1 / len(COUNTS),
    "exists": 1 / 2,
    "left-right": 1 / 2,
    "top-bottom": 1 / 2,
}

"""What clips show and let hear, and which combinations only the held-out split has."""

from __future__ import annotations

from typing import Literal

COLORS = ("red", "green", "blue", "yellow", "white", "pink")
SHAPES = ("circle", "square", "triangle", "cross")
THINGS = (*SHAPES, "dots", "letter")
DIRECTIONS = ("left", "right", "up", "down")
LETTERS = ("A", "C", "E", "H", "L", "T", "X", "Z")
COUNTS = ("1", "2", "3", "4")
TONES = ("low", "high", "rising", "falling")
SOUNDS = (*TONES, "beeps", "silence")

# an event's look: a shape, a number of dots or a letter
LOOKS = (*SHAPES, *(f"{count} dots" for count in COUNTS), *LETTERS)
Split = Literal["train", "held-out"]
SPLITS: tuple[Split, ...] = ("train", "held-out")

# kind of question -> its answers, all equally likely to one who neither sees nor hears
ANSWERS: dict[str, tuple[str, ...]] = {
    "color": COLORS,
    "shape": SHAPES,
    "count": COUNTS,
    "motion": DIRECTIONS,
    "letter": LETTERS,
    "order": THINGS,  # a question names two of them
    "sound": SOUNDS,
    "beeps": COUNTS,
    "needle": LETTERS,
}
KINDS = tuple(ANSWERS)
CHANCE = {kind: 1 / 2 if kind == "order" else 1 / len(answers) for kind, answers in ANSWERS.items()}

"""Procedurally drawn scenes: one to three coloured shapes, no two alike in colour or in shape.

The splits are disjoint by construction. Some pairs of colour and shape are never drawn in the training split, and every
held-out scene shows at least one of them, so no held-out image, and none that looks like it, was ever trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

COLORS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ("circle", "square", "triangle", "star")
# one pair a color, every shape at least once
HELD_OUT_PAIRS = frozenset(
    {
        ("red", "star"),
        ("green", "triangle"),
        ("blue", "square"),
        ("yellow", "circle"),
        ("black", "triangle"),
        ("white", "square"),
    }
)
PATTERNS = ("plain", "gradient", "noise", "stripes")
MOST_THINGS = 3
FIELD = 210  # pixels a side of the square in which things lie
RADII = (20.0, 54.0)
CLEARANCE = 6.0

Split = Literal["train", "held-out"]
SPLITS: tuple[Split, ...] = ("train", "held-out")


@dataclass(frozen=True)
class Thing:
    """A filled shape. Centre (x right, y down) and radius of the circle around it in pixels, rotation in degrees."""

    color: str
    shape: str
    x: float
    y: float
    radius: float
    rotation: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def pair(self) -> tuple[str, str]:
        return self.color, self.shape


@dataclass(frozen=True)
class Background:
    """What lies behind the things: a pattern between two greyish RGB colors; seed of its noise."""

    pattern: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    seed: int


@dataclass(frozen=True)
class Scene:
    """What an image shows, from which it is drawn (drawing.draw) and asked about (questions.ask)."""

    things: tuple[Thing, ...]
    background: Background


def allowed_pairs(split: Split) -> list[tuple[str, str]]:
    """Colors with shapes that a split may draw."""
    pairs = [(color, shape) for color in COLORS for shape in SHAPES]
    return [pair for pair in pairs if split == "held-out" or pair not in HELD_OUT_PAIRS]


def scenes(split: Split, seed: int = 0) -> Iterator[Scene]:
    """An endless stream of scenes; the same split and seed give the same scenes.

    Raises:
        ValueError: a split that does not exist.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not allowed; choose one of {', '.join(map(repr, SPLITS))}")
    rng = np.random.default_rng([SPLITS.index(split), seed])
    while True:
        yield _scene(split, rng)


def _scene(split: Split, rng: np.random.Generator) -> Scene:
    pairs = _pairs(split, int(rng.integers(1, MOST_THINGS + 1)), rng)
    spots = _spots(len(pairs), rng)
    things = tuple(
        Thing(color, shape, x, y, radius, float(rng.uniform(-15, 15)))
        for (color, shape), (x, y, radius) in zip(pairs, spots, strict=True)
    )
    return Scene(things, _background(rng))


def _pairs(split: Split, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs with no color and no shape twice; in held-out scenes the first is one of the held-out pairs."""
    pairs = allowed_pairs(split)
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    first = next(pair for pair in order if split == "train" or pair in HELD_OUT_PAIRS)
    chosen: list[tuple[str, str]] = []
    for pair in (first, *order):
        if len(chosen) < count and all(pair[0] != c and pair[1] != s for c, s in chosen):
            chosen.append(pair)
    return chosen


def _spots(count: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres and radii of circles inside the field that keep clear of each other."""
    while True:
        spots: list[tuple[float, float, float]] = []
        for _ in range(count):
            radius = float(rng.uniform(*RADII))
            x, y = (float(v) for v in rng.uniform(radius, FIELD - radius, size=2))
            if all(np.hypot(x - a, y - b) > radius + r + CLEARANCE for a, b, r in spots):
                spots.append((x, y, radius))
        if len(spots) == count:
            return spots


def _background(rng: np.random.Generator) -> Background:
    def greyish() -> tuple[int, int, int]:
        level = rng.uniform(85, 185)
        red, green, blue = (int(v) for v in np.clip(level + rng.uniform(-18, 18, size=3), 0, 255))
        return red, green, blue

    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    return Background(pattern, greyish(), greyish(), int(rng.integers(2**31)))

"""Events to frames of 28 x 28 pixels, of which the model's vision tower makes one token a pair."""

from __future__ import annotations

import numpy as np

from .events import SECONDS, Event

SIZE = 28
FPS = 4.0
FRAMES = int(SECONDS * FPS)  # of an event
RGB = {
    "red": (230, 30, 30),
    "green": (30, 200, 40),
    "blue": (40, 70, 240),
    "yellow": (240, 220, 30),
    "white": (250, 250, 250),
    "pink": (250, 110, 200),
}
TRAVEL = 9.0  # pixels that a shape moves in an event, from the middle of the frame
_MOVES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# rows of five pixels, as bits
_GLYPHS = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Z": (31, 1, 2, 4, 8, 16, 31),
}
_SCALE = 3  # pixels of a glyph's pixel
_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def draw(event: Event, rng: np.random.Generator, background: float) -> np.ndarray:
    """Frames of an event, uint8 [8, 28, 28, 3]; the background is a grey from 0 to 255."""
    if event.thing == "dots":
        cover = np.broadcast_to(_dots(rng, int(event.look[0])), (FRAMES, SIZE, SIZE))
    elif event.thing == "letter":
        cover = np.broadcast_to(_letter(rng, event.look), (FRAMES, SIZE, SIZE))
    else:
        assert event.direction is not None  # shapes move
        cover = _shape(rng, event.look, event.direction)
    color = np.array(RGB[event.color], np.float32)
    pixels = background + cover[..., None] * (color - background)
    return np.round(pixels).astype(np.uint8)


def _shape(rng: np.random.Generator, shape: str, direction: str) -> np.ndarray:
    """How much of each pixel a moving shape covers, [frames, height, width]."""
    dx, dy = _MOVES[direction]
    along = np.linspace(0, TRAVEL, FRAMES, dtype=np.float32)
    across, radius = rng.uniform(-3, 3), rng.uniform(5.5, 7.0)
    x = _X - ((SIZE - 1) / 2 + along * dx + across * abs(dy))[:, None, None]
    y = _Y - ((SIZE - 1) / 2 + along * dy + across * abs(dx))[:, None, None]
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius
    elif shape == "triangle":
        distance = np.maximum(0.89 * np.abs(x) + 0.45 * (y - radius) + 0.45 * radius, y - 0.8 * radius)
        distance = np.maximum(distance - 0.45 * radius, -y - radius)
    else:
        a, b = np.abs(x), np.abs(y)
        distance = np.maximum(np.maximum(a, b) - radius, np.minimum(a, b) - 0.3 * radius)
    return np.clip(0.5 - distance, 0, 1)


def _dots(rng: np.random.Generator, count: int) -> np.ndarray:
    """Dots in as many quarters of the frame, [height, width]."""
    cover = np.zeros((SIZE, SIZE), np.float32)
    for quarter in rng.permutation(4)[:count]:
        x = 7 + 14 * (quarter % 2) + rng.uniform(-1.5, 1.5)
        y = 7 + 14 * (quarter // 2) + rng.uniform(-1.5, 1.5)
        cover = np.maximum(cover, np.clip(0.5 - (np.hypot(_X - x, _Y - y) - 3.5), 0, 1))
    return cover


def _letter(rng: np.random.Generator, letter: str) -> np.ndarray:
    """A letter near the middle, [height, width]."""
    rows = [[(bits >> (4 - column)) & 1 for column in range(5)] for bits in _GLYPHS[letter]]
    glyph = np.kron(np.array(rows, np.float32), np.ones((_SCALE, _SCALE), np.float32))
    left = (SIZE - glyph.shape[1]) // 2 + int(rng.integers(-3, 4))
    top = (SIZE - glyph.shape[0]) // 2 + int(rng.integers(-2, 3))
    cover = np.zeros((SIZE, SIZE), np.float32)
    cover[top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    return cover

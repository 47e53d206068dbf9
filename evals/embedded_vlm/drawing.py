"""Draws scenes as images."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from .resnet import IMAGE_SIZE, PIXEL_MEAN
from .scenes import FIELD, Background, Scene, Thing

# a mat of the network's mean color around the field makes the vision tower compute what the published network does
# (resnet.py: 4 pixels are needed)
MAT = (IMAGE_SIZE - FIELD) // 2
MAT_COLOR = (round(PIXEL_MEAN[0]), round(PIXEL_MEAN[1]), round(PIXEL_MEAN[2]))
_SUPERSAMPLING = 3
_PAINT = {
    "red": (214, 32, 36),
    "green": (30, 150, 52),
    "blue": (36, 66, 210),
    "yellow": (240, 214, 28),
    "black": (12, 12, 14),
    "white": (246, 246, 244),
}
_STAR_DEPTH = 0.42  # inner radius over outer
_STRIPE = 14  # pixels


def draw(scene: Scene) -> Image.Image:
    """RGB image of IMAGE_SIZE x IMAGE_SIZE pixels."""
    side = FIELD * _SUPERSAMPLING
    field = Image.fromarray(_backdrop(scene.background)).resize((side, side), Image.Resampling.NEAREST)
    pencil = ImageDraw.Draw(field)
    for thing in scene.things:
        _fill(pencil, thing)
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), MAT_COLOR)
    image.paste(field.resize((FIELD, FIELD), Image.Resampling.BOX), (MAT, MAT))
    return image


def _backdrop(background: Background) -> np.ndarray:
    """uint8 [FIELD, FIELD, 3]."""
    rng = np.random.default_rng(background.seed)
    first, second = np.array(background.first, float), np.array(background.second, float)
    across = np.arange(FIELD)[None, :, None]
    share: np.ndarray = np.zeros((1, 1, 1))
    if background.pattern == "gradient":
        share = across / (FIELD - 1)
    elif background.pattern == "stripes":
        share = 0.5 * (across // _STRIPE % 2)
    noise = rng.normal(0, 12, size=(FIELD, FIELD, 1)) if background.pattern == "noise" else 0.0
    pixels = np.broadcast_to(first + share * (second - first) + noise, (FIELD, FIELD, 3))
    if rng.random() < 0.5:
        pixels = pixels.transpose(1, 0, 2)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _fill(pencil: ImageDraw.ImageDraw, thing: Thing) -> None:
    x, y, radius = (value * _SUPERSAMPLING for value in (thing.x, thing.y, thing.radius))
    if thing.shape == "circle":
        pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_PAINT[thing.color])
        return
    corners = {"square": 4, "triangle": 3, "star": 10}[thing.shape]
    start = thing.rotation + (45 if thing.shape == "square" else -90)
    points = []
    for corner in range(corners):
        angle = math.radians(start + 360 * corner / corners)
        reach = radius * (_STAR_DEPTH if thing.shape == "star" and corner % 2 else 1.0)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    pencil.polygon(points, fill=_PAINT[thing.color])

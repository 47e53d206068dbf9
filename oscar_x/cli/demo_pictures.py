"""Pictures made of coloured characters: frames, memory, modalities, and key norms of a clip's tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.color import Color
from rich.style import Style
from rich.text import Text

from oscar_x.cli.output import show_bytes
from oscar_x.evals.tni_report.style import MODALITY_COLORS

if TYPE_CHECKING:
    from oscar_x.cli.demo_media import MediaSide
    from oscar_x.tni.parts import NormMap

WIDTH = 72
PARTS = {
    "codes": "#c1440e",
    "scales": "#e28e45",
    "norms": "#c9a227",
    "sinks": "#4b6584",
    "residual": "#6e8caa",
    "slack": "#b4bac2",
    "other": "#8e6c8a",
}
FULL_COLOR = "#4b6584"
Rgb = Sequence[float]


def _style(front: Rgb, back: Rgb | None = None) -> Style:
    return Style(color=_color(front), bgcolor=None if back is None else _color(back))


def rgb_of(name: str) -> Rgb:
    """The parts of a colour written as #rrggbb."""
    return tuple(int(name[at : at + 2], 16) for at in (1, 3, 5))


def _color(rgb: Rgb) -> Color:
    red, green, blue = (max(0, min(255, int(part))) for part in rgb)
    return Color.from_rgb(red, green, blue)


def filmstrip(frames: Any, count: int = 6, height: int = 12) -> Text:
    """Some frames beside each other, two pixels a character.

    Args:
        frames: uint8 [n, height, width, 3].
        count: frames that are shown, evenly over the clip.
        height: of a frame in pixels, an even number.
    """
    chosen = [frames[(2 * index + 1) * len(frames) // (2 * count)] for index in range(count)]
    step = max(1, chosen[0].shape[0] // height)
    small = [frame[::step, ::step] for frame in chosen]
    text = Text()
    for row in range(0, small[0].shape[0] - 1, 2):
        for frame in small:
            for upper, lower in zip(frame[row], frame[row + 1], strict=True):
                text.append("\u2580", _style(upper, lower))
            text.append(" ")
        text.append("\n")
    return text


def memory_bars(sides: Sequence[MediaSide]) -> Text:
    """A bar for each cache, to one scale; the compressed one's by part."""
    largest = max(side.memory.total for side in sides)
    text = Text()
    for side in sides:
        text.append(f"{side.name:<12} ")
        packed = side.memory.packed_elements > 0
        parts = PARTS if packed else {"": FULL_COLOR}
        cells = [(getattr(side.memory, name) if name else side.memory.total, rgb) for name, rgb in parts.items()]
        used = 0.0
        for size, rgb in cells:
            start, used = used, used + (WIDTH - 24) * size / largest
            text.append("\u2588" * (round(used) - round(start)), _style(rgb_of(rgb)))
        text.append(f" {show_bytes(side.memory.total)}\n")
    for name, rgb in PARTS.items():
        text.append("\u2588", _style(rgb_of(rgb)))
        text.append(f" {name}  ")
    return text


def modality_band(kinds: Sequence[str], width: int = WIDTH) -> Text:
    """What each token is, from the first to the last, with a legend."""
    text = Text()
    for column in range(min(width, len(kinds))):
        part = kinds[column * len(kinds) // min(width, len(kinds)) :][: max(1, len(kinds) // width)]
        rgb = [sum(rgb_of(MODALITY_COLORS[kind])[axis] for kind in part) / len(part) for axis in range(3)]
        text.append("\u2588", _style(rgb))
    text.append("\n")
    for kind in dict.fromkeys(kinds):
        text.append("\u2588", _style(rgb_of(MODALITY_COLORS[kind])))
        text.append(f" {kind}: {sum(other == kind for other in kinds):,}  ")
    return text


def norm_picture(norms: NormMap, width: int = WIDTH - 9) -> Text:
    """Key norms by layer (rows) and token (columns): blue below the layer's median, red above."""
    text = Text()
    for layer, low, high in zip(norms.layers, norms.low, norms.high, strict=True):
        middle = sorted(low)[len(low) // 2]
        shown = [extreme(low, high, middle, column, min(width, len(low))) for column in range(min(width, len(low)))]
        text.append(f"layer {layer:<2} ")
        for ratio in shown:
            text.append("\u2588", _style(heat(ratio)))
        text.append("\n")
    text.append("key norm over the layer's median: ")
    for ratio in (0.25, 0.5, 1.0, 2.0, 4.0):
        text.append("\u2588", _style(heat(ratio)))
        text.append(f" {ratio:g}  ")
    return text


def extreme(low: Sequence[float], high: Sequence[float], middle: float, column: int, columns: int) -> float:
    """The ratio furthest from 1 among the tokens that a column of the picture stands for."""
    start, stop = (
        column * len(low) // columns,
        max(column * len(low) // columns + 1, (column + 1) * len(low) // columns),
    )
    found = [norm / middle for norm in (*low[start:stop], *high[start:stop]) if norm > 0 and middle > 0]
    return max(found, key=lambda ratio: abs(math.log(ratio)), default=1.0)


def heat(ratio: float) -> tuple[float, float, float]:
    """Blue for a quarter, white-grey for 1, red for four times."""
    level = max(-1.0, min(1.0, math.log(ratio) / math.log(4)))
    cold, neutral, hot = (49, 94, 182), (226, 226, 226), (190, 44, 36)
    end = hot if level > 0 else cold
    red, green, blue = (base + (to - base) * abs(level) for base, to in zip(neutral, end, strict=True))
    return red, green, blue

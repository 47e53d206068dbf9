"""The report's picture, as SVG inside the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

LINE, LEFT, RIGHT, WIDTH = 26, 200, 40, 760
AXIS = 34
OURS, PEER = "#c1440e", "#4b6584"


def difference_chart(rows: Sequence[dict[str, Any]]) -> str:
    """Each method's accuracy less that of the full cache, in points, with its interval."""
    compared = [(row, row["overall"]["against_full"]["difference"]) for row in rows if "against_full" in row["overall"]]
    if not compared:
        return ""
    low = min(0.0, *(100 * cell["low"] for _, cell in compared))
    high = max(0.0, *(100 * cell["high"] for _, cell in compared))
    step = _step(max(high - low, 0.1))
    low, high = step * (low // step), step * -(-high // step)
    high = high if high > low else low + step

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    height = LINE * len(compared) + AXIS
    shapes = [_axis(low, high, step, x, height)]
    for place, (row, cell) in enumerate(compared):
        y = LINE * place + LINE / 2 + 4
        color = OURS if row["method"].startswith("oscar-") else PEER
        value, least, most = (x(100 * cell[name]) for name in ("value", "low", "high"))
        label = escape(f"{row['label']}, {row['bits_per_element']:.2f} bits")
        shapes += [
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{label}</text>',
            f'<line x1="{least}" x2="{most}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"/>',
            f'<circle cx="{value}" cy="{y}" r="4.5" fill="{color}"/>',
        ]
    title = "Accuracy less that of the full cache, in points"
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="{title}">'
        + "".join(shapes)
        + f'</svg>\n<p class="about">{title}, with 95% intervals.</p>'
    )


def _axis(low: float, high: float, step: float, x: Any, height: int) -> str:
    """Grid lines with their numbers; the full cache's is stronger."""
    lines = []
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        zero = abs(value) < step / 2
        color, width = ("#1f2933", 1.5) if zero else ("#e4e7eb", 1)
        place, number_text = x(value), "0" if zero else f"{value:+g}"
        stroke = f'stroke="{color}" stroke-width="{width}"'
        lines += [
            f'<line x1="{place}" x2="{place}" y1="0" y2="{height - AXIS + 6}" {stroke}/>',
            f'<text x="{place}" y="{height - 10}" text-anchor="middle">{number_text}</text>',
        ]
    return "".join(lines)


def _step(span: float) -> float:
    """A round distance of grid lines, for at most eight of them."""
    return next(step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if span / step <= 8 or step == 50)

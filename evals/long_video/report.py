"""What a memory study found: plain JSON types, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .accuracy import Answer, by_length, cells
from .hours import HoursRow
from .stream import StreamReport
from .sweep import Sweep

if TYPE_CHECKING:
    from rich.table import Table

SizeText = Callable[[float], str]


@dataclass(frozen=True)
class LongVideoReport:
    """A memory study.

    Attributes:
        model: what it was called.
        settings: what was asked for, and the weights' bytes, dtype and device.
        sweep: memory and speed by length.
        answers: to questions about needles.
        streams: videos that arrived over time.
        hours: what fits at published shapes.
    """

    model: str
    settings: dict[str, Any]
    sweep: Sweep = field(default_factory=lambda: Sweep([], []))
    answers: list[Answer] = field(default_factory=list)
    streams: list[StreamReport] = field(default_factory=list)
    hours: list[HoursRow] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "model": self.model,
            "settings": self.settings,
            "sweep": [row.to_dict() for row in self.sweep.rows],
            "stopped": [stop.to_dict() for stop in self.sweep.stopped],
            "accuracy": [asdict(row) for row in by_length(self.answers)],
            "cells": [asdict(cell) for cell in cells(self.answers)],
            "answers": [asdict(answer) for answer in self.answers],
            "streams": [stream.to_dict() for stream in self.streams],
            "hours": [row.to_dict() for row in self.hours],
        }

    def tables(self, make_table: Callable[..., Table], show_bytes: SizeText) -> Iterator[Table]:
        """A table for each part that holds results.

        Args:
            make_table: (title, *columns, words=...) -> table whose rows are texts.
            show_bytes: a size in words.
        """
        if self.sweep.rows:
            yield self._memory(make_table, show_bytes)
        if self.answers:
            yield self._accuracy(make_table)
        if self.streams:
            yield self._streams(make_table, show_bytes)
        if self.hours:
            yield self._hours(make_table)

    def _memory(self, make_table: Callable[..., Table], show_bytes: SizeText) -> Table:
        columns = ("cache", "video", "tokens", "held", "formula", "peak", "smaller", "first token", "decode")
        table = make_table(f"Memory and speed, {self.settings['dtype']} on {self.settings['device']}", *columns)
        table.caption = "formula: held bytes off those predicted; smaller: than the full cache"
        full = {row.seconds: row.steady_bytes for row in self.sweep.rows if row.method == "full"}
        for row in sorted(self.sweep.rows, key=lambda row: row.seconds):
            off = None if row.predicted_bytes is None else row.steady_bytes / row.predicted_bytes - 1
            table.add_row(
                row.method,
                f"{row.seconds:g} s",
                f"{row.tokens:,}",
                show_bytes(row.steady_bytes),
                "" if off is None else f"{off:.2%}",
                show_bytes(row.peak_bytes),
                f"{full[row.seconds] / row.steady_bytes:.2f}x" if row.seconds in full else "",
                f"{row.first_token_seconds:.2f} s",
                f"{row.decode_tokens_per_second:.0f}/s",
            )
        return table

    def _accuracy(self, make_table: Callable[..., Table]) -> Table:
        table = make_table("Needles found, %", "cache", "video", "tokens", "asked", "right", "against full")
        rows = sorted(by_length(self.answers), key=lambda row: row.seconds)
        table.caption = f"95% intervals over clips; chance {100 * rows[0].chance:.1f}"
        for row in rows:
            against = ""
            if row.difference is not None and row.method != "full":
                low, high = row.difference_low or 0.0, row.difference_high or 0.0
                against = f"{100 * row.difference:+.1f} ({100 * low:+.1f}, {100 * high:+.1f})"
            right = f"{100 * row.accuracy:.1f} ({100 * row.low:.1f}, {100 * row.high:.1f})"
            table.add_row(row.method, f"{row.seconds:g} s", f"{row.tokens:,}", str(row.asked), right, against)
        return table

    def _streams(self, make_table: Callable[..., Table], show_bytes: SizeText) -> Table:
        table = make_table("Streams", "cache", "video", "frames", "tokens", "held", "off", "full", "reading", "right")
        table.caption = "off: held bytes off those predicted, the most at any time; full: the full cache by its formula"
        for stream in self.streams:
            last, right = stream.points[-1], [answer.right for answer in stream.answers]
            table.add_row(
                stream.method,
                f"{last.seconds / 60:.1f} min",
                f"{last.frames:,}",
                f"{last.tokens:,}",
                show_bytes(last.allocated),
                f"{stream.deviation:.2%}",
                show_bytes(last.full),
                f"{sum(point.read_seconds for point in stream.points):.0f} s",
                f"{sum(right)}/{len(right)}",
            )
        return table

    def _hours(self, make_table: Callable[..., Table]) -> Table:
        memories = sorted({row.memory_bytes for row in self.hours})
        first = self.hours[0]
        title = f"Hours of video that fit beside the weights, {first.width}x{first.height}, {first.dtype}"
        table = make_table(
            title, "model", "cache", "tokens/s", *(f"{m / 1e9:g} GB" for m in memories), words=("cache",)
        )
        for model, method in dict.fromkeys((row.model, row.method) for row in self.hours):
            rows = {r.memory_bytes: r for r in self.hours if (r.model, r.method) == (model, method)}
            speed = f"{rows[memories[0]].tokens_per_second:.0f}"
            table.add_row(model, method, speed, *(_hours(rows[memory].hours) for memory in memories))
        return table


def _hours(hours: float) -> str:
    return "-" if not hours else f"{hours:.2f}" if hours < 10 else f"{hours:.1f}"

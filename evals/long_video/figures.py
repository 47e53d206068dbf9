"""Figures of a memory study, drawn without touching matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .accuracy import Answer, cells
from .hours import HoursRow
from .stream import StreamReport
from .sweep import Sweep

if TYPE_CHECKING:
    from .report import LongVideoReport

COLORS = ("#4b6584", "#c1440e", "#e08e45", "#7a9e7e", "#8e6c8a", "#c9a227", "#5c8d89", "#a2666f")
MIB, GIB = 2**20, 2**30


def save_figures(report: LongVideoReport, prefix: str | Path) -> list[Path]:
    """Write what the report holds as PREFIX-<name>.png (200 dpi) and .svg.

    Raises:
        ImportError: matplotlib is not installed.
    """
    paths = []
    for name, figure in draw_figures(report).items():
        for ending in ("png", "svg"):
            path = Path(f"{prefix}-{name}.{ending}")
            # no date in the file, so that the same results give the same bytes
            figure.savefig(path, dpi=200, metadata={"Date": None} if ending == "svg" else None)
            paths.append(path)
    return paths


def draw_figures(report: LongVideoReport) -> dict[str, Any]:
    """Figures by name: those for which the report holds results."""
    figures = {}
    if report.answers:
        figures["accuracy"] = draw_accuracy(report.answers)
    if report.sweep.rows:
        figures["memory"] = draw_memory(report.sweep, report.settings.get("memory"), report.settings["weights_bytes"])
    if report.streams:
        figures["stream"] = draw_stream(report.streams)
    if report.hours:
        figures["hours"] = draw_hours(report.hours)
    return figures


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_accuracy(answers: Sequence[Answer]) -> Any:
    """Heatmaps depth x length: a column for each cache, a row for each needle."""
    found = {(c.needle, c.method, c.seconds, c.depth): c.accuracy for c in cells(answers)}
    methods, needles = list(dict.fromkeys(a.method for a in answers)), list(dict.fromkeys(a.needle for a in answers))
    tokens = {answer.seconds: answer.tokens for answer in answers}
    lengths, depths = sorted(tokens), sorted({answer.depth for answer in answers})
    figure = _figure(1.4 + max(2.6, 0.6 * len(lengths) + 0.8) * len(methods), 0.9 + 2.1 * len(needles))
    grid = figure.subplots(len(needles), len(methods), sharex=True, sharey=True, squeeze=False)
    image = None
    for row, needle in enumerate(needles):
        for column, method in enumerate(methods):
            axes = grid[row][column]
            values = [[found.get((needle, method, s, d), float("nan")) for s in lengths] for d in depths]
            image = axes.imshow(values, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
            for y, line in enumerate(values):
                for x, value in enumerate(line):
                    axes.text(
                        x, y, "" if value != value else f"{100 * value:.0f}", ha="center", va="center", fontsize=7
                    )
            axes.set_xticks(range(len(lengths)), [f"{s:g} s\n{tokens[s]:,}" for s in lengths], fontsize=7)
            axes.set_yticks(range(len(depths)), [f"{100 * depth:.0f}%" for depth in depths], fontsize=7)
            if not row:
                axes.set_title(method, fontsize=9)
            if not column:
                axes.set_ylabel(f"{needle} needle\ndepth", fontsize=8)
    figure.supxlabel("length of the video, and tokens in the cache", fontsize=8)
    figure.colorbar(image, ax=grid, shrink=0.8, label="right answers")
    return figure


def draw_memory(sweep: Sweep, memory: int | None, weights: int) -> Any:
    """Bytes and speed by length: peak dashed, steady solid."""
    figure = _figure(11, 3.8)
    held, first, speed = figure.subplots(1, 3)
    for number, method in enumerate(dict.fromkeys(row.method for row in sweep.rows)):
        rows, color = [row for row in sweep.rows if row.method == method], COLORS[number % len(COLORS)]
        tokens = [row.tokens for row in rows]
        held.plot(tokens, [r.steady_bytes / MIB for r in rows], color=color, marker="o", markersize=4, label=method)
        held.plot(tokens, [r.peak_bytes / MIB for r in rows], color=color, linestyle="--", linewidth=1)
        first.plot(tokens, [r.first_token_seconds for r in rows], color=color, marker="o", markersize=4)
        speed.plot(tokens, [r.decode_tokens_per_second for r in rows], color=color, marker="o", markersize=4)
    if memory is not None:
        held.axhline((memory - weights) / MIB, color="black", linewidth=0.8, linestyle=":")
        held.annotate("limit", (0.02, (memory - weights) / MIB), xycoords=("axes fraction", "data"), fontsize=7)
    held.set_ylabel("cache (MiB): held, peak dashed")
    first.set_ylabel("time to the first token (s)")
    speed.set_ylabel("decoding (tokens/s)")
    held.legend(fontsize=7)
    for axes in (held, first, speed):
        axes.set_xlabel("tokens of the video")
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain(axes)
    return figure


def draw_stream(streams: Sequence[StreamReport]) -> Any:
    """Allocated and predicted bytes while a video went on, and what was answered."""
    figure = _figure(8, 4.2)
    axes = figure.subplots()
    first = streams[0].points
    if not any(stream.method == "full" for stream in streams):
        axes.plot(
            [p.seconds / 60 for p in first],
            [p.full / MIB for p in first],
            color="#9aa5b1",
            label="full cache, by its formula",
        )
    for number, stream in enumerate(streams):
        color = COLORS[(number + 1) % len(COLORS)]
        minutes = [point.seconds / 60 for point in stream.points]
        axes.plot(minutes, [p.allocated / MIB for p in stream.points], color=color, label=f"{stream.method}, allocated")
        axes.plot(
            minutes,
            [p.predicted / MIB for p in stream.points],
            color="black",
            linestyle=":",
            linewidth=1.2,
            label=f"{stream.method}, predicted",
        )
        at = {point.seconds: point.allocated / MIB for point in stream.points}
        for right, marker in ((True, "o"), (False, "x")):
            asked = [answer.seconds for answer in stream.answers if answer.right is right]
            axes.scatter([s / 60 for s in asked], [at[s] for s in asked], marker=marker, color=color, s=22, zorder=3)
    axes.set_xlabel("minutes of video so far (circles: questions answered right; crosses: wrong)")
    axes.set_ylabel("cache (MiB)")
    axes.legend(fontsize=8)
    _plain(axes)
    return figure


def draw_hours(rows: Sequence[HoursRow]) -> Any:
    """Hours that fit, by memory: a panel for each model."""
    models, methods = list(dict.fromkeys(r.model for r in rows)), list(dict.fromkeys(r.method for r in rows))
    memories = sorted({row.memory_bytes for row in rows})
    figure = _figure(1 + 2.9 * len(models), 3.4)
    grid = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    width = 0.8 / len(methods)
    for axes, model in zip(grid, models, strict=True):
        for number, method in enumerate(methods):
            hours = {r.memory_bytes: r.hours for r in rows if (r.model, r.method) == (model, method)}
            places = [place + (number - (len(methods) - 1) / 2) * width for place in range(len(memories))]
            bars = axes.bar(
                places, [hours[m] for m in memories], width, color=COLORS[number % len(COLORS)], label=method
            )
            axes.bar_label(bars, fmt="%.2g", fontsize=6)
        axes.set_xticks(range(len(memories)), [f"{memory / 1e9:g} GB" for memory in memories])
        axes.set_title(model, fontsize=9)
        _plain(axes)
    grid[0].set_ylabel("hours of video")
    grid[0].legend(fontsize=7)
    return figure


def _plain(axes: Any) -> None:
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)

"""Figures of the benchmarks: one line a backend over the context, without touching matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS, PEERS = ("#c1440e", "#e08e45", "#7a2307", "#d9b44a"), ("#4b6584", "#778ca3", "#2d3436", "#8395a7")
STYLES = ("-", "--", ":", "-.")


def context_plot(rows: Sequence[dict[str, Any]], prefix: str | Path, field: str, label: str, title: str) -> list[Path]:
    """A field of the rows against the context, both logarithmic, a panel for each batch size.

    Args:
        rows: dicts with backend, context, batch and the field; ours are those whose backend starts with "oscar".
        prefix: path without ending.
        field, label: what to draw, and its axis.

    Returns:
        The two files written: prefix.png (200 dpi) and prefix.svg.

    Raises:
        ValueError: no row to draw.
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("rows is empty; there is nothing to draw")
    batches = sorted({row["batch"] for row in rows})
    figure = Figure(figsize=(5 * len(batches) + 3, 5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        _draw(axes, [row for row in rows if row["batch"] == batch], field)
        axes.set_title(f"batch {batch}", loc="left")
    panels[0].set_ylabel(label)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(title, x=0.01, ha="left")
    paths = [Path(f"{prefix}.{ending}") for ending in ("png", "svg")]
    for path in paths:
        # no date in the file, so that the same results give the same bytes
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _draw(axes: Any, rows: list[dict[str, Any]], field: str) -> None:
    for colors, ours in ((OURS, True), (PEERS, False)):
        names = dict.fromkeys(row["backend"] for row in rows if row["backend"].startswith("oscar") == ours)
        for index, name in enumerate(names):
            points = sorted((row["context"], row[field]) for row in rows if row["backend"] == name)
            style = STYLES[index // len(colors) % len(STYLES)]
            axes.plot(*zip(*points, strict=True), style, marker="o", markersize=4, color=colors[index % 4], label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("tokens in the cache")
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)

"""How norms and errors are distributed, by modality, before and after scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from oscar_x.tni.distribution import Distribution, merge

from .style import AFTER, BEFORE, MODALITY_COLORS, new_figure, tidy

if TYPE_CHECKING:
    from oscar_x.tni import TniReport


def violins(report: TniReport) -> Any:
    """Key and value norms by modality; relative errors of tokens as they are (left halves) and treated (right)."""
    figure = new_figure(10, 6.2)
    panels = figure.subplots(2, 2, sharey="row")
    for column, which in enumerate(("keys", "values")):
        norms = report.norms(which)
        axes = panels[0, column]
        for place, (modality, found) in enumerate(_ordered(norms)):
            color = MODALITY_COLORS[modality]
            _violin(axes, place, found, color, -1)
            _violin(axes, place, found, color, 1)
        _finish(axes, norms, f"Norms of {which}", "over the head's median")
        _errors(panels[1, column], report, which)
    return figure


def _errors(axes: Any, report: TniReport, which: str) -> None:
    states = report.states(which)
    names = sorted({name for state in states for name in state.errors_before}, key=list(MODALITY_COLORS).index)
    for place, modality in enumerate(names):
        for side, color, name in ((-1, BEFORE, "errors_before"), (1, AFTER, "errors_after")):
            found = merge([getattr(state, name)[modality] for state in states if modality in getattr(state, name)])
            _violin(axes, place, found, color, side)
    bits = report.settings.key_bits if which == "keys" else report.settings.value_bits
    treated = "rotated and scaled" if which == "keys" else "rotated"
    _finish(axes, names, f"Relative error of {which} at {bits} bits", "error over norm, a token")
    for color, label in ((BEFORE, "as they are"), (AFTER, treated)):
        axes.plot([], [], color=color, linewidth=6, label=label)
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))


def _ordered(found: dict[str, Distribution]) -> list[tuple[str, Distribution]]:
    return [(name, found[name]) for name in MODALITY_COLORS if name in found]


def _violin(axes: Any, place: int, found: Distribution, color: str, side: int) -> None:
    """Half a violin from a histogram: side -1 is the left half, 1 the right one."""
    counts = np.array(found.counts, dtype=float)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2)
    density = np.convolve(np.pad(counts, 6), kernel / kernel.sum(), mode="same")
    steps = np.arange(-6, len(counts) + 6)
    heights = found.middles()[0] * 2 ** (steps / 32)
    width = 0.42 * density / density.max()
    heights = heights.clip(found.low, found.high)  # smoothing reaches beyond what was seen
    axes.fill_betweenx(heights, place, place + side * width, color=color, alpha=0.75, linewidth=0)
    median = found.median
    axes.hlines(median, *sorted((place, place + side * 0.42)), color="black", linewidth=1)
    # a thin line to the extremes: a handful of tokens leaves no visible area
    axes.vlines(place, found.low, found.high, color="black", linewidth=0.6)


def _finish(axes: Any, names: Any, title: str, ylabel: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    tidy(axes, title, "", ylabel)
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    if high < 6 * low:  # few powers of two in sight
        axes.yaxis.set_major_locator(LogLocator(base=2, subs=(1, 1.25, 1.5, 1.75)))
    axes.yaxis.set_major_formatter(lambda number, _: f"{number:.3g}")
    axes.yaxis.set_minor_locator(NullLocator())
    places = [name for name in MODALITY_COLORS if name in names]
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.grid(axis="y", alpha=0.2)

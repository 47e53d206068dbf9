"""What the error of keys is owed to, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from oscar_x.tni.treatments import CAUSES, FULL, NONE

from .style import AFTER, BEFORE, CAUSE_COLORS, new_figure, tidy, whole_ticks

if TYPE_CHECKING:
    from oscar_x.tni import TniReport

MEASURES = {"token": "mean over tokens", "channel": "worst channel"}


def error_attribution(report: TniReport) -> Any:
    """Bars of each cause's share above and below zero, and the error with no and with both treatments as lines."""
    figure = new_figure(10, 6.2)
    layers = [layer.index for layer in report.layers if layer.compressed]
    for axes, (measure, what) in zip(figure.subplots(2, 1, sharex=True), MEASURES.items(), strict=True):
        parts = [report.attribution(layer=layer, measure=measure) for layer in layers]
        above, below = np.zeros(len(layers)), np.zeros(len(layers))
        for name, cause in CAUSES.items():
            shares = np.array([part[name].share for part in parts])
            base = np.where(shares >= 0, above, below)
            axes.bar(layers, shares, bottom=base, color=CAUSE_COLORS[name], label=cause, width=0.8)
            above += np.maximum(shares, 0)
            below += np.minimum(shares, 0)
        for name, color, label in ((NONE, BEFORE, "error as it is"), (FULL, AFTER, "rotated and scaled")):
            errors = [report.error(name, layer=layer, measure=measure) for layer in layers]
            axes.plot(layers, errors, color=color, marker="o", markersize=3, linewidth=1.2, label=label)
        whole_ticks(axes.xaxis)
        axes.axhline(0, color="black", linewidth=0.6)
        last = measure == list(MEASURES)[-1]
        title = f"Relative error of keys at {report.settings.key_bits} bits, {what}"
        tidy(axes, title, "layer" if last else "", "squared error over squared norm")
        axes.legend(fontsize=8, frameon=False, ncols=3)
        axes.set_ylim(top=axes.get_ylim()[1] * 1.25)  # room for the legend
    return figure

"""Key norms over tokens and layers, and where the lowest norms are."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import MODALITY_COLORS, new_figure, tidy, whole_ticks

if TYPE_CHECKING:
    from oscar_x.tni import TniReport

LIMIT = 3.0  # norms this many times above or below the median take the ends of the colour scale


def norm_heatmap(report: TniReport) -> Any:
    """Norm of each token's key over all heads, relative to the layer's median, with the modality under it.

    Where a column stands for several tokens it shows the one furthest from the median.
    """
    held = report.norm_map
    low, high = np.array(held.low), np.array(held.high)
    middle = np.median(np.sqrt(np.maximum(low, 1e-30) * high), axis=1, keepdims=True)
    smallest, largest = (np.log2(np.maximum(norms, 1e-30) / np.maximum(middle, 1e-30)) for norms in (low, high))
    shown = np.where(-smallest > largest, smallest, largest)

    figure = new_figure(10, 4.6)
    axes, band = figure.subplots(2, 1, sharex=True, height_ratios=[16, 1])
    tokens = shown.shape[1] * held.tokens_per_column
    image = axes.imshow(
        shown,
        aspect="auto",
        cmap="RdBu_r",
        vmin=-np.log2(LIMIT),
        vmax=np.log2(LIMIT),
        interpolation="nearest",
        extent=(0, tokens, len(held.layers) - 0.5, -0.5),
    )
    tidy(axes, "Key norm of each token, over the layer's median (first sequence)", "", "layer")
    step = max(1, len(held.layers) // 10)
    axes.set_yticks(range(0, len(held.layers), step), held.layers[::step])
    bar = figure.colorbar(image, ax=[axes, band], pad=0.01, extend="both")
    ticks = [1 / 3, 1 / 2, 1 / 1.5, 1, 1.5, 2, 3]
    bar.set_ticks([float(np.log2(tick)) for tick in ticks], labels=["1/3", "1/2", "1/1.5", "1", "1.5", "2", "3"])
    bar.ax.tick_params(labelsize=8)
    _draw_band(band, held.modalities, held.tokens_per_column)
    return figure


def _draw_band(band: Any, modalities: tuple[str, ...], width: int) -> None:
    at, named = 0, set()
    for modality, run in groupby(modalities):
        length = len(list(run)) * width
        label = None if modality in named else modality
        named.add(modality)
        band.axvspan(at, at + length, color=MODALITY_COLORS[modality], linewidth=0, label=label)
        at += length
    band.set_yticks([])
    band.spines[["top", "right", "left", "bottom"]].set_visible(False)
    band.set_xlabel("token", fontsize=9)
    band.tick_params(labelsize=8)
    band.legend(loc="upper left", bbox_to_anchor=(0, -1.2), ncols=5, fontsize=8, frameon=False)


def sink_map(report: TniReport) -> Any:
    """Smallest and largest key norm of every head over its median."""
    layers = [layer for layer in report.layers if layer.compressed]
    heads = max(len(layer.heads) for layer in layers)
    figure = new_figure(10, 1.9 + 0.22 * heads * 2)
    panels = (("low_tokens", "Lowest key norm over the median", "Blues_r"), ("high_tokens", "Highest", "Reds"))
    for axes, (name, title, colors) in zip(figure.subplots(2, 1, sharex=True), panels, strict=True):
        ratios = np.full((heads, len(layers)), np.nan)
        for column, layer in enumerate(layers):
            for head in layer.heads:
                ratios[head.index, column] = getattr(head.keys, name)[0].ratio
        edge = (
            {"vmin": 0, "vmax": 1} if name == "low_tokens" else {"vmin": 1, "vmax": max(2.0, float(np.nanmax(ratios)))}
        )
        image = axes.imshow(ratios, aspect="auto", cmap=colors, interpolation="nearest", **edge)
        figure.colorbar(image, ax=axes, pad=0.01).ax.tick_params(labelsize=8)
        tidy(axes, title, "layer" if name == "high_tokens" else "", "KV head")
        whole_ticks(axes.yaxis)
        step = max(1, len(layers) // 15)
        axes.set_xticks(range(0, len(layers), step), [layer.index for layer in layers][::step])
    return figure

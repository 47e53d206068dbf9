"""Colours and frames that the pictures share."""

from __future__ import annotations

from typing import Any

# readable for people who confuse red and green, and in this order wherever modalities stand side by side
MODALITY_COLORS = {"text": "#4b6584", "image": "#c1440e", "video": "#d9a404", "audio": "#2a7f62", "codec": "#7b4ea3"}
BEFORE, AFTER = "#9aa5b1", "#c1440e"
CAUSE_COLORS = {"rotation": "#4b6584", "scaling": "#c1440e", "split": "#d9a404"}


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure that belongs to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any, title: str, xlabel: str, ylabel: str) -> None:
    """Title on the left, labels, no box."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def whole_ticks(axis: Any) -> None:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))

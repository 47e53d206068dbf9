"""All pictures of a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .causes import error_attribution
from .maps import norm_heatmap, sink_map
from .spreads import violins

if TYPE_CHECKING:
    from oscar_x.tni import TniReport

# name -> (what draws it, what it shows)
FIGURES = {
    "norms": (
        norm_heatmap,
        "Norm of each token's key over all heads of a layer, over the layer's median. Blue columns are tokens with "
        "small norms, such as attention sinks.",
    ),
    "violins": (
        violins,
        "Above: token norms over their head's median. Below: quantization error of each token over its norm, as it is "
        "and after rotation and scaling. Black lines are medians and extremes.",
    ),
    "sinks": (sink_map, "The lowest and the highest key norm of every KV head over the head's median."),
    "causes": (
        error_attribution,
        "What the error of keys is owed to: by how much it falls when a cause is removed, averaged over all orders of "
        "removing them. Bars below zero: removing that cause alone makes this error larger.",
    ),
}


def draw_figures(report: TniReport) -> dict[str, Any]:
    """The matplotlib figures by name.

    Raises:
        ValueError: no layer is compressed, so there is nothing to draw.
        ImportError: matplotlib is not installed.
    """
    if not report.states("keys"):
        raise ValueError("no layer of this report is compressed; there is nothing to draw")
    return {name: draw(report) for name, (draw, _) in FIGURES.items()}


def save_figures(report: TniReport, prefix: str | Path) -> list[Path]:
    """Writes PREFIX-<name>.png (150 dpi) and .svg and returns the paths. Raises as draw_figures()."""
    written = []
    for name, figure in draw_figures(report).items():
        for ending in ("png", "svg"):
            path = Path(f"{prefix}-{name}.{ending}")
            # no date in the file, so that the same report gives the same bytes
            figure.savefig(path, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            written.append(path)
    return written

"""The line of a table that a layer takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .distribution import merge
from .places import groups_of
from .treatments import FULL, NONE

if TYPE_CHECKING:
    from .report import TniReport

COLUMNS = ("layer", "max/min in a group", "lowest / median", "highest / median", "error a token", "rotated and scaled")


def layer_line(report: TniReport, layer: int) -> list[str]:
    """A compressed layer's cells, keys alone: number, median spread of norms in a group, most extreme norms over the
    head's median, relative squared error a token as it is and treated."""
    states = report.states("keys", layer)
    spread = merge([group.max_over_min for group in groups_of(states)])
    return [
        str(layer),
        f"{spread.median:.2f}",
        f"{min(state.low_tokens[0].ratio for state in states):.3f}",
        f"{max(state.high_tokens[0].ratio for state in states):.2f}",
        *(f"{report.error(name, layer=layer, measure='token'):.4f}" for name in (NONE, FULL)),
    ]

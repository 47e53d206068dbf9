"""Picks one option a layer: the least estimated KL under a number of bits, exactly, by dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import OscarConfig

# steps into which the budget is divided; bits are rounded up to whole steps, so the budget is never exceeded
RESOLUTION = 4096


@dataclass(frozen=True)
class Option:
    """One way to store a layer.

    Attributes:
        settings: the way.
        bits: of the whole layer: bits an element times its share of the model's compressed elements.
        cost: estimated KL, in nats a token.
    """

    settings: OscarConfig
    bits: float
    cost: float


def pareto(options: Sequence[Option]) -> list[Option]:
    """Those that no other option beats in bits and cost alike, by growing bits."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda option: (option.bits, option.cost)):
        if not kept or option.cost < kept[-1].cost:
            kept.append(option)
    return kept


def choose(layers: Sequence[Sequence[Option]], budget: float) -> list[Option]:
    """One option a layer with the least sum of costs whose bits sum to no more than the budget.

    Raises:
        ValueError: the cheapest options already take more.
    """
    fronts = [pareto(options) for options in layers]
    least = sum(front[0].bits for front in fronts)
    if least > budget * (1 + 1e-9):
        raise ValueError(f"a budget of {budget:.3f} bits an element is too small; the least possible is {least:.3f}")
    # only what is above the least is shared out: rounding up then moves less
    spare = max(budget - least, 0.0)
    step = max(spare, 1e-12) / RESOLUTION
    total = np.zeros(RESOLUTION + 1)
    picks = []
    for front in fronts:
        sizes = [int(np.ceil((option.bits - front[0].bits) / step - 1e-9)) for option in front]
        best = np.full(RESOLUTION + 1, np.inf)
        pick = np.zeros(RESOLUTION + 1, dtype=np.int64)
        for number, (option, size) in enumerate(zip(front, sizes, strict=True)):
            if size > RESOLUTION:
                break
            reached = total[: RESOLUTION + 1 - size] + option.cost
            better = reached < best[size:]
            best[size:][better], pick[size:][better] = reached[better], number
        total = best
        picks.append((pick, sizes))
    at, chosen = RESOLUTION, []
    for front, (pick, sizes) in zip(reversed(fronts), reversed(picks), strict=True):
        number = int(pick[at])
        chosen.append(front[number])
        at -= sizes[number]
    return chosen[::-1]

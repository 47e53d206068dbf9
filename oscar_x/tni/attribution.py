"""Splits the error between its causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean

from .treatments import TREATMENTS, combination


@dataclass(frozen=True)
class Attribution:
    """What one cause adds to the relative error energy; negative where removing it makes things worse.

    Attributes:
        alone: error of groups as they are less the error with this cause alone removed.
        last: error with all other causes removed less the error with all removed.
        share: the mean over all orders in which the causes can be removed (their Shapley value). The shares of all
            causes add up to the error of groups as they are less the error with all causes removed.
    """

    alone: float
    last: float
    share: float


def attribute(error: Callable[[str], float]) -> dict[str, Attribution]:
    """The attribution of every treatment in TREATMENTS.

    Args:
        error: of a combination of treatments, by its name.
    """
    orders = list(permutations(TREATMENTS))

    def gain(treatment: str, before: tuple[str, ...]) -> float:
        return error(combination(before)) - error(combination((*before, treatment)))

    return {
        treatment: Attribution(
            alone=gain(treatment, ()),
            last=gain(treatment, tuple(name for name in TREATMENTS if name != treatment)),
            share=fmean(gain(treatment, order[: order.index(treatment)]) for order in orders),
        )
        for treatment in TREATMENTS
    }

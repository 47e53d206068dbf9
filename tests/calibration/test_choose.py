"""The choice under a budget: exact against all combinations, within the budget, refusals."""

from __future__ import annotations

import random
from itertools import product

import pytest

from oscar_x.calibration.choose import RESOLUTION, Option, choose, pareto
from oscar_x.config import OscarConfig


def layers(dice, count, ways):
    return [
        [Option(OscarConfig(), dice.uniform(1, 5) / count, dice.lognormvariate(0, 2)) for _ in range(ways)]
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_combination_is_better(seed):
    dice = random.Random(seed)
    options = layers(dice, 4, 6)
    least = sum(min(option.bits for option in layer) for layer in options)
    budget = least + dice.uniform(0, 2)
    chosen = choose(options, budget)
    assert sum(option.bits for option in chosen) <= budget * (1 + 1e-9)
    assert all(option in layer for option, layer in zip(chosen, options, strict=True))
    # rounding bits up to whole steps may cost a combination at most a step a layer
    room = budget - len(options) * (budget - least) / RESOLUTION
    affordable = [c for c in product(*options) if sum(option.bits for option in c) <= room]
    best = min((sum(option.cost for option in c) for c in affordable), default=float("inf"))
    assert sum(option.cost for option in chosen) <= best * (1 + 1e-12)


def test_the_least_budget_is_enough_and_less_is_refused():
    options = layers(random.Random(0), 3, 5)
    least = sum(min(option.bits for option in layer) for layer in options)
    assert sum(option.bits for option in choose(options, least)) == pytest.approx(least)
    with pytest.raises(ValueError, match=f"too small; the least possible is {least:.3f}"):
        choose(options, least * 0.99)


def test_pareto_keeps_what_nothing_beats():
    a, b, c, d = (Option(OscarConfig(), bits, cost) for bits, cost in ((2, 5), (3, 5), (3, 1), (4, 2)))
    assert pareto([d, b, c, a]) == [a, c]

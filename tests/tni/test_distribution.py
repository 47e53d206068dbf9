from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oscar_x.tni.distribution import QUANTILE_ERROR, Distribution, Histogram, merge

NUMBERS = st.lists(st.floats(1e-5, 1e5), min_size=1, max_size=200)


def collect(numbers: list[float], pieces: int = 1) -> Distribution:
    histogram = Histogram(1)
    for piece in np.array_split(np.array(numbers), pieces):
        histogram.add(torch.tensor(piece)[None])
    found = histogram.distribution(0)
    assert found is not None
    return found


@given(NUMBERS, st.floats(0, 1))
def test_quantiles_are_within_the_stated_error(numbers: list[float], share: float):
    found = collect(numbers).quantile(share)
    # the number of the same rank
    exact = sorted(numbers)[max(0, int(np.ceil(share * len(numbers) - 1e-9)) - 1)]
    assert found == pytest.approx(exact, rel=QUANTILE_ERROR * 1.001)


@given(NUMBERS)
def test_mean_and_extremes_are_exact(numbers: list[float]):
    found = collect(numbers)
    assert (found.count, found.low, found.high) == (len(numbers), min(numbers), max(numbers))
    assert found.mean == pytest.approx(np.mean(numbers), rel=1e-12)
    assert sum(found.counts) == len(numbers)
    assert found.counts[0] > 0
    assert found.counts[-1] > 0


@given(NUMBERS, st.integers(2, 5))
def test_pieces_give_what_the_whole_gives(numbers: list[float], pieces: int):
    whole, found = collect(numbers), collect(numbers, pieces)
    assert (found.first_bin, found.counts, found.low, found.high) == (
        whole.first_bin,
        whole.counts,
        whole.low,
        whole.high,
    )


@given(NUMBERS, NUMBERS)
def test_merged_distributions_are_those_of_all_numbers(first: list[float], second: list[float]):
    together, merged = collect(first + second), merge([collect(first), collect(second)])
    assert (merged.count, merged.first_bin, merged.counts) == (together.count, together.first_bin, together.counts)
    assert merged.mean == pytest.approx(together.mean)
    assert (merged.low, merged.high) == (together.low, together.high)


def test_share_below():
    numbers = list(range(1, 1001))
    found = collect([float(number) for number in numbers])
    for limit in (2, 50, 500, 900):
        assert found.share_below(limit) == pytest.approx(limit / 1000, abs=0.015)
    assert found.share_below(1.0) == 0
    assert found.share_below(2000.0) == 1


def test_another_unit_moves_everything():
    found = collect([1.0, 2.0, 8.0]).over(4.0)
    assert (found.low, found.high, found.mean) == (0.25, 2.0, 11 / 12)
    assert found.quantile(0.5) == pytest.approx(0.5, rel=2 * QUANTILE_ERROR)


def test_numbers_outside_the_bins_count_in_the_outermost():
    found = collect([0.0, 1e-30, 1e30])
    assert sum(found.counts) == 3
    assert (found.low, found.high) == (0.0, 1e30)
    assert found.quantile(0) < 1e-6


def test_nothing_seen_and_wrong_shares():
    assert Histogram(2).distribution(1) is None
    with pytest.raises(ValueError, match=r"share=1\.5 is not allowed"):
        collect([1.0]).quantile(1.5)
    with pytest.raises(ValueError, match=r"parts=\[\]"):
        merge([])

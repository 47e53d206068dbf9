"""Distributions of positive numbers, streamed: a histogram with log-spaced bins of fixed width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

BINS_PER_OCTAVE = 32
LOWEST, HIGHEST = -20, 20  # exponents of 2; what lies outside is counted in the outermost bins
BINS = (HIGHEST - LOWEST) * BINS_PER_OCTAVE

# largest relative error of a quantile: half a bin, on a log scale
QUANTILE_ERROR = 2 ** (0.5 / BINS_PER_OCTAVE) - 1


@dataclass(frozen=True)
class Distribution:
    """How a positive quantity is distributed.

    Attributes:
        count: numbers seen.
        mean, low, high: their mean, smallest and largest, exact.
        first_bin: the bin of counts[0]; bin i holds numbers from 2**(LOWEST + i / BINS_PER_OCTAVE) on.
        counts: numbers in each bin, from the first to the last that holds any.
    """

    count: int
    mean: float
    low: float
    high: float
    first_bin: int
    counts: tuple[int, ...]

    def quantile(self, share: float) -> float:
        """The number below which this share lies, within 1.1% where it is between 2**-20 and 2**20.

        Raises:
            ValueError: a share outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share={share!r} is not allowed; use a number from 0 to 1")
        # the outermost bins hold something, so the first rank is in the first and the last in the last
        reached = accumulate(self.counts)
        index = next(i for i, below in enumerate(reached) if below >= max(1.0, share * self.count))
        return min(max(_middle(self.first_bin + index), self.low), self.high)

    @property
    def median(self) -> float:
        """The middle number, as exact as quantile()."""
        return self.quantile(0.5)

    def share_below(self, limit: float) -> float:
        """The part of the numbers below a limit; those in the limit's own bin count by halves."""
        if limit > self.high:
            return 1.0
        if limit <= self.low:
            return 0.0
        at = int(_bins(torch.tensor([limit], dtype=torch.float64))) - self.first_bin
        return (sum(self.counts[:at]) + self.counts[at] / 2) / self.count

    def over(self, unit: float) -> Distribution:
        """The same numbers in another unit; bins are moved by whole bins, which adds half a bin's error."""
        moved = self.first_bin - round(math.log2(unit) * BINS_PER_OCTAVE)
        return Distribution(self.count, self.mean / unit, self.low / unit, self.high / unit, moved, self.counts)

    def middles(self) -> list[float]:
        """The (geometric) middle of each bin of counts."""
        return [_middle(self.first_bin + index) for index in range(len(self.counts))]


def merge(parts: list[Distribution]) -> Distribution:
    """The distribution of the numbers of all parts together.

    Raises:
        ValueError: no part.
    """
    if not parts:
        raise ValueError("parts=[] is not allowed; give at least one distribution")
    count = sum(part.count for part in parts)
    first = min(part.first_bin for part in parts)
    counts = [0] * (max(part.first_bin + len(part.counts) for part in parts) - first)
    for part in parts:
        for index, number in enumerate(part.counts):
            counts[part.first_bin - first + index] += number
    mean = sum(part.mean * part.count for part in parts) / count
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return Distribution(count, mean, low, high, first, tuple(counts))


class Histogram:
    """Collects one distribution a row (a KV head); its size does not depend on how many numbers it sees."""

    def __init__(self, rows: int) -> None:
        self.counts = torch.zeros(rows, BINS, dtype=torch.int64)
        self.sum = torch.zeros(rows, dtype=torch.float64)
        self.low = torch.full((rows,), torch.inf, dtype=torch.float64)
        self.high = torch.zeros(rows, dtype=torch.float64)

    def add(self, numbers: Tensor) -> None:
        """Count numbers, floating point on the CPU, at least 0, [rows, n]."""
        if not numbers.shape[1]:
            return
        numbers = numbers.double()
        self.counts.scatter_add_(1, _bins(numbers), torch.ones_like(numbers, dtype=torch.int64))
        self.sum += numbers.sum(1)
        self.low = torch.minimum(self.low, numbers.amin(1))
        self.high = torch.maximum(self.high, numbers.amax(1))

    def distribution(self, row: int) -> Distribution | None:
        """What a row holds; None where that is nothing."""
        counts = self.counts[row]
        total = int(counts.sum())
        if not total:
            return None
        filled = counts.nonzero()[:, 0]
        first, last = int(filled[0]), int(filled[-1])
        mean = float(self.sum[row]) / total
        kept = tuple(counts[first : last + 1].tolist())
        return Distribution(total, mean, float(self.low[row]), float(self.high[row]), first, kept)


def _bins(numbers: Tensor) -> Tensor:
    """The bin of each number, int64."""
    exponents = numbers.clamp(2.0**LOWEST, 2.0**HIGHEST).log2()
    return ((exponents - LOWEST) * BINS_PER_OCTAVE).floor().long().clamp_(0, BINS - 1)


def _middle(index: int) -> float:
    return float(2 ** (LOWEST + (index + 0.5) / BINS_PER_OCTAVE))

"""Bootstrap intervals over sequences. Tokens of one sequence depend on each other, so sequences are the unit drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(
    samples: Sequence[Sequence[float]] | Sequence[float],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Percentile bootstrap (Efron 1979) of a statistic of means over samples.

    Args:
        samples: [n] or [n, k]; row i holds the k measurements of sequence i. Rows are drawn whole, so measurements
            of several methods on the same sequences stay paired.
        statistic: maps means [..., k] (k = 1 for one measurement a row) to values [...].
        seed, draws, level: of the resampling; level is the share of draws inside the interval.

    Raises:
        ValueError: no samples, or a level outside (0, 1).
    """
    rows = np.asarray(samples, dtype=np.float64)
    if rows.size == 0:
        raise ValueError("samples is empty; give at least one")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is not allowed; use a share between 0 and 1")
    rows = rows.reshape(len(rows), -1)
    picks = np.random.default_rng(seed).integers(0, len(rows), size=(draws, len(rows)))
    # some draws at a time: all rows of all draws would take gigabytes for a few thousand samples
    drawn = np.concatenate([statistic(rows[some].mean(axis=1)) for some in np.array_split(picks, 1 + draws // 1000)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(rows.mean(axis=0))), float(low), float(high))


def mean_interval(samples: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean and its 95% interval."""
    return bootstrap(samples, lambda means: means[..., 0], seed=seed)


def exp_mean_interval(samples: Sequence[float], *, seed: int = 0) -> Interval:
    """exp of the mean (perplexity from mean negative log-likelihoods) and its 95% interval."""
    return bootstrap(samples, lambda means: np.exp(means[..., 0]), seed=seed)


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0) -> Interval:
    """Ratio of two means measured on the same sequences, and its 95% interval.

    Raises:
        ValueError: different lengths, or a denominator whose mean is zero.
    """
    if len(numerator) != len(denominator):
        raise ValueError(f"paired samples must have equal lengths, got {len(numerator)} and {len(denominator)}")
    if not np.mean(denominator):
        raise ValueError("denominator has mean zero; a ratio to it is not defined")
    pairs = np.stack([numerator, denominator], axis=1)
    return bootstrap(pairs.tolist(), lambda means: means[..., 0] / means[..., 1], seed=seed)

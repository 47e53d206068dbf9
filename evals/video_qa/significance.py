"""Whether two methods that answered the same questions differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..stats import Interval, bootstrap


@dataclass(frozen=True)
class Comparison:
    """One method against another on the same questions.

    Attributes:
        difference: accuracy of the one less that of the other, with its 95% interval over clips.
        lost, won: questions that only the other, and only the one, answered right.
        flips: questions whose chosen options differ.
        p: of McNemar's exact test, two-sided.
    """

    difference: Interval
    lost: int
    won: int
    flips: int
    p: float


def mcnemar_exact(lost: int, won: int) -> float:
    """Two-sided p of McNemar's test in its exact, binomial form (McNemar 1947).

    Under the hypothesis of no difference each of the ``lost + won`` questions on which only one method is right falls
    to either method with even odds.

    Raises:
        ValueError: a negative count.
    """
    if min(lost, won) < 0:
        raise ValueError(f"lost={lost} and won={won} must not be negative")
    total = lost + won
    tail = sum(math.comb(total, k) for k in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**total)


def accuracy_interval(right: Sequence[Sequence[bool]], *, seed: int = 0) -> Interval:
    """Share of right answers with its interval.

    Args:
        right: for each clip, whether each of its questions was answered right. Questions of one clip depend on each
            other, so clips are the unit drawn.
    """
    return mean_over_questions(right, seed=seed)


def divergence(reference: Sequence[float], scores: Sequence[float]) -> float:
    """KL(reference || scores) in nats between the distributions over options that log-likelihoods give.

    Finer than accuracy: it moves before a choice does.
    """
    first, second = (_log_shares(values) for values in (reference, scores))
    return max(0.0, sum(math.exp(a) * (a - b) for a, b in zip(first, second, strict=True)))


def _log_shares(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    total = top + math.log(sum(math.exp(value - top) for value in scores))
    return [value - total for value in scores]


def mean_over_questions(values: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """Mean of a measurement of every question, with its interval over clips.

    Args:
        values: for each clip, one for each of its questions.
    """
    rows = [(sum(clip), len(clip)) for clip in values]
    return bootstrap(rows, lambda means: means[..., 0] / means[..., 1], seed=seed)


def compare(
    one: Sequence[Sequence[int]], other: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, seed: int = 0
) -> Comparison:
    """Two methods' chosen options against each other.

    Args:
        one, other: for each clip, the option chosen for each of its questions.
        answers: the right ones.

    Raises:
        ValueError: other clips or questions.
    """
    if [list(map(len, choices)) for choices in (one, other)] != [list(map(len, answers))] * 2:
        raise ValueError("one, other and answers must be of the same clips and questions")
    rows, lost, won, flips = [], 0, 0, 0
    for chosen, against, right in zip(one, other, answers, strict=True):
        hits = [a == r for a, r in zip(chosen, right, strict=True)]
        marks = [b == r for b, r in zip(against, right, strict=True)]
        lost += sum(b and not a for a, b in zip(hits, marks, strict=True))
        won += sum(a and not b for a, b in zip(hits, marks, strict=True))
        flips += sum(a != b for a, b in zip(chosen, against, strict=True))
        rows.append((sum(hits) - sum(marks), len(right)))
    difference = bootstrap(rows, lambda means: means[..., 0] / means[..., 1], seed=seed)
    return Comparison(difference, lost, won, flips, mcnemar_exact(lost, won))

from __future__ import annotations

import math
import random

import pytest

from oscar_x.evals.video_qa.significance import accuracy_interval, compare, divergence, mcnemar_exact


@pytest.mark.parametrize(("lost", "won", "p"), [(0, 0, 1.0), (1, 0, 1.0), (0, 6, 2 / 64), (2, 8, 112 / 1024)])
def test_mcnemar_by_hand(lost: int, won: int, p: float):
    assert mcnemar_exact(lost, won) == pytest.approx(p, rel=1e-12)
    assert mcnemar_exact(won, lost) == pytest.approx(p, rel=1e-12)


def test_mcnemar_is_the_binomial_test():
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(0)
    for _ in range(200):
        lost, won = rng.randrange(200), rng.randrange(1, 200)
        assert mcnemar_exact(lost, won) == pytest.approx(stats.binomtest(lost, lost + won).pvalue, rel=1e-9)


def test_mcnemar_of_thousands_of_questions():
    assert 0 < mcnemar_exact(900, 1100) < 1e-5
    with pytest.raises(ValueError, match="must not be negative"):
        mcnemar_exact(-1, 2)


def test_compare_counts_pairs_and_flips():
    answers = [[0, 1], [2], [0, 0, 0]]
    one = [[0, 1], [0], [0, 1, 2]]
    other = [[1, 1], [2], [0, 0, 1]]
    found = compare(one, other, answers)
    assert (found.won, found.lost, found.flips) == (1, 2, 4)
    assert found.difference.value == pytest.approx((3 - 4) / 6)
    assert found.difference.low < found.difference.value < found.difference.high
    back = compare(other, one, answers)
    assert (back.won, back.lost, back.p) == (2, 1, found.p)
    assert back.difference.low == pytest.approx(-found.difference.high)
    same = compare(one, one, answers)
    assert (same.flips, same.p, same.difference.low, same.difference.high) == (0, 1.0, 0.0, 0.0)


def test_divergence_is_of_the_shares_that_scores_stand_for():
    shares = [0.5, 0.25, 0.25]
    scores, shifted = [math.log(share) for share in shares], [math.log(share) - 700 for share in shares]
    other = [math.log(share) for share in (0.25, 0.5, 0.25)]
    assert divergence(scores, shifted) == pytest.approx(0, abs=1e-12)
    assert divergence(shifted, other) == pytest.approx(0.25 * math.log(2))


def test_compare_refuses_other_questions():
    with pytest.raises(ValueError, match="same clips and questions"):
        compare([[0, 1]], [[0], [1]], [[0, 1]])


def test_clips_are_the_unit_drawn():
    """A hundred questions of one clip say as little as one does."""
    alike = [[True] * 100, [False] * 100, [True] * 100, [False] * 100]
    spread = [[bool(i % 2)] for i in range(400)]
    wide, narrow = accuracy_interval(alike), accuracy_interval(spread)
    assert wide.value == narrow.value == 0.5
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)

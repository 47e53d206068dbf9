"""The most notable results of a report, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING

from .distribution import merge
from .error_findings import error_findings
from .parts import LARGE_RATIO, SINK_RATIO, TokenNorm
from .places import groups_of, named_states

if TYPE_CHECKING:
    from .report import TniReport

NAMED = 3  # contents that a sentence names


def findings(report: TniReport) -> list[str]:
    """See TniReport.findings."""
    if not report.states("keys"):
        return ["Keys: no layer of this model is compressed, so no token shares a scale with another."]
    sentences = []
    for which in ("keys", "values"):
        for about in (_spread, _low_norms, _low_norms_later, _high_norms, _modalities):
            sentences += [f"{which.capitalize()}: {sentence}" for sentence in about(report, which)]
    return sentences + error_findings(report)


def _spread(report: TniReport, which: str) -> list[str]:
    states = named_states(report, which)
    found = [(where, merge([group.max_over_min for group in groups_of([state])])) for where, state in states]
    every = merge([spread for _, spread in found])
    variation = merge([group.variation for group in groups_of(report.states(which))])
    where, worst = max(found, key=lambda item: item[1].median)
    return [
        f"in a group of {report.settings.group_size} tokens the largest norm is {every.median:.2f} times the smallest "
        f"(median over groups; {every.quantile(0.99):.2f} in one of a hundred, coefficient of variation "
        f"{variation.median:.3f}); most in {where}: {worst.median:.2f}."
    ]


def _low_norms(report: TniReport, which: str) -> list[str]:
    states = named_states(report, which)
    sinks = [(where, token) for where, state in states for token in state.sinks]
    if not sinks:
        return [f"no token's norm is below {SINK_RATIO} of its head's median."]
    where, lowest = min(sinks, key=lambda item: item[1].ratio)
    first = median(state.leading[0] for _, state in states)
    return [
        f"{_heads(sinks)} of {len(states)} heads have tokens with a norm below {SINK_RATIO} of the median; the "
        f"lowest is {lowest.ratio:.3f} of it, {_token(lowest)} in {where}. The first token of a sequence is at "
        f"{first:.2f} (median over heads)."
    ]


def _low_norms_later(report: TniReport, which: str) -> list[str]:
    states, exact = named_states(report, which), report.settings.sink_tokens
    sinks = [(where, token) for where, state in states for token in state.sinks if token.position >= exact]
    if not sinks:
        return []
    shares = [
        (where, merge(list(state.norms.values())).share_below(SINK_RATIO * state.median)) for where, state in states
    ]
    where, share = max(shares, key=lambda item: item[1])
    return [
        f"such tokens come behind the {exact} exact ones too, in {_heads(sinks)} heads, up to {100 * share:.1f}% of "
        f"all tokens ({where}); among the {len(sinks)} lowest: {_contents(token for _, token in sinks)}."
    ]


def _high_norms(report: TniReport, which: str) -> list[str]:
    states = named_states(report, which)
    outliers = [(where, token) for where, state in states for token in state.outliers]
    if not outliers:
        return [f"no token's norm is above {LARGE_RATIO:.0f} times its head's median."]
    where, largest = max(outliers, key=lambda item: item[1].ratio)
    return [
        f"{_heads(outliers)} of {len(states)} heads have tokens with a norm above {LARGE_RATIO:.0f} times the median; "
        f"the largest is {largest.ratio:.2f} times, {_token(largest)} in {where}; among the {len(outliers)} largest: "
        f"{_contents(token for _, token in outliers)}."
    ]


def _modalities(report: TniReport, which: str) -> list[str]:
    sentences = []
    for modality in (name for name in report.tokens if name != "text"):
        ratios = [(where, state.ratio(modality)) for where, state in named_states(report, which)]
        known = [(where, ratio) for where, ratio in ratios if ratio is not None]
        if not known:
            continue
        (low_at, low), (high_at, high) = (pick(known, key=lambda item: item[1]) for pick in (min, max))
        middle = median(ratio for _, ratio in known)
        sentences.append(
            f"{modality} tokens' median norm is {middle:.2f} times the text's (median over heads), {low:.2f} in "
            f"{low_at}, {high:.2f} in {high_at}."
        )
    return sentences


def _heads(found: Iterable[tuple[str, TokenNorm]]) -> int:
    return len({where for where, _ in found})


def _token(token: TokenNorm) -> str:
    return f"token {token.position} ({token.text!r}, {token.modality})"


def _contents(tokens: Iterable[TokenNorm]) -> str:
    counts = Counter(token.text for token in tokens)
    return ", ".join(f"{text!r} ({count} times)" for text, count in counts.most_common(NAMED))

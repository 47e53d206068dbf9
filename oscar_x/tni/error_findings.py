"""What a report says about errors and their causes, in words."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from .distribution import merge
from .parts import MIXED, ErrorTni, GroupTni, mean_error
from .places import groups_of, name_of, named_states
from .treatments import CAUSES, FULL, NONE, ROTATED, combination

if TYPE_CHECKING:
    from .report import TniReport

SPLIT = combination((*FULL.split("+"), "split"))


def error_findings(report: TniReport) -> list[str]:
    """Sentences on groups, treatments and biases."""
    parts = (_first_group, _causes, _channels, _boundaries, _value_grouping, _key_bias)
    return [sentence for part in parts for sentence in part(report)]


def _first_group(report: TniReport) -> list[str]:
    first = [state.first_group for state in report.states("keys") if state.first_group is not None]
    if not first:
        return []
    spread = merge([group.max_over_min for group in first]).median
    plain, treated = (_token_error(first, name) for name in (NONE, FULL))
    rest = report.error(NONE, measure="token")
    return [
        f"Keys: the group of a sequence's first {report.settings.group_size} tokens has a largest over smallest norm "
        f"of {spread:.2f}; its error a token is {plain:.4f} as it is and {treated:.4f} rotated and scaled, that of "
        f"groups behind the {report.settings.sink_tokens} exact tokens {rest:.4f}."
    ]


def _token_error(groups: list[GroupTni], treatments: str) -> float:
    def error(group: GroupTni) -> ErrorTni:
        return group.along_tokens[treatments]

    return mean_error(groups, error, "token")


def _causes(report: TniReport) -> list[str]:
    sentences = []
    for measure, what in {"token": "a token", "channel": "in the worst channel"}.items():
        before, after = (report.error(name, measure=measure) for name in (NONE, FULL))
        parts = report.attribution(measure=measure)
        causes = ", ".join(f"{CAUSES[name]} {part.share:+.4f}" for name, part in parts.items())
        sentences.append(
            f"Keys: at {report.settings.key_bits} bits the relative error {what} is {before:.4f} as they are, "
            f"{after:.4f} rotated and scaled; owed to {causes}."
        )
    return sentences


def _channels(report: TniReport) -> list[str]:
    found = [(where, state.channels) for where, state in named_states(report, "keys")]
    where, worst = max(found, key=lambda item: item[1].before)
    before, after = (median(getattr(channels, name) for _, channels in found) for name in ("before", "after"))
    return [
        f"Keys: the largest channel is {before:.1f} times the median channel, {after:.1f} after rotation (median over "
        f"heads); most in {where}: channel {worst.largest}, {worst.before:.1f} times, {worst.after:.1f} after rotation."
    ]


def _boundaries(report: TniReport) -> list[str]:
    mixed = [state.groups[MIXED] for state in report.states("keys") if MIXED in state.groups]
    if not mixed:
        return []
    whole, cut = (_token_error(mixed, name) for name in (FULL, SPLIT))
    dealt = mean_error(mixed, lambda group: group.dealt[SPLIT], "token")
    every = sum(group.groups for group in groups_of(report.states("keys")))
    share = 100 * sum(group.groups for group in mixed) / every
    return [
        f"Keys: {share:.1f}% of the groups hold several modalities; rotated and scaled, their error a token is "
        f"{whole:.4f}, {cut:.4f} when split where the modality changes, {dealt:.4f} when split elsewhere into as many."
    ]


def _value_grouping(report: TniReport) -> list[str]:
    groups = groups_of(report.states("values"))
    channels = mean_error(groups, lambda group: group.along_channels[ROTATED])
    tokens, scaled = (report.error(name, "values") for name in (ROTATED, FULL))
    return [
        f"Values: at {report.settings.value_bits} bits, rotated, the relative error energy is {channels:.4f} with "
        f"scales along channels, {tokens:.4f} along tokens, {scaled:.4f} along tokens with token norms divided out."
    ]


def _key_bias(report: TniReport) -> list[str]:
    found = [(name_of(layer, head), head.key_bias) for layer, head in report.heads() if head.key_bias is not None]
    if not any(bias.norm for _, bias in found):
        return []
    where, worst = max(found, key=lambda item: item[1].share)
    middle = median(bias.share for _, bias in found)
    removed = sum(bias.removed for _, bias in found)
    sentence = (
        f"Keys: the projection's bias has {middle:.2f} of the keys' energy (median over heads), {worst.share:.2f} in "
        f"{where} (norm {worst.norm:.1f}); it is taken out in {removed} of {len(found)} heads."
    )
    left = [(at, bias.error_left_in) for at, bias in found if bias.error_left_in is not None]
    if left:
        at, error = max(left, key=lambda item: item[1])
        sentence += f" Left in, the error energy of keys would be up to {error:.4f} of theirs ({at})."
    return [sentence]

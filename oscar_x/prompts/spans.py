"""Which tokens stand for which medium of a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..modality import Modality, Span


def replaced_spans(
    offsets: list[list[int]], replaced: list[dict[str, Any]], kinds: Mapping[str, Modality]
) -> list[Span]:
    """Tokens of each placeholder that a processor says it replaced; tokens that the tokenizer adds by itself cover no
    characters.

    Args:
        offsets: first and last character of each token of a row.
        replaced: the processor's own record of the row.
        kinds: what its names for kinds of media mean.
    """
    spans = []
    for replacement in replaced:
        start, stop = replacement["new_span"]
        inside = [index for index, (low, high) in enumerate(offsets) if start <= low < high <= stop]
        spans.append(Span(kinds[replacement["type"]], inside[0], inside[-1] + 1))
    return spans


def aligned_spans(tokenizer: Any, text: str, ids: Sequence[int], marks: Mapping[str, Modality]) -> list[Span] | None:
    """The same for a processor that keeps no record: what lies between the pieces of text that it left alone.

    Args:
        text: the row before its placeholders were replaced.
        ids: the row's token ids behind its padding.
        marks: placeholders, and what each stands for.

    Returns:
        None where text and tokens cannot be brought together, as where two media touch.
    """
    if not marks:
        return []
    pieces = re.split(f"({'|'.join(map(re.escape, marks))})", text)
    between = [list(tokenizer(piece, add_special_tokens=False)["input_ids"]) for piece in pieces[::2]]
    found = _find(ids, between[0], 0)
    spans: list[Span] = []
    for number, mark in enumerate(pieces[1::2], start=1):
        last = number == len(between) - 1
        if found is None or not (between[number] or last):
            return None
        start = found + len(between[number - 1])
        found = len(ids) - len(between[number]) if last else _find(ids, between[number], start + 1)
        if found is not None:
            spans.append(Span(marks[mark], start, found))
    whole = found is not None and list(ids[found:]) == between[-1]
    return spans if whole and all(span.start < span.stop for span in spans) else None


def _find(ids: Sequence[int], piece: list[int], start: int) -> int | None:
    """Where the piece is first found from ``start`` on."""
    ends = len(ids) - len(piece) + 1
    return next((at for at in range(start, ends) if list(ids[at : at + len(piece)]) == piece), None)

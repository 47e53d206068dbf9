"""Rows of the benchmarks as tables of text cells, ratios last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .room import LeftOut

Cells = list[list[str]]

ATTENTION_HEADS = ("backend", "size", "ms", "GB/s", "of copy", "bound ms", "x best dense")
COMPRESS_HEADS = ("backend", "size", "ms a layer", "tokens/s", "of copy", "bound ms", "of prefill")
CAPACITY_HEADS = ("cache", "context", "batch", "cache GiB", "x full")
TOKENS_HEADS = ("cache", "size", "ms a step", "slowest", "tokens/s", "cache GiB", "x full")


def attention_cells(rows: Iterable[Any]) -> Cells:
    """Rows of attention_bench."""
    return [
        [
            *(row.backend, _size(row), _time(row.ms), f"{row.gb_per_s:.1f}", f"{row.share_of_copy:.0%}"),
            *(_time(row.bound_ms), _ratio(row.ratio_to_best_dense)),
        ]
        for row in rows
    ]


def compress_cells(rows: Iterable[Any]) -> Cells:
    """Rows of compress_bench."""
    return [
        [
            *(row.backend, _size(row), f"{row.ms:.2f}", f"{row.tokens_per_s:.0f}"),
            *(f"{row.share_of_copy:.0%}", f"{row.bound_ms:.2f}"),
            "" if row.share_of_prefill is None else f"{row.share_of_prefill:.1%}",
        ]
        for row in rows
    ]


def capacity_cells(rows: Iterable[Any]) -> Cells:
    """Rows of capacity."""
    return [
        [row.backend, str(row.context), str(row.batch), f"{row.cache_bytes / 2**30:.2f}", _ratio(row.ratio_to_full)]
        for row in rows
    ]


def tokens_cells(rows: Iterable[Any]) -> Cells:
    """Rows of end_to_end."""
    return [
        [
            *(row.backend, _size(row), f"{row.ms:.1f}", f"{row.slowest_ms:.1f}"),
            f"{row.tokens_per_s:.1f}",
            "" if row.cache_bytes is None else f"{row.cache_bytes / 2**30:.2f}",
            _ratio(row.ratio_to_full),
        ]
        for row in rows
    ]


def plain_table(heads: Iterable[str], cells: Cells) -> str:
    """Aligned columns, the first to the left, for logs."""
    lines = [list(heads), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def left_out_lines(left: Iterable[LeftOut]) -> list[str]:
    """One sentence a reason: who was left out for it, and at which sizes."""
    groups: dict[str, list[LeftOut]] = {}
    for one in left:
        groups.setdefault(one.reason, []).append(one)
    sentences = []
    for reason, group in groups.items():
        names, sizes = (", ".join(dict.fromkeys(map(of, group))) for of in (lambda one: one.backend, _size))
        sentences.append(f"left out: {names} at {sizes}: {reason}")
    return sentences


def _size(row: Any) -> str:
    """Context and batch: "32K x 4"."""
    count, unit = row.context, ""
    for factor, name in ((2**20, "M"), (2**10, "K")):
        if count % factor == 0:
            count, unit = count // factor, name
            break
    return f"{count}{unit} x {row.batch}"


def _time(ms: float) -> str:
    return f"{ms:.3f}" if ms < 100 else f"{ms:.0f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"

"""What a fidelity run found: rows with intervals, as a table, as JSON, and paired comparisons of two methods."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from .method import Footprint, Method
from .phases import Scores
from .stats import Interval, exp_mean_interval, mean_interval, paired_ratio

METRICS = ("nll", "kl", "top1")
# of conversations: of the tokens of answers alone
ANSWER_METRICS = ("answer_kl", "answer_top1")


@dataclass(frozen=True)
class MethodScores:
    """One method's scores, a Scores for each sequence."""

    method: Method
    scores: list[Scores]
    seed: int

    def samples(self, metric: str) -> list[float]:
        """One number for each sequence: one of METRICS, or of ANSWER_METRICS where every sequence has answers."""
        if metric not in self.metrics:
            raise ValueError(f"metric={metric!r} is not allowed; choose one of {', '.join(self.metrics)}")
        return [getattr(score, metric) for score in self.scores]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """What was measured of every sequence."""
        answered = all(score.answer_kl is not None for score in self.scores)
        return (*METRICS, *ANSWER_METRICS) if answered else METRICS

    @cached_property
    def footprint(self) -> Footprint:
        return Footprint.total([score.footprint for score in self.scores])

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        means = {m: mean_interval(self.samples(m), seed=self.seed) for m in self.metrics if m != "nll"}
        return {"perplexity": exp_mean_interval(self.samples("nll"), seed=self.seed), **means}

    def row(self) -> dict[str, Any]:
        """Plain JSON types; intervals are 95% bootstrap intervals over sequences."""
        row: dict[str, Any] = {
            "method": self.method.name,
            "label": self.method.label,
            "source": self.method.source,
            "bits_per_element": self.footprint.bits_per_element,
            "compression": self.footprint.compression,
        }
        for name, interval in self.intervals.items():
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        row["packed_reads"] = sum(score.packed_reads for score in self.scores)
        row["samples"] = {metric: self.samples(metric) for metric in self.metrics}
        return row


@dataclass(frozen=True)
class FidelityReport:
    """The outcome of run_fidelity."""

    model: str
    settings: dict[str, Any]
    methods: list[MethodScores] = field(repr=False)

    def __getitem__(self, name: str) -> MethodScores:
        for scores in self.methods:
            if scores.method.name == name:
                return scores
        raise KeyError(f"{name!r} was not run; methods: {', '.join(s.method.name for s in self.methods)}")

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return [scores.row() for scores in self.methods]

    def ratio(self, method: str, other: str, metric: str = "kl") -> Interval:
        """metric of one method over that of another, paired by sequence, with its 95% interval."""
        return paired_ratio(self[method].samples(metric), self[other].samples(metric), seed=self.settings["seed"])

    @property
    def title(self) -> str:
        s = self.settings
        what, about = ("conversations", "about ") if "conversations" in s else ("sequences", "")
        return (
            f"{self.model}: {s['sequences']} {what}, {about}{s['prefix']} tokens compressed, {s['continuation']} scored"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "settings": self.settings, "rows": self.rows}

    def save_json(self, path: str | Path) -> None:
        """Write to_dict() as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def table(self) -> Table:
        """One line a method, narrow enough for 80 columns; after each figure half the width of its interval.

        Of conversations it shows the KL on answers in place of perplexity.
        """
        look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": 0, "min_width": 79}
        table = Table(title=self.title, title_justify="left", title_style="bold", **look)
        table.add_column("method", no_wrap=True)
        answers = all("answer_kl" in row for row in self.rows)
        first = "KL on answers" if answers else "perplexity"
        for column in ("bits", "ratio", first, "KL to full", "top-1 %", "reads"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(
                row["label"],
                f"{row['bits_per_element']:.2f}",
                f"{row['compression']:.2f}x",
                _with_interval(row, "answer_kl", 3) if answers else _with_interval(row, "perplexity", 1),
                _with_interval(row, "kl", 3),
                _with_interval(row, "top1", 1, scale=100),
                f"{row['packed_reads'] / 1e6:.1f}M",
            )
        return table


def _with_interval(row: dict[str, Any], name: str, digits: int, scale: float = 1) -> str:
    half_width = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return f"{scale * row[name]:.{digits}f} ±{scale * half_width:.{digits}f}"

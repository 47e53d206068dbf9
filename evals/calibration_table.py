"""One model's table: the presets and the calibrated settings side by side, and what every part of the method does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from rich import box
from rich.table import Table

from .ablation import Part
from .fidelity_report import FidelityReport
from .stats import mean_interval, paired_ratio

PAPER, BALANCED, CALIBRATED, EQUAL_KL = "oscar-paper", "oscar-balanced", "oscar-calibrated", "oscar-equal-kl"
LABELS = {
    PAPER: "paper",
    BALANCED: "balanced",
    CALIBRATED: "calibrated, equal bytes",
    EQUAL_KL: "calibrated, equal KL",
}
# what calibration is meant to reach: KL at equal bytes, and bytes at equal KL, over those of "balanced"
KL_TARGET, BYTES_TARGET = 0.75, 0.88
# bytes without a part over those with it; below this a lower KL is no merit by itself
CHEAP = 0.95


@dataclass(frozen=True)
class CalibrationTable:
    """What run_calibration_table measured. Ratios are paired by sequence; intervals are 95% bootstrap intervals over
    sequences.

    Attributes:
        report: of every method, those of the ablation included.
        parts: what was taken out.
        profiles: where the calibrated settings come from.
    """

    report: FidelityReport
    parts: Sequence[Part]
    profiles: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A row a method: bits an element (allocated bytes, exact tokens counted), KL and top-1, and ratios to
        "balanced"."""
        return [self._row(name, BALANCED, label) for name, label in LABELS.items()]

    @cached_property
    def ablation(self) -> list[dict[str, Any]]:
        """A row a part: the method without it, over the method with it."""
        found = []
        for part in self.parts:
            row = self._row(part.without, part.whole, part.name)
            low, high = row["kl_ratio"]["low"], row["kl_ratio"]["high"]
            found.append(row | {"whole": part.whole, "verdict": _verdict(low, high, row["bytes_ratio"]["value"])})
        return found

    @property
    def lines(self) -> list[str]:
        """In words: whether the targets are reached, and what does not help."""
        rows = {row["method"]: row for row in self.rows}
        kl, size = rows[CALIBRATED]["kl_ratio"], rows[EQUAL_KL]["bytes_ratio"]
        lines = [
            f"At {rows[CALIBRATED]['bytes_ratio']['value']:.3f} of balanced's bytes, KL is {_span(kl)} of balanced's: "
            f"{_judged(kl, KL_TARGET)} (at most {KL_TARGET}).",
            f"At {_span(rows[EQUAL_KL]['kl_ratio'])} of balanced's KL, bytes are {size['value']:.3f} of balanced's: "
            f"{_saved(size, rows[EQUAL_KL]['kl_ratio'])} (at most {BYTES_TARGET}).",
        ]
        helpless = [row for row in self.ablation if row["verdict"] != "helps"]
        lines += [
            f"{row['label'].capitalize()}: {row['verdict']} here; KL without it is {_span(row['kl_ratio'])} of KL with "
            f"it, at {row['bytes_ratio']['value']:.3f} of the bytes."
            for row in helpless
        ]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {"rows": self.rows, "ablation": self.ablation, "lines": self.lines, "profiles": self.profiles}
        return plain | {"fidelity": self.report.to_dict()}

    def tables(self) -> list[Table]:
        """For the console, 80 columns wide."""
        return [
            self._table(self.report.title, "method", self.rows, "/ balanced"),
            self._table("Without one part, over the method with it", "part", self.ablation, "/ with it"),
        ]

    def _table(self, title: str, first: str, rows: list[dict[str, Any]], over: str) -> Table:
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(first, no_wrap=True)
        for column in ("bits", "bytes", "KL", f"KL {over}", "top-1 %"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(
                row["label"],
                f"{row['bits']['value']:.2f}",
                f"{row['bytes_ratio']['value']:.2f}",
                _span(row["kl"], 3),
                _span(row["kl_ratio"]),
                f"{100 * row['top1']['value']:.1f}",
            )
        return table

    def _row(self, name: str, base: str, label: str) -> dict[str, Any]:
        scores, other, seed = self.report[name], self.report[base], self.report.settings["seed"]
        bits = [16 / score.footprint.compression for score in scores.scores]
        sizes, sizes_of_other = (
            [float(score.footprint.packed_bytes + score.footprint.exact_bytes) for score in of.scores]
            for of in (scores, other)
        )
        intervals = {
            "bits": mean_interval(bits, seed=seed),
            "bytes_ratio": paired_ratio(sizes, sizes_of_other, seed=seed),
        }
        for metric in ("kl", "answer_kl"):
            if metric in scores.metrics:
                intervals[metric] = mean_interval(scores.samples(metric), seed=seed)
                intervals[f"{metric}_ratio"] = self.report.ratio(name, base, metric)
        intervals["top1"] = mean_interval(scores.samples("top1"), seed=seed)
        return {"method": name, "label": label, **{key: asdict(interval) for key, interval in intervals.items()}}


def _verdict(low: float, high: float, size: float) -> str:
    """Of the interval of KL without a part over KL with it, and of the bytes without over those with it."""
    if low == high == 1:  # such as a split where no modality comes often enough in a row
        return "changes nothing"
    if low > 1:
        return "helps" if size > CHEAP else f"helps, but takes {1 / size:.2f} times the bytes"
    return "hurts" if high < 1 else "no measurable difference"


def _span(interval: dict[str, float], digits: int = 2) -> str:
    return f"{interval['value']:.{digits}f} ({interval['low']:.{digits}f}-{interval['high']:.{digits}f})"


def _judged(interval: dict[str, float], target: float) -> str:
    if interval["value"] > target:
        return "target missed"
    return "target reached" if interval["high"] <= target else "target reached, but not by the whole interval"


def _saved(size: dict[str, float], kl: dict[str, float]) -> str:
    """Fewer bytes count at equal KL alone."""
    return "target missed, since KL is higher" if kl["low"] > 1 else _judged(size, BYTES_TARGET)

"""A run's tables on the console."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from .report import Report

_LOOK: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": 0, "title_justify": "left", "title_style": "bold"}


def percent(cell: dict[str, float]) -> str:
    """An interval of shares in percent, "91.2 ±1.1", the second half its width."""
    return f"{100 * cell['value']:.1f} ±{50 * (cell['high'] - cell['low']):.1f}"


def points(cell: dict[str, float]) -> str:
    """A difference of shares in points with its interval, "-0.4 [-1.0, +0.1]"."""
    value, low, high = (f"{100 * cell[name]:+.1f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def spread(cell: dict[str, float]) -> str:
    """A small number with its interval, "0.0042 [0.0031, 0.0055]"."""
    value, low, high = (f"{cell[name]:.4f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def overall_table(report: Report) -> Table:
    """One line a method: bits, accuracy, and how it differs from the full cache."""
    table = Table(title=f"{report.questions} questions on {len(report.common)} clips", min_width=79, **_LOOK)
    table.add_column("method", no_wrap=True)
    for column in ("bits", "accuracy %", "points to full", "lost/won", "p", "KL", "reads"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.rows:
        against = row["overall"].get("against_full")
        table.add_row(
            row["label"],
            f"{row['bits_per_element']:.2f}",
            percent(row["overall"]["accuracy"]),
            *(
                ("", "", "", "")
                if against is None
                else (
                    points(against["difference"]),
                    f"{against['lost']}/{against['won']}",
                    p_value(against["p"]),
                    f"{against['kl']['value']:.4f}",
                )
            ),
            f"{row['packed_reads'] / 1e6:.1f}M",
        )
    return table


def split_table(report: Report, name: str) -> Table:
    """Accuracy in percent of every method on each question type (name "kinds") or group of clips ("groups")."""
    values = list(report.rows[0][name])
    table = Table(title="Accuracy % by " + ("question type" if name == "kinds" else "group of clips"), **_LOOK)
    table.add_column("", no_wrap=True)
    table.add_column("questions", justify="right")
    for row in report.rows:
        table.add_column(row["label"], justify="right", overflow="fold")
    for value in values:
        cells = [row[name][value] for row in report.rows]
        shares = (f"{100 * cell['accuracy']['value']:.1f}" for cell in cells)
        table.add_row(value, str(cells[0]["questions"]), *shares)
    return table

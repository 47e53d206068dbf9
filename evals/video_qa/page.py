"""A run's report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..html_page import html_page, write_page
from .drawing import difference_chart
from .report import Report
from .show import p_value, percent, points, spread

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 74rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.about { color: #52606d; margin-top: .3rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #e4e7eb; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th { color: #52606d; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.worse { background: #f6d5c8; } td.better { background: #d3eadf; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #1f2933; }
div.wide { overflow-x: auto; } pre { white-space: pre-wrap; font-size: .8rem; color: #52606d; }
"""


def write_html(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the report, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    return write_page(path, render(report))


def render(report: Report) -> str:
    """The page's text."""
    settings = report.results.settings
    title = escape(f"{settings.get('source', 'Questions')} answered by {settings.get('model', 'a model')}")
    body = [
        f"<h1>{title}</h1>",
        f'<p class="about">{escape(_about(report))}</p>',
        "<h2>All questions</h2>",
        _overall(report),
        difference_chart(report.rows),
        "<h2>By question type</h2>",
        _split(report, "kinds"),
    ]
    if report.rows[0]["groups"]:
        body += ["<h2>By group of clips</h2>", _split(report, "groups")]
    if report.pairs:
        body += ["<h2>Against each peer</h2>", _pairs(report)]
    if report.results.failures:
        failures = [f"{clip}: {reason}" for clip, reason in report.results.failures.items()]
        body += ["<h2>Clips that could not be read</h2>", f"<pre>{escape(chr(10).join(failures))}</pre>"]
    listed = "\n".join(f"{name}: {value}" for name, value in settings.items())
    body += ["<h2>Settings</h2>", f"<pre>{escape(listed)}</pre>"]
    return html_page(title, body, _STYLE, _POLICY)


def _about(report: Report) -> str:
    plain = report.to_dict()
    tokens = plain["tokens_per_context"]
    told = [
        f"{plain['questions']:,} questions on {plain['clips']:,} clips of {tokens['least']:,} to {tokens['most']:,} "
        f"tokens. Every clip is read once and packed whole; then each question is asked from the packed cache. "
        "Intervals hold 95% and are bootstrapped over clips; p is of McNemar's exact test; KL is the divergence from "
        "the full cache's distribution over the options, in nats, mean over questions."
    ]
    if plain["unfinished"]:
        told.append(f"Not finished: {plain['unfinished']:,} questions lack answers of some methods and are left out.")
    return " ".join([*told, *report.results.settings.get("notes", ())])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of finished cells: ``<td>`` with what belongs in it."""
    lines = ["<tr>" + "".join(row) + "</tr>" for row in rows]
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table>\n<tr>{titles}</tr>\n' + "\n".join(lines) + "\n</table></div>"


def _cell(text: object, style: str = "") -> str:
    return f'<td class="{style}">{escape(str(text))}</td>' if style else f"<td>{escape(str(text))}</td>"


def _overall(report: Report) -> str:
    head = (
        "method",
        "bits",
        "ratio",
        "bytes a clip",
        "accuracy %",
        "points to full",
        "lost",
        "won",
        "p",
        "KL",
        "reads",
    )
    rows = []
    for row in report.rows:
        against = row["overall"].get("against_full")
        compared = ("", "", "", "", "")
        if against is not None:
            tested = (points(against["difference"]), against["lost"], against["won"], p_value(against["p"]))
            compared = (*tested, spread(against["kl"]))
        cells = (
            *(row["label"], f"{row['bits_per_element']:.3f}", f"{row['compression']:.2f}x"),
            *(f"{row['bytes_per_context']:,.0f}", percent(row["overall"]["accuracy"]), *compared),
            f"{row['packed_reads']:,}",
        )
        rows.append([_cell(cell) for cell in cells])
    return _table(head, rows)


def _split(report: Report, name: str) -> str:
    rows = []
    for value, first in report.rows[0][name].items():
        cells = [_split_cell(row[name][value]) for row in report.rows]
        rows.append([_cell(value), _cell(first["questions"]), *cells])
    return _table(("", "questions", *(row["label"] for row in report.rows)), rows)


def _split_cell(cell: dict[str, Any]) -> str:
    """Tinted where the interval of the difference to the full cache leaves zero out."""
    style = ""
    if (against := cell.get("against_full")) is not None:
        difference = against["difference"]
        style = "worse" if difference["high"] < 0 else "better" if difference["low"] > 0 else ""
    return _cell(f"{100 * cell['accuracy']['value']:.1f}", style)


def _pairs(report: Report) -> str:
    labels = {row["method"]: f"{row['label']} ({row['bits_per_element']:.2f} bits)" for row in report.rows}
    rows = [
        [
            *(_cell(labels[pair["one"]]), _cell(labels[pair["other"]]), _cell(points(pair["difference"]))),
            *(_cell(pair["won"]), _cell(pair["lost"]), _cell(p_value(pair["p"])), _cell(spread(pair["kl_difference"]))),
        ]
        for pair in report.pairs
    ]
    return _table(("method", "peer", "points", "right alone", "wrong alone", "p", "KL to full, difference"), rows)

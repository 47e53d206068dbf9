"""A TNI report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import base64
import io
import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from oscar_x.tni.summary import COLUMNS, layer_line

from ..html_page import html_page, write_page
from .figures import FIGURES, draw_figures

if TYPE_CHECKING:
    from oscar_x.tni import TniReport

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.about { color: #52606d; margin-top: .3rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
th { color: #52606d; font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: #52606d; font-size: .85rem; }
div.wide { overflow-x: auto; }
"""


def write_html(report: TniReport, path: str | os.PathLike[str], model: str) -> Path:
    """Write the report, whole or not at all.

    Args:
        model: what to call the model.

    Raises:
        OSError: the file cannot be written.
        ValueError, ImportError: as draw_figures().
    """
    return write_page(path, render(report, model))


def render(report: TniReport, model: str) -> str:
    """The page's text."""
    title = f"Token Norm Imbalance of {escape(model)}"
    body = [
        f"<h1>{title}</h1>",
        f'<p class="about">{escape(_about(report))}</p>',
        "<h2>Findings</h2>",
        _findings(report),
    ]
    for name, figure in draw_figures(report).items():
        body += [
            f'<figure id="{name}">{_image(figure, name)}<figcaption>{escape(FIGURES[name][1])}</figcaption></figure>'
        ]
    body += ["<h2>Layers</h2>", _layers(report)]
    return html_page(title, body, _STYLE, _POLICY)


def _about(report: TniReport) -> str:
    held = report.settings
    tokens = ", ".join(f"{count:,} {kind}" for kind, count in report.tokens.items())
    sequences = "1 sequence" if report.sequences == 1 else f"{report.sequences} sequences"
    return (
        f"{report.model_type}, {tokens} tokens in {sequences}. Keys of {held.key_bits} and values of "
        f"{held.value_bits} bits, groups of {held.group_size} tokens behind {held.sink_tokens} exact ones. Measured "
        f"{report.date} by oscar_x {report.library_version}; model {report.model_signature}, data {report.data_hash}."
    )


def _findings(report: TniReport) -> str:
    rows = []
    for sentence in report.findings():
        about, found = sentence.split(": ", 1)
        rows.append(f"<tr><td>{escape(about)}</td><td>{escape(found[0].upper() + found[1:])}</td></tr>")
    return '<table id="findings"><tr><th>of</th><th>finding</th></tr>' + "".join(rows) + "</table>"


def _image(figure: object, name: str) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)  # type: ignore[attr-defined]
    return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _layers(report: TniReport) -> str:
    head = "".join(f'<th class="number">{name}</th>' for name in COLUMNS)
    lines = (layer_line(report, layer.index) for layer in report.layers if layer.compressed)
    rows = ("<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table id="layers"><tr>{head}</tr>{"".join(rows)}</table></div>'

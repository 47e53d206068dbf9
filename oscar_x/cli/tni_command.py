"""``oscar-x tni``: how much the norms of tokens that share a scale differ in a model, and what that costs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscar_x.cli.options import (
    Device,
    Images,
    JsonFile,
    ModelArgument,
    Preset,
    Sounds,
    Videos,
    find_model,
    media_parts,
)
from oscar_x.cli.output import STANDARD_OUTPUT, counted_progress, make_table, open_console, working, write_json
from oscar_x.config import DEFAULT_PRESET, GROUP_SIZES

if TYPE_CHECKING:
    from rich.table import Table

    from oscar_x.tni import TniReport

QUESTION = "Describe this."  # what a conversation of media alone asks

_FILE = {"metavar": "FILE", "show_default": False}
_GROUPS = ", ".join(map(str, GROUP_SIZES))


def _check_group_size(size: int | None) -> int | None:
    if size is not None and size not in GROUP_SIZES:
        raise typer.BadParameter(f"{size} is not allowed; choose {_GROUPS}")
    return size


def tni(
    model: ModelArgument,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            help="python-reference, kjv, or a UTF-8 file; may be given several times. With media: the question.",
            metavar="FILE",
            show_default="python-reference",
        ),
    ] = None,
    image: Images = None,
    video: Videos = None,
    audio: Sounds = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Tokens of each text that count.")] = 2048,
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group-size",
            help=f"Tokens that share a scale: {_GROUPS}.",
            show_default="the preset's",
            callback=_check_group_size,
        ),
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    device: Device = None,
    json_file: JsonFile = None,
    html: Annotated[str | None, typer.Option("--html", help="Write a report with pictures.", **_FILE)] = None,
    plot: Annotated[
        str | None,
        typer.Option(
            "--plot", metavar="PREFIX", help="Write the pictures as PREFIX-*.png and .svg.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure Token Norm Imbalance: by layer, KV head and modality, with its causes and its cost in error."""
    console = open_console(json_file)
    _check_targets(html, plot)
    parts = media_parts(image, video, audio)
    with working(console, "Reading the text"):
        from oscar_x.evals.corpus import DEFAULT_TEXT, load_text

        texts = [load_text(name) for name in text or ([] if parts else [DEFAULT_TEXT])]
    data = _data(parts, texts)
    path = find_model(model)
    from oscar_x.source import resolve_source

    with working(console, f"Loading {model}", downloads=not resolve_source(path).local):
        from oscar_x.loading import load
        from oscar_x.tni import measure_tni

        loaded = load(path, preset=preset, device=device)
    with counted_progress(console) as progress:
        report = measure_tni(
            loaded, data, group_size=group_size, max_tokens=None if parts else max_tokens, progress=progress
        )
    console.print(_table(report))
    for sentence in report.findings():
        console.print(f"- {sentence}", markup=False)
    if json_file not in (None, STANDARD_OUTPUT):
        report.save(str(json_file))
    else:
        write_json(json_file, report.to_dict())
    _draw(report, model, html, plot, console)


def _data(parts: list[dict[str, str]], texts: list[str]) -> list[Any]:
    """Texts as they are, or one conversation about the media."""
    if not parts:
        return texts
    asked: list[dict[str, str]] = [{"type": "text", "text": text} for text in texts or [QUESTION]]
    return [[{"role": "user", "content": [*parts, *asked]}]]


def _check_targets(html: str | None, plot: str | None) -> None:
    """Fail before minutes of work, not after them."""
    for name, target in (("--html", html), ("--plot", plot)):
        if target is None:
            continue
        if not Path(target).parent.is_dir():
            raise FileNotFoundError(f"{name} {target}: folder {Path(target).parent} does not exist")
        if name == "--html" and Path(target).is_dir():
            raise IsADirectoryError(f"--html {target} is a folder; give a file")
        if find_spec("matplotlib") is None:
            raise ImportError(f"{name} needs matplotlib; install it with: pip install matplotlib")


def _table(report: TniReport) -> Table:
    from oscar_x.tni.summary import COLUMNS, layer_line

    tokens = ", ".join(f"{count} {kind}" for kind, count in report.tokens.items())
    table = make_table(f"Token Norm Imbalance, {tokens} tokens, groups of {report.settings.group_size}", *COLUMNS)
    for layer in report.layers:
        if layer.compressed:
            table.add_row(*layer_line(report, layer.index))
        else:
            table.add_row(str(layer.index), layer.layer_type)
    return table


def _draw(report: TniReport, model: str, html: str | None, plot: str | None, console: Any) -> None:
    if html is None and plot is None:
        return
    with working(console, "Drawing"):
        from oscar_x.evals.tni_report import save_figures, write_html

        written = [] if plot is None else save_figures(report, plot)
        if html is not None:
            written.append(write_html(report, html, model))
    for path in written:
        console.print(f"wrote {path}", markup=False)

"""``oscar-x eval``: measure how close compressed caches stay to the full one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oscar_x.cli.long_video import long_video
from oscar_x.cli.options import EMBEDDED, MODEL_HELP, Device, JsonFile, find_model
from oscar_x.cli.output import counted_progress, open_console, working, write_json

if TYPE_CHECKING:
    from oscar_x.profile import Profile

eval_app = typer.Typer(name="eval", help="Measure fidelity on a real model and real text.", no_args_is_help=True)


@eval_app.callback()
def _group() -> None:
    """Keeps ``fidelity`` a sub-command while it is the only one."""


@eval_app.command()
def fidelity(
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = EMBEDDED,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B,...", help="Methods to compare.", show_default="all that can run here"),
    ] = None,
    sequences: Annotated[int, typer.Option("--sequences", min=1, help="Token sequences cut from the text.")] = 16,
    prefix: Annotated[int, typer.Option("--prefix", min=1, help="Tokens that are compressed.")] = 1024,
    continuation: Annotated[int, typer.Option("--continuation", min=1, help="Tokens scored against them.")] = 255,
    text: Annotated[str, typer.Option("--text", help="python-reference, kjv, or a UTF-8 file.")] = "python-reference",
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="PREFIX", help="Write PREFIX.png and .svg.", show_default=False),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile",
            metavar="FILE",
            help="Run a profile of oscar-x calibrate as method oscar-NAME; may be given several times.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap intervals.")] = 0,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Compare methods of cache compression side by side: bits, perplexity, KL to the full cache, top-1 agreement.

    Of every sequence the prefix is compressed whole, then the continuation is scored against the compressed cache.
    """
    console = open_console(json_file)
    _check_plot(plot)
    path = find_model(model)
    with working(console, "Reading the text"):
        from oscar_x.evals.corpus import load_text
        from oscar_x.evals.fidelity import run_fidelity
        from oscar_x.evals.methods import all_methods, choose_methods

        contents = load_text(text)
        names = [name.strip() for name in methods.split(",")] if methods else None
        profiles = _read_profiles(profile or [])
        choose_methods(names, all_methods(profiles=profiles))
    with working(console, f"Loading {model}"):
        from oscar_x.loading import load

        subject = load(path, device=device)
    with counted_progress(console) as progress:
        report = run_fidelity(
            subject,
            contents,
            names,
            sequences=sequences,
            prefix=prefix,
            continuation=continuation,
            seed=seed,
            profiles=profiles,
            model_name=Path(path).stem if model == EMBEDDED else model,
            text_name=text,
            progress=progress,
        )
    console.print(report.table())
    for name, reason in report.settings["skipped"].items():
        console.print(f"{name} was left out: {reason}", markup=False)
    write_json(json_file, report.to_dict())
    if plot is not None:
        from oscar_x.evals.plots import pareto_plot

        for written in pareto_plot(report.rows, plot, report.title):
            console.print(f"wrote {written}", markup=False)


eval_app.command(name="long-video")(long_video)


def _read_profiles(paths: list[str]) -> dict[str, Profile]:
    from oscar_x.profile import Profile

    return {Path(path).stem: Profile.load(path) for path in paths}


def _check_plot(prefix: str | None) -> None:
    """Fail before minutes of work, not after them."""
    if prefix is None:
        return
    from importlib.util import find_spec

    if not Path(prefix).parent.is_dir():
        raise FileNotFoundError(f"--plot {prefix}: folder {Path(prefix).parent} does not exist")
    if find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib; install it with: pip install matplotlib")

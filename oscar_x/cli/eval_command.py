"""``oscar-x eval``: measure how close compressed caches stay to the full one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oscar_x.cli.calibration_table import calibration
from oscar_x.cli.long_video import long_video
from oscar_x.cli.options import (
    EMBEDDED,
    MODEL_HELP,
    Conversations,
    Device,
    JsonFile,
    MethodProfiles,
    find_model,
    read_profiles,
)
from oscar_x.cli.output import check_plot, counted_progress, open_console, working, write_json
from oscar_x.cli.video_qa import video_qa

# cut from a text
SEQUENCES = 16

eval_app = typer.Typer(name="eval", help="Measure what compression costs, on real models.", no_args_is_help=True)


@eval_app.command()
def fidelity(
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = EMBEDDED,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B,...", help="Methods to compare.", show_default="all that can run here"),
    ] = None,
    sequences: Annotated[
        int | None,
        typer.Option(
            "--sequences",
            min=1,
            help="Sequences cut from the text, or conversations.",
            show_default="16, or all of a file of conversations",
        ),
    ] = None,
    prefix: Annotated[int, typer.Option("--prefix", min=1, help="Tokens that are compressed.")] = 1024,
    continuation: Annotated[int, typer.Option("--continuation", min=1, help="Tokens scored against them.")] = 255,
    text: Annotated[
        str | None,
        typer.Option("--text", help="python-reference, kjv, or a UTF-8 file.", show_default="python-reference"),
    ] = None,
    conversations: Conversations = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="PREFIX", help="Write PREFIX.png and .svg.", show_default=False),
    ] = None,
    profile: MethodProfiles = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap intervals.")] = 0,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Compare methods of cache compression side by side: bits, perplexity, KL to the full cache, top-1 agreement.

    Of every sequence the prefix is compressed whole, then the continuation is scored against the compressed cache. Of
    conversations the media and earlier turns are compressed, then questions and answers are scored.
    """
    if text is not None and conversations is not None:
        raise typer.BadParameter("--text and --conversations exclude each other")
    console = open_console(json_file)
    check_plot(plot)
    path = find_model(model)
    names = [name.strip() for name in methods.split(",")] if methods else None
    with working(console, "Reading the data"):
        from oscar_x.evals.conversations import load_conversations, run_on_conversations
        from oscar_x.evals.corpus import DEFAULT_TEXT, load_text
        from oscar_x.evals.fidelity import run_fidelity
        from oscar_x.evals.methods import all_methods, choose_methods

        asked = [] if conversations is None else load_conversations(conversations, sequences)
        contents = "" if asked else load_text(text or DEFAULT_TEXT)
        profiles = read_profiles(profile)
        choose_methods(names, all_methods(profiles=profiles))
    with working(console, f"Loading {model}"):
        from oscar_x.loading import load

        subject = load(path, device=device)
    with counted_progress(console) as progress:
        shared: dict[str, Any] = {
            "seed": seed,
            "profiles": profiles,
            "model_name": Path(path).stem if model == EMBEDDED else model,
            "progress": progress,
        }
        if conversations is not None:
            report = run_on_conversations(subject, asked, names, data_name=conversations, **shared)
        else:
            sizes: dict[str, Any] = {
                "sequences": sequences or SEQUENCES,
                "prefix": prefix,
                "continuation": continuation,
            }
            report = run_fidelity(subject, contents, names, **sizes, text_name=text or DEFAULT_TEXT, **shared)
    console.print(report.table())
    for name, reason in report.settings["skipped"].items():
        console.print(f"{name} was left out: {reason}", markup=False)
    write_json(json_file, report.to_dict())
    if plot is not None:
        from oscar_x.evals.plots import pareto_plot

        for written in pareto_plot(report.rows, plot, report.title):
            console.print(f"wrote {written}", markup=False)


eval_app.command()(calibration)
eval_app.command(name="long-video")(long_video)
eval_app.command(name="video-qa")(video_qa)

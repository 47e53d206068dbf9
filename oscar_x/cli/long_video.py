"""``oscar-x eval long-video``: memory, speed and accuracy by the length of a video, and what fits at real sizes."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from oscar_x.cli.options import MODEL_HELP, TINY_OMNI, Device, JsonFile, MethodProfiles, find_model, read_profiles
from oscar_x.cli.output import (
    check_plot,
    counted_progress,
    make_table,
    open_console,
    show_bytes,
    working,
    write_json,
)

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_NONE: dict[str, Any] = {"show_default": False}


def _check_size(size: str | None) -> str | None:
    if size is not None:
        read_size(size)
    return size


def read_size(size: str) -> int:
    """Bytes of "2GB" (decimal), "512MiB" (binary) or "1000000".

    Raises:
        typer.BadParameter: something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", size.strip())
    if found is None or found[2].upper() not in _UNITS or not float(found[1]):
        raise typer.BadParameter(f"{size!r} is not allowed; use a size such as 2GB or 512MiB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _numbers(given: str | None, name: str) -> list[float] | None:
    if given is None:
        return None
    try:
        return [float(number) for number in given.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{name} {given!r} is not allowed; use numbers such as 0,0.5,1") from None


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",")]


def _frame(given: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", given)
    if found is None or not int(found[1]) or not int(found[2]):
        raise typer.BadParameter(f"{given!r} is not allowed; use WIDTHxHEIGHT such as 640x360")
    return int(found[1]), int(found[2])


def long_video(
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = TINY_OMNI,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B,...", help="Caches to compare.", show_default="full and the presets"),
    ] = None,
    profile: MethodProfiles = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            callback=_check_size,
            help="What weights and cache may take, such as 2GB: lengths double until nothing fits.",
            **_NONE,
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", metavar="A,B,...", help="Seconds of video.", show_default="8 to 128, doubling"),
    ] = None,
    depths: Annotated[str, typer.Option("--depths", help="Where needles lie, 0 to 1.")] = "0,0.25,0.5,0.75,1",
    needles: Annotated[
        str | None,
        typer.Option("--needles", help="Of visual, audio, both.", show_default="all that the model can notice"),
    ] = None,
    clips: Annotated[int, typer.Option("--clips", min=0, help="Clips of each needle, depth and length.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Decoded tokens that are timed.")] = 16,
    stream: Annotated[
        float, typer.Option("--stream", metavar="SECONDS", min=0, help="Also a video that arrives over this time.")
    ] = 0.0,
    chunk: Annotated[float, typer.Option("--chunk", help="Seconds of the stream that are read at a time.")] = 10.0,
    ask_every: Annotated[float, typer.Option("--ask-every", help="Seconds of the stream between questions.")] = 60.0,
    silent: Annotated[bool, typer.Option("--silent", help="A stream without sound.")] = False,
    frame: Annotated[str, typer.Option("--frame", help="Size of frames where hours are counted.")] = "640x360",
    list_options: Annotated[
        bool | None,
        typer.Option("--list-options/--no-list-options", help="Name the options.", show_default="not for tiny-omni"),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="PREFIX", help="Write PREFIX-*.png and .svg.", **_NONE)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the clips.")] = 0,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """How memory, speed and accuracy change with the length of a video, and how many hours fit in 24, 80 and 141 GB."""
    console = open_console(json_file)
    check_plot(plot)
    asked: dict[str, Any] = {
        "methods": _names(methods),
        "lengths": _numbers(lengths, "--lengths"),
        "depths": _numbers(depths, "--depths"),
        "needles": _names(needles),
        "memory": memory and read_size(memory),
        "listed": model != TINY_OMNI if list_options is None else list_options,
        "frame": _frame(frame),
        "heard": False if silent else None,
        **{"clips": clips, "steps": steps, "stream": stream, "chunk": chunk, "ask_every": ask_every, "seed": seed},
    }
    path = find_model(model)
    with working(console, f"Loading {model}"):
        from oscar_x.evals.long_video import Study, run_study, save_figures
        from oscar_x.loading import load

        study = Study(**asked)
        profiles = read_profiles(profile)
        subject = load(path, device=device)
    with counted_progress(console) as progress:
        report = run_study(subject, study, model_name=model, profiles=profiles, progress=progress)
    for table in report.tables(make_table, show_bytes):
        console.print(table)
    for stop in report.sweep.stopped:
        console.print(f"{stop.method} stops before {stop.seconds:g} s: {stop.reason}", markup=False)
    write_json(json_file, report.to_dict())
    if plot is not None:
        for written in save_figures(report, plot):
            console.print(f"wrote {written}", markup=False)

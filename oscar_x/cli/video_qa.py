"""``oscar-x eval video-qa``: questions about videos and sounds, answered from packed caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oscar_x.cli.options import MODEL_HELP, Device, JsonFile, MethodProfiles, find_model, read_profiles
from oscar_x.cli.output import open_console, working, write_json
from oscar_x.cli.video_qa_progress import answer_progress

if TYPE_CHECKING:
    from rich.console import Console

    from oscar_x.evals.video_qa.media_parts import MediaSettings
    from oscar_x.evals.video_qa.processes import Processes
    from oscar_x.evals.video_qa.questions import Source
    from oscar_x.evals.video_qa.scoring import AnswerForm
    from oscar_x.profile import Profile

GENERATED = "generated"


def video_qa(
    model: Annotated[str | None, typer.Option("--model", help=MODEL_HELP, show_default=False)] = None,
    data: Annotated[
        str, typer.Option("--data", metavar="PATH", help=f"Questions: a file, a folder, or {GENERATED!r}.")
    ] = GENERATED,
    data_format: Annotated[
        str, typer.Option("--format", help="Layout of the data: own, or a public benchmark (docs/video_qa.md).")
    ] = "own",
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FOLDER", help="The run; one that is there is continued.", show_default=False),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="A,B,...",
            help="Methods to compare.",
            show_default="full, KIVI, OTT, TurboQuant, OScaR's presets and profiles",
        ),
    ] = None,
    profile: MethodProfiles = None,
    answer_form: Annotated[
        str | None,
        typer.Option(
            "--answer-form",
            help="Weigh the options' letters or their words.",
            show_default=f"words for {GENERATED}, else letters",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Questions at most.", show_default=f"2100 for {GENERATED}, else all"),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", metavar="N,M,...", help="Events of a generated clip.", show_default="7,26,78"),
    ] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames a second to keep.", show_default=False)] = None,
    max_frames: Annotated[int | None, typer.Option("--max-frames", min=1, show_default=False)] = None,
    max_pixels: Annotated[int | None, typer.Option("--max-pixels", min=1, show_default=False)] = None,
    sound: Annotated[bool, typer.Option("--sound", help="Hear the videos' sound tracks (omni models).")] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Answer part I (from 0) of N only. accelerate launch shares the parts out by itself.",
            show_default=False,
        ),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Go on where media cannot be read.")] = False,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            "--merge",
            metavar="FOLDER",
            help="Only report on a run; given several times, on the parts of one.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="The report as a page.", show_default="in the run's folder"),
    ] = None,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Accuracy of a model whose media context was packed before the questions are asked, method by method.

    Each clip is read once and packed whole by every method; each question is then answered from the packed cache.
    Results are written as they come: a run that was stopped goes on when the command is given again.
    """
    console = open_console(json_file)
    if merge:
        _report(console, merge, html, json_file)
        return
    if model is None or out is None:
        raise ValueError("--model and --out are needed, or --merge")
    from oscar_x.evals.video_qa.media_parts import MediaSettings
    from oscar_x.evals.video_qa.processes import find_processes

    media = MediaSettings(fps, max_frames, max_pixels, sound)
    source = _source(data, data_format, media, limit, lengths)
    form = _form(answer_form, data)
    processes = find_processes(shard, device)
    profiles = read_profiles(profile)
    names = [name.strip() for name in methods.split(",")] if methods else None
    _run(console, processes, source, model, names, profiles, form, Path(out), skip_broken)
    processes.wait()
    if processes.first and shard is None:
        _report(console, [out], html, json_file)


def _run(
    console: Console,
    processes: Processes,
    source: Source,
    model: str,
    names: list[str] | None,
    profiles: dict[str, Profile],
    form: AnswerForm,
    folder: Path,
    skip_broken: bool,
) -> None:
    from oscar_x.evals.video_qa.answering import CacheAnswerer
    from oscar_x.evals.video_qa.identity import run_settings
    from oscar_x.evals.video_qa.methods import qa_methods
    from oscar_x.evals.video_qa.run import run

    qa_methods(names, None, profiles)  # a wrong name is told before minutes of loading
    with _said(console, processes, f"Loading {model}"):
        from oscar_x.loading import load

        subject = load(find_model(model), device=processes.device)
        for given in profiles.values():
            given.check(subject.model.config)
        chosen = qa_methods(names, subject.key_biases or None, profiles)
        settings = run_settings(subject, model, source, chosen, form, profiles)
    answerer = CacheAnswerer(subject, chosen, form)
    with answer_progress(console if processes.first else None) as progress:
        outcome = run(
            source,
            answerer,
            folder,
            settings,
            shard=processes.shard,
            skip_broken=skip_broken,
            progress=progress,
        )
    if processes.first and outcome.kept:
        console.print(f"{outcome.kept} answers were there already, {outcome.written} are new")


def _report(console: Console, folders: list[str], html: str | None, json_file: str | None) -> None:
    from oscar_x.evals.video_qa.page import write_html
    from oscar_x.evals.video_qa.report import read_report
    from oscar_x.evals.video_qa.show import overall_table, split_table

    with working(console, "Counting"):
        report = read_report(folders)
        plain = report.to_dict()
    # files first: whoever reads the tables may stop reading
    write_json(str(Path(folders[0]) / "report.json"), plain)
    page = write_html(report, html or Path(folders[0]) / "report.html")
    console.print(overall_table(report), split_table(report, "kinds"))
    if report.rows[0]["groups"]:
        console.print(split_table(report, "groups"))
    if plain["unfinished"]:
        console.print(f"{plain['unfinished']} questions lack answers of some methods and are not counted")
    for clip, reason in report.results.failures.items():
        console.print(f"{clip} could not be read: {reason}", markup=False)
    console.print(f"wrote {page}", markup=False)
    write_json(json_file, plain)


def _source(data: str, data_format: str, media: MediaSettings, limit: int | None, lengths: str | None) -> Source:
    if data != GENERATED:
        from oscar_x.evals.video_qa.sources import file_source

        if lengths is not None:
            raise ValueError("--lengths is of generated clips; files have their own")
        return file_source(data, data_format, media, limit)
    from oscar_x.evals.video_qa.generated import LENGTHS, LIMIT, GeneratedSet, generated_source

    chosen: tuple[int, ...] = LENGTHS
    if lengths is not None:
        if not all(part.strip().isdigit() for part in lengths.split(",")):
            raise ValueError(f"--lengths {lengths} is not understood; write numbers such as 7,26,78")
        chosen = tuple(int(part) for part in lengths.split(","))
    return generated_source(GeneratedSet(chosen, limit or LIMIT))


def _form(answer_form: str | None, data: str) -> AnswerForm:
    from oscar_x.evals.video_qa.scoring import FORMS

    if answer_form is None:
        return "words" if data == GENERATED else "letters"
    for form in FORMS:
        if form == answer_form:
            return form
    raise ValueError(f"--answer-form {answer_form!r} is unknown; choose {' or '.join(FORMS)}")


@contextmanager
def _said(console: Console, processes: Processes, what: str) -> Iterator[None]:
    """A spinner of the first process alone."""
    if not processes.first:
        yield
        return
    with working(console, what):
        yield

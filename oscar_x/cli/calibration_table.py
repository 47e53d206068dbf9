"""``oscar-x eval calibration``: a model's table of presets and calibrated settings, and what each part does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscar_x.cli.options import EMBEDDED, Conversations, Device, JsonFile, ModelArgument, find_model
from oscar_x.cli.output import counted_progress, open_console, working, write_json
from oscar_x.config import CALIBRATION

if TYPE_CHECKING:
    from oscar_x.profile import Profile

_FILE = {"metavar": "FILE", "show_default": False}


def calibration(
    model: ModelArgument,
    text: Annotated[
        str | None,
        typer.Option("--text", help="What to judge on: python-reference, kjv, or a UTF-8 file.", show_default="kjv"),
    ] = None,
    conversations: Conversations = None,
    made_on: Annotated[
        str | None,
        typer.Option(
            "--made-on",
            metavar="TEXT",
            help="What to make profiles on: a text, or a JSONL file where conversations are judged on.",
            show_default="python-reference, or the training split of generated conversations",
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="One made at equal bytes, in place of making it.", **_FILE)
    ] = None,
    equal_kl: Annotated[
        str | None, typer.Option("--equal-kl", help="One made at equal KL; goes with --profile.", **_FILE)
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            "--save",
            metavar="FOLDER",
            help="Keep the profiles that are made; a new folder is made.",
            show_default=False,
        ),
    ] = None,
    sequences: Annotated[
        int | None,
        typer.Option("--sequences", min=1, help="Sequences or conversations to judge on.", show_default="8"),
    ] = None,
    prefix: Annotated[int, typer.Option("--prefix", min=1, help="Tokens of a text that are compressed.")] = 1024,
    continuation: Annotated[int, typer.Option("--continuation", min=1, help="Tokens scored against them.")] = 255,
    made_sequences: Annotated[
        int | None,
        typer.Option(
            "--made-sequences",
            min=1,
            help="Sequences or conversations to make profiles on.",
            show_default=f"{CALIBRATION.sequences} of a text, 16 generated ones, all of a file",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap intervals.")] = 0,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Make profiles at the bytes and at the KL of preset balanced, and judge them on other data, with an ablation."""
    console = open_console(json_file)
    _check(text, conversations, made_on, profile, equal_kl, save)
    path = find_model(model)
    with working(console, "Reading the data"):
        from oscar_x.evals.calibration_run import (
            EQUAL_BYTES_PROFILE,
            EQUAL_KL_PROFILE,
            make_profiles,
            run_calibration_table,
        )
        from oscar_x.evals.conversations import load_conversations
        from oscar_x.evals.corpus import load_text
        from oscar_x.profile import Profile

        count = sequences or 8
        data: Any = load_text(text or "kjv") if conversations is None else load_conversations(conversations, count)
        profiles: dict[str, Profile] = {}
        if profile is not None and equal_kl is not None:
            profiles = {EQUAL_BYTES_PROFILE: Profile.load(profile), EQUAL_KL_PROFILE: Profile.load(equal_kl)}
        source = [] if profiles else _read_source(made_on, conversations, made_sequences)
    with working(console, f"Loading {model}"):
        from oscar_x.loading import load

        subject = load(path, device=device)
    if not profiles:
        if save is not None:
            Path(save).mkdir(parents=True, exist_ok=True)
        with counted_progress(console) as progress:
            count_made = made_sequences or CALIBRATION.sequences
            profiles = make_profiles(subject, source, sequences=count_made, progress=progress)
        for name, made in profiles.items() if save is not None else ():
            made.save(Path(str(save)) / f"{name}.json")
            console.print(f"wrote {Path(str(save)) / name}.json", markup=False)
    with counted_progress(console) as progress:
        table = run_calibration_table(
            subject,
            data,
            profiles,
            sequences=count,
            prefix=prefix,
            continuation=continuation,
            seed=seed,
            model_name=Path(path).stem if model == EMBEDDED else model,
            data_name=conversations or text or "kjv",
            progress=progress,
        )
    for shown in table.tables():
        console.print(shown)
    for line in table.lines:
        console.print(line, markup=False)
    write_json(json_file, table.to_dict())


def _read_source(made_on: str | None, conversations: str | None, count: int | None) -> list[Any]:
    from oscar_x.evals.conversations import load_conversations
    from oscar_x.evals.corpus import DEFAULT_TEXT, load_text

    if conversations is None:
        return [load_text(made_on or DEFAULT_TEXT)]
    return list(load_conversations(made_on or conversations, count, split="train"))


def _check(
    text: str | None,
    conversations: str | None,
    made_on: str | None,
    profile: str | None,
    equal_kl: str | None,
    save: str | None,
) -> None:
    """Fail before minutes of work, not after them."""
    if text is not None and conversations is not None:
        raise typer.BadParameter("--text and --conversations exclude each other")
    if (profile is None) != (equal_kl is None):
        raise typer.BadParameter("--profile and --equal-kl go together")
    if profile is not None and (made_on is not None or save is not None):
        raise typer.BadParameter("--made-on and --save are for profiles that are made, not for --profile")
    if profile is None:
        _check_data(made_on, text or "kjv" if conversations is None else conversations, conversations is not None)
    if save is not None and Path(save).exists() and not Path(save).is_dir():
        raise typer.BadParameter(f"--save {save} is a file; give a folder")


def _check_data(made_on: str | None, judged_on: str, conversations: bool) -> None:
    """Profiles judged on what they were made on look better than they are."""
    from oscar_x.evals.conversations import SETS
    from oscar_x.evals.corpus import DEFAULT_TEXT

    if conversations and made_on is None and judged_on not in SETS:
        raise typer.BadParameter("--conversations FILE needs --made-on, other conversations to make profiles on")
    generated = conversations and judged_on in SETS
    if not generated and (made_on or DEFAULT_TEXT) == judged_on:
        raise typer.BadParameter(f"profiles would be made on {judged_on} and judged on it; give another --made-on")

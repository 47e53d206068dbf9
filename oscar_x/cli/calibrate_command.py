"""``oscar-x calibrate``: choose every layer's settings for a model and write them as a profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscar_x.cli.options import Conversations, Device, ModelArgument, Preset, find_model
from oscar_x.cli.output import counted_progress, make_table, open_console, working
from oscar_x.config import CALIBRATION, DEFAULT_PRESET

if TYPE_CHECKING:
    from rich.table import Table

    from oscar_x.model import OscarModel
    from oscar_x.profile import Profile


def _check_kl(kl: str | None) -> str | None:
    """A number or "same", kept as it was written."""
    if kl is None or kl == "same":
        return kl
    try:
        float(kl)
    except ValueError:
        raise typer.BadParameter(f"{kl!r} is no number of nats; give one, or same") from None
    return kl


def calibrate(
    model: ModelArgument,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where to write the profile.", show_default=False)],
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="python-reference, kjv, or a UTF-8 file; may be given several times.",
            show_default="python-reference, where there are no conversations",
        ),
    ] = None,
    conversations: Conversations = None,
    bits: Annotated[
        float | None,
        typer.Option("--bits", help="Bits an element that must not be exceeded.", show_default="what the preset takes"),
    ] = None,
    kl: Annotated[
        str | None,
        typer.Option(
            "--kl",
            metavar="NATS|same",
            help="Instead: KL that must not be exceeded, or the preset's own.",
            callback=_check_kl,
            show_default=False,
        ),
    ] = None,
    sequences: Annotated[
        int | None,
        typer.Option(
            "--sequences",
            min=1,
            help="Sequences cut from each text, or conversations.",
            show_default=f"{CALIBRATION.sequences} of a text, all of a file of conversations, 16 of generated ones",
        ),
    ] = None,
    prefix: Annotated[int, typer.Option("--prefix", min=1, help="Tokens that are compressed.")] = CALIBRATION.prefix,
    continuation: Annotated[
        int, typer.Option("--continuation", min=1, help="Tokens that read them.")
    ] = CALIBRATION.continuation,
    preset: Preset = DEFAULT_PRESET,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the tokens drawn to weigh errors.")] = 0,
    device: Device = None,
) -> None:
    """Choose bits, groups and scales of every layer under a budget; `load(..., profile=FILE)` uses them."""
    console = open_console(None)
    _check_target(out, bits, kl)
    path = find_model(model)
    with working(console, "Reading the data"):
        data = _read_data(text, conversations, sequences)
        from oscar_x.source import resolve_source
    with working(console, f"Loading {model}", downloads=not resolve_source(path).local):
        from oscar_x.calibration import calibrate as run
        from oscar_x.loading import load

        loaded = load(path, preset=preset, device=device)
    with counted_progress(console) as progress:
        profile = run(
            loaded,
            data,
            bits_budget=bits,
            kl_target="same" if kl == "same" else None if kl is None else float(kl),
            sequences=sequences or CALIBRATION.sequences,
            prefix=prefix,
            continuation=continuation,
            seed=seed,
            progress=progress,
        )
    profile.save(out)
    console.print(_table(loaded, profile))
    console.print(
        f"before ({preset}): {profile.before.bits_per_element:.3f} bits, KL {profile.before.kl:.4f}; "
        f"after: {profile.after.bits_per_element:.3f} bits, KL {profile.after.kl:.4f}, both on this data"
    )
    console.print(f"wrote {out}", markup=False)


def _read_data(texts: list[str] | None, conversations: str | None, count: int | None) -> list[Any]:
    from oscar_x.evals.conversations import load_conversations
    from oscar_x.evals.corpus import DEFAULT_TEXT, load_text

    asked = [] if conversations is None else load_conversations(conversations, count, split="train")
    return [*(load_text(name) for name in texts or ([] if asked else [DEFAULT_TEXT])), *asked]


def _check_target(out: str, bits: float | None, kl: str | None) -> None:
    """Fail before minutes of work, not after them."""
    if bits is not None and kl is not None:
        raise typer.BadParameter("--bits and --kl exclude each other")
    if not Path(out).parent.is_dir():
        raise FileNotFoundError(f"--out {out}: folder {Path(out).parent} does not exist")
    if Path(out).is_dir():
        raise IsADirectoryError(f"--out {out} is a folder; give a file")


def _table(model: OscarModel, profile: Profile) -> Table:
    from oscar_x.cache import plan_layers
    from oscar_x.compressor import block_layout, head_ways

    table = make_table("Chosen settings", "layer", "KV heads", "keys", "values", "scales", "bits")
    for plan in plan_layers(model.model.config, profile.settings):
        if not plan.compressed:
            table.add_row(str(plan.index), "", "exact", "exact", "", "16")
            continue
        ways = head_ways(profile.settings[plan.index], plan.num_key_value_heads)
        for heads, own in ways:
            table.add_row(
                str(plan.index),
                ", ".join(map(str, heads)) if len(ways) > 1 else "all",
                f"{own.key_bits} bits, groups of {own.key_group_size}",
                f"{own.value_bits} bits, groups of {own.value_group_size} {own.value_grouping.replace('_', ' ')}",
                f"{own.scale_bits} bits",
                f"{block_layout(own, len(heads), plan.head_dim).bits_per_element:.2f}",
            )
    split = [str(index) for index, own in profile.settings.layers.items() if own.modality_split is not None]
    if split:
        table.caption = f"blocks end where modalities meet in layers {', '.join(split)}"
    return table

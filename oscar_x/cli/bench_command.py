"""``oscar-x bench``: what caches cost in time and memory, side by side in the same run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from oscar_x.cli.bench_kernels import COMMANDS
from oscar_x.cli.options import (
    EMBEDDED,
    MODEL_HELP,
    Device,
    Images,
    JsonFile,
    ModelDtype,
    Sounds,
    Videos,
    find_model,
    media_parts,
)
from oscar_x.cli.output import counted_progress, open_console, working, write_json

bench_app = typer.Typer(
    name="bench", help="Time and memory of caches, side by side in the same run.", no_args_is_help=True
)
for command in COMMANDS:
    bench_app.command()(command)


@bench_app.command()
def memory(
    context: Annotated[int, typer.Option("--context", min=1, help="Tokens in the cache.")] = 32768,
    head_dim: Annotated[int, typer.Option("--head-dim", min=8, help="Channels of a head.")] = 128,
    heads: Annotated[int, typer.Option("--kv-heads", min=1, help="Key-value heads of a layer.")] = 8,
    json_file: JsonFile = None,
) -> None:
    """Allocated bytes of one layer's cache at every preset, sinks, residual window and slack included, in bfloat16."""
    console = open_console(json_file)
    with working(console, "Filling a layer"):
        from oscar_x.cli.output import make_table, show_bytes
        from oscar_x.config import PRESETS
        from oscar_x.evals.cache_memory import layer_memory

        reports = {name: layer_memory(settings, context, head_dim, heads) for name, settings in PRESETS.items()}
    title = f"one layer, {context} tokens, {heads} KV heads, head_dim {head_dim}, bfloat16"
    table = make_table(title, "preset", "bits an element", "full cache", "held", "times smaller")
    for name, report in reports.items():
        sizes = show_bytes(report.full_cache), show_bytes(report.total)
        table.add_row(name, f"{report.bits_per_element:.3f}", *sizes, f"{report.compression:.2f}")
    console.print(table)
    shape = {"context": context, "head_dim": head_dim, "num_key_value_heads": heads, "dtype": "bfloat16"}
    rows = [{"preset": name, **shape, **report.to_dict()} for name, report in reports.items()]
    write_json(json_file, {"rows": rows})


@bench_app.command()
def decode(
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = EMBEDDED,
    context: Annotated[int, typer.Option("--context", min=1, help="Tokens in the cache before the first step.")] = 7936,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Sequences, with the same text in each.")] = 1,
    dtype: ModelDtype = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps of each cache.")] = 140,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Milliseconds of a decoding step: full cache, transformers' quantized cache (quanto, 2 bits), and every preset."""
    console = open_console(json_file)
    path = find_model(model)
    with working(console, f"Loading {model}"):
        from transformers.utils import is_optimum_quanto_available

        from oscar_x.evals.corpus import load_text, token_sequences
        from oscar_x.evals.decode_speed import PEER, SHORT, caches, time_decoding
        from oscar_x.loading import load

        subject = load(path, device=device, dtype=dtype)
        tokens = token_sequences(load_text("python-reference"), subject.processor, 1, context)[0][None]
    makers = caches(subject.model, subject.key_biases)
    if not is_optimum_quanto_available():
        del makers[PEER]
        console.print(f"{PEER} was left out: the package optimum-quanto is not installed")
    with counted_progress(console) as progress:
        rows = time_decoding(subject.model, tokens.to(subject.model.device), makers, steps, progress, batch)
    console.print(_table(rows))
    console.print(
        f"A step after {SHORT} tokens takes {rows[0].short_ms:.1f} ms with a full cache: that is the model's."
    )
    write_json(json_file, {"model": model, "rows": [row.to_dict() for row in rows]})


@bench_app.command()
def session(
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = EMBEDDED,
    image: Images = None,
    video: Videos = None,
    audio: Sounds = None,
    context: Annotated[int, typer.Option("--context", min=1, help="Tokens of text, where no media are given.")] = 4096,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs of each.")] = 3,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Time to the first token of two questions about the same media (or text), in a session and without one."""
    console = open_console(json_file)
    path = find_model(model)
    with working(console, f"Loading {model}"):
        from oscar_x.cli.output import make_table
        from oscar_x.evals.corpus import load_text, token_sequences
        from oscar_x.evals.session_latency import time_questions
        from oscar_x.loading import load

        subject = load(path, device=device)
        media: Any = media_parts(image, video, audio)
        if not media:
            tokens = token_sequences(load_text("python-reference"), subject.processor, 1, context)[0]
            media = subject.processor.decode(tokens)
    with working(console, "Asking"):
        rows = time_questions(subject, media, ("What is this about?", "What comes first?"), repeats=repeats)
    table = make_table(
        f"time to the first token, {subject.model.dtype}", "", "s", "cached", "read", "of media", "x first"
    )
    for row in rows:
        counts = str(row.cached), str(row.read), str(row.media_tokens)
        table.add_row(row.op, f"{row.seconds:.3f}", *counts, f"{row.speedup:.1f}")
    console.print(table)
    write_json(json_file, {"model": model, "rows": [row.to_dict() for row in rows]})


def _table(rows: list[Any]) -> Any:
    from oscar_x.cli.output import make_table, show_bytes

    first = rows[0]
    title = f"decoding after {first.context} tokens, {first.dtype}, {first.device}, batch {first.batch}"
    table = make_table(title, "cache", "ms a step", "slowest", "cache bytes", "x full", "x quanto")
    for row in rows:
        size = "" if row.cache_bytes is None else show_bytes(row.cache_bytes)
        peer = "" if row.speedup_over_quanto is None else f"{row.speedup_over_quanto:.2f}"
        times = f"{row.ms:.1f}", f"{row.slowest_ms:.1f}"
        table.add_row(row.backend, *times, size, f"{row.speedup_over_full:.2f}", peer)
    return table

"""``oscar-x bench attention | compress | capacity | tokens``: sweeps over contexts and batch sizes at named shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from oscar_x.cli.bench_sweep import DTYPES, Sweep
from oscar_x.cli.options import EMBEDDED, MODEL_HELP, Device, JsonFile, ModelDtype, find_model
from oscar_x.cli.output import counted_progress, open_console, working, write_json
from oscar_x.config import BACKENDS, PRESETS

ALL_PRESETS = ",".join(PRESETS)

Shape = Annotated[str, typer.Option("--shape", help="A model's decoder by name; an unknown one lists them all.")]
Contexts = Annotated[str, typer.Option("--context", help="Tokens in the cache, such as 8192,32K,1M.", metavar="LIST")]
Batches = Annotated[str, typer.Option("--batch", help="Sequences, such as 1,4,16.", metavar="LIST")]
Dtype = Annotated[str, typer.Option("--dtype", help=f"Of the states: {', '.join(DTYPES)}.")]
Backends = Annotated[str, typer.Option("--backend", help=f"Ours to time, of {', '.join(BACKENDS)}.", metavar="LIST")]
Presets = Annotated[str, typer.Option("--preset", help=f"Presets to time, of {', '.join(PRESETS)}.", metavar="LIST")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="On a CPU.", show_default="torch's own number")]
Seconds = Annotated[
    float, typer.Option("--seconds", min=0, help="After this time at one size no new round of calls starts.")
]
Plot = Annotated[
    str | None,
    typer.Option("--plot", metavar="PREFIX", help="Draw PREFIX.png and PREFIX.svg.", show_default=False),
]
Memory = Annotated[
    float | None, typer.Option("--memory", min=0, metavar="GIB", help="GiB to fill with the largest batch that fits.")
]


def attention(
    shape: Shape = "Qwen3-8B",
    context: Contexts = "8192,32768",
    batch: Batches = "1",
    dtype: Dtype = DTYPES[0],
    device: Device = None,
    backend: Backends = "auto",
    preset: Presets = ALL_PRESETS,
    key_bias: Annotated[
        bool, typer.Option("--key-bias", help="Ours as in layers whose large key bias is kept apart (Qwen2.5).")
    ] = False,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed calls of each.")] = 20,
    seconds: Seconds = 60,
    threads: Threads = None,
    json_file: JsonFile = None,
    plot: Plot = None,
) -> None:
    """Decode attention of one layer, packed and dense, with ratios, bandwidths and bounds."""
    console = open_console(json_file)
    sweep = Sweep(shape, context, batch, dtype, device, backend, preset, threads, plot)
    from oscar_x.evals.bench.attention_bench import bench_attention
    from oscar_x.evals.bench.tables import ATTENTION_HEADS, attention_cells

    bench = partial(bench_attention, with_bias=key_bias, repeats=repeats, seconds=seconds)
    shown = "decode attention of one layer of", ATTENTION_HEADS, attention_cells
    _time(console, sweep, bench, shown, ("ms", "milliseconds of a step"), json_file)


def compress(
    shape: Shape = "Qwen3-8B",
    context: Contexts = "8192",
    batch: Batches = "1",
    dtype: Dtype = DTYPES[0],
    device: Device = None,
    backend: Backends = "auto",
    preset: Presets = ALL_PRESETS,
    prefill: Annotated[
        bool, typer.Option("--prefill", help="Also time a layer's prefill, with random weights of the shape.")
    ] = False,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed calls of each.")] = 5,
    seconds: Seconds = 60,
    threads: Threads = None,
    json_file: JsonFile = None,
    plot: Plot = None,
) -> None:
    """Compressing a prompt: tokens a second of the whole model, and the share of its prefill."""
    console = open_console(json_file)
    sweep = Sweep(shape, context, batch, dtype, device, backend, preset, threads, plot)
    from oscar_x.evals.bench.compress_bench import bench_compress
    from oscar_x.evals.bench.tables import COMPRESS_HEADS, compress_cells

    bench = partial(bench_compress, prefill=prefill, repeats=repeats, seconds=seconds)
    shown = "compressing a prompt of", COMPRESS_HEADS, compress_cells
    _time(console, sweep, bench, shown, ("tokens_per_s", "tokens a second, all layers"), json_file)


def _time(
    console: Console,
    sweep: Sweep,
    bench: Callable[..., tuple[list[Any], list[Any]]],
    shown: tuple[str, Sequence[str], Callable[[list[Any]], Any]],
    drawn: tuple[str, str],
    json_file: str | None,
) -> None:
    """Run a benchmark of one layer, show, keep and draw it.

    Args:
        shown: what is timed, the heads of its table, and what makes the cells of rows.
        drawn: the field of rows that is drawn, and what it is.
    """
    what, heads, cells = shown
    peaks = sweep.peaks(console)
    with counted_progress(console) as progress:
        rows, left = bench(**sweep.arguments(), peaks=peaks, progress=progress)
    title = f"{what} {sweep.shape.name}, {sweep.where}, copy {peaks.copy / 1e9:.1f} GB/s"
    sweep.show(console, title, heads, cells(rows), left)
    sweep.keep(json_file, rows, left, peaks)
    sweep.draw(console, rows, *drawn, title)


def capacity(
    shape: Shape = "Qwen3-8B",
    context: Contexts = "32K,128K",
    batch: Batches = "1",
    memory: Annotated[float, typer.Option("--memory", min=0, metavar="GIB", help="GiB for weights and cache.")] = 80,
    reserve: Annotated[float, typer.Option("--reserve", min=0, metavar="GIB", help="GiB of it to keep free.")] = 2,
    dtype: Dtype = DTYPES[0],
    preset: Presets = ALL_PRESETS,
    json_file: JsonFile = None,
    plot: Plot = None,
) -> None:
    """The largest batch at a context and the longest context of a batch that fit in a memory, by exact bytes."""
    console = open_console(json_file)
    sweep = Sweep(shape, context, batch, dtype, "cpu", "auto", preset, None, plot)
    from oscar_x.evals.bench.capacity import capacities
    from oscar_x.evals.bench.tables import CAPACITY_HEADS, capacity_cells

    given = sweep.arguments()
    rows = capacities(
        given["shape"],
        given["contexts"],
        given["batches"],
        int(memory * 2**30),
        dtype=given["dtype"],
        presets=given["presets"],
        reserve_bytes=int(reserve * 2**30),
    )
    weights = rows[0].weights_bytes / 2**30
    title = f"{sweep.shape.name} in {memory:g} GiB, {weights:.1f} of weights, {reserve:g} kept free, {dtype}"
    for op in ("max_batch", "max_context"):
        chosen = [row for row in rows if row.op == op]
        sweep.show(console, f"{op.replace('_', ' ')}: {title}", CAPACITY_HEADS, capacity_cells(chosen), [])
    write_json(json_file, {"rows": [row.to_dict() for row in rows]})
    sweep.draw(console, [row for row in rows if row.op == "max_batch"], "batch", "largest batch", title)


def tokens(
    shape: Annotated[
        str | None, typer.Option("--shape", help="A decoder with random weights, by name.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option("--model", help=f"Without --shape: {MODEL_HELP}")] = EMBEDDED,
    context: Contexts = "7936",
    batch: Batches = "1",
    dtype: ModelDtype = None,
    device: Device = None,
    backend: Backends = "auto",
    preset: Presets = ALL_PRESETS,
    memory: Memory = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps of each cache.")] = 20,
    threads: Threads = None,
    json_file: JsonFile = None,
    plot: Plot = None,
) -> None:
    """Tokens a second of a whole model with a full cache, transformers' quantized cache and every preset."""
    if shape is None and memory is not None:
        raise typer.BadParameter("--memory needs --shape: batches of real text are given by --batch")
    if shape is None and backend != "auto":
        raise typer.BadParameter(f"--backend {backend} needs --shape; `oscar-x bench decode` times backends of a model")
    console = open_console(json_file)
    sweep = Sweep(shape or "SmolLM2-135M", context, batch, dtype or DTYPES[0], device, backend, preset, threads, plot)
    from oscar_x.evals.bench.tables import TOKENS_HEADS, tokens_cells

    if shape is None:
        rows, left = _trained(console, sweep, find_model(model), model, dtype, steps)
        title = f"decoding with {model}, trained weights, {rows[0].dtype}, {sweep.device_name}"
    else:
        rows, left = _random(console, sweep, memory, steps)
        title = f"decoding with random weights of {sweep.shape.name}, {sweep.where}"
    sweep.show(console, title, TOKENS_HEADS, tokens_cells(rows), left)
    sweep.keep(json_file, rows, left)
    sweep.draw(console, rows, "tokens_per_s", "tokens a second", title)


def _random(console: Any, sweep: Sweep, memory: float | None, steps: int) -> tuple[list[Any], list[Any]]:
    from oscar_x.evals.bench.end_to_end import bench_tokens, random_model

    given = sweep.arguments()
    with working(console, f"Drawing weights of {sweep.shape.name}"):
        model = random_model(sweep.shape, given["dtype"], given["device"])
    with counted_progress(console) as progress:
        return bench_tokens(
            model,
            sweep.shape,
            given["contexts"],
            given["batches"],
            presets=given["presets"],
            backends=given["backends"],
            memory_bytes=None if memory is None else int(memory * 2**30),
            steps=steps,
            progress=progress,
        )


def _trained(
    console: Any, sweep: Sweep, path: str, name: str, dtype: str | None, steps: int
) -> tuple[list[Any], list[Any]]:
    from oscar_x.evals.bench.trained import bench_trained

    with working(console, f"Loading {name}"):
        from oscar_x.loading import load

        subject = load(path, device=sweep.device_name, dtype=dtype)
    with counted_progress(console) as progress:
        return bench_trained(subject, path, name, sweep.contexts, sweep.batches, sweep.presets, steps, progress)


COMMANDS: tuple[Callable[..., None], ...] = (attention, compress, capacity, tokens)

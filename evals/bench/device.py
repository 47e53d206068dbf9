"""The whole measuring plan of a GPU in one call, within eight minutes: ``python -m oscar_x.evals.bench.device``.

Packed attention is first checked against plain torch, captured decoding steps against ordinary ones, and generate() by
such steps against transformers' loop; then decode attention, compression and whole decoding steps are timed at the
shape of Qwen3-8B. Tables are printed last. A section that fails is reported, and the others run. Without CUDA it says
so and exits with 2; with 1 where something failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ...config import PRESETS
from .attention_bench import bench_attention
from .bandwidth import Peaks, dtype_name, measure_peaks
from .compress_bench import bench_compress
from .end_to_end import bench_tokens, random_model
from .graph_check import check_generate, check_graph
from .packed import spot_check
from .shapes import Shape, find_shape
from .tables import (
    ATTENTION_HEADS,
    COMPRESS_HEADS,
    TOKENS_HEADS,
    attention_cells,
    compress_cells,
    left_out_lines,
    plain_table,
    tokens_cells,
)

SECONDS = 470
LEAST_SECONDS = {"compress": 40, "tokens": 90}  # a section that would start with less left is not started
ERROR_BOUND = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Plan:
    """Sizes to measure."""

    shape: str = "Qwen3-8B"
    contexts: tuple[int, ...] = (2**12, 2**15, 2**17)
    batches: tuple[int, ...] = (1, 4, 16)
    checked: int = 5000  # tokens of a spot check: a last block's worth stays exact
    prompt: int = 2**15
    decoded: tuple[int, ...] = (2**15, 2**16, 2**17)
    memory_bytes: int = 40 * 2**30
    repeats: int = 20
    steps: int = 20
    seconds_a_size: float = 15.0
    graph_check: dict[str, Any] = field(default_factory=dict)  # sizes other than graph_check's own
    generate_check: dict[str, Any] = field(default_factory=dict)


@dataclass
class Results:
    """What a run has so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(
        self,
        title: str,
        heads: Sequence[str],
        cells: Callable[[Any], list[list[str]]],
        found: tuple[Sequence[Any], Sequence[Any]],
    ) -> None:
        """Rows and left-out contenders of a section, and its table."""
        rows, left = found
        self.rows += [row.to_dict() for row in rows]
        self.left += [missing.to_dict() for missing in left]
        self.text.append(f"{title}\n{plain_table(heads, cells(rows))}")
        self.text += left_out_lines(left)


def check_backends(shape: Shape, context: int, device: torch.device, backends: Sequence[str]) -> list[dict[str, Any]]:
    """Relative error of packed attention against plain torch, by preset, dtype and backend, and whether it will do."""
    checks = []
    for preset, settings in PRESETS.items():
        for dtype, bound in ERROR_BOUND.items():
            for backend, with_bias in product(backends, (False, True)):
                error = spot_check(shape, settings, context, dtype, device, backend, with_bias)
                what = {"op": "spot_check", "preset": preset, "dtype": dtype_name(dtype), "backend": backend}
                found = {"key_bias": with_bias, "relative_error": error, "bound": bound, "holds": error <= bound}
                checks.append({**what, **found})
    return checks


def run(plan: Plan, device: torch.device, seconds: float, say: Callable[[str], None]) -> tuple[Results, bool]:
    """Measure everything that the time allows.

    Returns:
        What was found, and whether every check held.
    """
    start, shape, results = time.monotonic(), find_shape(plan.shape), Results()
    peaks = measure_peaks(device, (torch.float32, torch.bfloat16))
    results.text.append(f"copy {peaks.copy / 1e9:.0f} GB/s read and written, {peaks.operations} operations a second")
    sections = {
        "checks": _checks,
        "graphs": _graphs,
        "generate": _generate,
        "attention": _attention,
        "compress": _compress,
        "tokens": _tokens,
    }
    for name, section in sections.items():
        spent = time.monotonic() - start
        if name in LEAST_SECONDS and spent + LEAST_SECONDS[name] > seconds:
            results.text.append(f"left out: {name}, after {spent:.0f} of {seconds:.0f} seconds")
            continue
        try:
            section(plan, shape, device, peaks, results, say)
        except Exception as error:  # what one section meets must not cost the others their turn
            results.failed.append(name)
            results.text.append(f"FAILED: {name}: {type(error).__name__}: {str(error).strip()[:500]}")
            say(traceback.format_exc())
    return results, not results.failed and all(row["holds"] for row in results.rows if "holds" in row)


def _checks(
    plan: Plan, shape: Shape, device: torch.device, peaks: Peaks, results: Results, say: Callable[[str], None]
) -> None:
    say("checking packed attention")
    checks = check_backends(shape, plan.checked, device, ("auto",))
    results.rows += checks
    results.text += [_told(check) for check in checks]


def _graphs(
    plan: Plan, shape: Shape, device: torch.device, peaks: Peaks, results: Results, say: Callable[[str], None]
) -> None:
    say("checking captured decoding steps")
    found = check_graph(device, **plan.graph_check)
    results.rows.append(found)
    verdict = "holds" if found["holds"] else "FAILS"
    error, bound, packed = found["relative_error"], found["bound"], found["packed_on_the_way"]
    results.text.append(
        f"captured steps: error {error:.1e}, bound {bound:.0e}, {found['captures']} captures, "
        f"{packed} tokens packed on the way: {verdict}"
    )


def _generate(
    plan: Plan, shape: Shape, device: torch.device, peaks: Peaks, results: Results, say: Callable[[str], None]
) -> None:
    say("generating by captured steps")
    found = check_generate(device, **plan.generate_check)
    results.rows.append(found)
    verdict = "holds" if found["holds"] else "FAILS"
    plain, graphed = found["tokens_per_second"].values()
    results.text.append(
        f"generate(), {found['steps']} tokens of a small model: {plain:.0f} tokens/s, graphed {graphed:.0f}; "
        f"the first {found['agree']} agree: {verdict}"
    )


def _told(check: dict[str, Any]) -> str:
    verdict = "holds" if check["holds"] else "FAILS"
    error, bound = check["relative_error"], check["bound"]
    name = f"{check['preset']}, {check['dtype']}, {check['backend']}" + (", key bias" if check["key_bias"] else "")
    return f"{name}: error {error:.1e}, bound {bound:.0e}: {verdict}"


def _attention(
    plan: Plan, shape: Shape, device: torch.device, peaks: Peaks, results: Results, say: Callable[[str], None]
) -> None:
    found = bench_attention(
        shape,
        plan.contexts,
        plan.batches,
        dtype=torch.bfloat16,
        device=device,
        peaks=peaks,
        repeats=plan.repeats,
        seconds=plan.seconds_a_size,
        progress=_once_a_size(say),
    )
    results.add(f"decode attention of one layer, {shape.name}", ATTENTION_HEADS, attention_cells, found)


def _compress(
    plan: Plan, shape: Shape, device: torch.device, peaks: Peaks, results: Results, say: Callable[[str], None]
) -> None:
    say("compressing a prompt")
    sizes = [plan.prompt], [1]
    found = bench_compress(
        shape, *sizes, dtype=torch.bfloat16, device=device, peaks=peaks, prefill=True, seconds=plan.seconds_a_size
    )
    results.add(f"compressing a prompt, {shape.name}", COMPRESS_HEADS, compress_cells, found)


def _tokens(
    plan: Plan, shape: Shape, device: torch.device, peaks: Peaks, results: Results, say: Callable[[str], None]
) -> None:
    say("drawing weights")
    model = random_model(shape, torch.bfloat16, device)
    found = bench_tokens(
        model,
        shape,
        plan.decoded,
        [1],
        presets=("balanced",),
        memory_bytes=plan.memory_bytes,
        quanto=False,
        steps=plan.steps,
        progress=lambda done, total, what: say(f"{done + 1} of {total}: {what}"),
    )
    title = f"decoding, random weights of {shape.name}, batch 1 and the largest in {plan.memory_bytes / 2**30:.0f} GiB"
    results.add(title, TOKENS_HEADS, tokens_cells, found)


def _once_a_size(say: Callable[[str], None]) -> Callable[[int, int, str], None]:
    seen: set[str] = set()

    def progress(done: int, total: int, what: str) -> None:
        size = what.split(":")[0]
        if size not in seen:
            seen.add(size)
            say(f"attention, {size}")

    return progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plan on the first CUDA device; see the module's description for the exit status."""
    parser = argparse.ArgumentParser(prog="python -m oscar_x.evals.bench.device", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no section starts that would end after this")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device: there is nothing to measure here", file=sys.stderr)
        return 2
    device, start = torch.device("cuda"), time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {what}", flush=True)

    results, holds = run(Plan(), device, options.seconds, say)
    name = torch.cuda.get_device_name(device)
    if options.json is not None:
        content = {"device": name, "torch": torch.__version__, "rows": results.rows, "left_out": results.left}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\n{name}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print("\n".join(results.text))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

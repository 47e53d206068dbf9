"""Times candidates for the launch settings of packed attention: ``python -m oscar_x.evals.bench.sweep``.

Prints, for each entry of kernels/decode_attention/triton_configs.py that decoding uses, the fastest candidates and the
line to put there. A candidate that does not compile or run is named and left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch

from ...config import resolve_config
from ...kernels.decode_attention.triton_configs import SPLIT_CONFIGS, SplitConfig, trial
from ..kernel_check import milliseconds
from .packed import PackedCase, packed_case
from .shapes import Shape, find_shape

WARPS, STAGES, REGISTERS, PROGRAMS, LEAST_BLOCKS = (1, 2, 4), (2, 5), (0, 168), (2, 4, 8, 12), (1, 2)
SHOWN = 3
Timer = Callable[[PackedCase], float]


def candidates(rows: int) -> Iterator[SplitConfig]:
    """Settings to try for a tile of this many query rows."""
    for settings in product(WARPS, STAGES, REGISTERS, PROGRAMS, LEAST_BLOCKS):
        yield SplitConfig(rows, *settings)


def entries(most_rows: int = 16) -> list[tuple[int, int, SplitConfig]]:
    """The entries that one query token uses with up to this many query heads a KV head."""
    return [entry for entry in SPLIT_CONFIGS if entry[1] <= most_rows]


def time_candidate(config: SplitConfig, cases: Sequence[PackedCase], timer: Timer) -> float | str:
    """Milliseconds over all cases, or why it does not run."""
    try:
        with trial(config):
            return sum(timer(case) for case in cases)
    except Exception as error:  # a candidate may ask for more registers or shared memory than there is
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"


def sweep(
    cases: Sequence[PackedCase], tried: Sequence[SplitConfig], timer: Timer, until: float = float("inf")
) -> tuple[list[tuple[float, SplitConfig]], list[str]]:
    """Candidates by time, fastest first, and what was left out and why; stops at `until` on the monotonic clock."""
    found, left = [], []
    for index, config in enumerate(tried):
        if time.monotonic() > until:
            left.append(f"{len(tried) - index} candidates: out of time")
            break
        taken = time_candidate(config, cases, timer)
        if isinstance(taken, str):
            left.append(f"{config[:-1]}: {taken}")
        else:
            found.append((taken, config))
    return sorted(found, key=lambda pair: pair[0]), left


def line(entry: tuple[int, int, SplitConfig], taken: float, config: SplitConfig, what: str) -> str:
    """The entry as triton_configs.py holds it."""
    numbers = ", ".join(f"{name}={getattr(config, name)}" for name in SplitConfig._fields[:-1])
    return f'({entry[0]}, {entry[1]}, SplitConfig({numbers}, measured="{taken:.4f} ms, {what}")),'


def shape_of(shape: Shape, head_dim: int, rows: int) -> Shape:
    """The shape with this head_dim and number of query heads a KV head."""
    return replace(shape, head_dim=head_dim, query_heads=rows * shape.key_value_heads)


def _timed(case: PackedCase) -> float:
    return milliseconds(lambda _: case.attend("triton"), 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep on the first CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m oscar_x.evals.bench.sweep", description=__doc__)
    parser.add_argument("--contexts", type=int, nargs="+", default=[2**13, 2**15, 2**17])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=420, help="for all entries together")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device: there is nothing to measure here", file=sys.stderr)
        return 2
    device, settings, start = torch.device("cuda"), resolve_config("balanced"), time.monotonic()
    name, told = torch.cuda.get_device_name(device), []
    for number, entry in enumerate(entries(), 1):
        shape = shape_of(find_shape("Qwen3-8B"), entry[0], entry[1])
        cases = [
            packed_case(shape, settings, context, options.batch, torch.bfloat16, device) for context in options.contexts
        ]
        until = start + options.seconds * number / len(entries())
        found, left = sweep(cases, list(candidates(entry[2].rows)), _timed, until)
        current = time_candidate(entry[2], cases, _timed)
        what = f"{name}, contexts {options.contexts}, batch {options.batch}, {shape.key_value_heads} KV heads"
        told += [f"# now: {current if isinstance(current, str) else f'{current:.4f} ms'}; left out: {len(left)}"]
        told += [line(entry, taken, config, what) for taken, config in found[:SHOWN]]
        print("\n".join(left), flush=True)
        del cases
        torch.cuda.empty_cache()
    print("\n".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

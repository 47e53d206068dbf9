"""What the sweeping benchmarks share: their options, read before any work is done, and how they show their rows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from oscar_x.cli.output import make_table, working, write_json
from oscar_x.config import BACKENDS, PRESETS

MULTIPLES = {"K": 2**10, "M": 2**20}
DTYPES = ("bfloat16", "float16", "float32")


class Sweep:
    """The options that the commands share, read and checked before any work is done."""

    def __init__(
        self,
        shape: str,
        context: str,
        batch: str,
        dtype: str,
        device: str | None,
        backend: str,
        preset: str,
        threads: int | None,
        plot: str | None,
    ) -> None:
        self.contexts, self.batches = _numbers(context, "--context"), _numbers(batch, "--batch")
        self.backends, self.presets = _names(backend, "--backend", BACKENDS), _names(preset, "--preset", tuple(PRESETS))
        self.dtype_name = _names(dtype, "--dtype", DTYPES)[0]
        self.plot = plot
        if plot is not None:
            if not Path(plot).parent.is_dir():
                raise FileNotFoundError(f"--plot {plot}: folder {Path(plot).parent} does not exist")
            if find_spec("matplotlib") is None:
                raise ImportError("--plot needs matplotlib; install it with: pip install matplotlib")
        import torch

        from oscar_x.arguments import check_device
        from oscar_x.evals.bench.shapes import find_shape

        self.shape = find_shape(shape)
        self.device = check_device(device, {}) or torch.device("cpu")
        self.device_name = str(self.device)
        if threads is not None:
            torch.set_num_threads(threads)
        self.threads = torch.get_num_threads()

    @property
    def where(self) -> str:
        """Dtype and device, in words."""
        return f"{self.dtype_name}, {self.device_name}" + (
            f" with {self.threads} threads" if self.device.type == "cpu" else ""
        )

    def arguments(self) -> dict[str, Any]:
        """What the benchmarks of evals/bench take."""
        import torch

        return {
            "shape": self.shape,
            "contexts": self.contexts,
            "batches": self.batches,
            "dtype": getattr(torch, self.dtype_name),
            "device": self.device,
            "presets": self.presets,
            "backends": self.backends,
        }

    def peaks(self, console: Any) -> Any:
        """The device's bounds, measured."""
        import torch

        from oscar_x.evals.bench.bandwidth import measure_peaks

        with working(console, "Measuring what the device can do"):
            return measure_peaks(self.device, (torch.float32, getattr(torch, self.dtype_name)))

    def show(self, console: Any, title: str, heads: Sequence[str], cells: list[list[str]], left: Sequence[Any]) -> None:
        """One table, and a line for each contender that was not run."""
        from oscar_x.evals.bench.tables import left_out_lines

        table = make_table(title, *heads)
        for line in cells:
            table.add_row(*line)
        console.print(table)
        for sentence in left_out_lines(left):
            console.print(sentence, markup=False)

    def keep(self, json_file: str | None, rows: Sequence[Any], left: Sequence[Any], peaks: Any = None) -> None:
        """Write rows, what was left out, and the device's bounds."""
        results: dict[str, Any] = {
            "rows": [row.to_dict() for row in rows],
            "left_out": [missing.to_dict() for missing in left],
            "threads": self.threads,
        }
        if peaks is not None:
            results |= {"copy_bytes_per_s": peaks.copy, "matmul_operations_per_s": peaks.operations}
        write_json(json_file, results)

    def draw(self, console: Any, rows: Sequence[Any], field: str, label: str, title: str) -> None:
        """The figures, where they were asked for and there is something to draw."""
        if self.plot is None or not rows:
            return
        from oscar_x.evals.bench.curves import context_plot

        for path in context_plot([row.to_dict() for row in rows], self.plot, field, label, title):
            console.print(f"wrote {path}", markup=False)


def _numbers(text: str, option: str) -> list[int]:
    numbers = []
    for part in text.split(","):
        digits, factor = part.strip().upper(), 1
        if digits[-1:] in MULTIPLES:
            digits, factor = digits[:-1], MULTIPLES[digits[-1]]
        if not digits.isdecimal() or int(digits) < 1:
            raise typer.BadParameter(f"{option} {text}: {part!r} is not a whole number of at least 1")
        numbers.append(int(digits) * factor)
    return numbers


def _names(text: str, option: str, allowed: Sequence[str]) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in allowed:
            raise typer.BadParameter(f"{option} {text}: {name!r} is unknown; choose {', '.join(allowed)}")
    return names

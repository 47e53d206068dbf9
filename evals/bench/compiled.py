"""What the Triton kernel of decoding compiles to, counted without a GPU: ``python -m oscar_x.evals.bench.compiled``.

For every entry of kernels/decode_attention/triton_configs.py, compiled for an H200 (sm_90): registers, spilled bytes,
shared memory, programs that fit a multiprocessor together, and instructions of all warps of a program: a packed block
of one KV head, and everything outside of the loop over blocks. Counted in the machine code, by tools that come with
Triton.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ...compressor import block_layout
from ...config import PRESETS
from ...kernels.decode_attention.triton_bias import BiasTiles
from ...kernels.decode_attention.triton_configs import SPLIT_CONFIGS, SplitConfig
from ...kernels.decode_attention.triton_sizes import Tiles, tiles_of
from ...kernels.decode_attention.triton_split import split_kernel
from ...kernels.hadamard.triton import interpreted

REGISTERS, SHARED_MEMORY, RESERVED = 65536, 227 * 1024, 1024  # of a multiprocessor; bytes kept back a program
POINTERS = {
    **dict.fromkeys(("records", "visible", "exact_visible", "masks"), "*u8"),
    **dict.fromkeys(("table", "lengths", "used", "exact_lengths", "ids", "axes", "positions"), "*i64"),
    **dict.fromkeys(("output", "lse", "part", "part_lse", "bias", "inv_freq"), "*fp32"),
    **dict.fromkeys(("query", "keys", "values", "x", "out"), "*bf16"),
    **dict.fromkeys(("scaling", "bias_scaling"), "fp32"),
}
# as strides of whole heads are; a launch finds that out by itself
ALIGNED = tuple(f"{a}_{b}" for a in ("query", "key", "value") for b in ("batch", "head", "row", "slot"))


@dataclass(frozen=True)
class Counts:
    """Of one compiled kernel; instructions are those of all warps of a program."""

    registers: int
    spilled: int
    shared: int
    warps: int
    block: int
    outside: int
    barriers: int

    @property
    def together(self) -> int:
        """Programs that fit a multiprocessor."""
        a_warp = 32 * (-(-self.registers // 8) * 8)
        return min(REGISTERS // (a_warp * self.warps), SHARED_MEMORY // (self.shared + RESERVED))


def compile_kernel(kernel: Any, constants: dict[str, Any], **options: int) -> Any:
    """A kernel compiled for sm_90; arguments that are neither constants nor known pointers are int32."""
    types = {name: POINTERS.get(name, "i32") for name in kernel.arg_names}
    types.update(dict.fromkeys(constants, "constexpr"))
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if types[name].startswith("*") or name in ALIGNED
    }
    source = ASTSource(kernel, signature=types, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def compile_split(
    tiles: Tiles,
    rows: int,
    config: SplitConfig,
    fine: bool = False,
    bias: BiasTiles | None = None,
    masked: bool = False,
    exact: bool = True,
    whole: bool = False,
) -> Any:
    """split_kernel for this many query rows; unmasked it reads a table that is used whole."""
    left_out = [*(() if masked else ("visible", "used", "exact_visible"))]
    left_out += () if bias else ("bias", "inv_freq", "axes", "positions")
    left_out += () if exact else ("keys", "values", "exact_visible", "exact_lengths")
    constants = {
        **dict.fromkeys(left_out),
        **dict(zip("RKVB", (*tiles, bias or BiasTiles(0, 0, 0, 0)), strict=True)),
        **{"ROWS": min(rows, config.rows), "FINE": fine, "MASKED": masked},
        **{"EXACT": exact, "EXACT_MASKED": masked and exact, "WHOLE": whole},
    }
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    if config.registers:
        options["maxnreg"] = config.registers
    return compile_kernel(split_kernel, constants, **options)


def count(compiled: Any) -> Counts:
    """Read the machine code of a compiled split_kernel."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "kernel.cubin"
        code.write_bytes(compiled.asm["cubin"])
        listing = _output(tools / "nvdisasm", "-c", str(code))
        usage = _output(tools / "cuobjdump", "-res-usage", str(code))
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump tells no registers: {usage[-300:]}")
    instructions, loop = _loop(listing)
    warps = compiled.metadata.num_warps
    return Counts(
        *(int(found[1]), int(found[2]), compiled.metadata.shared, warps),
        block=len(loop) * warps,
        outside=(len(instructions) - len(loop)) * warps,
        barriers=sum(bool(re.match(r"(@!?\w+ )?BAR", text)) for text in loop),
    )


def _output(*command: Any) -> str:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout


def _loop(listing: str) -> tuple[list[str], list[str]]:
    """All instructions, and those of the longest loop: the one over blocks."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in map(str.strip, listing.splitlines()):
        label, instruction = re.match(r"(\.L_\w+):", line), re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)
        if label:
            labels[label[1]] = len(instructions)
        elif instruction:
            instructions.append(instruction[1])
    loops = [
        instructions[labels[jump[1]] : end + 1]
        for end, text in enumerate(instructions)
        if (jump := re.search(r"BRA.*?`\((\.L_\w+)\)", text)) and labels[jump[1]] < end
    ]
    return instructions, max(loops, key=len)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m oscar_x.evals.bench.compiled", description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="balanced")
    options = parser.parse_args(arguments)
    if interpreted():
        print("TRITON_INTERPRET is set: nothing is compiled", file=sys.stderr)
        return 2
    table = Table(title=f"split_kernel, preset {options.preset}, sm_90, Triton {triton.__version__}")
    columns = "head_dim", "rows", "warps", "registers", "spilled", "shared", "together", "block", "outside", "barriers"
    for name in columns:
        table.add_column(name, justify="right")
    for head_dim, _, config in SPLIT_CONFIGS:
        tiles = tiles_of(block_layout(PRESETS[options.preset], 8, head_dim))
        got = count(compile_split(tiles, config.rows, config))
        numbers = got.warps, got.registers, got.spilled, got.shared, got.together, got.block, got.outside, got.barriers
        table.add_row(*map(str, (head_dim, config.rows, *numbers)))
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

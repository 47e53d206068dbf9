"""Compiles Triton kernels for sm_90, which needs no GPU; run by test_triton_build.py outside the interpreter.

These are besides those that compiled_code.py compiles, runs and holds to the same limit of shared memory.

Prints one line a case: its name and shared memory, or what the machine code of decoding counts.
"""

from __future__ import annotations

import sys
from typing import Any

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, resolve_config
from oscar_x.evals.bench.compiled import compile_kernel, compile_split, count
from oscar_x.kernels.compress.triton import compress_kernel, launch_warps
from oscar_x.kernels.decode_attention.triton_configs import split_config
from oscar_x.kernels.decode_attention.triton_sizes import Tiles, tiles_of


def build(name: str, kernel: Any, constants: dict[str, Any], **options: int) -> None:
    print(f"{name} shared={compile_kernel(kernel, constants, **options).metadata.shared}")


def split(name: str, tiles: Tiles, rows: int, **what: Any) -> None:
    compiled = compile_split(tiles, rows, split_config(tiles.record.head_dim, rows), **what)
    print(f"{name} shared={compiled.metadata.shared}")


def compress(name: str, tiles: Tiles) -> None:
    constants = dict(zip("RKV", tiles, strict=True))
    build(name, compress_kernel, constants, num_warps=launch_warps(tiles))


def main(part: str) -> None:
    def tiles(head_dim: int, preset: str = "balanced", **changes: Any) -> Tiles:
        config = resolve_config(preset, **changes) if changes else PRESETS[preset]
        return tiles_of(block_layout(config, 8, head_dim))

    odd = {"key_bits": 3, "value_bits": 3, "scale_bits": 3}
    if part == "build":
        split("split fp32 head_dim 80 3 bits", tiles(80, **odd), 16, fine=True)
        split("split per channel, mask", tiles(128, value_grouping="per_channel"), 8, masked=True)
        split("split prefill", tiles(128), 64, exact=False, whole=True)
        split("split head_dim 256 prefill fp32", tiles(256), 64, fine=True, exact=False, whole=True)
        compress("compress head_dim 256 per channel", tiles(256, value_grouping="per_channel"))
    elif part == "counts":
        counts = count(compile_split(tiles(128), 8, split_config(128, 8)))
        print(f"block={counts.block} outside={counts.outside} barriers={counts.barriers} together={counts.together}")


if __name__ == "__main__":
    main(sys.argv[1])

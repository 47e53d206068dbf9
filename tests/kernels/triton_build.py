"""Compiles the Triton kernels for sm_90, which needs no GPU; run by test_triton_build.py outside the interpreter.

Prints one line a case: its name and shared memory, or what the machine code of decoding counts.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, resolve_config
from oscar_x.evals.bench.compiled import compile_kernel, compile_split, count
from oscar_x.kernels.compress.triton import compress_kernel, launch_warps, shared_norms_kernel
from oscar_x.kernels.decode_attention.triton_bias import BiasTiles
from oscar_x.kernels.decode_attention.triton_configs import EXACT_CHUNK, MERGE_CHUNK, merge_warps, split_config
from oscar_x.kernels.decode_attention.triton_merge import merge_kernel
from oscar_x.kernels.decode_attention.triton_sizes import Tiles, tiles_of
from oscar_x.kernels.hadamard.triton import ROWS, rotate_kernel
from oscar_x.kernels.pack.triton import pack_kernel, unpack_kernel


def build(name: str, kernel: Any, constants: dict[str, Any], **options: int) -> None:
    print(f"{name} shared={compile_kernel(kernel, constants, **options).metadata.shared}")


def bits(name: str, kernel: Any, **constants: int) -> None:
    """Kernels whose pointers are all to bytes."""
    types = {name: "*u8" if i < 2 else "i32" for i, name in enumerate(kernel.arg_names)}
    source = ASTSource(kernel, signature={**types, **dict.fromkeys(constants, "constexpr")}, constexprs=constants)
    print(f"{name} shared={triton.compile(source, target=GPUTarget('cuda', 90, 32)).metadata.shared}")


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
    if part == "split":
        for preset in PRESETS:
            split(f"split {preset}", tiles(128, preset), 8)
        split("split fp32 head_dim 80 3 bits", tiles(80, **odd), 16, fine=True)
        split("split per channel, mask", tiles(128, value_grouping="per_channel"), 8, masked=True)
        split("split bias", tiles(64), 16, bias=BiasTiles(32, 32, 3, 4096))
        split("split prefill", tiles(128), 64, exact=False, whole=True)
        split("split head_dim 256", tiles(256), 8)
        split("split groups of 8", tiles(128, key_group_size=8, value_group_size=8, block_size=32), 8)
    elif part == "others":
        split("split head_dim 256 prefill fp32", tiles(256), 64, fine=True, exact=False, whole=True)
        split("split without exact tokens", tiles(128), 8, exact=False)
        for head_dim in (80, 128):
            sizes = {"R": tiles(head_dim).record, "CHUNK": MERGE_CHUNK, "EXACT_CHUNK": EXACT_CHUNK}
            build(f"merge head_dim {head_dim}", merge_kernel, sizes, num_warps=merge_warps(head_dim))
        channels = {"HEAD_DIM": 80, "CHANNELS": 128, "WIDTH": 16, "ROWS": ROWS}
        build("rotate", rotate_kernel, channels, num_warps=4)
        bits("pack 3 bits", pack_kernel, LOW=2, HIGH=1, ROWS=4, BYTES=256)
        bits("unpack 2 bits", unpack_kernel, LOW=2, HIGH=0, ROWS=1, CODES=1024)
        build("shared norms", shared_norms_kernel, {"R": tiles(128, "paper").record}, num_warps=8)
        compress("compress paper", tiles(128, "paper"))
        compress("compress head_dim 80 3 bits", tiles(80, **odd))
        compress("compress head_dim 256 per channel", tiles(256, value_grouping="per_channel"))
    elif part == "counts":
        counts = count(compile_split(tiles(128), 8, split_config(128, 8)))
        print(f"block={counts.block} outside={counts.outside} barriers={counts.barriers} together={counts.together}")


if __name__ == "__main__":
    main(sys.argv[1])

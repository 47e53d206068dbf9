"""Compiles the Triton kernels for sm_90, which needs no GPU; run by test_triton_build.py outside the interpreter.

Prints one line a case: its name, registers' spill bytes and shared memory.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, resolve_config
from oscar_x.kernels.compress.triton import compress_kernel, launch_warps, shared_norms_kernel
from oscar_x.kernels.decode_attention.triton_bias import BiasTiles
from oscar_x.kernels.decode_attention.triton_configs import MERGE_CHUNK, split_config
from oscar_x.kernels.decode_attention.triton_merge import merge_kernel
from oscar_x.kernels.decode_attention.triton_sizes import Tiles, tiles_of
from oscar_x.kernels.decode_attention.triton_split import split_kernel
from oscar_x.kernels.hadamard.triton import ROWS, rotate_kernel

POINTERS = {
    **dict.fromkeys(("records", "visible", "masks"), "*u8"),
    **dict.fromkeys(("table", "lengths", "used", "exact_lengths", "ids", "axes", "positions"), "*i64"),
    **dict.fromkeys(("output", "lse", "part", "part_lse", "bias", "inv_freq"), "*fp32"),
    **dict.fromkeys(("query", "keys", "values", "x", "out"), "*bf16"),
    **dict.fromkeys(("scaling", "bias_scaling"), "fp32"),
}
NO_BIAS = dict.fromkeys(("bias", "inv_freq", "axes", "positions"))


def build(name: str, kernel: Any, constants: dict[str, Any], **options: int) -> None:
    types = {arg: POINTERS.get(arg, "i32") for arg in kernel.arg_names}
    types.update(dict.fromkeys(constants, "constexpr"))
    aligned = {(i,): [["tt.divisibility", 16]] for i, arg in enumerate(kernel.arg_names) if types[arg].startswith("*")}
    source = ASTSource(kernel, signature=types, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(f"{name} shared={compiled.metadata.shared}")


def split(name: str, tiles: Tiles, rows: int, fine: bool = False, bias: BiasTiles | None = None, **extra: Any) -> None:
    config = split_config(tiles.record.head_dim, rows)
    constants = {
        # a table as wide as it will ever be, or one that is used whole
        **({} if extra.get("MASKED") else {"visible": None, "used": None}),
        **({} if bias else NO_BIAS),
        **dict(zip("RKVB", (*tiles, bias or BiasTiles(0, 0, 0, 0)), strict=True)),
        **{"ROWS": min(rows, config.rows), "FINE": fine, "MASKED": False, "WHOLE": False, **extra},
    }
    build(name, split_kernel, constants, num_warps=config.num_warps, num_stages=config.num_stages)


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
        split("split per channel, mask", tiles(128, value_grouping="per_channel"), 8, MASKED=True)
        split("split bias", tiles(64), 16, bias=BiasTiles(32, 32, 3, 4096))
        split("split prefill", tiles(128), 64, WHOLE=True)
        split("split head_dim 256", tiles(256), 8)
        split("split groups of 8", tiles(128, key_group_size=8, value_group_size=8, block_size=32), 8)
    elif part == "others":
        split("split head_dim 256 prefill fp32", tiles(256), 64, fine=True, WHOLE=True)
        for masked in (False, True):
            none = {} if masked else dict.fromkeys(("keys", "values", "visible", "exact_lengths"))
            sizes = {"R": tiles(128).record, "CHUNK": MERGE_CHUNK, "EXACT": masked, "MASKED": masked}
            build("merge", merge_kernel, {**none, **sizes}, num_warps=4)
        channels = {"HEAD_DIM": 80, "CHANNELS": 128, "WIDTH": 16, "ROWS": ROWS}
        build("rotate", rotate_kernel, channels, num_warps=4)
        build("shared norms", shared_norms_kernel, {"R": tiles(128, "paper").record}, num_warps=8)
        compress("compress paper", tiles(128, "paper"))
        compress("compress head_dim 80 3 bits", tiles(80, **odd))
        compress("compress head_dim 256 per channel", tiles(256, value_grouping="per_channel"))


if __name__ == "__main__":
    main(sys.argv[1])

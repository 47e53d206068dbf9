"""Counts what compiled decoding executes in the emulator: `python tests/kernels/compiled_counts.py [HEAD_DIM [ROWS]]`.

docs/performance.md has the table.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import compiled_code
import torch

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, OscarConfig
from oscar_x.kernels.compress import compress_blocks
from oscar_x.kernels.decode_attention import joint_attention

WIDTH, FEW, MANY = 16, 4, 12  # blocks of the table, and of them used: what differs is that many blocks' more


def run(config: OscarConfig, head_dim: int, rows: int, used: int) -> dict[str, Any]:
    """Counts of a decoding step of one KV head, exact tokens included, by kernel."""
    torch.manual_seed(0)
    emulated = compiled_code.exchange(90, counting=True)
    layout = block_layout(config, 1, head_dim)
    states = torch.randn(2, WIDTH, 1, config.block_size, head_dim)
    records, table = compress_blocks(*states, layout, backend="reference"), torch.arange(WIDTH)[None]
    query, exact = torch.randn(1, 1, rows, head_dim).bfloat16(), torch.randn(2, 1, 1, 132, head_dim).bfloat16()
    lengths, counts = torch.full((1, WIDTH), config.block_size), torch.tensor([132])
    call = query, records, table, lengths, layout, compiled_code.SCALING, *exact
    joint_attention(*call, backend="triton", used=torch.tensor([used]), exact_lengths=counts)
    return {name: emulated[name].counts for name in ("split_kernel", "merge_kernel")}


def sums(counts: Any) -> Counter[str]:
    return Counter({name: sum(kinds.values()) for name, kinds in vars(counts).items()})


def main(head_dim: int = 128, rows: int = 4) -> None:
    print(f"head_dim {head_dim}, {rows} query heads a KV head; of all warps of a program")
    for preset, config in PRESETS.items():
        few, many = (run(config, head_dim, rows, used) for used in (FEW, MANY))
        block = sums(many["split_kernel"])
        block.subtract(sums(few["split_kernel"]))
        told = ", ".join(f"{name} {count / (MANY - FEW):.0f}" for name, count in block.items())
        print(f"{preset}, a block: {told}")
        told = ", ".join(f"{name} {count / rows:.0f}" for name, count in sums(many["merge_kernel"]).items())
        print(f"{preset}, merging a row: {told}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

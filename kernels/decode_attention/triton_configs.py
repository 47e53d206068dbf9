"""Launch settings of the Triton kernels, as data.

Measured: none of them yet (`measured` is empty). They rest on what the kernels compile to for an H200 (132
multiprocessors with 65,536 registers each): instructions a block and how many programs fit, docs/performance.md. They
are the starting point of a measurement: ``python -m oscar_x.evals.bench.sweep`` times candidates and prints the lines
to put here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class SplitConfig(NamedTuple):
    """Settings of split_kernel.

    Attributes:
        rows: query rows of a program.
        num_warps, num_stages: Triton's. Blocks are found through a table, so that Triton fetches them one block ahead
            with 5 stages; with fewer it waits for every one.
        registers: most of a thread; 0 leaves it to the compiler.
        programs: programs that a launch aims at, per multiprocessor.
        least_blocks: blocks that a program should walk at least: it starts with a rotation of its queries.
        measured: what the choice rests on: time, shape, device; empty before it was measured.
    """

    rows: int
    num_warps: int
    num_stages: int
    registers: int
    programs: int
    least_blocks: int
    measured: str = ""


# by the largest head_dim and the most query rows a KV head that an entry is for; the first that fits counts
SPLIT_CONFIGS: tuple[tuple[int, int, SplitConfig], ...] = (
    (64, 8, SplitConfig(rows=8, num_warps=1, num_stages=5, registers=168, programs=12, least_blocks=2)),
    (128, 8, SplitConfig(rows=8, num_warps=1, num_stages=5, registers=0, programs=8, least_blocks=2)),
    (128, 16, SplitConfig(rows=16, num_warps=2, num_stages=5, registers=0, programs=4, least_blocks=2)),
    (128, 32, SplitConfig(rows=32, num_warps=4, num_stages=5, registers=0, programs=2, least_blocks=2)),
    (128, 2**31, SplitConfig(rows=64, num_warps=4, num_stages=3, registers=0, programs=2, least_blocks=4)),
    (256, 8, SplitConfig(rows=8, num_warps=2, num_stages=5, registers=0, programs=4, least_blocks=2)),
    (256, 16, SplitConfig(rows=16, num_warps=4, num_stages=5, registers=0, programs=2, least_blocks=2)),
    (256, 2**31, SplitConfig(rows=32, num_warps=4, num_stages=5, registers=0, programs=2, least_blocks=4)),
)
# shares of packed blocks and of exact tokens that merge_kernel joins at a time
MERGE_CHUNK, EXACT_CHUNK = 128, 16
# of merge_kernel, by the largest head_dim: warps exchange what they have summed through shared memory, where 8 take
# 4,572 turns a row of head_dim 128 and 4 take 1,460 (docs/performance.md); with 4 registers are spilled at head_dim 256
MERGE_WARPS = ((128, 4), (256, 8))
# a program a row joins the shares: with more rows than this a launch has programs enough without splitting
MOST_SPLIT_ROWS = 256


_trials: list[SplitConfig] = []


@contextmanager
def trial(config: SplitConfig) -> Iterator[None]:
    """While it lasts, every launch takes these settings: for measuring them."""
    _trials.append(config)
    try:
        yield
    finally:
        _trials.pop()


def split_config(head_dim: int, rows: int) -> SplitConfig:
    """The settings for a head_dim up to 256 and this many query rows a KV head."""
    if _trials:
        return _trials[-1]
    for most_channels, most_rows, config in SPLIT_CONFIGS:
        if head_dim <= most_channels and rows <= most_rows:
            return config
    raise ValueError(f"head_dim={head_dim} is not allowed; the kernels take up to {SPLIT_CONFIGS[-1][0]}")


def merge_warps(head_dim: int) -> int:
    """Warps of merge_kernel for a head_dim up to 256."""
    return next(warps for most_channels, warps in MERGE_WARPS if head_dim <= most_channels)


def split_count(config: SplitConfig, tiles: int, blocks: int, rows: int, processors: int, others: int = 0) -> int:
    """Shares that the blocks are divided into.

    Args:
        tiles: batch x KV heads x tiles of query rows.
        blocks: blocks of a row of the table.
        rows: query rows a KV head.
        processors: the device's multiprocessors.
        others: programs a tile that have other work.
    """
    if rows > MOST_SPLIT_ROWS:
        return 1
    # rounded down: what does not fit at once runs alone at the end
    wanted = processors * config.programs // tiles - others
    if wanted > MERGE_CHUNK:  # a few more would cost the merge another round
        wanted -= wanted % MERGE_CHUNK
    return max(1, min(wanted, blocks // config.least_blocks))

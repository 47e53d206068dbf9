"""Launch settings of the Triton kernels, as data.

Measured: none of them yet (`measured` is empty). They are derived from an H200's sizes (132 multiprocessors, about 16
bytes a cycle and multiprocessor from memory) and are the starting point of a measurement:
``python -m oscar_x.evals.bench.sweep`` times candidates and prints the lines to put here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class SplitConfig(NamedTuple):
    """Settings of split_kernel.

    Attributes:
        rows: query rows of a program.
        num_warps, num_stages: Triton's.
        programs: programs that a launch aims at, per multiprocessor.
        least_blocks: blocks that a program should walk at least: it starts with a rotation of its queries.
        measured: what the choice rests on: time, shape, device; empty before it was measured.
    """

    rows: int
    num_warps: int
    num_stages: int
    programs: int
    least_blocks: int
    measured: str = ""


# by the largest head_dim and the most query rows a KV head that an entry is for; the first that fits counts
SPLIT_CONFIGS: tuple[tuple[int, int, SplitConfig], ...] = (
    (128, 8, SplitConfig(rows=8, num_warps=2, num_stages=2, programs=8, least_blocks=2)),
    (128, 16, SplitConfig(rows=16, num_warps=4, num_stages=2, programs=4, least_blocks=2)),
    (128, 32, SplitConfig(rows=32, num_warps=4, num_stages=2, programs=3, least_blocks=2)),
    (128, 2**31, SplitConfig(rows=64, num_warps=8, num_stages=2, programs=2, least_blocks=4)),
    (256, 8, SplitConfig(rows=8, num_warps=4, num_stages=2, programs=4, least_blocks=2)),
    (256, 16, SplitConfig(rows=16, num_warps=8, num_stages=2, programs=2, least_blocks=2)),
    (256, 2**31, SplitConfig(rows=32, num_warps=8, num_stages=2, programs=2, least_blocks=4)),
)
# of splits or exact tokens that merge_kernel joins at a time
MERGE_CHUNK = 32
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


def split_count(config: SplitConfig, tiles: int, blocks: int, rows: int, processors: int) -> int:
    """Shares that the blocks are divided into.

    Args:
        tiles: batch x KV heads x tiles of query rows.
        blocks: blocks of a row of the table.
        rows: query rows a KV head.
        processors: the device's multiprocessors.
    """
    if rows > MOST_SPLIT_ROWS:
        return 1
    wanted = -(-processors * config.programs // tiles)
    return max(1, min(wanted, blocks // config.least_blocks))

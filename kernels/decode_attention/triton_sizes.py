"""A BlockLayout as the compile-time constants of the Triton kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..hadamard import power_of_two_factor
from ..layout import BlockLayout
from .cpu_sizes import MatrixSizes, sizes_of

LEAST_TILE = 8  # columns of a tensor-core product
MOST_TILE = 32
LEAST_DEPTH = 16  # what a tensor-core product sums over


class MatrixTiles(NamedTuple):
    """A head's keys or values as a batch of small matrices, each in one group: rows [batch * tile, ...).

    Attributes:
        shared: whether the batches that a byte's places belong to are of one size, so that a byte is read once.
        scale_unit: what scales and minimums are in units of while they are fp16 numbers: a nested one is a code, whose
            bits stand for a number of 2**-24, times a step, and the step must not leave fp16.
        cols_padded, batches: rounded up to powers of two; others: cpu_sizes.MatrixSizes.
    """

    codes_at: int
    cols: int
    cols_padded: int
    rows: int
    batches: int
    tile: int
    shared: bool
    width: int
    groups: int
    low_bits: int
    low_rows: int
    high_bits: int
    high_rows: int
    table_at: int
    table_bytes: int
    scale_bits: int
    ranges_at: int
    run: int
    range_a_group: bool
    scale_unit: float


class RecordTiles(NamedTuple):
    """What is not a matrix's: cpu_sizes.Sizes, the rotation, and head_dim rounded up to a power of two."""

    block_size: int
    head_dim: int
    channels: int
    heads: int
    record_bytes: int
    shared_bytes: int
    head_bytes: int
    amplitude_at: int
    norms: int
    norms_shared: bool
    norms_damped: bool
    norm_codes_at: int
    norm_range_at: int
    rotation: int
    rotate_keys: bool
    rotate_values: bool
    value_along_tokens: bool


class Tiles(NamedTuple):
    """The constants of a layout."""

    record: RecordTiles
    keys: MatrixTiles
    values: MatrixTiles


def refusal(layout: BlockLayout) -> str | None:
    """Why the kernels do not take a layout; None if they do."""
    if layout.block_size < LEAST_DEPTH or layout.block_size & (layout.block_size - 1):
        return f"block_size={layout.block_size} is not a power of two of at least {LEAST_DEPTH}"
    if not 16 <= layout.head_dim <= 256 or layout.head_dim % LEAST_TILE:
        return f"head_dim={layout.head_dim} is not a multiple of {LEAST_TILE} from 16 to 256"
    return None


@lru_cache(maxsize=64)
def tiles_of(layout: BlockLayout) -> Tiles:
    """The constants of a layout that refusal() does not refuse."""
    sizes = sizes_of(layout)
    fields = sizes._asdict()
    record = {name: fields[name] for name in RecordTiles._fields if name in fields}
    return Tiles(
        RecordTiles(
            **record,
            channels=max(LEAST_DEPTH, _power_of_two(layout.head_dim)),
            heads=layout.num_key_value_heads,
            record_bytes=layout.record_bytes,
            rotation=power_of_two_factor(layout.head_dim),
            rotate_keys=layout.rotate_keys,
            rotate_values=layout.rotate_values,
            value_along_tokens=layout.value_along_tokens,
        ),
        _matrix_tiles(sizes.keys),
        _matrix_tiles(sizes.values),
    )


def _matrix_tiles(sizes: MatrixSizes) -> MatrixTiles:
    # a tile lies in one group and, where a byte's places are to be read together, in one place
    tile = min(power_of_two_factor(sizes.width), MOST_TILE)
    in_place = min(tile, power_of_two_factor(sizes.low_rows))
    shared = (
        not sizes.high_bits
        and sizes.rows == sizes.low_rows * (8 // sizes.low_bits)
        and in_place >= LEAST_TILE
        and sizes.rows & (sizes.rows - 1) == 0
    )
    tile = in_place if shared else tile
    return MatrixTiles(
        **sizes._asdict(),
        cols_padded=max(LEAST_DEPTH, _power_of_two(sizes.cols)),
        batches=_power_of_two(-(-sizes.rows // tile)),
        tile=tile,
        shared=shared,
        # scales are at most 2 amplitudes, so a step is at most 2 / (2**bits - 1) and over 2**-24 of this below 2**16
        scale_unit=1.0 if sizes.scale_bits == 16 else 2.0 ** (10 - sizes.scale_bits),
    )


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()

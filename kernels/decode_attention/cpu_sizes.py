"""A BlockLayout as the plain integers that compiled loops take."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..hadamard.reference import power_of_two_factor
from ..layout import BlockLayout, MatrixLayout
from ..pack import packed_bytes
from ..pack.reference import PLANES, plane_bytes

LINE = 64  # bytes of a line of the processor's caches
STEP = 16  # elements of a vector of 16-bit numbers; columns that one transposition takes: 128 bits of each row
# rows of codes that cpu_dots multiplies at a time, and what it is told of each: the address of its bytes, the mask of
# its codes, the bits of the fp32 number that sums are multiplied by, where its group's vectors begin (elements of one
# query row), and where its sums go
ROWS = 4
BYTES_AT, MASK, SIZE, VECTORS_AT, SUMS_AT = range(5)
WORDS = 5 * ROWS
NO_NORMS, LOG_NORMS, HALF_NORMS = 0, 1, 2


class MatrixSizes(NamedTuple):
    """Where one head's keys or values lie: a MatrixLayout and its fields as plain integers."""

    codes_at: int
    cols: int
    groups: int
    width: int
    rows: int
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


class Sizes(NamedTuple):
    """A BlockLayout as plain integers; shared_bytes is where its heads begin in a record."""

    block_size: int
    head_dim: int
    shared_bytes: int
    head_bytes: int
    amplitude_at: int
    norms: int
    norms_shared: bool
    norms_damped: bool
    norm_codes_at: int
    norm_range_at: int
    rotates_keys: bool
    rotated_width: int
    weight_run: int
    keys: MatrixSizes
    values: MatrixSizes


@lru_cache(maxsize=64)
def sizes_of(layout: BlockLayout) -> Sizes:
    """The integers that the loops need."""
    fields = layout.shared_fields if layout.token_norm == "shared" else layout.head_fields
    with_norms = layout.token_norm != "none"
    return Sizes(
        block_size=layout.block_size,
        head_dim=layout.head_dim,
        shared_bytes=layout.start + layout.shared_bytes,
        head_bytes=layout.head_bytes,
        amplitude_at=layout.head_fields["amplitude"].offset,
        norms=(HALF_NORMS if layout.norm_bits == 16 else LOG_NORMS) if with_norms else NO_NORMS,
        norms_shared=layout.token_norm == "shared",
        norms_damped=layout.token_norm == "damped",
        norm_codes_at=fields["norm_codes"].offset if with_norms else 0,
        norm_range_at=fields["norm_range"].offset if with_norms else 0,
        rotates_keys=layout.rotate_keys,
        rotated_width=power_of_two_factor(layout.head_dim),
        # softmax weights are summed by run of tokens that share a range of value scales
        weight_run=layout.block_size if layout.value_along_tokens else layout.values.tokens_per_range,
        keys=_matrix_sizes(layout, layout.keys),
        values=_matrix_sizes(layout, layout.values),
    )


def _matrix_sizes(layout: BlockLayout, matrix: MatrixLayout) -> MatrixSizes:
    low, high = PLANES[matrix.bits][0], (*PLANES[matrix.bits], 0)[1]
    fields, name = layout.head_fields, matrix.name
    return MatrixSizes(
        codes_at=fields[f"{name}_codes"].offset,
        cols=matrix.cols,
        groups=matrix.groups,
        width=matrix.width,
        rows=matrix.rows,
        low_bits=low,
        low_rows=plane_bytes(matrix.rows, low),
        high_bits=high,
        high_rows=plane_bytes(matrix.rows, high) if high else 0,
        table_at=fields[f"{name}_scales"].offset,
        table_bytes=packed_bytes(2 * matrix.cols, matrix.scale_bits) if matrix.nested else 4 * matrix.cols,
        scale_bits=matrix.scale_bits,
        ranges_at=fields[f"{name}_ranges"].offset if matrix.nested else 0,
        # of keys, a range is a group of tokens over all channels; of values, a run of tokens over all groups
        run=matrix.cols if matrix.along_tokens else matrix.tokens_per_range,
        range_a_group=matrix.along_tokens,
    )

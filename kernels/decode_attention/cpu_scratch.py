"""What one thread of the compiled loops writes to while it reads a block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .cpu_job import scratch_table
from .cpu_sizes import LINE, STEP, WORDS, MatrixSizes, Sizes


class Rows(NamedTuple):
    """Vectors to multiply with keys or values: queries or softmax weights.

    Attributes:
        vectors: int16 [rows, cols], times units: float32 [rows].
        sums: float32 [rows, runs], by run of columns that share a range of scales.
        exact: float32 [rows, cols], the same.
    """

    vectors: np.ndarray
    units: np.ndarray
    sums: np.ndarray
    exact: np.ndarray


class Scratch(NamedTuple):
    """Arrays of one thread; cols and groups are the larger of keys' and values'.

    Attributes:
        tiles: int32, packed rows as tiles (cpu_tiles.transpose).
        folded: int8 [rows, high and low bytes, cols].
        scale: int16 [groups, cols], times unit: float32 [groups].
        step: int16 [cols], of the minimums.
        codes: uint8 [groups, 2 * cols], unpacked scales and minimums of widths other than four bits.
        ranges: float32, nested ranges as they lie.
        line: float32 [2 * cols], one group's 16-bit scales and minimums.
        raw: float32 [rows, groups padded], sums over the codes of minimums.
        add: float32 [groups, rows], what the minimums add.
        factor, fitted: float32 [rows] and [3, rows]; of fitted the first is for use, the others are zeros and ones.
        spare: float32 [rows * lanes].
        plain_codes: uint8 [rows of codes, cols], plain_scale and plain_minimum: float32 [groups, cols], of cpu_floats.
        plain_folded: float32 [rows * groups * cols], vectors times scales; plain_sums: float32 [rows, matrix rows and a
            plane's]; words: int64, what cpu_dots is told.
        norms: float32 [block_size].
        high, total, keep: float32 [rows], of the softmax so far.
        queries, weights: vectors; those of weights are a block's scores before they are weights.
    """

    tiles: np.ndarray
    folded: np.ndarray
    scale: np.ndarray
    unit: np.ndarray
    step: np.ndarray
    codes: np.ndarray
    ranges: np.ndarray
    line: np.ndarray
    raw: np.ndarray
    add: np.ndarray
    factor: np.ndarray
    fitted: np.ndarray
    spare: np.ndarray
    plain_codes: np.ndarray
    plain_scale: np.ndarray
    plain_minimum: np.ndarray
    plain_folded: np.ndarray
    plain_sums: np.ndarray
    words: np.ndarray
    norms: np.ndarray
    high: np.ndarray
    total: np.ndarray
    keep: np.ndarray
    queries: Rows
    weights: Rows


class Held(NamedTuple):
    """A scratch, what the loops take it by (cpu_job.scratch_table), and where that lies."""

    scratch: Scratch
    table: np.ndarray
    address: int


_unused: defaultdict[tuple[Any, Sizes, int], list[Held]] = defaultdict(list)


@contextmanager
def borrowed(count: int, isa: Any, sizes: Sizes, rows: int) -> Iterator[list[Held]]:
    """Scratch for `count` threads that nobody else has meanwhile: making it anew costs more than a small call."""
    kept = _unused[isa, sizes, rows]
    found = [_take(kept) or _hold(make_scratch(isa, sizes, rows)) for _ in range(count)]
    yield found
    kept.extend(found)


def _hold(scratch: Scratch) -> Held:
    table = scratch_table(scratch)
    return Held(scratch, table, table.ctypes.data)


def _take(kept: list[Held]) -> Held | None:
    try:
        return kept.pop()
    except IndexError:  # another thread may have taken the last
        return None


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _tile_elements(matrix: MatrixSizes, lanes: int) -> int:
    rows = _padded(matrix.low_rows, lanes) + _padded(matrix.high_rows, lanes)
    return max(rows, _padded(matrix.groups, lanes)) * matrix.cols // 4


def _code_rows(matrix: MatrixSizes) -> int:
    high = 8 // matrix.high_bits * matrix.high_rows if matrix.high_bits else 0
    return max(8 // matrix.low_bits * matrix.low_rows, high)


def _sums(matrix: MatrixSizes) -> int:
    return matrix.rows + max(matrix.low_rows, matrix.high_rows)


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that begins with a line of the processor's caches: registers of 64 bytes else take two lines each."""
    count = int(np.prod(shape))
    raw = np.empty(count * np.dtype(dtype).itemsize + LINE, np.uint8)
    skipped = -raw.ctypes.data % LINE
    return raw[skipped : len(raw) - LINE + skipped].view(dtype).reshape(shape)


def _rows(rows: int, length: int, run: int) -> Rows:
    return Rows(
        vectors=empty((rows, length), np.int16),
        units=empty(rows, np.float32),
        sums=empty((rows, -(-length // run)), np.float32),
        exact=empty((rows, length), np.float32),
    )


def make_scratch(isa: Any, sizes: Sizes, rows: int) -> Scratch:
    """Scratch for `rows` query rows and an instruction set of cpu_sets."""
    keys, values, lanes = sizes.keys, sizes.values, isa.lanes
    cols, groups = max(keys.cols, values.cols), max(keys.groups, values.groups)
    fitted = np.zeros((3, rows), np.float32)
    fitted[2] = 1
    return Scratch(
        tiles=empty(max(_tile_elements(keys, lanes), _tile_elements(values, lanes)), np.int32),
        folded=empty(rows * 2 * cols, np.int8),
        scale=empty(groups * cols, np.int16),
        unit=empty(groups, np.float32),
        step=empty(cols, np.int16),
        codes=empty(groups * 2 * cols, np.uint8),
        ranges=empty(_padded(4 * max(groups, cols), STEP), np.float32),
        line=empty(2 * cols, np.float32),
        raw=empty((rows, _padded(groups, lanes)), np.float32),
        add=empty((groups, rows), np.float32),
        factor=empty(rows, np.float32),
        fitted=fitted,
        spare=empty(rows * lanes, np.float32),
        plain_codes=empty((max(_code_rows(keys), _code_rows(values)), cols), np.uint8),
        plain_scale=empty((groups, cols), np.float32),
        plain_minimum=empty((groups, cols), np.float32),
        plain_folded=empty(rows * max(keys.groups * keys.cols, values.groups * values.cols), np.float32),
        plain_sums=empty((rows, max(_sums(keys), _sums(values))), np.float32),
        words=empty(WORDS, np.int64),
        norms=empty(sizes.block_size, np.float32),
        high=empty(rows, np.float32),
        total=empty(rows, np.float32),
        keep=empty(rows, np.float32),
        queries=_rows(rows, sizes.head_dim, sizes.head_dim),
        weights=_rows(rows, sizes.block_size, sizes.weight_run),
    )

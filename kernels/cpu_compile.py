"""How numba compiles the CPU loops of every operation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from numba import cfunc, njit, types

from .cpu_threads import Body

# without the interpreter lock, and without counting references to arrays ("_nrt"), which costs more than the loops
STRICT: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
# everything of fast-math but the assumption that there are no infinities
OPTIONS: dict[str, Any] = {**STRICT, "fastmath": {"contract", "reassoc", "arcp", "nsz", "afn"}}


def strict(function: Callable[..., object]) -> Callable[..., object]:
    """numba's compilation of functions that make no arrays, with arithmetic as it is written."""
    return njit(**STRICT)(function)


def bare(function: Callable[..., object]) -> Callable[..., object]:
    """The same with arithmetic in any order."""
    return njit(**OPTIONS)(function)


def inlined(function: Callable[..., object]) -> Callable[..., object]:
    """bare for what is called in one place, and becomes part of it before it is compiled.

    Handing on arrays costs eight words each, and what is compiled apart is optimized again with its caller.
    """
    return njit(inline="always", **OPTIONS)(function)


def strict_inlined(function: Callable[..., object]) -> Callable[..., object]:
    """inlined with arithmetic as it is written."""
    return njit(inline="always", **STRICT)(function)


def _of_these_files(make: Callable[[int], Callable[..., object]]) -> Callable[..., object]:
    """What `make` returns for a number that stands for the files of all operations' loops."""
    files = sorted(Path(__file__).parent.rglob("cpu*.py"))
    return make(crc32(b"".join(file.read_bytes() for file in files)) | 1)


def kept(make: Callable[[int], Callable[..., object]], options: dict[str, Any] = OPTIONS) -> Callable[..., object]:
    """bare for what Python calls, kept on disk where a folder can be written.

    numba looks for changes in one file and in what a function closes over: `make` is given a number that stands for
    the files of all operations' loops, and returns a function that reads it.
    """
    function = _of_these_files(make)
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder for it
        return njit(**options)(function)


def kept_body(make: Callable[[int], Callable[..., object]]) -> Body:
    """kept as a C function of one address, for threads that never take Python's lock (cpu_threads.run_together)."""
    function, signature = _of_these_files(make), types.void(types.int64)
    try:
        compiled = cfunc(signature, cache=True, **OPTIONS)(function)
    except RuntimeError:  # numba found no folder for it
        compiled = cfunc(signature, **OPTIONS)(function)
    return Body(compiled)


def kept_strict(make: Callable[[int], Callable[..., object]]) -> Callable[..., object]:
    """strict for what Python calls; what it calls in turn would take its arithmetic over if it were not strict."""
    return kept(make, STRICT)

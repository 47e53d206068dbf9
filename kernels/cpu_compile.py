"""How numba compiles the CPU loops of every operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cfunc, njit, types

from .cpu_notice import Notice
from .cpu_support import LOOPS_NUMBER
from .cpu_threads import Body

Make = Callable[[int], Callable[..., object]]

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


def kept(what: str, seconds: int, options: dict[str, Any] = OPTIONS) -> Callable[[Make], Callable[..., object]]:
    """bare for what Python calls, kept on disk where a folder can be written.

    numba looks for changes in one file and in what a function closes over: what is decorated is given a number that
    stands for the files of all operations' loops, and returns a function that reads it.

    Args:
        what, seconds: what is said when it has to be compiled (cpu_notice.Notice).
    """

    def compiled(make: Make) -> Callable[..., object]:
        function = make(LOOPS_NUMBER)
        notice = Notice(what, seconds, function)
        notice.watch()
        return njit(cache=notice.folder is not None, **options)(function)

    return compiled


def kept_strict(what: str, seconds: int) -> Callable[[Make], Callable[..., object]]:
    """strict for what Python calls; what it calls in turn would take its arithmetic over if it were not strict."""
    return kept(what, seconds, STRICT)


def kept_body(what: str, seconds: int, make: Make) -> Body:
    """kept as a C function of one address, for threads that never take Python's lock (cpu_threads.run_together)."""
    function = make(LOOPS_NUMBER)
    notice = Notice(what, seconds, function)
    with notice.watching():
        return Body(cfunc(types.void(types.int64), cache=notice.folder is not None, **OPTIONS)(function))

"""Runs compiled loops on several threads, where that is faster.

The threads are those of torch's own operations where they can be had: after each operation one of them waits busily for
the next, and keeps threads of any other pool off its core (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Event
from time import perf_counter
from typing import Any

import torch

Work = Callable[..., object]
Calls = Sequence[tuple[Any, ...]]

# a forked process has none of the threads that its parent started, and waiting for them would never end
_forked = Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.set)


_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Body:
    """A C function of one address, compiled by numba: the team's threads call it without Python."""

    def __init__(self, compiled: Any) -> None:
        self.compiled, self.function = compiled, _Function(compiled.address)

    def __call__(self, address: int) -> None:
        self.function(address)


class Pace:
    """Whether threads pay for calls of one size, from what calls took: on a machine with other work they often do not.

    Attributes:
        RECENT: calls of either way whose median counts.
        LOOKS: after so many calls one way the other is tried anew; after twice as many each time that it was slower.
    """

    RECENT = 5
    LOOKS = (16, 2048)

    def __init__(self) -> None:
        self.seconds = {way: deque[float](maxlen=self.RECENT) for way in (True, False)}
        self.faster = True
        self.calls, self.look = 0, self.LOOKS[0]

    def together(self) -> bool:
        """Whether the next call is to use threads."""
        for way, seconds in self.seconds.items():
            if len(seconds) < self.RECENT:
                return way
        faster = _median(self.seconds[True]) <= _median(self.seconds[False])
        if faster != self.faster:
            self.faster, self.calls, self.look = faster, 0, self.LOOKS[0]
        self.calls += 1
        if self.calls < self.look:
            return faster
        self.calls, self.look = 0, min(2 * self.look, self.LOOKS[1])
        self.seconds[not faster].clear()
        return not faster

    def took(self, together: bool, seconds: float) -> None:
        """Record what a call took."""
        self.seconds[together].append(seconds)


def _median(seconds: deque[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def run_together(work: Work, calls: Calls, size: int = 0) -> None:
    """work(*call) for calls that share out the same items: some are not made where others can take every item.

    Args:
        work, calls: a Body's calls are all of the same address.
        size: bytes that the items read, together: calls of the same work, about the same size and number are timed
            together.

    Raises:
        whatever a call raised.
    """
    if len(calls) == 1 or _forked.is_set():
        work(*calls[0])
        return
    pace = _pace(work, len(calls), size.bit_length())
    together, start = pace.together(), perf_counter()
    if not together:
        work(*calls[0])
    elif _team() is None:
        _in_pool(work, calls)
    else:
        _in_team(work, calls)
    pace.took(together, perf_counter() - start)


@lru_cache(maxsize=256)
def _pace(work: Work, threads: int, size: int) -> Pace:
    return Pace()


@lru_cache(maxsize=1)
def _team() -> Callable[..., None] | None:
    """Runs a C function on the OpenMP threads that torch uses; None where its runtime has another interface."""
    try:
        run = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    run.argtypes, run.restype = (_Function, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return run


def _in_team(work: Work, calls: Calls) -> None:
    run = _team()
    assert run is not None
    if isinstance(work, Body):
        run(work.function, calls[0][0], len(calls), 0)
        return
    left, errors = list(calls), []

    def one(_: object) -> None:
        try:
            work(*left.pop())
        except BaseException as error:  # it cannot pass through the runtime: raised below
            errors.append(error)

    run(_Function(one), None, len(calls), 0)
    if errors:
        raise errors[0]


def _in_pool(work: Work, calls: Calls) -> None:
    others = [_workers(len(calls)).submit(work, *call) for call in calls[1:]]
    try:
        work(*calls[0])
    finally:
        # what found no free core so far finds no item any more
        begun = [other for other in others if not other.cancel()]
    for other in begun:
        other.result()


@lru_cache(maxsize=8)
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="oscar_x")

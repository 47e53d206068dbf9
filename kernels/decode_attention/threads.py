"""Runs compiled loops on several threads of a pool."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Event
from typing import Any

# a forked process has none of the threads that its parent started, and waiting for them would never end
_forked = Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.set)


def run_together(work: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
    """work(*call) for calls that share out the same items: some are not made where others can take every item.

    Raises:
        whatever a call raised.
    """
    if len(calls) == 1 or _forked.is_set():
        work(*calls[0])
        return
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
    return ThreadPoolExecutor(threads, thread_name_prefix="oscar_x-attention")

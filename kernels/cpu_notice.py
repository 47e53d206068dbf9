"""Says that CPU loops are being compiled: that takes so long that it would look like a hang."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit
from numba.core.event import Event, Listener, install_listener, register

logger = logging.getLogger(__name__)

# what compiles faster is not worth a word
LEAST_SECONDS = 2
# of every function whose code is kept
_NOTICES: dict[Callable[..., object], Notice] = {}


class Notice(Listener):
    """Warns when numba begins to compile a function, once; not where it finds the code on disk.

    Attributes:
        what: what the function is for, in words.
        seconds: of CPU time that compiling it takes, about.
        folder: where numba keeps its code; None where no folder can be written.
        begun: whether this process has compiled it.
    """

    def __init__(self, what: str, seconds: int, function: Callable[..., object]) -> None:
        self.what, self.seconds, self.folder, self.begun = what, seconds, _folder(function), False
        self._function = function
        _NOTICES[function] = self

    def watch(self) -> None:
        """Look out, from now on, for calls from Python that compile the function."""
        register("numba:compile", self)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look out meanwhile for the function becoming one of C, of which numba tells the passes alone."""
        with install_listener("numba:run_pass", self):
            yield

    def on_start(self, event: Event) -> None:
        """numba begins something: to compile a function, or a pass of that."""
        if self.begun or not self._concerns(event.data):
            return
        self.begun = True
        if self.seconds < LEAST_SECONDS:
            return
        if self.folder is None:
            kept = "in every process, since no folder for them can be written: NUMBA_CACHE_DIR may name one"
        else:
            kept = f"once: they are kept in {self.folder}"
        logger.warning("compiling the CPU loops for %s, about %d s, %s", self.what, self.seconds, kept)

    def on_end(self, event: Event) -> None:
        """Nothing is said then."""

    def _concerns(self, data: dict[str, Any]) -> bool:
        if "dispatcher" in data:
            return data["dispatcher"].py_func is self._function
        return (data["module"], data["qualname"]) == (self._function.__module__, self._function.__qualname__)


def notice_of(compiled: Any) -> Notice:
    """Of what numba made of a function whose code is kept."""
    return _NOTICES[compiled.__wrapped__]


def _folder(function: Callable[..., object]) -> str | None:
    try:
        return str(njit(cache=True)(function).stats.cache_path)
    except RuntimeError:  # numba found none
        return None

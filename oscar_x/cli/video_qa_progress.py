"""How far a long evaluation has got: a bar for people, a line now and then for logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oscar_x.cli.output import counted_progress

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 15.0  # seconds between lines

Note = Callable[[int, int, str], None]


@contextmanager
def answer_progress(console: Console | None) -> Iterator[Note]:
    """Call it with what is done, what there is in all, and what is going on; nothing is shown without a console."""
    if console is None:
        yield lambda done, total, what: None
    elif console.is_terminal:
        with counted_progress(console) as note:
            yield note
    else:
        yield LogLines(lambda line: console.print(line, markup=False))


@dataclass
class LogLines:
    """Progress as lines with the time that remains, counted from what this call has done.

    Attributes:
        say: takes a line.
        clock: seconds.
    """

    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _first: tuple[float, int] | None = field(default=None, init=False)
    _said: float = field(default=0.0, init=False)

    def __call__(self, done: int, total: int, what: str) -> None:
        now = self.clock()
        if self._first is None:
            self._first, self._said = (now, done), now
        started, before = self._first
        if now - self._said < EVERY or done == before:
            return
        self._said = now
        left = (now - started) / (done - before) * max(total - done, 0)
        self.say(f"{done} of {total} answers, about {duration(left)} left ({what})")


def duration(seconds: float) -> str:
    """3725 as "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

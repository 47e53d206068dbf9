"""What commands print: tables for people on the console, JSON for programs in a file or on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from oscar_x.memory import MemoryReport

STANDARD_OUTPUT = "-"


def open_console(json_file: str | None) -> Console:
    """Where people read; standard error when standard output is to carry JSON.

    Raises:
        FileNotFoundError, IsADirectoryError: the JSON file could not be written; told before any work is done.
    """
    if json_file not in (None, STANDARD_OUTPUT):
        target = Path(str(json_file))
        if target.is_dir():
            raise IsADirectoryError(f"--json {json_file} is a folder; give a file")
        if not target.parent.is_dir():
            raise FileNotFoundError(f"--json {json_file}: folder {target.parent} does not exist")
    return Console(stderr=json_file == STANDARD_OUTPUT, highlight=False)


def check_plot(prefix: str | None) -> None:
    """Fail before minutes of work, not after them.

    Raises:
        FileNotFoundError, ImportError: plots with this prefix could not be drawn or written.
    """
    if prefix is None:
        return
    from importlib.util import find_spec

    if not Path(prefix).parent.is_dir():
        raise FileNotFoundError(f"--plot {prefix}: folder {Path(prefix).parent} does not exist")
    if find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib; install it with: pip install matplotlib")


def write_json(json_file: str | None, results: dict[str, Any]) -> None:
    """Write results to the file, to standard output for "-", nowhere for None."""
    if json_file is None:
        return
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    if json_file == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    try:
        Path(json_file).write_text(text, encoding="utf-8")
    except OSError as error:
        error.filename = error.filename or json_file  # a full disk is noticed in writing, which does not know the name
        raise


@contextmanager
def working(console: Console, what: str, *, downloads: bool = False) -> Iterator[None]:
    """A spinner while something takes its time.

    Libraries' own progress bars and load notices would run across it: they show only where downloads may take
    minutes, and then there is no spinner.
    """
    if downloads:
        console.print(f"{what} ...", markup=False)
        yield
        return
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    with console.status(escape(f"{what} ...")):
        yield


@contextmanager
def counted_progress(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time that remains; call it with what is done, what there is in all, and what is going on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def make_table(title: str, *columns: str, words: Collection[str] = ()) -> Table:
    """A table whose first column and those named in ``words`` are text; the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        text = position == 0 or column in words
        table.add_column(column, justify="left" if text else "right", no_wrap=position == 0)
    return table


def show_bytes(count: float) -> str:
    """1536 as "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def memory_rows(memory: MemoryReport) -> list[tuple[str, str]]:
    """A cache's parts that hold anything, with their sizes; then how much of it is empty places of short blocks."""
    parts = ("codes", "scales", "norms", "sinks", "residual", "slack", "other")
    rows = [(part, show_bytes(getattr(memory, part))) for part in parts if getattr(memory, part)]
    if memory.unfilled:
        rows.append(("empty places of blocks, counted above", show_bytes(memory.unfilled)))
    return rows

"""Results on disk: append-only lines, each written once and on disk before it counts, and the settings they belong to.

A run is a folder: settings.json and one answers-I-of-N.jsonl for each process that works on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SETTINGS_FILE = "settings.json"

Record = dict[str, Any]
Key = tuple[str, ...]


class RunError(ValueError):
    """A run folder that cannot be used as asked."""


@dataclass(frozen=True)
class Shard:
    """The part of a run that one process answers: clips number ``index``, ``index + count``, and so on."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise RunError(f"shard {self.index}/{self.count} is not allowed; the first number counts from 0")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"2/8"`` is the third of eight."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit()):
            raise RunError(f"--shard {text} is not understood; write i/n, such as 0/4")
        return cls(int(index), int(count))

    @property
    def file(self) -> str:
        return f"answers-{self.index}-of-{self.count}.jsonl"


def key_of(record: Record) -> Key:
    """What may be there once only: an answer, or a clip's context in one method's cache, or a failure."""
    kind: Literal["answer", "context", "failure"] = record["record"]
    names = {"answer": ("clip", "question", "method"), "context": ("clip", "method"), "failure": ("clip",)}[kind]
    return (kind, *(record[name] for name in names))


def read_records(folder: Path) -> Iterator[Record]:
    """Every whole line of a run. A last line that was torn by a crash is passed over.

    Raises:
        RunError: a damaged line before the last.
    """
    for path in sorted(folder.glob("answers-*-of-*.jsonl")):
        yield from (record for record, _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[Record, int]]:
    """Records with the offset at which each one's line ends."""
    content = path.read_bytes()
    end = 0
    while end < len(content):
        newline = content.find(b"\n", end)
        if newline < 0:
            return
        try:
            record = json.loads(content[end:newline])
            key_of(record)
        except (ValueError, KeyError, TypeError) as error:
            if newline + 1 == len(content):
                return  # blocks of a last write that a power failure left empty
            number = content[:end].count(b"\n") + 1
            raise RunError(f"{path}, line {number} is damaged; delete the line to answer it again") from error
        end = newline + 1
        yield record, end


class AnswerLog:
    """Appends to one shard's file and knows what the whole run has answered. A context manager: it locks its file.

    Args:
        folder: of the run; made where it is missing.
        settings: of the run, JSON types. A run is continued only with the settings it was begun with.

    Raises:
        RunError: other settings, a file that another process is writing, or one that is damaged.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], shard: Shard | None = None) -> None:
        self.folder, self.shard = Path(folder), shard or Shard()
        self.path = self.folder / self.shard.file
        self.folder.mkdir(parents=True, exist_ok=True)
        write_settings(self.folder, settings)
        self._refuse_other_layouts()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if not _lock(self._descriptor):
            os.close(self._descriptor)
            raise RunError(f"{self.path} is being written by another process")
        try:
            os.ftruncate(self._descriptor, max((end for _, end in _lines(self.path)), default=0))
            self.records = list(read_records(self.folder))
        except BaseException:
            os.close(self._descriptor)
            raise
        sync_folder(self.folder)
        self.done = {key_of(record) for record in self.records}

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def append(self, *records: Record) -> None:
        """Write records, a line each; they are on disk when this returns.

        Raises:
            RunError: one is there already; nothing is written.
        """
        keys = [key_of(record) for record in records]
        again = [key for number, key in enumerate(keys) if key in self.done or key in keys[:number]]
        if again:
            raise RunError(f"{self.folder} has {again[0]} already")
        for record in records:
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            while line:
                line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)
        self.done.update(keys)

    def _refuse_other_layouts(self) -> None:
        """Processes that cut the clips differently would answer some of them twice."""
        for path in self.folder.glob("answers-*-of-*.jsonl"):
            if path.name.endswith(f"-of-{self.shard.count}.jsonl"):
                continue
            descriptor = os.open(path, os.O_RDWR)
            free = _lock(descriptor)
            os.close(descriptor)
            if not free:
                raise RunError(f"{path} is being written: this run is cut in other shards than 1/{self.shard.count}")


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Note a new run's settings, or check those of one that is there.

    Raises:
        RunError: other settings; names what differs.
    """
    path = folder / SETTINGS_FILE
    plain = json.loads(json.dumps(settings))
    if not path.exists():
        if any(folder.glob("answers-*-of-*.jsonl")):
            raise RunError(f"{folder} holds answers but no {SETTINGS_FILE}, so what they answer is not known")
        # a name of its own for each process: several may begin a run at once
        draft = path.with_name(f".{SETTINGS_FILE}.{os.getpid()}")
        draft.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(folder)
    known = read_settings(folder)
    differing = [name for name in {**known, **plain} if known.get(name) != plain.get(name)]
    if differing:
        told = "; ".join(f"{name} was {known.get(name)!r} and is now {plain.get(name)!r}" for name in differing)
        raise RunError(f"{folder} was begun with other settings: {told}. Use the same ones, or another folder")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        RunError: the folder is none, or its settings are damaged.
    """
    path = folder / SETTINGS_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no run: it has no {SETTINGS_FILE}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def sync_folder(folder: Path) -> None:
    """Put the names of new files on disk, which a file's own fsync does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether this process has the file to itself now; the system frees it however the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes on one shard are the user's affair
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

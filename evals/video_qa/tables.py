"""Rows of annotation files, JSON, JSON lines, CSV or parquet, with errors that name the file and the field."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MissingPackageError
from .questions import LETTERS, Question


class AnnotationError(ValueError):
    """An annotation file that is not of the layout that its format publishes."""


@dataclass(frozen=True)
class Row:
    """One row of a file; every access says where it went wrong."""

    values: Mapping[str, Any]
    where: str

    def __getitem__(self, field: str) -> Any:
        if field not in self.values:
            raise AnnotationError(f"{self.where}: field {field!r} is missing; there are {', '.join(self.values)}")
        return self.values[field]

    def text(self, field: str) -> str:
        """A field that must hold a text or a number."""
        value = self[field]
        if value is None or isinstance(value, (Mapping, bool)) or not isinstance(value, (str, int, float)):
            raise AnnotationError(f"{self.where}: field {field!r} is {value!r}; a text is needed")
        return str(value).strip()

    def texts(self, field: str) -> list[str]:
        """A field that must hold a list of texts."""
        value = self[field]
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise AnnotationError(f"{self.where}: field {field!r} is {value!r}; a list is needed")
        return [str(item).strip() for item in value]

    def get(self, field: str) -> Any:
        """A field that may be missing."""
        return self.values.get(field)

    def words(self, field: str, options: Sequence[str]) -> int:
        """Which option a field repeats."""
        named = self.text(field)
        if named not in options:
            raise AnnotationError(f"{self.where}: field {field!r} is {named!r}, which is none of {list(options)}")
        return list(options).index(named)

    def letter(self, field: str, count: int) -> int:
        """Which of ``count`` options a field names by its letter."""
        named = self.text(field).strip("(). ").upper()
        if len(named) != 1 or named not in LETTERS[:count]:
            raise AnnotationError(
                f"{self.where}: field {field!r} is {self[field]!r}; a letter from A to {LETTERS[count - 1]} is needed"
            )
        return LETTERS.index(named)

    def number(self, field: str, count: int) -> int:
        """Which of ``count`` options a field names by its number, counted from 0."""
        named = self.text(field)
        if not named.isdigit() or int(named) >= count:
            raise AnnotationError(
                f"{self.where}: field {field!r} is {named!r}; a number from 0 to {count - 1} is needed"
            )
        return int(named)

    def question(self, question_id: str, kind: str, options: Sequence[str], answer: int) -> Question:
        """The row's question, whose text stands in the field ``question``.

        Raises:
            AnnotationError: options that are no choice.
        """
        try:
            return Question(question_id, kind, self.text("question"), tuple(options), answer)
        except ValueError as error:
            raise AnnotationError(f"{self.where}: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """All rows of a file.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: a file that cannot be read, or an ending that is not known.
        MissingPackageError: parquet without the package pyarrow.
    """
    readers = {".json": _json, ".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise AnnotationError(f"{path} is not understood; use one of {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"annotation file {path} does not exist")
    try:
        rows = list(reader(path))
    except (ValueError, csv.Error, OSError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{path} cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise AnnotationError(f"{path}, row {number}: {row!r} has no fields")
    return [Row(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]


def find_file(folder: Path, *patterns: str) -> Path:
    """The first file of a folder that matches one of the patterns, in their order.

    Raises:
        FileNotFoundError: none; names all patterns.
    """
    for pattern in patterns:
        if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
            return found[0]
    raise FileNotFoundError(f"{folder} has no file {' or '.join(patterns)}")


def find_media(folder: Path, *candidates: str) -> Path:
    """The first candidate that exists below a folder, else the first one: it is missed when it is read."""
    paths = [folder / candidate for candidate in candidates]
    return next((path for path in paths if path.is_file()), paths[0])


def _json(path: Path) -> Any:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, list):
        raise AnnotationError(f"{path} holds {type(content).__name__}; a list of questions is needed")
    return content


def _json_lines(path: Path) -> Iterator[Any]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise AnnotationError(f"{path}, line {number} is no JSON: {error}") from error


def _csv(path: Path) -> Iterator[Mapping[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError(f"reading {path} needs the package pyarrow: pip install pyarrow") from error
    return parquet.read_table(path).to_pylist()

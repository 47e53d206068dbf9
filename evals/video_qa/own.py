"""A user's own questions: a JSONL, JSON, CSV or parquet file, or a folder that holds one.

Fields: video, audio or image (a path or a list of paths, from the file's folder), question, options (a list), answer
(an option's words, its letter, or its number from 0); kind, id and group may be given.
"""

from __future__ import annotations

import json
from pathlib import Path

from .media_parts import ClipBuilder, Kind, MediaSettings
from .questions import Clip
from .tables import AnnotationError, Row, find_file, read_rows

MEDIA: tuple[Kind, ...] = ("video", "audio", "image")
NAMES = ("questions.jsonl", "questions.json", "questions.csv", "*.jsonl", "*.json", "*.csv", "*.parquet")


def read(path: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """Clips of a file or a folder, in the order of their first question.

    Raises:
        FileNotFoundError: no such file, or a folder without one.
        AnnotationError: a row without a needed field; names file, row and field.
    """
    file = find_file(path, *NAMES) if path.is_dir() else path
    builder = ClipBuilder(settings)
    for number, row in enumerate(read_rows(file)):
        media = _media(row, file.parent)
        options = tuple(_options(row))
        question_id = str(row.get("id") or number)
        question = row.question(question_id, str(row.get("kind") or "all"), options, _right(row, options))
        builder.add(" ".join(str(source) for _, source in media), media, question, row.get("group") or "")
    return builder.clips(), []


def _right(row: Row, options: tuple[str, ...]) -> int:
    named = row.text("answer")
    if named in options:
        return options.index(named)
    return row.number("answer", len(options)) if named.isdigit() else row.letter("answer", len(options))


def _options(row: Row) -> list[str]:
    value = row["options"]
    if isinstance(value, str):  # a table of text has no lists
        try:
            value = json.loads(value)
        except ValueError as error:
            raise AnnotationError(f"{row.where}: field 'options' is {value!r}; a JSON list is needed") from error
    return Row({"options": value}, row.where).texts("options")


def _media(row: Row, folder: Path) -> list[tuple[Kind, Path]]:
    found: list[tuple[Kind, Path]] = []
    for kind in MEDIA:
        value = row.get(kind)
        if value is None or value == "":
            continue
        paths = [row.text(kind)] if isinstance(value, str) else row.texts(kind)
        found += [(kind, folder / path) for path in paths]
    if not found:
        raise AnnotationError(f"{row.where}: none of the fields {', '.join(MEDIA)} is there; a path is needed")
    return found

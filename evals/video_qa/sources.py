"""Where questions come from: the built-in set, a user's own files, or a local copy of a public benchmark."""

from __future__ import annotations

from pathlib import Path

from . import own
from .formats.base import Format
from .formats.registry import all_formats
from .media_parts import MediaSettings
from .questions import Source, source_of
from .tables import AnnotationError

OWN = "own"


def format_names() -> list[str]:
    """What --format takes."""
    return [OWN, *all_formats()]


def file_source(path: str | Path, form: str, media: MediaSettings, limit: int | None = None) -> Source:
    """Questions of files on this machine.

    Args:
        path: of a file or folder in the layout that the format's module describes.
        form: of format_names().
        limit: questions at most, from the beginning.

    Raises:
        ValueError: an unknown format, or no questions.
        FileNotFoundError: the path or an annotation file in it does not exist.
        AnnotationError: files of another layout; names file, row and field.
    """
    if form not in format_names():
        raise ValueError(f"format={form!r} is not known; choose from {', '.join(format_names())}")
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"--data {path} does not exist; give a file or folder, or 'generated'")
    reader = Format(OWN, place.name, own.read) if form == OWN else all_formats()[form]
    if form != OWN and not place.is_dir():
        raise NotADirectoryError(f"--data {path} is a file; {reader.title} needs the folder of its local copy")
    clips, notes = reader.read(place, media)
    if not clips:
        raise AnnotationError(f"{path} has no question that can be asked; {'; '.join(notes) or 'it is empty'}")
    settings = {"data": str(place.resolve()), "format": form, **vars(media)}
    return source_of(reader.title, clips, settings, notes, limit)

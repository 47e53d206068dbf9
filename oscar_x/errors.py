"""The exceptions oscar_x raises on its own account; plain bad arguments are ValueError or TypeError."""

from __future__ import annotations


class OscarError(Exception):
    """Base of every error below. The message is one line, fit to be shown to a user."""


class UnknownModelError(OscarError, ValueError):
    """The name is no short name, no local model and no hub id that can be reached."""


class UnsupportedModelError(OscarError, ValueError):
    """The model was found, but no adapter knows its architecture."""


class CheckpointError(OscarError, OSError):
    """The model's files are incomplete, damaged or of a kind that cannot be read."""


class MissingPackageError(OscarError, ImportError):
    """Reading this model or medium needs a package that is not installed."""


class MediaError(OscarError, ValueError):
    """A message part cannot be used. The text begins with the part: ``messages[1].content[0] (image): ...``."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

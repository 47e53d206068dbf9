"""The bytes behind a part: a file, a data URI, raw bytes or a download. Every way is bounded before it is read."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from ..errors import MediaError, OscarError, first_line
from .download import download
from .limits import MediaLimits
from .messages import MediaPart
from .sources import short

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# what a sender writes who does not know better, and containers that hold either sound or video
_ANY_KIND = ("", "application/octet-stream", "binary/octet-stream", "application/ogg", "application/mp4")


def is_encoded(source: object) -> bool:
    """Whether a source leads to an encoded file, and is not the decoded medium itself."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview))


@contextmanager
def open_source(part: MediaPart, limits: MediaLimits) -> Iterator[BinaryIO]:
    """The encoded medium as a seekable binary file of at most limits.max_bytes.

    Raises:
        MediaError: it is not there, not allowed, empty or too large.
    """
    source = part.source
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BinaryIO = io.BytesIO(_checked(bytes(source), part, limits))
    elif isinstance(source, str) and source[:5].lower() == "data:":
        file = io.BytesIO(_checked(_data_uri(source, part, limits), part, limits))
    elif isinstance(source, str) and (scheme := _SCHEME.match(source)):
        file = io.BytesIO(_checked(_download(source, scheme[1].lower(), part, limits), part, limits))
    else:
        file = _open_path(source, part, limits)
    with file:
        yield file


@contextmanager
def decoding(part: MediaPart) -> Iterator[None]:
    """Whatever a decoder of others raises inside becomes a MediaError that names the part."""
    try:
        yield
    except OscarError:
        raise
    except Exception as error:  # decoders meet broken files with errors of every kind
        reason = getattr(error, "strerror", None) or first_line(error)
        raise MediaError(f"{part.where}: cannot be read as {part.kind}: {reason}") from error


def _checked(data: bytes, part: MediaPart, limits: MediaLimits) -> bytes:
    _check_size(len(data), part, limits)
    return data


def _check_size(size: int, part: MediaPart, limits: MediaLimits) -> None:
    if size == 0:
        raise MediaError(f"{part.where}: is empty (0 bytes)")
    if size > limits.max_bytes:
        raise MediaError(f"{part.where}: has {size} bytes; max_bytes={limits.max_bytes} are allowed")


def _open_path(source: str | os.PathLike[str], part: MediaPart, limits: MediaLimits) -> BinaryIO:
    where, root = part.where, limits.allowed_root
    try:
        path = Path(source).expanduser().resolve()
        if root is not None and not path.is_relative_to(Path(root).resolve()):  # whether it exists is nobody's business
            raise MediaError(f"{where}: {short(os.fspath(source))} lies outside the allowed folder")
        status = path.stat()
    except MediaError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or first_line(error)
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened: {said[:80]}"
        raise MediaError(f"{where}: {short(os.fspath(source))} {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{where}: {short(os.fspath(source))} is no regular file")
    _check_size(status.st_size, part, limits)
    try:
        return open(path, "rb")
    except OSError as error:
        raise MediaError(f"{where}: {short(os.fspath(source))} cannot be opened: {error.strerror}") from None


def _data_uri(uri: str, part: MediaPart, limits: MediaLimits) -> bytes:
    header, comma, payload = uri[5:].partition(",")
    if not comma:
        raise MediaError(f"{part.where}: the data URI has no comma before its data")
    media_type, *parameters = [piece.strip().lower() for piece in header.split(";")]
    if media_type not in _ANY_KIND and media_type.split("/")[0] != part.kind:
        raise MediaError(f"{part.where}: the data URI is of type {short(media_type)}, not {part.kind}/...")
    encoded = "base64" in parameters
    _check_size(max(len(payload) * 3 // 4 - 2, 1) if encoded else max(len(payload) // 3, 1), part, limits)
    if not encoded:
        return unquote_to_bytes(payload)
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"{part.where}: the base64 data are damaged: {first_line(error)}") from None


def _download(url: str, scheme: str, part: MediaPart, limits: MediaLimits) -> bytes:
    if scheme not in ("http", "https"):
        raise MediaError(f"{part.where}: {scheme}:// is not allowed; give the path of a file, http:// or https://")
    if not limits.allow_urls:
        raise MediaError(f"{part.where}: addresses are not fetched unless MediaLimits(allow_urls=True) allows it")
    try:
        return download(url, limits)
    except (OSError, ValueError) as error:
        raise MediaError(f"{part.where}: cannot be fetched: {first_line(error)}") from None

"""Where a part of a message keeps its medium: one source out of the keys that the ecosystem uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import MediaError

# of an audio format, as a media type may carry it
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-+.")


def short(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value) if not isinstance(value, (bytes, bytearray, memoryview)) else f"{len(value)} bytes"
    return text if len(text) <= 80 else text[:77] + "..."


def find_source(part: Mapping[str, Any], kind: str, where: str) -> tuple[Any, dict[str, Any]]:
    """The source of a media part and the keys that are left, which are its options.

    Base64 becomes a data URI and a path a pathlib.Path, so that no loader has to guess what a text is.

    Raises:
        MediaError: no source, several, or one of the wrong type.
    """
    readers = {
        kind: lambda value: _plain(value, kind, where),
        f"{kind}_url": lambda value: _address(_inner(value, "url", f"{kind}_url", where), where),
        "url": lambda value: _address(value, where),
        "path": lambda value: _path(value, where),
        "base64": lambda value: _payload(value, "", where),
        "input_audio": lambda value: _input_audio(value, where),
    }
    if kind != "audio":
        del readers["input_audio"]
    given = [key for key in readers if part.get(key) is not None]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has no source"
        raise MediaError(f"{where}: {found}; give exactly one of {', '.join(readers)}")
    rest = {key: value for key, value in part.items() if key != "type" and key not in readers}
    return readers[given[0]](part[given[0]]), rest


def _plain(value: Any, kind: str, where: str) -> Any:
    """Whatever stands under the kind's own name. Texts are looked at when they are opened."""
    if isinstance(value, (bool, int, float)) or (isinstance(value, str) and not value):
        raise MediaError(f"{where}: {kind}={value!r} is not allowed; give a path, bytes or the medium itself")
    return Path(value) if isinstance(value, os.PathLike) else value


def _inner(value: Any, key: str, name: str, where: str) -> Any:
    """``{"url": ...}`` or the address itself; "detail" of the OpenAI interface is taken where it asks for nothing."""
    if not isinstance(value, Mapping):
        return value
    unknown = [other for other in value if other != key and not (other == "detail" and value[other] == "auto")]
    if unknown or key not in value:
        raise MediaError(f"{where}: {name}={short(dict(value))} is not allowed; use {{'{key}': ...}}")
    return value[key]


def _address(value: Any, where: str) -> str:
    if not isinstance(value, str) or not (value[:5].lower() == "data:" or "://" in value):
        raise MediaError(f"{where}: {short(value)} is no address; use http://, https:// or data:")
    return value


def _path(value: Any, where: str) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise MediaError(f"{where}: path={short(value)} is not allowed; use the path of a file")
    return Path(value)


def _payload(value: Any, media_type: str, where: str) -> str:
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value).decode("ascii", errors="replace")
    if not isinstance(value, str):
        raise MediaError(f"{where}: base64 data must be text, got {type(value).__name__}")
    return value if value[:5].lower() == "data:" else f"data:{media_type};base64,{value}"


def _input_audio(value: Any, where: str) -> str:
    if not isinstance(value, Mapping) or "data" not in value or set(value) - {"data", "format"}:
        raise MediaError(f"{where}: input_audio must be {{'data': base64, 'format': 'wav'}}, got {short(value)}")
    name = value.get("format", "wav")
    if not isinstance(name, str) or not name or not set(name.lower()) <= _NAME:
        raise MediaError(f"{where}: format={short(name)} is not allowed; use one such as 'wav' or 'mp3'")
    return _payload(value["data"], f"audio/{name.lower()}", where)

"""Reports as JSON files."""

from __future__ import annotations

import json
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import OscarError, first_line
from .report import REPORT_VERSION, TniReport

FORMAT = "oscar_x tni report"


class TniFileError(OscarError, ValueError):
    """The file is no TNI report that this version reads."""


def to_plain(value: Any) -> Any:
    """Dataclasses become dictionaries and tuples lists, all the way down."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


def from_plain(plain: Any) -> TniReport:
    """See TniReport.from_dict."""
    version = plain.get("version") if isinstance(plain, dict) else None
    if version is None:
        raise TniFileError("not a TNI report")
    if version != REPORT_VERSION:
        raise TniFileError(f"report version {version}; this version reads {REPORT_VERSION}")
    try:
        return _read(TniReport, plain, "report")
    except RecursionError as error:
        raise TniFileError("nested too deeply for a TNI report") from error


def save(report: TniReport, path: str | os.PathLike[str]) -> None:
    """See TniReport.save."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    text = json.dumps({"format": FORMAT, **to_plain(report)}, ensure_ascii=False, allow_nan=False)
    try:
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> TniReport:
    """See TniReport.load."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
            raise TniFileError("not a TNI report")
        return from_plain(plain)
    except TniFileError as error:
        raise TniFileError(f"{path}: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TniFileError(f"{path} is damaged or no TNI report: {first_line(error)}") from error


def _read(kind: Any, plain: Any, where: str) -> Any:
    """A value of this annotated type; the place is named where the file has something else."""
    if is_dataclass(kind):
        return _read_dataclass(kind, plain, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return None if plain is None else _read(inner, plain, where)
    if origin is tuple and isinstance(plain, list):
        return tuple(_read(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(plain))
    if origin is dict and isinstance(plain, dict):
        return {name: _read(arguments[1], item, f"{where}.{name}") for name, item in plain.items()}
    if kind is float and type(plain) is int:
        return float(plain)
    if origin is None and type(plain) is kind:
        return plain
    raise TniFileError(f"{where} is {type(plain).__name__}, not {getattr(kind, '__name__', kind)}")


def _read_dataclass(kind: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise TniFileError(f"{where} is {type(plain).__name__}, not a {kind.__name__}")
    types = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    if set(plain) != names:
        wrong = ", ".join(sorted(set(plain) ^ names))
        raise TniFileError(f"{where} has other fields than expected ({wrong})")
    return kind(**{name: _read(types[name], item, f"{where}.{name}") for name, item in plain.items()})

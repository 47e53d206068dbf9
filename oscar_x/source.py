"""Turns what the user calls a model (short name, hub id, folder, GGUF file) into what from_pretrained understands."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .adapters.registry import short_names
from .errors import CheckpointError, MissingPackageError, UnknownModelError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# models that come with this package, in folders of oscar_x.assets (docs/tiny_omni.md)
EMBEDDED = ("tiny-omni",)
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: a hub id or a local folder, and the GGUF file in it if it is one."""

    location: str
    local: bool
    gguf_file: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that every from_pretrained of this source needs."""
        return {} if self.gguf_file is None else {"gguf_file": self.gguf_file}

    def __str__(self) -> str:
        return self.location if self.gguf_file is None else os.path.join(self.location, self.gguf_file)


def resolve_source(name_or_path: str | os.PathLike[str], gguf_file: str | None = None) -> ModelSource:
    """Finds a model without opening it or asking the network.

    Existing files and folders come first, then the embedded model, then short names (any case), then hub ids as they
    are.

    Raises:
        UnknownModelError: none of these, or a folder that holds no model.
        CheckpointError: a folder with several GGUF files and none chosen.
        MissingPackageError: a GGUF file without the gguf package.
    """
    name = os.fspath(name_or_path)
    path = Path(name).expanduser()
    if name and path.exists():
        source = _local_source(path, gguf_file)
    elif name.lower() in EMBEDDED:
        source = _local_source(Path(str(resources.files("oscar_x.assets").joinpath(name.lower()))), gguf_file)
    else:
        source = ModelSource(_hub_id(name), local=False, gguf_file=gguf_file)
    if source.gguf_file is not None and find_spec("gguf") is None:
        raise MissingPackageError(f"{source} is a GGUF file; reading it needs the package gguf: pip install gguf")
    return source


def _local_source(path: Path, gguf_file: str | None) -> ModelSource:
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise UnknownModelError(f"{path} is a file but not a GGUF file; give a model folder or a .gguf file")
        return ModelSource(str(path.parent), local=True, gguf_file=path.name)
    if gguf_file is not None:
        if not (path / gguf_file).is_file():
            raise UnknownModelError(f"gguf_file={gguf_file!r} does not exist in {path}")
        return ModelSource(str(path), local=True, gguf_file=gguf_file)
    has_config = (path / "config.json").is_file()
    if has_config and any(next(path.glob(pattern), None) for pattern in _WEIGHTS):
        return ModelSource(str(path), local=True)
    found = sorted(file.name for file in path.glob("*.gguf"))
    if len(found) > 1:
        raise CheckpointError(f"{path} holds {len(found)} GGUF files; choose one with gguf_file=: {', '.join(found)}")
    if found:
        return ModelSource(str(path), local=True, gguf_file=found[0])
    lack = "config.json but no weights" if has_config else "neither config.json nor a .gguf file"
    raise UnknownModelError(f"folder {path} is not a model: it holds {lack}")


def _hub_id(name: str) -> str:
    known = short_names()
    by_lower = {short.lower(): hub_id for short, hub_id in known.items()}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return name
    if os.sep in name or name.startswith(("~", ".")) or name.endswith(".gguf"):
        raise UnknownModelError(f"{name} does not exist: no such file or folder")
    names = [*known, *EMBEDDED]
    close = get_close_matches(name.lower(), [short.lower() for short in names], n=3)
    hint = f"did you mean {', '.join(short for short in names if short.lower() in close)}? " if close else ""
    raise UnknownModelError(
        f"model {name!r} is unknown; {hint}give a local folder, a hub id (owner/name) or one of {', '.join(names)}"
    )

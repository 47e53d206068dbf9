"""All formats: the FORMAT of every module of this folder. A new one is one new file."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from .. import formats
from .base import Format


@lru_cache(maxsize=1)
def all_formats() -> dict[str, Format]:
    """Formats by name."""
    modules = (importlib.import_module(f"{formats.__name__}.{m.name}") for m in pkgutil.iter_modules(formats.__path__))
    found = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return {form.name: form for form in found}

"""oscar_x: a 2-bit KV cache for transformers models. Names load on first use, so importing costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if not (Path(__file__).parent / "adapters").is_dir():
    # A checkout, where the sub-packages lie beside this folder: Python started there finds it before what is installed.
    __path__.append(str(Path(__file__).parent.parent))

if TYPE_CHECKING:
    from oscar_x.cache import OscarCache
    from oscar_x.cache_settings import CacheSettings
    from oscar_x.calibration import calibrate
    from oscar_x.config import PRESETS, OscarConfig
    from oscar_x.loading import load
    from oscar_x.media import MediaError, MediaLimits
    from oscar_x.memory import MemoryReport
    from oscar_x.modality import Modality, ModalityStream
    from oscar_x.model import OscarModel
    from oscar_x.profile import Profile, ProfileError
    from oscar_x.session import Session
    from oscar_x.speech import Speech
    from oscar_x.tni import TniReport, measure_tni

    __version__: str

_HOMES = {
    "load": "oscar_x.loading",
    "OscarModel": "oscar_x.model",
    "OscarCache": "oscar_x.cache",
    "OscarConfig": "oscar_x.config",
    "PRESETS": "oscar_x.config",
    "CacheSettings": "oscar_x.cache_settings",
    "Profile": "oscar_x.profile",
    "ProfileError": "oscar_x.profile",
    "calibrate": "oscar_x.calibration",
    "MediaError": "oscar_x.media",
    "MediaLimits": "oscar_x.media",
    "MemoryReport": "oscar_x.memory",
    "Modality": "oscar_x.modality",
    "ModalityStream": "oscar_x.modality",
    "Session": "oscar_x.session",
    "Speech": "oscar_x.speech",
    "TniReport": "oscar_x.tni",
    "measure_tni": "oscar_x.tni",
}

__all__ = [
    "PRESETS",
    "CacheSettings",
    "MediaError",
    "MediaLimits",
    "MemoryReport",
    "Modality",
    "ModalityStream",
    "OscarCache",
    "OscarConfig",
    "OscarModel",
    "Profile",
    "ProfileError",
    "Session",
    "Speech",
    "TniReport",
    "__version__",
    "calibrate",
    "load",
    "measure_tni",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("oscar-x")
    if name not in _HOMES:
        raise AttributeError(f"module 'oscar_x' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What load() accepts, checked before any file is opened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from .cache_settings import CacheSettings
from .config import BACKENDS, BITS, DEFAULT_KV_BITS, DEFAULT_PRESET, resolve_config
from .errors import first_line
from .profile import Profile


def check_settings(
    kv_bits: Any,
    key_bits: Any,
    value_bits: Any,
    preset: str,
    profile: Profile | None,
    backend: str,
    online: bool = False,
) -> CacheSettings:
    """The cache settings asked for. Raises ValueError with the argument, its value and what is allowed."""
    allowed = (*BITS, 16)
    for name, bits in (("kv_bits", kv_bits), ("key_bits", key_bits), ("value_bits", value_bits)):
        given = bits is not None or name == "kv_bits"
        if given and (type(bits) is not int or bits not in allowed):
            raise ValueError(f"{name}={bits!r} is not allowed; choose one of {', '.join(map(str, allowed))}")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not allowed; choose one of {', '.join(map(repr, BACKENDS))}")
    if not isinstance(online, bool):
        raise ValueError(f"online={online!r} is not allowed; use True or False")
    if profile is not None:
        _check_nothing_else(kv_bits, key_bits, value_bits, preset)
        return profile.settings.map(lambda own: replace(own, backend=backend, online=online or own.online))
    bits = {"key_bits": key_bits, "value_bits": value_bits}
    return CacheSettings(resolve_config(preset, kv_bits, **bits, backend=backend, online=online))


def _check_nothing_else(kv_bits: Any, key_bits: Any, value_bits: Any, preset: str) -> None:
    given = {
        "kv_bits": (kv_bits, DEFAULT_KV_BITS),
        "key_bits": (key_bits, None),
        "value_bits": (value_bits, None),
        "preset": (preset, DEFAULT_PRESET),
    }
    for name, (value, default) in given.items():
        if value != default:
            raise ValueError(f"{name}={value!r} is not allowed beside a profile, which decides it; leave {name} out")


def check_device(device: Any, arguments: dict[str, Any]) -> torch.device | None:
    """The device to move the model to, None where device_map places it. Raises ValueError for one that is not there."""
    if arguments.get("device_map") is not None:
        if device is not None:
            raise ValueError(f"device={device!r} and device_map={arguments['device_map']!r} exclude each other")
        return None
    if device is None:
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(f"device={device!r} cannot be used here: {first_line(error)}") from error


def check_dtype(dtype: Any) -> str | torch.dtype | None:
    """A floating-point dtype from its name or itself; "auto" and None stay. Raises ValueError for anything else."""
    if dtype is None or dtype == "auto":
        return dtype
    resolved = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
        raise ValueError(f"dtype={dtype!r} is not allowed; use 'auto' or a floating-point dtype such as 'bfloat16'")
    return resolved

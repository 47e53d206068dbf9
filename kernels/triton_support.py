"""What the Triton kernels of every operation share: which devices they run on, and layouts as operator arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import astuple, fields
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec

import torch
from packaging.version import Version

from .layout import BlockLayout

logger = logging.getLogger(__name__)

LEAST_CAPABILITY = (8, 0)  # tensor cores that multiply fp16 by 8 columns
LEAST_TRITON = "3.5"  # compiles products with 8 columns; the interpreter of older ones runs the kernels too
TOKEN_NORMS = ("none", "per_head", "shared", "damped")


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether the package is installed."""
    return find_spec("triton") is not None


def chooses_triton(backend: str, device: torch.device, refusal: Callable[[], str | None]) -> bool:
    """Whether a call goes to an operation's Triton kernels.

    Args:
        backend: "auto" takes them on CUDA devices, "triton" everywhere, any other never.
        refusal: why the operation's kernels do not take the call, or None; asked only where Triton runs.

    Raises:
        ValueError: backend "triton" where they do not take it.
    """
    if backend != "triton" and (backend != "auto" or device.type != "cuda"):
        return False
    reason = refusal_of_device(device) or refusal()
    if reason is None:
        return True
    if backend == "triton":
        raise ValueError(f"backend='triton' cannot be used here: {reason}")
    _say_once(reason)
    return False


@cache
def _say_once(reason: str) -> None:
    logger.warning("plain torch instead of Triton kernels, several times slower: %s", reason)


def refusal_of_device(device: torch.device) -> str | None:
    """Why Triton kernels do not run on a device, in words; None if they do."""
    if not has_triton():
        return "the package triton is not installed"
    if device.type == "cuda":
        if torch.version.hip is not None:
            return "AMD devices are not supported"
        capability = torch.cuda.get_device_capability(device)
        if capability < LEAST_CAPABILITY:
            return f"compute capability {capability[0]}.{capability[1]} is below 8.0"
        return refusal_of_version(version("triton"))
    from .hadamard.triton import interpreted

    if device.type == "cpu" and interpreted():
        return None
    return f"device {device} is not CUDA, and Triton's interpreter is off (TRITON_INTERPRET=1)"


def refusal_of_version(installed: str) -> str | None:
    """Why a version of Triton does not compile the kernels, in words; None if it does."""
    if Version(installed) >= Version(LEAST_TRITON):
        return None
    return f"Triton {installed} is older than {LEAST_TRITON}"


def layout_numbers(layout: BlockLayout) -> list[int]:
    """A layout as whole numbers, the form that an operator's schema takes."""
    return [TOKEN_NORMS.index(value) if isinstance(value, str) else int(value) for value in astuple(layout)]


def layout_of(numbers: list[int]) -> BlockLayout:
    """The inverse of layout_numbers."""
    return _layout_of(tuple(numbers))


@lru_cache(maxsize=64)
def _layout_of(numbers: tuple[int, ...]) -> BlockLayout:
    named = {field.name: number for field, number in zip(fields(BlockLayout), numbers, strict=True)}
    flags = {name: bool(named[name]) for name in ("value_along_tokens", "rotate_keys", "rotate_values")}
    return BlockLayout(**{**named, **flags, "token_norm": TOKEN_NORMS[named["token_norm"]]})  # type: ignore[arg-type]

"""Which function prepares which opcode, and the error of what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .parse import Instruction

if TYPE_CHECKING:
    from .machine import Machine

# threads that execute an instruction: all, or those that are true
Mask = Any
Step = Callable[[Mask], None]
Binder = Callable[["Machine", Instruction], Step]
BINDERS: dict[str, Binder] = {}


class EmulationError(Exception):
    """The program did what is not allowed, or holds what is not emulated."""


def operation(*names: str) -> Callable[[Binder], Binder]:
    """The decorated function prepares opcodes that start with one of these words."""

    def register(binder: Binder) -> Binder:
        for name in names:
            BINDERS[name] = binder
        return binder

    return register


def unknown(instruction: Instruction, what: str = "") -> EmulationError:
    """An error that names an opcode, or a form of it, that is not emulated."""
    return EmulationError(f"not emulated: {instruction}{': ' + what if what else ''} {instruction.operands}")


def only(instruction: Instruction, modifiers: list[str], allowed: set[str]) -> None:
    """Refuses modifiers whose meaning nobody has written down here."""
    others = set(modifiers) - allowed
    if others:
        raise unknown(instruction, f"modifier {', '.join(sorted(others))}")


def chosen(mask: Mask, count: int) -> np.ndarray:
    """Indices of the threads of a mask."""
    return np.arange(count) if mask is True else np.flatnonzero(mask)
